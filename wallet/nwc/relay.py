"""A relay's client (NIP-01): one connection, kept open while anybody listens.

Everything a relay sends is checked before it is believed: an event that is malformed, wrongly
signed, seen before on the same subscription, or not what was asked for is dropped without a word,
since a relay is nobody's friend. A connection that breaks is made again while there are
subscriptions, and they are asked for again; an event whose acknowledgement was lost with it is
reported as `RelayLostError` and never sent a second time from here. A relay that only talks
nonsense is hung up on: reading on would take the time of everything else in the process.

The seam is `Dial`: one coroutine that opens a `Socket` of text frames. Real: `websocket.dial`;
double: `testing.MemoryRelay`.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, Protocol

from wallet.errors import ParseError, RelayError, RelayLostError, VerificationError
from wallet.nwc.events import Event, Filter
from wallet.nwc.subscription import Subscription

PATIENCE = 4_096  # frames in a row that say nothing, before a connection is given up
DELAYS_S = (0.5, 1.0, 2.0, 5.0, 15.0, 60.0)  # before each attempt to connect again
_REASON = 200


class Socket(Protocol):
    """A connection of text frames."""

    async def send(self, text: str) -> None:
        """Sends one frame. Raises RelayLostError where the connection is gone."""
        ...

    async def receive(self) -> str:
        """The next frame. Raises RelayLostError where the connection is gone."""
        ...

    async def aclose(self) -> None:
        """Ends the connection; never raises for one that is gone."""
        ...


class Dial(Protocol):
    """Opens connections."""

    async def __call__(self, url: str) -> Socket:
        """A connection to the relay at `url`. Raises RelayError where there is none."""
        ...


def plain(text: object) -> str:
    """What a stranger wrote, fit for an error message: one bounded line."""
    shown = "".join(c if c.isprintable() else " " for c in str(text)[:_REASON])
    return shown.strip() or "no reason given"


def decode(text: str) -> list[Any]:
    """A frame's message.

    Raises:
        ParseError: it is no JSON array that begins with a text.
    """
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        raise ParseError("a relay's frame is not JSON") from None
    if not isinstance(message, list) or not message or not isinstance(message[0], str):
        raise ParseError("a relay's frame is not a message")
    return message


class Relay:
    """One relay.

    Args:
        url: its address.
        dial: how to connect.
        timeout_s: how long a connection, an acknowledgement or a query may take.
        sleep: how to wait between attempts to connect again.
    """

    def __init__(
        self,
        url: str,
        *,
        dial: Dial,
        timeout_s: float = 10.0,
        sleep: Callable[[float], Coroutine[Any, Any, None]] = asyncio.sleep,
    ) -> None:
        self.url = url
        self._dial, self._timeout_s, self._sleep = dial, timeout_s, sleep
        self._socket: Socket | None = None
        self._dialling = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._answers: dict[str, asyncio.Future[tuple[bool, str]]] = {}
        self._subscriptions: dict[str, Subscription] = {}
        self._names = itertools.count(1)
        self._closed = False

    # ── what one can do with it ─────────────────────────────────────────────────────────────

    async def publish(self, event: Event) -> None:
        """Gives the relay an event and waits until it has taken it.

        Raises:
            RelayError: it did not take it.
            RelayLostError: nobody knows.
        """
        socket = await self._connected()
        answer = self._answers.get(event.id)
        if answer is None:
            answer = self._answers[event.id] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(self._timeout_s):
                await socket.send(_encode(["EVENT", event.to_json()]))
                taken, reason = await asyncio.shield(answer)
        except TimeoutError:
            raise RelayLostError(f"{self.url} did not say whether it took an event") from None
        finally:
            self._answers.pop(event.id, None)
        if not taken and not reason.startswith("duplicate"):
            raise RelayError(f"{self.url} refused an event: {reason}")

    async def query(self, *filters: Filter) -> tuple[Event, ...]:
        """The stored events that match, as many as one is shown.

        Raises:
            RelayError: the relay cannot be reached, refuses, or takes too long.
        """
        try:
            async with asyncio.timeout(self._timeout_s), self.subscribe(*filters) as events:
                return await events.stored()
        except TimeoutError:
            raise RelayError(f"{self.url} did not answer a query in time") from None

    @contextlib.asynccontextmanager
    async def subscribe(self, *filters: Filter) -> AsyncIterator[Subscription]:
        """Events that match any of the filters, until the block's end. Raises RelayError."""
        subscription = Subscription(f"s{next(self._names)}", filters)
        await self._add(subscription)
        try:
            yield subscription
        finally:
            await self._remove(subscription)

    async def aclose(self) -> None:
        """Ends the connection and everything that waits on it."""
        self._closed = True
        for subscription in self._subscriptions.values():
            subscription.fail(RelayError(f"{self.url} was closed here"))
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # ── subscriptions ───────────────────────────────────────────────────────────────────────

    async def _add(self, subscription: Subscription) -> None:
        """Asks for its events, now and after each reconnection. Raises RelayError."""
        socket = await self._connected()
        self._subscriptions[subscription.name] = subscription
        try:
            await socket.send(_encode(subscription.request))
        except RelayLostError:
            pass  # the reader sees it too, connects again and asks for every subscription
        except BaseException:
            self._subscriptions.pop(subscription.name, None)
            raise

    async def _remove(self, subscription: Subscription) -> None:
        """Wants no more of its events."""
        known = self._subscriptions.pop(subscription.name, None)
        if known is None or self._socket is None:
            return
        try:
            await self._socket.send(_encode(["CLOSE", subscription.name]))
        except RelayLostError:
            return  # with the connection went the subscription

    # ── the connection ──────────────────────────────────────────────────────────────────────

    async def _connected(self) -> Socket:
        async with self._dialling:
            if self._closed:
                raise RelayError(f"{self.url} was closed here")
            if self._socket is None:
                socket = await self._open()
                self._socket = socket
                self._run(self._read(socket))
            return self._socket

    async def _open(self) -> Socket:
        try:
            async with asyncio.timeout(self._timeout_s):
                socket = await self._dial(self.url)
        except TimeoutError:
            raise RelayError(f"{self.url} did not answer in time") from None
        try:
            for subscription in self._subscriptions.values():
                await socket.send(_encode(subscription.request))
        except RelayLostError as error:
            await socket.aclose()
            raise RelayError(error.message) from None
        return socket

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _read(self, socket: Socket) -> None:
        left = PATIENCE
        try:
            while left:
                left = PATIENCE if self._take(await socket.receive()) else left - 1
            raise RelayLostError(f"{self.url} only talks nonsense")
        except RelayLostError:
            if not self._closed and self._subscriptions:
                self._run(self._reconnect())
        finally:
            self._socket = None
            for answer in self._answers.values():
                if not answer.done():
                    answer.set_exception(RelayLostError(f"the connection to {self.url} broke"))
            await socket.aclose()

    async def _reconnect(self) -> None:
        for delay_s in itertools.chain(DELAYS_S, itertools.repeat(DELAYS_S[-1])):
            await self._sleep(delay_s)
            if not self._subscriptions:
                return
            try:
                await self._connected()
            except RelayError:
                continue
            return

    # ── what comes in ───────────────────────────────────────────────────────────────────────

    def _take(self, text: str) -> bool:
        """Does what a frame says; whether it said anything."""
        try:
            kind, *rest = decode(text)
        except ParseError:
            return False
        if kind == "OK" and len(rest) >= 2:
            return self._acknowledged(*rest[:3])
        if rest and isinstance(rest[0], str) and rest[0] in self._subscriptions:
            return self._told(kind, self._subscriptions[rest[0]], rest[1:])
        return False

    def _acknowledged(self, event_id: object, taken: object, reason: object = "") -> bool:
        answer = self._answers.get(event_id) if isinstance(event_id, str) else None
        if answer is None or answer.done() or not isinstance(taken, bool):
            return False
        answer.set_result((taken, plain(reason)))
        return True

    def _told(self, kind: str, subscription: Subscription, rest: list[Any]) -> bool:
        if kind == "EVENT" and rest:
            try:
                return subscription.take(Event.parse(rest[0]))
            except (ParseError, VerificationError):
                return False
        if kind == "EOSE":
            return subscription.end_of_stored()
        if kind == "CLOSED":
            self._subscriptions.pop(subscription.name, None)
            why = plain(rest[0] if rest else "")
            subscription.fail(RelayError(f"{self.url} ended a subscription: {why}"))
            return True
        return False


def _encode(message: list[Any]) -> str:
    return json.dumps(message, separators=(",", ":"), ensure_ascii=False)
