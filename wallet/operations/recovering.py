"""After a crash, or a mint's silence: every operation that is not final is settled (see the sagas).

Mints are asked side by side, each for its own; what one does not answer stays pending, and nothing
of it is repeated in another form.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from wallet.errors import MintUnreachableError, WalletError
from wallet.operations import (
    batching,
    consolidating,
    exchanging,
    minting,
    paying,
    receiving,
    sending,
    sources,
    swapping,
)
from wallet.operations.book import Book
from wallet.operations.ownkeys import OwnKeys
from wallet.store import Kind, Operation, Record
from wallet.types import Unit

_SWAPS: dict[Kind, swapping.Swapping] = {
    Kind.SEND: sending.SENDING,
    Kind.RECEIVE: receiving.RECEIVING,
    Kind.RECLAIM: receiving.RECEIVING,
    Kind.CONSOLIDATE: consolidating.CONSOLIDATING,
}


async def recover(
    book: Book,
    own: OwnKeys,
    funding: Mapping[str, sources.FundingSource],
    key: str | None = None,
) -> tuple[Operation, ...]:
    """See `Wallet.recover`."""
    before = tuple(each for each in book.pending() if key in (None, each.key))
    whole = [each for each in before if each.kind == Kind.MULTIPATH]
    parts = {each.key for each in before if each.parent in {one.key for one in whole}}
    by_mint: dict[str, list[Operation]] = {}
    for operation in before:
        if operation.key not in parts:
            by_mint.setdefault(operation.mint, []).append(operation)
    await asyncio.gather(*(_at(book, own, funding, mint, by_mint[mint]) for mint in by_mint))
    now = (book.operation(operation.key) for operation in before)
    return tuple(operation for operation in now if operation and operation.state.final)


async def _at(
    book: Book,
    own: OwnKeys,
    funding: Mapping[str, sources.FundingSource],
    mint: str,
    operations: list[Operation],
) -> None:
    """Settles what concerns one mint, exchanges last: they go on with what is settled by then."""
    invoices = [each for each in operations if each.kind == Kind.MINT]
    others = [each for each in operations if each.kind != Kind.MINT]
    for operation in sorted(others, key=lambda each: each.kind == Kind.EXCHANGE):
        try:
            await _one(book, own, funding, operation.key)
        except WalletError as error:  # it is written down; the operation says what became of it
            if _is_away(error) and operation.kind != Kind.EXCHANGE:  # that asks another mint, too
                return
    for unit in sorted({each.unit for each in invoices}):
        await _invoices(book, mint, unit, [each.key for each in invoices if each.unit == unit])


async def _one(
    book: Book, own: OwnKeys, funding: Mapping[str, sources.FundingSource], key: str
) -> None:
    async with book.holding(key):
        record = book.record(key)
        if record is None or record.operation.state.final:
            return
        kind = record.operation.kind
        if kind in _SWAPS:
            await swapping.settle(book, _SWAPS[kind], record)
        elif kind in (Kind.MELT, Kind.MULTIPATH):
            await paying.settle(book, record)
        elif kind == Kind.BATCH:
            await batching.settle(book, record)
        elif kind == Kind.EXCHANGE:
            await exchanging.settle(book, own, record)
        else:
            await _source(book, funding, record)


async def _source(book: Book, funding: Mapping[str, sources.FundingSource], record: Record) -> None:
    source = funding.get(record.operation.mint)
    if source is not None:  # else it stays pending until it is connected again
        await sources.settle(book, source, record)


async def _invoices(book: Book, mint: str, unit: Unit, keys: list[str]) -> None:
    """Claims what is paid, together where the mint does that (NUT-29)."""
    try:
        if await batching.claim_paid(book, mint, unit, keys):
            now = {key: book.operation(key) for key in keys}
            keys = [key for key, operation in now.items() if operation and operation.pending]
    except WalletError as error:
        if _is_away(error):
            return
        # each is claimed alone below; those of a batch that is open are left alone by `claim`
    for key in keys:
        try:
            await minting.claim(book, key)
        except WalletError as error:
            # it is written down where anything may have happened; else it waits as it was
            if _is_away(error):
                return


def _is_away(error: WalletError) -> bool:
    """Whether a mint cannot be reached: finding that out again takes seconds each time."""
    return isinstance(error, MintUnreachableError) or isinstance(
        error.__cause__, MintUnreachableError
    )
