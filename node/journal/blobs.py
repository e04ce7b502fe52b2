"""Content beside the log, each piece under a key of its own that can be destroyed.

A blob is ChaCha20-Poly1305 ciphertext under a fresh key (so the nonce is zero), named
SHA-256(32-byte salt || ciphertext). The log holds only the name. Two files grow beside each
segment: `blobs/<first index>.pack` holds ciphertext, `blobs/<first index>.keys` a slot of 128
bytes a blob with salt and key. Erasing overwrites salt and key in place: what is left can neither
be read nor matched against a guess, and the log stays valid.

    slot: id 32 | salt 32 | key 32 | offset u64 | length u64 | place 8 | secret 8   (big endian)
    place = first 8 bytes of SHA-256(id || offset || length), secret = of SHA-256(salt || key)
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import struct
from collections.abc import Container, Iterator
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from node.disk import listed
from node.errors import JournalErasedError, JournalError, JournalReadError
from node.journal.storage import READ_HINT

SLOT_BYTES = 128
TAG_BYTES = 16
BLOB_ID = re.compile("[0-9a-f]{64}")
ERASED = bytes(64)
"""Salt and key of a blob that was erased."""
ERASING = 1000
"""Among so many of a log's last entries there may be an erasure that is announced and not done."""
RESTORE_HINT = "Restore the blobs folder from a backup; the log itself does not depend on it."
_NEAR = 512  # slots, to either side
_NONCE = bytes(12)
_SLOT = struct.Struct(">32s32s32sQQ8s8s")


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
        if self.salt + self.key == ERASED:
            raise JournalErasedError(f"blob {self.id.hex()} was erased")
        if blob_id(self.salt, self.ciphertext) != self.id:
            raise JournalError(f"blob {self.id.hex()} is not what the log says", hint=RESTORE_HINT)
        try:
            return ChaCha20Poly1305(self.key).decrypt(_NONCE, self.ciphertext, None)
        except InvalidTag as error:
            text = f"blob {self.id.hex()} has a damaged key"
            raise JournalError(text, hint=RESTORE_HINT) from error


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
        return self.salt + self.key == ERASED


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
                slot = parse_slot(segment, at // SLOT_BYTES, raw[at : at + SLOT_BYTES])
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
            raise cannot_read(slot.id.hex(), error) from error
        if len(raw) != slot.length:
            raise JournalError(f"blob {slot.id.hex()} is missing its content", hint=RESTORE_HINT)
        return Sealed(slot.id, slot.salt, slot.key, raw)

    def content(self, identity: str) -> bytes:
        """The content of a blob by its hex id.

        Raises:
            JournalErasedError: it was erased.
            JournalError: it is not there.
            JournalReadError: that cannot be told.
        """
        raw = raw_id(identity)
        try:
            slot = self.find(raw)
        except OSError as error:
            raise cannot_read(identity, error) from error
        if slot is None:
            raise JournalError(f"blob {identity} is not in this log", hint=RESTORE_HINT)
        return self.sealed(slot).content()


def cannot_read(identity: str, error: OSError) -> JournalReadError:
    """The error of a blob of which the disk does not tell whether it is there."""
    return JournalReadError(f"blob {identity} cannot be read: {error.strerror}", hint=READ_HINT)


def raw_id(identity: str) -> bytes:
    """The 32 bytes of a blob's hex id. Raises JournalError where it is none."""
    if not BLOB_ID.fullmatch(identity):
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
        if not odd and (slot := parse_slot(segment, first + number, raw[at : at + SLOT_BYTES])):
            yield slot
        at = raw.find(identity, at + 1)


def pack_slot(blob: Sealed, offset: int) -> bytes:
    """The slot of a blob whose ciphertext begins at `offset` of the pack."""
    length = len(blob.ciphertext)
    place, secret = _place(blob.id, offset, length), _secret(blob.salt, blob.key)
    return _SLOT.pack(blob.id, blob.salt, blob.key, offset, length, place, secret)


def parse_slot(segment: int, number: int, raw: bytes) -> Slot | None:
    """The slot in `raw`; None where the bytes are none."""
    if len(raw) != SLOT_BYTES:
        return None
    identity, salt, key, offset, length, place, secret = _SLOT.unpack(raw)
    if place != _place(identity, offset, length) or length < TAG_BYTES:
        return None
    whole = secret == _secret(salt, key)
    return Slot(segment, number, identity, salt, key, offset, length, whole)
