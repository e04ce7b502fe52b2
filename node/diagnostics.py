"""The daemon's own diagnostics: a file that stays small while it runs, and how to read it.

`freehold up --detach` and launchd give the daemon `run/daemon.log` as its standard error. The
daemon then turns that file over itself, and takes standard output and error along, so that what
native code and a dying interpreter say is in the newest file too. In the foreground and under
systemd standard error belongs to somebody else and is left alone.
"""

from __future__ import annotations

import logging
import os
import sys
from collections import deque
from collections.abc import Callable, Iterator
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import TextIO

KEEP_BYTES = 1_000_000
OLDER = ".1"


class DiagnosticsFile(RotatingFileHandler):
    """Writes `path` up to `keep_bytes`, then goes on in a new one; the last one is kept beside it.

    `streams` are file descriptors that are to follow to the new file.
    """

    def __init__(self, path: Path, *, keep_bytes: int, streams: tuple[int, ...] = ()) -> None:
        self._streams = streams
        super().__init__(path, maxBytes=keep_bytes, backupCount=1, encoding="utf-8")

    def doRollover(self) -> None:  # noqa: N802
        super().doRollover()
        if self.stream is not None:
            for number in self._streams:
                os.dup2(self.stream.fileno(), number)


def handler(path: Path, *, keep_bytes: int = KEEP_BYTES) -> logging.Handler:
    """Where the daemon's diagnostics go: `path` if that is our standard error, else there."""
    streams = tuple(number for number in (1, 2) if _is_open_on(number, path))
    if 2 not in streams:
        return logging.StreamHandler(sys.stderr)
    return DiagnosticsFile(path, keep_bytes=keep_bytes, streams=streams)


def _is_open_on(number: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(number), path.stat())
    except OSError:
        return False


def tail(path: Path, count: int) -> Iterator[str]:
    """The last lines, across a turn-over. Raises OSError if `path` cannot be read."""
    lines: deque[str] = deque(maxlen=max(0, count))
    older = path.with_name(path.name + OLDER)
    for file in (older, path):
        if file == path or file.exists():
            lines.extend(file.read_text("utf-8", errors="replace").splitlines())
    return iter(lines)


def follow(path: Path, wait: Callable[[], None]) -> Iterator[str]:
    """What is written to `path` from now on, in pieces, also after it was turned over.

    Args:
        wait: called when there is nothing new; raise in it to end.

    Raises:
        OSError: `path` cannot be read.
    """
    file = _opened(path)
    file.seek(0, os.SEEK_END)
    try:
        while True:
            text = file.read()
            if text:
                yield text
            elif _is_current(file, path):
                wait()
            else:
                text = file.read()  # what came between the last look and the turn-over
                file.close()
                file = _opened(path)
                yield text
    finally:
        file.close()


def _opened(path: Path) -> TextIO:
    return path.open(encoding="utf-8", errors="replace")


def _is_current(file: TextIO, path: Path) -> bool:
    """Whether `path` is still the open file, as long as there is one, and has not been cut."""
    try:
        now, ours = path.stat(), os.fstat(file.fileno())
    except FileNotFoundError:
        return True  # between the old name and the new one
    return os.path.samestat(now, ours) and now.st_size >= os.lseek(file.fileno(), 0, os.SEEK_CUR)
