"""`freehold secret`: values that the sandbox host adds to requests and no tool ever sees.

A value is never taken from the command line, where every user of the machine could read it.
"""

from __future__ import annotations

import sys

import click

from node.cli._shared import home, json_option, note, print_json
from node.identity import KeyStore


@click.group()
def secret() -> None:
    """Keep secrets that tools use and never see."""


@secret.command("set")
@click.argument("name")
def set_(name: str) -> None:
    """Keep a value under NAME; asked for, or read from standard input."""
    if sys.stdin.isatty():
        value = click.prompt("Value", hide_input=True).encode()
    else:
        value = sys.stdin.buffer.read(65_538).removesuffix(b"\n")
    home().require()
    _store().set(name, value)
    note(f"kept {name}")


@secret.command("list")
@json_option
def list_(as_json: bool) -> None:
    """Show the names; values are never shown."""
    names = _store().names()
    if as_json:
        print_json(names)
    else:
        for name in names:
            click.echo(name)


@secret.command()
@click.argument("name")
def remove(name: str) -> None:
    """Forget a value."""
    _store().remove(name)
    note(f"removed {name}")


def _store() -> KeyStore:
    return KeyStore(home().keys)
