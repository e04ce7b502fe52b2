"""Commands without a daemon: what was typed is what is asked for, once, and nothing else."""

from __future__ import annotations

from typing import Any
from unittest.mock import MagicMock, call, create_autospec

import pytest
from click.testing import CliRunner, Result

from node.cli import approvals, logs, runs, workspace
from node.cli.main import root
from node.client import Client

RUN = {"id": "r-12", "agent": "clerk", "status": "running", "finished": None, "forked_from": None}
QUESTION = {"id": "7", "run": "r-12", "agent": "clerk", "asked": 0.0, "name": "pay", "args": {}}
QUESTION |= {"reason": "", "rule": "payments", "kind": "approval"}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What the daemon is asked."""
    client: Any = MagicMock()
    client.__exit__.return_value = False
    for module in (approvals, logs, runs, workspace):
        monkeypatch.setattr(module, "connect", lambda: client)
    found = client.__enter__.return_value = create_autospec(Client, instance=True)
    found.run.return_value = RUN
    found.erase.return_value = 3
    found.runs.return_value = found.approvals.return_value = found.workspace_log.return_value = []
    found.replay.return_value = {"ok": True, "run": "r-13", "steps": 2}
    found.status.return_value = {"estop": True, "journal_size": 30}
    found.events.return_value = iter(())
    found.workspace_diff.return_value = ""
    found.workspace_rollback.return_value = None
    return found


def run(*words: str, stdin: str = "") -> Result:
    return CliRunner().invoke(root, list(words), input=stdin)


@pytest.mark.parametrize(
    ("typed", "calls"),
    [
        ("approvals approve 7", [call.approve("7")]),
        ("approvals deny 7", [call.deny("7", "")]),
        ("approvals deny 7 --reason no", [call.deny("7", "no")]),
        ("estop", [call.estop()]),
        ("resume", [call.status(), call.resume()]),
        ("runs list --agent clerk -n 3", [call.runs(agent="clerk", limit=3)]),
        ("runs show last --json", [call.run("last")]),
        ("runs cancel last --reason no", [call.run("last"), call.cancel("r-12", "no"), ...]),
        ("runs erase last --yes", [call.run("last"), call.erase("r-12")]),
        ("replay last", [call.replay("last", from_step=None, model=None, edit=None)]),
        (
            "replay last --from 3 --model m --edit t",
            [call.replay("last", from_step="3", model="m", edit="t")],
        ),
        ("workspace log clerk -n 3", [call.workspace_log("clerk", 3)]),
        ("workspace diff clerk a b", [call.workspace_diff("clerk", "a", "b")]),
        ("workspace rollback clerk a --yes", [call.workspace_rollback("clerk", "a")]),
        ("logs", [call.status(), call.events(10, follow=False)]),
        ("logs -f -n 0", [call.status(), call.events(30, follow=True)]),
        ("logs -n 50", [call.status(), call.events(0, follow=False)]),
    ],
)
def test_what_was_typed_is_what_is_asked_for(asked: Any, typed: str, calls: list[Any]) -> None:
    assert run(*typed.split()).exit_code == 0
    found = [each for each in asked.mock_calls if "__" not in str(each)]
    assert found == ([*calls[:-1], call.run("r-12")] if ... in calls else calls)


@pytest.mark.parametrize("typed", ["runs erase last", "workspace rollback clerk a"])
@pytest.mark.parametrize("answer", ["n\n", "\n", ""])
def test_who_does_not_say_yes_keeps_what_there_is(asked: Any, typed: str, answer: str) -> None:
    assert run(*typed.split(), stdin=answer).exit_code == 1
    asked.erase.assert_not_called()
    asked.workspace_rollback.assert_not_called()


def test_what_is_over_or_not_in_force_is_not_ended(asked: Any) -> None:
    asked.status.return_value = {"estop": False}
    assert "no emergency stop was in force" in run("resume").stderr
    asked.resume.assert_not_called()
    asked.run.return_value = {**RUN, "finished": 1.0, "status": "completed"}
    assert "had ended already: completed" in run("runs", "cancel", "last").stderr
    asked.cancel.assert_not_called()


@pytest.mark.parametrize(
    ("kind", "what"), [("approval", "pay"), ("outcome_unknown", "did pay happen?")]
)
def test_a_list_of_questions_says_what_a_yes_would_mean(asked: Any, kind: str, what: str) -> None:
    asked.approvals.return_value = [{**QUESTION, "kind": kind}]
    (line,) = run("approvals", "list").stdout.splitlines()[1:]
    assert f"  {what}  " in line


def test_a_run_that_came_out_another_way_is_1_with_no_lines_of_its_own(asked: Any) -> None:
    divergence = {"path": "2", "recorded": "tool a\nthe same: 2 steps", "taken": "tool b"}
    asked.replay.return_value = {"ok": False, "steps": 1, "divergence": divergence}
    done = run("replay", "last")
    assert (done.exit_code, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) == 1
    assert run("replay", "last", "--json").exit_code == 1
    asked.replay.return_value = {"ok": False, "steps": 1, "divergence": None}
    assert "it ended another way" in run("replay", "last").stderr
