"""Files that must be what they were, or whole: identity, digest, replacement."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Final

from node.disk import sync, sync_folder

KEEP_FREE_BYTES: Final = 512 << 20  # of a disk: the log needs room, and other programs do
_BLOCK_BYTES: Final = 1 << 20

Identity = tuple[int, ...]
Progress = Callable[[int, int], None]


def identity(stat: os.stat_result) -> Identity:
    """What changes when a file is replaced or written: device, inode, size, mtime, ctime (ns)."""
    return (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)


def digest(
    file: BinaryIO, progress: Progress | None = None, copy: BinaryIO | None = None
) -> tuple[str, int]:
    """SHA-256 (hex) and size of what is left in `file`, copied on the way if asked.

    `progress` is given the bytes done and in all, after each MiB.
    """
    total, done = os.fstat(file.fileno()).st_size, 0
    hasher = hashlib.sha256()
    while block := file.read(_BLOCK_BYTES):
        hasher.update(block)
        if copy is not None:
            copy.write(block)
        done += len(block)
        if progress is not None:
            progress(done, total)
    return hasher.hexdigest(), done


@contextlib.contextmanager
def replacing(target: Path, mode: int = 0o600) -> Iterator[BinaryIO]:
    """A file that becomes `target` when the block ends, whole and durable, or never was."""
    descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fchmod(file.fileno(), mode)
            sync(file.fileno())
        Path(temporary).replace(target)
        sync_folder(target.parent)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
