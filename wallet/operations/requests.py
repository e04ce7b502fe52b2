"""Payment requests (NUT-18, NUT-26): made, and what answers one checked and redeemed.

The payee's side. A request of this wallet is locked to a key that was never given out before
(NUT-11), so that ecash which answers it is worth nothing to whoever sees it on the way, and can
answer no other request. What comes back is held against the request before any mint is asked:
amount, unit, mint, lock, id; then it is received like any token, so each proof's DLEQ is checked
and none is taken twice. The payer's side is `requesting`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from wallet.errors import (
    ParseError,
    RefusedError,
    UntrustedMintError,
    VerificationError,
)
from wallet.operations import exchanging, receiving, sending
from wallet.operations.book import Book
from wallet.operations.ownkeys import OwnKeys
from wallet.operations.results import Received
from wallet.protocol import p2pk, tokens
from wallet.protocol.p2pk import Lock
from wallet.protocol.requests import PaymentPayload, PaymentRequest, Transport
from wallet.store import State, Tables
from wallet.types import Token, Unit

Payment = (
    str | Token | PaymentPayload
)  # a token as text, one that was read, or a transport's payload


async def make(
    book: Book,
    own: OwnKeys,
    amount: int | None,
    *,
    unit: Unit = "sat",
    description: str | None = None,
    mints: Sequence[str] | None = None,
    transports: Sequence[Transport] = (),
    single_use: bool | None = None,
    lock: bool = True,
) -> PaymentRequest:
    """See `Wallet.make_request`."""
    if amount is not None:
        sending.check_amount(amount)
    urls = _accepted(book, mints)
    condition = Lock((await own.fresh(),)).condition() if lock else None
    return PaymentRequest(
        id=book.random(8).hex(),
        amount=amount,
        unit=unit,
        single_use=single_use,
        mints=urls,
        description=description,
        transports=tuple(transports),
        lock=condition,
    )


def check(request: PaymentRequest, token: Token, *, answers: str | None = None) -> None:
    """Whether a token is what a request asked for, as far as can be told without its mint.

    Args:
        answers: the id that came with it, where something did; None for a token alone.

    Raises:
        RefusedError: it is for another request, of another unit, or too little.
        UntrustedMintError: it is of another mint.
        VerificationError: it is not locked as it must be.
    """
    if answers is not None and answers != (request.id or answers):
        raise RefusedError("the payment answers another request")
    if request.unit is not None and token.unit != request.unit:
        raise RefusedError(f"the request is for {request.unit}, the payment in {token.unit[:20]!r}")
    if request.mints and url_of(token.mint) not in map(url_of, request.mints):
        raise UntrustedMintError(
            f"the payment is of mint {token.mint}, which the request does not name",
            hint=f"Pay with ecash of {request.mints[0]}.",
        )
    if request.amount is not None and token.amount < request.amount:
        raise RefusedError(
            f"the payment is of {token.amount} {token.unit}, {request.amount} were asked for"
        )
    if request.lock is not None:
        wanted = lock_of(request)
        for proof in token.proofs:
            if not _same(p2pk.lock_of(proof.secret), wanted):
                raise VerificationError(
                    "the payment is not locked as the request asks",
                    hint="Lock every proof to the request's key, with no other tags.",
                )


async def redeem(
    book: Book,
    own: OwnKeys,
    payment: Payment,
    request: PaymentRequest,
    *,
    key: str | None = None,
) -> Received:
    """Checks a payment against its request, and takes it in.

    Args:
        key: the idempotency key. Without one it is `redemption_key`, by which the same payment of
            the same request is the same operation, unless that failed: then it is tried again.

    Raises:
        RefusedError, UntrustedMintError, VerificationError: see `check`.
        AlreadySpentError: it was redeemed before, or another payment of a single-use request was.
        WalletError: as `Wallet.receive`.
    """
    token, answers = _read(payment)
    check(request, token, answers=answers)
    chosen = key or book.store.read(lambda tables: _try(tables, redemption_key(request, token)))
    return await exchanging.receive(
        book,
        own,
        replace(token, mint=url_of(token.mint)),
        allow_unverified=False,
        private_keys=(),
        preimage=None,
        once=f"request {request.id}" if request.single_use and request.id else None,
        key=chosen,
    )


def redemption_key(request: PaymentRequest, payment: Payment) -> str:
    """The operation by which a payment of a request is redeemed: the same for the same proofs.
    Where it failed, the next try is this and `:2`, and so on."""
    token, _ = _read(payment)
    return f"{_prefix(request.id or '')}{receiving.fingerprint(token)[:32]}"


def lock_of(request: PaymentRequest) -> Lock | None:
    """The lock a request asks for.

    Raises:
        ParseError, UnsupportedError: nobody could spend it, or it is of an unknown kind.
    """
    return None if request.lock is None else p2pk.read(request.lock)


def _try(tables: Tables, key: str) -> str:
    """The first of the tries that did not fail: a mint that was away does not stay so."""
    number, name = 1, key
    while (tried := tables.operations.operation(name)) and tried.state == State.FAILED:
        number += 1
        name = f"{key}:{number}"
    return name


def _prefix(request_id: str) -> str:
    return f"request:{request_id}:"


def _read(payment: Payment) -> tuple[Token, str | None]:
    if isinstance(payment, PaymentPayload):
        token = Token(payment.mint, payment.unit, payment.proofs, payment.memo)
        return token, payment.id or ""
    return (tokens.decode(payment) if isinstance(payment, str) else payment), None


def _same(found: Lock | None, wanted: Lock | None) -> bool:
    """The same people may spend both at the same times; the order of keys says nothing."""
    return _sets(found) == _sets(wanted)


def _sets(lock: Lock | None) -> object:
    if lock is None:
        return None
    keys, refund = frozenset(lock.keys), frozenset(lock.refund)
    return replace(lock, keys=(), refund=()), keys, refund


def _accepted(book: Book, mints: Sequence[str] | None) -> tuple[str, ...]:
    accepted = [row.url for row in book.mints() if row.accept]
    wanted = accepted if mints is None else [url_of(url) for url in mints]
    if not wanted or not set(wanted) <= set(accepted):
        raise UntrustedMintError(
            "a request can only name mints that this wallet accepts",
            hint="Add a mint first, and accept it.",
        )
    return tuple(wanted)


def url_of(text: str) -> str:
    """A mint's address in its one form; one that is none is like no other."""
    from wallet.mint import mint_url

    try:
        return mint_url(text)
    except (ParseError, RefusedError):
        return text
