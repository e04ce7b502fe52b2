"""The daemon's own log file: bounded while it runs, and read across a turn-over."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from node.diagnostics import DiagnosticsFile, follow, handler, tail

TALKATIVE = """
import logging, os, sys
from pathlib import Path
from node.diagnostics import handler
path = Path(sys.argv[1])
logging.basicConfig(handlers=[handler(path, keep_bytes=1000)], level="INFO", format="%(message)s")
for number in range(200):
    logging.info("line %d", number)
os.write(2, b"the last words of native code\\n")
print("and of Python", flush=True)
"""


def test_it_stays_small_and_takes_standard_error_along(tmp_path: Path) -> None:
    path = tmp_path / "daemon.log"
    with path.open("ab") as log:
        done = subprocess.run(
            [sys.executable, "-c", TALKATIVE, str(path)], stdout=log, stderr=log, check=False
        )
    assert done.returncode == 0
    assert sorted(file.name for file in tmp_path.iterdir()) == ["daemon.log", "daemon.log.1"]
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 2200
    *_, last, native, python = path.read_text().splitlines()
    assert (last, native) == ("line 199", "the last words of native code")
    assert python == "and of Python"
    lines = [f"line {number}" for number in range(190, 200)]
    assert [*tail(path, 12)] == [*lines, native, python]


def test_standard_error_that_is_not_the_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "daemon.log"
    assert type(handler(path)) is logging.StreamHandler
    path.write_text("of an earlier daemon\n")
    assert type(handler(path)) is logging.StreamHandler


def test_the_last_lines_are_read_across_a_turn_over(tmp_path: Path) -> None:
    path = tmp_path / "daemon.log"
    with pytest.raises(FileNotFoundError):
        tail(path, 3)
    path.write_bytes(b"3\n\xff4\n")
    assert [*tail(path, 5)] == ["3", "\ufffd4"]
    (tmp_path / "daemon.log.1").write_text("1\n2\n")
    assert [*tail(path, 3)] == ["2", "3", "\ufffd4"]
    assert [*tail(path, 0)] == []


class EndedError(Exception):
    """The script of a test is over."""


def doing(*steps: Callable[[], object]) -> Callable[[], None]:
    """Each wait for news does the next thing; the last one ends it."""
    left: Iterator[Callable[[], object]] = iter(steps)

    def wait() -> None:
        step = next(left, None)
        if step is None:
            raise EndedError
        step()

    return wait


def followed(path: Path, *steps: Callable[[], object]) -> str:
    found: list[str] = []
    with pytest.raises(EndedError):
        found.extend(follow_into(path, found, doing(*steps)))
    return "".join(found)


def follow_into(path: Path, found: list[str], wait: Callable[[], None]) -> Iterator[str]:
    for text in follow(path, wait):
        found.append(text)
    yield from ()


def test_it_is_followed_from_its_end_across_turn_overs(tmp_path: Path) -> None:
    path = tmp_path / "daemon.log"
    path.write_text("before\n")
    file = DiagnosticsFile(path, keep_bytes=1000)

    def say(text: str) -> None:
        file.stream.write(f"{text}\n")
        file.stream.flush()

    def turned() -> None:
        say("unseen as yet")
        file.doRollover()
        say("in the new one")

    def cut() -> None:
        os.truncate(path, 0)
        say("cut")

    def away() -> None:
        path.rename(tmp_path / "elsewhere")

    back = tmp_path / "elsewhere"
    said = followed(path, lambda: say("one"), turned, away, lambda: back.rename(path), cut)
    file.close()
    assert said == "one\nunseen as yet\nin the new one\ncut\n"


def test_diagnostics_are_utf_8_whatever_the_locale(tmp_path: Path) -> None:
    path = tmp_path / "d.log"
    path.write_text("grün\n", "utf-8")
    code = "import sys; from pathlib import Path; from node.diagnostics import tail\n"
    code += "print(ascii([*tail(Path(sys.argv[1]), 1)]))"
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    said = subprocess.check_output(
        [sys.executable, "-c", code, str(path)], env={**os.environ, **plain}, text=True
    )
    assert said == "['gr\\xfcn']\n"
