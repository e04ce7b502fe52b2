"""The journal: opened, appended to, read, followed, closed."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Lock

from node.clock import Clock, SystemClock
from node.disk import sync_folder
from node.errors import JournalError
from node.journal.blobs import ERASING
from node.journal.blobstore import BlobStore
from node.journal.entry import Prepared, prepare
from node.journal.group import MAX_GROUP_ENTRIES, Group, committed
from node.journal.hashes import HashFiles
from node.journal.head import KeptHead, head_beside
from node.journal.index import Index
from node.journal.keys import EpochKeys, FolderKeys
from node.journal.lock import FolderLock
from node.journal.note import Checkpoint, VerifierKey
from node.journal.opening import open_log
from node.journal.proof import prove, prove_consistency
from node.journal.prune import finish, prunable, prune
from node.journal.pruned import read_pruned
from node.journal.reader import LogReader
from node.journal.segment import SEGMENT_ENTRIES, segment_path
from node.journal.storage import FileStorage, Storage
from node.journal.types import BlobRef, Draft, Entry
from node.journal.writer import Call, Writer, fits_commit

_PAGE = 256  # entries that `newest` asks the index for at a time


class Journal:
    """The signed log of a node, open for writing. Made by `Journal.open`; implements `Log`."""

    def __init__(
        self, folder: Path, *, lock: FolderLock, writer: Writer, blobs: BlobStore, vkey: VerifierKey
    ) -> None:
        self.folder, self.vkey = folder, vkey
        self._lock, self._writer, self._blobs = lock, writer, blobs
        self._commits = Lock()
        self._reader = LogReader(folder)
        self._group = Group(
            self._commit, turn=self._commits, room=writer.room, quick=lambda: writer.quick
        )
        self._followers: dict[asyncio.Event, asyncio.AbstractEventLoop] = {}
        self._erasing: set[asyncio.Future[None]] = set()
        self._closed = False
        self.index = Index(folder / "index.db", self._reader)
        self._reader.follow(writer.tip.first, writer.tip.offsets)

    @classmethod
    async def open(
        cls,
        folder: Path,
        *,
        origin: str,
        clock: Clock | None = None,
        keys: EpochKeys | None = None,
        storage: Storage | None = None,
        head: Path | None = None,
        segment_entries: int = SEGMENT_ENTRIES,
    ) -> Journal:
        """Opens the log in a folder, or makes a new one.

        Args:
            folder: made with mode 0700 where it is not there.
            origin: names the log for good: a URL without scheme, no spaces.
            clock: the source of entries' times.
            keys: where signing secrets are kept; by default `folder/keys`.
            storage: the file layer; a `FaultyStorage` in tests.
            head: the file of the kept head; by default beside the folder, `<folder>.head`.
            segment_entries: entries a segment holds at most.

        Raises:
            JournalBusyError: another process writes it.
            JournalDamagedError: what was committed is not what was signed.
            JournalRollbackError: it is shorter than, or forks from, its kept head.
        """
        return await asyncio.to_thread(
            cls.open_sync, folder, origin=origin, clock=clock, keys=keys,
            storage=storage, head=head, segment_entries=segment_entries,
        )  # fmt: skip

    @classmethod
    def open_sync(
        cls,
        folder: Path,
        *,
        origin: str,
        clock: Clock | None = None,
        keys: EpochKeys | None = None,
        storage: Storage | None = None,
        head: Path | None = None,
        segment_entries: int = SEGMENT_ENTRIES,
    ) -> Journal:
        """`open`, for callers without an event loop; blocks."""
        lock = _locked(folder)
        try:
            keys = keys or FolderKeys(folder / "keys")
            storage = storage or FileStorage()
            head = head or head_beside(folder)
            hashes, blobs = HashFiles(folder / "tree"), BlobStore(folder / "blobs", storage)
            opened, signer = open_log(folder, origin, keys, hashes, head)
            writer = Writer(
                folder, tip=opened.tip, seals=opened.seals, signer=signer, keys=keys,
                hashes=hashes, blobs=blobs, head=KeptHead(head), storage=storage,
                clock=clock or SystemClock(), boot=secrets.token_hex(8),
                segment_entries=segment_entries,
            )  # fmt: skip
            writer.begin(fresh=opened.fresh)
            keys.keep_only(signer.key)
            finish(folder, read_pruned(folder, opened.keys[0]).size, blobs)
            blobs.forget_unnamed(opened.tip.first, segment_path(folder, opened.tip.first))
        except OSError as error:
            lock.release()
            raise _unopened(folder, error) from error
        except BaseException:
            lock.release()
            raise
        journal = cls(folder, lock=lock, writer=writer, blobs=blobs, vkey=opened.keys[0])
        try:
            journal._go_on()
        except BaseException:
            journal.close()
            raise
        return journal

    # ── writing ─────────────────────────────────────────────────────────────────────────────

    async def append(self, *drafts: Draft) -> tuple[int, ...]:
        """Appends all drafts in one commit; returns when they and their blobs are durable.

        Cancelling the caller does not take back what was queued: it gets its indices, and the
        cancellation strikes at its next wait.

        Raises:
            JournalError: a draft is not what it must be; nothing was queued.
            JournalWriteError: nothing was acknowledged; the node must stop.
        """
        call = self._prepare(drafts)
        if not call:
            return ()
        first = await committed(self._group.submit(call, asyncio.get_running_loop()))
        return tuple(range(first, first + len(call)))

    def append_sync(self, *drafts: Draft) -> tuple[int, ...]:
        """`append` that commits on the calling thread and blocks it until the disk is done."""
        call = self._prepare(drafts)
        if not call:
            return ()
        with self._commits:
            first = self._commit([call])
        return tuple(range(first, first + len(call)))

    def put_blob(self, content: bytes, role: str) -> BlobRef:
        """Keeps content; durable once an `append` whose draft refers to it has returned."""
        return self._blobs.put(content, role)

    async def erase(self, blob: BlobRef | str, *, actor: str = "node") -> None:
        """Destroys a blob's key and salt, and journals that (`blob.erased`).

        Raises:
            JournalErasedError: that was done before.
            JournalError: there is no such blob.
        """
        identity = blob.id if isinstance(blob, BlobRef) else blob
        await asyncio.to_thread(self._blobs.check_key, identity)
        erasing = asyncio.ensure_future(self._erase(identity, actor))
        self._erasing.add(erasing)
        erasing.add_done_callback(self._erasing.discard)
        await asyncio.shield(erasing)  # who is cancelled must not leave it announced and not done

    async def rotate(self) -> None:
        """Seals the segment and hands over to a new key, if it holds any entry."""
        await asyncio.to_thread(self._rotate)

    async def prune(self, before: int, *, actor: str = "node") -> int:
        """Deletes whole sealed segments, and their blobs, that end at or before an index.

        What is left still verifies and proves, by the seals and the tile hashes that are kept.
        Content that later entries refer to is kept. Journalled as `log.pruned`.

        Returns:
            Index of the first entry that is left.

        Raises:
            JournalError: `before` is beyond the log.
        """
        size = self.prunable(before)
        if size > self.start:
            await self.append(Draft("log.pruned", actor=actor, data={"size": size}))
            await asyncio.to_thread(self._prune, size)
        return self.start

    def prunable(self, before: int) -> int:
        """What would be the first entry if it were pruned. Raises JournalError as `prune`."""
        return max(self.start, prunable(self._writer.seals, before, self.size))

    async def aclose(self) -> None:
        """Commits what is queued and closes; harmless when closed already."""
        await asyncio.to_thread(self.close)

    def close(self) -> None:
        """`aclose`, for callers without an event loop."""
        if not self._closed:
            self._closed = True
            self._group.close()
            self.index.close()
            try:
                with self._commits:
                    self._writer.close()
            finally:
                self._lock.release()
                self._announce()

    # ── reading ─────────────────────────────────────────────────────────────────────────────

    @property
    def size(self) -> int:
        """Entries acknowledged so far; the index the next one gets."""
        return self._writer.size

    @property
    def origin(self) -> str:
        """The log's name."""
        return self.vkey.name

    def checkpoint(self) -> Checkpoint:
        """The last commit's checkpoint."""
        return Checkpoint.parse(self._writer.tip.note)

    @property
    def start(self) -> int:
        """Index of the first entry that was not pruned away."""
        return self._reader.start

    def entry(self, index: int) -> Entry:
        """One entry. Raises JournalError where there is none."""
        return self._reader.entry(index)

    def entries(
        self, start: int = 0, end: int | None = None, *, types: tuple[str, ...] = ()
    ) -> Iterator[Entry]:
        """Entries [start, end), by default to the size of now; of some types only, where given.

        Entries that were pruned away are passed over.
        """
        return self._reader.entries(max(start, self.start), end, types=types)

    def run_entries(self, run: str) -> list[Entry]:
        """All entries of a run, in order."""
        return [self.entry(index) for index in self.index.run(run)]

    def newest(
        self, *types: str, agent: str | None = None, run: str | None = None
    ) -> Iterator[Entry]:
        """The entries of these types, newest first; found by the index, read as asked for.

        Args:
            agent: of this agent alone.
            run: of runs whose ids begin so.
        """
        end = self.size
        while found := self.index.find(types=types, agent=agent, run=run, end=end, last=_PAGE):
            yield from map(self.entry, reversed(found))
            end = found[0]

    def blob(self, ref: BlobRef | str) -> bytes:
        """The content. Raises JournalError if it was erased or never became durable."""
        return self._blobs.content(ref.id if isinstance(ref, BlobRef) else ref)

    def prove(self, index: int) -> bytes:
        """The proof that an entry is in the log, in C2SP tlog-proof form. Raises JournalError."""
        writer, leaf = self._writer, self._reader.raw(index)
        return prove(index, leaf, self.checkpoint(), writer.hashes.subtree, writer.seals)

    def prove_consistency(self, old: int) -> bytes:
        """The proof that the log at `old` entries is a prefix of it now. Raises JournalError."""
        point, hashes = self.checkpoint(), self._writer.hashes
        return prove_consistency(old, point, hashes)

    async def subscribe(self, from_index: int = 0) -> AsyncIterator[Entry]:
        """Entries from an index on, first those there are and then each as it is committed."""
        changed = asyncio.Event()
        self._followers[changed] = asyncio.get_running_loop()
        try:
            while not self._closed:
                changed.clear()
                size = self._reader.size  # a commit is told to the reader, then to those who wait
                for entry in self.entries(from_index, size):
                    yield entry
                from_index = max(from_index, size)
                if from_index >= self._reader.size:
                    await changed.wait()
        finally:
            self._followers.pop(changed, None)

    # ── inside ──────────────────────────────────────────────────────────────────────────────

    def _go_on(self) -> None:
        """Takes up what an earlier process left: the epoch's age, erasures it had announced."""
        tip = self._writer.tip
        if self.size > tip.first:
            tip.since_ms = self.entry(tip.first).ts
        announced = self.entries(self.size - ERASING, types=("blob.erased",))
        self._blobs.erase_all(str(entry.data.get("id")) for entry in announced)

    async def _erase(self, identity: str, actor: str) -> None:
        await self.append(Draft("blob.erased", actor=actor, data={"id": identity}))
        await asyncio.to_thread(self._blobs.erase, identity)

    def _prepare(self, drafts: Sequence[Draft]) -> tuple[Prepared, ...]:
        if self._closed:
            raise JournalError("the log is closed")
        size = self.size
        for place, draft in enumerate(drafts):
            if draft.cause and any(not -place <= cause < size for cause in draft.cause):
                raise JournalError(
                    f"an entry of type {draft.type} names a cause that is not before it",
                    hint="Causes are indices of earlier entries, or -1 for the draft before.",
                )
        call = tuple([prepare(draft) for draft in drafts])
        if len(call) > MAX_GROUP_ENTRIES and not fits_commit(call):
            raise JournalError(f"{len(drafts)} entries do not fit in one commit")
        return call

    def _commit(self, calls: Sequence[Call]) -> int:
        """Commits, for who holds `_commits`."""
        first = self._writer.commit(calls)
        self._reader.follow(self._writer.tip.first, self._writer.tip.offsets)
        self._announce()
        return first

    def _rotate(self) -> None:
        with self._commits:
            if self._writer.size > self._writer.tip.first:
                self._writer.seal()
                self._reader.follow(self._writer.tip.first, self._writer.tip.offsets)

    def _prune(self, size: int) -> None:
        with self._commits:
            self.index.begin_anew()
            prune(self.folder, size, self._writer.seals, self._writer.hashes, self._blobs)
            self._reader.refresh()
            self._reader.follow(self._writer.tip.first, self._writer.tip.offsets)

    def _announce(self) -> None:
        """Wakes who follows the log, each in its own loop."""
        for changed, loop in list(self._followers.items()):
            with suppress(RuntimeError):  # a loop that was closed has nobody to wake
                loop.call_soon_threadsafe(changed.set)


def _locked(folder: Path) -> FolderLock:
    try:
        made = not folder.exists()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if made:
            sync_folder(folder.parent)
        return FolderLock(folder)
    except OSError as error:
        raise _unopened(folder, error) from error


def _unopened(folder: Path, error: OSError) -> JournalError:
    return JournalError(
        f"the log in {folder} cannot be opened: {error.strerror or error}",
        hint="Free some space, or check the disk and who owns the folder.",
    )
