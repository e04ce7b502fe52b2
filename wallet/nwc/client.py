"""A client of a wallet service (NIP-47) over the relays of a connection string.

A request is published to every relay of the connection, and the first answer that is right counts:
by the service's key, to this very request, addressed to us, readable. Whatever else arrives
(answers to older requests sent again, others' events, garbage) is passed over. A request carries
its own expiration, so that one which a relay kept is not acted on long after nobody waits for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Any

from wallet.errors import (
    ParseError,
    RelayError,
    RelayLostError,
    UnsupportedError,
    VerificationError,
    WalletError,
)
from wallet.nwc import messages, nip44
from wallet.nwc.connection import Connection
from wallet.nwc.events import Event, Filter
from wallet.nwc.messages import Paid, ServiceInfo, Transaction
from wallet.nwc.relay import Dial, Relay
from wallet.nwc.subscription import Subscription
from wallet.nwc.websocket import dial as dial_websocket

ANSWER_S = 20.0  # how long a question about state may take
PAYMENT_S = 60.0  # how long a payment may take before it is looked up instead


class NwcClient:
    """A connection to a wallet service.

    Args:
        connection: who, where and with which key.
        dial: how to connect to relays.
        now: seconds since 1970.
        answer_s: how long to wait for an answer.
        payment_s: how long to wait for the answer to a payment.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        dial: Dial = dial_websocket,
        now: Callable[[], float] = time.time,
        answer_s: float = ANSWER_S,
        payment_s: float = PAYMENT_S,
    ) -> None:
        self.connection = connection
        self._now, self._answer_s, self.payment_s = now, answer_s, payment_s
        self._relays = tuple(Relay(url, dial=dial) for url in connection.relays)
        self._secret = nip44.conversation_key(connection.key, connection.service)
        self._info: ServiceInfo | None = None

    async def aclose(self) -> None:
        """Ends the connections to the relays."""
        for relay in self._relays:
            await relay.aclose()

    # ── what can be asked ───────────────────────────────────────────────────────────────────

    async def info(self, *, again: bool = False) -> ServiceInfo:
        """What the service's info event says; asked for once, then remembered.

        Raises:
            RelayError: no relay can be reached.
            UnsupportedError: the service has published none, so that nothing is known of it.
        """
        if self._info is None or again:
            self._info = _read_info(await self._newest_info())
        return self._info

    async def pay_invoice(self, invoice: str, *, amount_msat: int | None = None) -> Paid:
        """Pays a bolt11 invoice; `amount_msat` is for one that names no amount.

        Raises:
            RelayError: no relay took the request: nothing was paid.
            OutcomeUnknownError: it may have been paid: `lookup` it, do not ask again.
            WalletError: the service's own error.
        """
        params: dict[str, Any] = {"invoice": invoice}
        if amount_msat is not None:
            params["amount"] = amount_msat
        return messages.paid(await self._ask("pay_invoice", params, self.payment_s))

    async def balance_msat(self) -> int:
        """What the connected wallet holds, in msat. Raises as `pay_invoice`."""
        return messages.whole(await self._ask("get_balance", {}, self._answer_s), "balance")

    async def lookup(self, payment_hash: bytes) -> Transaction:
        """The invoice or payment of that hash.

        Raises:
            NotFoundError: the service knows none.
            WalletError: as `pay_invoice`.
        """
        params = {"payment_hash": payment_hash.hex()}
        fields = await self._ask("lookup_invoice", params, self._answer_s)
        found = messages.transaction(fields)
        if found.payment_hash != payment_hash:
            raise messages.senseless("its answer is about another invoice")
        return found

    async def make_invoice(
        self, amount_msat: int, *, description: str = "", expiry_s: int | None = None
    ) -> Transaction:
        """An invoice of the connected wallet for `amount_msat`. Raises as `pay_invoice`."""
        params: dict[str, Any] = {"amount": amount_msat, "description": description}
        if expiry_s is not None:
            params["expiry"] = expiry_s
        made = messages.transaction(await self._ask("make_invoice", params, self._answer_s))
        if not made.incoming or made.invoice is None or made.amount_msat != amount_msat:
            raise messages.senseless("its invoice is not the one that was asked for")
        return made

    # ── one question, one answer ────────────────────────────────────────────────────────────

    async def _ask(self, method: str, params: dict[str, Any], wait_s: float) -> dict[str, Any]:
        info = await self.info()
        try:
            info.check(method)
        except UnsupportedError:
            self._info = None  # the next question reads it again: services are updated
            raise
        event = self._request(messages.request(method, params), wait_s)
        answer = await self._exchange(event, wait_s)
        return messages.result(self._open(answer), method)

    def _request(self, text: str, wait_s: float) -> Event:
        now = self._now()
        tags = [
            ["p", self.connection.service],
            ["encryption", messages.ENCRYPTION],
            ["expiration", str(int(now + wait_s) + 1)],
        ]
        content = nip44.encrypt(text, self._secret)
        return Event.make(self.connection.key, messages.REQUEST_KIND, content, tags=tags, now=now)

    def _open(self, answer: Event) -> str:
        try:
            return nip44.decrypt(answer.content, self._secret)
        except (ParseError, UnsupportedError, VerificationError) as error:
            raise messages.senseless(error.message) from None

    async def _exchange(self, event: Event, wait_s: float) -> Event:
        """The first answer that any relay brings."""
        tries = [asyncio.create_task(self._over(relay, event)) for relay in self._relays]
        errors: list[WalletError] = []
        try:
            async with asyncio.timeout(wait_s):
                for first in asyncio.as_completed(tries):
                    try:
                        return await first
                    except (RelayError, RelayLostError) as error:
                        errors.append(error)
        except TimeoutError:
            raise RelayLostError(
                f"the wallet service did not answer within {wait_s:g} s",
                hint="Is it running, and is this machine's clock right? It drops old requests.",
            ) from None
        finally:
            await _stop(*tries)
        raise next((error for error in errors if isinstance(error, RelayLostError)), errors[0])

    async def _over(self, relay: Relay, event: Event) -> Event:
        """The answer over one relay. Where an acknowledgement is lost the answer may still come,
        so only a refusal ends the wait."""
        wanted = Filter(
            kinds=(messages.RESPONSE_KIND,),
            authors=(self.connection.service,),
            tags={"e": (event.id,)},
        )
        async with relay.subscribe(wanted) as answers:
            published = asyncio.create_task(relay.publish(event))
            answered = asyncio.create_task(self._ours(answers))
            try:
                await asyncio.wait({published, answered}, return_when=asyncio.FIRST_COMPLETED)
                if not answered.done():
                    with contextlib.suppress(RelayLostError):
                        await published
                return await answered
            finally:
                await _stop(published, answered)

    async def _ours(self, answers: Subscription) -> Event:
        try:
            async for answer in answers:
                if answer.tag("p") in (None, self.connection.key.public):
                    return answer
        except RelayError as error:  # it ended the subscription; the request may be on its way
            raise RelayLostError(error.message) from None
        raise AssertionError("a subscription ends only with an error")

    async def _newest_info(self) -> Event:
        wanted = Filter(kinds=(messages.INFO_KIND,), authors=(self.connection.service,), limit=1)
        asked = await asyncio.gather(
            *(relay.query(wanted) for relay in self._relays), return_exceptions=True
        )
        for failed in asked:
            if isinstance(failed, BaseException) and not isinstance(failed, WalletError):
                raise failed
        found = [event for events in asked if isinstance(events, tuple) for event in events]
        if found:
            return max(found, key=lambda event: event.created_at)
        for failed in asked:
            if isinstance(failed, WalletError):
                raise failed
        raise UnsupportedError(
            "the wallet service has not published what it can do",
            hint="Is it running, and is the connection still in its list?",
        )


def _read_info(event: Event) -> ServiceInfo:
    return ServiceInfo(
        methods=frozenset(event.content.split()),
        encryptions=frozenset((event.tag("encryption") or "nip04").split()),
    )


async def _stop(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
