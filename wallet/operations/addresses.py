"""Paying a Lightning address or LNURL (LUD-06, LUD-16).

Each question to the payee's server brings a new invoice, so a key that has a payment already is
never asked with again: the invoice is fetched once, and from then on the payment is the invoice's.
"""

from __future__ import annotations

from wallet.lightning import HttpWeb, Web, fetch_invoice, fetch_terms
from wallet.operations import failures, paying, sending
from wallet.operations.book import Book
from wallet.operations.results import Payment
from wallet.protocol.invoices import Bolt11


async def invoice(
    text: str, amount_msat: int, *, now: float, comment: str = "", web: Web | None = None
) -> Bolt11:
    """An invoice of the payee, for any way to pay one. Raises as `wallet.lightning`."""
    opened = HttpWeb() if web is None else web
    try:
        terms = await fetch_terms(opened, text)
        return await fetch_invoice(opened, terms, amount_msat, now=now, comment=comment)
    finally:
        if web is None:
            await opened.aclose()


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
    sending.check_amount(amount)
    known = None if key is None else book.record(key)
    if known is not None and paying.stands(known):
        if known.operation.state.final:
            return paying.payment(known)
        asked = known.body["asked"]
        return await paying.pay_invoice(
            book,
            asked["invoice"],
            amount_msat=asked["amount_msat"],
            max_fee=asked["max_fee"],
            mint=asked["mint"],
            key=key,
        )
    if known is not None:
        failures.raise_again(known)
    found = await invoice(text, amount * 1000, now=book.now(), comment=comment, web=web)
    return await paying.pay_invoice(
        book, found.text, amount_msat=None, max_fee=max_fee, mint=mint, key=key
    )
