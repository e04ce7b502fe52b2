"""What a mint asks to pay an invoice (NUT-05, NUT-15, NUT-23). Nothing is at stake yet."""

from __future__ import annotations

from wallet.errors import FeeTooHighError, MintMisbehavedError, PaymentFailedError
from wallet.operations.bills import Bill
from wallet.operations.book import Book
from wallet.types import MeltQuote, MeltQuoteState, Unit


async def quote(
    book: Book, mint: str, bill: Bill, unit: Unit, *, part_msat: int | None = None
) -> MeltQuote:
    """What a mint asks to pay an invoice, or a part of it (NUT-15); nothing is at stake yet.

    Raises:
        MintMisbehavedError: it asks for more than the invoice says.
        FeeTooHighError: its fee reserve is above what is allowed.
    """
    await book.info(mint)
    told = await book.api(mint).request_melt(
        bill.invoice.text,
        unit,
        mpp_msat=part_msat,
        amount_msat=bill.amount_msat if bill.amountless else None,
    )
    if told.state != MeltQuoteState.UNPAID:
        raise PaymentFailedError(
            "the mint knows this invoice: it is paid, or being paid",
            hint="Look at `history`; ask the payee for a new invoice.",
        )
    amount = _in_unit(bill.amount_msat if part_msat is None else part_msat, unit)
    if told.amount != amount:
        raise MintMisbehavedError(
            f"mint {mint} asks {told.amount} {unit} to pay {amount}",
            hint="Nothing was paid. Use another mint.",
        )
    most = bill.max_fee(book.rules, unit)
    if told.fee_reserve > most:
        raise FeeTooHighError(
            f"the mint may need {told.fee_reserve} {unit} of fees; {most} are allowed",
            hint="Allow a higher `max_fee`, or use another mint.",
        )
    return told


def _in_unit(msat: int, unit: Unit) -> int:
    """Rounded up: a mint cannot pay a part of a sat less."""
    return msat if unit == "msat" else -(-msat // 1000)
