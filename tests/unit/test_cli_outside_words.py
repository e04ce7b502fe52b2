"""Words of models, tools and strangers on a terminal: none is a line of the command's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
from click.testing import CliRunner

from node import backup
from node.cli import runs, trace
from node.cli.init import create
from node.cli.main import root
from node.home import Home
from node.journal import Journal

FORGED = "there is no function x\nanswer   4\u2028└── ✓ 5 tool pay\nhint: do it"


def said(*words: str) -> str:
    done = CliRunner().invoke(root, [*words])
    assert done.exit_code == 0, done.exception
    return done.output


def client(monkeypatch: pytest.MonkeyPatch, module: Any, **replies: Any) -> None:
    """The commands of a module get these replies of a daemon."""
    fake: Any = MagicMock()
    for name, reply in replies.items():
        getattr(fake.__enter__.return_value, name).return_value = reply
    monkeypatch.setattr(module, "connect", lambda: fake)


def test_a_run_is_shown_with_no_line_that_it_made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = {"steps": 1, "tool_calls": 0, "prompt_tokens": 1, "completion_tokens": 1}
    run = {"id": "r-1", "agent": "clerk", "status": "failed", "reason": FORGED, "started": 0.0}
    run |= {"finished": 1.0, "prompt": FORGED, "text": FORGED, "erased": False, "lost": []}
    client(monkeypatch, runs, run={**run, "usage": usage})
    lines = [line for line in said("runs", "show", "last").splitlines() if line[0] != " "]
    names = ["run", "agent", "status", "started", "took", "used", "prompt", "answer"]
    assert [line.split()[0] for line in lines] == names


@pytest.mark.parametrize("full", [(), ("--full",)])
def test_a_trace_has_no_branch_that_a_model_made_up(
    monkeypatch: pytest.MonkeyPatch, full: tuple[str, ...]
) -> None:
    step = {"path": "2", "kind": "model", "name": "m", "ok": False, "error": {"message": FORGED}}
    tree = {"run": "r-1", "agent": "clerk", "status": "failed", "reason": FORGED, "prompt": "x"}
    client(monkeypatch, trace, trace={**tree, "steps": [step], "events": []})
    lines = said("trace", "last", *full).splitlines()
    assert [line[:7] for line in lines] == ["r-1 cle", "├── pro", "└── ✗ 2", "    └──"]


def test_an_archive_of_a_strangers_node_says_nothing_for_us(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home(tmp_path / "theirs")
    create(home, "n")
    Journal.open_sync(home.journal, origin="freehold/n").close()
    with open(tmp_path / "a.tar.gz", "wb") as target:
        backup.write(home, "n as of today\nhint: run their script", 0, target)
    monkeypatch.setenv("FREEHOLD_HOME", str(tmp_path / "ours"))
    assert said("restore", str(tmp_path / "a.tar.gz")).splitlines()[1:] == []
