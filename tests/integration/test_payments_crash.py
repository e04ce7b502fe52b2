"""A run that pays, killed at every boundary of the journal, pays everything once.

The oracle is the file that the purse's double writes at the moment money moves: whatever the log
says, and however often the node died, each payment is in it once, and what the log booked is what
the file adds up to. The number of random deaths comes from FREEHOLD_CRASH_LOOPS.
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
from collections.abc import Iterator
from pathlib import Path

import pytest

from node.journal import Boundary, Verdict, verify

ROOT = Path(__file__).resolve().parents[2]
KILLED = -signal.SIGKILL
LOOPS = int(os.environ.get("FREEHOLD_CRASH_LOOPS", "5"))
ANSWER = '[7,9,"bought a and b","PolicyDeniedError"]'
MADE = {"1": 7, "2": 9, "3.402.1": 10, "3.402.2": 20, "3.402.3": 5}
FEES = len(MADE) + 1  # one each, and one for taking the last one back
MSAT = (7 + 9 + 10 + 20 + FEES) * 1000


class Node:
    """Lives of a node, one process each."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("crash_pay_child.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )

    def live(self, home: Path, **how: object) -> int:
        """One life; its exit status."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"home": str(home), **how}) + "\n")
        self._process.stdin.flush()
        return int(json.loads(self._process.stdout.readline())["status"])

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    found = Node()
    yield found
    found.close()


def new_home(tmp_path: Path) -> Path:
    home = tmp_path / "home"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir()
    return home


def happened(home: Path, what: str) -> list[tuple[str, int]]:
    """What really happened: the step's path and the amount, in order."""
    file = home / "paid"
    lines = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    return [
        (each["key"].partition(":")[2], each["amount"]) for each in lines if each["what"] == what
    ]


def check_once(home: Path, when: str) -> None:
    """Nothing was paid twice, at any time."""
    counts = Counter(path for path, _ in happened(home, "made"))
    assert max(counts.values(), default=0) <= 1, (when, counts)


def check_end(home: Path, when: str) -> None:
    """The same answer and the same money as without the crash, and a log that verifies."""
    error = home / "error"
    assert not error.exists(), (when, error.read_text())
    answer = json.loads((home / "answer").read_text())
    assert (answer["status"], answer["text"]) == ("completed", ANSWER), (when, answer)
    assert sorted(happened(home, "made")) == sorted(MADE.items()), when
    assert {path for path, _ in happened(home, "took")} == {"3.402.3"}, when
    assert answer["msat"] == MSAT, (when, answer["msat"])
    report = verify(home / "journal")
    assert report.internal is Verdict.VERIFIED, (when, report.problems)


def finish(node: Node, home: Path, when: str) -> None:
    """Lets the next life end the run."""
    check_once(home, when)
    status = node.live(home)
    error = home / "error"
    assert status == 0, (when, error.read_text() if error.exists() else status)
    check_end(home, when)


def test_without_a_crash(node: Node, tmp_path: Path) -> None:
    home = new_home(tmp_path)
    assert node.live(home) == 0
    check_end(home, "no crash")


@pytest.mark.parametrize("boundary", list(Boundary))
def test_killed_at_every_boundary(node: Node, tmp_path: Path, boundary: Boundary) -> None:
    killed = 0
    for nth in range(1, 100):
        home, when = new_home(tmp_path), f"{boundary} {nth}"
        status = node.live(home, fault=[boundary, nth])
        if status == 0:
            check_end(home, when)
            break
        assert status == KILLED, (when, (home / "error").read_text())
        killed += 1
        finish(node, home, when)
    assert killed >= 15


def test_killed_again_while_recovering(node: Node, tmp_path: Path) -> None:
    dice = random.Random(11)
    for _ in range(LOOPS):
        home, deaths = new_home(tmp_path), []
        while len(deaths) < 3:  # more would be a crash loop, which is parked
            boundary, nth = dice.choice(list(Boundary)), dice.randint(1, 12)
            deaths.append(f"{boundary} {nth}")
            status = node.live(home, fault=[boundary, nth])
            check_once(home, str(deaths))
            if status == 0:
                break
            assert status == KILLED, (deaths, (home / "error").read_text())
        if not (home / "answer").exists():
            finish(node, home, str(deaths))
        check_end(home, str(deaths))
