"""Which mint pays an invoice, and several together where none can alone (NUT-15).

Until a quote is accepted nothing is at stake, so mints are asked in turn; from then on the
operation stands or falls with that quote.
"""

from __future__ import annotations

from typing import Any

from wallet.errors import (
    FeeTooHighError,
    InsufficientFundsError,
    MintError,
    MintUnreachableError,
    OutcomeUnknownError,
    RefusedError,
    UnsupportedError,
    WalletError,
)
from wallet.operations import bills, failures, melted, melting, multipath, quoting
from wallet.operations.bills import Bill
from wallet.operations.book import Book
from wallet.operations.directory import UNITS
from wallet.operations.results import Payment
from wallet.store import Kind, Record, State
from wallet.types import Unit

_ELSEWHERE = (  # why one mint does not pay, before anything is at stake
    InsufficientFundsError,
    FeeTooHighError,
    UnsupportedError,
    MintError,
    MintUnreachableError,
    OutcomeUnknownError,
)


async def pay_invoice(
    book: Book,
    text: str,
    *,
    amount_msat: int | None,
    max_fee: int | None,
    mint: str | None,
    key: str | None,
) -> Payment:
    """See `Wallet.pay_invoice`."""
    asked = {"invoice": text, "amount_msat": amount_msat, "max_fee": max_fee, "mint": mint}
    key = key or book.new_key()
    async with book.holding(key):
        record = _same(book, key, asked)
        if record is None:
            record = await _pay(book, key, asked)
        elif not record.operation.state.final:
            record = await settle(book, record)
        failures.raise_again(record)
        return payment(record)


async def settle(book: Book, record: Record) -> Record:
    """Brings a payment of before to its end, whole or in parts. Raises as `melting.settle`."""
    several = record.operation.kind == Kind.MULTIPATH
    return await (multipath.settle(book, record) if several else melting.settle(book, record))


def stands(record: Record) -> bool:
    """Whether this is a payment of an invoice that did not fail."""
    kind, state = record.operation.kind, record.operation.state
    return kind in (Kind.MELT, Kind.MULTIPATH, Kind.SOURCE) and state != State.FAILED


def payment(record: Record) -> Payment:
    """The answer for a payment that did not fail."""
    operation = record.operation
    paid = operation.state == State.DONE or melted.owes_change(record)
    return Payment(
        operation.key,
        "paid" if paid else "pending",
        operation.amount,
        operation.fee,
        operation.unit,
        operation.mint,
        record.body.get("preimage"),
    )


def _same(book: Book, key: str, asked: dict[str, Any]) -> Record | None:
    found = book.record(key)
    several = found is not None and found.operation.kind == Kind.MULTIPATH
    return book.same(key, Kind.MULTIPATH if several else Kind.MELT, asked)


async def _pay(book: Book, key: str, asked: dict[str, Any]) -> Record:
    bill = bills.bill(asked, book.now())
    refused: list[WalletError] = []
    for url, unit in _candidates(book, bill.amount_msat, asked["mint"]):
        try:
            return await _pay_by(book, key, bill, url, unit)
        except _ELSEWHERE as error:
            if book.record(key) is not None:  # this mint was given the payment
                raise
            refused.append(error)
    several = None if asked["mint"] else await _pay_by_several(book, key, bill)
    if several is not None:
        return several
    raise refused[0] if refused else _too_little(book, bill.amount_msat)


async def _pay_by(book: Book, key: str, bill: Bill, url: str, unit: Unit) -> Record:
    snapshot = await book.snapshot(url, unit)
    told = await quoting.quote(book, url, bill, unit)
    record = await melting.planned(book, key, snapshot, bill, told, asked=bill.asked)
    return await melting.first(book, record, snapshot)


async def _pay_by_several(book: Book, key: str, bill: Bill) -> Record | None:
    try:
        return await multipath.pay(book, key, bill)
    except _ELSEWHERE as error:
        if book.record(key) is not None or isinstance(error, FeeTooHighError):
            raise
        return None


def _candidates(book: Book, amount_msat: int, mint: str | None) -> list[tuple[str, Unit]]:
    """Mints and units that hold enough, most first; the one named, whatever it holds."""
    if mint is not None:
        row = book.mint(mint)
        if not row.spend:
            raise RefusedError(f"mint {row.url} is not for spending")
        known = {info.unit for info in book.infos(row.url).values()}
        return [(row.url, unit) for unit in UNITS if unit in known] or [(row.url, "sat")]
    held = bills.balances_msat(book)
    enough = [place for place, msat in held.items() if msat >= amount_msat]
    return sorted(enough, key=lambda place: -held[place])


def _too_little(book: Book, amount_msat: int) -> WalletError:
    most = max(bills.balances_msat(book).values(), default=0) // 1000
    return InsufficientFundsError(
        f"the invoice is over {-(-amount_msat // 1000)} sat; the most at one mint is {most} sat",
        hint="Receive more at one mint first.",
    )
