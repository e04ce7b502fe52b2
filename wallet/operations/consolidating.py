"""Consolidating: many small proofs, and those of old keysets, become few new ones.

What small change the rules want is kept. At most 250 proofs are swapped at once; where there is
nothing to gain the operation is done at once, with an amount of 0.
"""

from __future__ import annotations

from wallet.operations import swapping
from wallet.operations.book import Book
from wallet.operations.directory import UNITS, Snapshot
from wallet.store import Coin, Hold, Kind, Operation, Record, State, Tables, codec, selection
from wallet.types import Proof, Unit


class Consolidating(swapping.Swapping):
    """A swap of our own proofs for our own proofs."""

    def plan(self, book: Book, tables: Tables, record: Record, now: Snapshot) -> Record:
        coins = now.coins(tables)
        chosen = _worst(book, coins, now)
        left = selection.counts(coins) - selection.counts(chosen)
        fee = selection.fee(chosen, now.infos)
        rest = sum(coin.amount for coin in chosen) - fee
        parts = (
            book.change.split(rest, left, now.active.info, tuple(now.active.keys))
            if rest > 0
            else ()
        )
        old = any(not now.infos[coin.keyset].active for coin in chosen)
        if rest <= 0 or (len(parts) >= len(chosen) and not old):
            return book.changed(record, state=State.DONE, amount=0, fee=0)
        inputs = tables.proofs.take(chosen, record.key, hold=Hold.RESERVED)
        outputs = book.derive(tables, now.active.id, parts)
        body = {"inputs": codec.from_proofs(inputs), "outputs": codec.from_outputs(outputs)}
        return book.changed(record, state=State.PREPARED, amount=rest, fee=fee, body=body)

    def finish(
        self, book: Book, tables: Tables, record: Record, proofs: tuple[Proof, ...]
    ) -> Record:
        tables.proofs.spend(record.key)
        tables.proofs.add(record.operation.mint, record.operation.unit, proofs)
        return book.changed(record, state=State.DONE, error="", body={})


CONSOLIDATING = Consolidating()


async def consolidate(book: Book, mint: str) -> Operation:
    """See `Wallet.consolidate`: the unit with most proofs first; the others at the next call."""
    url = book.mint(mint).url

    def work(tables: Tables) -> Unit:
        return max(UNITS, key=lambda unit: len(tables.proofs.coins(url, unit)))

    unit = book.store.read(work)
    snapshot = await book.snapshot(url, unit, fresh=True)
    key = book.new_key()
    async with book.holding(key):
        record = book.begun(key, Kind.CONSOLIDATE, snapshot, 0)
        return (await swapping.start(book, CONSOLIDATING, record, snapshot)).operation


def _worst(book: Book, coins: list[Coin], now: Snapshot) -> list[Coin]:
    """Those of old keysets, then the smallest of those beyond the small change to keep; not what
    costs more than it is worth."""
    keep = book.change.kept(now.active.info)
    chosen: list[Coin] = []
    for coin in sorted(coins, key=lambda coin: coin.amount):
        info = now.infos[coin.keyset]
        if coin.amount * 1000 <= info.input_fee_ppk:
            continue
        if info.active and keep.get(coin.amount, 0) > 0:
            keep[coin.amount] -= 1
        else:
            chosen.append(coin)
    chosen.sort(key=lambda coin: (now.infos[coin.keyset].active, coin.amount))
    return chosen[: selection.MOST_INPUTS]
