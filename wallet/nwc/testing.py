"""A wallet service in memory (NIP-47), for tests and for trying things out.

It is a client of a relay like any wallet service, pays out of its own balance, and keeps what it
really did (`paid`) apart from what it says, so that a test can hold one against the other. `Fault`
is what may go wrong with one request.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Self

from wallet.errors import RelayError, RelayLostError
from wallet.mint.testing import MemoryLightning, Outcome
from wallet.mint.testing.lightning import Payment
from wallet.nwc import messages, nip44
from wallet.nwc.connection import Connection
from wallet.nwc.events import Event, Filter
from wallet.nwc.keys import SecretKey
from wallet.nwc.messages import State
from wallet.nwc.relay import Dial, Relay
from wallet.protocol import invoices

URL = "ws://localhost:7777"
METHODS = "pay_invoice get_balance make_invoice lookup_invoice"


class Fault(Enum):
    """What goes wrong with one request. All but the first two act before they answer."""

    SILENT = auto()  # neither acts nor answers
    ERROR = auto()  # answers `MemoryService.error`
    LOST = auto()  # never answers
    ERROR_AFTER = auto()  # answers `MemoryService.error` all the same
    GARBAGE = auto()  # an answer that cannot be decrypted
    NOT_JSON = auto()
    OTHER_METHOD = auto()  # an answer to something else
    WRONG_PREIMAGE = auto()
    DUPLICATE = auto()  # answers twice
    WRONG_AUTHOR = auto()  # a stranger answers first
    REPLAY = auto()  # its previous answer comes once more first


_UNANSWERED = (Fault.SILENT, Fault.LOST)


@dataclass
class Entry:
    """An invoice or a payment of the service."""

    invoice: invoices.Bolt11
    amount_msat: int
    incoming: bool
    state: State
    fee_msat: int = 0
    preimage: bytes | None = None

    def fields(self) -> dict[str, Any]:
        """As NIP-47 tells it."""
        return {
            "type": "incoming" if self.incoming else "outgoing",
            "state": self.state.value,
            "invoice": self.invoice.text,
            "payment_hash": self.invoice.payment_hash.hex(),
            "preimage": self.preimage.hex() if self.preimage else None,
            "amount": self.amount_msat,
            "fees_paid": self.fee_msat,
            "created_at": self.invoice.created,
            "expires_at": self.invoice.expires,
        }


class Refusal(Exception):
    """An error to answer with."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.fields = {"code": code, "message": message}


class MemoryService:
    """A wallet service. Used as `async with MemoryService(relay) as service`.

    Args:
        dial: how to reach its relay, such as a `MemoryRelay`.
        lightning: the network it pays on, which decides what becomes of its payments. One that is
            pending there is not answered.
        balance_msat: what it has.
        encryptions, methods: what its info event says.

    Attributes:
        text: the connection string.
        faults: what goes wrong with the next requests, one each.
        paid: payment hashes in the order in which money moved. The oracle.
        asked: the methods it was asked for.
        remembers: whether payments can be looked up.
        shows_preimages: whether one that is looked up comes with its preimage.
    """

    def __init__(
        self,
        dial: Dial,
        *,
        url: str = URL,
        lightning: MemoryLightning,
        balance_msat: int = 1_000_000,
        encryptions: str = "nip44_v2 nip04",
        methods: str = METHODS,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.key, secret = SecretKey.new(), secrets.token_bytes(32)
        self.text = f"nostr+walletconnect://{self.key.public}?relay={url}&secret={secret.hex()}"
        self.client = Connection.parse(self.text).key.public
        self.lightning, self.balance_msat = lightning, balance_msat
        self.faults: deque[Fault] = deque()
        self.error = {"code": "INTERNAL", "message": "something broke"}
        self.paid: list[bytes] = []
        self.asked: list[str] = []
        self.entries: dict[bytes, Entry] = {}
        self.remembers = True
        self.shows_preimages = True
        self._now, self._encryptions, self._methods = now, encryptions, methods
        self._relay = Relay(url, dial=dial)
        self._secret = nip44.conversation_key(self.key, self.client)
        self._last: Event | None = None
        self._task: asyncio.Task[None] | None = None
        self._news = asyncio.Event()

    async def __aenter__(self) -> Self:
        await self._relay.publish(self.info())
        ready = asyncio.Event()
        self._task = asyncio.create_task(self._serve(ready))
        await ready.wait()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._relay.aclose()

    async def was_asked(self, method: str) -> None:
        """Waits until somebody has asked it for this."""
        while method not in self.asked:
            self._news.clear()
            await self._news.wait()

    def info(self) -> Event:
        """Its info event."""
        tags = [["encryption", self._encryptions]] if self._encryptions else []
        return Event.make(self.key, messages.INFO_KIND, self._methods, tags=tags, now=self._now())

    async def _serve(self, ready: asyncio.Event) -> None:
        wanted = Filter(
            kinds=(messages.REQUEST_KIND,),
            authors=(self.client,),
            tags={"p": (self.key.public,)},
            since=int(self._now()),
        )
        async with self._relay.subscribe(wanted) as requests:
            await requests.stored()
            ready.set()
            async for event in requests:
                await self._handle(event)

    async def _handle(self, event: Event) -> None:
        asked = json.loads(nip44.decrypt(event.content, self._secret))
        if int(event.tag("expiration") or 2**53) < self._now():
            return
        method, fault = asked["method"], self.faults.popleft() if self.faults else None
        self.asked.append(method)
        self._news.set()
        answer = self._answer(method, asked["params"], fault)
        if fault not in _UNANSWERED and answer is not None:
            await self._send(event, answer, fault)

    def _answer(
        self, method: str, params: dict[str, Any], fault: Fault | None
    ) -> dict[str, Any] | None:
        failed = {"result_type": method, "error": self.error, "result": None}
        if fault in (Fault.SILENT, Fault.ERROR):
            return failed
        act = {
            "pay_invoice": self._pay,
            "get_balance": self._balance,
            "lookup_invoice": self._look_up,
            "make_invoice": self._make,
        }
        try:
            result = act[method](params, fault)
        except Refusal as refusal:
            return {"result_type": method, "error": refusal.fields, "result": None}
        if result is None:
            return None
        if fault is Fault.ERROR_AFTER:
            return failed
        named = "get_info" if fault is Fault.OTHER_METHOD else method
        return {"result_type": named, "error": None, "result": result}

    # ── what it can do ──────────────────────────────────────────────────────────────────────

    def _pay(self, params: dict[str, Any], fault: Fault | None) -> dict[str, Any] | None:
        invoice = invoices.read(params["invoice"])
        known = self.entries.get(invoice.payment_hash)
        if known is not None and known.state in (State.SETTLED, State.PENDING):
            raise Refusal("OTHER", "this invoice was paid, or is being paid")
        entry = Entry(invoice, invoice.amount_msat or params.get("amount", 0), False, State.PENDING)
        if entry.amount_msat + self.lightning.fee_msat > self.balance_msat:
            raise Refusal("INSUFFICIENT_BALANCE", "not enough")
        self.entries[invoice.payment_hash] = entry
        sent = self.lightning.send(
            invoice.text, entry.amount_msat, lambda payment: self._end(entry, payment)
        )
        self._end(entry, sent)
        if entry.state is State.FAILED:
            raise Refusal("PAYMENT_FAILED", "no route")
        if entry.preimage is None:
            return None
        shown = bytes(32) if fault is Fault.WRONG_PREIMAGE else entry.preimage
        return {"preimage": shown.hex(), "fees_paid": entry.fee_msat}

    def _end(self, entry: Entry, payment: Payment) -> None:
        if payment.outcome is Outcome.PAID:
            entry.state, entry.fee_msat = State.SETTLED, payment.fee_msat
            entry.preimage = payment.invoice.preimage
            self.balance_msat -= entry.amount_msat + entry.fee_msat
            self.paid.append(entry.invoice.payment_hash)
        elif payment.outcome is Outcome.FAILED:
            entry.state = State.FAILED

    def _balance(self, params: dict[str, Any], fault: Fault | None) -> dict[str, Any]:
        return {"balance": self.balance_msat}

    def _look_up(self, params: dict[str, Any], fault: Fault | None) -> dict[str, Any]:
        entry = self.entries.get(bytes.fromhex(params["payment_hash"]))
        if entry is None or not self.remembers:
            raise Refusal("NOT_FOUND", "no such invoice")
        return entry.fields() | ({} if self.shows_preimages else {"preimage": None})

    def _make(self, params: dict[str, Any], fault: Fault | None) -> dict[str, Any]:
        def paid() -> None:
            entry.state = State.SETTLED
            self.balance_msat += entry.amount_msat

        text = self.lightning.invoice(
            params["amount"],
            description=params.get("description", ""),
            expiry_s=params.get("expiry", 3_600),
            on_paid=paid,
        )
        entry = Entry(invoices.read(text), params["amount"], True, State.PENDING)
        self.entries[entry.invoice.payment_hash] = entry
        return entry.fields()

    # ── its answers ─────────────────────────────────────────────────────────────────────────

    async def _send(self, event: Event, answer: dict[str, Any], fault: Fault | None) -> None:
        text = "no json" if fault is Fault.NOT_JSON else json.dumps(answer)
        content = "garbage" if fault is Fault.GARBAGE else nip44.encrypt(text, self._secret)
        if fault is Fault.WRONG_AUTHOR:
            await self._publish(self._reply(SecretKey.new(), event, content))
        if fault is Fault.REPLAY and self._last is not None:
            await self._publish(self._last)
        if fault is Fault.DUPLICATE:
            await self._publish(self._reply(self.key, event, nip44.encrypt(text, self._secret)))
        self._last = self._reply(self.key, event, content)
        await self._publish(self._last)

    def _reply(self, key: SecretKey, event: Event, content: str) -> Event:
        tags = [["p", self.client], ["e", event.id]]
        return Event.make(key, messages.RESPONSE_KIND, content, tags=tags, now=self._now())

    async def _publish(self, event: Event) -> None:
        try:
            await self._relay.publish(event)
        except (RelayError, RelayLostError):
            return  # the client will look it up
