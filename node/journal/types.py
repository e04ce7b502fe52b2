"""What the journal's users write and read: drafts, entries, blob references."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from node.types import JsonObject


@dataclass(frozen=True)
class BlobRef:
    """Content kept beside the log: id = SHA-256(salt || ciphertext) in hex, `size` in bytes."""

    id: str
    size: int
    role: str


@dataclass(frozen=True)
class PolicyVerdict:
    """Which rule decided about a step, and how: allow, ask, deny, approved, expired."""

    rule: str
    verdict: str


@dataclass(frozen=True)
class Draft:
    """An entry before the log has given it a place and a time.

    `type` is dotted lower case (`run.started`, `step.intent`, `step.result`). `cause` are indices
    of earlier entries that led to this one. `actor` is who caused it: `agent:NAME`, `uid:1000`,
    `node`. `data` must keep the whole entry under 65,535 bytes; larger content goes to blobs.
    """

    type: str
    run: str | None = None
    path: str | None = None
    cause: tuple[int, ...] = ()
    agent: str | None = None
    actor: str = "node"
    policy: PolicyVerdict | None = None
    blobs: tuple[BlobRef, ...] = ()
    data: JsonObject = field(default_factory=dict)


@dataclass(frozen=True)
class Entry:
    """A draft in its place. `ts` is wall time in ms, `mono` monotonic ms within `boot`."""

    index: int
    ts: int
    boot: str
    mono: int
    draft: Draft

    @property
    def type(self) -> str:
        return self.draft.type

    @property
    def data(self) -> JsonObject:
        return self.draft.data


class Log(Protocol):
    """What runs need of a log. `Journal` is the real one, `MemoryLog` the double."""

    async def append(self, *drafts: Draft) -> tuple[int, ...]:
        """Appends all drafts in one commit; returns when they and their blobs are durable.

        A draft's `cause` may name entries of the same call as negative indices: -1 is the draft
        just before it. A caller that is cancelled meanwhile still gets its indices; the
        cancellation strikes at its next wait.

        Raises:
            JournalWriteError: nothing was acknowledged; the node must stop.
        """
        ...

    def put_blob(self, content: bytes, role: str) -> BlobRef:
        """Keeps content; durable once an `append` whose draft refers to it has returned."""
        ...

    def blob(self, ref: BlobRef | str) -> bytes:
        """The content. Raises JournalError if it was erased or never became durable."""
        ...

    def run_entries(self, run: str) -> list[Entry]:
        """All entries of a run, in order."""
        ...
