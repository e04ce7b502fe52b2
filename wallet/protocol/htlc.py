"""Hash locks: who shows the preimage of a hash may spend (NUT-14).

All else about them (keys that must sign too, refund after a time) is a `p2pk.Lock`.
"""

from __future__ import annotations

from hashlib import sha256

from wallet.protocol.p2pk import Lock


def hash_of(preimage: bytes) -> bytes:
    """What goes into the lock, as in Lightning: SHA-256."""
    return sha256(preimage).digest()


def opens(lock: Lock, preimage: bytes | None) -> bool:
    """Whether the preimage fits; any does, where the lock has no hash."""
    if lock.hash is None:
        return True
    return preimage is not None and len(preimage) == 32 and hash_of(preimage) == lock.hash
