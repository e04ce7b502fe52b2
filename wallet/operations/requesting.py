"""Paying a payment request (NUT-18): choose a mint, make the ecash, hand it over.

The token is made once for a key and then stays in the outbox: whoever asks again with the key
hands over the same ecash again, so that an answer which was lost costs nothing, and nothing is
paid twice. Once the payee said that it has it, it is not handed over again. What the payee does
not take can be taken back, unless it is locked to the payee.

A request's amount is what its payee wants to have: the token holds the mint's fee of redeeming it
on top. NUT-18 is silent about that; CDK's and cashu-ts' wallets do so too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, TypedDict

from wallet.errors import (
    FeeTooHighError,
    InsufficientFundsError,
    RefusedError,
    UnsupportedError,
    UntrustedMintError,
    WalletError,
)
from wallet.operations import delivery, sending
from wallet.operations.book import Book, must
from wallet.operations.directory import UNITS
from wallet.operations.requests import lock_of, url_of
from wallet.operations.results import Sent
from wallet.protocol import requests
from wallet.protocol.requests import PaymentPayload, PaymentRequest
from wallet.store import MintRow, Outbox, Record, Tables
from wallet.types import Unit

if TYPE_CHECKING:
    from wallet.lightning import Web
    from wallet.nwc import Dial

_TOOK: Final = "took"  # in a send's body: by which way its payee has it


class _Lock(TypedDict, total=False):
    to: bytes
    locktime: int | None
    refund: Sequence[bytes]


@dataclass(frozen=True)
class RequestPaid:
    """A request that was paid. `via`: the transport that took it (`post` or `nostr`), empty where
    the payee had redeemed it before. `amount`, what the payee has of it, and `fee` in `unit`; `fee`
    is what making the token cost, and the mint's input fee, which the token holds."""

    operation: str
    amount: int
    fee: int
    unit: Unit
    mint: str
    via: str


async def pay(
    book: Book,
    request: PaymentRequest | str,
    *,
    amount: int | None = None,
    mint: str | None = None,
    max_fee: int | None = None,
    key: str | None = None,
    web: Web | None = None,
    dial: Dial | None = None,
) -> RequestPaid:
    """See `Wallet.pay_request`."""
    asked = requests.decode(request) if isinstance(request, str) else request
    delivery.check(asked, loopback=web is not None and web.loopback)
    sent = await token_for(book, asked, amount=amount, mint=mint, max_fee=max_fee, key=key)
    if not sent.token:
        return _paid(sent, "")
    via = must(book.record(sent.operation), sent.operation).body.get(_TOOK)
    if via is None:
        payload = payload_of(book, asked, sent)
        via = await delivery.deliver(asked, payload, web=web, dial=dial, now=book.now())
        await book.store.write("took", lambda tables: _took(tables, sent.operation, via))
    return _paid(sent, str(via))


def _took(tables: Tables, key: str, via: str) -> None:
    """Keeps that the payee has it: it may say no to the same ecash later, as to a second payment,
    and must not be taken for one that never had it."""
    record = must(tables.operations.get(key), key)
    tables.operations.update(replace(record, body={**record.body, _TOOK: via}))


async def token_for(
    book: Book,
    request: PaymentRequest,
    *,
    amount: int | None = None,
    mint: str | None = None,
    max_fee: int | None = None,
    key: str | None = None,
) -> Sent:
    """Ecash that answers a request, not handed over yet. The same for the same key; its token is
    empty once the payee redeemed it.

    Args:
        max_fee: the most that making it, and redeeming it, may cost, in its unit; None: what the
            mint asks.

    Raises:
        UnsupportedError: a unit or a lock that this wallet does not make.
        RefusedError: no amount, or two; or its token was taken back.
        UntrustedMintError: the payee takes none of this wallet's mints.
        InsufficientFundsError, FeeTooHighError: none of those can pay it.
    """
    chosen, unit = amount_of(request, amount), unit_of(request)
    lock = _lock(request)
    known = None if key is None else book.record(key)
    if known is not None:
        return await _again(book, known, amount=chosen, unit=unit, lock=lock)
    refused: WalletError | None = None
    for row in _payers(book, request, chosen, unit, mint):
        try:
            return await sending.send(
                book,
                chosen,
                mint=row.url,
                unit=unit,
                include_fee=True,
                max_fee=max_fee,
                key=key,
                **lock,
            )
        except (InsufficientFundsError, FeeTooHighError) as error:
            if key is not None and book.record(key) is not None:  # this mint was asked for it
                raise
            refused = error
    raise refused or InsufficientFundsError(
        f"no mint that the payee takes holds {chosen} {unit} of this wallet",
        hint="Receive more at one of: " + ", ".join(request.mints[:5]) if request.mints else "",
    )


async def _again(book: Book, known: Record, *, amount: int, unit: Unit, lock: _Lock) -> Sent:
    """The token that was made for this key before, for what was allowed then."""
    asked = known.body.get("asked", {})
    if known.operation.outbox == Outbox.RECLAIMED:
        raise RefusedError(
            "this payment was taken back", hint="Give a new key to pay the request again."
        )
    return await sending.send(
        book,
        amount,
        mint=known.operation.mint,
        unit=unit,
        include_fee=sending.includes_fee(asked),
        max_fee=asked.get("max_fee"),
        key=known.key,
        **lock,
    )


def payload_of(book: Book, request: PaymentRequest, sent: Sent) -> PaymentPayload:
    """What a transport carries: the proofs with their whole keyset ids."""
    return PaymentPayload(sent.mint, sent.unit, book.held(sent.operation), id=request.id)


def amount_of(request: PaymentRequest, amount: int | None) -> int:
    """What is to be paid, from the request or from the payer.

    Raises:
        RefusedError: from neither, or they differ.
    """
    if request.amount is not None and amount not in (None, request.amount):
        raise RefusedError(f"the request is for {request.amount}, not for {amount}")
    chosen = amount if request.amount is None else request.amount
    if chosen is None:
        raise RefusedError("the request names no amount", hint="Say how much to pay.")
    sending.check_amount(chosen)
    return chosen


def unit_of(request: PaymentRequest) -> Unit:
    """The unit to pay in; sat, where the request leaves it open.

    Raises:
        UnsupportedError: this wallet keeps none of it.
    """
    for unit in UNITS:
        if (request.unit or "sat") == unit:
            return unit
    raise UnsupportedError(
        f"the request is in {(request.unit or '')[:20]!r}, which this wallet does not keep",
        hint="It keeps sat.",
    )


def _lock(request: PaymentRequest) -> _Lock:
    """The request's lock in the words of `sending`."""
    lock = lock_of(request)
    if lock is None:
        return {}
    plain = len(lock.keys) == 1 and lock.hash is None and not lock.sig_all
    if not plain or lock.n_sigs_refund != 1:
        raise UnsupportedError(
            "the request asks for a lock that this wallet does not make",
            hint="It locks ecash to one key, with a locktime and refund keys.",
        )
    return {"to": lock.keys[0], "locktime": lock.locktime, "refund": lock.refund}


def _payers(
    book: Book, request: PaymentRequest, amount: int, unit: Unit, mint: str | None
) -> Sequence[MintRow]:
    """The mints that can pay it, the fullest first."""
    rows = [row for row in book.mints() if row.spend] if mint is None else [book.mint(mint)]
    taken = {url_of(url) for url in request.mints}
    fitting = [row for row in rows if not taken or row.url in taken]
    if not fitting:
        raise UntrustedMintError(
            "the payee takes ecash of other mints than this wallet's",
            hint=f"It takes: {', '.join(request.mints[:5])}" if request.mints else "Add a mint.",
        )
    free = book.balances()
    rich = [row for row in fitting if free.get((row.url, unit), 0) >= amount]
    return sorted(rich, key=lambda row: -free.get((row.url, unit), 0))


def _paid(sent: Sent, via: str) -> RequestPaid:
    fee = sent.fee + sent.included
    return RequestPaid(sent.operation, sent.amount, fee, sent.unit, sent.mint, via)
