"""Nostr Wallet Connect over real websockets on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack

import pytest
from websockets.asyncio.server import ServerConnection
from websockets.asyncio.server import serve as listen
from websockets.http11 import Request, Response

from wallet.errors import ParseError, PaymentFailedError, RelayError, RelayLostError
from wallet.mint.testing import MemoryLightning, Outcome
from wallet.nwc import Connection, Event, Filter, NwcClient, NwcSource, Relay, SecretKey, dial
from wallet.nwc.memory import MemoryRelay, serve
from wallet.nwc.testing import MemoryService
from wallet.nwc.websocket import MAX_FRAME, dial_public
from wallet.protocol import invoices

NOW = 1_700_000_000.0


def clock() -> float:
    return NOW


class Wire:
    """A relay on a port, a wallet service and a client, each with a connection of its own."""

    def __init__(self) -> None:
        self.relay, self.lightning = MemoryRelay(), MemoryLightning(now=clock)
        self.invoice = invoices.read(self.lightning.invoice(21_000))

    async def start(self, stack: AsyncExitStack) -> Wire:
        self.url = await stack.enter_async_context(serve(self.relay))
        self.service = await stack.enter_async_context(
            MemoryService(dial, url=self.url, lightning=self.lightning, now=clock)
        )
        client = NwcClient(Connection.parse(self.service.text), now=clock)
        self.source = NwcSource(client, now=clock)
        stack.push_async_callback(self.source.aclose)
        return self


@pytest.fixture
async def wire() -> AsyncIterator[Wire]:
    async with AsyncExitStack() as stack:
        yield await Wire().start(stack)


async def test_an_invoice_is_paid(wire: Wire) -> None:
    paid = await wire.source.pay_invoice(wire.invoice)
    assert wire.invoice.proven_by(paid.preimage or b"")
    assert await wire.source.balance_msat() == 1_000_000 - 22_000
    made = await wire.source.make_invoice(1_000, description="tea")
    assert invoices.read(made.invoice or "").description == "tea"


async def test_the_connection_breaks_while_a_payment_is_under_way(wire: Wire) -> None:
    for relay in (*wire.source._client._relays, wire.service._relay):
        relay._sleep = lambda delay_s: asyncio.sleep(0)
    wire.lightning.outcome = Outcome.PENDING
    await wire.source._client.info()
    wire.source._client.payment_s = 0.5
    asking = asyncio.create_task(wire.source.pay_invoice(wire.invoice))
    await wire.service.was_asked("pay_invoice")
    wire.relay.drop()
    wire.lightning.end(wire.invoice.text, Outcome.PAID)
    paid = await asking  # by looking it up over a new connection
    assert paid.preimage is not None
    assert len(wire.service.paid) == 1
    assert wire.relay.connections >= 4


async def test_nobody_listens(wire: Wire) -> None:
    async with serve(MemoryRelay()) as url:
        pass
    text = wire.service.text.replace(wire.url, url)
    source = NwcSource(NwcClient(Connection.parse(text), now=clock), now=clock)
    with pytest.raises(PaymentFailedError, match="nothing was paid"):
        await source.pay_invoice(wire.invoice)
    await source.aclose()


async def test_a_frame_too_large_ends_the_connection() -> None:
    memory = MemoryRelay()
    key = SecretKey.new()
    async with serve(memory) as url:
        relay = Relay(url, dial=dial)
        relay._sleep = lambda delay_s: asyncio.sleep(0)
        async with relay.subscribe(Filter(authors=(key.public,))) as events:
            await events.stored()
            memory.tell("[" + " " * MAX_FRAME + '"NOTICE"]')
            memory.take(Event.make(key, 1, "after", now=NOW))
            assert (await anext(events)).content == "after"
        assert memory.connections == 2
        await relay.aclose()


async def test_binary_frames_say_nothing() -> None:
    async def talk(connection: ServerConnection) -> None:
        await connection.send(b"\x00\x01")
        await connection.send('["NOTICE", "text"]')
        await connection.wait_closed()

    async with listen(talk, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        socket = await dial(f"ws://127.0.0.1:{port}")
        assert await socket.receive() == '["NOTICE", "text"]'
        await socket.aclose()
        with pytest.raises(RelayLostError):
            await socket.receive()
        with pytest.raises(RelayLostError):
            await socket.send("x")


async def test_what_is_no_websocket() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    async with await asyncio.start_server(talk, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(RelayError, match="no connection"):
            await dial(f"ws://127.0.0.1:{port}")
        with pytest.raises(RelayError, match="no connection"):
            await dial(f"wss://127.0.0.1:{port}")
    with pytest.raises(ParseError):
        await dial("ws://relay.example")


async def test_a_relay_leads_to_no_other() -> None:
    memory = MemoryRelay()

    async def here(host: str, port: int) -> Iterable[str]:
        return ["127.0.0.1"]

    def moved(connection: ServerConnection, request: Request) -> Response:
        reply = connection.respond(302, "")
        reply.headers["Location"] = other
        return reply

    async with serve(memory) as other, listen(_silent, "127.0.0.1", 0, process_request=moved) as at:
        port = next(iter(at.sockets)).getsockname()[1]
        with pytest.raises(RelayError, match="no connection"):
            await dial(f"ws://127.0.0.1:{port}")
        with pytest.raises(RelayError, match="no connection"):
            await dial_public(f"ws://name.local:{port}", loopback=True, resolve=here)
    assert memory.connections == 0
    with pytest.raises(RelayError, match="no connection"):
        await dial("wss://relay..example")


async def test_an_address_that_does_not_answer_holds_nobody_up(
    monkeypatch: pytest.MonkeyPatch, deafen: Callable[[str, int], None]
) -> None:
    memory = MemoryRelay()
    async with serve(memory) as url:
        port = int(url.rpartition(":")[2])
        deafen("127.0.0.2", port)
        found = [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
            for address in ("127.0.0.2", "127.0.0.1")
        ]

        async def look_up(*_: object, **__: object) -> object:
            return found

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", look_up)
        opened = await dial(f"ws://relay.local:{port}")
        await opened.aclose()
    assert memory.connections == 1


async def _silent(connection: ServerConnection) -> None:
    await connection.wait_closed()


async def test_a_strangers_relay_leads_into_no_private_network() -> None:
    memory = MemoryRelay()

    async def here(host: str, port: int) -> Iterable[str]:
        return ["127.0.0.1"]

    async with serve(memory) as url:
        with pytest.raises(RelayError, match="private"):
            await dial_public(url)
        with pytest.raises(RelayError, match="private"):
            await dial_public("wss://evil.example", resolve=here)
        assert memory.connections == 0
        port = url.rpartition(":")[2]
        socket = await dial_public(f"ws://name.local:{port}", loopback=True, resolve=here)
        await socket.aclose()
        assert memory.connections == 1


async def test_a_strangers_relay_is_reached_at_any_of_its_addresses() -> None:
    memory = MemoryRelay()

    async def two(host: str, port: int) -> Iterable[str]:
        return ["127.0.0.2", "127.0.0.1"]

    async with serve(memory) as url:
        opened = await dial_public(
            url.replace("127.0.0.1", "name.local"), loopback=True, resolve=two
        )
        await opened.aclose()
    assert memory.connections == 1
