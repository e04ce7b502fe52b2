"""The writer's side of blobs: what is put, written with its commit, erased, pruned away.

Content put waits in memory until an entry that names it is committed; then pack and keys are
written and synced at the same time as the segment, so that a commit costs one sync's time with or
without blobs. `blobs` has the form of the files.
"""

from __future__ import annotations

import contextlib
import mmap
import os
from collections.abc import Iterable, Iterator
from itertools import takewhile
from pathlib import Path

from node.disk import listed, sync
from node.errors import JournalErasedError, JournalError
from node.journal.blobs import (
    BLOB_ID,
    ERASED,
    RESTORE_HINT,
    SLOT_BYTES,
    BlobReader,
    Sealed,
    Slot,
    cannot_read,
    pack_slot,
    parse_slot,
    raw_id,
)
from node.journal.storage import AppendFile, Storage, make_folder
from node.journal.types import BlobRef

MAX_BLOB_BYTES = 256 * 1024 * 1024


class BlobStore(BlobReader):
    """The writer's side: content waiting for its entry, and the files of the current segment."""

    def __init__(self, folder: Path, storage: Storage) -> None:
        super().__init__(folder)
        self._storage = storage
        self._waiting: dict[str, Sealed] = {}
        self._segment = -1
        self._files: tuple[AppendFile, AppendFile] | None = None
        self._sizes = self._grown = (0, 0)  # of what is durable, and with what was written since

    def put(self, content: bytes, role: str) -> BlobRef:
        """Encrypts and keeps in memory until an entry that names it is committed."""
        if len(content) > MAX_BLOB_BYTES:
            raise JournalError(f"a blob of {len(content)} bytes is over {MAX_BLOB_BYTES}")
        sealed = Sealed.of(content)
        name = sealed.id.hex()
        self._waiting[name] = sealed
        return BlobRef(name, len(content), role)

    def waiting(self, refs: Iterable[BlobRef]) -> list[Sealed]:
        """Those of the blobs that are not yet written, each once."""
        found = {ref.id: self._waiting.get(ref.id) for ref in refs}
        return [sealed for sealed in found.values() if sealed is not None]

    def content(self, identity: str) -> bytes:
        sealed = self._waiting.get(identity)
        return sealed.content() if sealed else super().content(identity)

    def write(self, segment: int, blobs: list[Sealed]) -> tuple[AppendFile, AppendFile]:
        """Appends blobs to a segment's files. Raises OSError.

        Returns:
            The files to sync before the commit is acknowledged.
        """
        files = self._open(segment)
        slots, packs, offset = [], [], self._sizes[0]
        for blob in blobs:
            slots.append(pack_slot(blob, offset))
            packs.append(blob.ciphertext)
            offset += len(blob.ciphertext)
        for file, data in zip(files, (b"".join(packs), b"".join(slots)), strict=True):
            file.write(data)
        self._grown = offset, self._sizes[1] + SLOT_BYTES * len(slots)
        return files

    def written(self, blobs: list[Sealed]) -> None:
        """Forgets blobs from memory; they are durable now."""
        self._sizes = self._grown
        for blob in blobs:
            self._waiting.pop(blob.id.hex(), None)

    def undo(self) -> None:
        """Cuts the files back to what was durable. Raises OSError."""
        self._grown = self._sizes
        for file, size in zip(self._files or (), self._sizes, strict=False):
            file.truncate(size)

    def check_key(self, identity: str) -> None:
        """That there is a key of this blob to destroy, be the content whole or damaged.

        Raises:
            JournalErasedError: it was destroyed.
            JournalError: there is no such blob.
            JournalReadError: that cannot be told.
        """
        raw = raw_id(identity)
        if identity in self._waiting:
            return
        try:
            slots = list(self._slots_of(raw))
        except OSError as error:
            raise cannot_read(identity, error) from error
        if not slots:
            raise JournalError(f"blob {identity} is not in this log", hint=RESTORE_HINT)
        if all(slot.erased for slot in slots):
            raise JournalErasedError(f"blob {identity} was erased")

    def erase(self, identity: str) -> None:
        """Destroys a blob's key and salt, durably, wherever they are.

        Raises:
            JournalError: there is none, or the disk refuses.
        """
        raw = raw_id(identity)
        if self._waiting.pop(identity, None):
            return
        try:
            slots = list(self._slots_of(raw))
            for slot in slots:
                self._wipe(slot)
        except OSError as error:
            raise JournalError(
                f"the key of blob {identity} cannot be destroyed: {error.strerror}",
                hint="Check the disk and start the node again: it takes this up where it can.",
            ) from error
        if not slots:
            raise JournalError(f"blob {identity} is not in this log")

    def erase_all(self, identities: Iterable[str]) -> None:
        """Destroys what is left of these blobs' keys, as far as the disk lets it."""
        wanted = {bytes.fromhex(one) for one in identities if BLOB_ID.fullmatch(one)}
        with contextlib.suppress(OSError):
            for segment in self.segments() if wanted else ():
                for slot in self.slots(segment, wanted):
                    if not slot.erased:
                        self._wipe(slot)

    def forget_unnamed(self, segment: int, entries: Path) -> None:
        """Destroys the keys at a segment's end that none of its entries names: a commit that was
        cut off left them, and nobody could ever ask to erase that content. Raises OSError.

        Args:
            entries: the segment's file, without what no commit covers.
        """
        keys = self.path(segment, "keys")
        raw = keys.read_bytes() if keys.is_file() else b""
        slots = (
            parse_slot(segment, number, raw[number * SLOT_BYTES : (number + 1) * SLOT_BYTES])
            for number in reversed(range(len(raw) // SLOT_BYTES))
        )
        with _mapped(entries) as lines:

            def is_unnamed(slot: Slot) -> bool:
                return not slot.erased and lines.rfind(slot.id.hex().encode()) < 0

            unnamed = list(takewhile(is_unnamed, filter(None, slots)))
        for slot in reversed(unnamed):  # the last one last: it is where the next look begins
            self._wipe(slot)

    def _wipe(self, slot: Slot) -> None:
        fd = os.open(self.path(slot.segment, "keys"), os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.pwrite(fd, ERASED, slot.number * SLOT_BYTES + 32)
            sync(fd)
        finally:
            os.close(fd)

    def before(self, size: int) -> list[int]:
        """The segments before entry `size` that have a pack or keys, in order. Raises OSError."""
        paths = [*listed(self.folder, "*.keys"), *listed(self.folder, "*.pack")]
        names = {path.stem for path in paths if path.stem.isdecimal()}
        return sorted(first for first in map(int, names) if first < size)

    def remove(self, segment: int) -> None:
        """Deletes a segment's blobs, keys first, which are overwritten as those of one that is
        erased. Raises OSError."""
        with contextlib.suppress(FileNotFoundError), self.path(segment, "keys").open("r+b") as keys:
            keys.write(bytes(os.fstat(keys.fileno()).st_size))
            keys.flush()
            sync(keys.fileno())
        for kind in ("keys", "pack"):
            self.path(segment, kind).unlink(missing_ok=True)

    def close(self) -> None:
        """Closes the files."""
        for file in self._files or ():
            file.close()
        self._files, self._segment = None, -1

    def _open(self, segment: int) -> tuple[AppendFile, AppendFile]:
        if self._files and segment == self._segment:
            return self._files
        self.close()
        make_folder(self.folder)
        pack, keys = (self.path(segment, kind) for kind in ("pack", "keys"))
        files = self._storage.open_append(pack), self._storage.open_append(keys)
        whole = keys.stat().st_size // SLOT_BYTES * SLOT_BYTES
        if whole != keys.stat().st_size:
            files[1].truncate(whole)
        self._files, self._segment = files, segment
        self._sizes = self._grown = pack.stat().st_size, whole
        return files


@contextlib.contextmanager
def _mapped(path: Path) -> Iterator[mmap.mmap | bytes]:
    """A file's bytes, of which a look from the end reads few."""
    with path.open("rb") as file:
        if not os.fstat(file.fileno()).st_size:  # which cannot be mapped
            yield b""
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            yield mapped
