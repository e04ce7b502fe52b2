"""What the store keeps, as values without a secret in them: safe to print, to log and to serve.

`Operation` is the public face of a journalled saga. Its states: `prepared` (the request, or the
wish, is stored; for an invoice: it waits to be paid), `pending` (a mint or a Lightning node may
have acted and its answer is not known), `done` and `failed` (both final).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from wallet.types import Proof, Unit


class Kind(StrEnum):
    """What an operation does."""

    MINT = "mint"  # receive by Lightning invoice
    BATCH = "batch"  # several paid invoices of one mint, claimed in one request (NUT-29)
    SEND = "send"
    RECEIVE = "receive"
    RECLAIM = "reclaim"
    CONSOLIDATE = "consolidate"
    MELT = "melt"  # pay a Lightning invoice by one mint
    MULTIPATH = "multipath"  # ... by several (NUT-15); its parts are melts
    EXCHANGE = "exchange"  # a token of a foreign mint, swapped over Lightning to one of ours
    SOURCE = "source"  # an invoice paid by another funding source, such as NWC


class State(StrEnum):
    """How far it is."""

    PREPARED = "prepared"
    PENDING = "pending"
    DONE = "done"
    FAILED = "failed"

    @property
    def final(self) -> bool:
        """Whether nothing more will happen."""
        return self in (State.DONE, State.FAILED)


class Outbox(StrEnum):
    """Where the token of a send is. Only sends have one."""

    NONE = ""
    OPEN = "open"  # made, and not seen spent yet
    DELIVERED = "delivered"
    RECLAIMED = "reclaimed"


@dataclass(frozen=True)
class Operation:
    """One line of the wallet's history. Amounts and fees in `unit`; times in Unix seconds."""

    key: str
    kind: Kind
    state: State
    mint: str
    unit: Unit
    amount: int
    fee: int
    when: int
    updated: int
    outbox: Outbox = Outbox.NONE
    error: str = ""
    parent: str = ""

    @property
    def pending(self) -> bool:
        """Whether money may still move: it is neither done nor failed."""
        return not self.state.final


@dataclass(frozen=True)
class Record:
    """An operation with what only the wallet may see: `body` is sealed at rest.

    `made` are the proofs it has just put in the outbox, to save reading them; it is not kept.
    """

    operation: Operation
    body: Mapping[str, Any] = field(default_factory=dict, repr=False)
    made: tuple[Proof, ...] = field(default=(), repr=False, compare=False)

    @property
    def key(self) -> str:
        """The operation's id: the caller's idempotency key, where one was given."""
        return self.operation.key


@dataclass(frozen=True)
class MintRecord:
    """A mint of this wallet. `balance` by unit counts what can be spent now; `over_cap` warns."""

    url: str
    name: str
    spend: bool
    accept: bool
    units: tuple[str, ...] = ()
    balance: Mapping[str, int] = field(default_factory=dict)
    over_cap: bool = False


@dataclass(frozen=True)
class Held:
    """A proof in the file with its keyed hash, by which rows are found."""

    tag: bytes
    proof: Proof


@dataclass(frozen=True)
class Coin:
    """What selection needs to know of a proof."""

    tag: bytes
    amount: int
    keyset: str
