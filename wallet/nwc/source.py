"""A Nostr Wallet Connect connection as somewhere to pay from: the wallet's view of `NwcClient`.

What a payer must know is which of three things happened, so every way a request can end is one of
them: paid (with a preimage that hashes to the invoice, where the service has it); surely not paid;
or nobody knows (`OutcomeUnknownError`). A reply that is lost, or cannot be understood, is followed
by `lookup_invoice`, never by a second `pay_invoice`.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from wallet.errors import (
    OutcomeUnknownError,
    ParseError,
    PaymentFailedError,
    RefusedError,
    RelayError,
    WalletError,
)
from wallet.nwc.client import NwcClient
from wallet.nwc.messages import NotFoundError, Paid, State, Transaction
from wallet.protocol.invoices import Bolt11
from wallet.types import CLOCK_S

_SLACK_S = 600.0  # how much later than it should a service may still act on a request
_LATER = "Do not pay it again: `recover` asks the wallet service what became of it."


class NwcSource:
    """A wallet elsewhere (the user's own node, Alby Hub) that pays invoices for this one.

    Args:
        client: the connection.
        now: Unix seconds.
    """

    def __init__(self, client: NwcClient, *, now: Callable[[], float] = time.time) -> None:
        self._client, self._now = client, now

    @property
    def name(self) -> str:
        """What the wallet's history calls it; holds no secret."""
        return f"nwc:{self._client.connection.service}"

    async def balance_msat(self) -> int:
        """What it holds, in msat. Raises as the client."""
        return await self._client.balance_msat()

    async def make_invoice(self, amount_msat: int, *, description: str = "") -> Transaction:
        """An invoice that pays the connected wallet. Raises as the client."""
        return await self._client.make_invoice(amount_msat, description=description)

    async def pay_invoice(
        self, invoice: Bolt11, *, amount_msat: int | None = None, again: bool = False
    ) -> Paid:
        """Pays an invoice. NIP-47 has no bound on the fee: the connected wallet's own holds.

        Args:
            amount_msat: for an invoice without an amount, and only for one.
            again: a payment of it failed here before. Until this one has expired, a service that
                tells of a failure may tell of that.

        Raises:
            OutcomeUnknownError: it may be paid; ask `settle`.
            WalletError: it surely is not.
        """
        asked = self._now()
        _check_payable(invoice, amount_msat, asked)
        try:
            paid = await self._client.pay_invoice(invoice.text, amount_msat=amount_msat)
        except OutcomeUnknownError as error:
            return await self._looked_up(invoice, error, asked if again else None)
        except RelayError as error:
            raise PaymentFailedError(
                f"nothing was paid: {error.message}", hint="Is the relay of the connection up?"
            ) from None
        if paid.preimage is None or not invoice.proven_by(paid.preimage):
            lie = OutcomeUnknownError("the wallet service's preimage is not the invoice's")
            return await self._looked_up(invoice, lie, asked if again else None)
        return paid

    async def settle(
        self, invoice: Bolt11, *, asked: float, known: bytes | None = None, again: bool = False
    ) -> Paid:
        """What became of a payment whose outcome is not known.

        A service that does not know the payment says nothing yet: the request may still be on its
        way to it, and some services only find invoices. It counts as never paid once the request
        has expired everywhere, and the same service does find `known`.

        Args:
            asked: when it was asked for, Unix seconds.
            known: the hash of an earlier payment that this service surely made.
            again: see `pay_invoice`.

        Raises:
            PaymentFailedError: it surely was not paid, and will not be.
            OutcomeUnknownError: still nobody knows.
        """
        lost = OutcomeUnknownError("the wallet service has not told what became of a payment")
        try:
            return await self._looked_up(invoice, lost, asked if again else None)
        except OutcomeUnknownError as error:
            expired = self._now() > asked + self._client.payment_s + CLOCK_S
            unheard_of = isinstance(error.__cause__, NotFoundError)
            if unheard_of and expired and known is not None and await self._finds(known):
                raise PaymentFailedError(
                    "the wallet service never paid it, and the request has expired",
                    hint="Nothing was paid; it may be tried again.",
                ) from None
            raise

    async def _looked_up(
        self, invoice: Bolt11, lost: OutcomeUnknownError, again: float | None
    ) -> Paid:
        """What the service knows. `again`: when this one was asked for, after one that failed."""
        try:
            found = await self._client.lookup(invoice.payment_hash)
        except WalletError as error:
            raise OutcomeUnknownError(f"{lost.message}; {error.message}", hint=_LATER) from error
        if found.incoming:
            raise OutcomeUnknownError(
                "the wallet service tells of the invoice, not of its payment", hint=_LATER
            )
        if found.preimage is not None and invoice.proven_by(found.preimage):
            return Paid(found.preimage, found.fee_msat)
        if found.state is State.SETTLED:  # its word that the money left, without the proof
            return Paid(None, found.fee_msat)
        is_old = again is not None and self._now() < again + self._client.payment_s + _SLACK_S
        if found.state is State.FAILED and not is_old:
            raise PaymentFailedError(
                f"the payment failed: {lost.message}",
                hint="Nothing was paid; it may be tried again.",
            )
        state = found.state.value if found.state else "not told"
        raise OutcomeUnknownError(f"{lost.message}; its state is {state}", hint=_LATER)

    async def _finds(self, payment_hash: bytes) -> bool:
        try:
            return not (await self._client.lookup(payment_hash)).incoming
        except WalletError:  # whatever it is, such as a rate limit's: no proof that it would tell
            return False

    async def aclose(self) -> None:
        """Ends the connection."""
        await self._client.aclose()


def _check_payable(invoice: Bolt11, amount_msat: int | None, now: float) -> None:
    """Whether it can be paid, with that amount.

    Raises:
        ParseError: both or neither of invoice and payer name an amount.
        RefusedError: it has expired.
    """
    if (invoice.amount_msat is None) == (amount_msat is None):
        raise ParseError(
            "an amount must come from the invoice or from the payer, and from one of them only"
        )
    if invoice.expired(now - CLOCK_S):
        raise RefusedError("the invoice has expired", hint="Ask the payee for a new one.")
    if (invoice.amount_msat or amount_msat or 0) <= 0:
        raise ParseError("an amount to pay is not above zero")
