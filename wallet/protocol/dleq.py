"""Proofs that the mint signed with the key it publishes (NUT-12).

A wrong proof is an answer, not an accident: the `verify_*` functions say False for anything that
does not hold, whatever its bytes. `check` is the rule for proofs that came from others, where a
missing one is an error of its own.
"""

from __future__ import annotations

import hmac
from hashlib import sha256

from coincurve import PublicKey as Point

from wallet.errors import UnverifiedError, VerificationError
from wallet.protocol import curve
from wallet.protocol.curve import ORDER
from wallet.types import Dleq, Keyset, Proof

_NONCE_DOMAIN = b"Cashu_DLEQ_R_v1"


def verify_signature(key: bytes, b: bytes, c_: bytes, dleq: Dleq) -> bool:
    """Whether `c_` is `b` signed with the private key of `key`. `dleq.r` is not looked at."""
    try:
        return _holds(curve.mint_key(key), curve.point(b), curve.point(c_), dleq)
    except VerificationError:
        return False


def verify_proof(key: bytes, proof: Proof) -> bool:
    """Whether a proof was signed with the private key of `key`, as any receiver can tell.

    False where the proof has no DLEQ, or one without the blinding factor.
    """
    if proof.dleq is None or proof.dleq.r is None:
        return False
    try:
        mint, r = curve.mint_key(key), proof.dleq.r
        c_ = curve.add(curve.point(proof.c), curve.times(mint, r))
        b = curve.add(curve.secret_point(proof.secret), curve.generated(r))
        return _holds(mint, b, c_, proof.dleq)
    except VerificationError:
        return False


def check(proof: Proof, keyset: Keyset) -> None:
    """Refuses a proof that its keyset's key did not surely sign.

    Raises:
        UnverifiedError: it carries no DLEQ, so nobody but the mint can tell.
        VerificationError: another keyset, an amount the keyset lacks, or a wrong DLEQ.
    """
    key = keyset.keys.get(proof.amount)
    if proof.id != keyset.id or key is None:
        raise VerificationError(f"keyset {keyset.id} has no key for a proof of {proof.amount}")
    if proof.dleq is None or proof.dleq.r is None:
        raise UnverifiedError(
            f"a proof of {proof.amount} carries no DLEQ proof of its mint's signature",
            hint="Ask the sender for a token with DLEQ, or accept it unverified.",
        )
    if not verify_proof(key, proof):
        raise VerificationError(
            f"a proof of {proof.amount} was not signed by keyset {keyset.id}",
            hint="Do not accept this token: it is worthless, or of another mint.",
        )


def prove(private: bytes, b: bytes) -> Dleq:
    """The mint's side: proves `sign(b, private)`, with the deterministic nonce of NUT-12."""
    message = curve.point(b)
    key, c_ = curve.generated(private), curve.times(message, private)
    nonce = _nonce(private, key, message, c_)
    e = hash_e(curve.generated(nonce), curve.times(message, nonce), key, c_)
    s = int.from_bytes(nonce, "big") + int.from_bytes(e, "big") * int.from_bytes(private, "big")
    return Dleq(e, (s % ORDER).to_bytes(32, "big"))


def hash_e(*points: Point) -> bytes:
    """SHA-256 of the hexadecimal text of the uncompressed points."""
    return sha256("".join(p.format(compressed=False).hex() for p in points).encode()).digest()


def _holds(key: Point, b: Point, c_: Point, dleq: Dleq) -> bool:
    minus_e = curve.negated(dleq.e)
    r1 = curve.add(curve.generated(dleq.s), curve.times(key, minus_e))
    r2 = curve.add(curve.times(b, dleq.s), curve.times(c_, minus_e))
    return hash_e(r1, r2, key, c_) == dleq.e


def _nonce(private: bytes, key: Point, b: Point, c_: Point) -> bytes:
    points = b"".join(p.format(compressed=False) for p in (key, b, c_))
    for counter in range(256):
        nonce = hmac.digest(private, _NONCE_DOMAIN + points + bytes([counter]), "sha256")
        if 0 < int.from_bytes(nonce, "big") < ORDER:
            return nonce
    raise VerificationError("no nonce could be made")  # 2**-32768
