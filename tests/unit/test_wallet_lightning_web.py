"""HTTP to servers that strangers name: where it may not lead, and how much it may bring."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wallet.errors import OutcomeUnknownError, RefusedError, UnreachableError
from wallet.lightning import HttpWeb, WebRequest
from wallet.lightning.web import MAX_REPLY
from wallet.network import may_connect

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def server(talk: Talk) -> AsyncIterator[int]:
    listening = await asyncio.start_server(talk, "127.0.0.1", 0)
    async with listening:
        yield listening.sockets[0].getsockname()[1]


def answers(*parts: bytes, asked: list[bytes] | None = None) -> Talk:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if asked is not None:
            size = re.search(rb"content-length: (\d+)", head.lower())
            asked.append(head + await reader.readexactly(int(size[1]) if size else 0))
        for part in parts:
            writer.write(part)
            await writer.drain()
        writer.close()

    return talk


@asynccontextmanager
async def opened(**options: object) -> AsyncIterator[HttpWeb]:
    web = HttpWeb(**{"loopback": True, **options})  # type: ignore[arg-type]
    yield web
    await web.aclose()


def resolving(*addresses: str) -> Callable[[str, int], Awaitable[Iterable[str]]]:
    async def resolve(host: str, port: int) -> Iterable[str]:
        return addresses

    return resolve


def get(port: int, host: str = "127.0.0.1") -> WebRequest:
    return WebRequest("GET", f"http://{host}:{port}/x")


async def test_a_request_and_its_reply() -> None:
    asked: list[bytes] = []
    talk = answers(b"HTTP/1.1 201 OK\r\nContent-Length: 2\r\n\r\n", b"hi", asked=asked)
    async with server(talk) as port, opened() as web:
        reply = await web.send(WebRequest("POST", f"http://127.0.0.1:{port}/x?y=1", b"secret"))
        assert (reply.status, reply.body) == (201, b"hi")
        assert asked[0].startswith(b"POST /x?y=1 HTTP/1.1\r\n")
        assert asked[0].endswith(b"\r\n\r\nsecret")
        assert b"application/json" in asked[0]
        assert b"secret" not in repr(WebRequest("POST", "x", b"secret")).encode()


async def test_a_redirect_is_an_answer_like_any_other() -> None:
    elsewhere: list[bytes] = []
    async with server(answers(asked=elsewhere)) as other:
        location = f"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:{other}/\r\n"
        talk = answers(location.encode() + b"Content-Length: 0\r\n\r\n")
        async with server(talk) as port, opened() as web:
            assert (await web.send(get(port))).status == 302
    assert elsewhere == []


async def test_nobody_there() -> None:
    async with server(answers()) as port:
        pass
    async with opened() as web:
        with pytest.raises(UnreachableError):
            await web.send(get(port))


@pytest.mark.parametrize(
    "parts",
    [
        (),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort",),
        (b"no http at all\r\n\r\n",),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx",),
        (b"HTTP/1.1 200 OK\r\n\r\n", *[b"x" * 65_536] * (MAX_REPLY // 65_536 + 1)),
    ],
    ids=["nothing", "cut short", "no http", "packed", "too much"],
)
async def test_replies_that_cannot_be_used(parts: tuple[bytes, ...]) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await answers(*parts)(reader, writer)
        except ConnectionError:
            writer.close()

    async with server(talk) as port, opened() as web:
        with pytest.raises(OutcomeUnknownError):
            await web.send(get(port))


async def test_a_server_that_never_answers() -> None:
    done = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await done.wait()
        writer.close()

    async with server(talk) as port, opened(timeout_s=0.05) as web:
        with pytest.raises(OutcomeUnknownError, match="within"):
            await web.send(get(port))
        done.set()


async def test_a_server_that_never_gets_the_request() -> None:
    """What was surely not sent is not in doubt: ecash for there is handed over in another way."""
    left = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        left.set()
        writer.close()

    async def resolve(host: str, port: int) -> Iterable[str]:
        await asyncio.Event().wait()
        return ()

    async with server(talk) as port, opened(timeout_s=0.05) as web:
        with pytest.raises(UnreachableError, match="within"):  # of its TLS nothing comes
            await web.send(WebRequest("POST", f"https://127.0.0.1:{port}/x", b"ecash"))
        await left.wait()
    async with opened(timeout_s=0.05, resolve=resolve) as web:
        with pytest.raises(UnreachableError, match="within"):
            await web.send(WebRequest("POST", "https://payee.example/x", b"ecash"))


async def test_names_that_lead_inside() -> None:
    asked: list[bytes] = []
    async with server(answers(asked=asked)) as port:
        for addresses in (["10.0.0.1"], ["127.0.0.1"], ["93.184.216.34", "192.168.1.1"], []):
            async with opened(loopback=False, resolve=resolving(*addresses)) as web:
                with pytest.raises(UnreachableError, match=r"private|no address"):
                    await web.send(WebRequest("GET", f"https://evil.example:{port}/"))
    assert asked == []


async def test_a_literal_address_inside() -> None:
    async with opened(loopback=False) as web:
        for host in ("10.0.0.1", "[fd00::1]", "169.254.169.254", "0.0.0.0"):
            with pytest.raises(UnreachableError, match="private"):
                await web.send(WebRequest("GET", f"https://{host}/"))
        with pytest.raises(RefusedError, match="this machine"):
            await web.send(WebRequest("GET", "https://127.0.0.1/"))


async def test_an_onion_service_needs_a_proxy() -> None:
    async with opened() as web:
        with pytest.raises(UnreachableError, match="proxy"):
            await web.send(WebRequest("GET", "http://abc.onion/"))


async def test_a_name_nobody_knows() -> None:
    async def resolve(host: str, port: int) -> Iterable[str]:
        raise OSError("no such name")

    async with opened(resolve=resolve) as web:
        with pytest.raises(UnreachableError, match="no such name"):
            await web.send(WebRequest("GET", "https://nobody.example/"))


async def test_the_next_address_is_tried() -> None:
    talk = answers(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    resolve = resolving("127.0.0.2", "127.0.0.1")
    async with server(talk) as port, opened(resolve=resolve) as web:
        assert (await web.send(get(port, "localhost"))).status == 200


async def test_a_silent_address_leaves_time_for_the_next(
    deafen: Callable[[str, int], None],
) -> None:
    talk = answers(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    resolve = resolving("127.0.0.2", "127.0.0.1")
    async with server(talk) as port, opened(resolve=resolve, timeout_s=3) as web:
        deafen("127.0.0.2", port)
        assert (await web.send(get(port, "localhost"))).status == 200


@pytest.mark.parametrize(
    ("address", "open_", "with_loopback"),
    [
        ("93.184.216.34", True, True),
        ("2606:2800:220:1:248:1893:25c8:1946", True, True),
        ("127.0.0.1", False, True),
        ("::1", False, True),
        ("::ffff:127.0.0.1", False, True),
        ("::ffff:10.0.0.1", False, False),
        ("10.1.2.3", False, False),
        ("172.16.0.1", False, False),
        ("192.168.0.1", False, False),
        ("169.254.169.254", False, False),
        ("100.64.0.1", False, False),
        ("0.0.0.0", False, False),
        ("255.255.255.255", False, False),
        ("224.0.0.1", False, False),
        ("fe80::1%eth0", False, False),
        ("fd00::1", False, False),
        ("2002:0a00:0001::", False, False),
        ("64:ff9b::10.0.0.1", False, False),
        ("64:ff9b::93.184.216.34", True, True),
        ("ff02::1", False, False),
        ("::", False, False),
        ("192.0.0.192", False, False),
        ("168.63.129.16", False, False),
        ("192.88.99.1", False, False),
        ("3fff::1", False, False),
        ("2001::1", False, False),
        ("fec0::1", False, False),
        ("nonsense", False, False),
    ],
)
def test_where_one_may_go(address: str, open_: bool, with_loopback: bool) -> None:
    assert may_connect(address) is open_
    assert may_connect(address, loopback=True) is with_loopback


@given(st.text(max_size=20) | st.ip_addresses().map(str))
def test_addresses_of_anything(address: str) -> None:
    assert may_connect(address) in (True, False)
    assert may_connect(address, loopback=True) or not may_connect(address)
