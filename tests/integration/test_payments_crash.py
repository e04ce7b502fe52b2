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
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from node.journal import Boundary, Verdict, verify

CHILD = "crash_pay_child.py"
KILLED = -signal.SIGKILL
Live = Callable[..., tuple[int, float]]
LOOPS = int(os.environ.get("FREEHOLD_CRASH_LOOPS", "5"))
ANSWER = '[7,9,"bought a and b","PolicyDeniedError"]'
MADE = {"1": 7, "2": 9, "3.402.1": 10, "3.402.2": 20, "3.402.3": 5}
FEES = len(MADE) + 1  # one each, and one for taking the last one back
MSAT = (7 + 9 + 10 + 20 + FEES) * 1000


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


def finish(live: Live, home: Path, when: str) -> None:
    """Lets the next life end the run."""
    check_once(home, when)
    status, _ = live(home)
    error = home / "error"
    assert status == 0, (when, error.read_text() if error.exists() else status)
    check_end(home, when)


def test_without_a_crash(live: Live, tmp_path: Path) -> None:
    home = new_home(tmp_path)
    assert live(home)[0] == 0
    check_end(home, "no crash")


@pytest.mark.parametrize("boundary", list(Boundary))
def test_killed_at_every_boundary(live: Live, tmp_path: Path, boundary: Boundary) -> None:
    killed = 0
    for nth in range(1, 100):
        home, when = new_home(tmp_path), f"{boundary} {nth}"
        status, _ = live(home, fault=[boundary, nth])
        if status == 0:
            check_end(home, when)
            break
        assert status == KILLED, (when, (home / "error").read_text())
        killed += 1
        finish(live, home, when)
    assert killed >= 15


def test_killed_again_while_recovering(live: Live, tmp_path: Path) -> None:
    dice = random.Random(11)
    for _ in range(LOOPS):
        home, deaths = new_home(tmp_path), []
        while len(deaths) < 3:  # more would be a crash loop, which is parked
            boundary, nth = dice.choice(list(Boundary)), dice.randint(1, 12)
            deaths.append(f"{boundary} {nth}")
            status, _ = live(home, fault=[boundary, nth])
            check_once(home, str(deaths))
            if status == 0:
                break
            assert status == KILLED, (deaths, (home / "error").read_text())
        if not (home / "answer").exists():
            finish(live, home, str(deaths))
        check_end(home, str(deaths))
