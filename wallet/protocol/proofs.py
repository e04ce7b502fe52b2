"""Proofs as JSON (NUT-00), and the rules for any set of them that comes from outside.

What one person gives another differs from what a mint may see: the blinding factor in the DLEQ
would tell the mint whose signature it redeems (NUT-12), and `p2pk_e` whose key was blinded
(NUT-28).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from wallet.errors import ParseError
from wallet.protocol import _encoding, _fields
from wallet.protocol.keysets import read_id
from wallet.types import MAX_AMOUNT, Dleq, Proof

MOST_PROOFS = 1_000  # in one token; mints take no more in one request


def from_json(value: object, known_keysets: Iterable[str] = ()) -> Proof:
    """One proof.

    Raises:
        ParseError: a field is missing or not what it must be.
    """
    fields = _fields.mapping(value, "a proof")
    dleq, witness, ephemeral = fields.get("dleq"), fields.get("witness"), fields.get("p2pk_e")
    return Proof(
        amount=_fields.amount(fields.get("amount"), "a proof's amount"),
        id=read_id(_fields.text(fields.get("id"), "a proof's keyset id", 66), known_keysets),
        secret=_fields.text(fields.get("secret"), "a proof's secret", _fields.MOST_SECRET),
        c=_point(fields.get("C"), "a proof's C"),
        dleq=_dleq(dleq) if _fields.present(dleq) else None,
        witness=_witness(witness) if _fields.present(witness) else None,
        ephemeral=_point(ephemeral, "a proof's p2pk_e") if _fields.present(ephemeral) else None,
    )


def list_from_json(value: object, known_keysets: Iterable[str] = ()) -> tuple[Proof, ...]:
    """Proofs that may be spent together.

    Raises:
        ParseError: none, too many, one that cannot be read, or `checked` says so.
    """
    known = tuple(known_keysets)
    found = _fields.sequence(value, "the list of proofs", MOST_PROOFS)
    return checked([from_json(proof, known) for proof in found])


def checked(proofs: Sequence[Proof]) -> tuple[Proof, ...]:
    """The same proofs, where there is one, no secret comes twice and the sum is an amount."""
    if not proofs:
        raise ParseError("there are no proofs in it")
    if len({proof.secret for proof in proofs}) < len(proofs):
        raise ParseError("the same proof is in it twice", hint="Do not accept this token.")
    if sum(proof.amount for proof in proofs) > MAX_AMOUNT:
        raise ParseError("its proofs sum to more than an amount can be")
    return tuple(proofs)


def to_json(proof: Proof) -> dict[str, object]:
    """All of it, for another person."""
    value = to_mint(proof)
    if proof.dleq is not None:
        parts = {"e": proof.dleq.e, "s": proof.dleq.s, "r": proof.dleq.r}
        value["dleq"] = {name: part.hex() for name, part in parts.items() if part is not None}
    if proof.ephemeral is not None:
        value["p2pk_e"] = proof.ephemeral.hex()
    return value


def to_mint(proof: Proof) -> dict[str, object]:
    """What a mint needs to see, and no more."""
    value: dict[str, object] = {
        "amount": proof.amount,
        "id": proof.id,
        "secret": proof.secret,
        "C": proof.c.hex(),
    }
    if proof.witness is not None:
        value["witness"] = proof.witness
    return value


def _point(value: object, what: str) -> bytes:
    return _fields.point(_fields.hexed(value, what, 33), what)


def _dleq(value: object) -> Dleq:
    fields = _fields.mapping(value, "a proof's dleq")
    e, s = (_fields.hexed(fields.get(name), f"a DLEQ's {name}", 32) for name in "es")
    r = fields.get("r")
    return Dleq(e, s, _fields.hexed(r, "a DLEQ's r", 32) if _fields.present(r) else None)


def _witness(value: object) -> str:
    """NUT-11 allows the object and its JSON text; the text is what everyone writes."""
    if isinstance(value, dict):
        value = _encoding.to_json(value)
    return _fields.text(value, "a proof's witness", _fields.MOST_WITNESS)
