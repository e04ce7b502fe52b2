"""A payment as an effect: what it may cost, whom it pays, what became of it.

The wallet keeps each payment under the step's key, so asking it again is safe at any time: the same
key is the same payment. What is reserved is the amount and the most its fee may be; what is booked
is what it came to. A payment whose end nobody knows yet is an OutcomeUnknownError, never a guess.

Nothing here holds a token: those stay in the wallet, and go to the payee alone.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from functools import cached_property

from node.errors import MoneyError, OutcomeUnknownError, PaymentError, PaymentPendingError
from node.money import Bill, Found, Payment, Purse
from node.runs.effect import Label, Needs, Outcome, StepKind, Usage
from node.runs.survey import RunLog
from node.types import Json, JsonObject

PAY, PAYWALL, TAKE_BACK = "pay", "pay_402", "take_back"
THEIRS: frozenset[Label] = frozenset({"untrusted"})  # a payee or mint says why in its own words
OWNER = "owner"  # the `tool` of what the owner pays, whose grant is that they ask
_SECONDS = 60.0
# what a wallet may be made by; it says so where it was not
_MADE_ANEW = ("wallet.restoring", "wallet.mint_added", "wallet.nwc_connected")


@dataclass
class Doubt:
    """Whether an earlier attempt may have paid, for all that is known."""

    is_open: bool = False


@dataclass(frozen=True)
class PaymentEffect:
    """One payment. `tool` is the tool whose call it pays for, or `owner`; empty, the agent asked.

    One that cannot be read as a payment is an effect too, so that the log has it and the model is
    told: it needs nothing and comes to an error.
    """

    purse: Purse
    payment: Payment
    name: str = PAY
    tool: str = ""
    doubt: Doubt = field(default_factory=Doubt, compare=False, repr=False)

    kind = StepKind.PAYMENT

    @property
    def args(self) -> Json:
        return self.payment.to_json()

    @cached_property
    def bill(self) -> Bill | PaymentError:
        """What it comes to, or why it cannot be paid."""
        try:
            return self.purse.bill(self.payment)
        except PaymentError as error:
            return error

    @cached_property
    def needs(self) -> Needs:
        bill = self.bill
        if isinstance(bill, PaymentError):
            return Needs(Usage(seconds=_SECONDS), tool=self.tool)
        usage = Usage(seconds=_SECONDS, msat=bill.most_msat)
        return Needs(usage, destinations=(bill.destination,), tool=self.tool)

    @property
    def explanation(self) -> str:
        """Whom it pays, and what that may cost."""
        bill = self.bill
        if isinstance(bill, PaymentError):
            return bill.message
        said = json.dumps(bill.description[:200], ensure_ascii=False)  # whose words they are
        about = f", which calls it {said}" if bill.description else ""
        fees = f"at most {bill.most_fee_sat} sat of fees"
        if not bill.fee_bounded:
            fees = "the fees of the connected wallet, which its own budget alone bounds,"
        return f"pay {bill.amount_sat} sat and {fees} to {bill.destination}{about}"

    async def perform(self, key: str) -> Outcome:
        """Pays. What surely did not happen is an answer; raises OutcomeUnknownError otherwise."""
        earlier = await self.settle(key) if self.doubt.is_open else None
        if earlier is not None:
            return earlier
        bill = self.bill
        if isinstance(bill, PaymentError):
            return self._failed(bill)
        try:
            return self._outcome(await self.purse.pay(self.payment, bill, key=key))
        except MoneyError as error:
            return self._failed(error, THEIRS)

    async def settle(self, key: str) -> Outcome | None:
        """Asks the wallet. Raises OutcomeUnknownError where it does not know either, yet."""
        self.doubt.is_open = True
        try:
            found = await self.purse.found(self.payment, key=key)
        except MoneyError as error:
            raise _pending(f"what became of the payment cannot be told: {error.message}") from error
        outcome = None if found is None else self._outcome(found)
        self.doubt.is_open = False
        return outcome

    @staticmethod
    def forgot(log: RunLog, intent: int) -> str:
        """Why the wallet may know nothing of a payment whose intent has this index; empty if it
        does."""
        found = log.newest(*_MADE_ANEW)
        anew = next((entry for entry in found if entry.data.get("made", True)), None)
        since = anew is not None and anew.index > intent
        return "the wallet was made anew or restored since" if since else ""

    def _payee(self) -> str:
        """Whom it pays, or paid: an invoice may be over by now."""
        try:
            return self.purse.bill(self.payment, late=True).destination
        except PaymentError:
            return ""

    def _outcome(self, found: Found) -> Outcome:
        place = self._payee()
        if found.state == "pending":
            raise _pending(f"the payment of {found.amount_sat} sat to {place} is under way.")
        if found.state == "failed":
            lost = f"; it cost {found.fee_sat} sat all the same" if found.fee_sat else ""
            why = PaymentError((found.error or "the payment failed") + lost)
            failed = self._failed(why, THEIRS)
            return replace(failed, usage=Usage(msat=found.fee_sat * 1000))
        value: JsonObject = {
            "paid_sat": found.amount_sat,
            "fee_sat": found.fee_sat,
            "to": place,
            "mint": found.mint,
            "operation": found.key,
        }
        if not found.proven:
            value["proven"] = False
        return Outcome(True, value, Usage(msat=(found.amount_sat + found.fee_sat) * 1000))

    def _failed(self, error: MoneyError, labels: frozenset[Label] = frozenset()) -> Outcome:
        """A model is told what happened; what to do about it is for the owner, who can."""
        told = error.diagnostics() if self.tool == OWNER else error.message
        return Outcome(False, {"error": told}, labels=labels)


@dataclass(frozen=True)
class TakeBackEffect:
    """Takes back the token of a payment that its `payee` did not take: one the other way."""

    purse: Purse
    operation: str
    payee: str
    tool: str = ""

    kind = StepKind.PAYMENT
    name = TAKE_BACK

    @property
    def args(self) -> Json:
        return {"operation": self.operation, "payee": self.payee}

    @property
    def needs(self) -> Needs:
        usage, place = Usage(seconds=_SECONDS), self.payee.partition("?")[0]  # as it was paid
        return Needs(usage, destinations=(place,), tool=self.tool, undoes=True)

    async def perform(self, key: str) -> Outcome:
        """Swaps the token for a new one; what came back is usage below zero."""
        try:
            found = await self.purse.take_back(self.operation)
        except MoneyError as error:
            return Outcome(False, {"error": error.message})
        if found is None:
            return Outcome(False, {"error": "the payee had redeemed it"})
        back = found.amount_sat - found.fee_sat
        value: JsonObject = {"back_sat": back, "fee_sat": found.fee_sat, "mint": found.mint}
        return Outcome(True, {**value, "operation": self.operation}, Usage(msat=-back * 1000))

    async def settle(self, key: str) -> Outcome | None:
        """Taking back twice is taking back once."""
        return None


def _pending(message: str) -> OutcomeUnknownError:
    return PaymentPendingError(
        message, hint="It is asked about again by itself; `freehold wallet pending` shows it."
    )
