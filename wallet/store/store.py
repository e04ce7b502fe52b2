"""The wallet's file: opened with its key, locked, and read and written through its tables."""

from __future__ import annotations

import asyncio
import secrets
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from wallet.errors import StoreDamagedError, StoreError
from wallet.store.database import Database, Probe
from wallet.store.keysets import Keysets
from wallet.store.lock import FileLock
from wallet.store.operations import Operations
from wallet.store.proofs import Proofs
from wallet.store.vault import Vault

T = TypeVar("T")


@dataclass(frozen=True)
class Tables:
    """Everything in the file, on one connection."""

    connection: sqlite3.Connection
    vault: Vault
    proofs: Proofs
    operations: Operations
    keysets: Keysets

    @classmethod
    def on(cls, connection: sqlite3.Connection, vault: Vault) -> Tables:
        """The tables of a connection."""
        return cls(
            connection,
            vault,
            Proofs(connection, vault),
            Operations(connection, vault),
            Keysets(connection),
        )

    def sealed(self, name: str) -> bytes | None:
        """A sealed value kept under a name, such as the seed."""
        row = self.connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return None if row is None else self.vault.open(row[0], f"the value {name}")

    def put_sealed(self, name: str, value: bytes) -> None:
        """Keeps a value under a name, sealed."""
        sealed = self.vault.seal(value, f"the value {name}")
        self.connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, sealed))


class Store:
    """A wallet's file.

    Args:
        path: the file; its folder must exist.
        key: 32 bytes that seal what is money.
        random: bytes of a secure generator.
        probe: see `Database`.

    Raises:
        WalletBusyError: another process holds it.
        StoreError: wrong key, damaged, or not a wallet's file.
    """

    def __init__(
        self,
        path: Path,
        *,
        key: bytes,
        random: Callable[[int], bytes] = secrets.token_bytes,
        probe: Probe | None = None,
    ) -> None:
        self._vault = Vault(key, random=random)
        self._lock = FileLock(path)
        self._lock.take()
        try:
            self._database = Database(path, probe=probe)
        except BaseException:
            self._lock.release()
            raise
        self._tables: dict[int, Tables] = {}

    async def unlock(self, seed: Callable[[], bytes]) -> bytes:
        """The seed's words, as UTF-8: those in the file, or, in a new one, those of `seed`.

        Raises:
            StoreError: the key is not this file's.
        """

        def work(tables: Tables) -> bytes:
            connection, name = tables.connection, self._vault.name
            row = connection.execute("SELECT value FROM meta WHERE name = 'key'").fetchone()
            if row is None:
                connection.execute("INSERT INTO meta VALUES ('key', ?)", (name,))
                tables.put_sealed("seed", seed())
            elif bytes(row[0]) != name:
                raise StoreError(
                    "the key does not open this wallet",
                    hint="Give the key or passphrase it was made with; nothing was changed.",
                )
            words = tables.sealed("seed")
            if words is None:
                raise StoreDamagedError("it has no seed")
            return words

        return await self.write("unlock", work)

    async def write(self, name: str, work: Callable[[Tables], T]) -> T:
        """Runs `work` in one transaction on the store's thread. See `Database.write`."""
        return await self._database.write(name, lambda connection: work(self._on(connection)))

    def read(self, work: Callable[[Tables], T]) -> T:
        """Runs `work` on what is committed, at once. See `Database.read`."""
        return self._database.read(lambda connection: work(self._on(connection)))

    async def aclose(self) -> None:
        """Finishes what waits, closes the file and frees it for others, whoever is cancelled."""
        self._database.end()
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self._database.join()
        self._lock.release()

    def _on(self, connection: sqlite3.Connection) -> Tables:
        found = self._tables.get(id(connection))
        if found is None:
            found = self._tables[id(connection)] = Tables.on(connection, self._vault)
        return found
