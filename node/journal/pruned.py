"""What is kept of pruned segments: their seals, and the tree's right edge where they ended.

`pruned` is one JSON object: {"v": 1, "size": P, "frontier": [hex...], "seals": [base64 note...],
"chain": hex}. The seals lead from the log's first key to the key of the epoch that begins at
entry P; the frontier folds to the root that the last of them signed; `chain` is what the `prev`
of the first commit kept says.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from node.errors import JournalDamagedError, JournalError
from node.journal.note import Checkpoint, VerifierKey, commit_line, handed_over, to_base64, unbase64
from node.journal.segment import GENESIS, previous_hash
from node.journal.storage import write_durably
from node.journal.tree import Frontier


@dataclass(frozen=True)
class Pruned:
    """Where a log's kept part begins. In a log that was never pruned, at 0."""

    size: int
    frontier: Frontier
    chain: bytes
    seals: tuple[Checkpoint, ...]
    keys: tuple[VerifierKey, ...]


def read_pruned(folder: Path, genesis: VerifierKey) -> Pruned:
    """Reads and checks the file `pruned`. Raises JournalDamagedError."""
    try:
        raw = (folder / "pruned").read_bytes()
    except FileNotFoundError:
        return Pruned(0, Frontier(), GENESIS, (), (genesis,))
    except OSError as error:
        raise JournalError(f"cannot read {folder / 'pruned'}: {error.strerror}") from error
    try:
        value = json.loads(raw)
        seals = [Checkpoint.parse(unbase64(text)) for text in value["seals"]]
        peaks = [bytes.fromhex(text) for text in value["frontier"]]
        size, chain = int(value["size"]), bytes.fromhex(value["chain"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise JournalDamagedError("the file pruned is damaged") from error
    pruned = checked(Frontier(size, peaks), chain, seals, genesis)
    if _encoded(pruned) != raw:
        raise JournalDamagedError("the file pruned is not in its one form")
    return pruned


def checked(
    frontier: Frontier, chain: bytes, seals: list[Checkpoint], genesis: VerifierKey
) -> Pruned:
    """A `Pruned` whose seals, frontier and chain fit each other. Raises JournalDamagedError."""
    keys = [genesis]
    for seal in seals:
        keys.append(handed_over(seal, keys[-1]))
    last = seals[-1] if seals else None
    if last is None or last.size != frontier.size or not frontier.fits():
        raise JournalDamagedError("the file pruned does not fit its last seal")
    if frontier.root() != last.root or previous_hash(commit_line(last.note)) != chain:
        raise JournalDamagedError("the file pruned is not what the last seal signed")
    return Pruned(frontier.size, frontier, chain, tuple(seals), tuple(keys))


def write_pruned(folder: Path, pruned: Pruned) -> None:
    """Writes the file durably, as a whole."""
    write_durably(folder / "pruned", _encoded(pruned))


def _encoded(pruned: Pruned) -> bytes:
    value = {
        "v": 1,
        "size": pruned.size,
        "frontier": [peak.hex() for peak in pruned.frontier.peaks],
        "seals": [to_base64(seal.note) for seal in pruned.seals],
        "chain": pruned.chain.hex(),
    }
    return json.dumps(value).encode() + b"\n"
