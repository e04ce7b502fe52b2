"""What every saga works with: the file and the seed, and its mints (`directory`).

Nothing here moves money.
"""

from __future__ import annotations

import contextlib
import hmac
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from wallet.errors import (
    MintError,
    MintUnreachableError,
    OutcomeUnknownError,
    RefusedError,
    StoreError,
)
from wallet.operations.directory import Directory, Snapshot
from wallet.operations.results import Rules
from wallet.protocol import outputs as making
from wallet.protocol.derivation import Seed
from wallet.store import Change, Kind, Operation, Outbox, Record, State, Store, Tables
from wallet.types import Output, Proof

if TYPE_CHECKING:
    from wallet.mint import MintClient


class Book(Directory):
    """The wallet's file and mints, shared by its operations.

    Args:
        store: open and unlocked.
        seed: what secrets are derived from.
        connect: makes the client of a mint's URL.
        meet: the same for a mint that only a token named.
        rules: what may be done without asking.
        now: Unix seconds.
        steady: seconds of a clock that nobody sets.
        random: bytes of a secure generator.
    """

    def __init__(
        self,
        store: Store,
        seed: Seed,
        *,
        connect: Callable[[str], MintClient],
        meet: Callable[[str], MintClient],
        rules: Rules,
        now: Callable[[], float],
        steady: Callable[[], float],
        random: Callable[[int], bytes],
    ) -> None:
        super().__init__(store, connect=connect, meet=meet, rules=rules, now=now)
        self.seed = seed
        self.random = random
        self.change = Change(rules.small_change, rules.change_pieces)
        self._steady = steady
        self._stamps: dict[int, float] = {}
        self.framed: set[str] = set()  # mints that took the amended signature; see `locking`

    # ── time and keys ───────────────────────────────────────────────────────────────────────

    def stamp(self) -> int:
        """Now, of which `age_s` will know in this process how long ago it was, for an hour."""
        now, steady = self.now(), self._steady()
        if now not in self._stamps:
            self._stamps = {at: s for at, s in self._stamps.items() if steady - s < 3_600}
        self._stamps[now] = steady
        return now

    def age_s(self, time: int) -> float:
        """Seconds since a stamp, however the clock was set meanwhile, where that is of this
        process; else what the clock says, below zero where it was set back."""
        steady = self._stamps.get(time)
        return self._now() - time if steady is None else self._steady() - steady

    def new_key(self) -> str:
        """An operation's id, where the caller gave none."""
        return self.random(16).hex()

    # ── operations ──────────────────────────────────────────────────────────────────────────

    def record(self, key: str) -> Record | None:
        """An operation with its body, as committed."""
        return self.store.read(lambda tables: tables.operations.get(key))

    def operation(self, key: str) -> Operation | None:
        """The same without its body."""
        return self.store.read(lambda tables: tables.operations.operation(key))

    def pending(self) -> tuple[Operation, ...]:
        """Those that are not final, oldest first."""
        return self.store.read(lambda tables: tables.operations.pending())

    def held(self, key: str) -> tuple[Proof, ...]:
        """The proofs that an operation holds, in whatever state."""
        return self.store.read(lambda t: tuple(each.proof for each in t.proofs.held(key)))

    def same(self, key: str, kind: Kind, asked: Mapping[str, Any]) -> Record | None:
        """The operation of this key, if there is one and it is this very wish.

        Raises:
            RefusedError: the key was given to another one.
        """
        found = self.record(key)
        if found is None:
            return None
        if found.operation.kind != kind or found.body.get("asked") != asked:
            raise RefusedError(
                f"the key {key!r} belongs to another operation ({found.operation.kind.value})",
                hint="Give each payment a key of its own.",
            )
        return found

    def begun(
        self,
        key: str,
        kind: Kind,
        snapshot: Snapshot,
        amount: int,
        *,
        parent: str = "",
        **body: Any,
    ) -> Record:
        """A new operation, not yet in the file."""
        now, outbox = self.now(), Outbox.NONE
        mint, unit = snapshot.mint, snapshot.unit
        operation = Operation(
            key, kind, State.PREPARED, mint, unit, amount, 0, now, now, outbox, "", parent
        )
        return Record(operation, body)

    def changed(self, record: Record, **fields: Any) -> Record:
        """The record with fields of its operation, and now as the time of it. `body` replaces."""
        body = fields.pop("body", record.body)
        return Record(replace(record.operation, updated=self.now(), **fields), body)

    async def keep(self, record: Record, name: str = "keep") -> Record:
        """Writes what became of an operation."""
        await self.store.write(name, lambda tables: tables.operations.update(record))
        return record

    async def doubt(self, record: Record, error: OutcomeUnknownError) -> None:
        """Marks it pending: it may have happened. Written once, not at every try."""
        if record.operation.state != State.PENDING or record.operation.error != error.message:
            await self.keep(self.changed(record, state=State.PENDING, error=error.message), "doubt")

    @contextlib.asynccontextmanager
    async def doubting(self, record: Record) -> AsyncIterator[None]:
        """What a mint does not tell within leaves the operation pending.

        Raises:
            OutcomeUnknownError: for any error of the mint's.
        """
        try:
            yield
        except OutcomeUnknownError as error:
            await self.doubt(record, error)
            raise
        except (MintUnreachableError, MintError) as error:
            lost = OutcomeUnknownError(error.message, hint="Run `recover` when the mint is back.")
            await self.doubt(record, lost)
            raise lost from error

    # ── outputs ─────────────────────────────────────────────────────────────────────────────

    def derive(self, tables: Tables, keyset: str, amounts: Sequence[int]) -> list[Output]:
        """Outputs of the seed for these amounts; their counters are used up (NUT-13)."""
        first = tables.keysets.use(keyset, len(amounts))
        return [
            making.output(amount, keyset, *self.seed.derive(keyset, first + number))
            for number, amount in enumerate(amounts)
        ]

    def new_ecash(self, tables: Tables, now: Snapshot, amount: int) -> list[Output]:
        """Outputs for ecash that comes in, with the small change that lacks."""
        have = tables.proofs.counts(now.mint, now.unit)
        parts = self.change.split(amount, have, now.active.info, tuple(now.active.keys))
        return self.derive(tables, now.active.id, parts)

    def quote_key(self, operation: str) -> bytes:
        """The private key that locks an operation's mint quote (NUT-20): one for each."""
        label = b"freehold wallet: quote key\0" + operation.encode()
        return hmac.digest(self.seed.value, label, "sha256")


def must(record: Record | None, key: str) -> Record:
    """The record, which a caller knows to be there.

    Raises:
        StoreError: it is not.
    """
    if record is None:
        raise StoreError(f"operation {key!r} is not in the wallet's file")
    return record
