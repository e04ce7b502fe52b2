"""Stable storage: what is still there after a power cut. And who may write to it: one process.

On Linux fsync(2) and fdatasync(2) empty the drive's own cache too. On macOS they leave it be, and
only fcntl(2)'s F_FULLFSYNC does it; file systems that do not know that are told by fsync.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import fnmatch
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_FULL: int | None = getattr(fcntl, "F_FULLFSYNC", None)
_UNKNOWN: Final = frozenset({errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOTTY})
_LOOKS = 50
_LOOK_S = 0.01


def lock(fd: int) -> bool:
    """Takes an exclusive flock if nobody has one; says whether.

    Who only looks whether somebody has it holds it shared for a moment: that is waited out.
    """
    for _ in range(_LOOKS):
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            try:
                fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            fcntl.flock(fd, fcntl.LOCK_UN)
            time.sleep(_LOOK_S)
        else:
            return True
    return False


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[bool]:
    """Waits until nobody else is `alone` with a folder; whether its file system can tell."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        locked = True
    except OSError:  # a share may know no locks
        locked = False
    try:
        yield locked
    finally:
        os.close(descriptor)


def listed(folder: Path, pattern: str = "*") -> list[Path]:
    """What is in a folder under names that match, in order; nothing where there is no folder.

    `Path.glob` takes a folder that cannot be read, from Python 3.12 on also for want of a free
    descriptor, for an empty one.

    Raises:
        OSError: the folder cannot be read.
    """
    try:
        names = os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [folder / name for name in sorted(fnmatch.filter(names, pattern))]


def sync(fd: int) -> None:
    """Returns when a file, or a folder's names, are on stable storage. Raises OSError."""
    if _FULL is not None:
        try:
            fcntl.fcntl(fd, _FULL)
        except OSError as error:
            if error.errno not in _UNKNOWN:
                raise
        else:
            return
    os.fsync(fd)


sync_data = getattr(os, "fdatasync", sync)
"""As `sync`, but times and the like may be lost. macOS has no such call."""


def sync_folder(folder: Path) -> None:
    """Makes the names in a folder durable, where its file system (of a share, of a stick) can.

    Raises:
        OSError: the disk failed.
    """
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sync(fd)
    except OSError as error:
        if error.errno not in _UNKNOWN:
            raise
    finally:
        os.close(fd)
