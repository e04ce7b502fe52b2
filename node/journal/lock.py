"""One writer a log: who has it open holds the lock on a file in its folder."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path

from node.disk import lock
from node.errors import JournalBusyError


class FolderLock:
    """One writer: an exclusive lock on `<folder>/lock`, held as long as this object."""

    def __init__(self, folder: Path) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        self._fd = os.open(folder / "lock", flags, 0o600)
        if not lock(self._fd):
            holder = os.pread(self._fd, 32, 0).decode("ascii", "replace").strip()
            os.close(self._fd)
            raise JournalBusyError(
                f"the log in {folder} is being written by process {holder or 'unknown'}",
                hint="Stop that process (freehold down), or use another home.",
            )
        with suppress(OSError):  # on a full disk: the lock holds all the same
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Lets others in."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1


def is_locked(folder: Path) -> bool:
    """Whether a writer has the log open."""
    try:
        fd = os.open(folder / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(fd)
    return False
