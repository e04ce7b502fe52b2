"""`freehold model`: what is in `models.lock`, and whether the files are still that.

Works on the home's folder without the daemon: a model is a file and a pin.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from node.cli._shared import clean, home, json_option, leave, note, print_json, size, table
from node.errors import ModelError

if TYPE_CHECKING:
    from node.inference import ModelStore, Pin
    from node.types import JsonObject


@click.group()
def model() -> None:
    """List, show, verify, add and remove models."""


@model.command("list")
@json_option
def list_models(as_json: bool) -> None:
    """List the models and their pins."""
    store = _store()
    pins = store.list()
    if as_json:
        print_json([_describe(store, pin) for pin in pins])
        return
    rows = [[pin.name, size(pin.size), pin.sha256[:16], str(store.path(pin))] for pin in pins]
    table(("NAME", "SIZE", "SHA-256", "FILE"), rows)


@model.command()
@click.argument("name")
@json_option
def show(name: str, as_json: bool) -> None:
    """Show a model's pin and what its file says of itself."""
    store = _store()
    shown = {**_describe(store, store.get(name)), **_header(store, name)}
    if as_json:
        print_json(shown)
        return
    width = max(map(len, shown))
    for key, value in shown.items():
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
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--name", help="What to call it; the file's name if not given.")
@click.option("--in-place", is_flag=True, help="Pin the file where it is; do not copy it.")
@json_option
def add(file: Path, name: str | None, in_place: bool, as_json: bool) -> None:
    """Pin a GGUF file by its SHA-256, copied into the home."""
    store = _store(make=True)
    with _Bar(file.name, quiet=as_json) as bar:
        pin = store.add(file, name, in_place=in_place, progress=bar.show)
    if as_json:
        print_json(_describe(store, pin))
        return
    note(f'added {pin.name}; use it by model = "{pin.name}" in an agent\'s manifest')


@model.command()
@click.argument("name")
def remove(name: str) -> None:
    """Forget a model, and delete the home's copy of its file."""
    _store().remove(name)
    note(f"removed {name}")


def _store(*, make: bool = False) -> ModelStore:
    from node.inference import ModelStore

    where = home()
    if make:
        where.create()
    return ModelStore(where.models)


def _describe(store: ModelStore, pin: Pin) -> JsonObject:
    return {
        "name": pin.name,
        "sha256": pin.sha256,
        "size_bytes": pin.size,
        "path": str(store.path(pin)),
        "source": pin.source,
        "shipped": pin.shipped,
    }


def _header(store: ModelStore, name: str) -> JsonObject:
    from node.inference import recognise

    header = store.header(name)
    return {
        "title": str(header.metadata.get("general.name", "")),
        "architecture": header.architecture,
        "weights": header.weights,
        "quantisation": header.quantisation,
        "context_tokens": header.context_tokens,
        "license": str(header.metadata.get("general.license", "")),
        "chat_template": bool(header.chat_template),
        "call_format": recognise(header.chat_template).name if header.chat_template else "",
    }


def _problem(store: ModelStore, name: str, *, quiet: bool) -> ModelError | None:
    try:
        with _Bar(name, quiet=quiet) as bar:
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


class _Bar:
    """A progress bar on a terminal's standard error, for files that take a while."""

    def __init__(self, label: str, *, quiet: bool) -> None:
        self._label = clean(label, lines=False)
        self._quiet = quiet or not sys.stderr.isatty()
        self._drawn = False

    def __enter__(self) -> _Bar:
        return self

    def show(self, done: int, total: int) -> None:
        if not self._quiet and total > 64 << 20:
            click.echo(f"\r{self._label}  {done * 100 // total:3d} %", nl=False, err=True)
            self._drawn = True

    def __exit__(self, *_error: object) -> None:
        if self._drawn:
            click.echo(err=True)
