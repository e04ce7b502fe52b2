"""A Lightning network in memory: invoices, payments with fees, pending ones, parts (NUT-15, 23).

Several mints may share one, so that one pays another's invoices. Invoices are real BOLT11, for
regtest. An outcome is decided when it is paid: `outcome` says which, for the payments to come.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from wallet.mint.testing.invoicing import make_invoice


class Outcome(StrEnum):
    """What became of a payment."""

    PAID = "paid"
    PENDING = "pending"
    FAILED = "failed"


@dataclass
class Invoice:
    """Somebody's invoice, and how much of it was paid. `on_paid` is called once, when all was."""

    text: str
    preimage: bytes
    amount_msat: int | None
    expiry: int
    on_paid: Callable[[], None] | None = None
    paid: bool = False
    parts: list[Payment] = field(default_factory=list)


@dataclass
class Payment:
    """A payment under way or ended. `on_end` is called when a pending one ends."""

    invoice: Invoice
    amount_msat: int
    fee_msat: int
    outcome: Outcome
    on_end: Callable[[Payment], None] | None = None


class MemoryLightning:
    """Who can be paid, and what becomes of payments.

    Attributes:
        outcome: of the payments to come.
        fee_msat: what the payments to come cost, beyond their amount.
        now: Unix seconds.
    """

    def __init__(self, *, now: Callable[[], float]) -> None:
        self.outcome = Outcome.PAID
        self.fee_msat = 1_000
        self._now = now
        self._invoices: dict[str, Invoice] = {}  # by text
        self._pending: list[Payment] = []

    def invoice(
        self,
        amount_msat: int | None,
        *,
        description: str | bytes = "",
        expiry_s: int = 3600,
        on_paid: Callable[[], None] | None = None,
    ) -> str:
        """A new invoice of somebody on this network, as BOLT11 text; None: it names no amount.
        `description` as bytes is the hash of one."""
        preimage, now = secrets.token_bytes(32), int(self._now())
        text = make_invoice(
            amount_msat,
            preimage=preimage,
            created=now,
            description=description or "invoice",
            expiry_s=expiry_s,
        )
        self._invoices[text] = Invoice(text, preimage, amount_msat, now + expiry_s, on_paid)
        return text

    def find(self, text: str) -> Invoice | None:
        """The invoice that a text is, where somebody on this network made it."""
        return self._invoices.get(text.lower())

    def pay(self, text: str) -> bytes:
        """Somebody outside pays an invoice in full. The preimage."""
        invoice = self._known(text)
        self._complete(invoice)
        return invoice.preimage

    def is_paid(self, text: str) -> bool:
        """Whether an invoice was paid."""
        return self._known(text).paid

    def send(self, text: str, amount_msat: int, on_end: Callable[[Payment], None]) -> Payment:
        """A mint pays an invoice, or a part of it. The payment, ended unless it is pending."""
        invoice = self.find(text)
        if invoice is None or invoice.paid or self.outcome is Outcome.FAILED:
            nobody = invoice or Invoice(text, b"", None, 0)
            return Payment(nobody, amount_msat, 0, Outcome.FAILED)
        payment = Payment(invoice, amount_msat, self.fee_msat, Outcome.PENDING, on_end)
        invoice.parts.append(payment)
        self._pending.append(payment)
        if self.outcome is Outcome.PAID:
            payment.on_end = None
            self._settle_when_whole(invoice)
            payment.on_end = on_end
        return payment

    def end(self, text: str, outcome: Outcome) -> None:
        """Ends the pending payments of an invoice: `PAID` or `FAILED`."""
        invoice = self._known(text)
        if outcome is Outcome.PAID:
            self._complete(invoice)
        self._end(invoice, outcome)

    def _settle_when_whole(self, invoice: Invoice) -> None:
        """A payment in parts is atomic: all are paid, or none."""
        needed = invoice.amount_msat
        if needed is None or sum(part.amount_msat for part in invoice.parts) >= needed:
            self._complete(invoice)
            self._end(invoice, Outcome.PAID)

    def _complete(self, invoice: Invoice) -> None:
        if not invoice.paid:
            invoice.paid = True
            if invoice.on_paid is not None:
                invoice.on_paid()

    def _end(self, invoice: Invoice, outcome: Outcome) -> None:
        ended = [each for each in self._pending if each.invoice is invoice]
        self._pending = [each for each in self._pending if each.invoice is not invoice]
        invoice.parts = []
        for payment in ended:
            payment.outcome = outcome
            if payment.on_end is not None:
                payment.on_end(payment)

    def _known(self, text: str) -> Invoice:
        invoice = self.find(text)
        if invoice is None:
            raise KeyError("nobody on this network made that invoice")
        return invoice
