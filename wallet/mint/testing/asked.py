"""Requests as a mint reads them (NUT-00 to 09, 20, 23, 29): strict too, wallets may be hostile."""

from __future__ import annotations

import json
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from wallet.mint.replies import Amount, PointHex, QuoteId
from wallet.mint.testing.refused import Refused
from wallet.types import BlindedMessage, Proof

MOST = 1_000  # inputs, outputs, Ys or quotes in one request
M = TypeVar("M", bound=BaseModel)


class Asked(BaseModel):
    """What all requests have in common."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)


class Input(Asked):
    """NUT-00 `Proof`."""

    amount: Amount
    id: Annotated[str, Field(max_length=66)]
    secret: Annotated[str, Field(min_length=1, max_length=4096)]
    C: PointHex
    witness: Any = None

    def value(self) -> Proof:
        """As the wallet's own."""
        given = self.witness
        witness = given if given is None or isinstance(given, str) else json.dumps(given)
        return Proof(self.amount, self.id, self.secret, bytes.fromhex(self.C), witness=witness)


class BlankOutput(Asked):
    """NUT-00 `BlindedMessage`."""

    amount: Amount
    id: Annotated[str, Field(max_length=66)]
    B_: PointHex

    def value(self) -> BlindedMessage:
        """As the wallet's own."""
        return BlindedMessage(self.amount, self.id, bytes.fromhex(self.B_))


class Swap(Asked):
    """NUT-03."""

    inputs: list[Input]
    outputs: list[BlankOutput]


class MintQuoteRequest(Asked):
    """NUT-04, NUT-20, NUT-23."""

    amount: Amount
    unit: str
    description: Annotated[str, Field(max_length=639)] | None = None
    pubkey: PointHex | None = None


class Mint(Asked):
    """NUT-04, NUT-20."""

    quote: QuoteId
    outputs: list[BlankOutput]
    signature: str | None = None


class QuotesCheck(Asked):
    """NUT-29."""

    quotes: list[QuoteId]


class MintBatch(Asked):
    """NUT-29."""

    quotes: list[QuoteId]
    outputs: list[BlankOutput]
    quote_amounts: list[Amount] | None = None
    signatures: list[str | None] | None = None


class Part(Asked):
    """NUT-15."""

    amount: Amount


class Amountless(Asked):
    """NUT-23."""

    amount_msat: Amount


class MeltOptions(Asked):
    """NUT-15, NUT-23."""

    mpp: Part | None = None
    amountless: Amountless | None = None


class MeltQuoteRequest(Asked):
    """NUT-05, NUT-23."""

    request: str
    unit: str
    options: MeltOptions | None = None


class Melt(Asked):
    """NUT-05, NUT-08."""

    quote: QuoteId
    inputs: list[Input]
    outputs: list[BlankOutput] | None = None
    prefer_async: bool | None = None


class Check(Asked):
    """NUT-07."""

    Ys: list[PointHex]


class Restore(Asked):
    """NUT-09."""

    outputs: list[BlankOutput]


def read(model: type[M], body: bytes | None) -> M:
    """The request in a body; refused where it is none."""
    try:
        return model.model_validate_json(body or b"")
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise Refused(0, f"{first['loc']}: {first['msg']}", 422) from None


def proofs(inputs: list[Input]) -> tuple[Proof, ...]:
    """Inputs, no more than a mint takes."""
    if len(inputs) > MOST:
        raise Refused(11014, "Max inputs exceeded")
    if not inputs:
        raise Refused(11000, "no inputs")
    return tuple(each.value() for each in inputs)


def messages(outputs: list[BlankOutput] | None) -> tuple[BlindedMessage, ...]:
    """Outputs, no more than a mint takes."""
    if len(outputs or ()) > MOST:
        raise Refused(11015, "Max outputs exceeded")
    return tuple(each.value() for each in outputs or ())
