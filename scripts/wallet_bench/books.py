"""The mint's own books: what every wallet's claim is held against.

`NutshellBooks` reads the database of a Nutshell, `MemoryBooks` a mint in memory.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Protocol

from wallet.mint.testing import MemoryLightning, ServedMint
from wallet.types import MeltQuoteState, TransportRequest


class Books(Protocol):
    """What a mint knows for sure."""

    def outstanding(self) -> int:
        """What it issued and has not redeemed, in sat."""
        ...

    def by_lightning(self) -> int:
        """The same from outside: what came in by Lightning, less what went out, less its fees."""
        ...

    def forgotten(self) -> int:
        """Change of payments that it was given outputs for and never signed, in sat."""
        ...

    def spent(self) -> frozenset[bytes]:
        """The Y of every proof it redeemed."""
        ...

    def under_way(self) -> int:
        """How many proofs are in payments that are not settled."""
        ...

    def paid(self) -> Counter[str]:
        """How often it paid each invoice."""
        ...

    def invoice(self, amount: int) -> str:
        """A stranger's, that it can pay."""
        ...

    def repair(self) -> None:
        """What its operator does after it was killed, where it cannot do that by itself."""
        ...


class NutshellBooks:
    """A Nutshell's SQLite file."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "mint" / "mint.sqlite3"

    def outstanding(self) -> int:
        """See `Books`."""
        issued = self._number("SELECT SUM(amount) FROM promises WHERE c_ IS NOT NULL")
        return issued - self._number("SELECT SUM(amount) FROM proofs_used")

    def by_lightning(self) -> int:
        """See `Books`."""
        came = self._number(
            "SELECT SUM(amount) FROM mint_quotes WHERE state = 'ISSUED'"
            # its listener for payments may write PAID over that, on SQLite
            " OR quote IN (SELECT mint_quote FROM promises WHERE c_ IS NOT NULL)"
        )
        went = self._number(
            "SELECT SUM(amount + COALESCE(fee_paid, 0)) FROM melt_quotes WHERE state = 'PAID'"
        )
        return came - went - self._number("SELECT SUM(fees_paid) FROM keysets")

    def forgotten(self) -> int:
        """See `Books`. Nutshell 0.21 that is asked for a payment's state while it makes it may mark
        it as paid without signing its change; its own request then fails on what it paid with."""
        return self._number(
            "SELECT SUM(given.amount - (given.ppk + 999) / 1000 - quote.amount"
            " - COALESCE(quote.fee_paid, 0)) FROM melt_quotes AS quote JOIN"
            " (SELECT melt_quote, SUM(amount) AS amount, SUM(input_fee_ppk) AS ppk"
            " FROM proofs_used JOIN keysets USING (id) GROUP BY melt_quote) AS given"
            " ON given.melt_quote = quote.quote WHERE quote.state = 'PAID' AND EXISTS"
            " (SELECT 1 FROM promises WHERE melt_quote = quote.quote AND c_ IS NULL)"
            " AND NOT EXISTS"
            " (SELECT 1 FROM promises WHERE melt_quote = quote.quote AND c_ IS NOT NULL)"
        )

    def spent(self) -> frozenset[bytes]:
        """See `Books`."""
        return frozenset(bytes.fromhex(row[0]) for row in self._rows("SELECT y FROM proofs_used"))

    def under_way(self) -> int:
        """See `Books`."""
        return self._number("SELECT COUNT(*) FROM proofs_pending")

    def paid(self) -> Counter[str]:
        """See `Books`."""
        rows = self._rows("SELECT request FROM melt_quotes WHERE state = 'PAID'")
        return Counter(row[0] for row in rows)

    def invoice(self, amount: int) -> str:
        """See `Books`."""
        return MemoryLightning(now=time.time).invoice(amount * 1000)

    def repair(self) -> None:
        """Nutshell 0.21 marks inputs of swaps, and quotes it mints for, as pending, and never
        looks at them again when it is killed meanwhile: they stay so until somebody does this."""
        with contextlib.closing(sqlite3.connect(self._file, timeout=30)) as books, books:
            books.execute("DELETE FROM proofs_pending WHERE melt_quote IS NULL")
            books.execute("DELETE FROM promises WHERE c_ IS NULL AND melt_quote IS NULL")
            pending = books.execute(
                "SELECT quote, amount, (SELECT SUM(amount) FROM promises WHERE mint_quote = quote)"
                " FROM mint_quotes WHERE state = 'PENDING'"
            ).fetchall()
            issued = _issued(pending)
            states = [("ISSUED" if row[0] in issued else "PAID", row[0]) for row in pending]
            books.executemany("UPDATE mint_quotes SET state = ? WHERE quote = ?", states)

    def _number(self, query: str) -> int:
        return int(self._rows(query)[0][0] or 0)

    def _rows(self, query: str) -> list[tuple[str]]:
        with contextlib.closing(sqlite3.connect(f"file:{self._file}?mode=ro", uri=True)) as books:
            books.execute("PRAGMA busy_timeout = 30000")
            return books.execute(query).fetchall()


def _issued(pending: Sequence[tuple[str, int, int | None]]) -> set[str]:
    """Which of these quotes (with amounts, and what was signed) were issued. What was signed for
    several at once (NUT-29) is kept with the first of them: the others make up its sum."""
    issued = {quote for quote, _, signed in pending if signed}
    for _, amount, signed in pending:
        others = [row for row in pending if row[0] not in issued]
        sets = (some for size in range(len(others) + 1) for some in combinations(others, size))
        rest = (signed or amount) - amount
        found = next((some for some in sets if sum(row[1] for row in some) == rest), ())
        issued.update(row[0] for row in found)
    return issued


class MemoryBooks:
    """The books of a mint in memory; its invoices are paid as soon as it makes them."""

    def __init__(self, served: ServedMint) -> None:
        self._served, self._mint = served, served.mint
        self._mint.hook = self._pay

    def _pay(self, moment: str, request: TransportRequest) -> None:
        if (moment, request.path) == ("after", "/v1/mint/quote/bolt11"):
            self._mint.pay(next(reversed(self._mint.quotes.mints.values())).request)

    def outstanding(self) -> int:
        """See `Books`."""
        return self._served.do(self._mint.outstanding)

    def by_lightning(self) -> int:
        """See `Books`: this mint keeps no account of it."""
        return self.outstanding()

    def forgotten(self) -> int:
        """See `Books`: none."""
        return 0

    def spent(self) -> frozenset[bytes]:
        """See `Books`."""
        return self._served.do(lambda: frozenset(self._mint.ledger.spent))

    def under_way(self) -> int:
        """See `Books`."""
        return self._served.do(lambda: len(self._mint.ledger.pending))

    def paid(self) -> Counter[str]:
        """See `Books`."""
        quotes = self._served.do(lambda: list(self._mint.quotes.melts.values()))
        return Counter(each.request for each in quotes if each.state == MeltQuoteState.PAID)

    def invoice(self, amount: int) -> str:
        """See `Books`."""
        return self._served.do(lambda: self._mint.lightning.invoice(amount * 1000))

    def repair(self) -> None:
        """See `Books`: nothing to do."""
