"""The ways the node's wallet pays, one for each kind of payee.

All take a key, and the same key is the same payment in the wallet: so each may be tried again
whenever it is not known whether it went through.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from node.money import billing
from node.money.types import Bill, Kind, Payment
from wallet.protocol import invoices

if TYPE_CHECKING:
    from wallet import FundingSource
    from wallet.lightning import Web
    from wallet.nwc import Dial
    from wallet.wallet import Wallet

Way = Callable[["Wallet", Payment, Bill, str], Awaitable[object]]


class Ways:
    """Pays whom a bill is for.

    Args:
        web, dial: how payees' servers and relays are reached; None: over the network.
    """

    def __init__(self, *, web: Web | None = None, dial: Dial | None = None) -> None:
        self._web, self._dial = web, dial
        self._ways: dict[Kind, Way] = {
            "invoice": _invoice,
            "address": self._address,
            "request": self._request,
            "paywall": _paywall,
            "peer": _token,
            "bearer": _token,
        }

    async def pay(self, wallet: Wallet, payment: Payment, bill: Bill, key: str) -> None:
        """Pays. Raises the wallet's errors."""
        await self._ways[bill.kind](wallet, payment, bill, key)

    async def pay_from(
        self, source: FundingSource, wallet: Wallet, payment: Payment, bill: Bill, key: str
    ) -> None:
        """Has another wallet of the owner's pay an invoice or address; it bounds its own fees."""
        if bill.kind == "address":
            address, amount, memo = bill.destination, bill.amount_sat, payment.memo
            await wallet.pay_address_from(
                source, address, amount, comment=memo, key=key, web=self._web
            )
        else:
            chosen = _chosen_msat(payment, bill)
            invoice = billing.plain(payment.to)
            await wallet.pay_from(source, invoice, amount_msat=chosen, key=key)

    async def _address(self, wallet: Wallet, payment: Payment, bill: Bill, key: str) -> None:
        await wallet.pay_address(
            bill.destination,
            bill.amount_sat,
            comment=payment.memo,
            max_fee=bill.most_fee_sat,
            mint=payment.mint or None,
            key=key,
            web=self._web,
        )

    async def _request(self, wallet: Wallet, payment: Payment, bill: Bill, key: str) -> None:
        await wallet.pay_request(
            billing.request_of(payment),
            amount=bill.amount_sat,
            mint=payment.mint or None,
            max_fee=bill.most_fee_sat,
            key=key,
            web=self._web,
            dial=self._dial,
        )


async def _invoice(wallet: Wallet, payment: Payment, bill: Bill, key: str) -> None:
    await wallet.pay_invoice(
        billing.plain(payment.to),
        amount_msat=_chosen_msat(payment, bill),
        max_fee=bill.most_fee_sat,
        mint=payment.mint or None,
        key=key,
    )


async def _paywall(wallet: Wallet, payment: Payment, bill: Bill, key: str) -> None:
    """Ecash for the price of a resource; whoever asks for that hands it over."""
    request, mint = billing.request_of(payment), payment.mint or None
    await wallet.token_for(request, mint=mint, max_fee=bill.most_fee_sat, key=key)


async def _token(wallet: Wallet, payment: Payment, bill: Bill, key: str) -> None:
    """Ecash for a public key, or for whoever holds it; it stays in the outbox."""
    to = None if bill.kind == "bearer" else bytes.fromhex(payment.to.strip())
    mint, memo = payment.mint or None, payment.memo or None
    await wallet.send(
        bill.amount_sat,
        to=to,
        mint=mint,
        memo=memo,
        include_fee=payment.include_fee,
        max_fee=bill.most_fee_sat,
        key=key,
    )


def _chosen_msat(payment: Payment, bill: Bill) -> int | None:
    """The amount, where the invoice leaves that to the payer."""
    names_amount = invoices.read(billing.plain(payment.to)).amount_msat is not None
    return None if names_amount else bill.amount_sat * 1000
