"""What makes a stolen file worthless: everything that is money is sealed under the wallet's key.

ChaCha20-Poly1305 (RFC 8439) with a random nonce a record, and the row it belongs to as associated
data, so that a sealed value cannot be moved to another row, nor an amount beside it be changed,
without notice. Random 96-bit nonces are good for some 2**32 records, centuries at ten a second
times the two a payment writes. Rows are found by a keyed hash of a proof's secret, which tells
nothing without the key. Both keys come from the one given, by HMAC-SHA256 with a label each.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING

from wallet.errors import StoreDamagedError, StoreError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

_NONCE = 12
_TAG = 16


class Vault:
    """Seals and opens. Never shows its key.

    Args:
        key: 32 bytes.
        random: bytes of a secure generator.

    Raises:
        StoreError: the key has another length.
    """

    def __init__(self, key: bytes, *, random: Callable[[int], bytes] = secrets.token_bytes) -> None:
        if len(key) != 32:
            raise StoreError(f"a wallet's key has 32 bytes, this has {len(key)}")
        self._seal = hmac.digest(key, b"freehold wallet: seal, version 1", "sha256")
        self._tag = hmac.digest(key, b"freehold wallet: tag, version 1", "sha256")
        self._random = random

    @property
    def name(self) -> bytes:
        """Tells one key from another, and nothing else about it."""
        return hmac.digest(self._tag, b"name of the key", "sha256")[:8]

    def tag(self, secret: str) -> bytes:
        """The name of a proof's row: 16 bytes, the same for the same secret."""
        return hmac.digest(self._tag, b"proof:" + secret.encode(), "sha256")[:_TAG]

    def mark(self, name: str) -> bytes:
        """The same for a name that is no secret; no secret of a token has it for its tag."""
        return hmac.digest(self._tag, b"name:" + name.encode(), "sha256")[:_TAG]

    def seal(self, plain: bytes, context: str) -> bytes:
        """Nonce and ciphertext, bound to `context`."""
        nonce = self._random(_NONCE)
        return nonce + self._cipher.encrypt(nonce, plain, context.encode())

    def open(self, sealed: bytes, context: str) -> bytes:
        """What was sealed for this context.

        Raises:
            StoreDamagedError: it was changed, or belongs elsewhere.
        """
        from cryptography.exceptions import InvalidTag

        try:
            return self._cipher.decrypt(sealed[:_NONCE], sealed[_NONCE:], context.encode())
        except (InvalidTag, ValueError):
            what = context.partition("\0")[0]
            raise StoreDamagedError(f"{what} cannot be opened") from None

    @cached_property
    def _cipher(self) -> ChaCha20Poly1305:
        from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

        return ChaCha20Poly1305(self._seal)
