"""A whole mint in memory, behind the Transport seam.

It signs with real keys and refuses what a real mint refuses, so a wallet that works against it
works against one over HTTP; what it adds is switches (`faults`), a `hook` at each request, a
Lightning network whose outcomes a test decides, and books to hold the wallet's balance against.
Requests are acted on one after another, each at once: between two of them all is at rest.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Literal

from wallet.errors import MintUnreachableError, OutcomeUnknownError
from wallet.mint.testing.answers import KEPT
from wallet.mint.testing.desk import Desk
from wallet.mint.testing.faults import ACTS, Fault, Faults, spoil
from wallet.mint.testing.ledger import Ledger
from wallet.mint.testing.lightning import MemoryLightning
from wallet.mint.testing.quotes import Quotes
from wallet.mint.testing.refused import Refused
from wallet.mint.testing.sockets import MemorySocket
from wallet.types import TransportRequest, TransportResponse

Moment = Literal["before", "after"]
Hook = Callable[[Moment, TransportRequest], Awaitable[None] | None]


class MemoryMint:
    """A mint; give it to a MintClient as its transport.

    Args:
        url: what it calls itself.
        units: it has a keyset for each.
        fee_ppk: fee per 1,000 inputs, in the unit (NUT-02).
        keyset_version: 1 or 2, of the keysets' ids.
        lightning: the network it is on, where several mints share one.
        cached: keeps its replies (NUT-19).
        bits: amounts are powers of two below 2**bits.
        seed: its private keys come from it.
        now: Unix seconds.

    Attributes:
        faults: what goes wrong with requests to come.
        hook: called before the mint acts on a request and after, before its reply goes out; may
            be a coroutine function, and may raise.
        requests: all that were sent, in order.
        lost: those of them that did not arrive, with the time; `arrive` lets one in.
        without: numbers of NUTs it does not offer.
    """

    def __init__(
        self,
        url: str = "https://mint.example",
        *,
        units: tuple[str, ...] = ("sat",),
        fee_ppk: int = 0,
        keyset_version: int = 2,
        lightning: MemoryLightning | None = None,
        cached: bool = False,
        bits: int = 24,
        seed: bytes = b"a mint in memory",
        now: Callable[[], float] = time.time,
    ) -> None:
        self.url = url
        self.lightning = lightning or MemoryLightning(now=now)
        self.ledger = Ledger(seed=seed + url.encode(), bits=bits, now=now)
        self.quotes = Quotes(self.ledger, self.lightning, now=now)
        self.faults = Faults()
        self.hook: Hook | None = None
        self.requests: list[TransportRequest] = []
        self.lost: list[tuple[float, TransportRequest]] = []
        self.without: set[int] = set() if cached else {19}
        self.desk = Desk(url, self.ledger, self.quotes, self.without)
        self._fee_ppk, self._version, self._now = fee_ppk, keyset_version, now
        self._kept: dict[tuple[str, bytes | None], Any] = {}
        self._sockets: set[MemorySocket] = set()
        for unit in units:
            self.ledger.add_keyset(unit, version=keyset_version, fee_ppk=fee_ppk)

    # ── the wallet's side: Transport ────────────────────────────────────────────────────────

    async def send(self, request: TransportRequest) -> TransportResponse:
        """See `wallet.types.Transport`."""
        await asyncio.sleep(0)  # others get their turn, as over a network
        fault = self.faults.take(request.path)
        if fault is Fault.UNREACHABLE:
            raise MintUnreachableError(f"mint {self.url} cannot be reached")
        try:
            await self._call_hook("before", request)
        except BaseException:  # whoever sent it is gone, and it may be on its way
            self.lost.append((self._now(), request))
            raise
        self.requests.append(request)
        if fault is Fault.LOST_REQUEST:
            self.lost.append((self._now(), request))
            raise OutcomeUnknownError(f"mint {self.url} did not answer")
        if fault is not None and fault not in ACTS:
            return _without_acting(fault)
        status, value = self._respond(request)
        self._tell()
        await self._call_hook("after", request)
        return await self._reply(status, value, fault)

    @contextlib.asynccontextmanager
    async def socket(self) -> AsyncIterator[MemorySocket]:
        """See `wallet.mint.updates.Subscribes`."""
        await asyncio.sleep(0)
        if self.faults.take("/v1/ws") is not None:
            raise MintUnreachableError(f"mint {self.url} has no websocket now")
        opened = MemorySocket(self.desk.state)
        self._sockets.add(opened)
        try:
            yield opened
        finally:
            self._sockets.discard(opened)

    async def aclose(self) -> None:
        """Nothing to let go of."""

    # ── the test's side ─────────────────────────────────────────────────────────────────────

    def pay(self, request: str) -> bytes:
        """Somebody outside pays an invoice on the mint's network. The preimage."""
        preimage = self.lightning.pay(request)
        self._tell()
        return preimage

    def arrive(self, number: int = 0) -> TransportResponse:
        """A request that was lost arrives after all; nobody reads the answer."""
        _, request = self.lost.pop(number)
        status, value = self._respond(request)
        self._tell()
        return TransportResponse(status, json.dumps(value).encode())

    def rotate(
        self,
        unit: str = "sat",
        *,
        fee_ppk: int | None = None,
        version: int | None = None,
        final_expiry: int | None = None,
    ) -> str:
        """A new keyset takes over (NUT-02). Its id."""
        return self.ledger.add_keyset(
            unit,
            version=self._version if version is None else version,
            fee_ppk=self._fee_ppk if fee_ppk is None else fee_ppk,
            final_expiry=final_expiry,
        )

    def issued(self, unit: str = "sat") -> int:
        """The sum of all it ever signed."""
        return self.ledger.issued[unit]

    def redeemed(self, unit: str = "sat") -> int:
        """The sum of all that was ever spent."""
        return self.ledger.redeemed[unit]

    def outstanding(self, unit: str = "sat") -> int:
        """What wallets hold between them."""
        return self.issued(unit) - self.redeemed(unit)

    def hang_up(self) -> None:
        """Closes the websockets that are open."""
        for opened in self._sockets:
            opened.hang_up()

    @property
    def sockets(self) -> tuple[MemorySocket, ...]:
        """The websockets that are open."""
        return tuple(self._sockets)

    # ────────────────────────────────────────────────────────────────────────────────────────

    async def _call_hook(self, moment: Moment, request: TransportRequest) -> None:
        if self.hook is not None:
            done = self.hook(moment, request)
            if inspect.isawaitable(done):
                await done

    def _respond(self, request: TransportRequest) -> tuple[int, Any]:
        kept = 19 not in self.without and request.method == "POST" and request.path in KEPT
        key = (request.path, request.body)
        if kept and key in self._kept:
            return 200, self._kept[key]
        try:
            value = self.desk.answer(request)
        except Refused as refused:
            return refused.status, {"detail": refused.detail, "code": refused.code}
        if kept:
            self._kept[key] = value
        return 200, value

    async def _reply(self, status: int, value: Any, fault: Fault | None) -> TransportResponse:
        if fault is Fault.LOST_REPLY:
            raise OutcomeUnknownError(f"mint {self.url} broke off without an answer")
        if fault is Fault.NO_ANSWER:
            await asyncio.Event().wait()
        if fault is Fault.ACTED_500:
            return TransportResponse(500, b"Internal Server Error")
        if fault is Fault.GARBAGE:
            return TransportResponse(200, b"<html>\xff\x00")
        spoiled = spoil(fault, value) if fault is not None and status == 200 else value
        body = json.dumps(spoiled).encode()
        return TransportResponse(status, body[: len(body) // 2] if fault is Fault.CUT_OFF else body)

    def _tell(self) -> None:
        for opened in self._sockets:
            opened.tell()


def _without_acting(fault: Fault) -> TransportResponse:
    if fault is Fault.NOT_A_MINT:
        return TransportResponse(404, b"<html><body>Not Found</body></html>")
    return TransportResponse(500, b"Internal Server Error")
