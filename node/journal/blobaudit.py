"""Checks that the content a log refers to is there, or was erased on the record."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from node.journal.blobs import BlobReader, Slot

_CHUNK = 1 << 20
_NAMED = 20
_ONE = rb'\{"id":"([0-9a-f]{64})","len":(\d+),"role":"(?:[^"\\]|\\.)*"\}'
_REFS = re.compile(rb'"blobs":\[((?:' + _ONE.replace(b"(", b"(?:", 2) + rb",?)+)\],")
_REF = re.compile(_ONE)
_ERASURE = re.compile(rb'"type":"blob\.erased".*"data":\{"id":"([0-9a-f]{64})"\}\}\Z', re.DOTALL)


class BlobState(StrEnum):
    """What became of a blob."""

    PRESENT = "present"
    ERASED = "erased"
    MISSING = "missing"
    DAMAGED = "damaged"


@dataclass
class BlobReport:
    """How many blobs are in which state; `problems` names the first few with their entries.

    Erased means that salt and key are gone and an entry says so; gone without one is missing.
    """

    checked: bool = False
    counts: dict[BlobState, int] = field(default_factory=lambda: dict.fromkeys(BlobState, 0))
    problems: list[str] = field(default_factory=list)

    @property
    def whole(self) -> bool:
        """Whether none is missing or damaged."""
        return not self.counts[BlobState.MISSING] and not self.counts[BlobState.DAMAGED]


class BlobAudit:
    """Gathers references segment by segment and looks for each blob where it must be."""

    def __init__(self, folder: Path) -> None:
        self._reader = BlobReader(folder / "blobs")
        self._refs: dict[bytes, int] = {}
        self._emptied: dict[bytes, int] = {}
        self._erasures: set[bytes] = set()
        self.report = BlobReport(checked=True)

    def entries(self, lines: list[bytes], first: int) -> None:
        """Takes the references of entries' lines, the first of them at index `first`."""
        for place in [n for n, x in enumerate(lines) if b'"blobs":[{' in x]:
            if refs := _REFS.search(lines[place]):
                for found in _REF.finditer(refs.group(1)):
                    identity = bytes.fromhex(found.group(1).decode())
                    self._refs.setdefault(identity, first + place)
        for line in [x for x in lines if b'"type":"blob.erased"' in x]:
            if erasure := _ERASURE.search(line):
                self._erasures.add(bytes.fromhex(erasure.group(1).decode()))

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

    def finish(self) -> BlobReport:
        """The report, once all entries were seen."""
        for identity, index in self._emptied.items():
            erased = identity in self._erasures
            self._count(BlobState.ERASED if erased else BlobState.MISSING, identity, index)
        self._emptied = {}
        return self.report

    def _look(self, slot: Slot, index: int) -> None:
        if slot.erased:
            self._emptied.setdefault(slot.id, index)
        elif slot.whole and self._hash(slot) == slot.id:
            self._count(BlobState.PRESENT, slot.id, index)
        else:
            self._count(BlobState.DAMAGED, slot.id, index)

    def _hash(self, slot: Slot) -> bytes:
        hasher, left = hashlib.sha256(slot.salt), slot.length
        try:
            with self._reader.path(slot.segment, "pack").open("rb") as file:
                file.seek(slot.offset)
                while left and (chunk := file.read(min(left, _CHUNK))):
                    hasher.update(chunk)
                    left -= len(chunk)
        except OSError:
            return b""
        return b"" if left else hasher.digest()

    def _count(self, state: BlobState, identity: bytes, index: int) -> None:
        self.report.counts[state] += 1
        bad = state in {BlobState.MISSING, BlobState.DAMAGED}
        if bad and len(self.report.problems) < _NAMED:
            self.report.problems.append(f"blob {identity.hex()} of entry {index} is {state}")
