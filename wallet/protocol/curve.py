"""Blind Diffie-Hellman key exchange on secp256k1 (NUT-00).

Points cross this module's border as 33 compressed bytes and scalars as 32, so that nothing else
knows the library. Reading a point costs a third of a multiplication, hence the second set of
functions on points already read, for the other modules of this package. A mint's keys come again
with every payment and are kept read. Points of the generator are made in constant time; whatever
is not a point on the curve, not a scalar, or sums to infinity is a VerificationError.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from functools import lru_cache
from hashlib import sha256

from coincurve import PublicKey as Point

from wallet.errors import VerificationError

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
_DOMAIN = b"Secp256k1_HashToCurve_Cashu_"
_MOST_TRIES = 2**16  # each succeeds half of the time


def hash_to_curve(message: bytes) -> bytes:
    """A point whose discrete logarithm nobody knows, made from a message (NUT-00)."""
    return to_bytes(hashed(message))


def y_of(secret: str) -> bytes:
    """`Y` of a proof's secret: `hash_to_curve` of its UTF-8."""
    return to_bytes(secret_point(secret))


def blind(secret: str, r: bytes) -> bytes:
    """`B_ = Y + rG`."""
    return to_bytes(add(secret_point(secret), generated(r)))


def unblind(c_: bytes, r: bytes, key: bytes) -> bytes:
    """`C = C_ - rK`, where `K` is the mint's public key for the amount."""
    return to_bytes(add(point(c_), times(mint_key(key), negated(r))))


def sign(b: bytes, private: bytes) -> bytes:
    """`C_ = kB_`: the mint's side."""
    return to_bytes(times(point(b), private))


def public(private: bytes) -> bytes:
    """The point of a private key."""
    return to_bytes(generated(private))


def is_point(data: bytes) -> bool:
    """Whether these are the 33 bytes of a point on the curve."""
    try:
        point(data)
    except VerificationError:
        return False
    return True


def random_scalar(random: Callable[[int], bytes] = secrets.token_bytes) -> bytes:
    """A private key or blinding factor; `random` gives so many random bytes."""
    number = int.from_bytes(random(48), "big") % (ORDER - 1) + 1
    return number.to_bytes(32, "big")


# ── on points already read ──────────────────────────────────────────────────────────────────


def point(data: bytes) -> Point:
    """Reads 33 compressed bytes."""
    if len(data) == 33 and data[0] in (2, 3):
        try:
            return Point(bytes(data))
        except ValueError:
            pass
    raise VerificationError("33 bytes are not a point on secp256k1")


@lru_cache(maxsize=1024)
def mint_key(data: bytes) -> Point:
    """Reads a mint's public key, once."""
    return point(data)


def to_bytes(value: Point) -> bytes:
    """33 compressed bytes."""
    data: bytes = value.format()
    return data


def secret_point(secret: str) -> Point:
    """`y_of` as a point."""
    try:
        return hashed(secret.encode())
    except UnicodeEncodeError:
        raise VerificationError("a secret is not Unicode text") from None


def hashed(message: bytes) -> Point:
    """`hash_to_curve` as a point."""
    digest = sha256(_DOMAIN + message).digest()
    for counter in range(_MOST_TRIES):
        try:
            return Point(b"\x02" + sha256(digest + counter.to_bytes(4, "little")).digest())
        except ValueError:
            continue
    raise VerificationError("no point could be made from a message")  # 2**-65536


def generated(k: bytes) -> Point:
    """`kG`, in constant time."""
    return Point.from_valid_secret(scalar(k))


def times(value: Point, k: bytes) -> Point:
    """`kP`."""
    return value.multiply(scalar(k))


def add(left: Point, right: Point) -> Point:
    """`P + Q`, which must not be infinity."""
    try:
        return Point.combine_keys([left, right])
    except ValueError:
        raise VerificationError("two points sum to infinity") from None


def scalar(data: bytes) -> bytes:
    """The 32 bytes, where they are a number from 1 to the group's order - 1."""
    if len(data) == 32 and 0 < int.from_bytes(data, "big") < ORDER:
        return data
    raise VerificationError("32 bytes are not a scalar of secp256k1")


def negated(k: bytes) -> bytes:
    """`-k`."""
    return (ORDER - int.from_bytes(scalar(k), "big")).to_bytes(32, "big")
