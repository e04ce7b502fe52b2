"""One writer a wallet. The lock is a file of its own beside the wallet's: SQLite has locks on its
own file, and closing any handle of that would drop them. The kernel frees it when a process dies.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from wallet.errors import StoreError, WalletBusyError


class FileLock:
    """Held from `take` to `release`.

    Args:
        path: the wallet's file; the lock's is beside it, with `.lock` added.
    """

    def __init__(self, path: Path) -> None:
        self._path = path.with_name(path.name + ".lock")
        self._handle: int | None = None

    def take(self) -> None:
        """Takes it, or fails at once.

        Raises:
            WalletBusyError: another process, or another `Wallet` in this one, holds it.
            StoreError: the folder cannot be written.
        """
        try:
            handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreError(
                f"the wallet's folder cannot be written: {error.strerror}",
                hint=f"Make {self._path.parent} writable for this user.",
            ) from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(handle)
            raise WalletBusyError(
                "this wallet is in use by another process",
                hint="Use the running node's commands, or stop it first.",
            ) from None
        self._handle = handle

    def release(self) -> None:
        """Lets go; again is no error."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None
