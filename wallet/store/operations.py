"""The journal of operations: one row each, with its request sealed beside it.

A row is written with the reservation it speaks of, in one transaction, and again with what came of
it; in between it is what recovery reads. `seen` names the secrets of received tokens by keyed hash,
so that one token is never two operations.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import fields
from operator import attrgetter

from wallet.errors import StoreDamagedError, StoreError
from wallet.store import codec
from wallet.store.records import Kind, Operation, Outbox, Record, State
from wallet.store.vault import Vault

_values = attrgetter(*(field.name for field in fields(Operation)))
_COLUMNS = "key, kind, state, mint, unit, amount, fee, began, updated, outbox, error, parent"

# an operation that comes to an end, where its state was another; parts are told with the whole
_ENDED = (
    "INSERT OR IGNORE INTO untold SELECT key FROM operations AS ended WHERE key = ? AND state != ?"
    " AND kind != 'batch' AND NOT EXISTS"
    " (SELECT 1 FROM operations WHERE key = ended.parent AND kind = 'multipath')"
)
_PLACE = "told"


class Operations:
    """The tables `operations`, `seen` and `untold` on one connection."""

    def __init__(self, connection: sqlite3.Connection, vault: Vault) -> None:
        self._connection = connection
        self._vault = vault

    def insert(self, record: Record) -> None:
        """A new operation.

        Raises:
            StoreError: its key is taken.
        """
        try:
            self._connection.execute(
                f"INSERT INTO operations ({_COLUMNS}, sealed)"  # noqa: S608
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (*_values(record.operation), self._seal(record)),
            )
        except sqlite3.IntegrityError:
            raise StoreError("an operation with this key is already there") from None
        if record.operation.state.final:
            self._connection.execute(_ENDED, (record.key, ""))

    def update(self, record: Record) -> None:
        """What became of it. A final operation stays final; only an invoice that was given up
        may be taken up again, should it be paid after all.

        Raises:
            StoreError: it is not there, or is final and would not be.
        """
        operation = record.operation
        if operation.state.final:
            self._connection.execute(_ENDED, (operation.key, operation.state))
        changed = self._connection.execute(
            "UPDATE operations SET state = ?, mint = ?, amount = ?, fee = ?, updated = ?,"
            " outbox = ?, error = ?, sealed = ? WHERE key = ?"
            " AND (state NOT IN ('done', 'failed') OR state = ?"
            " OR (kind = 'mint' AND state = 'failed'))",
            (
                operation.state,
                operation.mint,
                operation.amount,
                operation.fee,
                operation.updated,
                operation.outbox,
                operation.error,
                self._seal(record),
                operation.key,
                operation.state,
            ),
        ).rowcount
        if changed != 1:
            raise StoreError(f"operation {operation.key!r} cannot become {operation.state.value}")

    def get(self, key: str) -> Record | None:
        """The operation of a key, with its body.

        Raises:
            StoreDamagedError: its row was damaged.
        """
        row = self._connection.execute(
            f"SELECT {_COLUMNS}, sealed FROM operations WHERE key = ?",  # noqa: S608
            (key,),
        ).fetchone()
        return None if row is None else self._record(row)

    def operation(self, key: str) -> Operation | None:
        """The operation of a key, without its body."""
        found = self._list("WHERE key = ?", (key,))
        return found[0] if found else None

    def pending(self) -> tuple[Operation, ...]:
        """Those that are not final, oldest first."""
        return self._list("WHERE state IN ('prepared', 'pending') ORDER BY serial", ())

    def out(self) -> tuple[Operation, ...]:
        """Sends whose token was not seen spent, oldest first."""
        return self._list("WHERE outbox = 'open' ORDER BY serial", ())

    def reclaimed(self, key: str) -> Operation | None:
        """The reclaim that took the token of a send back."""
        found = self._list("WHERE parent = ? AND kind = 'reclaim' AND state = 'done'", (key,))
        return found[0] if found else None

    def of(self, kind: Kind, mint: str, state: State) -> Iterator[Record]:
        """The operations of a kind and mint in a state, newest first; read as asked for."""
        keys = self._connection.execute(
            "SELECT key FROM operations WHERE kind = ? AND mint = ? AND state = ?"
            " ORDER BY serial DESC",
            (kind, mint, state),
        )
        found = (self.get(key) for (key,) in keys.fetchall())
        return (record for record in found if record is not None)

    def history(self, limit: int, before: str | None) -> tuple[Operation, ...]:
        """Newest first; with `before`, those that began before the operation of this key."""
        if before is None:
            return self._list("ORDER BY serial DESC LIMIT ?", (limit,))
        earlier = "WHERE serial < (SELECT serial FROM operations WHERE key = ?)"
        return self._list(f"{earlier} ORDER BY serial DESC LIMIT ?", (before, limit))

    def untold(self) -> tuple[Operation, ...]:
        """Those that ended and that `tell` was not called for since, oldest first."""
        return self._list("WHERE key IN (SELECT operation FROM untold) ORDER BY serial", ())

    def tell(self, ends: Iterable[tuple[str, State]], place: int) -> None:
        """Somebody's log has the ends of these operations, and was read as far as `place`."""
        self._connection.executemany(
            "DELETE FROM untold WHERE operation = ?1"
            " AND EXISTS (SELECT 1 FROM operations WHERE key = ?1 AND state = ?2)",
            list(ends),
        )
        self._connection.execute(
            "INSERT OR REPLACE INTO meta VALUES (?, ?)", (_PLACE, place.to_bytes(8, "big"))
        )

    def told_to(self) -> int:
        """The last `place` of `tell`; 0 where there was none."""
        row = self._connection.execute("SELECT value FROM meta WHERE name = ?", (_PLACE,))
        value = row.fetchone()
        return 0 if value is None else int.from_bytes(value[0], "big")

    def keys(self) -> tuple[str, ...]:
        """Every operation's key, oldest first."""
        return tuple(
            row[0] for row in self._connection.execute("SELECT key FROM operations ORDER BY serial")
        )

    def see(self, secrets: Iterable[str], key: str) -> None:
        """Remembers the secrets of a token that is being received."""
        self._connection.executemany(
            "INSERT OR REPLACE INTO seen VALUES (?, ?)",
            [(self._vault.tag(secret), key) for secret in secrets],
        )

    def seen(self, secrets: Iterable[str]) -> str | None:
        """The operation that received one of these secrets, if any did."""
        for secret in secrets:
            row = self._connection.execute(
                "SELECT operation FROM seen WHERE tag = ?", (self._vault.tag(secret),)
            ).fetchone()
            if row is not None:
                return str(row[0])
        return None

    def claim(self, name: str, owner: str) -> str | None:
        """A name, such as an invoice's hash, becomes an operation's, until `forget`.

        Returns whose it is, where it is another's, and changes nothing then.
        """
        mark = self._vault.mark(name)
        self._connection.execute("INSERT OR IGNORE INTO seen VALUES (?, ?)", (mark, owner))
        row = self._connection.execute("SELECT operation FROM seen WHERE tag = ?", (mark,))
        holder = str(row.fetchone()[0])
        return None if holder == owner else holder

    def forget(self, key: str) -> None:
        """A token that was not received, and names that it claimed, may be tried again."""
        self._connection.execute("DELETE FROM seen WHERE operation = ?", (key,))

    def _list(self, where: str, values: tuple[object, ...]) -> tuple[Operation, ...]:
        rows = self._connection.execute(
            f"SELECT {_COLUMNS} FROM operations {where}",  # noqa: S608
            values,
        )
        return tuple(_operation(row) for row in rows)

    def _seal(self, record: Record) -> bytes:
        return self._vault.seal(codec.dump(record.body), _context(record.operation))

    def _record(self, row: tuple[object, ...]) -> Record:
        operation = _operation(row[:-1])
        plain = self._vault.open(bytes(row[-1]), _context(operation))  # type: ignore[call-overload]
        return Record(operation, codec.load(plain))


def _operation(row: tuple[object, ...]) -> Operation:
    key, kind, state, mint, unit, amount, fee, began, updated, outbox, error, parent = row
    try:
        return Operation(
            str(key),
            Kind(str(kind)),
            State(str(state)),
            str(mint),
            unit,  # type: ignore[arg-type]
            amount,  # type: ignore[arg-type]
            fee,  # type: ignore[arg-type]
            began,  # type: ignore[arg-type]
            updated,  # type: ignore[arg-type]
            Outbox(str(outbox)),
            str(error),
            str(parent),
        )
    except ValueError:
        raise StoreDamagedError(f"operation {key!r} cannot be read") from None


def _context(operation: Operation) -> str:
    return "\0".join((f"operation {operation.key}", *(str(part) for part in _values(operation))))
