"""Mints, their keysets, and the NUT-13 counter of each keyset.

A keyset belongs to the first mint that showed it: NUT-02 wants colliding ids refused. So is, for
version 1, one whose number in NUT-13's derivation path is another's, since both would be given the
same secrets. Keys are public, so a mint can show another's: it loses them to the other one once it
is not on the user's list, and no ecash of them nor an operation there is open.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass

from wallet.errors import MintMisbehavedError, StoreDamagedError, StoreError
from wallet.protocol.keysets import version_of
from wallet.types import Keyset, KeysetInfo


@dataclass(frozen=True)
class MintRow:
    """A mint as kept.

    Attributes:
        refreshed: when its keysets were last asked for, in Unix seconds.
        met: nobody but a token named it.
    """

    url: str
    name: str
    spend: bool
    accept: bool
    refreshed: int
    met: bool = False


_TAKE_OVER = """
UPDATE keysets SET mint = :mint WHERE id = :id AND mint != :mint
AND (SELECT listed FROM mints WHERE url = :mint) = 1
AND NOT EXISTS (SELECT 1 FROM mints WHERE url = keysets.mint AND listed = 1)
AND NOT EXISTS (SELECT 1 FROM proofs WHERE keyset = keysets.id)
AND NOT EXISTS (
  SELECT 1 FROM operations WHERE mint = keysets.mint AND state IN ('prepared', 'pending')
)
"""


class Keysets:
    """The tables `mints` and `keysets` on one connection."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def put_mint(self, mint: MintRow) -> None:
        """Adds a mint, or changes one."""
        self._connection.execute(
            "INSERT INTO mints VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (url) DO UPDATE SET"
            " name = excluded.name, spend = excluded.spend, accept = excluded.accept,"
            " listed = excluded.listed, refreshed = excluded.refreshed",
            (mint.url, mint.name, mint.spend, mint.accept, 2 if mint.met else 1, mint.refreshed),
        )

    def remove_mint(self, url: str) -> None:
        """It is listed no longer; its counters, and what it may hold, stay in the file."""
        self._connection.execute("UPDATE mints SET listed = 0 WHERE url = ?", (url,))

    def mints(self) -> tuple[MintRow, ...]:
        """Those that are listed, by URL."""
        rows = self._connection.execute(
            "SELECT url, name, spend, accept, refreshed, listed FROM mints WHERE listed"
            " ORDER BY url"
        )
        return tuple(
            MintRow(url, name, bool(spend), bool(accept), refreshed, listed == 2)
            for url, name, spend, accept, refreshed, listed in rows
        )

    def put(self, mint: str, infos: Iterable[KeysetInfo], refreshed: int) -> None:
        """What a mint lists now. Its keysets that it lists no longer become inactive.

        Raises:
            MintMisbehavedError: a keyset is another mint's, or would share its secrets.
        """
        self._connection.execute("UPDATE keysets SET active = 0 WHERE mint = ?", (mint,))
        for info in infos:
            self._put(mint, info)
        self._connection.execute("UPDATE mints SET refreshed = ? WHERE url = ?", (refreshed, mint))

    def put_keys(self, keyset: Keyset) -> None:
        """Keeps a keyset's keys, which were checked against its id."""
        keys = {str(amount): key.hex() for amount, key in keyset.keys.items()}
        self._connection.execute(
            "UPDATE keysets SET keys = ? WHERE id = ?", (json.dumps(keys), keyset.id)
        )

    def infos(self, mint: str | None = None) -> dict[str, tuple[str, KeysetInfo]]:
        """Keysets by id, each with its mint."""
        rows = self._connection.execute(
            "SELECT id, mint, unit, active, input_fee_ppk, final_expiry FROM keysets"
            " WHERE ?1 IS NULL OR mint = ?1",
            (mint,),
        )
        return {
            row[0]: (row[1], KeysetInfo(row[0], row[2], bool(row[3]), row[4], row[5]))
            for row in rows
        }

    def keys(self, keyset: str) -> dict[int, bytes] | None:
        """The keys of a keyset by amount, where they were asked for before."""
        row = self._connection.execute(
            "SELECT keys FROM keysets WHERE id = ?", (keyset,)
        ).fetchone()
        if row is None or row[0] is None:
            return None
        try:
            return {int(amount): bytes.fromhex(key) for amount, key in json.loads(row[0]).items()}
        except (ValueError, AttributeError, TypeError):
            raise StoreDamagedError(f"keys of keyset {keyset}") from None

    def counter(self, keyset: str) -> int:
        """The next counter that was never used; 0 where the keyset is unknown."""
        row = self._connection.execute(
            "SELECT counter FROM keysets WHERE id = ?", (keyset,)
        ).fetchone()
        return 0 if row is None else int(row[0])

    def use(self, keyset: str, count: int) -> int:
        """Uses up `count` counters; returns the first.

        Raises:
            StoreError: the keyset is unknown.
        """
        rows = self._connection.execute(
            "UPDATE keysets SET counter = counter + ? WHERE id = ? RETURNING counter",
            (count, keyset),
        ).fetchall()
        if not rows:
            raise StoreError(f"keyset {keyset} is not in the wallet's file")
        return int(rows[0][0]) - count

    def raise_to(self, keyset: str, counter: int) -> None:
        """The counter is at least this; it never goes down."""
        self._connection.execute(
            "UPDATE keysets SET counter = ?1 WHERE id = ?2 AND counter < ?1", (counter, keyset)
        )

    def _put(self, mint: str, info: KeysetInfo) -> None:
        self._connection.execute(_TAKE_OVER, {"id": info.id, "mint": mint})
        try:
            changed = self._connection.execute(
                "INSERT INTO keysets VALUES (?, ?, ?, ?, ?, ?, ?, NULL, 0) ON CONFLICT (id)"
                " DO UPDATE SET active = excluded.active, input_fee_ppk = excluded.input_fee_ppk,"
                " final_expiry = excluded.final_expiry"
                " WHERE mint = excluded.mint AND unit = excluded.unit"
                " AND (path LIKE 'bip32:%' OR (input_fee_ppk = excluded.input_fee_ppk"
                " AND final_expiry IS excluded.final_expiry))",  # the id of version 2 names them
                (
                    info.id,
                    mint,
                    info.unit,
                    info.active,
                    info.input_fee_ppk,
                    info.final_expiry,
                    _path(info.id),
                ),
            ).rowcount
        except sqlite3.IntegrityError:
            changed = 0
        if changed != 1:
            raise MintMisbehavedError(
                f"keyset {info.id} of {mint} collides with one that is already known"
                f"{self._known(info.id, mint)}, or its fee changed where it cannot",
                hint="If both URLs are one mint, keep the first. Otherwise one of them shows keys "
                "that are not its own: do not use it. If it is the first, spend what you have "
                "there, remove it, and add this one again.",
            )

    def _known(self, keyset: str, mint: str) -> str:
        row = self._connection.execute(
            "SELECT mint FROM keysets WHERE (id = ? OR path = ?) AND mint != ?",
            (keyset, _path(keyset), mint),
        ).fetchone()
        return f", of {row[0]}" if row else ""


def _path(keyset: str) -> str:
    if version_of(keyset) == 1:
        return f"bip32:{int(keyset, 16) % (2**31 - 1)}"
    return f"hmac:{keyset}"
