"""`freehold agent`: the files in agents/ are the truth, with or without a daemon.

Every change is checked as the daemon will check it before it takes the old file's place, and a
running daemon is told at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import subprocess
import tempfile
from collections.abc import Collection, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from node.cli._shared import (
    clean,
    connect,
    home,
    json_option,
    note,
    print_json,
    table,
    yes_option,
)
from node.cli.tool import SHIPPED
from node.disk import alone, write_private
from node.errors import DaemonNotRunningError, FreeholdError, ManifestError, ToolError
from node.home import Home

if TYPE_CHECKING:
    from node.runs import AgentManifest
    from node.sandbox import ToolStore

INSTRUCTIONS = (
    "You are a helpful assistant that works for one person. "
    "Use a tool when it helps; otherwise answer in a sentence."
)

_GRANTS = {
    "workspace": 'grant.workspace = "rw" # or "ro": the agent\'s own folder',
    "http": 'grant.http = ["https://example.org/*"] # what it may reach',
    "store": "grant.store = true # a few values that outlive a call",
    "clock": "grant.clock = true",
    "random": "grant.random = true",
}


@click.group()
def agent() -> None:
    """Make, list, show, edit, pause and remove agents."""


@agent.command()
@click.argument("name")
@click.option("--about", default="", help="What it is for, in a sentence.")
@click.option("--instructions", default=INSTRUCTIONS, help="What the model is told first.")
@click.option("--model", default="default", show_default=True, help="A name in models/.")
@click.option("--tool", "tools", multiple=True, help="A tool to grant; may be repeated.")
def new(name: str, about: str, instructions: str, model: str, tools: tuple[str, ...]) -> None:
    """Write agents/NAME.toml.

    A tool is granted without capabilities. Those it wants stand in the file as comments;
    `freehold agent edit` is there to grant them.
    """
    path = _path(name)
    wanted = {tool: _wanted_by(tool) for tool in tools}
    _save(path, _fresh(name, about, instructions, model, wanted), None)
    note(f"wrote {path}")


@agent.command("list")
@json_option
def list_(as_json: bool) -> None:
    """Show the agents there are."""
    home().require()
    refused = {name: error.message for name, error in broken(home()).items()}
    found = [_summary(path, refused) for path in home().manifests]
    if as_json:
        print_json(found)
        return
    rows = [[str(item[key]) for key in ("name", "state", "model", "about")] for item in found]
    table(("NAME", "STATE", "MODEL", "ABOUT"), rows)


@agent.command()
@click.argument("name")
@json_option
def show(name: str, as_json: bool) -> None:
    """Print an agent's file, or with --json what it comes to."""
    path = _existing(name)
    if as_json:
        print_json(_described(_read(path)))
    else:
        click.echo(clean(path.read_text("utf-8", errors="replace")), nl=False)
        _read(path)


@agent.command()
@click.argument("name")
def edit(name: str) -> None:
    """Edit an agent's file in $EDITOR.

    The file changes only if what you wrote is valid and nobody changed it meanwhile; otherwise your
    text is kept beside it.
    """
    path = _existing(name)
    before = path.read_bytes()
    text = _edited(before, path)
    after = text.read_bytes()
    if after == before:
        text.unlink()
        note("nothing changed")
        return
    try:
        _save(path, after, before)
    except ManifestError as error:
        hint = f"{error.hint} Your text is in {_kept(text, path)}."
        raise ManifestError(error.message, hint=hint) from error
    except OSError as error:
        raise FreeholdError(
            f"cannot write {path}: {error.strerror}", hint=f"Your text is in {_kept(text, path)}."
        ) from error
    text.unlink()
    note(f"wrote {path}")


@agent.command()
@click.argument("name")
@click.option("--off", is_flag=True, help="Let it take work again.")
def pause(name: str, off: bool) -> None:
    """Let an agent take no new runs."""
    import tomlkit

    path = _existing(name)
    _read(path)
    before = path.read_bytes()
    document = tomlkit.parse(before)
    document["paused"] = not off
    _save(path, tomlkit.dumps(document).encode(), before)
    note(f"{name} {'takes runs again' if off else 'is paused'}")


@agent.command()
@click.argument("name")
@yes_option
def remove(name: str, yes: bool) -> None:
    """Remove an agent's file.

    Its workspace and its part of the log stay.
    """
    path = _existing(name)
    if not yes:
        click.confirm(f"Remove {path}?", abort=True)
    with alone(path.parent):
        path.unlink()
    _tell_daemon()
    note(f"removed {path}")


# ── files ───────────────────────────────────────────────────────────────────────────────────


def _path(name: str) -> Path:
    """Where an agent's file is. Raises ManifestError if that is not a plain name."""
    if not name or name != Path(name).name or name.startswith("."):
        raise ManifestError(
            f"{name!r} cannot be an agent's name", hint="Use a-z 0-9 _ - and begin with a letter."
        )
    home().require()
    return home().agents / f"{name}.toml"


def _existing(name: str) -> Path:
    path = _path(name)
    if not path.is_file():
        known = ", ".join(item.stem for item in home().manifests) or "none"
        raise ManifestError(
            f"there is no agent {name!r}", hint=f"Agents: {known}. `freehold agent new` makes one."
        )
    return path


def _read(path: Path) -> AgentManifest:
    from node.runs import read_manifest

    return read_manifest(path)


def _save(path: Path, content: bytes, before: bytes | None) -> None:
    """Checks the text as the daemon will, puts it in the place of `before`, tells the daemon.

    Raises:
        ManifestError: it is not valid, or the file is not what it was (None: there was none).
    """
    from node.runs import parse_manifest

    parse_manifest(content, path)
    with alone(path.parent):
        if before is not None and (not path.exists() or path.read_bytes() != before):
            raise ManifestError(
                f"{path} was changed or removed meanwhile", hint="Look at it and do it again."
            )
        place = Path(os.path.realpath(path))  # a link stays one
        try:
            write_private(place, content, replace=before is not None)
        except FileExistsError:
            raise ManifestError(
                f"there is an agent {path.stem!r} already",
                hint=f"`freehold agent edit {path.stem}` changes it.",
            ) from None
    _tell_daemon()


def _tell_daemon() -> None:
    with contextlib.suppress(DaemonNotRunningError), connect() as client:
        client.reload_agents()
    for name, error in broken(home()).items():
        note(f"warning: {name}: {error.message}")


def _fresh(
    name: str, about: str, instructions: str, model: str, tools: Mapping[str, Collection[str]]
) -> bytes:
    """A new agent's file; the capabilities that its tools want are comments."""
    import tomlkit

    document = tomlkit.document()
    document["name"] = name
    document["about"] = about
    document["instructions"] = tomlkit.string(instructions, multiline="\n" in instructions)
    document["model"] = model
    if tools:
        tables = tomlkit.aot()
        for tool, wanted in tools.items():
            granted = tomlkit.table()
            granted["name"] = tool
            for line in (line for name, line in _GRANTS.items() if name in wanted):
                granted.add(tomlkit.comment(line))
            tables.append(granted)
        document["tools"] = tables
    return tomlkit.dumps(document).encode()


def _edited(content: bytes, path: Path) -> Path:
    """A file with the text as the person's editor left it, for the caller to remove."""
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    descriptor, name = tempfile.mkstemp(suffix=".toml", prefix=f"{path.stem}-")
    with open(descriptor, "wb") as file:
        file.write(content)
    try:
        subprocess.run([*shlex.split(editor), name], check=True)
    except BaseException as error:
        os.unlink(name)
        if isinstance(error, OSError | ValueError | subprocess.CalledProcessError):
            raise FreeholdError(
                f"the editor {editor!r} failed: {error}", hint="Set EDITOR to one that works."
            ) from error
        raise
    return Path(name)


def _kept(text: Path, path: Path) -> Path:
    """Moves what somebody wrote beside the agent's file; where that cannot be, it stays."""
    draft = path.with_name(f".{path.stem}.rejected")
    try:
        write_private(draft, text.read_bytes())
    except OSError:
        return text
    text.unlink()
    return draft


def broken(where: Home) -> Mapping[str, ManifestError]:
    """What a daemon has, or would have, against the agents' files and their tools, by name."""
    from node.runs import AgentRegistry, check_tools

    tools = _tools(where)
    registry = AgentRegistry(where.agents, check=lambda agent: check_tools(agent, tools))
    asyncio.run(registry.refresh())
    return registry.broken()


def _tools(where: Home) -> ToolStore:
    from node.sandbox import ToolStore

    return ToolStore(SHIPPED, where.tools)


def _wanted_by(tool: str) -> Collection[str]:
    """The capabilities a tool wants; none where there is no such tool, of which `_save` warns."""
    try:
        return _tools(home()).get(tool).capabilities
    except ToolError:
        return ()


def _summary(path: Path, refused: dict[str, str]) -> dict[str, object]:
    try:
        found, problem = _read(path), refused.get(path.stem)
    except ManifestError as error:
        found, problem = None, error.message
    if found is None or problem is not None:
        return {"name": path.stem, "state": "broken", "model": "", "about": problem}
    state = "paused" if found.paused else "ready"
    return {"name": found.name, "state": state, "model": found.model, "about": found.about}


def _described(manifest: AgentManifest) -> dict[str, object]:
    """The manifest as JSON, its defaults filled in."""
    return {**asdict(manifest), "source": str(manifest.source)}
