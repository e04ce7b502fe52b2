"""From a secret to a blinded message, and from the mint's answer to ecash (NUT-00, NUT-08, NUT-12).

Nothing of an answer is taken on trust: its count, keysets, amounts and DLEQ proofs are compared
with what was asked before a proof is made of it.
"""

from __future__ import annotations

from collections.abc import Sequence

from wallet.errors import UnverifiedError, VerificationError
from wallet.protocol import curve, dleq
from wallet.types import BlindedMessage, BlindSignature, Dleq, Keyset, Output, Proof


def output(amount: int, keyset_id: str, secret: str, r: bytes) -> Output:
    """A blinded message with what unblinds its answer. `amount` 0 makes a blank one (NUT-08)."""
    return Output(BlindedMessage(amount, keyset_id, curve.blind(secret, r)), secret, r)


def blank_count(fee_reserve: int) -> int:
    """How many blank outputs take back any part of a fee reserve (NUT-08)."""
    return max((fee_reserve - 1).bit_length(), 1) if fee_reserve > 0 else 0


def finish(
    outputs: Sequence[Output],
    signatures: Sequence[BlindSignature],
    keyset: Keyset,
    *,
    require_dleq: bool,
) -> tuple[Proof, ...]:
    """Proofs from the mint's signatures, one an output, in order.

    Raises:
        UnverifiedError: a signature has no DLEQ, and `require_dleq` is set.
        VerificationError: count, keyset, amount or DLEQ of an answer is not what was asked for.
    """
    if len(signatures) != len(outputs):
        raise VerificationError(f"{len(outputs)} outputs have {len(signatures)} signatures")
    for made, signature in zip(outputs, signatures, strict=True):
        if signature.amount != made.message.amount:
            raise VerificationError(
                f"an output of {made.message.amount} was signed as {signature.amount}"
            )
    return finish_blank(outputs, signatures, keyset, require_dleq=require_dleq)


def finish_blank(
    outputs: Sequence[Output],
    signatures: Sequence[BlindSignature],
    keyset: Keyset,
    *,
    require_dleq: bool,
) -> tuple[Proof, ...]:
    """As `finish`, where the mint says the amounts: change of a melt (NUT-08) and restored outputs
    (NUT-09). Signatures are for the first outputs, and may be fewer."""
    if len(signatures) > len(outputs):
        raise VerificationError(f"{len(outputs)} outputs have {len(signatures)} signatures")
    return tuple(
        _proof(made, signature, keyset, require_dleq=require_dleq)
        for made, signature in zip(outputs, signatures, strict=False)
    )


def _proof(made: Output, signature: BlindSignature, keyset: Keyset, *, require_dleq: bool) -> Proof:
    key = keyset.keys.get(signature.amount)
    if not signature.id == made.message.id == keyset.id or key is None:
        raise VerificationError(
            f"an output of keyset {made.message.id} was signed as {signature.amount} "
            f"of keyset {signature.id[:70]!r}"
        )
    proof = None
    if signature.dleq is not None:
        if not dleq.verify_signature(key, made.message.b, signature.c, signature.dleq):
            raise VerificationError(f"a signature for {signature.amount} has a wrong DLEQ proof")
        proof = Dleq(signature.dleq.e, signature.dleq.s, made.r)
    elif require_dleq:
        raise UnverifiedError(f"a signature for {signature.amount} has no DLEQ proof")
    c = curve.unblind(signature.c, made.r, key)
    return Proof(signature.amount, keyset.id, made.secret, c, proof, None, made.ephemeral)
