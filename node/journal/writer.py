"""The commit: N entry lines and one signed commit line in one write and one sync.

One thread at a time is in `commit`. Whatever waits when it begins goes into the same commit. What
cannot be written is not acknowledged: on a full disk the segment is cut back to the last commit
and the append refused; after a failed sync nobody can know what is on the disk, so the log stops
for good and never tries that sync again.
"""

from __future__ import annotations

import errno
from array import array
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from node.clock import Clock
from node.errors import JournalError, JournalWriteError
from node.journal.blobs import Sealed
from node.journal.blobstore import BlobStore
from node.journal.entry import Prepared, line, stamp
from node.journal.hashes import HashFiles
from node.journal.head import KeptHead
from node.journal.keys import EpochKeys
from node.journal.note import Checkpoint, Signer, commit_line, commit_text
from node.journal.segment import (
    MAX_COMMIT_BYTES,
    ROOM_BYTES,
    SEGMENT_ENTRIES,
    previous_hash,
    segment_path,
)
from node.journal.storage import AppendFile, Storage
from node.journal.tree import Frontier, leaf_hashes

EPOCH_MS = 7 * 24 * 3600 * 1000
"""How long a key signs before the next append hands over to a new one."""
QUICK_S = 1e-3
"""A disk that took longer lately is not waited for on an event loop's thread."""
_FADES = 0.8  # how much of the longest wait a commit still remembers of the one before
_FULL = {errno.ENOSPC, errno.EDQUOT}

Call = tuple[Prepared, ...]
"""The drafts of one `append`; never split over two commits."""


def fits_commit(call: Call) -> bool:
    """Whether a call is small enough to be committed at once."""
    size = sum(len(made.before) + len(made.after) + 200 for made in call)
    return len(call) <= SEGMENT_ENTRIES and size <= MAX_COMMIT_BYTES


@dataclass
class Tip:
    """The end of the log: what the next commit builds on.

    `since_ms` is the time of the segment's first entry, once it has one.
    """

    first: int
    frontier: Frontier
    chain: bytes
    end: int
    note: bytes = b""
    offsets: array[int] = field(default_factory=lambda: array("Q"))
    since_ms: int | None = None


class Writer:
    """Commits to the current segment, and turns to the next.

    Args:
        folder: the journal's.
        tip: where the log ends.
        seals: the notes that end its segments so far; grows.
        signer: of the current epoch.
        boot: names this opening of the log in its entries.
    """

    def __init__(
        self,
        folder: Path,
        *,
        tip: Tip,
        seals: list[Checkpoint],
        signer: Signer,
        keys: EpochKeys,
        hashes: HashFiles,
        blobs: BlobStore,
        head: KeptHead,
        storage: Storage,
        clock: Clock,
        boot: str,
        segment_entries: int = SEGMENT_ENTRIES,
    ) -> None:
        self._folder, self._storage, self._keys = folder, storage, keys
        self.hashes, self._blobs, self._head = hashes, blobs, head
        self._clock, self._boot = clock, boot
        self._segment_entries = segment_entries
        self.tip, self.seals, self.signer = tip, seals, signer
        self._helpers = ThreadPoolExecutor(2, thread_name_prefix="journal-sync")
        self._file: AppendFile = storage.open_append(
            segment_path(folder, tip.first), room=ROOM_BYTES
        )
        self._failure = ""
        self._wait_s = 10 * QUICK_S

    @property
    def quick(self) -> bool:
        """Whether the disk's latest syncs were all short. A new log's are not known."""
        return self._wait_s < QUICK_S

    @property
    def size(self) -> int:
        """Entries that are committed and acknowledged."""
        return self.tip.frontier.size

    def room(self) -> int:
        """Entries that still fit in the current segment."""
        return self._segment_entries - (self.size - self.tip.first)

    def commit(self, calls: Sequence[Call]) -> int:
        """Makes the calls' drafts durable, in order, in one commit.

        Returns:
            Index of the first entry.

        Raises:
            JournalWriteError: none of them was acknowledged.
        """
        self._check_alive()
        try:
            return self._commit([made for call in calls for made in call])
        except JournalError:
            raise
        except Exception as error:
            raise self._stop(f"the log broke in a commit: {error!r}") from error
        except BaseException:  # Ctrl-C: what of the commit is in the file is not known
            self._failure = "the log was interrupted in a commit"
            raise

    def _commit(self, drafts: list[Prepared]) -> int:
        if len(drafts) > self.room() or self._overdue():
            self.seal()
        first = self.size
        refs = [ref for made in drafts for ref in made.blobs]
        blobs = self._blobs.waiting(refs) if refs else []
        data, tip = self._build(drafts)
        self._write(data, tip, blobs)
        return first

    def _overdue(self) -> bool:
        began = self.tip.since_ms  # in the future, where the clock was wrong then
        return began is not None and abs(self._clock.wall() * 1000 - began) > EPOCH_MS

    def seal(self) -> None:
        """Ends the epoch and the segment: names the next key, then forgets the current one.

        Raises:
            JournalWriteError: the log goes on in the old segment, or stops if a sync failed.
        """
        self._check_alive()
        try:
            following = self._keys.make(self.signer.key.name)
        except OSError as error:
            raise JournalWriteError(
                f"the log's next key could not be kept: {error.strerror}",
                hint="Free some space, or check the disk.",
            ) from error
        data, tip = self._build([], following)
        self._write(data, tip, [])
        self.seals.append(Checkpoint.parse(tip.note))
        self._turn(following)

    def close(self) -> None:
        """Closes files and threads; what was acknowledged is already durable."""
        self._failure = self._failure or "the log is closed"
        self.hashes.write_out(whole=True)
        self._file.close()
        self._blobs.close()
        self._head.close()
        self._helpers.shutdown()

    def begin(self, *, fresh: bool) -> None:
        """Writes the commit of size 0 that begins a log, or keeps the head of one there is.

        Raises:
            JournalWriteError: the log cannot be written.
        """
        if fresh:
            data, tip = self._build([])
            self._write(data, tip, [])
        else:
            self._after()
            self._check_alive()

    def _build(self, drafts: list[Prepared], following: Signer | None = None) -> tuple[bytes, Tip]:
        """The bytes of a commit, and the tip once they are durable."""
        old = self.tip
        frontier, offsets, at = old.frontier.copy(), array("Q"), old.end
        ts, mono = int(self._clock.wall() * 1000), int(self._clock.monotonic() * 1000)
        times = stamp(ts, self._boot, mono)
        lines = [line(made, index, times) for index, made in enumerate(drafts, frontier.size)]
        for raw in lines:
            offsets.append(at)
            at += len(raw) + 1
        self.hashes.extend(frontier, leaf_hashes(lines))
        name, key = self.signer.key.name, following.key if following else None
        note = self.signer.sign(commit_text(name, frontier.size, frontier.root(), old.chain, key))
        commit = commit_line(note)
        data = b"\n".join([*lines, commit, b""])
        chain, end = previous_hash(commit), old.end + len(data)
        since = old.since_ms if old.since_ms is not None or not drafts else ts
        return data, Tip(old.first, frontier, chain, end, note, offsets, since)

    def _write(self, data: bytes, tip: Tip, blobs: list[Sealed]) -> None:
        syncs: list[Future[None]] = []
        try:
            if blobs:
                files = self._blobs.write(self.tip.first, blobs)
                syncs = [self._helpers.submit(file.sync) for file in files]
            self._file.write(data)
        except OSError as error:
            self._give_back(error, syncs)
        self._sync(syncs)
        self._blobs.written(blobs)
        tip.offsets, fresh = self.tip.offsets, tip.offsets
        tip.offsets.extend(fresh)
        self.tip = tip
        self._after()

    def _after(self) -> None:
        """What follows an acknowledged commit, and must not undo it."""
        try:
            self._head.keep(self.tip.note)
        except OSError as error:
            self._failure = f"the log's head could not be kept: {error.strerror}"
        self.hashes.write_out()

    def _sync(self, syncs: list[Future[None]]) -> None:
        began = self._clock.monotonic()
        try:
            self._file.sync()
            self._wait_s = max(self._clock.monotonic() - began, _FADES * self._wait_s)
            for sync in syncs:
                sync.result()
        except OSError as error:
            raise self._stop(f"the log could not be synced: {error.strerror}") from error

    def _give_back(self, error: OSError, syncs: list[Future[None]]) -> None:
        """Undoes a write that failed. Raises JournalWriteError."""
        for sync in syncs:
            sync.exception()
        if error.errno not in _FULL:
            raise self._stop(f"the log could not be written: {error.strerror}") from error
        try:
            self._file.truncate(self.tip.end)
            self._blobs.undo()
            self.hashes.cut(self.size)
        except OSError as second:
            raise self._stop(f"the log could not be cut back: {second.strerror}") from second
        raise JournalWriteError(
            f"the disk of {self._folder} is full; nothing was written",
            hint="Free some space; agents stay stopped until the log can be written.",
        ) from error

    def _turn(self, following: Signer) -> None:
        self.hashes.write_out(whole=True)
        try:
            self._file.truncate(self.tip.end)  # a sealed segment ends with its seal
            path = segment_path(self._folder, self.size)
            file = self._storage.open_append(path, room=ROOM_BYTES)
            self._file.close()
            self._keys.keep_only(following.key)
        except OSError as error:
            raise self._stop(f"the next segment could not be opened: {error.strerror}") from error
        old, self._file, self.signer = self.tip, file, following
        self.tip = Tip(self.size, old.frontier, old.chain, 0, old.note)

    def _check_alive(self) -> None:
        if self._failure:
            raise self._stopped()

    def _stop(self, why: str) -> JournalWriteError:
        """Ends the log for good; the error for those who wait for it."""
        self._failure = why
        return self._stopped()

    def _stopped(self) -> JournalWriteError:
        return JournalWriteError(
            f"{self._failure}; the log has stopped",
            hint="Check the disk, then start again: the log is verified on opening.",
        )
