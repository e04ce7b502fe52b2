"""Lightning addresses and payment requests over HTTP on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from wallet.errors import PayeeError, RefusedError, WalletError
from wallet.lightning import HttpWeb, WebReply, WebRequest
from wallet.lightning.testing import Handler, MemoryPayee
from wallet.protocol import requests
from wallet.protocol.requests import Transport
from wallet.testing import World


@asynccontextmanager
async def serve(handler: Handler) -> AsyncIterator[str]:
    """A handler on a port; yields host:port."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        fields = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
        length = next((int(v) for k, v in fields.items() if k.lower() == "content-length"), 0)
        method, path, _ = head.split(" ", 2)
        body = await reader.readexactly(length)
        verb = "POST" if method == "POST" else "GET"
        reply = await handler(WebRequest(verb, f"http://{fields['Host']}{path}", body))
        size = f"HTTP/1.1 {reply.status} X\r\nContent-Length: {len(reply.body)}\r\n\r\n"
        writer.write(size.encode() + reply.body)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(talk, "127.0.0.1", 0) as server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path)
    await made.funded("ann", 100)
    await made.funded("bob", 0)
    yield made
    await made.close()


@pytest.fixture
async def web() -> AsyncIterator[HttpWeb]:
    made = HttpWeb(loopback=True)
    yield made
    await made.aclose()


async def test_a_lightning_address(world: World, web: HttpWeb) -> None:
    ada = MemoryPayee("ada@here", world.lightning)
    async with serve(ada) as place:
        ada.base = f"http://{place}"
        paid = await world.wallets["ann"].pay_address(f"ada@{place}", 21, comment="hi", web=web)
        assert (paid.state, paid.amount) == ("paid", 21)
        assert ada.comments == ["hi"]
        with pytest.raises(PayeeError, match="nobody"):
            await world.wallets["ann"].pay_address(f"eve@{place}", 21, web=web)
        with pytest.raises(RefusedError, match="this machine"):  # only where the switch says so
            await world.wallets["ann"].pay_address(f"ada@{place}", 21)
    assert world.lightning.is_paid(ada.issued[0])


async def test_a_payment_request(world: World, web: HttpWeb) -> None:
    ann, bob = world.wallets["ann"], world.wallets["bob"]

    async def shop(request: WebRequest) -> WebReply:
        try:
            await bob.redeem(requests.payload_from_json(request.body or b""), asked)
        except WalletError as error:
            return WebReply(400, error.message.encode())
        return WebReply(200)

    async with serve(shop) as place:
        way = Transport("post", f"http://{place}/pay")
        asked = await bob.make_request(21, transports=(way,), single_use=True)
        paid = await ann.pay_request(requests.encode(asked), web=web, key="k")
        assert (paid.via, bob.balance(), ann.balance()) == ("post", 21, 79)
        with pytest.raises(PayeeError, match="paid already"):
            await ann.pay_request(asked, web=web, key="l")
        with pytest.raises(RefusedError, match="this machine"):
            await ann.pay_request(asked)
    assert await world.missing() == 0
