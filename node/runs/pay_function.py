"""The function `pay` as a model is told of it: there for agents whose manifest lists payees."""

from __future__ import annotations

from node.runs.offer import BUILT_IN, Offer
from node.runs.payment_effect import PAY

PAY_OFFER = Offer(
    tool=BUILT_IN,
    sha256="",
    name=PAY,
    description="Pay somebody in bitcoin",
    parameters={
        "type": "object",
        "required": ["to"],
        "additionalProperties": False,
        "properties": {
            "to": {
                "type": "string",
                "description": "An invoice (lnbc...), a payment request (creq...), an address "
                "(name@host) or a public key",
                "minLength": 3,
                "maxLength": 4096,
            },
            "amount_sat": {
                "type": "integer",
                "description": "Whole satoshis; not needed where the invoice or request says",
                "minimum": 1,
                "maximum": 100_000_000,
            },
            "memo": {"type": "string", "description": "A note to the payee", "maxLength": 200},
        },
    },
    read_only=False,
    idempotent=False,
    capabilities=frozenset(),
)
