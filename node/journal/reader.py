"""Reads entries of a journal's folder, with or without its writer running."""

from __future__ import annotations

import bisect
import os
from array import array
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from threading import Lock

from node.errors import JournalDamagedError, JournalError
from node.journal.entry import parse
from node.journal.segment import read_commit, segment_path, segments
from node.journal.types import Entry

_CACHED_SEGMENTS = 4
_BEFORE_RUN = 256  # the type of an entry stands well before this many bytes


class LogReader:
    """Entries by index. What it reads is parsed strictly, but verified by nobody here.

    Args:
        folder: the journal's.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._firsts: list[int] = []
        self._offsets: OrderedDict[int, array[int]] = OrderedDict()
        self._live: tuple[int, array[int]] = (-1, array("Q"))
        self._lock = Lock()
        self.refresh()

    def refresh(self) -> None:
        """Looks at the folder again, as a writer may have gone on."""
        self._firsts = segments(self.folder)
        self._offsets.clear()

    def follow(self, first: int, offsets: array[int]) -> None:
        """Takes the offsets of the segment being written from its writer, who lets them grow."""
        self._live = (first, offsets)
        if first not in self._firsts:
            self._firsts = [*self._firsts, first]

    @property
    def start(self) -> int:
        """Index of the first entry that was not pruned away."""
        return self._firsts[0] if self._firsts else 0

    @property
    def size(self) -> int:
        """Entries covered by a commit."""
        if not self._firsts:
            return 0
        last = self._firsts[-1]
        return last + len(self._segment(last))

    def entry(self, index: int) -> Entry:
        """One entry.

        Raises:
            JournalError: there is no such entry (any more).
            JournalDamagedError: its line is not what it must be.
        """
        return parse(self.raw(index), index)

    def raw(self, index: int) -> bytes:
        """The line of an entry, without its newline: the leaf. Raises JournalError."""
        return next(self.lines(index, index + 1))

    def entries(
        self, start: int = 0, end: int | None = None, *, types: tuple[str, ...] = ()
    ) -> Iterator[Entry]:
        """Entries [start, end), to the end of the log where `end` is None.

        With `types`, those of these types only; the others are not even parsed.
        """
        marks = [f',"type":"{name}",'.encode() for name in types]
        for index, raw in enumerate(self.lines(start, end), start):
            if not marks or any(mark in raw[:_BEFORE_RUN] for mark in marks):
                yield parse(raw, index)

    def lines(self, start: int, end: int | None = None) -> Iterator[bytes]:
        """Lines of the entries [start, end). Raises JournalError where one is not there."""
        end = self.size if end is None else end
        while start < end:
            first = self._first_of(start)
            offsets = self._segment(first)
            stop = min(end, first + len(offsets))
            if stop <= start:
                raise _no_entry(start)
            yield from self._read(first, offsets[start - first : stop - first])
            start = stop

    def _first_of(self, index: int) -> int:
        at = bisect.bisect_right(self._firsts, index) - 1
        if at < 0:
            hint = "It was pruned away." if self._firsts else ""
            raise JournalError(f"there is no entry {index} in this log", hint=hint)
        return self._firsts[at]

    def _read(self, first: int, offsets: array[int]) -> Iterator[bytes]:
        try:
            with segment_path(self.folder, first).open("rb") as file:
                for at in offsets:
                    if file.tell() != at:
                        file.seek(at)
                    yield file.readline().removesuffix(b"\n")
        except OSError as error:
            raise JournalError(f"cannot read segment {first}: {error.strerror}") from error

    def _segment(self, first: int) -> array[int]:
        """Offsets of a segment's committed entries."""
        live, offsets = self._live
        if first == live:
            return offsets
        with self._lock:
            known = self._offsets.pop(first, None)
            if known is None:
                known = entry_offsets(segment_path(self.folder, first))
            self._offsets[first] = known
            if len(self._offsets) > _CACHED_SEGMENTS:
                self._offsets.popitem(last=False)
        return known


def entry_offsets(path: Path) -> array[int]:
    """Where the entries of a segment begin, up to its last commit line. Raises JournalError."""
    found, committed, at = array("Q"), 0, 0
    try:
        with path.open("rb") as file:
            while line := file.readline(1 << 17):
                if line[:1] == b"=" and line[-1:] == b"\n":
                    committed = len(found)
                elif line[-1:] == b"\n":
                    found.append(at)
                at += len(line)
    except OSError as error:
        raise JournalError(f"cannot read {path}: {error.strerror}") from error
    return found[:committed]


def tip_checkpoint(folder: Path) -> bytes:
    """The note of the last commit line in a folder, unverified. Raises JournalError."""
    for first in reversed(segments(folder)):
        note = _last_note(segment_path(folder, first))
        if note:
            return note
    raise JournalError(f"there is no log in {folder}")


def _last_note(path: Path) -> bytes:
    size, reach = path.stat().st_size, 1 << 16
    while True:
        with path.open("rb") as file:
            raw = os.pread(file.fileno(), reach, max(0, size - reach))
        whole = raw[: raw.rfind(b"\n") + 1].split(b"\n")
        for line in reversed(whole):
            if line[:1] == b"=":
                try:
                    return read_commit(line).note
                except JournalDamagedError:
                    continue
        if reach >= size:
            return b""
        reach *= 16


def _no_entry(index: int) -> JournalError:
    return JournalError(f"there is no entry {index} in this log")
