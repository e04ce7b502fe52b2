"""docs/cli.md says what there is."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from node.cli.main import COMMANDS, root
from node.gateway.app import ROUTES

DOC = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()


def test_every_command_is_there() -> None:
    table = DOC[: DOC.index("## Exit status")]
    assert set(COMMANDS) <= set(re.findall(r"`([a-z]+)", table))


@pytest.mark.parametrize(("name", "least"), [("wallet.md", 20), ("upgrades.md", 15)])
def test_a_page_types_what_there_is(name: str, least: int) -> None:
    """Every `freehold …` and `wallet …` on a page names a command and options of it."""
    page = (Path(__file__).parents[2] / "docs" / name).read_text()
    typed = re.findall(
        r"(?:^|`|\$ )(?:freehold )?(wallet [^`\n]+|freehold [^`\n]+)", page, re.MULTILINE
    )
    assert len(typed) > least
    for line in typed:
        command: click.Command = root
        for word in line.removeprefix("freehold ").split(" <")[0].split():
            if isinstance(command, click.Group):
                found = command.get_command(click.Context(command), word)
                assert found is not None, line
                command = found
            elif word.startswith("--"):
                options = [name for each in command.params for name in each.opts]
                assert word in options, line


def test_every_route_is_there() -> None:
    said = set(re.findall(r"`(GET|POST) (/[a-z]*[^ ?`{]*)", DOC))
    there = {
        (
            method,
            re.sub(r"\{(agent|\w+)\}", lambda m: "AGENT" if m[1] == "agent" else "ID", route.path),
        )
        for route in ROUTES
        for method in route.methods or ()
        if method != "HEAD"
    }
    assert said == there
