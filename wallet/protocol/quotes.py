"""Signatures that lock a mint quote to its owner (NUT-20), and several quotes at once (NUT-29).

Each signature covers the quote's id and all outputs of the request, so that nobody between can
put theirs in place of ours. There are two messages to sign. All released mints take the plain
one; NUT-20 was amended in 2026 (cashubtc/nuts#375) by a framed one, which binds amounts too and
which newer mints may insist on: they answer 20008 to the plain one, mint nothing, and can be asked
again (`wallet.operations.locking`).
"""

from __future__ import annotations

from collections.abc import Sequence

from wallet.errors import ParseError
from wallet.protocol import p2pk
from wallet.types import BlindedMessage

MOST_BATCH = 100  # quotes in one request, where the mint names no limit
_DOMAIN = b"Cashu_MintQuoteSig_v1"


def message(quote: str, outputs: Sequence[BlindedMessage]) -> bytes:
    """The plain message: the id, and each `B_` in hex."""
    return (quote + "".join(output.b.hex() for output in outputs)).encode()


def framed_message(quote: str, outputs: Sequence[BlindedMessage]) -> bytes:
    """The amended message: the id, each amount and each `B_`, all with their lengths."""
    parts = [quote.encode()]
    for output in outputs:
        amount = output.amount
        parts += [amount.to_bytes((amount.bit_length() + 7) // 8, "big"), output.b]
    return _DOMAIN + b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def sign(
    quote: str, outputs: Sequence[BlindedMessage], private: bytes, *, framed: bool = False
) -> str:
    """A Schnorr signature in hex, the same for the same request."""
    made = framed_message(quote, outputs) if framed else message(quote, outputs)
    return p2pk.sign(made, private)


def verify(quote: str, outputs: Sequence[BlindedMessage], signature: str, key: bytes) -> bool:
    """The mint's side: whether the private key of `key` signed either message."""
    return any(
        p2pk.signed_by(made, signature, key)
        for made in (message(quote, outputs), framed_message(quote, outputs))
    )


def check_batch(
    quotes: Sequence[str],
    outputs: Sequence[BlindedMessage],
    signatures: Sequence[str | None] | None = None,
    amounts: Sequence[int] | None = None,
) -> None:
    """Refuses a batch that no mint accepts, on either side.

    Raises:
        ParseError: no quotes or too many, one that comes twice, other numbers of signatures or
            amounts than of quotes, or outputs that do not sum to the amounts.
    """
    if not 0 < len(quotes) <= MOST_BATCH:
        raise ParseError(
            f"a batch of {len(quotes)} quotes: 1 to {MOST_BATCH} can be minted at once"
        )
    if len(set(quotes)) < len(quotes):
        raise ParseError("a batch holds the same quote twice")
    if signatures is not None and len(signatures) != len(quotes):
        raise ParseError(f"{len(quotes)} quotes come with {len(signatures)} signatures")
    if amounts is not None:
        if len(amounts) != len(quotes) or any(amount <= 0 for amount in amounts):
            raise ParseError(f"{len(quotes)} quotes come with {len(amounts)} amounts above 0")
        if sum(amounts) != sum(output.amount for output in outputs):
            raise ParseError("the outputs of a batch do not sum to the amounts of its quotes")
