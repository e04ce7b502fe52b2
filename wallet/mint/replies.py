"""A mint's answers, read strictly (NUT-01 to 09, 12, 20, 23, 29).

Each model is one answer of the NUTs. Numbers are whole and within bounds, points and scalars are
hex of the right length, lists are bounded; unknown fields are passed over, as the NUTs ask. Depth
is bounded by pydantic's JSON reader, and validators are built when first used, so that importing
the wallet is quick. Whether an answer fits the question is `wallet.mint.checks`' to say; whether
the points are what they should be, `wallet.protocol`'s.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from wallet.errors import MintMisbehavedError
from wallet.mint import limits
from wallet.types import (
    MAX_AMOUNT,
    BlindSignature,
    Dleq,
    KeysetInfo,
    MeltQuote,
    MeltQuoteState,
    MintQuote,
    MintQuoteState,
    ProofState,
)

M = TypeVar("M", bound=BaseModel)

Amount = Annotated[int, Field(ge=0, le=MAX_AMOUNT)]
Time = Annotated[int, Field(ge=0, le=limits.LATEST)]
PointHex = Annotated[str, Field(pattern=r"^0[23][0-9a-fA-F]{64}$")]
ScalarHex = Annotated[str, Field(pattern=r"^[0-9a-fA-F]{64}$")]
KeysetId = Annotated[str, Field(pattern=r"^(?:00[0-9a-f]{14}|01[0-9a-f]{64})$")]
QuoteId = Annotated[str, Field(pattern=r"^[\x21-\x7e]{3,256}$")]  # never "." or "..", in a path
UnitName = Annotated[str, Field(pattern=r"^[a-z0-9_-]{1,32}$")]
Invoice = Annotated[str, Field(min_length=1, max_length=limits.MOST_INVOICE, pattern=r"^[!-~]+$")]
Preimage = Annotated[str, Field(max_length=128, pattern=r"^[0-9a-fA-F]*$")]


class Reply(BaseModel):
    """What all answers have in common: no coercion, unknown fields passed over."""

    model_config = ConfigDict(
        strict=True, extra="ignore", frozen=True, allow_inf_nan=False, defer_build=True
    )


class DleqReply(Reply):
    """NUT-12, on a blind signature."""

    e: ScalarHex
    s: ScalarHex

    def value(self) -> Dleq:
        """As the wallet's own."""
        return Dleq(bytes.fromhex(self.e), bytes.fromhex(self.s))


class SignatureReply(Reply):
    """NUT-00 `BlindSignature`."""

    amount: Annotated[int, Field(gt=0, le=MAX_AMOUNT)]
    id: KeysetId
    C_: PointHex
    dleq: DleqReply | None = None

    def value(self) -> BlindSignature:
        """As the wallet's own."""
        dleq = self.dleq.value() if self.dleq is not None else None
        return BlindSignature(self.amount, self.id, bytes.fromhex(self.C_), dleq)


Signatures = Annotated[list[SignatureReply], Field(max_length=limits.MOST_SIGNATURES)]


class SignaturesReply(Reply):
    """NUT-03, NUT-04, NUT-29."""

    signatures: Signatures


class KeysetReply(Reply):
    """One entry of NUT-02's list. Ids of versions this wallet does not know are read too."""

    id: Annotated[str, Field(min_length=1, max_length=128)]
    unit: Annotated[str, Field(min_length=1, max_length=64)]
    active: bool
    input_fee_ppk: Annotated[int, Field(ge=0, le=limits.LARGEST_FEE_PPK)] | None = None
    final_expiry: Time | None = None

    def value(self) -> KeysetInfo:
        """As the wallet's own."""
        return KeysetInfo(
            self.id, self.unit, self.active, self.input_fee_ppk or 0, self.final_expiry or None
        )


class KeysetsReply(Reply):
    """NUT-02 `GetKeysetsResponse`."""

    keysets: Annotated[list[KeysetReply], Field(max_length=limits.MOST_KEYSETS)]


class KeysReply(Reply):
    """One keyset of NUT-01, with its keys by amount."""

    id: Annotated[str, Field(min_length=1, max_length=128)]
    keys: Annotated[
        dict[Annotated[str, Field(pattern=r"^[1-9][0-9]{0,19}$")], PointHex],
        Field(max_length=limits.MOST_KEYS),
    ]

    def value(self) -> dict[int, bytes]:
        """Public keys by amount."""
        return {int(amount): bytes.fromhex(key) for amount, key in self.keys.items()}


class AllKeysReply(Reply):
    """NUT-01 `GetKeysResponse`."""

    keysets: Annotated[list[KeysReply], Field(max_length=limits.MOST_KEYSETS)]


class MintQuoteReply(Reply):
    """NUT-23 `PostMintQuoteBolt11Response`, with NUT-20's `pubkey`."""

    quote: QuoteId
    request: Invoice
    amount: Amount
    unit: UnitName
    state: Annotated[MintQuoteState, Field(strict=False)]
    expiry: Time | None = None
    pubkey: PointHex | Literal[""] | None = None  # Nutshell says "" for none

    def value(self) -> MintQuote:
        """As the wallet's own."""
        pubkey = bytes.fromhex(self.pubkey) if self.pubkey else None
        end = self.expiry or None  # as for keysets, 0 is none
        return MintQuote(self.quote, self.request, self.amount, self.unit, self.state, end, pubkey)


class MintQuotesReply(Reply):
    """NUT-29's batched check, which is a bare list."""

    quotes: Annotated[list[MintQuoteReply], Field(max_length=limits.MOST_SIGNATURES)]

    @model_validator(mode="before")
    @classmethod
    def _named(cls, value: object) -> object:
        return {"quotes": value}


class MeltQuoteReply(Reply):
    """NUT-23 `PostMeltQuoteBolt11Response`, with NUT-08's `change`."""

    quote: QuoteId
    request: Invoice
    amount: Amount
    unit: UnitName
    fee_reserve: Amount
    state: Annotated[MeltQuoteState, Field(strict=False)]
    expiry: Time | None = None
    payment_preimage: Preimage | None = None
    change: Signatures | None = None

    def value(self) -> MeltQuote:
        """As the wallet's own."""
        return MeltQuote(
            id=self.quote,
            request=self.request,
            amount=self.amount,
            unit=self.unit,
            fee_reserve=self.fee_reserve,
            state=self.state,
            expiry=self.expiry,
            preimage=self.payment_preimage or None,
            change=tuple(each.value() for each in self.change or ()),
        )


class StateReply(Reply):
    """One state of NUT-07. The witness is not looked at."""

    Y: PointHex
    state: Annotated[ProofState, Field(strict=False)]


class StatesReply(Reply):
    """NUT-07 `PostCheckStateResponse`."""

    states: Annotated[list[StateReply], Field(max_length=limits.MOST_SIGNATURES)]


class RestoredOutput(Reply):
    """NUT-09: only the point matters, the amount that was signed is the signature's."""

    B_: PointHex


class RestoreReply(Reply):
    """NUT-09 `PostRestoreResponse`."""

    outputs: Annotated[list[RestoredOutput], Field(max_length=limits.MOST_SIGNATURES)]
    signatures: Signatures


class Notice(Reply):
    """What a NUT-17 notification is about; the payload is an answer of its own."""

    subscription: Annotated[str, Field(alias="subId", max_length=128)]
    payload: dict[str, Any]


class SocketReply(Reply):
    """Any message of NUT-17: a notification (`params`), or the answer to a command."""

    params: Notice | None = None
    error: Any = None


class ErrorReply(Reply):
    """NUT-00 errors. Frameworks leave `code` out, and give lists for `detail`."""

    detail: Any
    code: Annotated[int, Field(ge=-(2**31), le=2**31)] | None = None


def read(model: type[M], body: bytes, *, what: str, mint: str) -> M:
    """The answer in a body.

    Args:
        what: what was asked for, as errors name it.

    Raises:
        MintMisbehavedError: it is too long, no JSON, or not of that form.
    """
    if len(body) > limits.MOST_REPLY_BYTES:
        raise misbehaved(mint, f"its answer to {what} is {len(body)} bytes long")
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise misbehaved(
            mint, f"its answer to {what} breaks the protocol: {_first(error)}"
        ) from None


def misbehaved(mint: str, what: str) -> MintMisbehavedError:
    """The error for an answer that cannot be right."""
    return MintMisbehavedError(
        f"mint {mint}: {what}",
        hint="Nothing was taken on trust. The operation is settled when the mint answers properly; "
        "if it never does, do not use this mint.",
    )


def _first(error: ValidationError) -> str:
    """Where and why, without the value: it may be anything."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"][:4])
    return f"{where[:60]!r} {first['type']}" if where else str(first["type"])
