"""Requests as bytes (NUT-00), the same bytes for the same request whenever it is made again.

That is what NUT-19 asks of who repeats a request.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from wallet.protocol.proofs import to_mint
from wallet.types import BlindedMessage, Proof


def body(fields: Mapping[str, object]) -> bytes:
    """Compact JSON, in the order given; fields that are None are left out."""
    given = {name: value for name, value in fields.items() if value is not None}
    return json.dumps(given, separators=(",", ":"), allow_nan=False).encode()


def inputs(proofs: Sequence[Proof]) -> list[dict[str, object]]:
    """Proofs as the mint is to see them."""
    return [to_mint(proof) for proof in proofs]


def outputs(messages: Sequence[BlindedMessage]) -> list[dict[str, object]]:
    """Blinded messages, in order."""
    return [{"amount": each.amount, "id": each.id, "B_": each.b.hex()} for each in messages]
