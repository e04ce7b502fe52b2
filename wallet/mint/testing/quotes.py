"""Quotes of the mint in memory: ecash for invoices paid to it, invoices paid for ecash.

NUT-04, 05, 08, 15, 20, 23 and 29. A payment may stay pending until the network ends it; what it
leaves over comes back on the blank outputs, which until then nobody else may use.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from wallet.mint.testing.ledger import Ledger
from wallet.mint.testing.lightning import MemoryLightning, Outcome, Payment
from wallet.mint.testing.refused import Refused
from wallet.protocol import curve, p2pk, quotes
from wallet.types import (
    BlindedMessage,
    BlindSignature,
    MeltQuoteState,
    MintQuoteState,
    Proof,
)

Message = Callable[[str, Sequence[BlindedMessage]], bytes]
_MSAT = {"sat": 1_000, "msat": 1}
MOST_BATCH = 100


@dataclass
class MintPromise:
    """A mint quote, on the mint's side."""

    id: str
    request: str
    amount: int
    unit: str
    expiry: int
    pubkey: bytes | None
    state: MintQuoteState = MintQuoteState.UNPAID
    shows_key: bool = True

    def paid(self) -> None:
        """Its invoice was paid."""
        self.state = MintQuoteState.PAID


@dataclass
class MeltPromise:
    """A melt quote, on the mint's side."""

    id: str
    request: str
    amount: int
    amount_msat: int
    unit: str
    fee_reserve: int
    expiry: int
    state: MeltQuoteState = MeltQuoteState.UNPAID
    preimage: str | None = None
    inputs: tuple[Proof, ...] = ()
    outputs: tuple[BlindedMessage, ...] = ()
    change: tuple[BlindSignature, ...] = field(default=())


class Quotes:
    """All quotes of a mint.

    Attributes:
        reserve: fee reserve for an amount, in its unit.
        lifetime_s: how long quotes and invoices are good for.
        messages: those whose signature opens a locked quote, as NUT-20 had it first and has it now.
        shows_keys: whether a quote says whose it is; a mint that does not locks it all the same.
    """

    def __init__(
        self, ledger: Ledger, lightning: MemoryLightning, *, now: Callable[[], float]
    ) -> None:
        self.reserve: Callable[[int], int] = lambda amount: max(2, -(-amount // 100))
        self.lifetime_s = 3600
        self.messages: tuple[Message, ...] = (quotes.message, quotes.framed_message)
        self.shows_keys = True
        self.mints: dict[str, MintPromise] = {}
        self.melts: dict[str, MeltPromise] = {}
        self._ledger, self._lightning, self._now = ledger, lightning, now

    # ── ecash for an invoice that is paid to the mint ───────────────────────────────────────

    def request_mint(
        self, amount: int, unit: str, *, pubkey: bytes | None, description: str
    ) -> MintPromise:
        """A new quote with its invoice."""
        self._check_amount(amount, unit)
        quote = MintPromise(
            str(uuid.uuid4()), "", amount, unit, int(self._now()) + self.lifetime_s, pubkey
        )
        quote.shows_key = self.shows_keys
        quote.request = self._lightning.invoice(
            amount * _MSAT[unit],
            description=description,
            expiry_s=self.lifetime_s,
            on_paid=quote.paid,
        )
        self.mints[quote.id] = quote
        return quote

    def mint_quote(self, quote_id: str) -> MintPromise:
        """The quote of that id."""
        if quote_id not in self.mints:
            raise Refused(0, "quote not found")
        return self.mints[quote_id]

    def mint(
        self, quote_id: str, outputs: Sequence[BlindedMessage], signature: str | None
    ) -> tuple[BlindSignature, ...]:
        """Signs outputs for a paid quote."""
        quote = self.mint_quote(quote_id)
        self._check_mintable([quote], outputs)
        self._check_signature(quote, outputs, signature)
        return self._issue([quote], outputs)

    def mint_batch(
        self,
        quote_ids: Sequence[str],
        outputs: Sequence[BlindedMessage],
        amounts: Sequence[int] | None,
        signatures: Sequence[str | None] | None,
    ) -> tuple[BlindSignature, ...]:
        """Signs outputs for several paid quotes, or for none (NUT-29)."""
        if not 0 < len(quote_ids) <= MOST_BATCH:
            raise Refused(11017, "Max batch size exceeded")
        if len(set(quote_ids)) < len(quote_ids):
            raise Refused(11016, "Duplicate quote IDs provided")
        found = [self.mint_quote(each) for each in quote_ids]
        given = signatures if signatures is not None else [None] * len(found)
        if amounts is not None and list(amounts) != [quote.amount for quote in found]:
            raise Refused(11005, "amounts are not those of the quotes")
        if len({quote.unit for quote in found}) > 1 or len(given) != len(found):
            raise Refused(11009, "quotes of multiple units, or signatures for others")
        self._check_mintable(found, outputs)
        for quote, signature in zip(found, given, strict=True):
            self._check_signature(quote, outputs, signature)
        return self._issue(found, outputs)

    def _check_mintable(
        self, found: Sequence[MintPromise], outputs: Sequence[BlindedMessage]
    ) -> None:
        if any(quote.state == MintQuoteState.ISSUED for quote in found):
            raise Refused(20002, "quote already issued")
        if any(quote.state == MintQuoteState.UNPAID for quote in found):
            raise Refused(20001, "quote not paid")
        self._ledger.verify_outputs(outputs, found[0].unit)
        if sum(output.amount for output in outputs) != sum(quote.amount for quote in found):
            raise Refused(11005, "amount to mint does not match quote amount")

    def _check_signature(
        self, quote: MintPromise, outputs: Sequence[BlindedMessage], signature: str | None
    ) -> None:
        if quote.pubkey is None:
            return
        signed = (message(quote.id, outputs) for message in self.messages)
        if not any(p2pk.signed_by(each, signature or "", quote.pubkey) for each in signed):
            raise Refused(20008, "signature for mint request invalid")

    def _issue(
        self, found: Sequence[MintPromise], outputs: Sequence[BlindedMessage]
    ) -> tuple[BlindSignature, ...]:
        signatures = self._ledger.sign(outputs)
        for quote in found:
            quote.state = MintQuoteState.ISSUED
        return signatures

    # ── an invoice that the mint pays for ecash ─────────────────────────────────────────────

    def request_melt(
        self, request: str, unit: str, *, part_msat: int | None, amount_msat: int | None
    ) -> MeltPromise:
        """A new quote to pay an invoice, or a part of it."""
        if unit not in _MSAT:
            raise Refused(11013, "unit is not supported")
        asked_msat = self._amount_to_pay(request, part_msat, amount_msat)
        amount = -(-asked_msat // _MSAT[unit])
        quote = MeltPromise(
            str(uuid.uuid4()),
            request,
            amount,
            asked_msat,
            unit,
            self.reserve(amount),
            int(self._now()) + self.lifetime_s,
        )
        self.melts[quote.id] = quote
        return quote

    def melt_quote(self, quote_id: str) -> MeltPromise:
        """The quote of that id."""
        if quote_id not in self.melts:
            raise Refused(0, "quote not found")
        return self.melts[quote_id]

    def melt(
        self, quote_id: str, inputs: tuple[Proof, ...], outputs: tuple[BlindedMessage, ...]
    ) -> MeltPromise:
        """Takes the inputs and pays; the quote afterwards, which may be pending."""
        quote = self.melt_quote(quote_id)
        if quote.state == MeltQuoteState.PAID:
            raise Refused(20006, "invoice already paid")
        if quote.state == MeltQuoteState.PENDING or self._is_under_way(quote.request):
            raise Refused(20005, "quote is pending")
        if self._now() > quote.expiry:
            raise Refused(20007, "quote is expired")
        if self._ledger.verify(inputs, outputs, quote=quote_id) != quote.unit:
            raise Refused(11010, "inputs are not of the quote's unit")
        if self._spare(quote, inputs) < quote.fee_reserve:
            raise Refused(11000, "not enough inputs provided for melt")
        self._hold(quote, inputs, outputs)
        payment = self._lightning.send(quote.request, quote.amount_msat, partial(self._end, quote))
        if payment.outcome is not Outcome.PENDING:
            self._end(quote, payment)
        if quote.state == MeltQuoteState.UNPAID:
            raise Refused(20004, "Lightning payment failed")
        return quote

    def _amount_to_pay(self, request: str, part_msat: int | None, amount_msat: int | None) -> int:
        invoice = self._lightning.find(request)
        if invoice is None:
            raise Refused(20000, "no route to that invoice, or it is none")
        if invoice.paid:
            raise Refused(20006, "invoice already paid")
        if self._now() > invoice.expiry:
            raise Refused(20007, "invoice is expired")
        if invoice.amount_msat is None and not amount_msat:
            raise Refused(11011, "amountless invoice needs an amount")
        if amount_msat is not None and invoice.amount_msat not in (None, amount_msat):
            raise Refused(11012, "amount in request does not equal invoice")
        whole = invoice.amount_msat or amount_msat or 0
        if part_msat is not None and not 0 < part_msat <= whole:
            raise Refused(11006, "part is more than the invoice")
        return part_msat or whole

    def _is_under_way(self, request: str) -> bool:
        pending = MeltQuoteState.PENDING
        return any(q.request == request and q.state == pending for q in self.melts.values())

    def _spare(self, quote: MeltPromise, inputs: Sequence[Proof]) -> int:
        """What the inputs hold beyond the amount and their fee."""
        return sum(proof.amount for proof in inputs) - quote.amount - self._ledger.fee(inputs)

    def _hold(
        self, quote: MeltPromise, inputs: tuple[Proof, ...], outputs: tuple[BlindedMessage, ...]
    ) -> None:
        quote.state, quote.inputs, quote.outputs = MeltQuoteState.PENDING, inputs, outputs
        self._ledger.pending.update({curve.y_of(proof.secret): quote.id for proof in inputs})
        self._ledger.promised.update({output.b: quote.id for output in outputs})

    def _end(self, quote: MeltPromise, payment: Payment) -> None:
        for output in quote.outputs:
            self._ledger.promised.pop(output.b, None)
        if payment.outcome is Outcome.FAILED:
            for proof in quote.inputs:
                self._ledger.pending.pop(curve.y_of(proof.secret), None)
            quote.state, quote.inputs, quote.outputs = MeltQuoteState.UNPAID, (), ()
            return
        cost = -(-payment.fee_msat // _MSAT[quote.unit])
        spare = self._spare(quote, quote.inputs) - min(cost, quote.fee_reserve)
        self._ledger.spend(quote.inputs)
        quote.change = self._ledger.sign_change(quote.outputs, spare)
        quote.preimage = payment.invoice.preimage.hex()
        quote.state = MeltQuoteState.PAID

    def _check_amount(self, amount: int, unit: str) -> None:
        if unit not in _MSAT or not any(
            keyset.info.unit == unit for keyset in self._ledger.keysets.values()
        ):
            raise Refused(11013, "unit is not supported")
        if not 0 < amount <= 2**40:
            raise Refused(11006, "amount outside of limit range")
