"""Payments by another funding source, such as Nostr Wallet Connect, in the same journal.

The wish is on the disk before the source is asked; what it answers ends the operation; an answer
that is missing leaves it pending until the source itself says what became of it. The same key is
the same payment here too. `SourcePayment` is what such an operation answers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol

from wallet.errors import OutcomeUnknownError, WalletError
from wallet.operations import bills, failures
from wallet.operations.bills import Bill
from wallet.operations.book import Book
from wallet.protocol.invoices import Bolt11
from wallet.store import Kind, Operation, Record, State, Tables


class Paid(Protocol):
    """What a source answers: `preimage` as 32 bytes, and the fee in msat, where it tells them."""

    @property
    def preimage(self) -> bytes | None: ...
    @property
    def fee_msat(self) -> int | None: ...


class FundingSource(Protocol):
    """Somewhere else to pay from: `wallet.nwc.NwcSource`."""

    @property
    def name(self) -> str:
        """What the history calls it; no secret."""
        ...

    async def pay_invoice(
        self, invoice: Bolt11, *, amount_msat: int | None = None, again: bool = False
    ) -> Paid:
        """Pays it. OutcomeUnknownError where it may be paid; another WalletError: surely not.
        `again`: a payment of it failed before, and the source may still tell of that one."""
        ...

    async def settle(
        self, invoice: Bolt11, *, asked: float, known: bytes | None = None, again: bool = False
    ) -> Paid:
        """What became of a payment that was asked for at `asked`. Raises in the same way; `known`
        is the hash of a payment that this source surely made before."""
        ...


@dataclass(frozen=True)
class SourcePayment:
    """An invoice paid by another source. Amounts in msat; `preimage` in hex."""

    operation: str
    state: Literal["paid", "pending"]
    source: str
    amount_msat: int
    fee_msat: int
    preimage: str | None = None


async def pay(
    book: Book,
    source: FundingSource,
    text: str,
    *,
    amount_msat: int | None = None,
    key: str | None = None,
) -> SourcePayment:
    """Pays an invoice from a source, journalled.

    Raises:
        RefusedError: another operation paid it, or may have.
        WalletError: it surely was not paid.
    """
    asked = {"invoice": text, "amount_msat": amount_msat, "max_fee": None, "source": source.name}
    key = key or book.new_key()
    async with book.holding(key):
        record = book.same(key, Kind.SOURCE, asked)
        if record is None:
            bill = bills.bill(asked, book.now())
            record = await _begin(book, source, key, bill)
            record = await _drive(book, source, record, bill, first=True)
        elif not record.operation.state.final:
            record = await settle(book, source, record)
        failures.raise_again(record)
        return payment(record)


async def settle(book: Book, source: FundingSource, record: Record) -> Record:
    """Asks the source what became of a payment of before; it stays pending where nobody knows.

    Raises:
        WalletError: it surely was not paid; it is failed.
    """
    bill = bills.bill(record.body["asked"], 0)
    return await _drive(book, source, record, bill, first=False)


def payment(record: Record) -> SourcePayment:
    """The answer for a payment that did not fail."""
    operation = record.operation
    paid = operation.state == State.DONE
    return SourcePayment(
        operation.key,
        "paid" if paid else "pending",
        operation.mint,
        operation.amount,
        operation.fee,
        record.body.get("preimage"),
    )


async def _begin(book: Book, source: FundingSource, key: str, bill: Bill) -> Record:
    now = book.now()
    operation = Operation(
        key, Kind.SOURCE, State.PREPARED, source.name, "msat", bill.amount_msat, 0, now, now
    )
    proof = bill.invoice.payment_hash.hex()

    def work(tables: Tables) -> Record:
        failed = tables.operations.of(Kind.SOURCE, source.name, State.FAILED)
        again = any(other.body["hash"] == proof for other in failed)
        record = Record(operation, {"asked": bill.asked, "hash": proof, "again": again})
        bills.hold(tables, proof, key)
        tables.operations.insert(record)
        return record

    return await book.store.write("reserve", work)


async def _drive(
    book: Book, source: FundingSource, record: Record, bill: Bill, *, first: bool
) -> Record:
    again = bool(record.body.get("again"))
    known = None if first else book.store.read(lambda tables: _known(tables, source.name))
    try:
        if first:
            amount_msat = bill.amount_msat if bill.amountless else None
            paid = await source.pay_invoice(bill.invoice, amount_msat=amount_msat, again=again)
        else:
            asked = float(record.operation.when)
            paid = await source.settle(bill.invoice, asked=asked, known=known, again=again)
    except OutcomeUnknownError as error:
        await book.doubt(record, error)
        return book.changed(record, state=State.PENDING)
    except WalletError as error:
        failed = book.changed(record, state=State.FAILED, error=error.message)
        await book.store.write("fail", lambda tables: _fail(tables, failed))
        raise
    shown = paid.preimage.hex() if paid.preimage else None
    body: dict[str, Any] = {**record.body, "preimage": shown}
    done = book.changed(record, state=State.DONE, fee=paid.fee_msat or 0, error="", body=body)
    return await book.keep(done, "finish")


def _fail(tables: Tables, record: Record) -> None:
    """The invoice may be paid by another operation now."""
    tables.operations.update(record)
    tables.operations.forget(record.key)


def _known(tables: Tables, source: str) -> bytes | None:
    """The hash of the last payment that this source surely made."""
    last = next(tables.operations.of(Kind.SOURCE, source, State.DONE), None)
    return None if last is None else bytes.fromhex(last.body["hash"])
