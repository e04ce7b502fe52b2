"""Stable storage: what is still there after a power cut, whole files above all. And who may write
to it: one process.

On Linux fsync(2) and fdatasync(2) empty the drive's own cache too. On macOS they leave it be, and
only fcntl(2)'s F_FULLFSYNC does it; file systems that do not know that are told by fsync.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import fnmatch
import os
import re
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

_FULL: int | None = getattr(fcntl, "F_FULLFSYNC", None)
_UNKNOWN: Final = frozenset({errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOTTY})
# what a file system without hard links, or without modes, answers: that of most USB sticks
_UNTAKEN: Final = frozenset(
    {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
)
_UNFINISHED = re.compile(r"\..+\.[0-9a-f]{16}\.tmp", re.DOTALL)
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


def is_unfinished(path: Path) -> bool:
    """Whether it is named as what `private_file` writes, or left when it was killed."""
    return _UNFINISHED.fullmatch(path.name) is not None


@contextlib.contextmanager
def private_file(path: Path, *, replace: bool = True) -> Iterator[BinaryIO]:
    """A file written beside `path`, 0600, that takes its name only once it is whole and durable.

    Readers see the old file or the new one. With `replace` False an existing file is kept.

    Raises:
        FileExistsError: `path` exists and may not be replaced.
        OSError: it cannot be written, and names it; nothing has changed then.
    """
    if not replace and path.exists():
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        with contextlib.ExitStack() as end:
            end.callback(temporary.unlink, missing_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
            with open(os.open(temporary, flags, 0o600), "wb") as file:
                with _tolerated():
                    os.fchmod(file.fileno(), 0o600)
                yield file
                file.flush()
                sync(file.fileno())
            if replace:
                temporary.replace(path)
            else:
                _name_new(temporary, path)
        sync_folder(path.parent)
    except OSError as error:
        if error.filename in (None, str(temporary)):  # a write names none, and nobody knows ours
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def _name_new(temporary: Path, path: Path) -> None:
    """Gives a file a name that nothing has yet. Raises FileExistsError."""
    with _tolerated():
        os.link(temporary, path)
        return
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600))
    temporary.replace(path)  # of the empty file that has just been made


@contextlib.contextmanager
def _tolerated() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _UNTAKEN:
            raise


def write_private(path: Path, content: bytes, *, replace: bool = True) -> None:
    """Puts content at `path`, as `private_file` does."""
    with private_file(path, replace=replace) as file:
        file.write(content)
