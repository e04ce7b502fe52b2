"""The purse over the node's wallet: the only place where the node makes it pay.

Each payment is the wallet's operation of the step's key. One that is on its way is waited for a
while, since most end within seconds; after that it is pending, and asked about later. A payment
request is paid when its payee has the ecash: where that is not to be had, the ecash is taken back.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from node.errors import (
    FreeholdError,
    MoneyError,
    OutcomeUnknownError,
    PaymentError,
    PaymentPendingError,
    RequestError,
)
from node.money import billing
from node.money.billing import FeeRule
from node.money.keeper import Keeper
from node.money.translate import translated
from node.money.types import NWC, Bill, Found, Payment
from node.money.ways import Ways
from wallet.errors import AlreadySpentError, PayeeError, UnreachableError, WalletError

if TYPE_CHECKING:
    from wallet import Operation
    from wallet.wallet import Wallet

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.25, 4.0  # between two looks at a payment on its way
WAIT_S = 20.0
_LIGHTNING = ("invoice", "address")


class WalletPurse:
    """Pays from the wallet that `keeper` keeps.

    Args:
        fees: the most that one payment may cost on top.
        invoices_from: `nwc` has the owner's other wallet pay invoices where no mint is named.
        ways: how payees are reached.
        now: Unix seconds.
        wait_s: how long a payment that is on its way is waited for, in seconds.
    """

    def __init__(
        self,
        keeper: Keeper,
        *,
        fees: FeeRule | None = None,
        invoices_from: Literal["mints", "nwc"] = "mints",
        ways: Ways | None = None,
        now: Callable[[], float] = time.time,
        wait_s: float = WAIT_S,
    ) -> None:
        self._keeper = keeper
        self._ways = ways or Ways()
        self._fees = fees or FeeRule()
        self._invoices_from = invoices_from
        self._now = now
        self._wait_s = wait_s

    def bill(self, payment: Payment, *, late: bool = False) -> Bill:
        found = billing.bill(payment, self._fees, None if late else self._now())
        return replace(found, fee_bounded=not self._by_other(payment, found))

    async def pay(self, payment: Payment, bill: Bill, *, key: str) -> Found:
        wallet = self._keeper.wallet()
        found = await self._once(wallet, payment, bill, key)
        clock = asyncio.get_running_loop().time
        end, pause_s = clock() + self._wait_s, FIRST_PAUSE_S
        while found.state == "pending" and (left_s := end - clock()) > 0:
            await asyncio.sleep(min(pause_s, left_s))
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
            found = await self._once(wallet, payment, bill, key)
        return found

    async def found(self, payment: Payment, *, key: str) -> Found | None:
        with translated():  # a file that cannot be read tells nothing
            return await self._outcome(payment, key)

    async def _outcome(self, payment: Payment, key: str) -> Found | None:
        wallet = self._keeper.wallet(stale=True)
        operation = wallet.operation(key)
        if operation is None:
            self._keeper.wallet()  # one out of an archive raises: it may have begun and not know
            return None
        if operation.pending and not self._keeper.is_stale:
            try:
                with translated():
                    await wallet.recover(key)
            except (MoneyError, OutcomeUnknownError):
                pass  # what is known stays known
        outbox = _outbox(wallet, key)
        if outbox == "open" and billing.is_delivered(payment):  # it may have reached its payee
            return await self._once(self._keeper.wallet(), payment, self.bill(payment), key)
        return _not_taken(wallet, key) if outbox == "reclaimed" else _found(wallet, key)

    async def token(self, payment: Payment, *, key: str) -> str:
        with translated():
            sent = self._keeper.wallet().sent(key)
        if sent is None or not sent.token:
            raise PaymentError(
                f"there is no token of {key} to hand over",
                hint="It was redeemed or taken back, or none was ever made.",
            )
        if payment.url:
            _check_fits(payment, sent.amount, sent.mint)
        return sent.token

    async def take_back(self, key: str) -> Found | None:
        wallet = self._keeper.wallet()
        try:
            with translated():
                operation = wallet.reclaimed(key) or await wallet.reclaim(key)
                await wallet.tell([(operation.key, operation.state)], wallet.told_to())
        except MoneyError as error:
            if isinstance(error.__cause__, AlreadySpentError):
                return None
            raise
        found = as_found(operation)  # what is left of it, where the payee redeemed a part
        return replace(found, key=key, amount_sat=found.amount_sat + found.fee_sat)

    async def _once(self, wallet: Wallet, payment: Payment, bill: Bill, key: str) -> Found:
        """Pays, or asks anew what became of it.

        Raises:
            MoneyError: it surely did not happen.
            OutcomeUnknownError: it may have.
        """
        try:
            with translated():
                await self._way(wallet, payment, bill, key)
        except OutcomeUnknownError:
            if wallet.operation(key) is None:  # a quote that nobody answered is no payment
                raise PaymentError("the mint did not answer; nothing was paid") from None
            return replace(_found(wallet, key), state="pending")
        except (MoneyError, RequestError) as error:
            undelivered = isinstance(error.__cause__, UnreachableError | PayeeError)
            if undelivered and _outbox(wallet, key) == "open":
                return await self._undelivered(wallet, key, error)
            if _may_have_paid(wallet, payment, key):  # the disk, say, failed when it was done
                raise PaymentPendingError(error.message, hint=error.hint) from error
            ended = wallet.operation(key)
            if ended is not None and ended.state.value == "failed" and ended.fee:
                return as_found(ended)  # what it cost all the same
            if isinstance(error, MoneyError):
                raise
            raise PaymentError(error.message, hint=error.hint) from error
        return _found(wallet, key)

    async def _way(self, wallet: Wallet, payment: Payment, bill: Bill, key: str) -> None:
        if self._by_other(payment, bill):
            source, lightning = self._keeper.source, bill.kind in _LIGHTNING
            if source is None or not lightning:
                raise PaymentError(
                    "no other wallet is connected" if lightning else "only a mint can pay that",
                    hint="`freehold wallet nwc connect` connects one, to pay invoices from.",
                )
            await self._ways.pay_from(source, wallet, payment, bill, key)
        else:
            await self._ways.pay(wallet, payment, bill, key)

    def _by_other(self, payment: Payment, bill: Bill) -> bool:
        """Whether another wallet of the owner's is to pay (NIP-47)."""
        lightning = bill.kind in _LIGHTNING
        usual = not payment.mint and self._invoices_from == NWC and lightning
        return usual or payment.mint == NWC

    async def _undelivered(self, wallet: Wallet, key: str, why: FreeholdError) -> Found:
        """Takes back what the payee did not take; ecash that is locked to it waits for it."""
        made = _found(wallet, key)
        try:
            back = await self.take_back(key)
        except (MoneyError, OutcomeUnknownError):
            return replace(made, state="pending", error=why.message)
        return made if back is None else _not_taken(wallet, key, why.message)


def _check_fits(payment: Payment, amount_sat: int, mint: str) -> None:
    """Refuses to give a token for another price than the one it was bought for."""
    from wallet.operations.requests import url_of

    request = billing.request_of(payment)
    taken = [url_of(each) for each in request.mints]
    if amount_sat < (request.amount or 0) or (taken and mint not in taken):
        raise PaymentError(
            "it was paid for before, and the server asks for another payment now",
            hint="The token of then is in the outbox: `freehold wallet pending`.",
        )


# ── the wallet's records as the node's ──────────────────────────────────────────────────────


def as_found(operation: Operation) -> Found:
    """An operation of the wallet as the node knows it; parts of a sat count as whole ones."""
    state: Literal["paid", "pending", "failed"] = "pending"
    if operation.state.final:
        state = "failed" if operation.state.value == "failed" else "paid"
    return Found(
        operation.key,
        state,
        in_sat(operation.amount, operation.unit),
        in_sat(operation.fee, operation.unit),
        operation.mint,
        operation.error if state == "failed" else "",
    )


def in_sat(amount: int, unit: str) -> int:
    """What was spent, in whole sat, rounded up."""
    return -(-amount // 1000) if unit == "msat" else amount


def got_sat(amount: int, unit: str) -> int:
    """What came in, in whole sat, rounded down."""
    return amount // 1000 if unit == "msat" else amount


def _known(wallet: Wallet, key: str) -> Operation:
    operation = wallet.operation(key)
    if operation is None:
        raise PaymentError("the wallet has no such payment")
    return operation


def _found(wallet: Wallet, key: str) -> Found:
    """What the wallet knows. Ecash that is out for its payee may not have reached it."""
    found, payment, sent = as_found(_known(wallet, key)), wallet.payment(key), wallet.sent(key)
    if payment is not None and payment.state == "paid":
        return replace(found, state="paid", proven=payment.preimage is not None)
    if sent is not None:  # what a token holds for the payee's fee is a fee
        amount, fee = in_sat(sent.amount, sent.unit), in_sat(sent.fee + sent.included, sent.unit)
        return replace(found, amount_sat=amount, fee_sat=fee)
    return found


def _outbox(wallet: Wallet, key: str) -> str:
    operation = wallet.operation(key)
    return operation.outbox.value if operation else ""


def _may_have_paid(wallet: Wallet, payment: Payment, key: str) -> bool:
    """Whether the wallet's record, which counts and no error beside it, leaves that open."""
    try:
        operation = wallet.operation(key)
    except WalletError:
        return True
    if operation is None:
        return False
    undelivered = billing.is_delivered(payment) and operation.outbox.value == "open"
    return not operation.state.final or undelivered


def _not_taken(wallet: Wallet, key: str, why: str = "") -> Found:
    """A payment whose ecash came back: it failed, and cost making it, taking it back, and what the
    payee redeemed of it all the same."""
    made, back = as_found(_known(wallet, key)), wallet.reclaimed(key)
    lost = made.amount_sat - as_found(back).amount_sat if back else 0  # its owner received it
    error = why or "the payee did not take it"
    return replace(made, state="failed", fee_sat=made.fee_sat + lost, error=error)
