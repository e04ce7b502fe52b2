"""Several paid invoices of one mint, claimed in one request (NUT-29).

The batch is an operation of its own whose body holds the request; while it is open, its invoices
name it in theirs and are left alone. It is done with all of them, or given up with none of them:
then each is claimed by itself. It is not given up while a copy of its request may be under way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

from wallet.errors import (
    MintError,
    MintUnreachableError,
    OutcomeUnknownError,
    UnsupportedError,
)
from wallet.operations import copies, locking, minting, restoring, unblinding
from wallet.operations.book import Book, must
from wallet.operations.directory import Snapshot
from wallet.operations.failures import unknown
from wallet.store import Kind, Record, State, Tables, codec
from wallet.types import BlindedMessage, BlindSignature, MintQuoteState, Unit


async def claim_paid(book: Book, mint: str, unit: Unit, keys: Sequence[str]) -> bool:
    """Claims those of these invoices that are paid, where the mint does several at once.

    Returns whether it did; else each is to be claimed by itself.

    Raises:
        OutcomeUnknownError: the mint may have done it; the batch stays pending.
    """
    most = (await book.info(mint)).batch_size or 0
    if min(len(keys), most) < 2:
        return False
    async with AsyncExitStack() as stack:
        for key in sorted(keys):
            await stack.enter_async_context(book.holding(key))
        paid = await _paid(book, mint, keys[:most])
        if len(paid) < 2:
            return False
        key = book.new_key()
        await stack.enter_async_context(book.holding(key))
        await stack.enter_async_context(book.at_work(mint))
        snapshot = await book.snapshot(mint, unit)
        batch = await _reserve(book, key, snapshot, paid)
        return await _drive(book, batch, sent=False)


async def settle(book: Book, batch: Record) -> bool:
    """Brings a batch of before to its end. The caller holds its key. Raises as `claim_paid`."""
    async with AsyncExitStack() as stack:
        for key in sorted(batch.body["quotes"]):
            await stack.enter_async_context(book.holding(key))
        await stack.enter_async_context(book.at_work(batch.operation.mint))
        return await _drive(book, batch, sent=True)


async def _paid(book: Book, mint: str, keys: Sequence[str]) -> list[Record]:
    """Those that are paid and at rest, each held by the caller."""
    records = [must(book.record(key), key) for key in keys]
    ids = {
        record.body["quote"]["id"]: record
        for record in records
        if record.operation.state == State.PREPARED
        and "outputs" not in record.body
        and not record.body.get("batch")
    }
    if not ids:
        return []
    told = await book.api(mint).mint_quotes(list(ids))
    return [ids[quote.id] for quote in told if quote.state == MintQuoteState.PAID]


async def _reserve(book: Book, key: str, snapshot: Snapshot, paid: Sequence[Record]) -> Record:
    total = sum(record.operation.amount for record in paid)

    def work(tables: Tables) -> Record:
        outputs = book.new_ecash(tables, snapshot, total)
        names = {record.key: record.body["quote"] for record in paid}
        body: dict[str, Any] = {
            "quotes": names,
            "total": total,
            "outputs": codec.from_outputs(outputs),
        }
        batch = copies.first(book, book.begun(key, Kind.BATCH, snapshot, 0, **body))
        tables.operations.insert(batch)
        for record in paid:
            tables.operations.update(replace(record, body={**record.body, "batch": key}))
        return batch

    return await book.store.write("reserve", work)


async def _drive(book: Book, batch: Record, *, sent: bool) -> bool:
    lost = OutcomeUnknownError("the request may be at the mint already")
    for number in range(2):
        refused = False
        if number or not sent:
            batch = await copies.again(book, batch) if sent else batch
            try:
                return await _finish(book, batch, await _post(book, batch))
            except MintUnreachableError as error:
                batch = await copies.answered(book, batch, again=sent)
                refused, lost = not sent, unknown(error)
            except UnsupportedError as error:  # it does not do so many at once any more
                batch = await copies.answered(book, batch, again=sent)
                refused, lost = not copies.may_come(book, batch), unknown(error)
            except MintError as error:
                batch = await copies.answered(book, batch, again=sent)
                async with book.doubting(batch):
                    signed = await restoring.signed_before(book, batch, error, sent=sent)
                if signed:
                    return await _finish(book, batch, signed)
                refused = copies.heard(book, batch, error) is not None
                lost = unknown(error)
            except OutcomeUnknownError as error:
                lost = error
        issued = await _issued(book, batch)
        if issued:
            return await _finish(book, batch, issued)
        if refused or (issued is None and not copies.may_come(book, batch)):
            return await _give_up(book, batch)
        sent = True
    await book.doubt(batch, lost)
    raise lost


async def _post(book: Book, batch: Record) -> tuple[BlindSignature, ...]:
    messages = [made.message for made in codec.outputs_of(batch.body)]
    ids = {kept["id"]: key for key, kept in batch.body["quotes"].items()}
    amounts = {quote: _amount(book, key) for quote, key in ids.items()}
    mint = batch.operation.mint

    async def post(form: locking.Form) -> tuple[BlindSignature, ...]:
        signatures = _signatures(book, batch, messages, form)
        return await book.api(mint).mint_batch(amounts, messages, signatures=signatures)

    if not any(kept["locked"] for kept in batch.body["quotes"].values()):
        return await post(locking.Form.NOTHING)
    return await locking.posted(book, mint, post, locked=True)


def _signatures(
    book: Book, batch: Record, messages: Sequence[BlindedMessage], form: locking.Form
) -> Mapping[str, str] | None:
    signed = {
        kept["id"]: form.sign(kept["id"], messages, book.quote_key(key))
        for key, kept in batch.body["quotes"].items()
        if kept["locked"]
    }
    return {quote: signature for quote, signature in signed.items() if signature} or None


def _amount(book: Book, key: str) -> int:
    return must(book.record(key), key).operation.amount


async def _issued(book: Book, batch: Record) -> tuple[BlindSignature, ...] | None:
    """Its signatures where the mint issued it, none where it did not yet.

    None where it never will: another request took one of its quotes.
    """
    mint, quotes = batch.operation.mint, batch.body["quotes"]
    async with book.doubting(batch):
        told = [await book.api(mint).mint_quote(kept["id"]) for kept in quotes.values()]
        if any(quote.state == MintQuoteState.UNPAID for quote in told):
            return None
        if all(quote.state == MintQuoteState.PAID for quote in told):
            return ()
        return await restoring.signed(book, mint, codec.outputs_of(batch.body)) or None


async def _finish(book: Book, batch: Record, signatures: Sequence[BlindSignature]) -> bool:
    operation, outputs = batch.operation, codec.outputs_of(batch.body)
    proofs = await unblinding.finish(book, operation.mint, outputs, signatures)

    def work(tables: Tables) -> None:
        tables.proofs.add(operation.mint, operation.unit, proofs)
        tables.operations.update(book.changed(batch, state=State.DONE, error="", body={}))
        for key in batch.body["quotes"]:
            minting.took(book, tables, must(tables.operations.get(key), key), ())

    await book.store.write("finish", work)
    return True


async def _give_up(book: Book, batch: Record) -> bool:
    over = book.changed(batch, state=State.FAILED, error="its invoices are claimed one by one")

    def work(tables: Tables) -> None:
        tables.operations.update(over)
        for key in batch.body["quotes"]:
            child = must(tables.operations.get(key), key)
            body = {name: value for name, value in child.body.items() if name != "batch"}
            tables.operations.update(replace(child, body=body))

    await book.store.write("fail", work)
    return False
