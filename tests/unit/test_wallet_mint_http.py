"""HttpTransport against servers that drip, flood, hang up, redirect, or are not there."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.asyncio.server import ServerConnection, serve

from wallet import network
from wallet.errors import (
    MintUnreachableError,
    OutcomeUnknownError,
    ParseError,
    RefusedError,
    WalletError,
)
from wallet.mint import HttpTransport, Patience, mint_url
from wallet.mint.http import _trust
from wallet.mint.limits import MOST_REPLY_BYTES
from wallet.mint.urls import websocket_url
from wallet.network import tor_addresses
from wallet.types import TransportRequest, TransportResponse

SOON = Patience(connect_s=5, ask_s=0.3, melt_s=0.3)
GET = TransportRequest("GET", "/v1/info")
POST = TransportRequest("POST", "/v1/swap", b'{"inputs":[]}')
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def reply(body: bytes, head: str = "", status: str = "200 OK") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{head}\r\n".encode() + body


@contextlib.asynccontextmanager
async def listening(handler: Handler, patience: Patience = SOON) -> AsyncIterator[HttpTransport]:
    """A transport to a server that does as the handler says with each connection."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        with contextlib.suppress(OSError, asyncio.CancelledError, asyncio.IncompleteReadError):
            await handler(reader, writer)
        writer.close()

    server = await asyncio.start_server(serve_one, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    transport = HttpTransport(f"http://127.0.0.1:{port}", patience=patience)
    try:
        yield transport
    finally:
        await transport.aclose()
        for task in tasks:
            task.cancel()
        server.close()
        await asyncio.gather(*tasks, return_exceptions=True)


def saying(*parts: bytes) -> Handler:
    """Reads a request, sends the parts, and closes."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for part in parts:
            writer.write(part)
            await writer.drain()

    return handler


async def test_a_request_arrives_as_it_is_and_its_reply_comes_back() -> None:
    got: list[bytes] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for length in (0, 13):
            got.append(await reader.readuntil(b"\r\n\r\n") + await reader.readexactly(length))
            writer.write(reply(b'{"a": 1}', status="400 Bad Request"))

    async with listening(handler) as transport:
        for request in (GET, POST):
            assert await transport.send(request) == TransportResponse(400, b'{"a": 1}')
    assert got[0].startswith(b"GET /v1/info HTTP/1.1\r\n")
    assert got[1].startswith(b"POST /v1/swap HTTP/1.1\r\n")
    assert got[1].endswith(b'\r\n\r\n{"inputs":[]}')
    assert b"content-type: application/json" in got[1].lower()
    assert b"accept-encoding: identity" in got[0].lower()


async def test_nobody_listens_means_that_nothing_was_sent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    transport = HttpTransport(f"http://127.0.0.1:{port}", patience=SOON)
    with pytest.raises(MintUnreachableError) as caught:
        await transport.send(POST)
    assert "Nothing was sent" in caught.value.hint
    await transport.aclose()


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readexactly(1)
    writer.write(reply(b"{}"))


@pytest.mark.parametrize("handler", [silent, plain])
async def test_no_tls_where_it_must_be_means_that_nothing_was_sent(handler: Handler) -> None:
    async with listening(handler) as server:
        address = server.url.replace("http:", "https:")
        secure = HttpTransport(address, patience=Patience(connect_s=0.3, ask_s=20))
        with pytest.raises(MintUnreachableError):
            await secure.send(POST)
        await secure.aclose()


ENDLESS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
BROKEN: dict[str, tuple[bytes, ...]] = {
    "hangs up at once": (),
    "hangs up in the head": (b"HTTP/1.1 200 OK\r\nContent-",),
    "hangs up in the body": (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}",),
    "speaks no HTTP": (b"SSH-2.0-OpenSSH_9.6\r\n",),
    "packs its reply": (reply(b"\x1f\x8b", "Content-Encoding: gzip\r\n"),),
    "announces too much and sends it": (
        f"HTTP/1.1 200 OK\r\nContent-Length: {MOST_REPLY_BYTES + 1}\r\n\r\n".encode(),
        b" " * (MOST_REPLY_BYTES + 1),
    ),
    "never stops": (ENDLESS, *([b"40000\r\n" + b" " * 0x40000 + b"\r\n"] * 20)),
    "has an endless head": (b"HTTP/1.1 200 OK\r\n", *([b"X: " + b"y" * 60_000 + b"\r\n"] * 4)),
}


@pytest.mark.parametrize("name", sorted(BROKEN))
async def test_a_broken_reply_is_an_unknown_outcome(name: str) -> None:
    patience = Patience(ask_s=20)
    async with listening(saying(*BROKEN[name]), patience) as transport:
        with pytest.raises(OutcomeUnknownError) as caught:
            await transport.send(POST)
        assert "stays pending" in caught.value.hint


@pytest.mark.parametrize("path", ["/v1/swap", "/v1/melt/bolt11"])
async def test_dripping_bytes_do_not_move_the_deadline(path: str) -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(ENDLESS)
        while True:
            writer.write(b"1\r\n \r\n")
            await writer.drain()
            await asyncio.sleep(0.02)

    async with listening(drip) as transport:
        with pytest.raises(OutcomeUnknownError) as caught:
            await transport.send(TransportRequest("POST", path, b"{}"))
    assert "0.3 s" in caught.value.message


async def test_silence_has_an_end() -> None:
    async with listening(silent) as transport:
        with pytest.raises(OutcomeUnknownError):
            await transport.send(POST)


async def test_redirects_are_not_followed() -> None:
    got: list[bytes] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(reply(b"", "Location: /v1/elsewhere\r\n", "307 Temporary Redirect"))

    async with listening(handler) as transport:
        assert (await transport.send(GET)).status == 307
    assert len(got) == 1


async def test_a_transport_of_ones_own_is_used_and_closed() -> None:
    seen: list[str] = []

    class Proxy(httpx.MockTransport):
        async def aclose(self) -> None:
            seen.append("closed")

    async def body() -> AsyncIterator[bytes]:
        yield b"{}"

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(str(request.url))
        return httpx.Response(200, content=body())

    transport = HttpTransport("https://Mint.Example/Bitcoin/", Proxy(answer))
    assert (await transport.send(GET)).body == b"{}"
    await transport.aclose()
    assert seen == ["https://mint.example/Bitcoin/v1/info", "closed"]


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "10.0.0.1", "192.168.1.9", "169.254.169.254", "::1", "fd00::1"]
)
async def test_a_mint_that_a_stranger_named_is_not_looked_for_inside(address: str) -> None:
    asked: list[tuple[str, int]] = []

    async def resolve(host: str, port: int) -> list[str]:
        asked.append((host, port))
        return ["93.184.215.14", address]

    def never(request: httpx.Request) -> httpx.Response:
        raise AssertionError(f"{request.url} was asked")

    transport = HttpTransport(
        "https://mint.example", httpx.MockTransport(never), public=True, resolve=resolve
    )
    with pytest.raises(MintUnreachableError, match=r"mint\.example is not asked: it leads into"):
        await transport.send(POST)
    with pytest.raises(MintUnreachableError):
        async with transport.socket():
            pass
    assert asked == [("mint.example", 443)] * 2


async def test_a_mint_that_a_stranger_named_is_asked_in_public() -> None:
    async def resolve(host: str, port: int) -> list[str]:
        return ["93.184.215.14"]

    answer = httpx.MockTransport(lambda _: httpx.Response(200, content=body()))

    async def body() -> AsyncIterator[bytes]:
        yield b"{}"

    transport = HttpTransport("https://mint.example:3338", answer, public=True, resolve=resolve)
    assert (await transport.send(GET)).body == b"{}"


async def test_an_onion_service_is_not_asked_in_plain_out_in_the_world() -> None:
    """A network that has one answer for all names would be sent ecash."""

    async def portal(host: str, port: int) -> list[str]:
        assert (host, port) == ("abcdefghij.onion", 80)
        return ["93.184.215.14"]

    async def body() -> AsyncIterator[bytes]:
        yield b"{}"

    transport = HttpTransport("http://abcdefghij.onion", resolve=portal)
    with pytest.raises(MintUnreachableError, match="its name does not lead into Tor"):
        await transport.send(POST)
    with pytest.raises(MintUnreachableError):
        async with transport.socket():
            pass
    proxy = httpx.MockTransport(lambda _: httpx.Response(200, content=body()))
    transport = HttpTransport("http://abcdefghij.onion", proxy, resolve=portal)
    assert (await transport.send(POST)).body == b"{}", "a proxy looks names up itself"
    assert await tor_addresses("a.onion", 80, resolve=_automapped) == ["127.192.0.9"]


@pytest.mark.parametrize("url", [f"http://{'a' * 64}.onion", "https://mint..example"])
async def test_a_name_that_cannot_be_in_dns_is_a_mint_that_was_not_asked(url: str) -> None:
    transport = HttpTransport(url)
    with pytest.raises(MintUnreachableError):
        await transport.send(POST)
    with pytest.raises(MintUnreachableError):
        async with transport.socket():
            pass
    await transport.aclose()


async def _automapped(host: str, port: int) -> list[str]:
    return ["127.192.0.9"]


async def test_a_name_that_is_looked_up_in_vain_is_a_mint_that_was_not_asked() -> None:
    async def resolve(host: str, port: int) -> list[str]:
        await asyncio.Event().wait()
        raise AssertionError

    quick = Patience(connect_s=0.05, ask_s=5, melt_s=5)
    transport = HttpTransport("https://mint.example", patience=quick, public=True, resolve=resolve)
    with pytest.raises(MintUnreachableError, match="its name could not be looked up in time"):
        await transport.send(POST)
    with pytest.raises(MintUnreachableError):
        async with asyncio.timeout(5), transport.socket():
            pass


async def test_closing_what_was_never_used_opens_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(**options: object) -> httpx.AsyncHTTPTransport:
        raise AssertionError("opened, only to be closed")

    monkeypatch.setattr(httpx, "AsyncHTTPTransport", never)
    transport = HttpTransport("https://mint.example")
    await transport.aclose()
    with pytest.raises(AssertionError, match="only to be closed"):
        await transport.send(GET)


# ── websockets ──────────────────────────────────────────────────────────────────────────────


@contextlib.asynccontextmanager
async def talking(handler: Callable[[ServerConnection], Awaitable[None]]) -> AsyncIterator[str]:
    async with serve(handler, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"


async def test_a_websocket_carries_messages_both_ways() -> None:
    async def echo(peer: ServerConnection) -> None:
        assert peer.request is not None
        await peer.send(json.dumps({"path": peer.request.path, "said": await peer.recv()}))

    async with talking(echo) as url, HttpTransport(url).socket() as opened:
        await opened.send("hello")
        assert json.loads(await opened.recv()) == {"path": "/v1/ws", "said": "hello"}


async def test_a_websocket_that_breaks_or_floods_is_unreachable() -> None:
    async def flood(peer: ServerConnection) -> None:
        await peer.send(" " * 2**20)

    async def leave(peer: ServerConnection) -> None:
        await peer.close()

    for handler in (flood, leave):
        async with talking(handler) as url:
            with pytest.raises(MintUnreachableError):
                async with HttpTransport(url).socket() as opened:
                    await opened.recv()
    async with listening(saying(reply(b"", status="404 Not Found"))) as transport:
        with pytest.raises(MintUnreachableError):
            async with transport.socket():
                pass


@pytest.mark.parametrize("location", ["ws://127.0.0.1:PORT/elsewhere", "//127.0.0.1:PORT", "//["])
async def test_a_websocket_is_not_redirected_elsewhere(location: str) -> None:
    """What one mint says leads to no other machine, and not out of Tor."""
    seen = []

    async def elsewhere(peer: ServerConnection) -> None:
        seen.append(peer)

    async with talking(elsewhere) as other:
        moved = location.replace("PORT", other.rpartition(":")[2])
        async with listening(
            saying(reply(b"", status=f"302 Found\r\nLocation: {moved}"))
        ) as transport:
            with pytest.raises(MintUnreachableError):
                async with transport.socket():
                    pass
    assert not seen


# ── addresses ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("https://Mint.Example/", "https://mint.example"),
        ("https://mint.example:443/Bitcoin//", "https://mint.example/Bitcoin"),
        ("https://mint.example:3338", "https://mint.example:3338"),
        ("http://localhost:3338", "http://localhost:3338"),
        ("http://127.0.0.1:80", "http://127.0.0.1"),
        ("http://[::1]:3338/", "http://[::1]:3338"),
        ("http://abcdefghij.onion", "http://abcdefghij.onion"),
    ],
)
def test_an_address_has_one_form(text: str, url: str) -> None:
    assert mint_url(text) == url == mint_url(url)


@pytest.mark.parametrize(
    "text",
    [
        *("", "mint.example", "ftp://mint.example", "https://", "https://mint.example?x=1"),
        *("https://mint.example#x", "https://me:pw@mint.example", "https://mint.example:99999"),
        *("https://mint.example/\x00", "https://mint.example/ä", "https://[::1", "https://a b"),
        "https://mint.example/" + "x" * 600,
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ParseError):
        mint_url(text)


@pytest.mark.parametrize(
    "text",
    ["http://mint.example", "http://10.0.0.1", "http://onion.example", "http://localhost.example"],
)
def test_ecash_does_not_go_unencrypted(text: str) -> None:
    with pytest.raises(RefusedError):
        HttpTransport(text)


@given(st.text(max_size=40) | st.text(max_size=20).map(lambda text: f"https://{text}"))
def test_any_text_is_an_address_or_an_error(text: str) -> None:
    try:
        url = mint_url(text)
    except WalletError:
        return
    assert mint_url(url) == url
    assert url.isascii()


def test_what_is_this_machine() -> None:
    assert all(map(network.is_here, ("localhost", "127.0.0.1", "127.9.9.9", "::1")))
    assert not any(map(network.is_here, ("mint.example", "10.0.0.1", "", "0.0.0.0")))
    assert websocket_url("https://mint.example/a") == "wss://mint.example/a/v1/ws"


def test_certificates_are_read_once_for_all_mints_and_their_websockets() -> None:
    """It takes a twentieth of a second, in which nothing else happens."""
    assert _trust("https://mint.example") is _trust("wss://other.example/v1/ws")
    assert _trust("http://127.0.0.1:3338").cert_store_stats()["x509_ca"] == 0
