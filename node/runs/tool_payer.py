"""Paying for what a tool fetches: each price is a payment step within the tool's step.

So it is held to policy and budget, has its intent on the log before the wallet moves, and is the
wallet's operation of a key that follows from the step's. A tool that is called again after a crash
gets the token that was bought for it then: the same URL is not paid twice within one step.

A token whose answer was a refusal, or never came, is taken back, as a step too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

from node.errors import FreeholdError, JournalWriteError, PaymentError
from node.money import Payment, Purse
from node.runs.effect import Effect, Outcome
from node.runs.payment_effect import PAYWALL, PaymentEffect, TakeBackEffect
from node.sandbox import Ticket
from node.types import Json

_BOUGHT, _BACK = "402", "back"
_REFUSED_FROM = 400


class Nesting(Protocol):
    """A run in which a step is under way; see `ProgramRun`."""

    async def within(self, path: str, name: str, effect: Effect) -> Outcome: ...

    def taken_within(self, path: str) -> dict[str, Json]: ...


@dataclass
class _Purchase:
    """One payment within the step. `number` is its place there; `status` that of the answer, None
    while it is not known."""

    number: str
    payment: Payment
    outcome: Outcome | None = None
    used: bool = False
    status: int | None = None

    @property
    def is_paid(self) -> bool:
        return self.outcome is not None and self.outcome.ok

    @property
    def operation(self) -> str:
        value = cast("dict[str, Any]", self.outcome.value) if self.outcome else {}
        return str(value.get("operation", ""))


@dataclass
class ToolPayer:
    """Pays during one call of `tool` in `run`, between `begin` and `end`."""

    purse: Purse
    run: Nesting
    tool: str
    path: str = ""
    _purchases: list[_Purchase] = field(default_factory=list)
    _gone: set[str] = field(default_factory=set)
    _paying: set[asyncio.Task[None]] = field(default_factory=set)
    _is_over: bool = False

    async def begin(self, path: str) -> None:
        """Finds out, once, what became of payments that an earlier process began within the step
        at `path`, the call's."""
        if self.path:
            return
        self.path = path
        for name, args in self.run.taken_within(self.path).items():
            kind, _, number = name.partition(".")
            if kind == _BOUGHT and isinstance(args, dict):
                purchase = _Purchase(number, Payment.from_json(args))
                self._purchases.append(purchase)
                await self._settled(purchase)
            elif kind == _BACK and isinstance(args, dict):
                await self._take_back(number, str(args["operation"]), str(args["payee"]))

    async def end(self) -> None:
        """Takes back what was bought for nothing. Where that fails the token stays in the outbox,
        and the step that says so on the log."""
        self._is_over = True  # a guest's thread may ask yet
        if self._paying:  # nobody waits for these any more
            await asyncio.wait(self._paying)
        for purchase in self._purchases:
            kept = purchase.status is not None and 0 < purchase.status < _REFUSED_FROM
            if purchase.is_paid and not kept and purchase.number not in self._gone:
                await self._take_back(purchase.number, purchase.operation, purchase.payment.url)

    async def pay(self, url: str, request: str) -> Ticket:
        """The token for a price, bought now or by an earlier attempt at this step.

        Raises:
            FreeholdError: policy, the budget, the wallet or its mint said no.
        """
        if self._is_over:
            raise PaymentError("the call that asked for it is over")
        earlier = self._earlier(url)
        if earlier and earlier.number in self._gone:
            earlier.used = True
            raise PaymentError("it was paid for before, and the payee did not take it")
        purchase = earlier or _Purchase(str(len(self._purchases) + 1), Payment(request, url=url))
        purchase.used = True
        if earlier is None:
            self._purchases.append(purchase)
            await self._alone(purchase)
        if not purchase.is_paid:
            raise PaymentError(_why(purchase.outcome))
        asked = Payment(request, url=url)
        token = await self.purse.token(asked, key=purchase.operation)
        return Ticket(token, _noting(purchase))

    def _earlier(self, url: str) -> _Purchase | None:
        """A payment for the same URL that an earlier attempt made, and this one did not use."""
        for each in self._purchases:
            if each.payment.url == url and each.is_paid and not each.used:
                return each
        return None

    async def _settled(self, purchase: _Purchase) -> None:
        try:
            await self._step(purchase)
        except JournalWriteError:
            raise
        except FreeholdError as error:  # it is on the log; this attempt asks anew
            purchase.outcome = Outcome(False, {"error": error.message})

    async def _alone(self, purchase: _Purchase) -> None:
        """Pays in a task that is waited for even where the tool's time is over meanwhile."""
        task = asyncio.ensure_future(self._step(purchase))
        self._paying.add(task)
        task.add_done_callback(self._paid)
        await asyncio.shield(task)

    def _paid(self, task: asyncio.Task[None]) -> None:
        self._paying.discard(task)
        if not task.cancelled():
            task.exception()  # whoever waited has it; nobody may be left

    async def _step(self, purchase: _Purchase) -> None:
        effect = PaymentEffect(self.purse, purchase.payment, name=PAYWALL, tool=self.tool)
        name = f"{_BOUGHT}.{purchase.number}"
        purchase.outcome = await self.run.within(self.path, name, effect)

    async def _take_back(self, number: str, operation: str, payee: str) -> None:
        effect = TakeBackEffect(self.purse, operation, payee, self.tool)
        try:
            outcome = await self.run.within(self.path, f"{_BACK}.{number}", effect)
        except JournalWriteError:
            raise
        except FreeholdError:
            return
        if outcome.ok:
            self._gone.add(number)


def _noting(purchase: _Purchase) -> Callable[[int], None]:
    def answered(status: int) -> None:
        purchase.status = status

    return answered


def _why(outcome: Outcome | None) -> str:
    value = outcome.value if outcome else None
    return str(value.get("error")) if isinstance(value, dict) else "it was not paid"
