"""Requests as bytes (NUT-00), the same bytes for the same request whenever it is made again.

That is what NUT-19 asks of who repeats a request. A proof goes to the mint without its DLEQ, whose
blinding factor would tell the mint which signature it came from (NUT-12), and without NUT-28's
ephemeral key, which is between payer and payee.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from wallet.types import BlindedMessage, Proof


def body(fields: Mapping[str, object]) -> bytes:
    """Compact JSON, in the order given; fields that are None are left out."""
    given = {name: value for name, value in fields.items() if value is not None}
    return json.dumps(given, separators=(",", ":"), allow_nan=False).encode()


def inputs(proofs: Sequence[Proof]) -> list[dict[str, object]]:
    """Proofs as the mint is to see them."""
    return [_input(proof) for proof in proofs]


def outputs(messages: Sequence[BlindedMessage]) -> list[dict[str, object]]:
    """Blinded messages, in order."""
    return [{"amount": each.amount, "id": each.id, "B_": each.b.hex()} for each in messages]


def _input(proof: Proof) -> dict[str, object]:
    fields: dict[str, object] = {
        "amount": proof.amount,
        "id": proof.id,
        "secret": proof.secret,
        "C": proof.c.hex(),
    }
    if proof.witness is not None:
        fields["witness"] = proof.witness
    return fields
