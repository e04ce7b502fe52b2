"""The ways the node's wallet pays, one for each kind of payee.

All take a key, and the same key is the same payment in the wallet: so each may be tried again
whenever it is not known whether it went through.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from node.money import billing
from node.money.types import BEARER, Bill, Kind, Payment
from wallet.protocol import invoices

if TYPE_CHECKING:
    from wallet import FundingSource
    from wallet.wallet import Wallet

Way = Callable[["Wallet", Payment, Bill, str], Awaitable[object]]


async def _invoice(wallet: Wallet, payment: Payment, bill: Bill, key: str) -> None:
    await wallet.pay_invoice(
        payment.to.strip(),
        amount_msat=_chosen_msat(payment, bill),
        max_fee=bill.most_fee_sat,
        mint=payment.mint or None,
        key=key,
    )


async def _address(wallet: Wallet, payment: Payment, bill: Bill, key: str) -> None:
    await wallet.pay_address(
        bill.destination,
        bill.amount_sat,
        comment=payment.memo,
        max_fee=bill.most_fee_sat,
        mint=payment.mint or None,
        key=key,
    )


async def _request(wallet: Wallet, payment: Payment, bill: Bill, key: str) -> None:
    request = billing.request_of(payment)
    await wallet.pay_request(
        request,
        amount=None if request.amount is not None else bill.amount_sat,
        mint=payment.mint or None,
        max_fee=bill.most_fee_sat,
        key=key,
    )


async def _paywall(wallet: Wallet, payment: Payment, bill: Bill, key: str) -> None:
    """Ecash for the price of a resource; whoever asks for that hands it over."""
    request, mint = billing.request_of(payment), payment.mint or None
    await wallet.token_for(request, mint=mint, max_fee=bill.most_fee_sat, key=key)


async def _token(wallet: Wallet, payment: Payment, bill: Bill, key: str) -> None:
    """Ecash for a public key, or for whoever holds it; it stays in the outbox."""
    to = None if payment.to == BEARER else bytes.fromhex(payment.to)
    mint, memo = payment.mint or None, payment.memo or None
    most = bill.most_fee_sat
    await wallet.send(bill.amount_sat, to=to, mint=mint, memo=memo, max_fee=most, key=key)


WAYS: dict[Kind, Way] = {
    "invoice": _invoice,
    "address": _address,
    "request": _request,
    "paywall": _paywall,
    "peer": _token,
    "bearer": _token,
}


async def from_source(
    wallet: Wallet, source: FundingSource, payment: Payment, bill: Bill, key: str
) -> None:
    """An invoice, or an address, from another wallet of the owner's, which bounds its own fees."""
    if bill.kind == "address":
        address, amount = bill.destination, bill.amount_sat
        await wallet.pay_address_from(source, address, amount, comment=payment.memo, key=key)
    else:
        chosen = _chosen_msat(payment, bill)
        await wallet.pay_from(source, payment.to.strip(), amount_msat=chosen, key=key)


def _chosen_msat(payment: Payment, bill: Bill) -> int | None:
    """The amount, where the invoice leaves that to the payer."""
    names_amount = invoices.read(payment.to).amount_msat is not None
    return None if names_amount else bill.amount_sat * 1000
