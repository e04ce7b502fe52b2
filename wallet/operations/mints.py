"""The user's mints: added by them and nobody else, with what each may be used for."""

from __future__ import annotations

from collections.abc import Mapping

from wallet.errors import RefusedError, UnsupportedError, WalletError
from wallet.operations.book import Book
from wallet.operations.directory import UNITS
from wallet.store import MintRecord, MintRow


async def add(book: Book, url: str, *, spend: bool, accept: bool) -> MintRecord:
    """See `Wallet.add_mint`."""
    from wallet.mint import mint_url

    url = mint_url(url)
    book.judge(url, stranger=False)
    info = await book.info(url, fresh=True)
    if info.needs_auth:
        raise UnsupportedError(
            f"mint {url} wants authentication (NUT-21, NUT-22), which is not supported"
        )
    await load(book, MintRow(url, info.name, spend, accept, 0))
    return record(book, book.mint(url), book.balances())


async def load(book: Book, row: MintRow) -> None:
    """Puts a mint on the list with its keysets, or leaves the list as it is.

    Raises:
        UnsupportedError: it has no keyset of a unit this wallet keeps.
        MintMisbehavedError: its keysets collide with another's.
    """
    known = next((mint for mint in book.mints() if mint.url == row.url), None)
    await book.put_mint(row)
    try:
        await book.refresh(row.url)
        units = [unit for unit in UNITS if _issues(book, row.url, unit)]
        if not units:
            raise UnsupportedError(f"mint {row.url} issues neither sat nor msat")
        for unit in units:
            await book.snapshot(row.url, unit)  # fetches the keys, for the first payment
    except WalletError:
        await (book.put_mint(known) if known else book.remove_mint(row.url))
        raise


async def remove(book: Book, url: str, *, force: bool) -> None:
    """See `Wallet.remove_mint`."""
    row = book.mint(url)
    kept = book.store.read(lambda tables: tables.proofs.kept(row.url))
    if not force and (kept or any(each.mint == row.url for each in book.pending())):
        raise RefusedError(
            f"mint {row.url} holds money of this wallet, or an operation is open there",
            hint="Spend it first; with `force` it stays in the file and is back when it is added.",
        )
    await book.remove_mint(row.url)


def record(book: Book, row: MintRow, free: Mapping[tuple[str, str], int]) -> MintRecord:
    """A mint with what is `free` of it, of all that there is by mint and unit."""
    balance: dict[str, int] = {
        unit: free[row.url, unit] for unit in UNITS if (row.url, unit) in free
    }
    units = tuple(unit for unit in UNITS if _issues(book, row.url, unit))
    over = over_cap(book, row.url, free)
    return MintRecord(row.url, row.name, row.spend, row.accept, units, balance, over)


def over_cap(book: Book, url: str, free: Mapping[tuple[str, str], int]) -> bool:
    """Whether a mint holds more than the rules want, of what is `free` by mint and unit."""
    held_msat = free.get((url, "sat"), 0) * 1000 + free.get((url, "msat"), 0)
    return held_msat > book.cap("msat")


def _issues(book: Book, url: str, unit: str) -> bool:
    return any(info.active and info.unit == unit for info in book.infos(url).values())
