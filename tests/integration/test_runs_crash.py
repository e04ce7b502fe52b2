"""A run killed at every boundary of the journal, and at any time, ends as if it had not been.

The same answer, no effect twice, and a log that verifies after each crash. The number of random
kills comes from FREEHOLD_CRASH_LOOPS.
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

CHILD = "crash_child.py"
KILLED = -signal.SIGKILL
Live = Callable[..., tuple[int, float]]
LOOPS = int(os.environ.get("FREEHOLD_CRASH_LOOPS", "5"))
ANSWER = '["pass","polite",{"added":1},3000,{"added":2},{"added":3},{"added":4},true,"pass"]'


def new_home(tmp_path: Path) -> Path:
    home = tmp_path / "home"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir()
    return home


def check_log(home: Path, when: str) -> None:
    report = verify(home / "journal")
    assert report.internal is Verdict.VERIFIED, (when, report.problems)


def check_torn(home: Path, when: str) -> None:
    """Right after a crash the log may end in half a commit; nothing before that is in doubt."""
    report = verify(home / "journal")
    if report.internal is not Verdict.VERIFIED:
        torn = "cut short" in report.problems[0] and report.internal is Verdict.UNKNOWN
        unborn = "no commit at all" in report.problems[-1] or not report.origin
        assert torn or unborn, (when, report.problems)
        assert torn or not counted(home), when


def counted(home: Path) -> Counter[str]:
    file = home / "count"
    lines = file.read_text().splitlines() if file.exists() else []
    return Counter(json.loads(line)["key"] for line in lines)


def check_end(home: Path, when: str) -> None:
    """The same answer as without the crash, each effect once, a log that verifies."""
    error = home / "error"
    assert not error.exists(), (when, error.read_text())
    answer = json.loads((home / "answer").read_text())
    assert (answer["status"], answer["text"]) == ("completed", ANSWER), (when, answer)
    counts = counted(home)
    assert sorted(counts.values()) == [1] * 5, (when, counts)
    check_log(home, when)


def finish(live: Live, home: Path, when: str) -> None:
    """Checks what the crash left, and lets the next life end the run."""
    check_torn(home, when)
    assert max(counted(home).values(), default=0) <= 1, when
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
    dice = random.Random(7)
    for _ in range(LOOPS):
        home, deaths = new_home(tmp_path), []
        while len(deaths) < 3:  # more would be a crash loop, which is parked
            boundary, nth = dice.choice(list(Boundary)), dice.randint(1, 8)
            deaths.append(f"{boundary} {nth}")
            status, _ = live(home, fault=[boundary, nth])
            check_torn(home, str(deaths))
            if status == 0:
                break
            assert status == KILLED, (deaths, (home / "error").read_text())
        if not (home / "answer").exists():
            finish(live, home, str(deaths))
        check_end(home, str(deaths))


def test_killed_at_any_time(live: Live, tmp_path: Path) -> None:
    _, whole_s = live(new_home(tmp_path))
    dice = random.Random()
    for _ in range(LOOPS):
        home = new_home(tmp_path)
        deaths = []
        while len(deaths) < 3 and not (home / "answer").exists():
            deaths.append(dice.uniform(0, whole_s * 1.1))
            status, _ = live(home, kill_after_s=deaths[-1])
            assert status in (KILLED, 0), (deaths, (home / "error").read_text())
        finish(live, home, str(deaths))
