"""Pieces of the control API alone: streams that end, peers, readiness, traces, starts that fail."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import re
import socket
import stat
import struct
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse

from node.cli.init import create
from node.client import Client
from node.clock import ManualClock
from node.config import load
from node.daemon import Daemon
from node.errors import (
    ConfigError,
    DaemonRunningError,
    JournalError,
)
from node.gateway import bind_tcp, bind_unix
from node.gateway.peer import allowed, peer_uid, xucred_uid
from node.gateway.runs import list_
from node.gateway.sse import until
from node.gateway.trace import trace
from node.home import Home
from node.journal import Draft, MemoryLog, PolicyVerdict
from node.readiness import Readiness
from node.runs import RunSummary
from node.types import JsonObject

# ── streams ─────────────────────────────────────────────────────────────────────────────────


class Source:
    """Items as the test gives them out; knows whether it was closed."""

    def __init__(self) -> None:
        self.items: asyncio.Queue[int | None] = asyncio.Queue()
        self.closed = False

    async def __call__(self) -> AsyncIterator[int]:
        try:
            while (item := await self.items.get()) is not None:
                yield item
        finally:
            self.closed = True


async def test_until_ends_with_its_items() -> None:
    source = Source()
    for item in (1, 2, None):
        source.items.put_nowait(item)
    assert [item async for item in until(asyncio.Event(), source())] == [1, 2]
    assert source.closed


async def test_until_ends_when_told_and_closes_the_source() -> None:
    source, end = Source(), asyncio.Event()
    source.items.put_nowait(1)
    seen = []
    async for item in until(end, source()):
        seen.append(item)
        end.set()
    assert seen == [1]
    assert source.closed


async def test_until_hands_on_what_was_there_before_the_end() -> None:
    """Whoever follows the log slowly has its last entry, too."""
    source, end, seen = Source(), asyncio.Event(), []
    for item in (1, 2, 3):
        source.items.put_nowait(item)
    async for item in until(end, source()):
        seen.append(item)
        end.set()
    assert (seen, source.closed) == ([1, 2, 3], True)


async def test_until_closed_early_closes_the_source() -> None:
    source = Source()
    source.items.put_nowait(1)
    stream = until(asyncio.Event(), source())
    assert await anext(stream) == 1
    await stream.aclose()
    assert source.closed


async def test_until_hands_errors_on() -> None:
    async def broken() -> AsyncIterator[int]:
        yield 1
        raise ConfigError("broken")

    stream = until(asyncio.Event(), broken())
    assert await anext(stream) == 1
    with pytest.raises(ConfigError):
        await anext(stream)


async def test_who_goes_away_at_any_moment_closes_the_source_and_leaves_no_error(
    cancelled_at: Callable[..., Awaitable[bool]],
) -> None:
    said: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(context))

    async def follow(source: Source) -> None:
        async for _ in until(asyncio.Event(), source()):
            pass

    moment, struck = 0, True
    while struck:
        source = Source()
        for item in (1, None):
            source.items.put_nowait(item)
        moment, struck = moment + 1, await cancelled_at(moment, follow(source))
        gc.collect()
        await asyncio.sleep(0)
        assert (source.closed, said) == (True, [])
    assert moment > 2


# ── sockets ─────────────────────────────────────────────────────────────────────────────────


def test_the_kernel_says_who_connected(tmp_path: Path) -> None:
    with bind_unix(tmp_path / "s") as listener, socket.socket(socket.AF_UNIX) as peer:
        assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == 0o600
        peer.connect(str(tmp_path / "s"))
        accepted, _ = listener.accept()
        with accepted:
            assert peer_uid(accepted) == os.geteuid()
    assert allowed(os.geteuid())
    assert allowed(0)
    assert not allowed(os.geteuid() + 1)
    assert not allowed(None)


def test_a_peers_uid_is_read_from_what_macos_answers() -> None:
    """`struct xucred` of sys/ucred.h: version, uid, a short, padding, 16 groups; little-endian."""
    groups = b"".join(number.to_bytes(4, "little") for number in range(20, 36))
    raw = bytes(4) + (501).to_bytes(4, "little") + b"\x10\x00" + bytes(2) + groups
    assert len(raw) == 76
    if sys.byteorder == "little":
        assert xucred_uid(raw) == 501
        assert xucred_uid(b"\x01" + raw[1:]) is None
    with pytest.raises(struct.error):
        xucred_uid(raw[:-1])


def test_a_socket_without_a_peer_has_no_uid() -> None:
    with socket.socket(socket.AF_INET) as tcp:
        assert peer_uid(tcp) in (None, 2**32 - 1)
        assert not allowed(peer_uid(tcp))


def test_a_live_socket_is_not_taken(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with bind_unix(path), pytest.raises(DaemonRunningError):
        bind_unix(path)
    with bind_unix(path):  # the first one is dead now
        assert path.is_socket()


def test_a_disk_that_has_no_sockets_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"cannot make {tmp_path / 'gone' / 's'}: ")):
        bind_unix(tmp_path / "gone" / "s")
    gc.collect()


# ── readiness ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("host", ["a..b", "x" * 300, "\udcff", "256.1.1.1"])
def test_an_address_that_cannot_be_had_is_said(host: str) -> None:
    with pytest.raises(ConfigError, match=r"control\.bind"):
        bind_tcp((host, 1))


def test_readiness_is_told_once_and_the_variables_are_taken() -> None:
    reading, writing = os.pipe()
    env = {"FREEHOLD_READY_FD": str(writing), "NOTIFY_SOCKET": "", "OTHER": "x"}
    readiness = Readiness(env)
    assert env == {"OTHER": "x"}
    readiness.ready()
    readiness.ready()
    with open(reading, "rb") as pipe:
        assert pipe.read() == b"ready\n"


def test_nobody_to_tell_is_fine(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    for env in (
        {},
        {"NOTIFY_SOCKET": str(tmp_path / "gone")},
        {"NOTIFY_SOCKET": "not a path"},
        {"FREEHOLD_READY_FD": "999"},
        {"FREEHOLD_READY_FD": str(writing)},
    ):
        readiness = Readiness(env)
        readiness.ready()
        readiness.stopping()
        assert env == {}
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(writing)  # closed, though whoever started it has gone


# ── traces ──────────────────────────────────────────────────────────────────────────────────


async def test_a_trace_nests_steps_branches_and_verdicts() -> None:
    log = MemoryLog()
    allow = PolicyVerdict("tools.calc.approval", "allow")

    def step(path: str, kind: str, **result: object) -> list[Draft]:
        intent: JsonObject = {"kind": kind, "name": kind, "args": {"n": path}}
        done: JsonObject = {"ok": True, "seconds": 0.5, "usage": {}, **result}
        return [
            Draft("step.intent", run="r", path=path, policy=allow, data=intent),
            Draft("step.result", run="r", path=path, data=done),
        ]

    prompt = log.put_blob(b"hello", "prompt")
    await log.append(
        Draft("run.started", run="r", agent="a", blobs=(prompt,)),
        *step("1", "model", value="x"),
        *step("2", "delegation"),
        *step("2.researcher.1", "tool", value={"v": 1}),
        *step("2.researcher.1.tool_result.size", "guard", value={"verdict": "pass"}),
        *step("10", "tool", ok=False, error={"message": "broke"}),
        Draft("step.intent", run="r", path="11", data={"kind": "tool", "name": "late"}),
        Draft("run.finished", run="r", data={"status": "failed", "reason": "x"}),
    )
    tree: Any = trace(log, "r")
    assert (tree["prompt"], tree["status"], tree["reason"]) == ("hello", "failed", "x")
    steps = tree["steps"]
    assert [step["path"] for step in steps] == ["1", "2", "10", "11"]
    branch = steps[1]["steps"][0]
    assert branch["path"] == "2.researcher.1"
    assert branch["steps"][0]["path"] == "2.researcher.1.tool_result.size"
    assert steps[3]["ok"] is None
    await log.erase(prompt)
    assert trace(log, "r")["prompt"] is None
    assert trace(log, "none") == {}


async def test_a_trace_has_each_step_once_and_says_when_and_who_was_asked() -> None:
    clock = ManualClock(wall_s=1_700_000_000.5)
    log = MemoryLog(clock=clock)
    prompt = log.put_blob(b"x" * 4_001, "prompt")
    intent: JsonObject = {"kind": "tool", "name": "web", "args": {}}
    await log.append(
        Draft("run.started", run="r", agent="a", blobs=(prompt,)),
        Draft("step.intent", run="r", path="1", data=intent),
        Draft("approval.asked", run="r", path="1", data={"id": "2"}),
        Draft("step.result", run="r", path="1", data={"ok": True, "labels": ["untrusted"]}),
        Draft("step.intent", run="r", path="1", data=intent),  # as where it is settled
    )
    clock.advance(2)
    await log.append(Draft("run.finished", run="r", data={"status": "completed"}))
    tree: Any = trace(log, "r")
    assert tree["prompt"] == "x" * 4_000 + "… (4001 characters)"
    assert (tree["started"], tree["seconds"], tree["entries"]) == (1_700_000_000.5, 2.0, 6)
    assert [each["type"] for each in tree["events"]] == ["run.started", "approval.asked"]
    (step,) = tree["steps"]
    assert (step["index"], step["ok"], step["labels"]) == (1, True, ["untrusted"])


@pytest.mark.parametrize("said", ["NaN", "1e999", "1.10", '"x"', "[" * 3_000, "null"])
async def test_a_trace_shows_what_was_said_whatever_it_looks_like(said: str) -> None:
    """A model or a tool must not be able to keep a person from seeing the run."""
    log = MemoryLog()
    prompt, text = log.put_blob(said.encode(), "prompt"), log.put_blob(said.encode(), "text")
    value = log.put_blob(said.encode(), "value")
    await log.append(
        Draft("run.started", run="r", blobs=(prompt,)),
        Draft("step.intent", run="r", path="1", data={"kind": "tool", "name": "x", "args": {}}),
        Draft("step.result", run="r", path="1", data={"ok": True}, blobs=(value,)),
        Draft("run.finished", run="r", data={"status": "completed"}, blobs=(text,)),
    )
    found: Any = json.loads(JSONResponse(trace(log, "r")).body)
    assert (found["prompt"], found["text"]) == (said, said)
    assert len(found["steps"]) == 1


# ── connections are closed, whatever happens (a leak is a warning, and a warning an error) ───


async def test_a_start_that_fails_closes_what_it_bound(tmp_path: Path) -> None:
    home = Home(tmp_path / "h")
    create(home, "test")
    (home.journal / "000000000000.jsonl").write_text("no log")
    for _ in range(2):  # the second would find the socket held
        with pytest.raises(JournalError):
            await Daemon(home, load(home.config, {}), readiness=Readiness({})).run()
        gc.collect()
    assert not home.socket.exists()


async def test_a_node_that_is_cancelled_closes_its_connections(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home(tmp_path / "h")
    create(home, "test")
    ready = asyncio.Event()

    class Told(Readiness):
        def ready(self) -> None:
            ready.set()

    running = asyncio.create_task(Daemon(home, load(home.config, {}), readiness=Told({})).run())
    await ready.wait()
    with Client.unix(home.socket) as client:
        assert (await asyncio.to_thread(client.status))["agents"] == 1
        monkeypatch.setattr(psutil, "PROCFS_PATH", str(tmp_path))  # as where /proc is not mounted
        assert (await asyncio.to_thread(client.status))["rss_bytes"] == 0
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    assert not home.socket.exists()
    gc.collect()


async def test_a_long_list_of_runs_holds_up_nothing_else() -> None:
    listed: list[tuple[threading.Thread, str | None, int]] = []

    def list_runs(*, agent: str | None, limit: int) -> list[RunSummary]:
        listed.append((threading.current_thread(), agent, limit))
        return []

    control = SimpleNamespace(runs=SimpleNamespace(list=list_runs))
    app = SimpleNamespace(state=SimpleNamespace(control=control))
    asked = {"type": "http", "query_string": b"limit=1000&agent=clerk", "app": app}
    assert (await list_(Request(asked))).body == b'{"runs":[]}'
    ((thread, agent, limit),) = listed
    assert thread is not threading.main_thread()
    assert (agent, limit) == ("clerk", 1000)
