"""Whose turn it is, among the operations of one process.

One task at a time works on an operation; a restore has a mint to itself; and an operation that
finds too little free waits for others whose change is on its way. What is here is in memory: after
a crash nobody is at work.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TypeVar

from wallet.errors import InsufficientFundsError
from wallet.store import Store, Tables

T = TypeVar("T")


class Turns:
    """Locks by name, and who is at work at which mint."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._locks: dict[str, tuple[asyncio.Lock, int]] = {}
        self._under_way: Counter[tuple[str, str]] = Counter()
        self._busy: Counter[str] = Counter()
        self._restoring: set[str] = set()
        self._landed = 0  # how many operations came to an end since the start
        self._landing = asyncio.Event()

    @asynccontextmanager
    async def holding(self, name: str) -> AsyncIterator[None]:
        """One task at a time for each name; an operation's key is its name."""
        lock, waiting = self._locks.get(name, (asyncio.Lock(), 0))
        self._locks[name] = lock, waiting + 1
        try:
            async with lock:
                yield
        finally:
            lock, waiting = self._locks[name]
            if waiting == 1:
                del self._locks[name]
            else:
                self._locks[name] = lock, waiting - 1

    @asynccontextmanager
    async def at_work(self, mint: str) -> AsyncIterator[None]:
        """An operation is at work at a mint; it begins when no restore is."""
        while mint in self._restoring:
            await self._landing.wait()
        self._busy[mint] += 1
        try:
            yield
        finally:
            self._busy[mint] -= 1
            self._tell()

    @asynccontextmanager
    async def alone(self, mint: str) -> AsyncIterator[None]:
        """No operation of this process is at work at the mint: for a restore."""
        async with self.holding(f"restore {mint}"):
            self._restoring.add(mint)
            try:
                while self._busy[mint]:
                    await self._landing.wait()
                yield
            finally:
                self._restoring.discard(mint)
                self._tell()

    @contextmanager
    def under_way(self, mint: str, unit: str) -> Iterator[None]:
        """An operation holds proofs; when it ends, its change may be what others wait for."""
        self._under_way[mint, unit] += 1
        try:
            yield
        finally:
            self._under_way[mint, unit] -= 1
            self._tell()

    async def reserve(self, mint: str, unit: str, work: Callable[[Tables], T]) -> T:
        """Runs a transaction that reserves proofs; where too few are free, waits for operations
        of this process whose change may bring them.

        Raises:
            InsufficientFundsError: nothing is under way, and they do not cover it.
        """
        while True:
            landed = self._landed
            try:
                return await self.store.write("reserve", work)
            except InsufficientFundsError:
                if landed == self._landed:
                    if not self._under_way[mint, unit]:
                        raise
                    await self._landing.wait()

    def _tell(self) -> None:
        self._landed += 1
        self._landing.set()
        self._landing = asyncio.Event()
