"""docs/cli.md says what there is."""

from __future__ import annotations

import re
from pathlib import Path

from node.cli.main import COMMANDS
from node.gateway.app import ROUTES

DOC = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()


def test_every_command_is_there() -> None:
    table = DOC[: DOC.index("## Exit status")]
    assert set(COMMANDS) <= set(re.findall(r"`([a-z]+)", table))


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
