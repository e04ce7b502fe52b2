"""`freehold secret`: values that the sandbox's host adds to requests and no tool ever sees.

A value is never taken from the command line, where every user of the machine could read it.
"""

from __future__ import annotations

import sys

import click

from node.cli._shared import hidden, home, json_option, note, print_json, table
from node.errors import IdentityError
from node.identity import HttpSecret, HttpSecrets, KeyStore
from node.names import AGENT


@click.group()
def secret() -> None:
    """Keep secrets that tools use and never see."""


@secret.command("set")
@click.argument("name")
@click.option("--url", required=True, help="Where it is sent: https://api.example.org/*")
@click.option("--header", default="Authorization", show_default=True, help="The header it goes in.")
@click.option("--agent", "agents", multiple=True, required=True, help="Whose tools; may repeat.")
def set_(name: str, url: str, header: str, agents: tuple[str, ...]) -> None:
    """Keep a value under NAME; asked for, or read from standard input.

    Requests that the named agents' tools send to the URL get the header. The agent's grant must
    allow that URL too.
    """
    from node.sandbox import parse_pattern

    home().require()
    parse_pattern(url)
    for agent in agents:
        if not AGENT.fullmatch(agent):
            raise IdentityError(
                f"{agent!r} cannot be an agent's name",
                hint="Use a-z 0-9 _ - and begin with a letter.",
            )
    kept = HttpSecret(url, header, _value(), agents).encode()
    KeyStore(home().keys).set(name, kept)
    note(f"kept {name}")


@secret.command("list")
@json_option
def list_(as_json: bool) -> None:
    """Show what there is; values are never shown."""
    home().require()
    found = HttpSecrets(home().keys).all()
    if as_json:
        rows = found.items()
        print_json(
            [{"name": n, "url": s.url, "header": s.header, "agents": s.agents} for n, s in rows]
        )
    else:
        shown = [(name, s.url, s.header, ", ".join(s.agents)) for name, s in found.items()]
        table(("NAME", "URL", "HEADER", "AGENTS"), shown)


@secret.command()
@click.argument("name")
def remove(name: str) -> None:
    """Forget a value."""
    KeyStore(home().keys).remove(name)
    note(f"removed {name}")


def _value() -> str:
    if sys.stdin.isatty():
        return hidden("Value")
    try:
        return sys.stdin.buffer.read(65_538).removesuffix(b"\n").decode("ascii")
    except UnicodeDecodeError as error:
        raise IdentityError(
            "the value is not ASCII", hint="A header holds printable ASCII only."
        ) from error
