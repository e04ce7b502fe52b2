"""The owner's other wallet, over Nostr Wallet Connect: kept sealed, and there when ours is open.

The connection string is a key to somebody's money. It lies beside the wallet's key, sealed with a
key made of that one (HKDF, RFC 5869), so that the passphrase guards both.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from node.errors import WalletStateError
from node.identity import KeyStore
from node.money.key import FOLDER
from node.money.translate import translated

if TYPE_CHECKING:
    from wallet.nwc import Connection, Dial, NwcSource

NAME = "nwc"
_NONCE_BYTES = 12
_ABOUT = b"freehold nwc 1"


class NwcLink:
    """The connection string's file below `keys`, and the source it leads to.

    Args:
        keys: the home's folder of secrets.
        dial: how relays are reached; None: over the network.
    """

    def __init__(
        self,
        keys: Path,
        *,
        dial: Dial | None = None,
        random: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._store = KeyStore(keys / FOLDER)
        self._dial = dial
        self._random = random

    @staticmethod
    def parse(uri: str) -> Connection:
        """What a connection string says. Raises RequestError."""
        from wallet.nwc import Connection

        with translated():
            return Connection.parse(uri)

    def keep(self, uri: str, key: bytes) -> NwcSource:
        """Keeps a connection string, in place of any that was kept. Raises RequestError."""
        source = self._connected(uri)
        nonce = self._random(_NONCE_BYTES)
        self._store.set(NAME, nonce + _cipher(key).encrypt(nonce, uri.strip().encode(), _ABOUT))
        return source

    def forget(self) -> None:
        """Forgets it; harmless where there is none."""
        if NAME in self._store.names():
            self._store.remove(NAME)

    def open(self, key: bytes) -> NwcSource | None:
        """The source, where a connection is kept. Nothing is connected yet.

        Raises:
            WalletStateError: the file is not what was kept.
        """
        if NAME not in self._store.names():
            return None
        sealed = self._store.get(NAME)
        try:
            uri = _cipher(key).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], _ABOUT)
        except (InvalidTag, ValueError):
            raise WalletStateError(
                "the connection to the other wallet cannot be read",
                hint="Connect it again: freehold wallet nwc connect.",
            ) from None
        return self._connected(uri.decode())

    def _connected(self, uri: str) -> NwcSource:
        from wallet.nwc import NwcClient, NwcSource

        connection, dial = self.parse(uri), self._dial
        return NwcSource(NwcClient(connection, dial=dial) if dial else NwcClient(connection))


def _cipher(key: bytes) -> AESGCM:
    derived = HKDF(algorithm=SHA256(), length=32, salt=None, info=_ABOUT).derive(key)
    return AESGCM(derived)
