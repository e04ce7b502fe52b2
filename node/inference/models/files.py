"""Files that must be what they were: identity, digest, changes by one process at a time."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Final

from node.errors import ModelError

KEEP_FREE_BYTES: Final = 512 << 20  # of a disk: the log needs room, and other programs do
_BLOCK_BYTES: Final = 1 << 20

Identity = tuple[int, ...]
Progress = Callable[[int, int], None]


def identity(stat: os.stat_result) -> Identity:
    """What changes when a file is replaced or written: device, inode, size, mtime, ctime (ns)."""
    return (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)


@contextlib.contextmanager
def changing(path: Path) -> Iterator[None]:
    """One process at a time changes the file; the others wait. Its folder is made.

    Raises:
        ModelError: the disk refuses, here or in what is done meanwhile.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (path.parent / f".{path.name}.held").open("wb") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            yield
    except OSError as error:
        raise ModelError(
            f"cannot write {error.filename or path}: {error.strerror}",
            hint="Is the disk full or read-only?",
        ) from error


def digest(
    file: BinaryIO, progress: Progress | None = None, copy: BinaryIO | None = None
) -> tuple[str, int]:
    """SHA-256 (hex) and size of what is left in `file`, copied on the way if asked.

    `progress` is given the bytes done and in all, after each MiB.
    """
    total, done = os.fstat(file.fileno()).st_size, 0
    hasher = hashlib.sha256()
    for block in _blocks(file):
        hasher.update(block)
        if copy is not None:
            copy.write(block)
        done += len(block)
        if progress is not None:
            progress(done, total)
    return hasher.hexdigest(), done


def _blocks(file: BinaryIO) -> Iterator[bytes]:
    """What is left in a file. Raises OSError, which names it: a copy may be written meanwhile."""
    try:
        while block := file.read(_BLOCK_BYTES):
            yield block
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(file.name)) from error
