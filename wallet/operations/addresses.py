"""Paying a Lightning address or LNURL (LUD-06, LUD-16).

Each question to the payee's server brings a new invoice, so a key that has a payment already is
never asked with again: the invoice is fetched once, and from then on the payment is the invoice's.
"""

from __future__ import annotations

from wallet.errors import RefusedError
from wallet.lightning import Web, fetch_invoice, fetch_terms, reaching
from wallet.operations import paying, sending, sources
from wallet.operations.book import Book
from wallet.operations.results import Payment
from wallet.operations.sources import FundingSource, SourcePayment
from wallet.protocol import invoices
from wallet.protocol.invoices import Bolt11


async def pay(
    book: Book,
    text: str,
    amount: int,
    *,
    comment: str = "",
    max_fee: int | None = None,
    mint: str | None = None,
    key: str | None = None,
    web: Web | None = None,
) -> Payment:
    """See `Wallet.pay_address`."""
    found = await invoice(book, text, amount, comment=comment, key=key, web=web)
    return await paying.pay_invoice(
        book, found.text, amount_msat=None, max_fee=max_fee, mint=mint, key=key
    )


async def pay_from(
    book: Book,
    source: FundingSource,
    text: str,
    amount: int,
    *,
    comment: str = "",
    key: str | None = None,
    web: Web | None = None,
) -> SourcePayment:
    """See `Wallet.pay_address_from`."""
    found = await invoice(book, text, amount, comment=comment, key=key, web=web)
    return await sources.pay(book, source, found.text, key=key)


async def invoice(
    book: Book,
    text: str,
    amount: int,
    *,
    comment: str = "",
    key: str | None = None,
    web: Web | None = None,
) -> Bolt11:
    """The invoice a payment to an address is made by: that of the key, or a new one.

    Args:
        amount: in sat.

    Raises:
        RefusedError: the key's payment is of another amount, or the payee takes none of this.
        WalletError: as `wallet.lightning.fetch_terms` and `fetch_invoice`; nothing was paid.
    """
    sending.check_amount(amount)
    record = None if key is None else book.record(key)
    if record is not None and "invoice" in record.body.get("asked", {}):
        known = invoices.read(record.body["asked"]["invoice"])
        if known.amount_msat != amount * 1000:
            raise RefusedError(f"the key {key!r} belongs to a payment of another amount")
        return known
    async with reaching(web) as opened:
        terms = await fetch_terms(opened, text)
        now = float(book.now())
        return await fetch_invoice(opened, terms, amount * 1000, now=now, comment=comment)
