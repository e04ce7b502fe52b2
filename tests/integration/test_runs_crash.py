"""A run killed at every boundary of the journal, and at any time, ends as if it had not been.

Two runs, each a script beside this: one that takes every kind of step, and one that pays. The
oracle is a file that the effect itself writes at the moment it happens: whatever the log says, and
however often the node died, each is in it once, the answer is the same, and the log verifies. The
number of random kills comes from FREEHOLD_CRASH_LOOPS.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from node.journal import Boundary, Verdict, verify

ROOT = Path(__file__).resolve().parents[2]
KILLED = -signal.SIGKILL
LOOPS = int(os.environ.get("FREEHOLD_CRASH_LOOPS", "5"))
COUNTED = '["pass","polite",{"added":1},3000,{"added":2},{"added":3},{"added":4},true,"pass"]'
BOUGHT = '[7,9,"bought a and b","PolicyDeniedError"]'
MADE = {"1": 7, "2": 9, "3.402.1": 10, "3.402.2": 20, "3.402.3": 5}
FEES = len(MADE) + 1  # one each, and one for taking the last one back
MSAT = (7 + 9 + 10 + 20 + FEES) * 1000


def told(file: Path) -> list[dict[str, Any]]:
    """What really happened, in order."""
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def effects(home: Path) -> Counter[str]:
    """How often each happened."""
    return Counter(each["key"] for each in told(home / "count"))


def payments(home: Path) -> Counter[str]:
    return Counter(each["key"] for each in told(home / "paid") if each["what"] == "made")


def check_effects(home: Path, answer: dict[str, Any]) -> None:
    assert sorted(effects(home).values()) == [1] * 5
    assert answer["text"] == COUNTED


def check_payments(home: Path, answer: dict[str, Any]) -> None:
    moved = [
        (each["what"], each["key"].partition(":")[2], each["amount"])
        for each in told(home / "paid")
    ]
    made = [(path, amount) for what, path, amount in moved if what == "made"]
    assert sorted(made) == sorted(MADE.items())
    assert {path for what, path, _ in moved if what == "took"} == {"3.402.3"}
    assert (answer["text"], answer["msat"]) == (BOUGHT, MSAT)


@dataclass(frozen=True)
class Story:
    """A run to kill: its script, how often each of its effects happened, and its end."""

    script: str
    happened: Callable[[Path], Counter[str]]
    check: Callable[[Path, dict[str, Any]], None]

    def __str__(self) -> str:
        return self.script


COUNTS = Story("crash_child.py", effects, check_effects)
PAYS = Story("crash_pay_child.py", payments, check_payments)


class Node:
    """Lives of a node, one process each; see crash_lives.py."""

    def __init__(self, story: Story) -> None:
        self.story = story
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name(story.script))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )

    def live(self, home: Path, **how: object) -> tuple[int, float]:
        """One life; its exit status and seconds."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"home": str(home), **how}) + "\n")
        self._process.stdin.flush()
        found = json.loads(self._process.stdout.readline())
        return found["status"], found["seconds"]

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


@pytest.fixture(scope="module", params=[COUNTS, PAYS], ids=str)
def node(request: pytest.FixtureRequest) -> Iterator[Node]:
    found = Node(request.param)
    yield found
    found.close()


def new_home(tmp_path: Path) -> Path:
    home = tmp_path / "home"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir()
    return home


def check_crash(node: Node, home: Path, when: str) -> None:
    """Nothing happened twice. The log may end in half a commit; nothing before is in doubt."""
    happened = node.story.happened(home)
    assert max(happened.values(), default=0) <= 1, (when, happened)
    report = verify(home / "journal")
    if report.internal is not Verdict.VERIFIED:
        torn = "cut short" in report.problems[0] and report.internal is Verdict.UNKNOWN
        unborn = "no commit at all" in report.problems[-1] or not report.origin
        assert torn or unborn, (when, report.problems)
        assert torn or not happened, when


def check_end(node: Node, home: Path, when: str) -> None:
    """The same answer as without the crash, each effect once, a log that verifies."""
    error = home / "error"
    assert not error.exists(), (when, error.read_text())
    answer = json.loads((home / "answer").read_text())
    assert answer["status"] == "completed", (when, answer)
    node.story.check(home, answer)
    report = verify(home / "journal")
    assert report.internal is Verdict.VERIFIED, (when, report.problems)


def finish(node: Node, home: Path, when: str) -> None:
    """Checks what the crash left, and lets the next life end the run."""
    check_crash(node, home, when)
    status, _ = node.live(home)
    error = home / "error"
    assert status == 0, (when, error.read_text() if error.exists() else status)
    check_end(node, home, when)


def test_without_a_crash(node: Node, tmp_path: Path) -> None:
    home = new_home(tmp_path)
    assert node.live(home)[0] == 0
    check_end(node, home, "no crash")


@pytest.mark.parametrize("boundary", list(Boundary))
def test_killed_at_every_boundary(node: Node, tmp_path: Path, boundary: Boundary) -> None:
    killed = 0
    for nth in range(1, 100):
        home, when = new_home(tmp_path), f"{boundary} {nth}"
        status, _ = node.live(home, fault=[boundary, nth])
        if status == 0:
            check_end(node, home, when)
            break
        assert status == KILLED, (when, (home / "error").read_text())
        killed += 1
        finish(node, home, when)
    assert killed >= 15


def test_killed_again_while_recovering(node: Node, tmp_path: Path) -> None:
    dice = random.Random(7)
    for _ in range(LOOPS):
        home, deaths = new_home(tmp_path), []
        while len(deaths) < 3:  # more would be a crash loop, which is parked
            boundary, nth = dice.choice(list(Boundary)), dice.randint(1, 8)
            deaths.append(f"{boundary} {nth}")
            status, _ = node.live(home, fault=[boundary, nth])
            check_crash(node, home, str(deaths))
            if status == 0:
                break
            assert status == KILLED, (deaths, (home / "error").read_text())
        if not (home / "answer").exists():
            finish(node, home, str(deaths))
        check_end(node, home, str(deaths))


def test_killed_at_any_time(node: Node, tmp_path: Path) -> None:
    _, whole_s = node.live(new_home(tmp_path))
    dice = random.Random()
    for _ in range(LOOPS):
        home = new_home(tmp_path)
        deaths = []
        while len(deaths) < 3 and not (home / "answer").exists():
            deaths.append(dice.uniform(0, whole_s * 1.1))
            status, _ = node.live(home, kill_after_s=deaths[-1])
            assert status in (KILLED, 0), (deaths, (home / "error").read_text())
        finish(node, home, str(deaths))
