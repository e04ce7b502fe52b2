"""What a message tells a person to type or to set is there."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from node.cli.main import root
from node.config import Config
from node.money.translate import OURS, hint_of
from wallet.errors import WalletError

ROOT = Path(__file__).parents[2]


def texts(room: str) -> Iterator[str]:
    """Every text in the code of a room but its docstrings; what is filled in is an X."""
    for path in (ROOT / room).rglob("*.py"):
        tree = ast.parse(path.read_text())
        docs = {id(each.value) for each in ast.walk(tree) if isinstance(each, ast.Expr)}
        for each in ast.walk(tree):
            if isinstance(each, ast.JoinedStr):
                parts = (
                    part.value if isinstance(part, ast.Constant) else "X" for part in each.values
                )
                yield "".join(map(str, parts))
            elif isinstance(each, ast.Constant) and isinstance(each.value, str):
                yield "" if id(each) in docs else each.value


def quoted(room: str, pattern: str) -> set[str]:
    return {found for text in texts(room) for found in re.findall(f"`({pattern})`", text)}


def test_a_hint_of_the_wallet_is_told_in_the_words_of_the_node() -> None:
    named = quoted("wallet", r"\w+")
    assert named == OURS.keys()
    told = hint_of(WalletError("no", hint="Run `recover`, or raise `cap_sat`."))
    assert told == "Run `freehold wallet settle`, or raise `wallet.mint_cap_sats`."


@pytest.mark.parametrize(
    "line", sorted(quoted("node", "freehold [^`…]+") | set(OURS.values()) - {"--force"})
)
def test_what_a_message_names_is_there(line: str) -> None:
    """A command and its options, or a key of the configuration."""
    if not line.startswith("freehold "):
        section, key = line.split(".")
        assert key in type(getattr(Config(), section)).model_fields, line
        return
    command: click.Command = root
    for word in line.split("` and", maxsplit=1)[0].split()[1:]:
        if isinstance(command, click.Group):
            found = command.get_command(click.Context(command), word)
            assert found is not None, line
            command = found
        elif word.startswith("--"):
            assert word in [name for each in command.params for name in each.opts], line
