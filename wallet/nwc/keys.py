"""Keys of Nostr: BIP-340 Schnorr signatures over secp256k1, public keys by their x alone.

A secret is an object that signs and agrees on shared secrets and shows itself to nobody: neither
`repr`, nor pickling, nor an error names it.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import NoReturn

from coincurve import PrivateKey, PublicKey, PublicKeyXOnly

from wallet.errors import ParseError
from wallet.protocol.curve import ORDER

KEY_BYTES = 32
SIGNATURE_BYTES = 64


def hex_bytes(text: object, length: int, what: str) -> bytes:
    """`text` as lowercase hex of exactly `length` bytes, the one form Nostr knows.

    Raises:
        ParseError: it is not; the message names `what` and never the text.
    """
    if not isinstance(text, str) or len(text) != 2 * length:
        raise ParseError(f"{what} is not {length} bytes of hex")
    if not all(digit in "0123456789abcdef" for digit in text):
        raise ParseError(f"{what} is not lowercase hex")
    return bytes.fromhex(text)


def check_public(key: str, what: str = "a public key") -> str:
    """The key itself, once it is known to be the x of a point on the curve.

    Raises:
        ParseError: it is not.
    """
    _x_only(hex_bytes(key, KEY_BYTES, what), what)
    return key


def _x_only(key: bytes, what: str) -> PublicKeyXOnly:
    if len(key) != KEY_BYTES:
        raise ParseError(f"{what} is not {KEY_BYTES} bytes")
    try:
        return PublicKeyXOnly(key)
    except ValueError:
        raise ParseError(f"{what} is not a point of secp256k1") from None


def verify(public: bytes, message: bytes, signature: bytes) -> bool:
    """Whether `signature` (64 bytes) over `message` is by `public` (32 bytes): BIP-340."""
    if len(signature) != SIGNATURE_BYTES:
        return False
    try:
        return bool(_x_only(public, "a public key").verify(signature, message))
    except ParseError:
        return False


class SecretKey:
    """A secret key (32 bytes, a scalar of secp256k1).

    Raises:
        ParseError: it is zero, too large, or not 32 bytes.
    """

    __slots__ = ("_key", "public")

    def __init__(self, secret: bytes) -> None:
        if len(secret) != KEY_BYTES or not 0 < int.from_bytes(secret, "big") < ORDER:
            raise ParseError("a secret key is not a scalar of secp256k1")
        self._key = PrivateKey(secret)
        self.public: str = self._key.public_key_xonly.format().hex()

    @classmethod
    def new(cls, random: Callable[[int], bytes] = secrets.token_bytes) -> SecretKey:
        """A new random key."""
        while True:
            secret = random(KEY_BYTES)
            if 0 < int.from_bytes(secret, "big") < ORDER:
                return cls(secret)

    def sign(self, digest: bytes, aux: bytes | None = None) -> bytes:
        """A signature over 32 bytes. `aux`: 32 bytes of randomness, fresh where none are given."""
        return bytes(self._key.sign_schnorr(digest, aux or secrets.token_bytes(32)))

    def shared_x(self, public: str) -> bytes:
        """The x of the point both sides can compute (ECDH, not hashed).

        Raises:
            ParseError: `public` is not a public key.
        """
        point = PublicKey(b"\x02" + hex_bytes(check_public(public), KEY_BYTES, "a public key"))
        return bytes(point.multiply(self._key.secret).format(compressed=True)[1:])

    def __repr__(self) -> str:
        return f"SecretKey(public={self.public!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret key is not pickled")
