"""The wallet's methods for what is no mint: payment requests, addresses and prices (NUT-18, LUD-06,
NUT-24), and other wallets to pay from. A part of `Wallet`, which is one class for whoever uses it
and two files for whoever reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from wallet.operations import addresses, paywall, requesting, requests, sources
from wallet.operations.book import Book
from wallet.operations.ownkeys import OwnKeys
from wallet.operations.paywall import Attempt, Toll, TollPaid
from wallet.operations.requesting import RequestPaid
from wallet.operations.requests import Payment as RequestPayment
from wallet.operations.results import Payment, Received, Sent
from wallet.operations.sources import FundingSource, SourcePayment
from wallet.protocol.requests import PaymentRequest, Transport
from wallet.types import Unit

if TYPE_CHECKING:
    from wallet.lightning import Web
    from wallet.nwc import Dial


class Flows:
    """Methods of `Wallet`."""

    _book: Book
    _own: OwnKeys
    _sources: dict[str, FundingSource]

    async def make_request(
        self,
        amount: int | None,
        *,
        unit: Unit = "sat",
        description: str | None = None,
        mints: Sequence[str] | None = None,
        transports: Sequence[Transport] = (),
        single_use: bool | None = None,
        lock: bool = True,
    ) -> PaymentRequest:
        """A payment request that this wallet can redeem (NUT-18); `protocol.requests` writes it.

        Args:
            amount: None: the payer chooses.
            mints: of the mints this wallet accepts, those to be paid from; None: all.
            transports: how the payment is to come; none: the way the request went (NUT-24).
            lock: to a key of this wallet that was never given out before.

        Raises:
            UntrustedMintError: a mint that is not accepted, or none is.
        """
        return await requests.make(
            self._book,
            self._own,
            amount,
            unit=unit,
            description=description,
            mints=mints,
            transports=transports,
            single_use=single_use,
            lock=lock,
        )

    async def redeem(
        self, payment: RequestPayment, request: PaymentRequest, *, key: str | None = None
    ) -> Received:
        """Takes in what answers a request of this wallet, where it is what was asked for: amount,
        unit, mint, lock, DLEQ, and not seen before.

        Args:
            payment: a token, or the payload a transport brought.
            key: the idempotency key; None: `operations.requests.redemption_key`.

        Raises:
            RefusedError, UntrustedMintError, VerificationError: it is not what was asked for.
            AlreadySpentError: it was redeemed before, or the single-use request was paid.
            WalletError: as `receive`.
        """
        return await requests.redeem(self._book, self._own, payment, request, key=key)

    async def pay_request(
        self,
        request: PaymentRequest | str,
        *,
        amount: int | None = None,
        mint: str | None = None,
        max_fee: int | None = None,
        key: str | None = None,
        web: Web | None = None,
        dial: Dial | None = None,
    ) -> RequestPaid:
        """Pays a payment request by the first of its transports that works: HTTP POST or Nostr.

        Asked again with the same key, it hands over the same ecash again, and never other.

        Args:
            amount: for a request that names none.
            max_fee: the most that making the token may cost, in its unit.
            web, dial: the ways to servers and relays; None: the real ones.

        Raises:
            UnsupportedError: no transport, unit or lock that this wallet knows.
            UntrustedMintError, InsufficientFundsError: no mint that both have can pay it.
            UnreachableError: the payee surely has nothing. PayeeError: it does not take it. In
                both cases the token is in the outbox, and `reclaim` takes back one without a lock.
            OutcomeUnknownError: the payee may have it. Ask again with the key.
        """
        return await requesting.pay(
            self._book,
            request,
            amount=amount,
            mint=mint,
            max_fee=max_fee,
            key=key,
            web=web,
            dial=dial,
        )

    async def token_for(
        self,
        request: PaymentRequest,
        *,
        amount: int | None = None,
        mint: str | None = None,
        max_fee: int | None = None,
        key: str | None = None,
    ) -> Sent:
        """A token that answers a request, for the caller to hand over. Raises as `pay_request`."""
        return await requesting.token_for(
            self._book, request, amount=amount, mint=mint, max_fee=max_fee, key=key
        )

    async def pay_address(
        self,
        address: str,
        amount: int,
        *,
        comment: str = "",
        max_fee: int | None = None,
        mint: str | None = None,
        key: str | None = None,
        web: Web | None = None,
    ) -> Payment:
        """Pays `amount` sat to a Lightning address or LNURL. One key is one invoice.

        Raises:
            UnreachableError, PayeeError: its server gives no invoice that may be paid.
            WalletError: as `pay_invoice`.
        """
        return await addresses.pay(
            self._book,
            address,
            amount,
            comment=comment,
            max_fee=max_fee,
            mint=mint,
            key=key,
            web=web,
        )

    async def pay_402(
        self,
        toll: Toll,
        attempt: Attempt,
        *,
        key: str,
        most: int | None = None,
        mint: str | None = None,
        max_fee: int | None = None,
    ) -> TollPaid:
        """Pays for an HTTP resource and asks for it once more (NUT-24).

        Args:
            toll: of `operations.paywall.read_toll`.
            attempt: sends the request with this text as its `X-Cashu` header; returns the status.
            most: what it may cost.

        Raises:
            RefusedError: it costs more, or was paid with this key and taken back.
            AlreadySpentError: it was paid with this key, and the ecash was redeemed.
        """
        return await paywall.pay(
            self._book, self._own, toll, attempt, key=key, most=most, mint=mint, max_fee=max_fee
        )

    # ── another funding source ──────────────────────────────────────────────────────────────

    def use_source(self, source: FundingSource) -> None:
        """Names a source for `recover` to ask about its pending payments."""
        self._sources[source.name] = source

    async def pay_from(
        self,
        source: FundingSource,
        bolt11: str,
        *,
        amount_msat: int | None = None,
        key: str | None = None,
    ) -> SourcePayment:
        """Pays an invoice from another source, such as `wallet.nwc.NwcSource`, journalled here.

        Raises:
            WalletError: it surely was not paid. What nobody knows is returned as pending.
        """
        self.use_source(source)
        return await sources.pay(self._book, source, bolt11, amount_msat=amount_msat, key=key)

    async def pay_address_from(
        self,
        source: FundingSource,
        address: str,
        amount: int,
        *,
        comment: str = "",
        key: str | None = None,
        web: Web | None = None,
    ) -> SourcePayment:
        """Pays `amount` sat to a Lightning address or LNURL from another source. As `pay_from`."""
        self.use_source(source)
        return await addresses.pay_from(
            self._book, source, address, amount, comment=comment, key=key, web=web
        )
