"""An invoice that is to be paid, with what the payer allows: shared by all ways to pay one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from wallet.errors import ParseError, RefusedError, UnsupportedError
from wallet.operations.book import Book
from wallet.operations.directory import UNITS
from wallet.operations.results import Rules
from wallet.protocol import invoices
from wallet.protocol.invoices import Bolt11
from wallet.store import Kind, Tables
from wallet.types import CLOCK_S, MAX_AMOUNT, Unit

_PAYMENTS: Final = (Kind.MELT, Kind.MULTIPATH, Kind.SOURCE, Kind.EXCHANGE)


@dataclass(frozen=True)
class Bill:
    """`amount_msat` is what is to be paid, `max_fee_sat` what the fee may be; None: by the rules.
    `asked` is the caller's wish in JSON's words, by which a repetition is known."""

    invoice: Bolt11
    amount_msat: int
    max_fee_sat: int | None
    asked: dict[str, Any]

    @property
    def amountless(self) -> bool:
        """Whether the payer chose the amount."""
        return self.invoice.amount_msat is None

    def max_fee(self, rules: Rules, unit: Unit) -> int:
        """The most the Lightning fee may be, in the unit."""
        floor_msat = rules.max_fee_floor_sat * 1000
        most_msat = max(self.amount_msat * rules.max_fee_percent // 100, floor_msat)
        if self.max_fee_sat is not None:
            most_msat = self.max_fee_sat * 1000
        return most_msat if unit == "msat" else most_msat // 1000


def bill(asked: dict[str, Any], now: float) -> Bill:
    """Reads an invoice and what is to be paid of it.

    Args:
        asked: `invoice`, `amount_msat` and `max_fee`, the latter two perhaps None.

    Raises:
        ParseError: it is no invoice, or neither or both of invoice and payer name an amount.
        UnsupportedError: it is a BOLT 12 offer or a Bitcoin address.
        RefusedError: it has expired.
    """
    _refuse_others(asked["invoice"])
    invoice = invoices.read(asked["invoice"])
    if invoice.expired(now - CLOCK_S):
        raise RefusedError("the invoice has expired", hint="Ask the payee for a new one.")
    amount_msat = _payable(invoice, asked["amount_msat"])
    return Bill(invoice, amount_msat, asked["max_fee"], asked)


def _refuse_others(text: str) -> None:
    """What else can be paid with bitcoin, and not by this wallet (NUT-25, NUT-30)."""
    plain = text.strip().lower()
    others = {
        "a BOLT 12 offer": ("lno1", "lni1", "lnr1"),
        "a Bitcoin address": ("bitcoin:", "bc1", "tb1", "bcrt1"),
    }
    for what, begins in others.items():
        if plain.startswith(begins):
            raise UnsupportedError(
                f"this is {what}, which is not supported",
                hint="Ask the payee for a Lightning invoice (it begins with lnbc).",
            )


def _payable(invoice: Bolt11, amount_msat: int | None) -> int:
    if invoice.amount_msat is not None and amount_msat not in (None, invoice.amount_msat):
        raise ParseError("the invoice names its amount, and it is another one")
    chosen = amount_msat if invoice.amount_msat is None else invoice.amount_msat
    if chosen is None:
        raise ParseError("the invoice names no amount", hint="Say how much to pay.")
    if not 0 < chosen <= MAX_AMOUNT:
        raise ParseError(f"{chosen} msat is no amount to pay")
    return chosen


def hold(tables: Tables, payment_hash: str, owner: str) -> None:
    """Inside a transaction: an invoice is one operation's to pay, until that one has failed.

    Raises:
        RefusedError: another operation paid it, or may have.
    """
    name = f"invoice {payment_hash}"
    other = tables.operations.claim(name, owner) or _claimed_before(tables, name)
    if other not in (None, owner):
        raise RefusedError(
            f"this invoice was paid, or is being paid, by {other!r}",
            hint="Look at that operation; a second payment would be lost.",
        )


def _claimed_before(tables: Tables, name: str) -> str | None:
    """As files of version 1 have it: among the secrets of tokens, which are others' to choose."""
    other = tables.operations.seen([name])
    found = tables.operations.operation(other) if other else None
    return other if found is not None and found.kind in _PAYMENTS else None


def balances_msat(book: Book) -> dict[tuple[str, Unit], int]:
    """What each mint that is for spending holds in each unit."""
    free = book.balances()
    return {
        (row.url, unit): free.get((row.url, unit), 0) * (1000 if unit == "sat" else 1)
        for row in book.mints()
        if row.spend
        for unit in UNITS
    }
