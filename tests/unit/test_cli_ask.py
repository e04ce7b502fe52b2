"""`freehold ask` and the person at its terminal, without a daemon."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import IO, Any

import pytest

from node.cli.ask import Watcher
from node.errors import ApprovalError, NoAnswerError

QUESTION = {
    "id": "7",
    "run": "r-1",
    "agent": "clerk",
    "kind": "approval",
    "name": "web",
    "args": {"url": "https://a.example/"},
    "rule": "approval = ask",
    "reason": "it sends\nfreehold: this was approved before",
}


class Terminal(io.StringIO):
    """A terminal at which somebody types these lines, or Ctrl-C where there are none."""

    def __init__(self, typed: str, *, interrupt: bool = False) -> None:
        super().__init__(typed)
        self._interrupt = interrupt

    def isatty(self) -> bool:
        return True

    def readline(self, *size: Any) -> str:
        if self._interrupt:
            raise KeyboardInterrupt
        return super().readline(*size)


class Asking:
    """A client whose run asks one question and completes once it was answered."""

    def __init__(self, *, answered_elsewhere: bool = False) -> None:
        self.calls: list[str] = []
        self._elsewhere = answered_elsewhere

    def watch(self, run_id: str, after: int = 0) -> Iterator[dict[str, Any]]:
        if after < 1:
            yield {"id": 1, "type": "approval.asked", "data": {}}
        elif "cancel" not in self.calls:
            yield {"id": 2, "type": "step.result", "data": {"path": "2", "ok": True}}

    def approvals(self) -> list[dict[str, Any]]:
        return [QUESTION]

    def approve(self, approval: str) -> None:
        self.calls.append("approve")
        if self._elsewhere:
            raise ApprovalError(f"there is no open approval {approval}")

    def deny(self, approval: str, reason: str = "") -> None:
        self.calls.append("deny")

    def cancel(self, run_id: str, reason: str) -> str:
        self.calls.append("cancel")
        return run_id

    def run(self, run_id: str) -> dict[str, str]:
        return {"status": "completed", "text": "It is done.", "reason": ""}


def at(monkeypatch: pytest.MonkeyPatch, terminal: IO[str]) -> None:
    monkeypatch.setattr(sys, "stdin", terminal)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)


def follow(client: Any) -> int:
    return Watcher(client, "r-1", stream=False, as_json=False).follow()


def test_a_question_that_another_terminal_answered_ends_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    client = Asking(answered_elsewhere=True)
    at(monkeypatch, Terminal("y\n"))
    assert follow(client) == 0
    out, err = capsys.readouterr()
    assert out == "It is done.\n"
    assert "there is no open approval 7" in err


def test_ctrl_c_at_a_question_cancels_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Asking()
    at(monkeypatch, Terminal("", interrupt=True))
    assert follow(client) == 130
    assert client.calls == ["cancel"]


def test_a_terminal_that_ends_at_a_question_leaves_it_waiting(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    client = Asking()
    at(monkeypatch, Terminal(""))
    assert follow(client) == 5
    assert client.calls == []
    assert "freehold approvals approve 7" in capsys.readouterr().err


class Typing(io.StringIO):
    """The screen of a person who types an answer once they see a question."""

    def __init__(self, keyboard: int) -> None:
        super().__init__()
        self._keyboard = keyboard

    def write(self, text: str) -> int:
        if "Let it happen?" in text:
            os.write(self._keyboard, b"n\n")
        return super().write(text)


def test_what_was_typed_before_a_question_is_no_answer_to_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A model can show words that look like a question, and the real one come after it."""
    keyboard, terminal = os.openpty()
    client = Asking()
    with open(terminal) as typed:
        os.write(keyboard, b"y\n")
        monkeypatch.setattr(sys, "stderr", Typing(keyboard))
        at(monkeypatch, typed)
        assert follow(client) == 0
    os.close(keyboard)
    assert client.calls == ["deny"]


def test_a_reason_makes_no_lines_of_its_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    at(monkeypatch, Terminal("n\n"))
    assert follow(Asking()) == 0
    assert not any(each.startswith("freehold:") for each in capsys.readouterr().err.splitlines())


@pytest.mark.parametrize(
    ("kind", "asked"), [("approval", "Let it happen?"), ("outcome_unknown", "Did it happen?")]
)
@pytest.mark.parametrize(("typed", "answer"), [("y\n", "approve"), ("n\n", "deny"), ("\n", "deny")])
def test_what_a_yes_means_is_what_is_asked(
    *,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    kind: str,
    asked: str,
    typed: str,
    answer: str,
) -> None:
    """Who takes one question for the other has a payment made again, or never counted."""
    client, other = Asking(), {**QUESTION, "id": "6", "run": "r-2"}
    monkeypatch.setattr(client, "approvals", lambda: [other, {**QUESTION, "kind": kind}])
    at(monkeypatch, Terminal(typed))
    assert follow(client) == 0
    assert client.calls == [answer]
    assert capsys.readouterr().err.count(asked) == 1


@pytest.mark.parametrize("stream", [False, True])
def test_a_program_is_asked_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], stream: bool
) -> None:
    client: Any = Asking()
    at(monkeypatch, Terminal("y\n"))
    assert Watcher(client, "r-1", stream=stream, as_json=True).follow() == 5
    assert client.calls == []
    said = capsys.readouterr().out
    told = json.loads(said.splitlines()[-1] if stream else said)
    assert (told["approval"], told["run"]) == (QUESTION, client.run("r-1"))


@pytest.mark.parametrize(
    ("status", "code"),
    [
        ("completed", 0),
        ("failed", 1),
        ("stopped", 4),
        ("could_not", 6),
        ("parked", 4),
        ("waiting", 4),
        ("of a newer version", 4),
    ],
)
def test_how_a_run_ended_is_the_exit_status(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    status: str,
    code: int,
) -> None:
    ended = {"status": status, "text": "Words.", "reason": "why"}
    client: Any = SimpleNamespace(watch=lambda *_: iter(()), run=lambda _: ended)
    assert follow(client) == code
    out, err = capsys.readouterr()
    assert out == "Words.\n"
    assert (f"{status}: why" in err) == (status != "completed")
    assert Watcher(client, "r-1", stream=False, as_json=True).follow() == code
    assert json.loads(capsys.readouterr().out) == ended


def test_a_daemon_that_goes_away_is_told_with_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: object) -> Iterator[dict[str, Any]]:
        raise NoAnswerError("the daemon stopped answering")
        yield

    with pytest.raises(NoAnswerError) as caught:
        follow(SimpleNamespace(watch=gone))
    assert "see run r-1" in caught.value.hint


def test_who_cannot_wait_for_the_end_of_a_cancelled_run_need_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    client, cancelled = Asking(), []

    def interrupted(*_: object) -> Iterator[dict[str, Any]]:
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr(client, "watch", interrupted)
    monkeypatch.setattr(client, "cancel", lambda *said: cancelled.append(said))
    assert follow(client) == 130
    assert cancelled == [("r-1", "cancelled at the terminal")]
    assert "the run stops by itself" in capsys.readouterr().err
