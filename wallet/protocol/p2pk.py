"""Locks to public keys, and the signatures that open them (NUT-11).

NUT-14's hash locks carry the same tags, so one `Lock` says both. A mint must treat a malformed
lock as unspendable; reading one is therefore strict, and writing one checks what it wrote.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256

from coincurve import PrivateKey, PublicKeyXOnly

from wallet.errors import ParseError, UnsupportedError, VerificationError
from wallet.protocol import _fields, conditions, curve
from wallet.protocol.conditions import Condition
from wallet.types import MAX_AMOUNT

_SIGFLAGS = {"SIG_INPUTS": False, "SIG_ALL": True}


@dataclass(frozen=True)
class Lock:
    """Who may spend a proof, and when.

    Attributes:
        keys: of these, `n_sigs` must sign. A hash lock may have none.
        locktime: Unix seconds; from the second after it, `n_sigs_refund` of `refund` may spend
            it too, or anybody where there are none. None: never.
        sig_all: signatures are over all inputs and outputs, not over the secret.
        hash: SHA-256 of a preimage that the holders of `keys` must show too (NUT-14).
    """

    keys: tuple[bytes, ...]
    n_sigs: int = 1
    locktime: int | None = None
    refund: tuple[bytes, ...] = ()
    n_sigs_refund: int = 1
    sig_all: bool = False
    hash: bytes | None = None

    def expired(self, now: float) -> bool:
        """Whether the locktime has passed at `now` (Unix seconds)."""
        return self.locktime is not None and now > self.locktime

    def condition(self) -> Condition:
        """As NUT-10 writes it, without a nonce."""
        first, others = (self.hash, self.keys) if self.hash else (self.keys[0], self.keys[1:])
        tags: list[tuple[str, ...]] = [("sigflag", "SIG_ALL" if self.sig_all else "SIG_INPUTS")]
        if others:
            tags.append(("pubkeys", *(key.hex() for key in others)))
        if self.n_sigs != 1:
            tags.append(("n_sigs", str(self.n_sigs)))
        if self.locktime is not None:
            tags.append(("locktime", str(self.locktime)))
        if self.refund:
            tags.append(("refund", *(key.hex() for key in self.refund)))
        if self.n_sigs_refund != 1:
            tags.append(("n_sigs_refund", str(self.n_sigs_refund)))
        return Condition("HTLC" if self.hash else "P2PK", first.hex(), tuple(tags))


def secret(lock: Lock, random: Callable[[int], bytes] = secrets.token_bytes) -> str:
    """A new secret with this lock.

    Raises:
        ParseError: nobody could ever spend it: a key is none, or comes twice, or more
            signatures are asked for than there are keys.
    """
    if not lock.keys and lock.hash is None:
        raise ParseError("a lock needs a key")
    condition = lock.condition()
    if read(condition) != lock:
        raise ParseError("a lock says what its tags cannot")
    return conditions.serialise(condition, random)


def lock_of(secret: str) -> Lock | None:
    """The lock in a proof's secret; None where it is an ordinary secret.

    Raises:
        ParseError: it is malformed: no mint should let anybody spend it.
        UnsupportedError: a condition that is neither P2PK nor HTLC.
    """
    condition = conditions.parse(secret)
    return read(condition) if condition is not None else None


def read(condition: Condition) -> Lock:
    """The lock a condition says. Raises as `lock_of`."""
    if condition.kind not in ("P2PK", "HTLC"):
        raise UnsupportedError(f"spending conditions of kind {condition.kind[:70]!r} are not known")
    pubkeys, refund = condition.values("pubkeys") or (), condition.values("refund") or ()
    digest = None
    if condition.kind == "HTLC":
        digest = _fields.hexed(condition.data, "a hash lock's hash", 32)
    else:
        pubkeys = (condition.data, *pubkeys)
    return Lock(
        keys=_keys(pubkeys),
        n_sigs=_count(condition, "n_sigs", len(pubkeys)),
        locktime=_locktime(condition),
        refund=_keys(refund),
        n_sigs_refund=_count(condition, "n_sigs_refund", len(refund)),
        sig_all=_sig_all(condition),
        hash=digest,
    )


def sign(message: str | bytes, private: bytes) -> str:
    """A Schnorr signature (BIP-340) on the message's SHA-256, in hex.

    It is deterministic, so that signing again gives the same request again.
    """
    key = PrivateKey(curve.scalar(private))
    return str(key.sign_schnorr(_digest(message), None).hex())


def signed_by(message: str | bytes, signature: str, key: bytes) -> bool:
    """Whether `sign` with the private key of `key` made this signature."""
    try:
        data = _fields.hexed(signature, "a signature", 64)
        return bool(_xonly(key).verify(data, _digest(message)))
    except (ParseError, VerificationError):
        return False


def signers(message: str | bytes, signatures: Iterable[str], keys: Sequence[bytes]) -> int:
    """How many of `keys` signed: two signatures of one key count once."""
    left = list(keys)
    for signature in signatures:
        found = next((key for key in left if signed_by(message, signature, key)), None)
        if found is not None:
            left.remove(found)
    return len(keys) - len(left)


def same_key(left: bytes, right: bytes) -> bool:
    """Whether one private key signs for both: the first byte does not count."""
    return left[1:] == right[1:]


def _digest(message: str | bytes) -> bytes:
    data = message.encode("utf-8", "surrogatepass") if isinstance(message, str) else message
    return sha256(data).digest()


def _keys(texts: Sequence[str]) -> tuple[bytes, ...]:
    keys = tuple(_fields.hexed(text, "a lock's key", 33) for text in texts)
    if len({key[1:] for key in keys}) < len(keys):
        raise ParseError("a lock names the same key twice")
    if not all(curve.is_point(key) for key in keys):
        raise ParseError("a lock names a key that is no point on the curve")
    return keys


def _count(condition: Condition, name: str, keys: int) -> int:
    values = condition.values(name)
    if values is None:
        return 1
    count = int(values[0]) if len(values) == 1 and _digits(values[0]) else 0
    if not 0 < count <= keys:
        raise ParseError(f"a lock's {name} is not a number from 1 to {keys}")
    return count


def _locktime(condition: Condition) -> int | None:
    """What is no Unix time leaves the lock permanent, says NUT-11."""
    values = condition.values("locktime")
    if values is None or len(values) != 1 or not _digits(values[0]):
        return None
    time = int(values[0])
    return time if time <= MAX_AMOUNT else None


def _sig_all(condition: Condition) -> bool:
    values = condition.values("sigflag")
    if values is None:
        return False
    if len(values) != 1 or values[0] not in _SIGFLAGS:
        raise ParseError("a lock's sigflag is neither SIG_INPUTS nor SIG_ALL")
    return _SIGFLAGS[values[0]]


def _digits(text: str) -> bool:
    return len(text) <= 19 and text.isascii() and text.isdigit()


@lru_cache(maxsize=256)
def _xonly(key: bytes) -> PublicKeyXOnly:
    if len(key) == 33:  # the library would read on behind fewer bytes
        try:
            return PublicKeyXOnly(bytes(key[1:]))
        except ValueError:
            pass
    raise VerificationError("a lock's key is no point on the curve")
