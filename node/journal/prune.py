"""Pruning: whole sealed segments go, the log stays verifiable.

First the file `pruned` takes over what the segments proved (their seals and the tree's right
edge), then their content goes, and last the segments: where a crash came between, some are still
there when the log is opened again, and the rest is done then. Tile hashes are kept, 32 bytes an
entry, so that proofs and older checkpoints can still be checked.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from node.disk import sync_folder
from node.errors import JournalError
from node.journal.blobaudit import referred
from node.journal.blobstore import BlobStore
from node.journal.hashes import HashFiles
from node.journal.note import Checkpoint, VerifierKey, commit_line
from node.journal.opening import first_key
from node.journal.pruned import checked, read_pruned, write_pruned
from node.journal.reader import LogReader
from node.journal.segment import previous_hash, scan, segment_path, segments
from node.journal.tail import damaged
from node.journal.tree import Frontier, ranges


def prunable(seals: Sequence[Checkpoint], before: int, size: int) -> int:
    """The largest end of a sealed segment that is not beyond `before`; 0 if there is none.

    Raises:
        JournalError: `before` is beyond the log.
    """
    if not 0 <= before <= size:
        raise JournalError(f"cannot prune before entry {before} in a log of {size}")
    return max((seal.size for seal in seals if seal.size <= before), default=0)


def prune(
    folder: Path, size: int, seals: Sequence[Checkpoint], hashes: HashFiles, blobs: BlobStore
) -> None:
    """Deletes the segments before entry `size`, which a seal ends. Raises JournalError."""
    genesis = first_key(folder)
    assert genesis is not None
    kept = [seal for seal in seals if seal.size <= size]
    frontier = Frontier(size, [hashes.subtree(*part) for part in ranges(0, size)])
    if frontier.root() != kept[-1].root:  # tile hashes were lost, as of what was pruned before
        frontier = _folded(folder, genesis, size)
    chain = previous_hash(commit_line(kept[-1].note))
    write_pruned(folder, checked(frontier, chain, kept, genesis))
    finish(folder, size, blobs)


def _folded(folder: Path, genesis: VerifierKey, size: int) -> Frontier:
    """The tree at `size`, from the segments before it. Raises JournalDamagedError."""
    pruned = read_pruned(folder, genesis)
    here, chain = pruned.frontier, pruned.chain
    for first in segments(folder):
        if pruned.size <= first < size:
            found = scan(segment_path(folder, first), here, chain, genesis.name)
            if found.wrong:
                raise damaged(found)
            here, chain = found.frontier, found.chain
    return here


def finish(folder: Path, size: int, blobs: BlobStore) -> bool:
    """Deletes what there still is before entry `size`; says whether there was anything."""
    gone = [first for first in segments(folder) if first < size]
    if not gone:
        return False
    _forget(size, folder, blobs)
    for suffix in ("", "-wal", "-shm"):  # SQLite keeps the rows it deletes; it is made anew
        (folder / f"index.db{suffix}").unlink(missing_ok=True)
    for first in gone:
        segment_path(folder, first).unlink()
    sync_folder(folder)
    return True


def _forget(size: int, folder: Path, blobs: BlobStore) -> None:
    """Erases the blobs before entry `size`, but for those that entries still there refer to."""
    lines = LogReader(folder).lines(size)
    wanted = {one for line in lines if b'"blobs":[{' in line for one in referred(line)}
    for first in blobs.before(size):
        slots = list(blobs.slots(first))
        if not any(slot.id in wanted for slot in slots):
            blobs.remove(first)
            continue
        for slot in slots:
            if slot.id not in wanted and not slot.erased:
                blobs.erase(slot.id.hex())
