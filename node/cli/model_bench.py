"""`freehold model bench`: how fast a model is here, and whether it can work as an agent."""

from __future__ import annotations

import asyncio
import sys
import textwrap
from typing import TYPE_CHECKING

import click

from node.cli._model import configured_models, describe_bench
from node.cli._shared import clean, json_option, node_home, print_json, size, span, table
from node.cli.model_connect import remote
from node.errors import ModelError

if TYPE_CHECKING:
    from node.inference import Bench, EngineLimits, ModelStore
    from node.types import JsonObject


@click.command()
@click.argument("name", default="default")
@click.option("--misses", is_flag=True, help="Show what went wrong in each case not passed.")
@json_option
def bench(name: str, misses: bool, as_json: bool) -> None:
    """Measure a model on this machine and examine its tool calling, in about two minutes.

    It is loaded anew, beside what a running daemon holds; an idle machine gives the truest figures.
    """
    from node.inference import ModelStore

    if remote(name) is not None:
        raise ModelError(
            f"the model {name!r} runs on a server; a bench is of this machine",
            hint="`freehold model list` shows which models are local.",
        )
    store = ModelStore(node_home().models)
    found = asyncio.run(_run(store, name, quiet=as_json))
    if as_json:
        about = {"left_out": list(found.left_out), "cases": _cases(found)}
        print_json({"name": name, **(describe_bench(found.record()) or {}), **about})
    else:
        _show(name, found, misses=misses)
    store.keep_bench(name, found.record())  # last: on a full disk it has been shown


async def _run(store: ModelStore, name: str, *, quiet: bool) -> Bench:
    from node.inference import LlamaEngine, run_bench

    engine = LlamaEngine(store, limits=_limits())
    with _Line(quiet=quiet) as line:
        try:
            return await run_bench(
                engine, name, memory=lambda: _memory(engine.loaded()[name]), progress=line.show
            )
        finally:
            await engine.aclose()


def _limits() -> EngineLimits:
    """The config's; eight agents at once in any case."""
    from node.inference import EngineLimits

    models = configured_models()
    return EngineLimits(context_tokens=models.context_tokens, threads=models.threads or None)


def _memory(pid: int) -> int:
    import psutil

    return int(psutil.Process(pid).memory_info().rss)


def _show(name: str, found: Bench, *, misses: bool) -> None:
    from node.inference import KINDS

    table(
        ("AGENTS", "PROMPT TOKENS/S", "GENERATED TOKENS/S"),
        [[str(s.agents), f"{s.prompt:.0f}", f"{s.generated:.1f}"] for s in found.speeds],
    )
    click.echo(
        f"first token: {span(found.first_token_cold_s)} cold, "
        f"{span(found.first_token_kept_s)} on a kept context; "
        f"memory: {size(found.memory_bytes)}\n"
    )
    rows = []
    for kind in (*KINDS, None):
        total = found.exam.cases(constrained=True, kind=kind)
        marks = [found.exam.passed(constrained=how, kind=kind) for how in (True, False)]
        rows.append([kind or "all", *(f"{mark} of {total}" for mark in marks)])
    table(("EXAMINATION", "WITH GRAMMAR", "WITHOUT"), rows)
    if misses:
        _show_misses(found)
    if found.left_out:
        click.echo(f"\nno time for: {', '.join(found.left_out)}")
    click.echo(f"\n{clean(name)}: {found.exam.verdict}")


def _show_misses(found: Bench) -> None:
    for mark in found.exam.marks:
        if mark.problem:
            how = "with" if mark.constrained else "without"
            click.echo(f"\n[{mark.case.kind}, {how} the grammar] {mark.case.asked}")
            click.echo(textwrap.indent(clean(mark.problem), "    "))


def _cases(found: Bench) -> list[JsonObject]:
    return [
        {
            "kind": mark.case.kind,
            "asked": mark.case.asked,
            "grammar": mark.constrained,
            "passed": not mark.problem,
            "problem": mark.problem,
        }
        for mark in found.exam.marks
    ]


class _Line:
    """What is being done, on one line of a terminal's standard error."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet or not sys.stderr.isatty()

    def __enter__(self) -> _Line:
        return self

    def show(self, what: str, done: int, every: int) -> None:
        """Writes over what stood there."""
        if not self._quiet:
            click.echo(
                f"\r\x1b[K{what} {done}/{every}" if every > 1 else f"\r\x1b[K{what}",
                nl=False,
                err=True,
            )

    def __exit__(self, *_error: object) -> None:
        if not self._quiet:
            click.echo("\r\x1b[K", nl=False, err=True)
