"""Segment files: one epoch of the log each, and the scan that takes their bytes apart.

A segment is named by the index of its first entry. It holds the entries of one epoch, signed by
one key, at most 65,536 of them; its last line, once it is sealed, is the commit that names the
next epoch's key. Lines are entries, which start with `{"v":1,"i":N,"ts":` where N is their
position, and commits, which start with `=`. Behind the lines of the last segment there may be room
made ahead: zeros, which say nothing.
"""

from __future__ import annotations

import binascii
import hashlib
import os
import re
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import BinaryIO, Protocol

from node.disk import listed
from node.errors import JournalDamagedError, JournalError, JournalReadError
from node.journal.entry import MAX_ENTRY_BYTES
from node.journal.note import Checkpoint, commit_line, commit_text
from node.journal.storage import READ_HINT
from node.journal.tree import Frontier, leaf_hashes

SEGMENT_ENTRIES = 65_536
MAX_COMMIT_BYTES = 16 * 1024 * 1024
"""Most bytes of entries in one commit."""
COMMIT_LINE_BYTES = 8192
"""More than a commit's line has."""
GENESIS = bytes(32)
"""What the first commit's `prev` says."""
MAX_WRITE_BYTES = MAX_COMMIT_BYTES + SEGMENT_ENTRIES + COMMIT_LINE_BYTES
"""Most bytes of one commit's write."""
ROOM_BYTES = 1 << 18
"""Most zeros that are room made ahead."""
_CHUNK = 1 << 20
_START = b'{"v":1,"i":%d,"ts":'
_NAME = re.compile(r"[0-9]{12}\Z")
_SHAPE = (
    rb"(next NAME\+[0-9a-f]{8}\+[A-Za-z0-9+/]{44}\n)?"
    + "\n\N{EM DASH} ".encode()
    + rb"NAME [A-Za-z0-9+/]{91}=\n"
)  # of a commit's note, after `prev`


def segment_path(folder: Path, first: int) -> Path:
    """`<first index, 12 digits>.jsonl`."""
    return folder / f"{first:012d}.jsonl"


def segments(folder: Path) -> list[int]:
    """First indices of the segments in a folder, in order. Raises JournalReadError."""
    try:
        paths = listed(folder, "*.jsonl")
    except OSError as error:
        text = f"{folder} cannot be read: {error.strerror}"
        raise JournalReadError(text, hint=READ_HINT) from error
    return [int(path.stem) for path in paths if _NAME.match(path.stem)]


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit line that fits the entries before it. The scan does not check its signature."""

    line: bytes
    size: int
    end: int
    sealed: bool

    def checkpoint(self) -> Checkpoint:
        """The checkpoint in the line. Raises JournalDamagedError."""
        return read_commit(self.line)


@dataclass
class Scan:
    """What is known of a segment after its last good commit.

    `before` is the good commit before `last`. `wrong` says what ended the scan, at byte
    `wrong_at`; it is empty where the file ends with a good commit. `read` are the bytes that the
    file had before any room, where it was read to its end: a writer may have gone on since.
    """

    first: int
    frontier: Frontier
    chain: bytes
    last: Commit | None = None
    before: Commit | None = None
    wrong: str = ""
    wrong_at: int = 0
    read: int | None = None

    @property
    def end(self) -> int:
        """Bytes up to and with the last good commit."""
        return self.last.end if self.last else 0

    @property
    def doubtful(self) -> int:
        """First entry that only the last good commit covers."""
        return self.before.size if self.before else self.first


@dataclass(frozen=True, slots=True)
class Batch:
    """The entries of one commit: their lines and leaf hashes, and where in the file they begin."""

    first: int
    lines: list[bytes]
    leaves: list[bytes]
    offset: int
    commit: bytes


class Watch(Protocol):
    """Is shown a segment's batches as they are scanned, each before its commit is checked."""

    def batch(self, frontier: Frontier, batch: Batch) -> None:
        """Entries in their places. Adds their leaf hashes to the frontier."""
        ...


def previous_hash(line: bytes) -> bytes:
    """What the next commit's `prev` says of a commit line (newline not counted)."""
    return hashlib.sha256(line).digest()


def written_end(file: BinaryIO) -> int:
    """Where the room made ahead begins at the end of a segment; its length where there is none."""
    size = os.fstat(file.fileno()).st_size
    start = max(0, size - ROOM_BYTES)
    return start + len(os.pread(file.fileno(), size - start, start).rstrip(b"\0"))


def scan(
    path: Path,
    start: Frontier,
    chain: bytes,
    origin: str,
    watch: Watch | None = None,
    *,
    room: bool = False,
) -> Scan:
    """Reads a segment and checks every entry's place and every commit's text.

    Args:
        path: the segment file.
        start: the tree before the segment's first entry.
        chain: hash of the commit line before it; `GENESIS` in a new log.
        origin: the log's.
        watch: sees entries and commits.
        room: whether it may end in room made ahead, as the last segment may.

    Raises:
        JournalError: the file cannot be read.
    """
    found = Scan(start.size, start.copy(), chain)
    try:
        with path.open("rb") as file:
            end = written_end(file) if room else os.fstat(file.fileno()).st_size
            _scan(file, end, found, origin, watch)
    except OSError as error:
        raise JournalError(f"cannot read {path}: {error.strerror}") from error
    return found


def _scan(file: BinaryIO, end: int, found: Scan, origin: str, watch: Watch | None) -> None:
    scanner = Scanner(found, origin, watch)
    rest = b""
    while chunk := file.read(min(_CHUNK, end - file.tell())):
        lines = (rest + chunk).split(b"\n")
        rest = lines.pop()
        scanner.take(lines)
        if not found.wrong and (len(rest) > MAX_ENTRY_BYTES + 1 or scanner.overlong()):
            found.wrong, found.wrong_at = "a line or a commit is too long", found.end
        if found.wrong:
            return
    found.read = file.tell()
    if scanner.lines or rest:
        found.wrong, found.wrong_at = "entries without a commit", found.end


class Scanner:
    """Takes lines, gathers the entries of a commit, and checks them together."""

    def __init__(self, found: Scan, origin: str, watch: Watch | None) -> None:
        self.found, self.origin, self.watch = found, origin, watch
        self.running = found.frontier.copy()
        self.shape = re.compile(_SHAPE.replace(b"NAME", re.escape(origin).encode()))
        self.lines: list[bytes] = []

    def overlong(self) -> bool:
        """Whether more has gathered than a commit or a segment may hold."""
        entries = self.running.size + len(self.lines) - self.found.first
        return entries > SEGMENT_ENTRIES or sum(map(len, self.lines)) > MAX_COMMIT_BYTES

    def take(self, lines: list[bytes]) -> None:
        """Goes through lines, commit by commit, until one is wrong."""
        start = 0
        for place, line in enumerate(lines):
            if line[:1] == b"=":
                self.lines += lines[start:place]
                if self._commit(line):
                    return
                start = place + 1
        self.lines += lines[start:]

    def _commit(self, line: bytes) -> str:
        """Checks a commit and its entries; says what is wrong with them."""
        found, running, lines = self.found, self.running, self.lines
        first, offset = running.size, found.end
        found.wrong, found.wrong_at = self._entries(lines, first), offset
        if found.wrong:
            return found.wrong
        leaves = leaf_hashes(lines)
        if self.watch:
            self.watch.batch(running, Batch(first, lines, leaves, offset, line))
        else:
            running.extend(leaves)
        found.wrong = self._note(line)
        if found.wrong:
            return found.wrong
        end = offset + sum(map(len, lines)) + len(lines) + len(line) + 1
        found.before = found.last
        found.last = Commit(line, running.size, end, self._sealed)
        found.chain, found.frontier = previous_hash(line), running.copy()
        self.lines = []
        return ""

    def _entries(self, lines: list[bytes], first: int) -> str:
        if self.found.last and self.found.last.sealed:
            return "a line follows the seal"
        starts = map(_START.__mod__, range(first, first + len(lines)))
        if (
            all(map(bytes.startswith, lines, starts))
            and all(map(bytes.endswith, lines, repeat(b"}")))
            and max(map(len, lines), default=0) <= MAX_ENTRY_BYTES
        ):
            return ""
        return next(filter(None, map(check_entry, lines, range(first, first + len(lines)))))

    def _note(self, line: bytes) -> str:
        running = self.running
        try:
            note = binascii.a2b_base64(line[1:], strict_mode=True)
        except binascii.Error as error:
            return f"a commit is not base64: {error}"
        text = commit_text(self.origin, running.size, running.root(), self.found.chain)
        if not note.startswith(text):
            return _why_not(note, running, self.origin)
        shape = self.shape.fullmatch(note, len(text))
        if shape is None or commit_line(note) != line:
            return "a commit is not in its one form"
        self._sealed = shape[1] is not None
        return ""


def check_entry(line: bytes, index: int) -> str:
    """What is wrong with an entry's line, judged without parsing it."""
    if not line.startswith(_START % index) or line[-1:] != b"}":
        return f"where entry {index} belongs there is another line"
    if len(line) > MAX_ENTRY_BYTES:
        return f"entry {index} is over {MAX_ENTRY_BYTES} bytes"
    return ""


def _why_not(note: bytes, running: Frontier, origin: str) -> str:
    try:
        point = Checkpoint.parse(note)
    except JournalDamagedError as error:
        return f"a commit cannot be read: {error.message}"
    if point.origin != origin:
        return f"a commit is of another log, {point.origin!r}"
    if point.size != running.size or point.root != running.root():
        return "a commit does not fit its entries"
    return "a commit does not follow the one before it"


def read_commit(line: bytes) -> Checkpoint:
    """The checkpoint of a commit line without its newline. Raises JournalDamagedError."""
    try:
        note = binascii.a2b_base64(line[1:], strict_mode=True)
    except binascii.Error as error:
        raise JournalDamagedError("a commit line is not base64") from error
    if commit_line(note) != line:
        raise JournalDamagedError("a commit line is not canonical base64")
    return Checkpoint.parse(note)


def last_commit(path: Path) -> tuple[bytes, Checkpoint]:
    """The last line of a sealed segment, which must be a commit. Raises JournalDamagedError."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - COMMIT_LINE_BYTES))
        tail = file.read()
    line = tail[:-1].rpartition(b"\n")[2]
    if tail[-1:] != b"\n" or line[:1] != b"=":
        raise JournalDamagedError(f"{path.name} is not sealed by a commit")
    return line, read_commit(line)
