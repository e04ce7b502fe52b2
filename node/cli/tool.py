"""`freehold tool`: the tools a node has, and the making of one's own.

Works on the home's folder without the daemon: a tool is a component and a `tool.toml` with its
pin. Adding a tool gives it nothing; an agent's manifest grants it what it may do.
"""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import click

from node.cli._shared import (
    clean,
    home,
    indented,
    json_option,
    leave,
    node_home,
    note,
    print_json,
    span,
    table,
)
from node.errors import ToolError

if TYPE_CHECKING:
    from node.cli.tool_check import Checked
    from node.sandbox import ToolManifest, ToolStore
    from node.types import JsonObject

SHIPPED = Path(str(files("wasm_tools")))


@click.group()
def tool() -> None:
    """List, show, make, add and test tools."""


@tool.command("list")
@json_option
def list_tools(as_json: bool) -> None:
    """List the tools that ship with the node and those that were added."""
    store = _store()
    found = [_summary(store, name) for name in store.names()]
    if as_json:
        print_json(found)
        return
    rows = [[item[key] for key in ("name", "version", "from", "state", "about")] for item in found]
    table(("NAME", "VERSION", "FROM", "STATE", "ABOUT"), rows)


@tool.command()
@click.argument("name")
@json_option
def show(name: str, as_json: bool) -> None:
    """Show what a tool does, what it wants, and its functions."""
    manifest = _store().get(name)
    if as_json:
        print_json(_describe(manifest))
        return
    click.echo(f"{manifest.name} {manifest.version}: {clean(manifest.about, lines=False)}")
    click.echo(f"wants     {_wants(manifest)}")
    click.echo(f"sha-256   {manifest.sha256}")
    click.echo(f"from      {manifest.folder}")
    for function in manifest.functions:
        click.echo(f"\n{function.name}: {clean(function.description, lines=False)}")
        for line in _parameters(function.parameters):
            click.echo(f"  {clean(line, lines=False)}")


@tool.command()
@click.argument("name")
@click.option(
    "--lang",
    "language",
    type=click.Choice(["c", "zig", "js", "python"]),
    default="zig",
    show_default=True,
    help="What it is written in.",
)
@click.option(
    "--into",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(),
    help="Where its folder goes; here if not given.",
)
def new(name: str, language: str, into: Path) -> None:
    """Write a small tool into a folder NAME, ready to be built and changed."""
    from node.cli.tool_templates import write

    if (SHIPPED / name / "tool.toml").is_file():
        raise ToolError(f"a tool named {name} ships with the node", hint="Choose another name.")
    folder = write(into / name, name, language)
    note(
        f"wrote {folder}\n"
        f"build it:   scripts/build_tools {folder}\n"
        f"try it:     freehold tool test {folder}\n"
        f"add it:     freehold tool add {folder}"
    )


@tool.command()
@click.argument("source", type=click.Path(path_type=Path, exists=True))
@json_option
def add(source: Path, as_json: bool) -> None:
    """Add a tool: its folder, or a component file that describes itself.

    What the component says of itself must be what its tool.toml says. A tool of that name that was
    added before is replaced.
    """
    from node.cli.tool_check import add_checked

    cache = node_home().cache
    manifest = asyncio.run(add_checked(_store(), source, cache))
    if as_json:
        print_json(_describe(manifest))
        return
    note(
        f"added {manifest.name} {manifest.version}; it wants {_wants(manifest)}\n"
        f'grant it in an agent\'s manifest: [[tools]] name = "{manifest.name}"'
    )


@tool.command()
@click.argument("name")
@json_option
def test(name: str, as_json: bool) -> None:
    """Run a tool's examples in the sandbox. NAME is a tool's name or a folder.

    Exit status: 0 if all came out as stated, 1 if not.
    """
    from node.cli.tool_check import check

    checked = asyncio.run(check(_named(name), home().cache if home().config.is_file() else None))
    if as_json:
        print_json([_outcome(item) for item in checked])
    else:
        _report(checked)
    if not all(item.passed for item in checked):
        leave(1)


@tool.command()
@click.argument("name")
def remove(name: str) -> None:
    """Remove a tool that was added."""
    _store().remove(name)
    note(f"removed {name}")


def _store() -> ToolStore:
    from node.sandbox import ToolStore

    return ToolStore(SHIPPED, home().tools)


def _named(name: str) -> ToolManifest:
    """The tool of that name, or the one in that folder."""
    from node.sandbox import read_manifest

    folder = Path(name)
    return read_manifest(folder) if (folder / "tool.toml").is_file() else _store().get(name)


def _summary(store: ToolStore, name: str) -> dict[str, str]:
    """A tool in a line: its state is ready, not built, or broken (with the reason as `about`)."""
    from node.sandbox import read_manifest

    added = home().tools / name
    origin = "added" if (added / "tool.toml").is_file() else "shipped"
    folder = added if origin == "added" else SHIPPED / name
    found = {"name": name, "version": "", "from": origin}
    try:
        manifest = read_manifest(folder)
        state = "ready" if manifest.sha256 else "not built"
        if manifest.sha256:
            store.get(name)
    except ToolError as error:
        return {**found, "state": "broken", "about": error.message}
    return {**found, "version": manifest.version, "state": state, "about": manifest.about}


def _describe(manifest: ToolManifest) -> JsonObject:
    return {
        "name": manifest.name,
        "version": manifest.version,
        "about": manifest.about,
        "language": manifest.language,
        "capabilities": [*sorted(manifest.capabilities)],
        "sha256": manifest.sha256,
        "folder": str(manifest.folder),
        "functions": [asdict(function) for function in manifest.functions],
    }


def _wants(manifest: ToolManifest) -> str:
    return ", ".join(sorted(manifest.capabilities)) or "no capability"


def _parameters(schema: JsonObject) -> list[str]:
    """One line a parameter: its name, type and description; optional ones in brackets."""
    properties, required = schema.get("properties"), schema.get("required")
    if not isinstance(properties, dict):
        return []
    needed = required if isinstance(required, list) else []
    lines = []
    for name, rule in properties.items():
        facts = rule if isinstance(rule, dict) else {}
        shown = name if name in needed else f"[{name}]"
        lines.append(f"{shown}: {facts.get('type', 'any')}  {facts.get('description', '')}".strip())
    return lines


def _outcome(item: Checked) -> JsonObject:
    return {
        "check": item.title,
        "passed": item.passed,
        "problem": item.problem,
        "seconds": item.seconds,
    }


def _report(checked: list[Checked]) -> None:
    for item in checked:
        mark = "ok  " if item.passed else "FAIL"
        took = f"  {span(item.seconds)}" if item.seconds else ""
        click.echo(f"{mark} {clean(item.title, lines=False)}{took}")
        if item.problem:
            click.echo(f"     {indented(item.problem, 5)}")
    failed = sum(not item.passed for item in checked)
    click.echo(f"{len(checked) - failed} passed, {failed} failed")
