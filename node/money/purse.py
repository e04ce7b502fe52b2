"""The purse over the node's wallet: the only place where the node makes it pay.

Each payment is the wallet's operation of the step's key. A Lightning payment that is on its way is
waited for a while, since most end within seconds; after that it is pending, and asked about later.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from node.errors import MoneyError, OutcomeUnknownError, PaymentError, RequestError
from node.money import billing
from node.money.billing import FeeRule
from node.money.keeper import Keeper
from node.money.translate import translated
from node.money.types import BEARER, Bill, Found, Kind, Payment
from wallet.errors import AlreadySpentError
from wallet.protocol import invoices

if TYPE_CHECKING:
    from wallet.store import Operation
    from wallet.wallet import Wallet

WAITS_S = (0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0)  # between two looks at a payment on its way
_HISTORY = 1000
Way = Callable[["Wallet", Payment, Bill, str], Awaitable[object]]


class WalletPurse:
    """Pays from the wallet that `keeper` keeps.

    Args:
        fees: the most that one payment may cost on top.
        now: Unix seconds.
        waits_s: the pauses between looks at a payment that is on its way.
    """

    def __init__(
        self,
        keeper: Keeper,
        *,
        fees: FeeRule | None = None,
        now: Callable[[], float] = time.time,
        waits_s: tuple[float, ...] = WAITS_S,
    ) -> None:
        self._keeper = keeper
        self._fees = fees or FeeRule()
        self._now = now
        self._waits_s = waits_s

    def bill(self, payment: Payment) -> Bill:
        return billing.bill(payment, self._fees, self._now())

    async def pay(self, payment: Payment, bill: Bill, *, key: str) -> Found:
        wallet = self._keeper.wallet()
        for pause_s in (*self._waits_s, None):
            try:
                await self._once(wallet, payment, bill, key)
            except OutcomeUnknownError:
                if wallet.operation(key) is None:  # a quote that nobody answered is no payment
                    raise PaymentError("the mint did not answer; nothing was paid") from None
            found = _found(wallet, key)
            if found.state != "pending" or pause_s is None:
                break
            await asyncio.sleep(pause_s)
        return found

    async def found(self, key: str) -> Found | None:
        wallet = self._keeper.wallet(stale=True)
        operation = wallet.operation(key)
        if operation is not None and operation.pending:
            try:
                with translated():
                    await wallet.recover()
            except (MoneyError, OutcomeUnknownError):
                pass  # what is known stays known
        return None if operation is None else _found(wallet, key)

    async def token(self, payment: Payment, *, key: str) -> str:
        with translated():
            sent = self._keeper.wallet().sent(key)
        if sent is None or not sent.token:
            raise PaymentError(
                f"there is no token of {key} to hand over",
                hint="It was redeemed or taken back, or none was ever made.",
            )
        if payment.url:
            self._check_fits(payment, sent.amount, sent.mint)
        return sent.token

    async def take_back(self, key: str) -> Found | None:
        wallet = self._keeper.wallet()
        try:
            with translated():
                operation = _taken_back(wallet, key) or await wallet.reclaim(key)
        except MoneyError as error:
            if isinstance(error.__cause__, AlreadySpentError):
                return None
            raise
        found, sent = as_found(operation), wallet.operation(key)
        if found.state != "paid":
            raise PaymentError(f"the token is not back: {found.error or 'the mint did not answer'}")
        return replace(found, key=key, amount_sat=sent.amount if sent else found.amount_sat)

    def _check_fits(self, payment: Payment, amount_sat: int, mint: str) -> None:
        """Refuses to give a token for another price than the one it was bought for."""
        request = billing.request_of(payment)
        if amount_sat < (request.amount or 0) or (request.mints and mint not in request.mints):
            raise PaymentError(
                "it was paid for before, and the server asks for another payment now",
                hint="The token of then is in the outbox: `freehold wallet pending`.",
            )

    @staticmethod
    async def _once(wallet: Wallet, payment: Payment, bill: Bill, key: str) -> None:
        try:
            with translated():
                await _WAYS[bill.kind](wallet, payment, bill, key)
        except RequestError as error:  # the wallet could not read it after all
            raise PaymentError(error.message, hint=error.hint) from error


# ── the ways to pay ─────────────────────────────────────────────────────────────────────────


async def _invoice(wallet: Wallet, payment: Payment, bill: Bill, key: str) -> None:
    names_amount = invoices.read(payment.to).amount_msat is not None
    await wallet.pay_invoice(
        payment.to.strip(),
        amount_msat=None if names_amount else bill.amount_sat * 1000,
        max_fee=bill.most_fee_sat,
        mint=payment.mint or None,
        key=key,
    )


async def _token(wallet: Wallet, payment: Payment, bill: Bill, key: str) -> None:
    """Ecash for a public key, or for whoever holds it; it stays in the outbox."""
    to = None if payment.to == BEARER else bytes.fromhex(payment.to)
    mint, memo = payment.mint or None, payment.memo or None
    most = bill.most_fee_sat
    await wallet.send(bill.amount_sat, to=to, mint=mint, memo=memo, max_fee=most, key=key)


_WAYS: dict[Kind, Way] = {"invoice": _invoice, "peer": _token, "bearer": _token}


# ── the wallet's records as the node's ──────────────────────────────────────────────────────


def as_found(operation: Operation) -> Found:
    """An operation of the wallet as the node knows it; parts of a sat count as whole ones."""
    state: Literal["paid", "pending", "failed"] = "pending"
    if operation.state.final:
        state = "failed" if operation.state.value == "failed" else "paid"
    failed = state == "failed"
    return Found(
        operation.key,
        state,
        in_sat(operation.amount, operation.unit),
        0 if failed else in_sat(operation.fee, operation.unit),
        operation.mint,
        operation.error if failed else "",
    )


def in_sat(amount: int, unit: str) -> int:
    """An amount in whole sat, rounded up."""
    return -(-amount // 1000) if unit == "msat" else amount


def _found(wallet: Wallet, key: str) -> Found:
    operation = wallet.operation(key)
    if operation is None:
        raise PaymentError("the wallet has no such payment")
    payment = wallet.payment(key)
    found = as_found(operation)
    return replace(found, state="paid") if payment and payment.state == "paid" else found


def _taken_back(wallet: Wallet, key: str) -> Operation | None:
    """The operation that took a token back before, if one did."""
    for each in wallet.history(_HISTORY):
        if each.parent == key and each.kind.value == "reclaim" and each.state.final:
            return each
    return None
