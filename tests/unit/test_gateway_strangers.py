"""Clients of the control API that are slow, many, or nobody it knows."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO, cast

import httpx
import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from node.config import Config
from node.errors import BackupError
from node.gateway import ControlServer, archive, bind_tcp, bind_unix, server
from node.gateway.control import Control
from node.gateway.http import TokenGate
from node.home import Home
from node.journal import Journal

TOKEN = "t" * 32
ASKED = f"GET / HTTP/1.1\r\nhost: n\r\nauthorization: Bearer {TOKEN}\r\n\r\n".encode()
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def answer(_scope: Scope, _receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"{}"})


@asynccontextmanager
async def serving(folder: Path, app: ASGIApp = answer) -> AsyncIterator[tuple[Path, int]]:
    """A control server on a UNIX socket and a TCP port."""
    made = ControlServer(TokenGate(app, TOKEN))
    unix, tcp = bind_unix(folder / "s"), bind_tcp(("127.0.0.1", 0))
    serve = asyncio.ensure_future(made.serve([unix, tcp]))
    try:
        yield folder / "s", tcp.getsockname()[1]
    finally:
        made.stop()
        await serve


async def asked(path: Path) -> int:
    transport = httpx.AsyncHTTPTransport(uds=str(path))
    async with httpx.AsyncClient(transport=transport, base_url="http://n", trust_env=False) as http:
        return (await http.get("/")).status_code


async def test_what_the_environment_says_to_uvicorn_is_nothing_to_the_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEB_CONCURRENCY", "auto")
    async with serving(tmp_path) as (path, _):
        assert await asked(path) == 200


async def test_strangers_cannot_take_all_connections(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is an open file of the process that has the log and the wallet."""
    monkeypatch.setattr(server, "TCP_MAX", 3)
    monkeypatch.setattr(server, "FIRST_REQUEST_S", 3600)
    async with serving(tmp_path) as (path, port):
        many: list[Streams] = [await asyncio.open_connection("127.0.0.1", port) for _ in range(12)]
        async with asyncio.timeout(20):
            assert [await _end(reader) for reader, _ in many[3:]] == [b""] * 9
        assert await asked(path) == 200
        many[0][1].close()
        await many[0][1].wait_closed()
        while True:  # the place is free once the server has seen it
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            many.append((reader, writer))
            writer.write(ASKED)
            if await _line(reader) == b"HTTP/1.1 200 OK\r\n":
                break
        for _, writer in many:
            writer.close()


async def test_a_stranger_that_says_nothing_is_hung_up_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "FIRST_REQUEST_S", 0.2)
    async with serving(tmp_path) as (_, port):
        for said in (b"", b"GET / HTTP/1.1\r\nhost:"):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(said)
            assert await asyncio.wait_for(_end(reader), 20) == b""
            writer.close()


def test_who_vanishes_without_a_word_keeps_no_place() -> None:
    """A laptop that was shut while it followed events."""
    with bind_tcp(("127.0.0.1", 0)) as listener:
        listener.setblocking(True)
        with socket.create_connection(listener.getsockname()), listener.accept()[0] as accepted:
            assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


async def test_who_has_asked_is_not_hung_up_on_for_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge, late = server.PeerProtocol._too_late, asyncio.Event()

    def judged(stranger: server.PeerProtocol) -> None:
        judge(stranger)
        late.set()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        await late.wait()
        await answer(scope, receive, send)

    monkeypatch.setattr(server.PeerProtocol, "_too_late", judged)
    monkeypatch.setattr(server, "FIRST_REQUEST_S", 0.2)
    async with serving(tmp_path, slow) as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(ASKED)
        assert await asyncio.wait_for(_line(reader), 20) == b"HTTP/1.1 200 OK\r\n"
        writer.close()


@pytest.mark.parametrize(
    ("token", "said", "status"),
    [
        (TOKEN, f"Bearer {TOKEN}", 200),
        (TOKEN, f"bearer  {TOKEN} ", 200),
        (TOKEN, f"Basic {TOKEN}", 401),
        (TOKEN, f"Bearer {TOKEN}t", 401),
        (TOKEN, TOKEN, 401),
        ("", "Bearer ", 401),
    ],
)
async def test_the_token_as_a_bearer_lets_in(token: str, said: str, status: int) -> None:
    transport = httpx.ASGITransport(TokenGate(answer, token))
    async with httpx.AsyncClient(transport=transport, base_url="http://n") as http:
        assert (await http.get("/", headers={"authorization": said})).status_code == status


async def test_who_has_no_token_is_hung_up_on_with_the_answer(tmp_path: Path) -> None:
    async with serving(tmp_path) as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST / HTTP/1.1\r\nhost: n\r\ncontent-length: 1000000\r\n\r\n{")
        said = await asyncio.wait_for(_end(reader), 20)
        assert said.startswith(b"HTTP/1.1 401 ")
        writer.close()


@pytest.mark.parametrize("said", ["uid:root", "uid:0:0", f"uid:{os.getuid()}:x, 127.0.0.1"])
async def test_nobody_is_a_user_of_this_machine_by_saying_so(said: str, tmp_path: Path) -> None:
    async with serving(tmp_path) as (_, port), httpx.AsyncClient(trust_env=False) as http:
        for name in ("x-forwarded-for", "forwarded", "x-real-ip"):
            reply = await http.get(f"http://127.0.0.1:{port}/", headers={name: said})
            assert reply.status_code == 401


async def test_another_user_is_hung_up_on_before_a_word_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who the kernel says it is counts, also where the socket's mode let them connect."""
    for uid, answered in ((os.geteuid() + 1, False), (None, False), (os.geteuid(), True)):
        monkeypatch.setattr(server, "peer_uid", lambda _connection, uid=uid: uid)
        async with serving(tmp_path) as (path, _):
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(b"GET / HTTP/1.1\r\nhost: n\r\nconnection: close\r\n\r\n")
            said = await asyncio.wait_for(_end(reader), 20)
            assert said.startswith(b"HTTP/1.1 200 ") is answered
            assert bool(said) is answered
            writer.close()


async def test_a_backup_that_nobody_reads_holds_up_nothing_else(tmp_path: Path) -> None:
    home = Home(tmp_path / "h")
    home.create()
    (home.stores / "large").write_bytes(os.urandom(4_000_000))
    log = Journal.open_sync(home.journal, origin="n/log")
    node = cast(Control, SimpleNamespace(home=home, log=log, config=Config()))
    with ThreadPoolExecutor(2) as pool:
        asyncio.get_running_loop().set_default_executor(pool)
        async with (
            aclosing(cast(Any, archive._archive(node))) as first,
            aclosing(cast(Any, archive._archive(node))) as second,
        ):
            async with asyncio.timeout(20):
                for stuck in (first, second):
                    assert await anext(stuck)
                assert await asyncio.to_thread(lambda: 7) == 7
    log.close()


async def test_a_backup_that_fails_halfway_is_not_taken_for_a_whole_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_home: Home, _name: str, _entries: int, target: BinaryIO) -> None:
        target.write(b"half")
        raise BackupError("a segment is gone")

    monkeypatch.setattr(archive.backup, "write", broken)
    log = SimpleNamespace(size=0)
    node = cast(Control, SimpleNamespace(home=Home(tmp_path), log=log, config=Config()))
    given = archive._archive(node)
    assert await anext(given) == b"half"
    with pytest.raises(BackupError, match="a segment is gone"):
        await anext(given)


async def _end(reader: asyncio.StreamReader) -> bytes:
    """All that is still said before the connection ends."""
    try:
        return await reader.read()
    except ConnectionResetError:
        return b""


async def _line(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readline()
    except ConnectionResetError:
        return b""
