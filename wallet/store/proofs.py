"""The proofs a wallet holds, and who holds each.

A row is free, reserved by an operation, in the outbox (sent), or set aside: the mint says it was
spent and this wallet did not spend it. Every change names the state it comes from, so that no two
operations can ever hold one proof, whatever the code above believes.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from enum import IntEnum

from wallet.errors import StoreError
from wallet.store import codec
from wallet.store.records import Coin, Held
from wallet.store.vault import Vault
from wallet.types import MAX_AMOUNT, Proof

MOST_ALIKE = 300  # coins of one kind that a selection is given: more than one request spends


class Hold(IntEnum):
    """States of a row."""

    FREE = 0
    RESERVED = 1
    SENT = 2
    ASIDE = 3


class Proofs:
    """The table `proofs` on one connection."""

    def __init__(self, connection: sqlite3.Connection, vault: Vault) -> None:
        self._connection = connection
        self._vault = vault

    def coins(
        self, mint: str, unit: str, *, most: int = MAX_AMOUNT, alike: int = MOST_ALIKE
    ) -> list[Coin]:
        """What is free at a mint, in pieces of at most `most`, smallest first.

        Of one amount and keyset no more than `alike`, so that a payee of many small payments reads
        no more than a selection can use.
        """
        found: list[Coin] = []
        for amount, keyset in self._kinds(mint, unit, most):
            rows = self._connection.execute(
                "SELECT tag FROM proofs WHERE mint = ? AND unit = ? AND state = 0 AND amount = ?"
                " AND keyset = ? LIMIT ?",
                (mint, unit, amount, keyset, min(alike, most // amount)),
            )
            found += [Coin(tag, amount, keyset) for (tag,) in rows]
        return found

    def counts(self, mint: str, unit: str) -> Counter[int]:
        """How many pieces of each amount are free at a mint."""
        rows = self._connection.execute(
            "SELECT amount, COUNT(*) FROM proofs WHERE mint = ? AND unit = ? AND state = 0"
            " GROUP BY amount",
            (mint, unit),
        )
        return Counter(dict(rows))

    def balances(self, now: int = 0) -> dict[tuple[str, str], int]:
        """What is free, by mint and unit, of keysets that have not expired by `now`."""
        rows = self._connection.execute(
            "SELECT mint, unit, amount, COUNT(*) FROM proofs WHERE state = 0 AND keyset NOT IN"
            " (SELECT id FROM keysets WHERE final_expiry <= ?) GROUP BY mint, unit, amount",
            (now,),
        )
        sums = Counter[tuple[str, str]]()  # a SUM of what a mint made up may be above 64 bits
        for mint, unit, amount, count in rows:
            sums[mint, unit] += amount * count
        return dict(sums)

    def kept(self, mint: str) -> int:
        """How many proofs of a mint are here, in whatever state but set aside."""
        row = self._connection.execute(
            "SELECT COUNT(*) FROM proofs WHERE mint = ? AND state != 3", (mint,)
        ).fetchone()
        return int(row[0])

    def take(self, coins: Iterable[Coin], operation: str, *, hold: Hold) -> tuple[Proof, ...]:
        """Free proofs become an operation's; returns them, in order.

        Raises:
            StoreError: one is not free, which the caller read in this very transaction.
        """
        return tuple(self._take(coin.tag, operation, hold) for coin in coins)

    def add(
        self,
        mint: str,
        unit: str,
        proofs: Sequence[Proof],
        *,
        hold: Hold = Hold.FREE,
        operation: str | None = None,
    ) -> int:
        """Adds proofs; one that is here already stays as it is, and is counted once. Those of an
        operation (`sent`) take over a free row, never one that something else holds."""
        added = 0
        for proof in proofs:
            tag = self._vault.tag(proof.secret)
            context = _context(tag, mint, unit, proof.id, proof.amount)
            sealed = self._vault.seal(codec.dump(codec.from_proof(proof)), context)
            added += self._connection.execute(
                "INSERT INTO proofs VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (tag) DO UPDATE"
                " SET state = excluded.state, operation = excluded.operation"
                " WHERE state = 0 AND excluded.state != 0",
                (tag, mint, unit, proof.id, proof.amount, int(hold), operation, sealed),
            ).rowcount
        return added

    def held(self, operation: str) -> tuple[Held, ...]:
        """The proofs an operation holds, in whatever state."""
        rows = self._connection.execute(
            "SELECT tag, mint, unit, keyset, amount, sealed FROM proofs WHERE operation = ?"
            " ORDER BY amount, tag",
            (operation,),
        )
        return tuple(self._held(row[0], row[1:]) for row in rows)

    def all_held(self, hold: Hold) -> tuple[tuple[str, Held], ...]:
        """Every proof in one state, with its mint. Opens each, so that damage is found."""
        rows = self._connection.execute(
            "SELECT tag, mint, unit, keyset, amount, sealed FROM proofs WHERE state = ?",
            (int(hold),),
        )
        return tuple((row[1], self._held(row[0], row[1:])) for row in rows)

    def orphans(self) -> tuple[str, ...]:
        """Operations that are over, or unknown, and still hold proofs: there should be none."""
        rows = self._connection.execute(
            "SELECT DISTINCT operation FROM proofs WHERE state = 1 AND operation NOT IN"
            " (SELECT key FROM operations WHERE state IN ('prepared', 'pending'))"
        )
        return tuple(row[0] for row in rows)

    def state(self, tag: bytes) -> tuple[Hold, str | None] | None:
        """State and holder of a row, or None where there is none."""
        row = self._connection.execute(
            "SELECT state, operation FROM proofs WHERE tag = ?", (tag,)
        ).fetchone()
        return None if row is None else (Hold(row[0]), row[1])

    def release(self, operation: str) -> int:
        """What an operation reserved is free again."""
        return self._connection.execute(
            "UPDATE proofs SET state = 0, operation = NULL WHERE operation = ? AND state = 1",
            (operation,),
        ).rowcount

    def spend(self, operation: str) -> int:
        """What an operation reserved is gone: the mint took it for what the operation made."""
        return self._connection.execute(
            "DELETE FROM proofs WHERE operation = ? AND state = 1", (operation,)
        ).rowcount

    def drop(self, tags: Iterable[bytes], *, hold: Hold = Hold.SENT) -> int:
        """Removes rows in one state: of the outbox, those the payee redeemed."""
        return sum(
            self._connection.execute(
                "DELETE FROM proofs WHERE tag = ? AND state = ?", (tag, int(hold))
            ).rowcount
            for tag in tags
        )

    def set_aside(self, tags: Iterable[bytes], by: str, *, hold: Hold) -> int:
        """The mint says they are spent, and nothing here spent them."""
        return sum(
            self._connection.execute(
                "UPDATE proofs SET state = 3, operation = ? WHERE tag = ? AND state = ?",
                (by, tag, int(hold)),
            ).rowcount
            for tag in tags
        )

    def bring_back(self, tags: Iterable[bytes]) -> int:
        """What was set aside is spendable after all."""
        return sum(
            self._connection.execute(
                "UPDATE proofs SET state = 0, operation = NULL WHERE tag = ? AND state = 3",
                (tag,),
            ).rowcount
            for tag in tags
        )

    def _kinds(self, mint: str, unit: str, most: int) -> Iterator[tuple[int, str]]:
        """The amounts and keysets there are; by leaps in the index, not by reading all of it."""
        free = (
            "SELECT amount, keyset FROM proofs INDEXED BY proofs_free"
            " WHERE mint = ? AND unit = ? AND state = 0 AND"
        )
        alike = f"{free} amount = ? AND keyset > ? ORDER BY keyset LIMIT 1"
        larger = f"{free} amount > ? AND amount <= ? ORDER BY amount, keyset LIMIT 1"
        run = self._connection.execute
        kind = run(larger, (mint, unit, 0, most)).fetchone()
        while kind is not None:
            yield kind
            other = run(alike, (mint, unit, *kind)).fetchone()
            kind = other or run(larger, (mint, unit, kind[0], most)).fetchone()

    def _take(self, tag: bytes, operation: str, hold: Hold) -> Proof:
        row = self._connection.execute(
            "UPDATE proofs SET state = ?, operation = ? WHERE tag = ? AND state = 0"
            " RETURNING mint, unit, keyset, amount, sealed",
            (int(hold), operation, tag),
        ).fetchall()
        if not row:
            raise StoreError("a proof that was chosen is not free")
        return self._held(tag, row[0]).proof

    def _held(self, tag: bytes, row: tuple[str, str, str, int, bytes]) -> Held:
        mint, unit, keyset, amount, sealed = row
        plain = self._vault.open(sealed, _context(tag, mint, unit, keyset, amount))
        return Held(tag, codec.to_proof(codec.load(plain)))


def _context(tag: bytes, mint: str, unit: str, keyset: str, amount: int) -> str:
    return "\0".join(("a proof", tag.hex(), mint, unit, keyset, str(amount)))
