"""Locks to blinded keys, so that a mint cannot tell that one person spends them (NUT-28).

The payer blinds each key of a lock with a secret that only they and that key's owner can compute;
the owner finds the private key that fits. The payer's ephemeral public key travels beside the
proof and must not reach the mint.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from hashlib import sha256

from wallet.errors import UnsupportedError, VerificationError
from wallet.protocol import curve
from wallet.protocol.curve import ORDER
from wallet.protocol.p2pk import Lock

_DOMAIN = b"Cashu_P2BK_v1"
_SLOTS = 11


def blind(lock: Lock, ephemeral: bytes) -> Lock:
    """The lock with every key blinded by the payer's ephemeral private key.

    Use a new one for each output, and the same one for all outputs that `sig_all` binds together.

    Raises:
        UnsupportedError: the lock has more keys than NUT-28 numbers.
    """
    blinded = tuple(_blinded(key, ephemeral, slot) for slot, key in _slots(lock))
    return replace(lock, keys=blinded[: len(lock.keys)], refund=blinded[len(lock.keys) :])


def private_keys(lock: Lock, ephemeral: bytes, own: Iterable[bytes]) -> tuple[bytes, ...]:
    """The private keys to blinded keys of the lock, of which `own` are the unblinded ones.

    Args:
        lock: as in the proof's secret, blinded.
        ephemeral: the payer's public key, from the proof.
        own: private keys that the lock may have been made for.

    Raises:
        UnsupportedError: as `blind`.
        VerificationError: `ephemeral` is no point.
    """
    slots = tuple(_slots(lock))
    return tuple(key for private in own for key in _found(slots, ephemeral, private))


def scalar(shared: bytes, slot: int) -> bytes:
    """The blinding scalar of a slot, from the shared secret's x coordinate."""
    message = _DOMAIN + shared + bytes([slot])
    try:
        return curve.scalar(sha256(message).digest())
    except VerificationError:  # 2**-128
        return curve.scalar(sha256(message + b"\xff").digest())


def shared_secret(private: bytes, public: bytes) -> bytes:
    """The x coordinate of `private` times `public`."""
    return curve.to_bytes(curve.times(curve.point(public), private))[1:]


def _slots(lock: Lock) -> Iterator[tuple[int, bytes]]:
    """Slot 0 is the secret's data, which in a hash lock is no key."""
    first = 0 if lock.hash is None else 1
    if first + len(lock.keys) + len(lock.refund) > _SLOTS:
        raise UnsupportedError(f"a lock of blinded keys has room for {_SLOTS - first} keys")
    return enumerate((*lock.keys, *lock.refund), start=first)


def _blinded(key: bytes, ephemeral: bytes, slot: int) -> bytes:
    r = scalar(shared_secret(ephemeral, key), slot)
    return curve.to_bytes(curve.add(curve.point(key), curve.generated(r)))


def _found(slots: tuple[tuple[int, bytes], ...], ephemeral: bytes, own: bytes) -> Iterator[bytes]:
    """`P' = P + rG` where P is plus or minus pG: the private key is r + p or r - p."""
    shared = shared_secret(own, ephemeral)
    number = int.from_bytes(own, "big")
    for slot, blinded in slots:
        r = int.from_bytes(scalar(shared, slot), "big")
        for candidate in ((r + number) % ORDER, (r - number) % ORDER):
            private = candidate.to_bytes(32, "big")
            if candidate and curve.public(private) == blinded:
                yield private
                break
