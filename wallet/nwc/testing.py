"""A relay and a wallet service in memory, for tests and for trying things out.

`MemoryRelay` speaks NIP-01 in the frames a real one would, behind the same seam; `serve` puts it
on a loopback websocket. `MemoryService` is a client of the relay like any wallet service, pays
out of its own balance, and keeps what it really did (`payments`, `sent`) apart from what it says,
so that a test can hold one against the other. `Fault` is what may go wrong with an answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from hashlib import sha256
from types import TracebackType
from typing import Any, Self

from wallet.errors import ParseError, RelayError, RelayLostError, WalletError
from wallet.nwc import messages, nip44
from wallet.nwc.connection import Connection
from wallet.nwc.events import Event, Filter
from wallet.nwc.keys import SecretKey
from wallet.nwc.messages import State
from wallet.nwc.relay import Dial, Relay, decode

URL = "ws://localhost:7777"


class MemoryRelay:
    """A relay. Used as a `Dial`, each call is a new connection.

    Attributes:
        stored: every event it took, ephemeral ones too, as relays for NIP-47 do.
        down: refuse connections.
        refusal: what it answers to events instead of taking them.
        deaf: take events, and acknowledge nothing.
    """

    def __init__(self) -> None:
        self.stored: dict[str, Event] = {}
        self.down = False
        self.refusal = ""
        self.deaf = False
        self.connections = 0
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

    def tell(self, frame: str) -> None:
        """Sends a frame, whatever it is, to everybody."""
        for session in self._sessions:
            session.put(frame)

    def take(self, event: Event) -> None:
        """Stores an event, and sends it to whoever asked for such."""
        self.stored[event.id] = event
        for session in self._sessions:
            session.offer(event)

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
        if not known:
            self._relay.take(event)

    def offer(self, event: Event) -> None:
        """Sends an event to every subscription that wants it."""
        for name, filters in self._wanted.items():
            if any(wanted.matches(event) for wanted in filters):
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


def _stored(events: Any, filters: tuple[Filter, ...]) -> list[Event]:
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
        except RelayLostError:
            pass  # it was dropped from the relay's side; speak closes it
        finally:
            session.close()
            await speaking

    async with listen(talk, "127.0.0.1", port) as server:
        yield f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"


class Fault(Enum):
    """What may go wrong with one request. All but SILENT and ERROR act first."""

    LOST = auto()  # acts, and never answers
    SILENT = auto()  # neither acts nor answers
    HELD = auto()  # a payment is under way and stays so
    ERROR = auto()  # answers `MemoryService.error` and does not act
    ERROR_AFTER = auto()  # acts, then answers `MemoryService.error`
    GARBAGE = auto()  # an answer nobody can decrypt
    NOT_JSON = auto()
    OTHER_METHOD = auto()  # an answer to something else
    WRONG_PREIMAGE = auto()
    DUPLICATE = auto()  # two answers
    WRONG_AUTHOR = auto()  # a stranger's answer first
    REPLAY = auto()  # its previous answer once more first
    DROP = auto()  # acts, and every connection breaks before the answer is out


@dataclass
class Entry:
    """An invoice or payment of the service."""

    fields: dict[str, Any]
    preimage: bytes = field(repr=False)


class MemoryService:
    """A wallet service. Used as `async with MemoryService(relay) as service`.

    Args:
        relay: where it listens.
        network: preimages by payment hash, of every invoice that can be paid here.
        read: the payment hash and amount in msat of an invoice.
        invoice: makes an invoice of an amount in msat, a description and a preimage.
        encryptions, methods: what its info event says.

    Attributes:
        faults: what goes wrong with the next requests, one each.
        paid: payment hashes in the order they were really paid; the oracle.
    """

    def __init__(
        self,
        dial: Dial,
        *,
        url: str = URL,
        network: dict[bytes, bytes] | None = None,
        read: Callable[[str], tuple[bytes, int | None]],
        invoice: Callable[[int, str, bytes], str],
        balance_msat: int = 1_000_000,
        fee_msat: int = 1_000,
        encryptions: str = "nip44_v2 nip04",
        methods: str = "pay_invoice get_balance make_invoice lookup_invoice get_info",
        now: Callable[[], float] = time.time,
    ) -> None:
        self.key, client = SecretKey.new(), secrets.token_bytes(32)
        self.text = f"nostr+walletconnect://{self.key.public}?relay={url}&secret={client.hex()}"
        self.connection = Connection.parse(self.text)
        self.network = {} if network is None else network
        self.balance_msat, self.fee_msat = balance_msat, fee_msat
        self.faults: deque[Fault] = deque()
        self.error = {"code": "INTERNAL", "message": "something broke"}
        self.paid: list[bytes] = []
        self.entries: dict[bytes, Entry] = {}
        self.requests: list[str] = []
        self.idle = asyncio.Event()
        self._dial, self._read, self._invoice, self._now = dial, read, invoice, now
        self._encryptions, self._methods = encryptions, methods
        self._relay = Relay(url, dial=dial)
        self._secret = nip44.conversation_key(self.key, self.connection.key.public)
        self._last: Event | None = None
        self._task: asyncio.Task[None] | None = None
