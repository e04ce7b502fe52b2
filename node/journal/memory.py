"""The double: a log in memory with the journal's behaviour, minus disk and signatures."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

from node.clock import Clock, SystemClock
from node.errors import JournalErasedError, JournalError, JournalWriteError
from node.journal.blobs import Sealed
from node.journal.entry import line, parse, prepare, stamp
from node.journal.types import BlobRef, Draft, Entry


class MemoryLog:
    """Implements `Log`. Entries are encoded and parsed as on disk, so what cannot be journalled
    cannot be kept here either.

    Args:
        clock: the source of entries' times.
        fail_at: from this index on appending raises JournalWriteError, as on a full disk.
    """

    def __init__(self, *, clock: Clock | None = None, fail_at: int | None = None) -> None:
        self._clock = clock or SystemClock()
        self._fail_at = fail_at
        self._entries: list[Entry] = []
        self._waiting: dict[str, bytes] = {}
        self._blobs: dict[str, bytes] = {}
        self._erased: set[str] = set()
        self._followers: set[asyncio.Event] = set()
        self._closed = False

    async def append(self, *drafts: Draft) -> tuple[int, ...]:
        """As `Journal.append`."""
        return self.append_sync(*drafts)

    def append_sync(self, *drafts: Draft) -> tuple[int, ...]:
        """As `Journal.append_sync`."""
        first = self.size
        if self._fail_at is not None and first + len(drafts) > self._fail_at:
            raise JournalWriteError("the disk is full; nothing was written")
        for place, draft in enumerate(drafts):
            if any(not -place <= cause < first for cause in draft.cause):
                raise JournalError(f"an entry of type {draft.type} names a cause not before it")
        ts, mono = int(self._clock.wall() * 1000), int(self._clock.monotonic() * 1000)
        times = stamp(ts, "memory", mono)
        made = [line(prepare(draft), i, times) for i, draft in enumerate(drafts, first)]
        self._entries += [parse(raw, index) for index, raw in enumerate(made, first)]
        for ref in (ref for draft in drafts for ref in draft.blobs):
            if ref.id in self._waiting:
                self._blobs[ref.id] = self._waiting.pop(ref.id)
        for changed in self._followers:
            changed.set()
        return tuple(range(first, self.size))

    def put_blob(self, content: bytes, role: str) -> BlobRef:
        """As `Journal.put_blob`."""
        identity = Sealed.of(content).id.hex()
        self._waiting[identity] = content
        return BlobRef(identity, len(content), role)

    def blob(self, ref: BlobRef | str) -> bytes:
        """As `Journal.blob`."""
        identity = ref.id if isinstance(ref, BlobRef) else ref
        content = self._waiting.get(identity, self._blobs.get(identity))
        if identity in self._erased:
            raise JournalErasedError(f"blob {identity} was erased")
        if content is None:
            raise JournalError(f"blob {identity} is not in this log")
        return content

    async def erase(self, blob: BlobRef | str, *, actor: str = "node") -> None:
        """As `Journal.erase`."""
        identity = blob.id if isinstance(blob, BlobRef) else blob
        self.blob(identity)
        await self.append(Draft("blob.erased", actor=actor, data={"id": identity}))
        self._blobs.pop(identity, None)
        self._waiting.pop(identity, None)
        self._erased.add(identity)

    @property
    def size(self) -> int:
        """Entries so far."""
        return len(self._entries)

    def entry(self, index: int) -> Entry:
        """One entry. Raises JournalError where there is none."""
        if not 0 <= index < self.size:
            raise JournalError(f"there is no entry {index} in this log")
        return self._entries[index]

    def entries(
        self, start: int = 0, end: int | None = None, *, types: tuple[str, ...] = ()
    ) -> Iterator[Entry]:
        """As `Journal.entries`."""
        found = self._entries[start:end]
        yield from (entry for entry in found if not types or entry.type in types)

    def run_entries(self, run: str) -> list[Entry]:
        """All entries of a run, in order."""
        return [entry for entry in self._entries if entry.draft.run == run]

    def newest(
        self, *types: str, agent: str | None = None, run: str | None = None
    ) -> Iterator[Entry]:
        """As `Journal.newest`."""
        for entry in reversed(self._entries):
            draft = entry.draft
            fits = agent in (None, draft.agent) and (draft.run or "").startswith(run or "")
            if fits and draft.type in types:
                yield entry

    async def subscribe(self, from_index: int = 0) -> AsyncIterator[Entry]:
        """As `Journal.subscribe`."""
        changed = asyncio.Event()
        self._followers.add(changed)
        try:
            while not self._closed:
                changed.clear()
                for entry in self._entries[from_index:]:
                    yield entry
                    from_index += 1
                if from_index >= self.size:
                    await changed.wait()
        finally:
            self._followers.discard(changed)

    async def aclose(self) -> None:
        """Ends subscriptions."""
        self._closed = True
        for changed in self._followers:
            changed.set()
