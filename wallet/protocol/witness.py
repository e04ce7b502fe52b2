"""Witnesses: what opens the locks of a transaction's inputs (NUT-11, NUT-14, NUT-28).

`sign` is the spender's side and adds what the given keys can; `check` is the mint's rule, and what
a spender asks before sending. With `SIG_ALL` one witness on the first input covers all inputs and
outputs, so outputs must be final when it is made.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from wallet.errors import ParseError, VerificationError
from wallet.protocol import _encoding, _fields, blindkeys, conditions, htlc, p2pk
from wallet.protocol.curve import public
from wallet.protocol.p2pk import Lock
from wallet.types import BlindedMessage, Proof

_MOST_SIGNATURES = 64


@dataclass(frozen=True)
class Witness:
    """Signatures in hex, and the preimage of a hash lock."""

    signatures: tuple[str, ...] = field(default=(), repr=False)
    preimage: bytes | None = field(default=None, repr=False)

    @classmethod
    def read(cls, text: str | None) -> Witness:
        """From a proof's `witness`; an empty one where it has none.

        Raises:
            ParseError: it is no P2PK or HTLC witness.
        """
        if text is None:
            return cls()
        if len(text) > _fields.MOST_WITNESS:
            raise ParseError(f"a witness of {len(text)} characters is too long")
        value = _encoding.from_json(text, "a witness")
        if isinstance(value, str):  # cashu-ts writes what it read as text once more as text
            value = _encoding.from_json(value, "a witness")
        fields = _fields.mapping(value, "a witness")
        preimage, signatures = fields.get("preimage"), fields.get("signatures")
        found = _fields.sequence(signatures or (), "a witness's signatures", _MOST_SIGNATURES)
        return cls(
            tuple(_fields.text(signature, "a signature", 256) for signature in found),
            _fields.hexed(preimage, "a preimage", 32) if preimage else None,
        )

    def write(self) -> str | None:
        """As a proof's `witness`."""
        value: dict[str, object] = {}
        if self.preimage is not None:
            value["preimage"] = self.preimage.hex()
        if self.signatures:
            value["signatures"] = list(self.signatures)
        return _encoding.to_json(value) if value else None


def sign(
    inputs: Sequence[Proof],
    outputs: Sequence[BlindedMessage],
    private_keys: Iterable[bytes],
    *,
    preimage: bytes | None = None,
    quote: str | None = None,
) -> tuple[Proof, ...]:
    """The inputs with all witnesses that these keys and this preimage can give.

    Signatures already there stay, so that several people can sign in turn. Inputs without a lock
    are returned as they are; blinded keys (NUT-28) are found, and `ephemeral` then removed.

    Args:
        inputs: in the order of the request.
        outputs: of the swap, or the blank ones of the melt.
        private_keys: those the locks may be for.
        preimage: for hash locks.
        quote: the melt quote's id; None for a swap.

    Raises:
        ParseError, UnsupportedError: a lock is malformed or of unknown kind.
    """
    own = tuple(private_keys)
    locks = [p2pk.lock_of(proof.secret) for proof in inputs]
    if any(lock is not None and lock.sig_all for lock in locks):
        message = message_for_all(inputs, outputs, quote)
        signed = [_signed(proof, locks[0], message, own, preimage) for proof in inputs[:1]]
        return (*signed, *(replace(proof, ephemeral=None) for proof in inputs[1:]))
    return tuple(
        _signed(proof, lock, proof.secret, own, preimage)
        for proof, lock in zip(inputs, locks, strict=True)
    )


def check(
    inputs: Sequence[Proof],
    outputs: Sequence[BlindedMessage],
    *,
    now: float,
    quote: str | None = None,
) -> None:
    """Refuses a transaction whose witnesses do not open its inputs' locks at `now`.

    Raises:
        VerificationError: a signature or preimage is missing or wrong, or inputs that must be
            alike for SIG_ALL are not.
        ParseError, UnsupportedError: a lock or witness is malformed or of unknown kind.
    """
    locks = [p2pk.lock_of(proof.secret) for proof in inputs]
    if any(lock is not None and lock.sig_all for lock in locks):
        _check_alike(inputs)
        message = message_for_all(inputs, outputs, quote)
        _check_opened(locks[0], inputs[0].witness, message, now)
        return
    for proof, lock in zip(inputs, locks, strict=True):
        _check_opened(lock, proof.witness, proof.secret, now)


def message_for_all(
    inputs: Sequence[Proof], outputs: Sequence[BlindedMessage], quote: str | None = None
) -> str:
    """What SIG_ALL signs: secrets and signatures, amounts and blinded messages, the melt quote."""
    spent = "".join(proof.secret + proof.c.hex() for proof in inputs)
    made = "".join(f"{output.amount}{output.b.hex()}" for output in outputs)
    return spent + made + (quote or "")


def _signed(
    proof: Proof,
    lock: Lock | None,
    message: str,
    own: tuple[bytes, ...],
    preimage: bytes | None,
) -> Proof:
    if lock is None:
        return replace(proof, ephemeral=None)
    if proof.ephemeral is not None:
        own = blindkeys.private_keys(lock, proof.ephemeral, own)
    old = Witness.read(proof.witness)
    mine = [private for private in own if _fits(public(private), lock)]
    added = [p2pk.sign(message, private) for private in mine]
    shown = preimage if lock.hash is not None and htlc.opens(lock, preimage) else old.preimage
    new = Witness(tuple(dict.fromkeys((*old.signatures, *added))), shown)
    return replace(proof, witness=new.write(), ephemeral=None)


def _fits(key: bytes, lock: Lock) -> bool:
    return any(p2pk.same_key(key, other) for other in (*lock.keys, *lock.refund))


def _check_alike(inputs: Sequence[Proof]) -> None:
    first, *others = (conditions.parse(proof.secret) for proof in inputs)
    for other in others:
        if first is None or other is None or replace(other, nonce=first.nonce) != first:
            raise VerificationError("inputs that SIG_ALL binds have different conditions")


def _check_opened(lock: Lock | None, text: str | None, message: str, now: float) -> None:
    if lock is None or (lock.expired(now) and not lock.refund):
        return
    witness = Witness.read(text)
    if htlc.opens(lock, witness.preimage):
        needed = lock.n_sigs if lock.keys else 0
        if p2pk.signers(message, witness.signatures, lock.keys) >= needed:
            return
    if lock.expired(now):
        if p2pk.signers(message, witness.signatures, lock.refund) >= lock.n_sigs_refund:
            return
    elif lock.hash is not None and not htlc.opens(lock, witness.preimage):
        raise VerificationError("the preimage of a hash lock is missing or wrong")
    raise VerificationError(
        f"a proof needs {lock.n_sigs} signatures of the keys it is locked to",
        hint="It can be spent by the owner of those keys only.",
    )
