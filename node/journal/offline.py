"""A log read from its folder alone: by the audit commands, with no daemon, home or secret.

The whole of `Opened` is not needed here and nothing is repaired: what no commit covers is left
where it is and not seen.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from node.errors import JournalError
from node.journal.blobs import BlobReader
from node.journal.export import export_tiles
from node.journal.hashes import HashFiles
from node.journal.keys import FolderKeys
from node.journal.naming import LAST, find_run
from node.journal.note import Checkpoint, VerifierKey
from node.journal.opening import Opened, check_origin, first_key, read_tree
from node.journal.proof import prove, prove_consistency
from node.journal.reader import LogReader, tip_checkpoint
from node.journal.types import Entry

_INDEX_DIGITS = 20


@dataclass
class OfflineLog:
    """Entries, blobs and proofs of a folder."""

    folder: Path
    genesis: VerifierKey
    reader: LogReader
    blobs: BlobReader

    @classmethod
    def open(cls, folder: Path) -> OfflineLog:
        """Raises JournalError where the folder holds no log."""
        genesis = first_key(folder)
        if genesis is None:
            raise JournalError(f"there is no log in {folder}")
        return cls(folder, genesis, LogReader(folder), BlobReader(folder / "blobs"))

    def find_run(self, name: str) -> str:
        """The id of the run that a person means; see `find_run`. Raises UnknownRunError."""
        if name != LAST and self.reader.run_entries(name):
            return name
        starts = list(self.reader.entries(self.reader.start, types=("run.started",)))
        return find_run(name, reversed(starts))

    def find_entry(self, name: str) -> Entry:
        """The entry a person means by its index, or by `RUN` or `RUN:STEP`: the last one there.

        Raises:
            UnknownRunError: no run, or more than one, is meant.
            JournalError: there is no such entry, or the run has no such step.
        """
        if name.isascii() and name.isdigit() and len(name) < _INDEX_DIGITS:
            return self.reader.entry(int(name))
        run, _, step = name.partition(":")
        entries = self.reader.run_entries(self.find_run(run))
        found = [entry for entry in entries if not step or entry.draft.path == step]
        if not found:
            raise JournalError(
                f"run {run} has no step {step}",
                hint=f"`freehold audit log --run {run}` lists its entries.",
            )
        return found[-1]

    def content(self, entry: Entry, role: str) -> bytes | None:
        """An entry's blob of a role; None where there is none, or it was erased or lost."""
        for ref in entry.draft.blobs:
            if ref.role == role:
                with suppress(JournalError):
                    return self.blobs.content(ref.id)
        return None

    def checkpoint(self) -> Checkpoint:
        """The last commit's, not verified. Raises JournalError."""
        return Checkpoint.parse(tip_checkpoint(self.folder))

    def tree(self) -> tuple[HashFiles, Opened]:
        """The tile hashes, and where the log ends.

        Raises:
            JournalDamagedError: the log is not what was signed.
        """
        hashes = HashFiles(self.folder / "tree")
        return hashes, read_tree(self.folder, self.genesis, hashes)

    def check_writable(self, origin: str) -> None:
        """Raises JournalError where the log is of another origin, or its secret is not here."""
        check_origin(self.folder, self.genesis.name, origin)
        FolderKeys(self.folder / "keys").load(self.tree()[1].key)

    def prove(self, index: int) -> bytes:
        """The inclusion proof of an entry. Raises JournalError."""
        hashes, opened = self.tree()
        point = Checkpoint.parse(opened.tip.note)
        return prove(index, self.reader.raw(index), point, hashes.subtree, opened.seals)

    def export(self, target: Path) -> int:
        """Writes the tlog-tiles layout; returns how many files. Raises JournalError."""
        hashes, opened = self.tree()
        return export_tiles(target, opened, hashes, self.reader)

    def prove_consistency(self, old: int) -> bytes:
        """The proof that the log at `old` entries is a prefix of what it is now."""
        hashes, opened = self.tree()
        return prove_consistency(old, Checkpoint.parse(opened.tip.note), hashes)
