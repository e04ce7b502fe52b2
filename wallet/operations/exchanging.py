"""Tokens of mints that are not on the list: refused, or swapped over Lightning to one that is.

The swap is made of operations that can each be interrupted: the token is redeemed at its own mint
(from then on it is ours alone), a mint of ours gives an invoice, and the foreign mint pays it. Each
has a key made of this one's, so going on after an interruption is doing it all again. What the
fees did not take stays at the foreign mint, which is listed, neither for spending nor accepting.
Once the token is redeemed, what is refused for now (a rate limit, a proxy's page) ends nothing;
and once the invoice is paid, nothing does but its ecash.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import Any, Final

from wallet.errors import (
    BalanceCapError,
    FeeTooHighError,
    MintError,
    MintUnreachableError,
    OutcomeUnknownError,
    RefusedError,
    UntrustedMintError,
    WalletError,
)
from wallet.operations import (
    bills,
    failures,
    melted,
    melting,
    minting,
    mints,
    paying,
    quoting,
    receiving,
)
from wallet.operations.book import Book, must
from wallet.operations.directory import Snapshot
from wallet.operations.ownkeys import OwnKeys
from wallet.operations.results import Received
from wallet.store import Kind, MintRow, Record, State, Tables, codec
from wallet.types import Token, Unit

_KIND: Final = Kind.EXCHANGE
MOST_QUOTES: Final = 4  # invoices asked for until amount and fees fit


async def receive(
    book: Book,
    own: OwnKeys,
    token: Token,
    *,
    allow_unverified: bool,
    private_keys: Sequence[bytes],
    preimage: bytes | None,
    key: str | None,
    once: str | None = None,
) -> Received:
    """Redeems a token of any mint, as the rules allow. `once`: see `receiving.receive`.

    Raises:
        UntrustedMintError: its mint is not accepted, and nothing is swapped by these rules.
    """
    if _is_kept(book, token, key):
        return await receiving.receive(
            book,
            own,
            token,
            allow_unverified=allow_unverified,
            private_keys=private_keys,
            preimage=preimage,
            once=once,
            key=key,
        )
    if not book.rules.swap_foreign:
        raise UntrustedMintError(
            f"the token is of mint {token.mint}, which this wallet does not accept",
            hint="Add the mint if you trust it, or allow `swap_foreign`.",
        )
    asked = {"token": receiving.fingerprint(token), "allow_unverified": allow_unverified}
    kept = {
        "url": token.mint,
        "memo": token.memo,
        "unit": token.unit,
        "proofs": codec.from_proofs(token.proofs),
        "private_keys": [private.hex() for private in private_keys],
        "preimage": preimage.hex() if preimage else None,
        "once": once,
    }
    return await _exchange(book, own, key or book.new_key(), asked, kept)


def _is_kept(book: Book, token: Token, key: str | None) -> bool:
    """Whether its ecash stays at its mint. What was begun goes on as it was, whatever the list of
    mints says by now."""
    known = None if key is None else book.record(key)
    if known is not None:
        return known.operation.kind != _KIND
    return any(row.url == token.mint and row.accept for row in book.mints())


async def settle(book: Book, own: OwnKeys, record: Record) -> Record:
    """Goes on with an exchange of before. The caller holds its key.

    Raises:
        OutcomeUnknownError: a part of it is pending.
        WalletError: it failed; what was received is at the foreign mint.
    """
    try:
        return await _steps(book, own, record)
    except OutcomeUnknownError as error:
        await book.doubt(_latest(book, record), error)
        raise
    except WalletError as error:
        if not _goes_on(book, record, error):
            await _failed(book, _latest(book, record), error)
            raise
        lost = OutcomeUnknownError(error.message, hint="Run `recover` later.")
        await book.doubt(_latest(book, record), lost)
        raise lost from error


def _goes_on(book: Book, record: Record, error: WalletError) -> bool:
    """Whether it may come to its end all the same, later."""
    paid = book.record(f"{record.key}/pay")
    if paid is not None and paying.stands(paid):
        return True
    for_now = isinstance(error, MintUnreachableError)
    for_now = for_now or (isinstance(error, MintError) and not error.code)
    return for_now and _is_redeemed(book, record)


async def _failed(book: Book, record: Record, error: WalletError) -> None:
    """Writes that it failed; what it answered may be answered by another, unless it was paid."""
    over = book.changed(record, state=State.FAILED, error=error.message)
    redeemed = _is_redeemed(book, record)

    def work(tables: Tables) -> None:
        tables.operations.update(over)
        if not redeemed:
            tables.operations.forget(record.key)

    await book.store.write("fail", work)


async def _exchange(
    book: Book, own: OwnKeys, key: str, asked: dict[str, Any], kept: dict[str, Any]
) -> Received:
    async with book.holding(key):
        record = book.same(key, _KIND, asked)
        if record is None:
            amount = _token(kept).amount
            ours = await _ours(book, receiving.unit_of(_token(kept)), amount)
            record = book.begun(key, _KIND, ours, amount, asked=asked, token=kept)
            await _refuse_again(book, record)
            begun = record

            def work(tables: Tables) -> None:
                receiving.claim_once(tables, kept["once"], key)
                tables.operations.insert(begun)

            await book.store.write("begin", work)
        failures.raise_again(record)
        if not record.operation.state.final:
            record = await settle(book, own, record)
        operation, verified = record.operation, bool(record.body["verified"])
        memo = record.body["token"]["memo"] or ""
        over = mints.over_cap(book, operation.mint, book.balances())
        amount, fee, unit = operation.amount, operation.fee, operation.unit
        return Received(key, amount, fee, unit, operation.mint, memo, verified, over)


async def _refuse_again(book: Book, record: Record) -> None:
    """One token is one exchange: a second one would only fail at the mint, after its fees."""
    secrets = [proof.secret for proof in _token(record.body["token"]).proofs]
    seen = book.store.read(lambda tables: tables.operations.seen(secrets))
    if seen is not None and not seen.startswith(record.key):
        raise book.store.read(lambda tables: receiving.received_before(tables, seen))


async def _steps(book: Book, own: OwnKeys, record: Record) -> Record:
    token = _token(record.body["token"])
    await _know(book, token.mint)
    got = await _redeem(book, own, record, token)
    if not _is_payable(book, record):
        record = await _agree(book, record, token.mint, got.amount)
    await _pay(book, record, token.mint)
    minted = await minting.claim(book, record.body["invoice"])
    if minted.operation.state != State.DONE:
        raise OutcomeUnknownError(
            f"mint {minted.operation.mint} has not seen the payment yet", hint="Run `recover`."
        )
    amount = minted.operation.amount
    fee = token.amount - got.amount + _paid_fee(book, record)
    kept = {**record.body["token"], "proofs": [], "private_keys": [], "preimage": None}
    body = {**record.body, "token": kept, "verified": got.verified}
    done = book.changed(record, state=State.DONE, amount=amount, fee=fee, error="", body=body)
    return await book.keep(done, "finish")


async def _know(book: Book, url: str) -> None:
    """The foreign mint is on the list, for nothing but this."""
    if url not in {row.url for row in book.mints()}:
        book.judge(url, stranger=True)
        info = await book.info(url)
        row = MintRow(url, info.name, spend=False, accept=False, refreshed=0, met=True)
        await mints.load(book, row)


async def _redeem(book: Book, own: OwnKeys, record: Record, token: Token) -> Received:
    kept = record.body["token"]
    return await receiving.receive(
        book,
        own,
        token,
        allow_unverified=record.body["asked"]["allow_unverified"],
        private_keys=[bytes.fromhex(private) for private in kept["private_keys"]],
        preimage=bytes.fromhex(kept["preimage"]) if kept["preimage"] else None,
        key=f"{record.key}/receive",
    )


async def _agree(book: Book, record: Record, foreign: str, received: int) -> Record:
    """Finds an amount whose payment the received ecash covers, with an invoice over it.

    Raises:
        FeeTooHighError: the fees would take it all.
    """
    unit = record.operation.unit
    amount = received - max(received * book.rules.max_fee_percent // 100, 2)
    for _ in range(MOST_QUOTES):
        if amount <= 0:
            break
        name = _name(book, record, amount)
        invoice = await minting.request_invoice(
            book, amount, mint=record.operation.mint, unit=unit, key=name
        )
        wish = {"invoice": invoice.bolt11, "amount_msat": None, "max_fee": None}
        bill = bills.bill(wish, book.now())
        told = await quoting.quote(book, foreign, bill, unit)
        snapshot = await book.snapshot(foreign, unit)
        short = told.amount + told.fee_reserve + _input_fee(book, snapshot) - received
        if short <= 0:
            body = {**record.body, "invoice": name, "bolt11": invoice.bolt11}
            return await book.keep(book.changed(record, body=body), "agree")
        amount -= short
    raise FeeTooHighError(
        f"the fees would take all of the {received} {unit}",
        hint=f"The ecash is yours now, at mint {foreign}.",
    )


def _is_payable(book: Book, record: Record) -> bool:
    """Whether there is an invoice that is paid, is being paid, or can be."""
    if "invoice" not in record.body or book.record(f"{record.key}/pay") is not None:
        return "invoice" in record.body
    return _is_open(book, must(book.record(record.body["invoice"]), record.key))


def _name(book: Book, record: Record, amount: int) -> str:
    """The operation of an invoice over an amount: one of before that can be paid, or a new one."""
    for number in count():
        name = f"{record.key}/invoice{number}"
        known = book.record(name)
        if known is None or (known.operation.amount == amount and _is_open(book, known)):
            break
    return name


def _is_open(book: Book, invoice: Record) -> bool:
    expiry = invoice.body["quote"]["expiry"]
    return invoice.operation.pending and (expiry is None or book.now() < expiry)


def _input_fee(book: Book, now: Snapshot) -> int:
    """What spending all that is held at the foreign mint would cost, at most."""
    coins = book.store.read(now.coins)
    return (sum(now.infos[coin.keyset].input_fee_ppk for coin in coins) + 999) // 1000


async def _pay(book: Book, record: Record, foreign: str) -> None:
    key, unit = f"{record.key}/pay", record.operation.unit
    async with book.holding(key):
        found = book.record(key)
        if found is None:
            wish = {"invoice": record.body["bolt11"], "amount_msat": None, "max_fee": None}
            bill = bills.bill(wish, book.now())
            snapshot = await book.snapshot(foreign, unit)
            told = await quoting.quote(book, foreign, bill, unit)
            asked = {"exchange": record.key}
            planned = await melting.planned(
                book, key, snapshot, bill, told, asked=asked, parent=record.key
            )
            found = await melting.first(book, planned, snapshot)
        elif not found.operation.state.final:
            found = await melting.settle(book, found)
        failures.raise_again(found)
    if found.operation.state != State.DONE and not melted.owes_change(found):
        raise OutcomeUnknownError(
            f"the payment from mint {foreign} is under way", hint="Run `recover` later."
        )


def _paid_fee(book: Book, record: Record) -> int:
    paid = book.operation(f"{record.key}/pay")
    return paid.fee if paid else 0


async def _ours(book: Book, unit: Unit, amount: int) -> Snapshot:
    """The mint of ours that takes it: the one with least of this unit.

    Raises:
        RefusedError: there is none, or it would hold more than the cap.
    """
    rows = [row for row in book.mints() if row.spend and row.accept]
    if not rows:
        raise RefusedError("this wallet has no mint to swap to", hint="Add one first.")
    free = book.balances()
    least = min(rows, key=lambda row: free.get((row.url, unit), 0))
    cap = book.cap(unit)
    if free.get((least.url, unit), 0) + amount > cap:
        raise BalanceCapError(
            f"with {amount} {unit} more, mint {least.url} would hold more than {cap} of yours",
            hint="Spend first, add another mint, or raise `cap_sat`.",
        )
    return await book.snapshot(least.url, unit)


def _token(kept: dict[str, Any]) -> Token:
    proofs = tuple(codec.to_proof(row) for row in kept["proofs"])
    return Token(kept["url"], kept["unit"], proofs, kept["memo"])


def _is_redeemed(book: Book, record: Record) -> bool:
    """Whether the token is, or may be, ours already."""
    found = book.operation(f"{record.key}/receive")
    return found is not None and found.state != State.FAILED


def _latest(book: Book, record: Record) -> Record:
    return book.record(record.key) or record
