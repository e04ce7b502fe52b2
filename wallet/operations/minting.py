"""Receiving by Lightning invoice: a mint's quote, somebody pays it, and ecash is made (NUT-04, 23).

Quotes are locked to a key of ours wherever the mint does that (NUT-20), so that who learns of a
quote cannot take its ecash. An operation waits as `prepared` until its invoice is paid; then one
transaction stores the outputs, and from there on it is never given up while the mint says that the
quote is paid: what came of a request is asked by the quote's state and by NUT-09.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from typing import Any, Final

from wallet.errors import (
    BalanceCapError,
    MintError,
    MintMisbehavedError,
    OutcomeUnknownError,
    ParseError,
    RefusedError,
)
from wallet.operations import copies, locking, restoring, unblinding
from wallet.operations.book import Book, must
from wallet.operations.directory import Snapshot
from wallet.operations.replanning import MOST_TRIES, OUTDATED
from wallet.operations.results import Invoice
from wallet.operations.sending import check_amount
from wallet.protocol import curve, invoices
from wallet.store import Kind, Operation, Record, State, Tables, codec
from wallet.types import CLOCK_S, BlindSignature, MintQuote, MintQuoteState, Output, Proof, Unit

_NEVER_TOLD_S: Final = 7 * 86_400  # how long an invoice without an expiry is waited for


async def request_invoice(
    book: Book, amount: int, *, mint: str | None, unit: Unit, key: str | None
) -> Invoice:
    """See `Wallet.request_invoice`."""
    check_amount(amount)
    asked = {"amount": amount, "mint": mint, "unit": unit}
    key = key or book.new_key()
    async with book.holding(key):
        record = book.same(key, Kind.MINT, asked)
        if record is None:
            snapshot = await _receiver(book, amount, unit, mint)
            await book.info(snapshot.mint)  # says whether quotes can be locked and replayed
            record = await _quoted(book, key, snapshot, amount, asked)
        return _invoice(record)


async def claim_invoice(book: Book, key: str, *, wait_s: float = 0) -> Operation:
    """See `Wallet.claim_invoice`."""
    record = must(book.record(key), key)
    if record.operation.kind != Kind.MINT:
        raise RefusedError(f"{key!r} is no invoice of this wallet")
    if wait_s > 0 and record.operation.state != State.DONE:
        await _wait(book, record, wait_s)
    return (await claim(book, key)).operation


async def claim(book: Book, key: str) -> Record:
    """Makes the ecash of an invoice if it is paid; else returns it as it is.

    Raises:
        OutcomeUnknownError: the mint may have made it; it stays pending.
        WalletError: the mint would not; the quote stays, and can be claimed later.
    """
    async with book.holding(key):
        record = must(book.record(key), key)
        if record.operation.state == State.DONE:
            return record
        if record.body.get("batch"):
            return record  # a batch is at it
        async with book.at_work(record.operation.mint):
            return await _drive(book, record)


# ── the quote ───────────────────────────────────────────────────────────────────────────────


async def _receiver(book: Book, amount: int, unit: Unit, mint: str | None) -> Snapshot:
    """The mint to receive at: the one named, else the first that has room under the cap."""
    rows = [book.mint(mint)] if mint else [row for row in book.mints() if row.spend]
    if not rows:
        raise RefusedError("this wallet has no mint to receive at", hint="Add one first.")
    free = book.balances()
    cap = book.cap(unit)
    for row in rows:
        if free.get((row.url, unit), 0) + amount <= cap:
            return await book.snapshot(row.url, unit)
    raise BalanceCapError(
        f"with {amount} {unit} more, mint {rows[0].url} would hold more than {cap} {unit} of yours",
        hint="Receive less, spend first, use another mint, or raise `cap_sat`.",
    )


async def _quoted(
    book: Book, key: str, snapshot: Snapshot, amount: int, asked: dict[str, Any]
) -> Record:
    """Asks for the quote, then writes it down: before that nobody can have paid it."""
    public = curve.public(book.quote_key(key))
    quote = await book.api(snapshot.mint).request_mint(amount, snapshot.unit, pubkey=public)
    _check(snapshot, amount, quote)
    kept = {
        "id": quote.id,
        "request": quote.request,
        "expiry": quote.expiry,
        "locked": quote.pubkey is not None,
    }
    record = book.begun(key, Kind.MINT, snapshot, amount, asked=asked, quote=kept)
    await book.store.write("quote", lambda tables: tables.operations.insert(record))
    return record


def _check(snapshot: Snapshot, amount: int, quote: MintQuote) -> None:
    """Refuses an invoice over another sum: its payer would pay what the mint never issues."""
    asked_msat = amount if snapshot.unit == "msat" else amount * 1000
    try:
        invoiced_msat = invoices.read(quote.request).amount_msat
    except ParseError as error:
        raise MintMisbehavedError(
            f"mint {snapshot.mint} gave an invoice that is none: {error.message}",
            hint="Nothing was paid. Use another mint.",
        ) from error
    if invoiced_msat != asked_msat:
        raise MintMisbehavedError(
            f"mint {snapshot.mint} gave an invoice over {invoiced_msat} msat for {asked_msat} msat",
            hint="Nothing was paid. Use another mint.",
        )


def _invoice(record: Record) -> Invoice:
    operation, quote = record.operation, record.body["quote"]
    return Invoice(
        operation.key,
        quote["request"],
        operation.amount,
        operation.unit,
        operation.mint,
        quote["expiry"],
    )


async def _wait(book: Book, record: Record, seconds: float) -> None:
    """Until the quote is paid, or so many seconds have passed."""
    api, quote = book.api(record.operation.mint), record.body["quote"]["id"]
    try:
        async with asyncio.timeout(seconds):
            async with aclosing(api.watch(quote)) as changes:
                async for change in changes:
                    if change.state != MintQuoteState.UNPAID:
                        return
    except TimeoutError:
        return


# ── the ecash ───────────────────────────────────────────────────────────────────────────────


async def _drive(book: Book, record: Record) -> Record:
    lost = OutcomeUnknownError("the request may be at the mint already")
    sent = "outputs" in record.body
    for number in range(MOST_TRIES):
        quote = await _state(book, record)
        settled = await _settled(book, record, quote)
        if settled is not None:
            return settled
        if "outputs" not in record.body:
            record = await _prepare(book, record)
        record = await copies.again(book, record) if sent else record
        try:
            return await _post(book, record)
        except OutcomeUnknownError as error:
            lost, sent = error, True
        except MintError as refusal:
            record = await copies.answered(book, record, again=sent)
            signed = await restoring.signed_before(book, record, refusal, sent=sent)
            if signed:
                return await _finish(book, record, codec.outputs_of(record.body), signed)
            if refusal.code not in OUTDATED or number == MOST_TRIES - 1:
                raise
            record, sent = await _prepare(book, record, fresh=True), False
    await book.doubt(record, lost)
    raise lost


async def _state(book: Book, record: Record) -> MintQuote:
    return await book.api(record.operation.mint).mint_quote(record.body["quote"]["id"])


async def _settled(book: Book, record: Record, quote: MintQuote) -> Record | None:
    """The operation where there is nothing to ask for: not paid, or issued. Else None."""
    if quote.state == MintQuoteState.PAID:
        return None
    if quote.state == MintQuoteState.UNPAID:
        return await _unpaid(book, record)
    async with book.doubting(record):
        for outputs in _all_outputs(record):
            signed = await restoring.signed(book, record.operation.mint, outputs)
            if signed:
                return await _finish(book, record, outputs, signed)
        if "outputs" in record.body and copies.may_come(book, record):
            raise OutcomeUnknownError(
                f"mint {record.operation.mint} says that it issued, and does not know to whom",
                hint="Run `recover` later.",
            )
    return await book.keep(
        book.changed(record, state=State.FAILED, error="the mint gave its ecash to somebody else")
    )


async def _unpaid(book: Book, record: Record) -> Record:
    operation, expiry = record.operation, record.body["quote"]["expiry"]
    end = expiry + CLOCK_S if expiry else operation.when + _NEVER_TOLD_S
    was_paid = "outputs" in record.body  # the mint once said so
    if operation.state.final or was_paid or book.now() <= end:
        return record
    return await book.keep(
        book.changed(record, state=State.FAILED, error="the invoice expired and was not paid")
    )


async def _prepare(book: Book, record: Record, *, fresh: bool = False) -> Record:
    """Stores outputs for the quote, with those of earlier requests beside them."""
    operation = record.operation
    snapshot = await book.snapshot(operation.mint, operation.unit, fresh=fresh)

    def work(tables: Tables) -> Record:
        outputs = book.new_ecash(tables, snapshot, operation.amount)
        before = [*record.body.get("before", []), record.body.get("outputs", [])]
        body = {**record.body, "outputs": codec.from_outputs(outputs), "before": before}
        planned = copies.first(book, book.changed(record, state=State.PREPARED, body=body))
        tables.operations.update(planned)
        return planned

    return await book.store.write("reserve", work)


async def _post(book: Book, record: Record) -> Record:
    quote, outputs = record.body["quote"], codec.outputs_of(record.body)
    messages = [made.message for made in outputs]
    mint, private = record.operation.mint, book.quote_key(record.key)

    async def post(form: locking.Form) -> Sequence[BlindSignature]:
        signature = form.sign(quote["id"], messages, private)
        return await book.api(mint).mint(quote["id"], messages, signature=signature)

    signatures = await locking.posted(book, mint, post, locked=quote["locked"])
    return await _finish(book, record, outputs, signatures)


async def _finish(
    book: Book, record: Record, outputs: Sequence[Output], signatures: Sequence[BlindSignature]
) -> Record:
    proofs = await unblinding.finish(book, record.operation.mint, outputs, signatures)
    return await book.store.write("finish", lambda tables: took(book, tables, record, proofs))


def took(book: Book, tables: Tables, record: Record, proofs: Sequence[Proof]) -> Record:
    """Keeps the ecash of an invoice; the operation is done."""
    operation = record.operation
    tables.proofs.add(operation.mint, operation.unit, proofs)
    body = {name: record.body[name] for name in ("asked", "quote")}
    done = book.changed(record, state=State.DONE, error="", body=body)
    tables.operations.update(done)
    return done


def _all_outputs(record: Record) -> list[tuple[Output, ...]]:
    """Those of the last request, then of earlier ones."""
    sets = [record.body.get("outputs", []), *reversed(record.body.get("before", []))]
    return [tuple(codec.to_output(row) for row in rows) for rows in sets if rows]
