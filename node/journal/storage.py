"""The file layer under the journal, as a seam: what the log asks of a disk, and a disk that fails.

`FileStorage` is the real one. `FaultyStorage` wraps it and, at the n-th time a named boundary is
reached, kills the process, raises an error or writes half: the crash and error tests of the log
and of the runs are driven through it. It ships so that users of the log can test themselves too.
"""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from node.disk import sync, sync_data, sync_folder
from node.errors import JournalError


class AppendFile(Protocol):
    """A file that grows at its end."""

    def write(self, data: bytes) -> None:
        """Appends all of `data`. Raises OSError; then any part of it may be in the file."""
        ...

    def sync(self) -> None:
        """Returns when all that was written is on stable storage. Raises OSError."""
        ...

    def truncate(self, size: int) -> None:
        """Cuts the file to `size` bytes. Raises OSError."""
        ...

    def close(self) -> None: ...


class Storage(Protocol):
    """Where the journal's files are written."""

    def open_append(self, path: Path, *, room: int = 0) -> AppendFile:
        """Opens, or creates durably with mode 0600, a file to append to.

        With `room` it ends, while it is open, in up to that many zero bytes that the next writes go
        over: a sync that finds neither a new length nor new blocks takes about half the time.
        """
        ...


class _File:
    """What is written ends at `_end`, the file at `_size`; between them are zeros."""

    def __init__(self, path: Path, room: int) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._fd, self._room = os.open(path, flags, 0o600), room
        self._end = self._size = os.fstat(self._fd).st_size
        sync_folder(path.parent)  # also where it was there: who made it may have died before this

    def write(self, data: bytes) -> None:
        at = self._end
        self._end += len(data)  # also where it fails: what is there of it stays
        self._put(data, at)
        if self._end > self._size:
            self._size = self._end
            if self._room:
                self._make_room()

    def _put(self, data: bytes, at: int) -> None:
        done = os.pwrite(self._fd, data, at)
        while done < len(data):
            done += os.pwrite(self._fd, memoryview(data)[done:], at + done)

    def _make_room(self) -> None:
        try:
            self._put(bytes(self._room), self._end)
            self._size += self._room
        except OSError:  # the disk is full, or nearly: what is written needs no room ahead
            self._room = 0
            os.ftruncate(self._fd, self._end)

    def sync(self) -> None:
        sync_data(self._fd)

    def truncate(self, size: int) -> None:
        os.ftruncate(self._fd, size)
        self._end = self._size = size
        sync(self._fd)

    def close(self) -> None:
        if self._fd >= 0:
            with suppress(OSError):  # room that is left says nothing
                if self._end < self._size == os.fstat(self._fd).st_size:
                    os.ftruncate(self._fd, self._end)
            os.close(self._fd)
        self._fd = -1


class FileStorage:
    """The machine's disk."""

    def open_append(self, path: Path, *, room: int = 0) -> AppendFile:
        return _File(path, room)


class Boundary(StrEnum):
    """Where a commit can be interrupted."""

    BEFORE_WRITE = "before-write"
    MID_WRITE = "mid-write"
    AFTER_WRITE = "after-write"
    AFTER_SYNC = "after-sync"


class Fault(StrEnum):
    """What happens there."""

    KILL = "kill"
    EIO = "eio"
    ENOSPC = "enospc"


@dataclass
class FaultyStorage:
    """A disk with one fault: at the `nth` time (from 1) that `boundary` is reached.

    Boundaries are counted over all of the journal's files that match `only` (the suffix of the
    file's name, `.jsonl` for segments). KILL is SIGKILL to this process. EIO and ENOSPC are
    raised by the write, or for AFTER_WRITE by the sync; MID_WRITE leaves half of the bytes.
    """

    fault: Fault
    boundary: Boundary
    nth: int = 1
    only: str = ".jsonl"
    inner: Storage = field(default_factory=FileStorage)
    reached: int = 0

    def open_append(self, path: Path, *, room: int = 0) -> AppendFile:
        file = self.inner.open_append(path, room=room)
        return _FaultyFile(file, self) if path.name.endswith(self.only) else file

    def reach(self, boundary: Boundary) -> None:
        """Counts a boundary, and fails if it is the one."""
        if self.due(boundary):
            self.strike()

    def due(self, boundary: Boundary) -> bool:
        """Counts, and says whether the fault is now."""
        if boundary is not self.boundary:
            return False
        self.reached += 1
        return self.reached == self.nth

    def strike(self) -> None:
        """The fault itself."""
        if self.fault is Fault.KILL:
            os.kill(os.getpid(), signal.SIGKILL)
        code = errno.EIO if self.fault is Fault.EIO else errno.ENOSPC
        raise OSError(code, os.strerror(code))


@dataclass
class _FaultyFile:
    file: AppendFile
    plan: FaultyStorage

    def write(self, data: bytes) -> None:
        self.plan.reach(Boundary.BEFORE_WRITE)
        if self.plan.due(Boundary.MID_WRITE):
            self.file.write(data[: len(data) // 2])
            self.plan.strike()
        self.file.write(data)

    def sync(self) -> None:
        self.plan.reach(Boundary.AFTER_WRITE)
        self.file.sync()
        self.plan.reach(Boundary.AFTER_SYNC)

    def truncate(self, size: int) -> None:
        self.file.truncate(size)

    def close(self) -> None:
        self.file.close()


def storage_from(environ: Mapping[str, str]) -> Storage:
    """`FileStorage`, or the fault that FREEHOLD_JOURNAL_FAULT names: `kill:after-sync:3`.

    For tests that start a real daemon. Raises JournalError where the variable is malformed.
    """
    text = environ.get("FREEHOLD_JOURNAL_FAULT", "")
    if not text:
        return FileStorage()
    try:
        fault, boundary, nth = text.split(":")
        return FaultyStorage(Fault(fault), Boundary(boundary), int(nth))
    except ValueError as error:
        raise JournalError(
            f"FREEHOLD_JOURNAL_FAULT is {text!r}",
            hint="It is FAULT:BOUNDARY:COUNT, as kill:after-sync:3; unset it outside of tests.",
        ) from error


READ_HINT = "Check the disk, and how many files the process has open; then start it again."


def make_folder(folder: Path) -> None:
    """Makes a folder of mode 0700, durably; one that is there is left as it is."""
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        return
    sync_folder(folder.parent)


def write_durably(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Replaces a file as a whole: after a crash it holds the old or the new bytes."""
    temporary = path.with_name(path.name + ".new")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    with os.fdopen(fd, "wb") as file:
        file.write(data)
        file.flush()
        sync(file.fileno())
    temporary.replace(path)
    sync_folder(path.parent)
