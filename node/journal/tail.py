"""What follows the last good commit of a log: a write that was cut short, or damage.

Only the first is mended or set aside; anything else is refused. Verification judges by the same.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from node.disk import sync
from node.errors import JournalDamagedError, JournalError, JournalVersionError
from node.journal.entry import is_later
from node.journal.keys import RELINK
from node.journal.note import VerifierKey
from node.journal.segment import (
    COMMIT_LINE_BYTES,
    MAX_WRITE_BYTES,
    Scan,
    Scanner,
    check_entry,
    read_commit,
    written_end,
)
from node.journal.storage import make_folder, write_durably
from node.journal.tree import leaf_hashes

DAMAGED = f"Restore the journal from a backup, or {RELINK}."
"""What to do about a log that is not what was signed."""
_SECTOR = 512  # bytes that a disk writes as a whole


def unfinished(path: Path, found: Scan, key: VerifierKey) -> bool:
    """Whether what follows the last good commit can be a write cut short.

    A cut write is the beginning of a commit: whole entries in their places, then at most part of
    a line; or, after a power cut, any of its sectors, and zeros for the others. A commit that lacks
    only its newline is one, too. Anything else, and any other commit that the epoch's key signed,
    means that what was once whole was changed; so does what follows a seal, or is more than a
    write.
    """
    tail = _tail(path, found)
    if len(tail) > MAX_WRITE_BYTES or (found.last and found.last.sealed):
        return False
    ended = tail.endswith(b"\n")
    *lines, last = tail.removesuffix(b"\n").split(b"\n")
    if any(signed_commit(line, key) for line in lines):
        return False
    if signed_commit(last, key):
        return _lacks_sectors(tail, found.end) or (not ended and _fits([*lines, last], found, key))
    if not ended and signed_commit(last[:-1], key):
        return False
    if b"\0" in tail:
        return True
    whole = [*lines, last] if ended else lines
    return all(not check_entry(x, found.frontier.size + n) for n, x in enumerate(whole))


def _fits(lines: list[bytes], found: Scan, key: VerifierKey) -> bool:
    """Whether lines and the commit that ends them go on from where a scan ended."""
    again = Scan(found.frontier.size, found.frontier, found.chain, found.last)
    Scanner(again, key.name, None).take(lines)
    return not again.wrong


def _lacks_sectors(tail: bytes, start: int) -> bool:
    """Whether any sector's part of `tail`, which begins at byte `start` of its file, is zeros."""
    ends = range(_SECTOR - start % _SECTOR, len(tail) + _SECTOR, _SECTOR)
    return any(not any(tail[max(0, end - _SECTOR) : end]) for end in ends)


def is_newer(path: Path, found: Scan, key: VerifierKey) -> bool:
    """Whether entries of a later version of the format follow the last good commit. The epoch's key
    signed them, so that no change to an entry passes for one."""
    lines = _tail(path, found).split(b"\n")
    end = next((n for n, line in enumerate(lines) if signed_commit(line, key)), 0)
    tree, point = found.frontier.copy(), read_commit(lines[end]) if end else None
    tree.extend(leaf_hashes(lines[:end]))
    whole = point is not None and (point.size, point.root) == (tree.size, tree.root())
    return whole and any(map(is_later, lines[:end]))


def _tail(path: Path, found: Scan) -> bytes:
    with path.open("rb") as file:
        end = written_end(file) if found.read is None else found.read
        file.seek(found.end)
        return file.read(min(MAX_WRITE_BYTES + 1, end - found.end))


def signed_commit(line: bytes, key: VerifierKey) -> bool:
    """Whether a line, without its newline, is a commit that `key` signed."""
    if line[:1] != b"=":
        return False
    try:
        return read_commit(line).signed_by(key)
    except JournalDamagedError:
        return False


def mend(path: Path, key: VerifierKey) -> bool:
    """Adds the newline to a last commit line that lacks nothing else; says whether it did."""
    with path.open("r+b") as file:
        end = written_end(file)
        file.seek(max(0, end - COMMIT_LINE_BYTES))
        line = file.read(end - file.tell()).rpartition(b"\n")[2]
        if not signed_commit(line, key):
            return False
        file.seek(end)
        file.write(b"\n")
        file.flush()
        sync(file.fileno())
    return True


def set_aside(path: Path, end: int) -> None:
    """Ends a segment with its last commit: what follows, but for room, goes into a file beside."""
    with path.open("r+b") as file:
        if os.fstat(file.fileno()).st_size == end:
            return
        file.seek(end)
        if tail := file.read(written_end(file) - end):
            folder = path.parent / "quarantine"
            make_folder(folder)
            name = f"{path.stem}.{end}.{secrets.token_hex(4)}"
            write_durably(folder / name, tail)
        file.truncate(end)
        sync(file.fileno())


def unreadable(path: Path, found: Scan, key: VerifierKey) -> JournalError:
    """The refusal of a log that goes on with neither entries nor a write that was cut short."""
    if is_newer(path, found, key):
        return JournalVersionError(
            f"entries from {found.frontier.size} on are of a newer version of Freehold",
            hint="Use that version on this log, or a backup from before it in a home of its own.",
        )
    return damaged(found)


def damaged(found: Scan) -> JournalDamagedError:
    """The refusal of a log whose committed part was changed."""
    return JournalDamagedError(
        f"the log is damaged at entry {found.frontier.size} "
        f"(segment {found.first}, byte {found.wrong_at}): {found.wrong}",
        hint=DAMAGED,
    )
