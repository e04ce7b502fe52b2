"""`freehold model`: what is in `models.lock`, whether the files are still that, and what they need.

Works on the home's folder without the daemon: a model is a file and a pin.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from node.cli._model import (
    bench_line,
    describe_bench,
    describe_header,
    describe_memory,
    gpu_line,
    licence,
    memory_line,
    title,
    too_large,
)
from node.cli._progress import Bar
from node.cli._shared import (
    INTERRUPTED,
    clean,
    home,
    json_option,
    leave,
    node_home,
    note,
    print_json,
    size,
    table,
)
from node.cli.model_bench import bench
from node.cli.model_connect import (
    connect,
    describe_remote,
    forget_remote,
    remote,
    remotes,
    show_remote,
)
from node.errors import ModelError, ModelMemoryError

if TYPE_CHECKING:
    from node.inference import Header, ModelStore, Pin
    from node.types import JsonObject

CONTEXT_MIN = 256  # tokens, the least that a config may give
TOKENS_MAX = 1_000_000_000


@click.group()
def model() -> None:
    """List, show and verify models; add, bench and remove them."""


model.add_command(bench)
model.add_command(connect)


@model.command("list")
@json_option
def list_models(as_json: bool) -> None:
    """List the models and their pins."""
    from node.inference import unfinished

    store = _store()
    pins, servers = store.list(), remotes()
    if as_json:
        print_json(
            [*(_describe(store, pin) for pin in pins), *(describe_remote(each) for each in servers)]
        )
        return
    rows = [[pin.name, size(pin.size), pin.sha256[:16], str(store.path(pin))] for pin in pins]
    rows += [[each.name, "remote", "", each.url] for each in servers]
    table(("NAME", "SIZE", "SHA-256", "FILE"), rows)
    for source, here in unfinished(home().models):
        note(f"not whole yet: {size(here)} of {source}; `freehold model add` it again to go on")


@model.command()
@click.argument("name")
@click.option(
    "--context", type=click.IntRange(1, TOKENS_MAX), help="Tokens; the config's if not given."
)
@json_option
def show(name: str, context: int | None, as_json: bool) -> None:
    """Show a model's pin, what its file says of itself, and the memory it needs."""
    if (server := remote(name)) is not None:
        show_remote(server, as_json=as_json)
        return
    store = _store()
    pin = store.get(name)
    header, record = store.header(name), store.bench(name)
    shown: JsonObject = {
        **_describe(store, pin),
        **describe_header(header),
        "memory": describe_memory(header, context),
        "gpu": gpu_line(),
        "bench": describe_bench(record),
    }
    if as_json:
        print_json(shown)
        return
    lines = {**shown, "memory": memory_line(shown["memory"]), "bench": bench_line(name, record)}
    width = max(map(len, lines))
    for key, value in lines.items():
        click.echo(f"{key.replace('_', ' '):{width}}  {clean(str(value), lines=False)}")


@model.command()
@click.argument("names", nargs=-1)
@json_option
def verify(names: tuple[str, ...], as_json: bool) -> None:
    """Hash the files again and compare with their pins; all models if none is named."""
    store = _store()
    chosen = names or tuple(pin.name for pin in store.list())
    problems = {name: _problem(store, name, quiet=as_json) for name in chosen}
    if as_json:
        print_json(
            [
                {"name": name, "verified": error is None, "problem": error and error.message}
                for name, error in problems.items()
            ]
        )
    else:
        _report(problems)
    if any(problems.values()):
        leave(ModelError.exit_code)


@model.command()
@click.argument("source")
@click.option("--name", help="What to call it; the file's name if not given.")
@click.option("--in-place", is_flag=True, help="Pin the file where it is; do not copy it.")
@click.option("--sha256", default="", help="What the file's digest must be.")
@click.option("--size", "length", type=click.IntRange(1), help="Bytes that the file must have.")
@click.option("--anyway", is_flag=True, help="Even if it does not fit this machine's memory.")
@json_option
def add(
    source: str,
    *,
    name: str | None,
    in_place: bool,
    sha256: str,
    length: int | None,
    anyway: bool,
    as_json: bool,
) -> None:
    """Pin a GGUF by its SHA-256, from a file, an address, or a hub: hf:OWNER/REPO/FILE.gguf.

    A fetch that ended early goes on where it was. HF_TOKEN is sent to the hub for gated models,
    HF_ENDPOINT names another hub.
    """
    from node.inference import is_remote

    node_home()
    store, look = _store(), _Look(anyway=anyway, quiet=as_json)
    if is_remote(source):
        if in_place:
            raise click.UsageError("--in-place is for files that are here")
        pin = _fetch(store, source, name, look, sha256=sha256, length=length)
    else:
        file = Path(source)
        _check_file(file, length)
        pin = _add_file(store, file, name, look, sha256=sha256, in_place=in_place)
    if as_json:
        print_json(_describe(store, pin))
        return
    note(f"SHA-256 {pin.sha256}")
    note(f'added {pin.name}; use it by model = "{pin.name}" in an agent\'s manifest')
    note(f"`freehold model bench {pin.name}` says in two minutes whether it can work as an agent")


@model.command()
@click.argument("name", required=False)
@click.option("--unfinished", is_flag=True, help="Remove what was fetched in part, of all models.")
def remove(name: str | None, unfinished: bool) -> None:
    """Forget a model, and delete the home's copy of its file."""
    from node.inference import forget_unfinished

    if unfinished == (name is not None):
        raise click.UsageError("name a model, or --unfinished")
    if name is None:
        forget_unfinished(node_home().models)
        note("removed what was fetched in part")
        return
    if not forget_remote(name):
        _store().remove(name)
    note(f"removed {name}")


# ── adding ──────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class _Look:
    """Says what a model is before the rest of it is paid for; refuses one that can never fit.

    Asked is the memory there is in all, not what happens to be free.
    """

    anyway: bool
    quiet: bool

    def __call__(self, header: Header) -> None:
        if not self.quiet:
            note(
                f"{title(header)}: {header.architecture}, {header.quantisation}, "
                f"{header.weights / 1e6:,.0f} million weights; licence: {licence(header)}",
                lines=False,
            )
        error = too_large(title(header), header, CONTEXT_MIN)
        if error and not self.anyway:
            hint = f"{error.hint} --anyway adds it all the same."
            raise ModelMemoryError(error.message, hint=hint) from error


def _check_file(file: Path, length: int | None) -> None:
    """Raises UsageError where there is none, ModelError if it is not of that length."""
    if not file.is_file():
        raise click.UsageError(f"the file {str(file)!r} does not exist")
    if length and (here := file.stat().st_size) != length:
        raise ModelError(
            f"{file} has {here} bytes, not {length}", hint="Get the file again, or correct --size."
        )


def _add_file(
    store: ModelStore, file: Path, name: str | None, look: _Look, *, sha256: str, in_place: bool
) -> Pin:
    from node.inference import name_of, read_header

    store.free_name(name or name_of(file.name))
    look(read_header(file))
    with Bar(file.name, quiet=look.quiet) as bar:
        return store.add(file, name, in_place=in_place, sha256=sha256, progress=bar.show)


def _fetch(
    store: ModelStore, text: str, name: str | None, look: _Look, *, sha256: str, length: int | None
) -> Pin:
    from node.inference import Download, Wanted, name_of, parse_source

    source = parse_source(text, os.environ)
    chosen = store.free_name(name or name_of(source.file_name))
    wanted = Wanted(source, sha256.lower(), length)
    with Bar(source.file_name, quiet=look.quiet, always=True) as bar:
        fetch = Download(home().models, wanted, on_header=look, progress=bar.show)
        try:
            got = fetch.run()
        except KeyboardInterrupt:
            note("stopped; what came is kept, and the same command goes on from there")
            leave(INTERRUPTED)
    return store.adopt(got.path, chosen, sha256=got.sha256, size=got.size, source=source.shown)


def _store() -> ModelStore:
    from node.inference import ModelStore

    return ModelStore(home().models)


def _describe(store: ModelStore, pin: Pin) -> JsonObject:
    return {
        "name": pin.name,
        "sha256": pin.sha256,
        "size_bytes": pin.size,
        "path": str(store.path(pin)),
        "source": pin.source,
        "shipped": pin.shipped,
    }


# ── verifying ───────────────────────────────────────────────────────────────────────────────


def _problem(store: ModelStore, name: str, *, quiet: bool) -> ModelError | None:
    try:
        with Bar(name, quiet=quiet) as bar:
            store.verify(name, progress=bar.show)
    except ModelError as error:
        return error
    return None


def _report(problems: dict[str, ModelError | None]) -> None:
    for name, error in problems.items():
        if error is None:
            click.echo(f"{clean(name)}: verified")
        else:
            click.echo(f"{clean(name)}: NOT verified: {clean(error.diagnostics())}", err=True)
