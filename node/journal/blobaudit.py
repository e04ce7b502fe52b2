"""Checks that the content a log refers to is there, or was erased on the record."""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from cryptography.hazmat.primitives.poly1305 import Poly1305

from node.journal.blobs import ERASING, TAG_BYTES, BlobReader, Slot
from node.journal.entry import parse

_CHUNK = 1 << 20
_NAMED = 20
_TEXT = rb'"(?:[^"\\]|\\.)*"'
_REF = rb'\{"id":"[0-9a-f]{64}","len":\d+,"role":T\}'
_BEFORE = re.compile(
    rb'\{"v":1,"i":\d+,"ts":-?\d+,"boot":T,"mono":-?\d+,"type":T,"run":(?:null|T),'
    rb'"path":(?:null|T),"cause":\[[\d,-]*\],"agent":(?:null|T),"actor":T,'
    rb'"policy":(?:null|\{"rule":T,"verdict":T\}),"blobs":\[((?:R(?:,R)*)?)\],'.replace(
        b"R", _REF
    ).replace(b"T", _TEXT)
)
_ID = re.compile(rb'\{"id":"([0-9a-f]{64})"')
_ERASURE = re.compile(rb'"type":"blob\.erased".*"data":\{"id":"([0-9a-f]{64})"\}\}\Z', re.DOTALL)


class BlobState(StrEnum):
    """What became of a blob."""

    PRESENT = "present"
    ERASED = "erased"
    UNERASED = "unerased"
    MISSING = "missing"
    DAMAGED = "damaged"


@dataclass
class BlobReport:
    """How many blobs are in which state; `problems` names the first few with their entries.

    Erased means that salt and key are gone and an entry says so; gone without one is missing, and
    said without being gone is unerased. Damaged is what cannot be read as it was written.
    """

    checked: bool = False
    counts: dict[BlobState, int] = field(default_factory=lambda: dict.fromkeys(BlobState, 0))
    problems: list[str] = field(default_factory=list)

    @property
    def whole(self) -> bool:
        """Whether each is there, or was erased."""
        return not any(self.counts[state] for state in _BAD)


_BAD = (BlobState.MISSING, BlobState.DAMAGED, BlobState.UNERASED)


def referred(line: bytes) -> Iterator[bytes]:
    """The ids of the blobs an entry refers to. What its data holds may look the same, and is not.

    Raises:
        JournalDamagedError: the line is not an entry.
    """
    before = _BEFORE.match(line)
    if before:
        yield from (bytes.fromhex(found.decode()) for found in _ID.findall(before[1]))
    else:
        yield from (bytes.fromhex(ref.id) for ref in parse(line).draft.blobs)


class BlobAudit:
    """Gathers references segment by segment and looks for each blob where it must be."""

    def __init__(self, folder: Path) -> None:
        self._reader = BlobReader(folder / "blobs")
        self._refs: dict[bytes, int] = {}
        self._emptied: dict[bytes, int] = {}
        self._erasures: dict[bytes, int] = {}
        self.report = BlobReport(checked=True)

    def entries(self, lines: list[bytes], first: int) -> None:
        """Takes the references of entries' lines, the first of them at index `first`."""
        for place in [n for n, x in enumerate(lines) if b'"blobs":[{' in x]:
            for identity in referred(lines[place]):
                self._refs.setdefault(identity, first + place)
        for place in [n for n, x in enumerate(lines) if b'"type":"blob.erased"' in x]:
            if erasure := _ERASURE.search(lines[place]):
                self._erasures[bytes.fromhex(erasure.group(1).decode())] = first + place

    def segment_done(self, first: int) -> None:
        """Looks for the blobs the segment's entries refer to."""
        refs, self._refs = self._refs, {}
        for slot in self._reader.slots(first):
            index = refs.pop(slot.id, None)
            if index is not None:
                self._look(slot, index)
        for identity, index in refs.items():
            found = self._reader.find(identity)
            if found:
                self._look(found, index)
            else:
                self._count(BlobState.MISSING, identity, index)

    def finish(self, size: int, *, live: bool) -> BlobReport:
        """The report, once all `size` entries were seen; `live` where a writer has the log open."""
        for identity, index in self._emptied.items():
            erased = identity in self._erasures
            self._count(BlobState.ERASED if erased else BlobState.MISSING, identity, index)
        self._emptied = {}
        done = size - ERASING if live else size
        said = {identity: at for identity, at in self._erasures.items() if at < done}
        for segment in self._reader.segments() if said else ():
            for slot in self._reader.slots(segment, said):
                if not slot.erased:
                    self.report.counts[BlobState.PRESENT] -= slot.whole and self._sound(slot)
                    self._count(BlobState.UNERASED, slot.id, said[slot.id])
        return self.report

    def _look(self, slot: Slot, index: int) -> None:
        if slot.erased:
            self._emptied.setdefault(slot.id, index)
        elif slot.whole and self._sound(slot):
            self._count(BlobState.PRESENT, slot.id, index)
        else:
            self._count(BlobState.DAMAGED, slot.id, index)

    def _sound(self, slot: Slot) -> bool:
        """Whether the content is what its id says, and the key opens it (RFC 8439, 2.8). Raises
        OSError where that cannot be told."""
        hasher, left = hashlib.sha256(slot.salt), slot.length - TAG_BYTES
        once = Cipher(ChaCha20(slot.key, bytes(16)), None).encryptor().update(bytes(32))
        mac = Poly1305(once)
        try:
            with self._reader.path(slot.segment, "pack").open("rb") as file:
                file.seek(slot.offset)
                while left and (chunk := file.read(min(left, _CHUNK))):
                    hasher.update(chunk)
                    mac.update(chunk)
                    left -= len(chunk)
                tag = file.read(TAG_BYTES)
        except FileNotFoundError:
            return False
        length = slot.length - TAG_BYTES
        hasher.update(tag)
        mac.update(bytes(-length % 16) + struct.pack("<QQ", 0, length))
        return not left and hasher.digest() == slot.id and mac.finalize() == tag

    def _count(self, state: BlobState, identity: bytes, index: int) -> None:
        self.report.counts[state] += 1
        if state in _BAD and len(self.report.problems) < _NAMED:
            self.report.problems.append(f"blob {identity.hex()} of entry {index} is {state}")
