"""HTTP 402 with ecash (NUT-24): what a resource costs, and paying it once.

Whoever speaks HTTP brings the header of a 402 and a way to ask again; what comes back says what
was paid, to whom and from where, for the journal, and never holds the token. One key is one
payment: asked again with it, the same ecash goes along again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Literal

from wallet.errors import (
    AlreadySpentError,
    MintError,
    MintUnreachableError,
    OutcomeUnknownError,
    ParseError,
    RefusedError,
)
from wallet.operations import outbox, requesting
from wallet.operations.book import Book
from wallet.operations.ownkeys import OwnKeys
from wallet.protocol import requests
from wallet.protocol.requests import PaymentRequest
from wallet.store import Operation
from wallet.types import Unit

HEADER = "X-Cashu"
_NOT_TAKEN = (400, 402)

Attempt = Callable[[str], Awaitable[int]]


@dataclass(frozen=True)
class Toll:
    """What a resource asks for. `amount` in `unit`; `mints`: whose ecash is taken."""

    url: str
    amount: int
    unit: Unit
    mints: tuple[str, ...]
    request: PaymentRequest


@dataclass(frozen=True)
class TollPaid:
    """What became of a payment for a resource; nothing here is worth money.

    `outcome`: `paid`, the server took it; `returned`, it did not, and the ecash is back (`fee` is
    lost); `refused`, it did not let us in, and the ecash is not back: it was redeemed all the
    same, is locked to the payee, or its mint does not answer.
    """

    operation: str
    url: str
    mint: str
    unit: Unit
    amount: int
    fee: int
    outcome: Literal["paid", "returned", "refused"]
    status: int


def read_toll(url: str, header: str) -> Toll:
    """What the `X-Cashu` header of a 402 asks for.

    Raises:
        ParseError: it is no payment request, or names no amount.
        UnsupportedError: in a unit this wallet does not keep.
    """
    request = replace(requests.decode(header), transports=())
    if request.amount is None or request.amount < 1:
        raise ParseError(
            f"{url} asks for ecash and names no amount",
            hint="Its owner has to say what it costs; nothing was paid.",
        )
    return Toll(url, request.amount, requesting.unit_of(request), request.mints, request)


async def pay(
    book: Book,
    own: OwnKeys,
    toll: Toll,
    attempt: Attempt,
    *,
    key: str,
    most: int | None = None,
    mint: str | None = None,
    max_fee: int | None = None,
) -> TollPaid:
    """Pays for a resource, and asks for it once more.

    Args:
        attempt: sends the request again with this text as its `X-Cashu` header, and returns the
            status of the answer. What it raises goes through, and leaves the ecash in the outbox.
        key: of the request that is being paid for. The same key never pays twice.
        most: what it may cost, in the toll's unit.
        max_fee: what making the ecash, and redeeming it, may cost on top.

    Raises:
        RefusedError: it costs more than `most`.
        AlreadySpentError: it was paid before with this key, and the server had redeemed it.
        WalletError: as `requesting.token_for`; nothing was paid.
    """
    if most is not None and toll.amount > most:
        raise RefusedError(
            f"{toll.url} costs {toll.amount} {toll.unit}; {most} are allowed",
            hint="Nothing was paid. Allow more, if it is worth that.",
        )
    sent = await requesting.token_for(book, toll.request, mint=mint, max_fee=max_fee, key=key)
    if not sent.token:
        raise AlreadySpentError(
            "this request was paid before, and its answer was lost",
            hint="Ask the server whether it gives the answer again, or pay anew with a new key.",
        )
    status = await attempt(sent.token)
    fee = sent.fee + sent.included
    told = TollPaid(key, toll.url, sent.mint, sent.unit, sent.amount, fee, "paid", status)
    if status not in _NOT_TAKEN:
        return told
    back = await _take_back(book, own, key)
    if back is None:
        return replace(told, outcome="refused")
    lost = sent.amount + sent.included - back.amount  # the server may have redeemed a part
    return replace(told, outcome="returned", fee=sent.fee + lost)


async def _take_back(book: Book, own: OwnKeys, key: str) -> Operation | None:
    """The operation that took the ecash back; None where it is not back."""
    try:
        back = await outbox.reclaim(book, own, key)
    except (RefusedError, OutcomeUnknownError, MintUnreachableError, MintError):
        return None
    return None if back.pending else back
