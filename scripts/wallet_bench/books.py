"""The mint's own books: what every wallet's claim is held against.

`NutshellBooks` reads the database of a Nutshell, `MemoryBooks` a mint in memory; `Loopback` serves
the latter over HTTP, so that a wallet in another process can be killed against it.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Protocol

from wallet.mint.testing import MemoryMint
from wallet.types import MeltQuoteState, TransportRequest


class Books(Protocol):
    """What a mint knows for sure."""

    def outstanding(self) -> int:
        """What it issued and has not redeemed, in sat."""
        ...

    def by_lightning(self) -> int:
        """The same from outside: what came in by Lightning, less what went out, less its fees."""
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
        came = self._number("SELECT SUM(amount) FROM mint_quotes WHERE state = 'ISSUED'")
        went = self._number(
            "SELECT SUM(amount + COALESCE(fee_paid, 0)) FROM melt_quotes WHERE state = 'PAID'"
        )
        return came - went - self._number("SELECT SUM(fees_paid) FROM keysets")

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
        import time

        from wallet.mint.testing import MemoryLightning

        return MemoryLightning(now=time.time).invoice(amount * 1000)

    def repair(self) -> None:
        """Nutshell 0.21 marks inputs of swaps, and quotes it mints for, as pending, and never
        looks at them again when it is killed meanwhile: they stay so until somebody does this."""
        with contextlib.closing(sqlite3.connect(self._file, timeout=30)) as books, books:
            books.execute("DELETE FROM proofs_pending WHERE melt_quote IS NULL")
            books.execute("DELETE FROM promises WHERE c_ IS NULL AND melt_quote IS NULL")
            books.execute(
                "UPDATE mint_quotes SET state = CASE WHEN EXISTS"
                " (SELECT 1 FROM promises WHERE mint_quote = mint_quotes.quote)"
                " THEN 'ISSUED' ELSE 'PAID' END WHERE state = 'PENDING'"
            )

    def _number(self, query: str) -> int:
        return int(self._rows(query)[0][0] or 0)

    def _rows(self, query: str) -> list[tuple[str]]:
        with contextlib.closing(sqlite3.connect(f"file:{self._file}?mode=ro", uri=True)) as books:
            books.execute("PRAGMA busy_timeout = 30000")
            return books.execute(query).fetchall()


class MemoryBooks:
    """The books of a mint in memory; its invoices are paid as soon as it makes them."""

    def __init__(self, mint: MemoryMint) -> None:
        self._mint = mint
        mint.hook = self._pay

    def _pay(self, moment: str, request: TransportRequest) -> None:
        if (moment, request.path) == ("after", "/v1/mint/quote/bolt11"):
            self._mint.pay(next(reversed(self._mint.quotes.mints.values())).request)

    def outstanding(self) -> int:
        """See `Books`."""
        return self._mint.outstanding()

    def by_lightning(self) -> int:
        """See `Books`: this mint keeps no account of it."""
        return self._mint.outstanding()

    def spent(self) -> frozenset[bytes]:
        """See `Books`."""
        return frozenset(self._mint.ledger.spent)

    def under_way(self) -> int:
        """See `Books`."""
        return len(self._mint.ledger.pending)

    def paid(self) -> Counter[str]:
        """See `Books`."""
        quotes = self._mint.quotes.melts.values()
        return Counter(each.request for each in quotes if each.state == MeltQuoteState.PAID)

    def invoice(self, amount: int) -> str:
        """See `Books`."""
        return self._mint.lightning.invoice(amount * 1000)

    def repair(self) -> None:
        """See `Books`: nothing to do."""


@contextlib.asynccontextmanager
async def loopback(mint: MemoryMint) -> AsyncIterator[str]:
    """Serves a mint in memory on a free port of loopback; gives its URL."""
    talks: set[asyncio.Task[None]] = set()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        talks.add(task)
        try:
            while request := await _read(reader):
                response = await mint.send(request)
                length = f"Content-Length: {len(response.body)}"
                head = f"HTTP/1.1 {response.status} -\r\n{length}\r\n\r\n"
                writer.write(head.encode() + response.body)
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            return  # whoever asked is dead
        finally:
            talks.discard(task)
            writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in talks:
            task.cancel()
        await asyncio.gather(*talks, return_exceptions=True)


async def _read(reader: asyncio.StreamReader) -> TransportRequest | None:
    """A request as httpx writes them; None at the end, or where it wants to be a websocket."""
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.rstrip().split("\r\n")
    fields = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    if "upgrade" in fields:
        return None
    body = await reader.readexactly(int(fields.get("content-length", 0)))
    method, path, _ = first.split(" ")
    return TransportRequest("POST" if method == "POST" else "GET", path, body or None)
