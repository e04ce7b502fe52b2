"""The wallet's file against itself, and against its mints (NUT-07).

Every sealed row is opened, so that damage is found before its money is needed. A free proof that
its mint calls spent is set aside, out of the balance, and comes back should the mint call it
unspent again.
"""

from __future__ import annotations

from collections.abc import Sequence

from wallet.errors import StoreError, WalletError
from wallet.operations.book import Book
from wallet.operations.results import Report
from wallet.protocol import curve
from wallet.store import Held, Hold, Tables
from wallet.types import ProofState

Places = dict[str, list[Held]]


async def check(book: Book) -> Report:
    """See `Wallet.check`."""
    damage = book.store.read(_damage)
    free, aside = _held(book, Hold.FREE), _held(book, Hold.ASIDE)
    gone, back, silent = list[bytes](), list[bytes](), list[str]()
    for mint in sorted({*free, *aside}):
        try:
            gone += await _in_state(book, mint, free.get(mint, []), ProofState.SPENT)
            back += await _in_state(book, mint, aside.get(mint, []), ProofState.UNSPENT)
        except WalletError:
            silent.append(mint)

    def work(tables: Tables) -> tuple[int, int]:
        lost = tables.proofs.set_aside(gone, "check", hold=Hold.FREE)
        return lost, tables.proofs.bring_back(back)

    lost, found = await book.store.write("check", work) if gone or back else (0, 0)
    count = sum(len(held) for held in free.values())
    return Report(count, damage, lost, found, tuple(silent))


async def _in_state(book: Book, mint: str, held: Sequence[Held], state: ProofState) -> list[bytes]:
    if not held:
        return []
    told = await book.api(mint).check([curve.y_of(each.proof.secret) for each in held])
    return [each.tag for each, said in zip(held, told, strict=True) if said == state]


def _held(book: Book, hold: Hold) -> Places:
    places: Places = {}
    try:
        rows = book.store.read(lambda tables: tables.proofs.all_held(hold))
    except StoreError:  # told as damage
        return places
    for mint, held in rows:
        places.setdefault(mint, []).append(held)
    return places


def _damage(tables: Tables) -> tuple[str, ...]:
    found = [
        row[0] for row in tables.connection.execute("PRAGMA integrity_check") if row[0] != "ok"
    ]
    found += [
        f"proofs are held by operation {key}, which is over" for key in tables.proofs.orphans()
    ]
    for hold in Hold:
        try:
            tables.proofs.all_held(hold)
        except StoreError as error:
            found.append(error.message)
    for key in tables.operations.keys():  # noqa: SIM118
        try:
            tables.operations.get(key)
        except StoreError as error:
            found.append(error.message)
    return tuple(found)
