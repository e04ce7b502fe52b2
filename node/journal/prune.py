"""Pruning: whole sealed segments go, the log stays verifiable.

First the file `pruned` takes over what the segments proved (their seals and the tree's right
edge), then the segments are deleted, so a crash between leaves files that are no longer looked at
and are deleted by the next pruning. Tile hashes are kept, 32 bytes an entry, so that proofs and
older checkpoints can still be checked.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from node.errors import JournalError
from node.journal.blobs import BlobStore
from node.journal.hashes import HashFiles
from node.journal.note import Checkpoint, commit_line
from node.journal.opening import first_key
from node.journal.pruned import checked, write_pruned
from node.journal.reader import LogReader
from node.journal.segment import previous_hash, segment_path, segments
from node.journal.tree import Frontier, ranges

_ID = re.compile(rb'\{"id":"([0-9a-f]{64})","len":')


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
    chain = previous_hash(commit_line(kept[-1].note))
    write_pruned(folder, checked(frontier, chain, kept, genesis))
    gone = [first for first in segments(folder) if first < size]
    for first in gone:
        segment_path(folder, first).unlink()
    _forget(gone, folder, blobs)


def _forget(gone: list[int], folder: Path, blobs: BlobStore) -> None:
    """Erases the blobs of segments, but for those that entries still there refer to."""
    reader = LogReader(folder)
    wanted = {
        bytes.fromhex(identity.decode())
        for line in reader.lines(reader.start)
        if b'"blobs":[{' in line
        for identity in _ID.findall(line)
    }
    for first in gone:
        slots = list(blobs.slots(first))
        if not any(slot.id in wanted for slot in slots):
            blobs.remove(first)
            continue
        for slot in slots:
            if slot.id not in wanted and not slot.erased:
                blobs.erase(slot.id.hex())
