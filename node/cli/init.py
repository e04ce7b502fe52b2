"""`freehold init`: a new node that can be asked something right away."""

from __future__ import annotations

import os
import re
import secrets
import socket
from pathlib import Path

import click

from node.cli._shared import home, note
from node.disk import write_private
from node.errors import ConfigError
from node.home import LOST_AND_FOUND, Home

CLERK = '''\
# An agent is this file. Unknown keys are errors; docs/agents.md lists the others.
name = "clerk"
about = "Does sums, works on text and keeps files in its own folder"
instructions = """
You are a helpful assistant that works for one person. Use a tool when it helps; otherwise answer \
in a sentence."""
model = "default"

[guards]
answer = ["citations"]  # figures in an answer must come from the prompt or a result

[[tools]]
name = "calc"

[[tools]]
name = "files"
grant.workspace = "rw"

[[tools]]
name = "text"
'''


@click.command()
@click.option("--name", help="Names the node's log; made from the host's name if left out.")
def init(name: str | None) -> None:
    """Make a new node: config, folders, a first agent.

    What is there already is kept.
    """
    where = home()
    made = create(where, node_name() if name is None else name)
    if name and where.config not in made:
        note(f"{where.config} was there already and keeps its name")
    for path in made:
        note(f"wrote {path}")
    note('Next: `freehold up --detach`, then `freehold ask clerk "What is 12 * 34?"`')


def create(where: Home, name: str) -> list[Path]:
    """Makes what is missing of a home; the files written. Raises ConfigError."""
    from node import config

    _check_ours(where)
    files = {where.config: config.template(name), where.agents / "clerk.toml": CLERK}
    where.create()
    made = [path for path, text in files.items() if _is_written(where, path, text)]
    config.load(where.config, {})
    return made


def _check_ours(where: Home) -> None:
    """Raises ConfigError for a folder of other things: the node's archives would hold them all."""
    try:
        names = os.listdir(where.root)
    except OSError:  # not there, or told when it is made
        return
    there = {name for name in names if not name.startswith(".") and name != LOST_AND_FOUND}
    if there and there.isdisjoint({where.config.name, *(path.name for path in where.folders)}):
        raise ConfigError(
            f"{where.root} is no home of a node, and not empty",
            hint="Set FREEHOLD_HOME to an empty folder, or to one that is not there yet.",
        )


def _is_written(where: Home, path: Path, text: str) -> bool:
    """Writes a file that is not there; whether it was this that made it."""
    if _written_before(where, path):
        return False
    try:
        write_private(path, text.encode(), replace=False)
    except FileExistsError:  # by another `init`, just now
        return False
    except OSError as error:
        raise ConfigError(
            f"cannot write {path}: {error.strerror}", hint="Is the disk full or read-only?"
        ) from error
    return True


def _written_before(where: Home, path: Path) -> bool:
    """An agent that was removed is not brought back by a second init."""
    return path.exists() or (path != where.config and bool(where.manifests))


def node_name() -> str:
    """The host's name and eight random digits: two nodes of one host keep two logs apart."""
    host = re.sub(r"[^a-z0-9-]+", "-", socket.gethostname().lower()).strip("-")[:40]
    return f"{host or 'node'}-{secrets.token_hex(4)}"
