"""What a client and a wallet service say to each other (NIP-47), inside the encryption.

Everything a wallet service answers is read strictly: amounts are whole millisatoshi in bounds,
hashes and preimages are 32 bytes of hex. An answer that cannot be read is `OutcomeUnknownError`,
since what it was meant to say may be "paid".
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from wallet.errors import (
    InsufficientFundsError,
    OutcomeUnknownError,
    ParseError,
    PaymentFailedError,
    RefusedError,
    UnsupportedError,
    WalletError,
)
from wallet.nwc.keys import hex_bytes
from wallet.nwc.relay import plain
from wallet.types import MAX_AMOUNT

INFO_KIND, REQUEST_KIND, RESPONSE_KIND = 13194, 23194, 23195
ENCRYPTION = "nip44_v2"


class NotFoundError(WalletError):
    """The wallet service knows no invoice or payment of that hash."""


class State(StrEnum):
    """What became of an invoice or a payment."""

    PENDING = "pending"
    SETTLED = "settled"
    ACCEPTED = "accepted"
    EXPIRED = "expired"
    FAILED = "failed"


@dataclass(frozen=True)
class ServiceInfo:
    """What the info event says the wallet service can do."""

    methods: frozenset[str]
    encryptions: frozenset[str]

    def check(self, method: str) -> None:
        """Raises:
        UnsupportedError: it does not do `method`, or not in an encryption spoken here.
        """
        if ENCRYPTION not in self.encryptions:
            raise UnsupportedError(
                "the wallet service only speaks NIP-04, whose messages anyone may alter",
                hint="Update the wallet service to one that speaks NIP-44.",
            )
        if method not in self.methods:
            raise UnsupportedError(
                f"the wallet service does not offer {method} on this connection",
                hint="Make a new connection in your wallet that allows it.",
            )


@dataclass(frozen=True)
class Paid:
    """A payment that was made. `preimage` proves it to anybody; `fee_msat` is what the wallet
    service says it cost. None where it does not say."""

    preimage: bytes | None = field(repr=False)
    fee_msat: int | None = None


@dataclass(frozen=True)
class Transaction:
    """An invoice ('incoming') or a payment ('outgoing') as the wallet service knows it."""

    payment_hash: bytes
    incoming: bool
    state: State | None
    amount_msat: int
    fee_msat: int | None = None
    invoice: str | None = None
    preimage: bytes | None = field(default=None, repr=False)
    created: int | None = None
    expires: int | None = None


def request(method: str, params: dict[str, Any]) -> str:
    """The text of a request."""
    return json.dumps({"method": method, "params": params}, separators=(",", ":"))


def result(text: str, method: str) -> dict[str, Any]:
    """The result in a response to `method`.

    Raises:
        WalletError: the error the wallet service answered with, as the class it stands for.
        OutcomeUnknownError: the response cannot be read.
    """
    try:
        answer = json.loads(text)
    except (ValueError, RecursionError):
        raise senseless("its answer is not JSON") from None
    if not isinstance(answer, dict) or answer.get("result_type") != method:
        raise senseless(f"its answer is not one to {method}")
    if answer.get("error") is not None:
        raise failure(answer["error"])
    if not isinstance(answer.get("result"), dict):
        raise senseless("its answer has no result")
    return dict(answer["result"])


_FAILURES: dict[str, tuple[type[WalletError], str]] = {
    "RATE_LIMITED": (RefusedError, "Wait a few seconds and try again."),
    "NOT_IMPLEMENTED": (UnsupportedError, "The wallet service cannot do this."),
    "INSUFFICIENT_BALANCE": (InsufficientFundsError, "Add funds to the connected wallet."),
    "QUOTA_EXCEEDED": (RefusedError, "Raise the connection's budget in your wallet, or wait."),
    "RESTRICTED": (RefusedError, "Allow it for this connection in your wallet."),
    "UNAUTHORIZED": (RefusedError, "Make a new connection in your wallet."),
    "UNSUPPORTED_ENCRYPTION": (UnsupportedError, "Update the wallet service."),
    "PAYMENT_FAILED": (PaymentFailedError, "Nothing was paid; it may be tried again."),
    "NOT_FOUND": (NotFoundError, ""),
    "BAD_REQUEST": (RefusedError, "The wallet service could not read the request."),
}


def failure(error: object) -> WalletError:
    """What a response's `error` stands for. Codes that leave open whether the wallet acted
    (INTERNAL, OTHER and unknown ones) are OutcomeUnknownError."""
    if not isinstance(error, dict):
        return senseless("its error is not one")
    code, words = str(error.get("code")), plain(error.get("message"))
    if code in _FAILURES:
        kind, hint = _FAILURES[code]
        return kind(f"the wallet service answered {code}: {words}", hint=hint)
    return OutcomeUnknownError(f"the wallet service answered {plain(code)}: {words}")


def senseless(what: str) -> OutcomeUnknownError:
    return OutcomeUnknownError(f"the wallet service cannot be understood: {what}")


# ── fields of results ───────────────────────────────────────────────────────────────────────


def whole(fields: dict[str, Any], name: str) -> int:
    """The whole number from 0 under `name`. Raises OutcomeUnknownError."""
    value = fields.get(name)
    if type(value) is not int or not 0 <= value <= MAX_AMOUNT:
        raise senseless(f"its '{name}' is not a whole number in bounds")
    return value


def digest(fields: dict[str, Any], name: str) -> bytes:
    """The 32 bytes under `name`. Raises OutcomeUnknownError."""
    value = fields.get(name)
    try:
        return hex_bytes(value.lower() if isinstance(value, str) else value, 32, name)
    except ParseError as error:
        raise senseless(error.message) from None


def _fee(fields: dict[str, Any]) -> int | None:
    """A fee that cannot be read takes nothing from the proof beside it: it is merely not told."""
    try:
        return whole(fields, "fees_paid")
    except OutcomeUnknownError:
        return None


def _optional_time(fields: dict[str, Any], name: str) -> int | None:
    return whole(fields, name) if fields.get(name) is not None else None


def paid(fields: dict[str, Any]) -> Paid:
    """The result of `pay_invoice`. Raises OutcomeUnknownError."""
    return Paid(digest(fields, "preimage"), _fee(fields))


def transaction(fields: dict[str, Any]) -> Transaction:
    """The result of `lookup_invoice` or `make_invoice`. Raises OutcomeUnknownError."""
    kind, invoice = fields.get("type"), fields.get("invoice")
    if kind not in ("incoming", "outgoing"):
        raise senseless("its 'type' is neither incoming nor outgoing")
    if invoice is not None and not isinstance(invoice, str):
        raise senseless("its 'invoice' is not a text")
    return Transaction(
        payment_hash=digest(fields, "payment_hash"),
        incoming=kind == "incoming",
        state=_state(fields),
        amount_msat=whole(fields, "amount"),
        fee_msat=_fee(fields),
        invoice=invoice or None,
        preimage=digest(fields, "preimage") if fields.get("preimage") else None,
        created=_optional_time(fields, "created_at"),
        expires=_optional_time(fields, "expires_at"),
    )


def _state(fields: dict[str, Any]) -> State | None:
    stated = fields.get("state")
    if stated is None:  # older services only tell when it was settled
        return State.SETTLED if fields.get("settled_at") else None
    try:
        return State(stated.lower() if isinstance(stated, str) else stated)
    except ValueError:
        raise senseless("its 'state' is none it can have") from None
