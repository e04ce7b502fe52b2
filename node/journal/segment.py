"""Segment files: one epoch of the log each, and the scan that takes their bytes apart.

A segment is named by the index of its first entry. It holds the entries of one epoch, signed by
one key, at most 65,536 of them; its last line, once it is sealed, is the commit that names the
next epoch's key. Lines are entries, which start with `{"v":1,"i":N,"ts":` where N is their
position, and commits, which start with `=`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from array import array
from dataclasses import dataclass, field
from pathlib import Path

from node.errors import JournalDamagedError, JournalError
from node.journal.entry import MAX_ENTRY_BYTES
from node.journal.hashes import HashFiles
from node.journal.note import Checkpoint, VerifierKey, commit_line
from node.journal.tree import Frontier

SEGMENT_ENTRIES = 65_536
_CHUNK = 1 << 20


def segment_path(folder: Path, first: int) -> Path:
    """`<first index, 12 digits>.jsonl`."""
    return folder / f"{first:012d}.jsonl"


def segments(folder: Path) -> list[int]:
    """First indices of the segments in a folder, in order."""
    names = (path.stem for path in folder.glob("*.jsonl"))
    return sorted(int(name) for name in names if len(name) == 12 and name.isdecimal())


@dataclass(frozen=True)
class Commit:
    """A commit line that fits the entries before it. Its signature is not checked by the scan."""

    checkpoint: Checkpoint
    offset: int
    end: int

    @property
    def sealed_for(self) -> str | None:
        """In a sealing commit, the next epoch's vkey."""
        return self.checkpoint.extension("next")


@dataclass
class Scan:
    """What is known of a segment after its last good commit.

    `wrong` says what ended the scan, at byte `wrong_at`; empty at the end of the file.
    """

    first: int
    frontier: Frontier
    chain: bytes
    commits: list[Commit] = field(default_factory=list)
    offsets: array[int] = field(default_factory=lambda: array("Q"))
    wrong: str = ""
    wrong_at: int = 0

    @property
    def last(self) -> Commit | None:
        """The last good commit."""
        return self.commits[-1] if self.commits else None

    @property
    def end(self) -> int:
        """Bytes up to and with the last good commit."""
        return self.commits[-1].end if self.commits else 0


def previous_hash(line: bytes) -> bytes:
    """What the next commit's `prev` says of a commit line (newline not counted)."""
    return hashlib.sha256(line).digest()


def scan(
    path: Path, start: Frontier, chain: bytes, origin: str, hashes: HashFiles | None = None
) -> Scan:
    """Reads a segment and checks every entry's place and every commit's text.

    Args:
        path: the segment file.
        start: the tree before the segment's first entry.
        chain: hash of the commit line before it; 32 zero bytes in a new log.
        origin: the log's.
        hashes: where to keep leaf and tile hashes as they are met.

    Raises:
        JournalError: the file cannot be read.
    """
    found = Scan(start.size, start.copy(), chain)
    try:
        _scan(path, found, origin, hashes)
    except OSError as error:
        raise JournalError(f"cannot read {path}: {error.strerror}") from error
    if hashes is not None:
        hashes.cut(found.frontier.size)
    del found.offsets[found.frontier.size - found.first :]
    return found


def _scan(path: Path, found: Scan, origin: str, hashes: HashFiles | None) -> None:
    running = found.frontier.copy()
    push = running.push if hashes is None else None
    at, carry = 0, b""
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            lines = (carry + chunk).split(b"\n")
            carry = lines.pop()
            for line in lines:
                if line[:1] == b"=":
                    found.wrong = _commit(found, running, line, at, origin)
                else:
                    found.wrong = check_entry(line, running.size)
                    leaf = hashlib.sha256(b"\0" + line).digest()
                    found.offsets.append(at)
                    if push:
                        push(leaf)
                    elif hashes:
                        hashes.push(running, leaf)
                if found.wrong:
                    found.wrong_at = at
                    return
                at += len(line) + 1
            if len(carry) > MAX_ENTRY_BYTES + 1:
                found.wrong, found.wrong_at = "a line is too long", at
                return
    if at > found.end or carry:
        found.wrong, found.wrong_at = "entries without a commit", found.end


def check_entry(line: bytes, index: int) -> str:
    """What is wrong with an entry's line, judged without parsing it."""
    if not line.startswith(b'{"v":1,"i":%d,"ts":' % index) or line[-1:] != b"}":
        return f"where entry {index} belongs there is another line"
    if len(line) > MAX_ENTRY_BYTES:
        return f"entry {index} is over {MAX_ENTRY_BYTES} bytes"
    return ""


def _commit(found: Scan, running: Frontier, line: bytes, at: int, origin: str) -> str:
    if found.last and found.last.sealed_for:
        return "a line follows the seal"
    try:
        point = read_commit(line)
    except JournalDamagedError as error:
        return f"a commit cannot be read: {error.message}"
    if point.origin != origin:
        return f"a commit is of another log, {point.origin!r}"
    if point.size != running.size or point.root != running.root():
        return "a commit does not fit its entries"
    if point.extension("prev") != base64.b64encode(found.chain).decode():
        return "a commit does not follow the one before it"
    found.chain = previous_hash(line)
    found.frontier = running.copy()
    found.commits.append(Commit(point, at, at + len(line) + 1))
    return ""


def read_commit(line: bytes) -> Checkpoint:
    """The checkpoint of a commit line without its newline. Raises JournalDamagedError."""
    try:
        note = base64.b64decode(line[1:], validate=True)
    except binascii.Error as error:
        raise JournalDamagedError("a commit line is not base64") from error
    if commit_line(note) != line:
        raise JournalDamagedError("a commit line is not canonical base64")
    return Checkpoint.parse(note)


def last_commit(path: Path) -> tuple[bytes, Checkpoint]:
    """The last line of a sealed segment, which must be a commit. Raises JournalDamagedError."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 8192))
        tail = file.read()
    line = tail[:-1].rpartition(b"\n")[2]
    if tail[-1:] != b"\n" or line[:1] != b"=":
        raise JournalDamagedError(f"{path.name} is not sealed by a commit")
    return line, read_commit(line)


def torn(path: Path, found: Scan, key: VerifierKey) -> bool:
    """Whether what follows the last good commit can be a write cut short.

    A cut write is the beginning of a commit: whole entries in their places, then at most part of
    a line; or, after a power cut, blocks of zeros. Anything else, and any commit of a later size
    that the epoch's key signed, means that what was once whole was changed.
    """
    with path.open("rb") as file:
        file.seek(found.end)
        tail = file.read()
    *lines, rest = tail.split(b"\n")
    if any(_signed_later(line, found, key) for line in [*lines, rest, rest[:-1]]):
        return False
    if b"\0" in tail:
        return True
    entries = all(not check_entry(x, found.frontier.size + n) for n, x in enumerate(lines))
    return entries


def _signed_later(line: bytes, found: Scan, key: VerifierKey) -> bool:
    if line[:1] != b"=":
        return False
    try:
        point = read_commit(line)
        return point.size >= found.frontier.size and point.signed_by(key)
    except JournalDamagedError:
        return False
