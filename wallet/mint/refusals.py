"""What a mint's refusal means and what to do next (NUT-00 errors, `error_codes.md`)."""

from __future__ import annotations

from typing import Final

from pydantic import ValidationError

from wallet import codes
from wallet.errors import MintError
from wallet.mint.replies import ErrorReply
from wallet.mint.words import quoted

_NEEDS_AUTH = "This mint wants authentication (NUT-21, NUT-22), which is not supported."
_HINTS: Final = {
    10001: "The proofs are not this mint's, are locked, or lack a valid witness.",
    codes.ALREADY_SPENT: "The token was redeemed before.",
    codes.PROOFS_PENDING: "They are in a payment under way; try again when it has ended.",
    codes.SIGNED_BEFORE: "The mint answered this request before; restore finds its answer.",
    11004: "The same request is still under way; try again later.",
    codes.NOT_BALANCED: "The mint's fees changed; load its keysets and try again.",
    11006: "The mint takes larger or smaller amounts only.",
    11011: "Ask for an invoice with an amount.",
    11013: "Use another unit or another mint.",
    11014: "Swap in smaller parts.",
    11015: "Swap in smaller parts.",
    11017: "Mint in smaller batches.",
    codes.KEYSET_UNKNOWN: "Load the mint's keysets again.",
    codes.KEYSET_INACTIVE: "The mint's keysets changed; load them and try again.",
    codes.KEYSET_EXPIRED: "Ecash of this keyset has expired; the mint need not honour it any more.",
    codes.QUOTE_NOT_PAID: "Pay the invoice first.",
    codes.ALREADY_ISSUED: "This quote was minted before; restore finds what it gave.",
    20003: "The mint does not issue ecash now.",
    codes.PAYMENT_FAILED: "Nothing was paid; try again or by another mint.",
    codes.QUOTE_PENDING: "The payment is under way; ask for its state later.",
    codes.ALREADY_PAID: "The invoice is paid already.",
    codes.QUOTE_EXPIRED: "Ask for a new quote.",
    codes.SIGNATURE_INVALID: "The quote is locked to another key.",
    30001: _NEEDS_AUTH,
    30002: _NEEDS_AUTH,
    31001: _NEEDS_AUTH,
    31002: _NEEDS_AUTH,
}


def refusal(mint: str, status: int, body: bytes) -> MintError | None:
    """The error that a 4xx reply says; None where it is not the mint speaking.

    Rate limits and unknown paths come from what is in front of the mint, often without a NUT
    error; both mean that nothing was done.
    """
    try:
        said = ErrorReply.model_validate_json(body)
    except ValidationError:
        return _without_words(mint, status)
    detail = said.detail if isinstance(said.detail, str) else f"status {status}"
    code = said.code or 0
    hint = _HINTS.get(code, "") or _by_status(status)
    return MintError(f"mint {mint} refused: {quoted(detail)}", code=code, hint=hint)


def _without_words(mint: str, status: int) -> MintError | None:
    hint = _by_status(status)
    return MintError(f"mint {mint} refused with status {status}", hint=hint) if hint else None


def _by_status(status: int) -> str:
    if status in (404, 405):
        return "The mint does not offer this, or the URL is not a mint's."
    if status == 413:
        return "The request was too long for the mint; do it in smaller parts."
    if status == 429:
        return "The mint limits how often it may be asked; try again in a minute."
    return _NEEDS_AUTH if status in (401, 403) else ""
