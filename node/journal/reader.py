"""Reads entries of a journal's folder, with or without its writer running."""

from __future__ import annotations

import bisect
import os
import re
from array import array
from collections.abc import Iterator
from contextlib import suppress
from json.encoder import encode_basestring
from pathlib import Path
from typing import BinaryIO

from node.errors import JournalDamagedError, JournalError, JournalReadError
from node.journal.entry import parse
from node.journal.note import Checkpoint
from node.journal.segment import read_commit, segment_path, segments, written_end
from node.journal.storage import READ_HINT
from node.journal.types import Entry

_BEFORE_RUN = 256  # the type of an entry stands well before this many bytes
_LINE = re.compile(rb'\n(?:=[^\n]*\n)*\{"v":1,"i":(\d{1,19}),')
_NEAR = 2048
_REACH = 1 << 17  # more than an entry and the commit before it


class LogReader:
    """Entries by index. What it reads is parsed strictly, but verified by nobody here.

    Args:
        folder: the journal's.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._firsts: list[int] = []
        self._size: int | None = None
        self._live: tuple[int, array[int]] = (-1, array("Q"))
        self.refresh()

    def refresh(self) -> None:
        """Looks at the folder again, as a writer may have gone on."""
        self._firsts, self._size = segments(self.folder), None

    def follow(self, first: int, offsets: array[int]) -> None:
        """Takes the offsets of the segment being written from its writer, who lets them grow."""
        if first not in self._firsts:
            self._firsts = [*self._firsts, first]
        self._live = (first, offsets)  # last: other threads read what `size` says there is

    @property
    def start(self) -> int:
        """Index of the first entry that was not pruned away."""
        return self._firsts[0] if self._firsts else 0

    @property
    def size(self) -> int:
        """Entries covered by a commit. Raises JournalError where there is none."""
        first, offsets = self._live
        if first >= 0:
            return first + len(offsets)
        if self._size is None:
            self._size = Checkpoint.parse(tip_checkpoint(self.folder)).size
        return self._size

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

        With `types`, those of these types only; the others are not parsed.
        """
        marks = [f',"type":"{name}",'.encode() for name in types]
        for index, raw in enumerate(self.lines(start, end), start):
            if not marks or any(mark in raw[:_BEFORE_RUN] for mark in marks):
                entry = parse(raw, index)
                if not types or entry.type in types:  # a mark may also stand in the data
                    yield entry

    def run_entries(self, run: str) -> list[Entry]:
        """All entries of a run, in order; the others are not parsed."""
        mark = f'"run":{encode_basestring(run)},'.encode()
        lines = enumerate(self.lines(self.start), self.start)
        found = (parse(raw, index) for index, raw in lines if mark in raw)
        return [entry for entry in found if entry.draft.run == run]

    def lines(self, start: int, end: int | None = None) -> Iterator[bytes]:
        """Lines of the entries [start, end). Raises JournalError where one is not there."""
        size = self.size
        end = size if end is None else end
        if start < end and (end > size or start < self.start):
            missing = start if start < self.start else max(start, size)
            hint = "It was pruned away." if start < self.start else ""
            raise JournalError(f"there is no entry {missing} in this log", hint=hint)
        while start < end:
            place = bisect.bisect_right(self._firsts, start)
            stop = min([end, *self._firsts[place : place + 1]])
            yield from self._read(self._firsts[place - 1], start, stop)
            start = stop

    def _read(self, first: int, start: int, stop: int) -> Iterator[bytes]:
        live, offsets = self._live
        try:
            with segment_path(self.folder, first).open("rb") as file:
                at = offsets[start - first] if first == live else find_entry(file, first, start)
                file.seek(at)
                while start < stop:
                    line = file.readline(_REACH)
                    if not line:
                        raise JournalDamagedError(f"entry {start} is missing from its segment")
                    if line[:1] != b"=":
                        yield line.removesuffix(b"\n")
                        start += 1
        except OSError as error:
            raise JournalReadError(
                f"cannot read segment {first}: {error.strerror}", hint=READ_HINT
            ) from error


def find_entry(file: BinaryIO, first: int, index: int) -> int:
    """Where an entry, or a commit line just before it, begins in a segment, by bisection.

    Lines say which entry they are, so a sealed segment needs no table of offsets.

    Raises:
        JournalDamagedError: it is not found.
    """
    low, high = 0, os.fstat(file.fileno()).st_size
    while index != first:
        middle = (low + high) // 2
        found = _line_after(file, middle)
        here = int(found[1]) if found else index + 1
        if found and here == index:
            return middle + found.start() + 1
        if low == middle:
            raise JournalDamagedError(f"entry {index} is missing from its segment")
        low, high = (middle, high) if here < index else (low, middle)
    return 0


def _line_after(file: BinaryIO, at: int) -> re.Match[bytes] | None:
    near = _LINE.search(os.pread(file.fileno(), _NEAR, at))
    return near or _LINE.search(os.pread(file.fileno(), _REACH, at))


def tip_checkpoint(folder: Path) -> bytes:
    """The note of the last commit line in a folder, unverified. Raises JournalError."""
    for first in reversed(segments(folder)):
        note = _last_note(segment_path(folder, first))
        if note:
            return note
    raise JournalError(f"there is no log in {folder}")


def _last_note(path: Path) -> bytes:
    reach = 1 << 16
    while True:
        with path.open("rb") as file:
            size = written_end(file)
            raw = os.pread(file.fileno(), min(reach, size), max(0, size - reach))
        note = _last_note_of(raw.split(b"\n")[:-1], whole=reach >= size)
        if note or reach >= size:
            return note
        reach *= 16


def _last_note_of(lines: list[bytes], *, whole: bool) -> bytes:
    """The note of the last commit whose lines are all among these, or b"".

    A write of which a power cut left a part has zeros among its lines, and may have its commit.
    """
    found = b""
    for line in lines:
        if b"\0" in line:
            break
        if line[:1] == b"=":
            with suppress(JournalDamagedError):
                note = read_commit(line).note
                found, whole = (note if whole else b""), True
    return found
