"""Keeps the folder of compiled code within a size: what was used longest ago goes first.

Code is copied when it is loaded, so removing its file never disturbs a component that runs; it is
compiled again when it is next loaded. Files of another version of the engine count like any other,
so an upgrade's leftovers go in their turn. Several processes may prune one folder at once.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

CODE, NOTE, UNFINISHED = ".cwasm", ".json", ".tmp"
_ABANDONED_S = 3600.0


def touch(code: Path) -> None:
    """Notes that a file of code was used now."""
    with suppress(OSError):
        os.utime(code)


def prune(folder: Path, most_bytes: int, *, keep: Path) -> None:
    """Removes the code used longest ago until at most `most_bytes` are left, but never `keep`.

    Also removes what a compiler that was killed left behind an hour ago.
    """
    found = sorted(_entries(folder), reverse=True)
    total = 0
    for _, size, code in found:
        total += size
        if total > most_bytes and code != keep:
            total -= size
            code.unlink(missing_ok=True)
            code.with_suffix(NOTE).unlink(missing_ok=True)


def _entries(folder: Path) -> list[tuple[float, int, Path]]:
    """When each file of code was used, its size and path."""
    entries: list[tuple[float, int, Path]] = []
    for path in folder.iterdir():
        with suppress(FileNotFoundError):
            facts = path.lstat()
            if path.suffix == CODE:
                entries.append((facts.st_mtime, facts.st_size, path))
            elif path.suffix == UNFINISHED and time.time() - facts.st_mtime > _ABANDONED_S:
                path.unlink()
    return entries
