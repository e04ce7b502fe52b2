"""A relay in memory, for tests and for trying things out.

It speaks NIP-01 in the frames a real one would, behind the same seam; `serve` puts it on a
loopback websocket. It keeps ephemeral events too, as relays for NIP-47 do.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterable
from typing import Any

from wallet.errors import ParseError, RelayError, RelayLostError, WalletError
from wallet.nwc.events import Event, Filter
from wallet.nwc.relay import decode


class MemoryRelay:
    """A relay. Used as a `Dial`, each call is a new connection.

    Attributes:
        stored: every event it took.
        down: refuse connections.
        refusal: what it answers to events instead of taking them.
        deaf: take events, and acknowledge nothing.
        sloppy: send every event to everybody, and again each time it is published.
    """

    def __init__(self) -> None:
        self.stored: dict[str, Event] = {}
        self.down = False
        self.refusal = ""
        self.deaf = False
        self.sloppy = False
        self.connections = 0
        self._news = asyncio.Event()
        self._sessions: list[Session] = []

    async def __call__(self, url: str) -> Session:
        """A connection. Raises RelayError while it is down."""
        if self.down:
            raise RelayError(f"no connection to {url}: the relay is down")
        session = Session(self)
        self._sessions.append(session)
        self.connections += 1
        return session

    def drop(self) -> None:
        """Breaks every connection."""
        for session in tuple(self._sessions):
            session.close()

    def end(self, reason: str) -> None:
        """Ends every subscription."""
        for session in self._sessions:
            session.end(reason)

    def tell(self, frame: str) -> None:
        """Sends a frame, whatever it is, to everybody."""
        for session in self._sessions:
            session.put(frame)

    def take(self, event: Event) -> None:
        """Stores an event, and sends it to whoever asked for such."""
        self.stored[event.id] = event
        self._news.set()
        for session in self._sessions:
            session.offer(event)

    async def holds(self, wanted: Filter) -> Event:
        """Waits until it has taken an event that matches; returns the first."""
        while not (found := _stored(self.stored.values(), (wanted,))):
            self._news.clear()
            await self._news.wait()
        return found[-1]

    def forget(self, session: Session) -> None:
        """Has one connection less."""
        if session in self._sessions:
            self._sessions.remove(session)


class Session:
    """One connection to a `MemoryRelay`: the relay's side of NIP-01, the client's of `Socket`."""

    def __init__(self, relay: MemoryRelay) -> None:
        self._relay = relay
        self._frames: asyncio.Queue[str | None] = asyncio.Queue()
        self._wanted: dict[str, tuple[Filter, ...]] = {}
        self._open = True

    async def send(self, text: str) -> None:
        """A frame from the client."""
        if not self._open:
            raise RelayLostError("the connection to the relay broke")
        try:
            kind, *rest = decode(text)
            self._do(kind, rest)
        except (WalletError, IndexError, TypeError) as error:
            self._say("NOTICE", f"error: {error}")

    def _do(self, kind: str, rest: list[Any]) -> None:
        if kind == "EVENT":
            self._publish(Event.parse(rest[0]))
        elif kind == "REQ":
            filters = tuple(Filter.parse(raw) for raw in rest[1:])
            self._wanted[rest[0]] = filters
            for event in _stored(self._relay.stored.values(), filters):
                self._say("EVENT", rest[0], event.to_json())
            self._say("EOSE", rest[0])
        elif kind == "CLOSE":
            self._wanted.pop(rest[0], None)
        else:
            raise ParseError(f"unknown message {kind}")

    def _publish(self, event: Event) -> None:
        if self._relay.refusal:
            self._say("OK", event.id, False, self._relay.refusal)
            return
        known = event.id in self._relay.stored
        if not self._relay.deaf:
            self._say("OK", event.id, True, "duplicate: known" if known else "")
        if not known or self._relay.sloppy:
            self._relay.take(event)

    def offer(self, event: Event) -> None:
        """Sends an event to every subscription that wants it."""
        for name, filters in self._wanted.items():
            if self._relay.sloppy or any(wanted.matches(event) for wanted in filters):
                self._say("EVENT", name, event.to_json())

    def end(self, reason: str) -> None:
        """Ends every subscription from the relay's side."""
        for name in tuple(self._wanted):
            self._say("CLOSED", name, reason)
        self._wanted.clear()

    def put(self, frame: str) -> None:
        """Sends a frame to the client."""
        self._frames.put_nowait(frame)

    def _say(self, *message: Any) -> None:
        self.put(json.dumps(message))

    async def receive(self) -> str:
        """The next frame for the client."""
        frame = await self._frames.get()
        if frame is None:
            raise RelayLostError("the connection to the relay broke")
        return frame

    def close(self) -> None:
        """Breaks the connection."""
        self._open = False
        self._relay.forget(self)
        self._frames.put_nowait(None)

    async def aclose(self) -> None:
        """Ends the connection."""
        self.close()


def _stored(events: Iterable[Event], filters: tuple[Filter, ...]) -> list[Event]:
    newest = sorted(events, key=lambda event: (-event.created_at, event.id))
    found: dict[str, Event] = {}
    for wanted in filters:
        matching = [event for event in newest if wanted.matches(event)]
        found.update((event.id, event) for event in matching[: wanted.limit])
    return list(found.values())


@contextlib.asynccontextmanager
async def serve(relay: MemoryRelay, *, port: int = 0) -> AsyncIterator[str]:
    """The relay on a loopback websocket; yields its address."""
    from websockets.asyncio.server import ServerConnection
    from websockets.asyncio.server import serve as listen
    from websockets.exceptions import ConnectionClosed

    async def talk(connection: ServerConnection) -> None:
        session = await relay("")

        async def speak() -> None:
            with contextlib.suppress(RelayLostError, ConnectionClosed):
                while True:
                    await connection.send(await session.receive())
            await connection.close()

        speaking = asyncio.create_task(speak())
        try:
            async for frame in connection:
                await session.send(str(frame))
        except (RelayLostError, ConnectionClosed):
            pass  # dropped from the relay's side, where speak closes it, or from the client's
        finally:
            session.close()
            await speaking

    async with listen(talk, "127.0.0.1", port) as server:
        yield f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"
