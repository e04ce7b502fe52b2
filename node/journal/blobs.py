"""Content beside the log, each piece under a key of its own that can be destroyed.

A blob is ChaCha20-Poly1305 ciphertext under a fresh key (so the nonce is zero), named
SHA-256(32-byte salt || ciphertext). The log holds only the name. Two files grow beside each
segment: `blobs/<first index>.pack` holds ciphertext, `blobs/<first index>.keys` a slot of 128
bytes a blob with salt and key. Erasing overwrites salt and key in place: what is left can neither
be read nor matched against a guess, and the log stays valid.

Content put waits in memory until an entry that names it is committed; then pack and keys are
written and synced at the same time as the segment, so that a commit costs one sync's time with or
without blobs.

    slot: id 32 | salt 32 | key 32 | offset u64 | length u64 | place 8 | secret 8   (big endian)
    place = first 8 bytes of SHA-256(id || offset || length), secret = of SHA-256(salt || key)
"""

from __future__ import annotations

import contextlib
import hashlib
import mmap
import os
import re
import secrets
import struct
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from node.disk import listed, sync
from node.errors import JournalErasedError, JournalError, JournalReadError
from node.journal.storage import READ_HINT, AppendFile, Storage, make_folder
from node.journal.types import BlobRef

MAX_BLOB_BYTES = 256 * 1024 * 1024
SLOT_BYTES = 128
TAG_BYTES = 16
_NEAR = 512  # slots, to either side
_NONCE = bytes(12)
_ERASED = bytes(64)
_SLOT = struct.Struct(">32s32s32sQQ8s8s")
_ID = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True)
class Sealed:
    """A blob under its key. `salt` and `key` are zeros once it is erased."""

    id: bytes
    salt: bytes
    key: bytes
    ciphertext: bytes

    @classmethod
    def of(cls, content: bytes) -> Sealed:
        """Encrypts under a fresh key and salt."""
        key, salt = secrets.token_bytes(32), secrets.token_bytes(32)
        ciphertext = ChaCha20Poly1305(key).encrypt(_NONCE, content, None)
        return cls(blob_id(salt, ciphertext), salt, key, ciphertext)

    def content(self) -> bytes:
        """Decrypts. Raises JournalErasedError, or JournalError if it is not what its id says."""
        if self.salt + self.key == _ERASED:
            raise JournalErasedError(f"blob {self.id.hex()} was erased")
        if blob_id(self.salt, self.ciphertext) != self.id:
            raise JournalError(f"blob {self.id.hex()} is not what the log says", hint=_RESTORE)
        try:
            return ChaCha20Poly1305(self.key).decrypt(_NONCE, self.ciphertext, None)
        except InvalidTag as error:
            text = f"blob {self.id.hex()} has a damaged key"
            raise JournalError(text, hint=_RESTORE) from error


_RESTORE = "Restore the blobs folder from a backup; the log itself does not depend on it."


@dataclass(frozen=True)
class Slot:
    """Where a blob is. `number` counts slots in the keys file of `segment`.

    `whole` says that salt and key are as they were written; it is False once they are erased.
    """

    segment: int
    number: int
    id: bytes
    salt: bytes
    key: bytes
    offset: int
    length: int
    whole: bool

    @property
    def erased(self) -> bool:
        """Whether salt and key are gone."""
        return self.salt + self.key == _ERASED


def blob_id(salt: bytes, ciphertext: bytes) -> bytes:
    """SHA-256(salt || ciphertext)."""
    hasher = hashlib.sha256(salt)
    hasher.update(ciphertext)
    return hasher.digest()


class BlobReader:
    """Reads blobs of a journal's folder, with or without its writer running."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._found = -1, 0  # segment and number of the last that was found: its run has more there

    def path(self, segment: int, kind: str) -> Path:
        """The `pack` or `keys` file beside a segment."""
        return self.folder / f"{segment:012d}.{kind}"

    def segments(self) -> list[int]:
        """First indices of the segments that have blobs, in order. Raises OSError."""
        names = (path.stem for path in listed(self.folder, "*.keys"))
        return sorted(int(name) for name in names if name.isdecimal())

    def slots(self, segment: int, wanted: Container[bytes] | None = None) -> Iterator[Slot]:
        """All whole, well-formed slots of a segment's keys file, or those of the blobs wanted."""
        path = self.path(segment, "keys")
        raw = path.read_bytes() if path.is_file() else b""
        for at in range(0, len(raw), SLOT_BYTES):
            if wanted is None or raw[at : at + 32] in wanted:
                slot = _slot(segment, at // SLOT_BYTES, raw[at : at + SLOT_BYTES])
                if slot is not None:
                    yield slot

    def find(self, identity: bytes) -> Slot | None:
        """The slot of a blob: first near the last one, then newest segment first."""
        slot = self._near(identity) or next(self._slots_of(identity), None)
        if slot is not None:
            self._found = slot.segment, slot.number
        return slot

    def _near(self, identity: bytes) -> Slot | None:
        """Its slot, where that is near the last one: a list of many reads no segment's whole file
        for each."""
        segment, number = self._found
        first = max(0, number - _NEAR)
        try:
            with self.path(segment, "keys").open("rb") as file:
                raw = os.pread(file.fileno(), 2 * _NEAR * SLOT_BYTES, first * SLOT_BYTES)
        except FileNotFoundError:  # nothing was found yet, or it was pruned away
            return None
        return next(_slots_in(raw, identity, segment, first), None)

    def _slots_of(self, identity: bytes) -> Iterator[Slot]:
        last, _ = self._found
        for segment in sorted(self.segments(), key=lambda one: (one != last, -one)):
            yield from _slots_in(self.path(segment, "keys").read_bytes(), identity, segment)

    def sealed(self, slot: Slot) -> Sealed:
        """The blob of a slot. Raises JournalError where its ciphertext is not there, and
        JournalReadError where that cannot be told."""
        try:
            with self.path(slot.segment, "pack").open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                held = slot.offset + slot.length <= size
                raw = os.pread(file.fileno(), slot.length, slot.offset) if held else b""
        except FileNotFoundError:
            raw = b""
        except OSError as error:
            raise _unread(slot.id.hex(), error) from error
        if len(raw) != slot.length:
            raise JournalError(f"blob {slot.id.hex()} is missing its content", hint=_RESTORE)
        return Sealed(slot.id, slot.salt, slot.key, raw)

    def content(self, identity: str) -> bytes:
        """The content of a blob by its hex id.

        Raises:
            JournalErasedError: it was erased.
            JournalError: it is not there.
            JournalReadError: that cannot be told.
        """
        raw = _identity(identity)
        try:
            slot = self.find(raw)
        except OSError as error:
            raise _unread(identity, error) from error
        if slot is None:
            raise JournalError(f"blob {identity} is not in this log", hint=_RESTORE)
        return self.sealed(slot).content()


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
            length = len(blob.ciphertext)
            checks = _place(blob.id, offset, length), _secret(blob.salt, blob.key)
            slots.append(_SLOT.pack(blob.id, blob.salt, blob.key, offset, length, *checks))
            packs.append(blob.ciphertext)
            offset += length
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
        raw = _identity(identity)
        if identity in self._waiting:
            return
        try:
            slots = list(self._slots_of(raw))
        except OSError as error:
            raise _unread(identity, error) from error
        if not slots:
            raise JournalError(f"blob {identity} is not in this log", hint=_RESTORE)
        if all(slot.erased for slot in slots):
            raise JournalErasedError(f"blob {identity} was erased")

    def erase(self, identity: str) -> None:
        """Destroys a blob's key and salt, durably, wherever they are.

        Raises:
            JournalError: there is none, or the disk refuses.
        """
        raw = _identity(identity)
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
        wanted = {bytes.fromhex(one) for one in identities if _ID.fullmatch(one)}
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
            _slot(segment, number, raw[number * SLOT_BYTES : (number + 1) * SLOT_BYTES])
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
            os.pwrite(fd, _ERASED, slot.number * SLOT_BYTES + 32)
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


def _unread(identity: str, error: OSError) -> JournalReadError:
    return JournalReadError(f"blob {identity} cannot be read: {error.strerror}", hint=READ_HINT)


def _identity(identity: str) -> bytes:
    if not _ID.fullmatch(identity):
        raise JournalError(f"not a blob id: {identity[:80]!r}", hint="It is 64 hex digits.")
    return bytes.fromhex(identity)


def _place(identity: bytes, offset: int, length: int) -> bytes:
    return hashlib.sha256(identity + struct.pack(">QQ", offset, length)).digest()[:8]


def _secret(salt: bytes, key: bytes) -> bytes:
    return hashlib.sha256(salt + key).digest()[:8]


def _slots_in(raw: bytes, identity: bytes, segment: int, first: int = 0) -> Iterator[Slot]:
    """Those of a blob among the slots in `raw`, which are the segment's from slot `first` on."""
    at = raw.find(identity)
    while at >= 0:
        number, odd = divmod(at, SLOT_BYTES)
        if not odd and (slot := _slot(segment, first + number, raw[at : at + SLOT_BYTES])):
            yield slot
        at = raw.find(identity, at + 1)


def _slot(segment: int, number: int, raw: bytes) -> Slot | None:
    if len(raw) != SLOT_BYTES:
        return None
    identity, salt, key, offset, length, place, secret = _SLOT.unpack(raw)
    if place != _place(identity, offset, length) or length < TAG_BYTES:
        return None
    whole = secret == _secret(salt, key)
    return Slot(segment, number, identity, salt, key, offset, length, whole)
