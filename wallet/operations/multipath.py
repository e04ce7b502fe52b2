"""One invoice paid by several mints, where none can alone (NUT-15).

It is one operation whose parts are payments of their own, all reserved in one transaction before
the first is sent: Lightning pays all of them or none.
"""

from __future__ import annotations

import asyncio

from wallet.errors import FeeTooHighError, PaymentFailedError, WalletError
from wallet.operations import bills, melted, melting, quoting
from wallet.operations.bills import Bill
from wallet.operations.book import Book, must
from wallet.operations.directory import Snapshot
from wallet.store import Kind, Record, State, Tables
from wallet.types import MeltQuote

Part = tuple[Snapshot, MeltQuote]


async def pay(book: Book, key: str, bill: Bill) -> Record | None:
    """Pays in parts, where mints offer it and together hold enough; else None.

    Raises:
        FeeTooHighError: their fees together are above what is allowed; nothing was written.
        PaymentFailedError: no part was paid.
    """
    shares = await _shares(book, bill) if book.rules.multipath and not bill.amountless else None
    if shares is None:
        return None
    parts = [await _part(book, url, bill, share) for url, share in shares]
    if sum(told.fee_reserve for _, told in parts) > bill.max_fee(book.rules, "sat"):
        raise FeeTooHighError("the mints' fees together are above what is allowed")
    whole, ready = await _reserve(book, key, bill, parts)
    await asyncio.gather(*(_pay_part(book, piece) for piece in ready), return_exceptions=True)
    return await _together(book, whole)


async def settle(book: Book, whole: Record) -> Record:
    """Brings the parts of a payment to their ends, as far as can be known.

    Raises:
        PaymentFailedError: no part was paid.
    """
    await _settle_parts(book, whole)
    return await _together(book, whole)


async def _settle_parts(book: Book, whole: Record) -> None:
    left = [part for part in _parts(book, whole) if not part.operation.state.final]
    await asyncio.gather(*(_settle_part(book, part) for part in left), return_exceptions=True)


def _parts(book: Book, whole: Record) -> list[Record]:
    return [must(book.record(key), key) for key in whole.body["parts"]]


async def _reserve(
    book: Book, key: str, bill: Bill, parts: list[Part]
) -> tuple[Record, list[Record]]:
    keys = [f"{key}/{number}" for number in range(1, len(parts) + 1)]
    total = sum(told.amount for _, told in parts)
    whole = book.begun(key, Kind.MULTIPATH, parts[0][0], total, asked=bill.asked, parts=keys)
    pieces = [
        await melting.planned(book, name, place, bill, told, asked={"part": key}, parent=key)
        for name, (place, told) in zip(keys, parts, strict=True)
    ]

    def work(tables: Tables) -> list[Record]:
        tables.operations.insert(whole)
        pairs = zip(pieces, parts, strict=True)
        ready = [melting.reserve(book, tables, piece, place) for piece, (place, _) in pairs]
        melting.check_fee(bill.asked, sum(piece.operation.fee for piece in ready), "sat")
        return ready

    return whole, await book.store.write("reserve", work)


async def _pay_part(book: Book, piece: Record) -> Record:
    async with book.holding(piece.key), book.at_work(piece.operation.mint):
        return await melting.pay(book, piece)


async def _settle_part(book: Book, piece: Record) -> Record:
    async with book.holding(piece.key):
        return await melting.settle(book, must(book.record(piece.key), piece.key))


async def _shares(book: Book, bill: Bill) -> list[tuple[str, int]] | None:
    """Who pays how many msat: the fewest mints, each with room for its own fees."""
    rest, shares = bill.amount_msat, list[tuple[str, int]]()
    held = bills.balances_msat(book)
    for (url, unit), msat in sorted(held.items(), key=lambda pair: -pair[1]):
        if unit != "sat" or not await _offers(book, url):
            continue
        room = (msat - max(msat * book.rules.max_fee_percent // 100, 4_000)) // 1000 * 1000
        share = min(rest, room)
        if share > 0:
            shares.append((url, share))
            rest -= share
        if not rest:  # one mint that could pay it whole has refused already
            return shares if len(shares) > 1 else None
    return None


async def _offers(book: Book, url: str) -> bool:
    try:
        return (await book.info(url)).multipath("sat")
    except WalletError:
        return False


async def _part(book: Book, url: str, bill: Bill, share_msat: int) -> Part:
    told = await quoting.quote(book, url, bill, "sat", part_msat=share_msat)
    return await book.snapshot(url, "sat"), told


async def _together(book: Book, whole: Record) -> Record:
    """The state of a payment in parts, from its parts."""
    if len({part.operation.state for part in _parts(book, whole)}) > 1:
        await _settle_parts(book, whole)  # the last part ended those that waited for it
    parts = _parts(book, whole)
    shown = next((p.body["preimage"] for p in parts if p.body.get("preimage")), None)
    states = {part.operation.state for part in parts}
    fee = sum(part.operation.fee for part in parts if part.operation.state != State.FAILED)
    body = {**whole.body, "preimage": shown}
    if not states <= {State.DONE, State.FAILED}:
        paid = all(part.operation.state == State.DONE or melted.owes_change(part) for part in parts)
        known = body if paid else whole.body  # what is told as paid is `melted.owes_change`'s
        pending = book.changed(whole, state=State.PENDING, fee=fee, body=known)
        return await book.keep(pending, "together")
    if shown or State.FAILED not in states:
        done = book.changed(whole, state=State.DONE, fee=fee, error="", body=body)
        return await book.keep(done, "together")
    error = parts[0].operation.error
    if State.DONE in states:
        error = "one mint says it is paid, another that it is not"
    lost = fee + sum(p.operation.amount for p in parts if p.operation.state == State.DONE)
    failed = book.changed(whole, state=State.FAILED, fee=lost, error=error)
    await book.store.write("together", lambda tables: _fail(tables, failed))
    raise PaymentFailedError(f"the payment in parts failed: {error}")


def _fail(tables: Tables, whole: Record) -> None:
    """The invoice may be paid by another operation now."""
    tables.operations.forget(whole.key)
    tables.operations.update(whole)
