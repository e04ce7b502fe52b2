"""Proofs and outputs as JSON values, for the sealed columns. Lists, not objects: small and fast.

What is read back was sealed by this wallet, so a wrong shape is damage.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from wallet.errors import StoreDamagedError
from wallet.types import BlindedMessage, Dleq, Output, Proof

Row = Sequence[Any]


def dump(value: Any) -> bytes:
    """Compact JSON."""
    return json.dumps(value, separators=(",", ":")).encode()


def load(data: bytes) -> Any:
    """The value that `dump` wrote.

    Raises:
        StoreDamagedError: it is no JSON.
    """
    try:
        return json.loads(data)
    except ValueError:
        raise StoreDamagedError("a record is no JSON") from None


def from_proof(proof: Proof) -> Row:
    """Keyset, amount, secret, C, then DLEQ (e, s, r), witness and ephemeral key, or None."""
    dleq = proof.dleq and [proof.dleq.e.hex(), proof.dleq.s.hex(), _hex(proof.dleq.r)]
    ephemeral = _hex(proof.ephemeral)
    return [proof.id, proof.amount, proof.secret, proof.c.hex(), dleq, proof.witness, ephemeral]


def to_proof(row: Row) -> Proof:
    """The proof of such a list.

    Raises:
        StoreDamagedError: it is none.
    """
    try:
        keyset, amount, secret, c, dleq, witness, ephemeral = row
        proved = dleq and Dleq(bytes.fromhex(dleq[0]), bytes.fromhex(dleq[1]), _bytes(dleq[2]))
        c = bytes.fromhex(c)
        return Proof(amount, keyset, secret, c, proved, witness, _bytes(ephemeral))
    except (ValueError, TypeError, IndexError):
        raise StoreDamagedError("a proof cannot be read") from None


def from_output(made: Output) -> Row:
    """Keyset, amount, secret, r, B_, and the ephemeral key or None."""
    message, ephemeral = made.message, _hex(made.ephemeral)
    row = [message.id, message.amount, made.secret, made.r.hex(), message.b.hex()]
    return [*row, ephemeral]


def to_output(row: Row) -> Output:
    """The output of such a list.

    Raises:
        StoreDamagedError: it is none.
    """
    try:
        keyset, amount, secret, r, b, ephemeral = row
        message = BlindedMessage(amount, keyset, bytes.fromhex(b))
        return Output(message, secret, bytes.fromhex(r), _bytes(ephemeral))
    except (ValueError, TypeError):
        raise StoreDamagedError("an output cannot be read") from None


def from_proofs(proofs: Iterable[Proof]) -> list[Row]:
    """`from_proof` of each."""
    return [from_proof(proof) for proof in proofs]


def proofs_of(body: Mapping[str, Any], name: str) -> tuple[Proof, ...]:
    """The proofs under a name of an operation's body; none where it has no such name."""
    return tuple(to_proof(row) for row in body.get(name, ()))


def from_outputs(outputs: Iterable[Output]) -> list[Row]:
    """`from_output` of each."""
    return [from_output(made) for made in outputs]


def outputs_of(body: Mapping[str, Any]) -> tuple[Output, ...]:
    """The outputs of an operation's body; none where it has none."""
    return tuple(to_output(row) for row in body.get("outputs", ()))


def _hex(value: bytes | None) -> str | None:
    return None if value is None else value.hex()


def _bytes(value: str | None) -> bytes | None:
    return None if value is None else bytes.fromhex(value)
