"""The mint that a trial is held at: a real Nutshell that can be killed too, or one in memory."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import _mint

from wallet.mint.testing import ServedMint
from wallet_bench.books import Books, MemoryBooks, NutshellBooks


@dataclass
class Place:
    """A mint: where it is, its books, and how to kill it and start it again, where it can be."""

    url: str
    books: Books
    kill: Callable[[bool], Awaitable[None]] | None = None  # True: its books are repaired meanwhile


@contextlib.asynccontextmanager
async def place(folder: Path, *, fee_ppk: int = 100) -> AsyncIterator[Place]:
    """Nutshell, with its books in `folder`; where it is not set up, a mint in memory."""
    make = _in_memory(fee_ppk) if _mint.missing() else _nutshell(folder, fee_ppk)
    async with make as found:
        yield found


@contextlib.asynccontextmanager
async def _in_memory(fee_ppk: int) -> AsyncIterator[Place]:
    with ServedMint(fee_ppk=fee_ppk) as served:
        yield Place(served.url, MemoryBooks(served))


@contextlib.asynccontextmanager
async def _nutshell(folder: Path, fee_ppk: int) -> AsyncIterator[Place]:
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    running: list[Any] = [_mint.Nutshell(fee_ppk=fee_ppk, folder=folder)]
    url = await asyncio.to_thread(lambda: str(running[0].url))

    books = NutshellBooks(folder)

    async def kill(repair: bool) -> None:
        """SIGKILL, and the same mint again on the same port."""
        old = running.pop()
        old.process.kill()
        await asyncio.to_thread(old.end)
        if repair:  # while nobody asks it: a request under way would be half repaired
            books.repair()
        port = urlsplit(url).port or 0
        running.append(_mint.Nutshell(fee_ppk=fee_ppk, folder=folder, port=port))
        await asyncio.to_thread(lambda: str(running[0].url))

    try:
        yield Place(url, books, kill)
    finally:
        await asyncio.to_thread(running[0].end)
