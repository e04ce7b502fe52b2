"""Opening a log: what must be true of a folder before anything is appended to it.

The chain of seals leads from the first key, in `log.vkey`, to the current epoch's. Only the last
segment is read whole; the tree before it comes from the derived hash files, checked against the
root that the last seal signed, or from reading everything where they are missing or wrong.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from itertools import accumulate, islice
from pathlib import Path

from node.errors import (
    JournalDamagedError,
    JournalError,
    JournalRollbackError,
)
from node.journal.hashes import HashFiles
from node.journal.head import believed, read_head
from node.journal.keys import RELINK, EpochKeys
from node.journal.note import Checkpoint, Signer, VerifierKey, handed_over
from node.journal.pruned import Pruned, read_pruned
from node.journal.segment import (
    GENESIS,
    Batch,
    Scan,
    last_commit,
    previous_hash,
    scan,
    segment_path,
    segments,
)
from node.journal.storage import write_durably
from node.journal.tail import DAMAGED, damaged, mend, set_aside, unfinished, unreadable
from node.journal.tree import Frontier
from node.journal.writer import Tip


@dataclass
class Opened:
    """A log that was found good, or made."""

    tip: Tip
    keys: list[VerifierKey]
    seals: list[Checkpoint]
    fresh: bool
    last: tuple[Path, int] | None = None  # the last segment, and the bytes that commits cover in it

    @property
    def key(self) -> VerifierKey:
        """The current epoch's."""
        return self.keys[-1]


def first_key(folder: Path) -> VerifierKey | None:
    """The key of the first epoch, from `log.vkey`; None in a folder without a log."""
    path = folder / "log.vkey"
    try:
        text = path.read_bytes().decode("ascii", "replace")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise JournalError(f"cannot read {path}: {error.strerror}") from error
    try:
        if text[-1:] != "\n":
            raise JournalError("it does not end with a newline")
        return VerifierKey.parse(text[:-1])
    except JournalError as error:
        raise JournalError(f"{path}: {error.message}", hint=DAMAGED) from error


def check_origin(folder: Path, found: str, origin: str) -> None:
    """Raises JournalError where the log in a folder is of another node than `origin` names."""
    if found != origin:
        raise JournalError(
            f"the log in {folder} is {found!r}, not {origin!r}",
            hint="An origin never changes: set the node's name, which it ends with, back to it.",
        )


def open_log(
    folder: Path, origin: str, keys: EpochKeys, hashes: HashFiles, head: Path
) -> tuple[Opened, Signer]:
    """Finds the end of the log in a folder, or makes a new log.

    Raises:
        JournalDamagedError: something committed is not what was signed.
        JournalRollbackError: the log ends before, or beside, the kept head.
        JournalVersionError: a newer version wrote to it.
        JournalError: the log is of another origin, or its key is not here.
    """
    genesis = first_key(folder)
    firsts = segments(folder)
    if genesis is None:
        if firsts:
            text = f"{folder} holds segments but no log.vkey"
            raise JournalDamagedError(text, hint=DAMAGED)
        return _new_log(folder, origin, keys, head)
    check_origin(folder, genesis.name, origin)
    opened = read_tree(folder, genesis, hashes, repair=True)
    _check_head(folder, head, opened, hashes)
    if opened.last:
        set_aside(*opened.last)
    return opened, keys.load(opened.key)


def _new_log(folder: Path, origin: str, keys: EpochKeys, head: Path) -> tuple[Opened, Signer]:
    if kept := read_head(head):
        raise rolled_back(kept[0], 0)
    signer = keys.make(origin)
    write_durably(folder / "log.vkey", f"{signer.key}\n".encode(), 0o644)
    return Opened(Tip(0, Frontier(), GENESIS, 0), [signer.key], [], fresh=True), signer


def read_tree(
    folder: Path, genesis: VerifierKey, hashes: HashFiles, *, repair: bool = False
) -> Opened:
    """Finds the end of a log and loads its tile hashes.

    Args:
        folder: the journal's.
        genesis: the key of its first epoch.
        hashes: what the hashes are loaded into.
        repair: whether to mend a last line, and write rebuilt hashes out.

    Raises:
        JournalDamagedError: something committed is not what was signed.
    """
    pruned = read_pruned(folder, genesis)
    firsts = [first for first in segments(folder) if first >= pruned.size]
    keys, chain, seals = list(pruned.keys), pruned.chain, list(pruned.seals)
    for first, following in zip(firsts, [*firsts[1:], None], strict=False):
        if first != (seals[-1].size if seals else 0):
            text = f"the segment before entry {first} is missing"
            raise JournalDamagedError(text, hint=DAMAGED)
        if following is None:
            break
        line, seal = last_commit(segment_path(folder, first))
        keys.append(handed_over(seal, keys[-1]))
        seals.append(seal)
        chain = previous_hash(line)
    start = _start(folder, seals[-1] if seals else None, hashes, firsts[:-1], pruned)
    if repair:
        hashes.write_out(whole=True)
    hashed = _Hashed(hashes, start.size)
    found = Scan(start.size, start, chain)
    if not firsts:
        return _opened(found, keys, seals, hashed)
    path = segment_path(folder, firsts[-1])
    found, hashed = _last_segment(path, found, keys[-1], hashed, repair=repair)
    opened = _opened(found, keys, seals, hashed)
    opened.last = path, found.end
    return opened


def _opened(
    found: Scan, keys: list[VerifierKey], seals: list[Checkpoint], hashed: _Hashed
) -> Opened:
    if found.last is None:
        note = seals[-1].note if seals else b""
        tip = Tip(found.first, found.frontier, found.chain, 0, note)
        return Opened(tip, keys, seals, fresh=not seals)
    point = found.last.checkpoint()
    tip = Tip(found.first, found.frontier, found.chain, found.end, point.note, hashed.offsets)
    if found.last.sealed:
        keys.append(handed_over(point, keys[-1]))
        seals.append(point)
        tip = Tip(point.size, found.frontier, found.chain, 0, point.note)
    return Opened(tip, keys, seals, fresh=False)


class _Hashed:
    """Keeps the tile hashes and the offsets of the entries scanned."""

    def __init__(self, hashes: HashFiles, start: int) -> None:
        self.hashes, self.start, self.offsets = hashes, start, array("Q")

    def batch(self, frontier: Frontier, batch: Batch) -> None:
        self.hashes.extend(frontier, batch.leaves)
        lengths = (len(line) + 1 for line in batch.lines)
        self.offsets.extend(islice(accumulate(lengths, initial=batch.offset), len(batch.lines)))

    def again(self) -> _Hashed:
        """Starts over for a second scan."""
        self.hashes.cut(self.start)
        return _Hashed(self.hashes, self.start)

    def cut(self, found: Scan) -> None:
        """Forgets entries that no commit covers."""
        self.hashes.cut(found.frontier.size)
        del self.offsets[found.frontier.size - found.first :]


def _start(
    folder: Path, seal: Checkpoint | None, hashes: HashFiles, before: list[int], pruned: Pruned
) -> Frontier:
    """The tree before the last segment: from the hash files, or by reading all before it."""
    cached = hashes.load(seal.size if seal else 0)
    if seal is None:
        return Frontier()
    if cached is not None and cached.root() == seal.root:
        return cached
    hashes.begin(pruned.frontier)
    here, chain, hashed = pruned.frontier.copy(), pruned.chain, _Hashed(hashes, pruned.size)
    for first in before:
        path = segment_path(folder, first)
        found = scan(path, here, chain, pruned.keys[0].name, hashed)
        if found.wrong or found.last is None or not found.last.sealed:
            raise damaged(found)
        here, chain = found.frontier, found.chain
    if here.root() != seal.root:
        text = f"the log before entry {seal.size} is not what was signed"
        raise JournalDamagedError(text, hint=DAMAGED)
    return here


def _last_segment(
    path: Path, start: Scan, key: VerifierKey, hashed: _Hashed, *, repair: bool
) -> tuple[Scan, _Hashed]:
    found = scan(path, start.frontier, start.chain, key.name, hashed, room=True)
    hashed.cut(found)
    if found.last and not found.last.checkpoint().signed_by(key):
        raise JournalDamagedError(
            f"the commit of entries {found.doubtful} to {found.frontier.size} is not the log's",
            hint=DAMAGED,
        )
    if not found.wrong:
        return found, hashed
    if repair and mend(path, key):
        return _last_segment(path, start, key, hashed.again(), repair=repair)
    if not unfinished(path, found, key):
        raise unreadable(path, found, key)
    return found, hashed


def _check_head(folder: Path, path: Path, opened: Opened, hashes: HashFiles) -> None:
    kept, size = believed(read_head(path), opened.keys), opened.tip.frontier.size
    if kept is None:
        return
    if kept.size > size:
        raise rolled_back(kept, size)
    if kept.size == size:
        root = opened.tip.frontier.root()
    else:
        root = hashes.root(kept.size) if hashes.whole else kept.root
    if root != kept.root:
        raise JournalRollbackError(
            f"the log in {folder} is not the one whose head was kept at {kept.size} entries",
            hint=_ROLLBACK,
        )


def rolled_back(kept: Checkpoint, size: int) -> JournalRollbackError:
    """The refusal of a log shorter than its kept head."""
    return JournalRollbackError(
        f"the log has {size} entries, but {kept.size} were acknowledged before", hint=_ROLLBACK
    )


_ROLLBACK = f"Restore the newer journal. If it is lost, {RELINK}."
