"""The purse's double: pays at once, and counts. Nothing in the node imports this."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace

from node.errors import PaymentError, PaymentPendingError, WalletLockedError
from node.money.types import BEARER, Bill, Found, Kind, Payment

FEE_SAT = 1
MOST_FEE_SAT = 2
MINT = "https://mint.example"


@dataclass
class MemoryPurse:
    """Reads `KIND|DESTINATION|AMOUNT`, KIND being invoice, address, request or peer; the amount may
    be left empty. `bearer` is read as the real one does.

    `made` counts what really happened by key, which must never exceed one. `fail` are
    destinations that refuse; `hang` those where nobody knows until `settle` says; `lose` those
    whose payment happens though its answer is lost; `expired` those whose time to be paid is over.
    A `locked` purse neither pays nor tells.
    """

    balance_sat: int = 1_000_000
    made: Counter[str] = field(default_factory=Counter)
    kept: dict[str, Found] = field(default_factory=dict)
    taken_back: list[str] = field(default_factory=list)
    redeemed: set[str] = field(default_factory=set)
    fail: set[str] = field(default_factory=set)
    hang: set[str] = field(default_factory=set)
    lose: set[str] = field(default_factory=set)
    expired: set[str] = field(default_factory=set)
    locked: bool = False
    unproven: bool = False

    def bill(self, payment: Payment, *, late: bool = False) -> Bill:
        kind, destination, amount = _read(payment)
        if destination in self.expired and not late:
            raise PaymentError("the invoice has expired", hint="Ask the payee for a new one.")
        if amount is None or amount < 1:
            raise PaymentError("the amount is missing", hint="Say how many sat.")
        return Bill(kind, destination, amount, MOST_FEE_SAT)

    async def pay(self, payment: Payment, bill: Bill, *, key: str) -> Found:
        self._check_open()
        if key in self.kept:
            return self.kept[key]
        if bill.destination in self.fail:
            raise PaymentError(f"{bill.destination} refused the payment")
        if bill.amount_sat + FEE_SAT > self.balance_sat:
            raise PaymentError("the wallet holds too little")
        self._make(key, bill, pending=bill.destination in self.hang)
        if bill.destination in self.lose:
            raise PaymentPendingError("the mint's answer was lost")
        return self.kept[key]

    async def found(self, payment: Payment, *, key: str) -> Found | None:
        self._check_open()
        return self.kept.get(key)

    async def token(self, payment: Payment, *, key: str) -> str:
        if key not in self.kept:
            raise PaymentError("there is no such token")
        return f"cashuB{key.encode().hex()}"

    async def take_back(self, key: str) -> Found | None:
        if key in self.redeemed:
            return None
        if key not in self.taken_back:
            self.taken_back.append(key)
            self.balance_sat += self.kept[key].amount_sat - FEE_SAT
        return replace(self.kept[key], fee_sat=FEE_SAT)

    def settle(self, key: str, *, paid: bool) -> None:
        """Lets what was under way end."""
        found = self.kept[key]
        ended = replace(found, state="paid") if paid else replace(found, state="failed", fee_sat=0)
        self.kept[key] = ended
        self.made[key] += paid
        self.balance_sat -= (found.amount_sat + found.fee_sat) * paid

    def _check_open(self) -> None:
        if self.locked:
            raise WalletLockedError("the wallet is locked")

    def _make(self, key: str, bill: Bill, *, pending: bool) -> None:
        proven = not self.unproven
        self.kept[key] = Found(key, "pending", bill.amount_sat, FEE_SAT, MINT, proven=proven)
        if not pending:
            self.settle(key, paid=True)


def _read(payment: Payment) -> tuple[Kind, str, int | None]:
    if payment.to == BEARER:
        return "bearer", BEARER, payment.amount_sat
    kind, _, rest = payment.to.partition("|")
    destination, _, amount = rest.rpartition("|")
    if payment.url:
        return "paywall", payment.url.partition("?")[0], int(amount)
    for known in ("invoice", "address", "request", "peer"):
        if kind == known and destination:
            return known, destination, int(amount) if amount else payment.amount_sat
    raise PaymentError(f"{payment.to[:80]!r} is nothing that can be paid")
