"""Pieces of the control API alone: streams that end, peers, traces, the client's parsers."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import re
import socket
import stat
import struct
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.responses import JSONResponse

from node.cli.init import create
from node.client import Client
from node.clock import ManualClock
from node.config import load
from node.daemon import Daemon
from node.errors import (
    BudgetExceededError,
    ConfigError,
    ControlError,
    DaemonNotRunningError,
    DaemonRunningError,
    FreeholdError,
    JournalError,
    JournalWriteError,
    NoAnswerError,
    NotFoundError,
    PaymentError,
    PaymentPendingError,
    PolicyDeniedError,
    RequestError,
    RunStoppedError,
    StoppingError,
    UnknownRunError,
)
from node.gateway import bind_tcp, bind_unix, sse
from node.gateway.http import on_bug, on_error
from node.gateway.peer import allowed, peer_uid, xucred_uid
from node.gateway.runs import list_
from node.gateway.sse import until
from node.gateway.trace import trace
from node.gateway.wallet_pay import CLAIM_MAX_S, _paid
from node.home import Home
from node.journal import Draft, MemoryLog, PolicyVerdict
from node.money import Payment
from node.readiness import Readiness
from node.runs import Answer, NoGuards, ProgramRun, RunEvent, RunResult, Runs, RunSummary
from node.runs.agent import NODE_AGENT
from node.runs.once import id_of
from node.runs.owner import command
from node.runs.testing import MemoryAgents, agent
from node.types import JsonObject
from wallet.mint.limits import PATIENCE

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


# ── the client ──────────────────────────────────────────────────────────────────────────────


def answering(status: int, content: bytes) -> Client:
    transport = httpx.MockTransport(lambda _: httpx.Response(status, content=content))
    return Client(transport, where="the test")


def test_what_a_daemon_of_before_an_upgrade_leaves_out_is_said_so() -> None:
    with answering(200, b'{"runs": [{"id": "r-1", "usage": {}}]}') as client:
        (run,) = client.runs()
    assert run["id"] == "r-1"
    for broken in (lambda: run["erased"], lambda: run["usage"]["steps"]):
        with pytest.raises(ControlError, match="of another version"):
            broken()


@pytest.mark.parametrize(
    ("status", "content"),
    [
        (200, b'{"paid": 5}'),
        (402, b'{"error": "it may be on its way", "hint": "", "code": "PaymentAdriftError"}'),
        (200, b"<html>"),
    ],
    ids=["reply", "error", "no-json"],
)
def test_what_another_version_says_of_a_payment_is_no_failure(status: int, content: bytes) -> None:
    """Whoever takes it for one pays again."""
    with answering(status, content) as client, pytest.raises(PaymentPendingError) as caught:
        assert client.wallet.pay("anna@example.org", 5)["paid_sat"] == 5
    assert caught.value.exit_code == 7
    assert "Do not do it again" in caught.value.hint


def test_what_another_version_does_not_take_was_not_done() -> None:
    body = b'{"error": "tip: Extra inputs are not permitted", "hint": "", "code": "RequestError"}'
    with answering(400, body) as client, pytest.raises(RequestError):
        client.wallet.pay("anna@example.org", 5)


def test_an_archive_that_breaks_off_is_not_kept_and_none_is_replaced(tmp_path: Path) -> None:
    class Half(httpx.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            yield b"half"
            raise httpx.ReadError("gone")

    transport = httpx.MockTransport(lambda _: httpx.Response(200, stream=Half()))
    with Client(transport, where="the test") as client:
        with pytest.raises(NoAnswerError, match="stopped answering: gone"):
            client.backup(tmp_path / "node.tar.gz")
        assert list(tmp_path.iterdir()) == []
        (tmp_path / "node.tar.gz").write_bytes(b"older")
        with pytest.raises(FileExistsError):
            client.backup(tmp_path / "node.tar.gz")
    assert (tmp_path / "node.tar.gz").read_bytes() == b"older"


@pytest.mark.parametrize(
    ("token", "url", "sent"),
    [("", "http://freehold", None), ("t" * 32, "http://n:7411", f"Bearer {'t' * 32}")],
)
def test_a_token_is_sent_where_there_is_one(token: str, url: str, sent: str | None) -> None:
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(200, content=b'{"runs": []}')

    with Client(httpx.MockTransport(answer), where="x", token=token, url=url) as client:
        client.runs(agent="clerk", limit=3)
    (request,) = asked
    assert request.headers.get("authorization") == sent
    assert str(request.url) == f"{url}/runs?limit=3&agent=clerk"


def test_an_error_comes_back_as_its_class() -> None:
    body = {"error": "too much", "hint": "Ask for less.", "code": "BudgetExceededError"}
    with (
        answering(403, json.dumps(body).encode()) as client,
        pytest.raises(BudgetExceededError) as caught,
    ):
        client.status()
    assert caught.value.diagnostics() == "too much\nAsk for less."


@pytest.mark.parametrize("code", ["annotations", "Exception", "", "JsonObject", "__name__"])
def test_an_unknown_code_is_a_control_error(code: str) -> None:
    body = json.dumps({"error": "x", "code": code}).encode()
    with answering(500, body) as client, pytest.raises(ControlError):
        client.status()


def test_nothing_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(DaemonNotRunningError) as caught:
        Client.unix(tmp_path / "none.sock")
    assert caught.value.exit_code == 3
    assert "freehold up" in caught.value.hint


@settings(max_examples=60, deadline=None)
@given(
    status=st.sampled_from([200, 400, 500]),
    content=st.binary(max_size=80)
    | st.recursive(st.none() | st.text(max_size=8) | st.integers(), st.lists, max_leaves=4).map(
        lambda value: json.dumps({"error": value, "code": value}).encode()
    ),
)
def test_any_answer_is_a_value_or_our_error(status: int, content: bytes) -> None:
    with answering(status, content) as client, contextlib.suppress(FreeholdError):
        assert isinstance(client.status(), dict)


@settings(max_examples=60, deadline=None)
@given(
    content=st.lists(
        st.sampled_from(
            [
                "id: 1",
                "id: x",
                "event: token",
                'data: {"a": 1}',
                "data: [",
                "",
                ":",
                "é: \x00",
                "\r",
            ]
        ),
        max_size=20,
    ).map("\n".join)
)
def test_any_stream_is_read(content: str) -> None:
    with answering(200, content.encode()) as client:
        for event in client.events():
            assert isinstance(event["data"], dict)
            assert isinstance(event["id"], int)


@given(text=st.text(st.sampled_from('a\x85\u2028\u2029\x0b\x1c\r\n:"{}é'), max_size=30))
def test_no_text_in_an_event_ends_its_line(text: str) -> None:
    """What a model or a tool said is data, whatever Unicode calls a line's end (HTML, 9.2.6)."""
    data: JsonObject = {"text": text}
    sent = sse.frame(7, "token", data) + b": a comment\r\n" + sse.frame(8, "step.result", {})
    with answering(200, sent) as client:
        assert [*client.events()] == [
            {"id": 7, "type": "token", "data": data},
            {"id": 8, "type": "step.result", "data": {}},
        ]


async def test_an_error_under_a_stream_is_raised_as_its_class() -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield sse.frame(1, "token", {"text": "x"})
        raise BudgetExceededError("too much", hint="Ask for less.")

    sent = b"".join([each async for each in sse._guarded(broken(), asyncio.Event())])
    with answering(200, sent) as client:
        events = client.events()
        assert next(events)["id"] == 1
        with pytest.raises(BudgetExceededError) as caught:
            next(events)
    assert caught.value.diagnostics() == "too much\nAsk for less."


def test_a_socket_of_another_user_is_not_told_as_a_node_that_is_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket.socket, "connect", refused)
    with pytest.raises(ControlError, match="you may not use") as caught:
        Client.unix(tmp_path / "s")
    assert caught.value.exit_code == 1


def test_a_model_cannot_make_events_of_its_own() -> None:
    forged = "4\u2028id: 999999999\u2028event: error\u2028data: {}\u2028\u2028"
    with answering(200, sse.frame(1, "token", {"text": forged})) as client:
        (event,) = client.events()
    assert event == {"id": 1, "type": "token", "data": {"text": forged}}


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


# ── payments ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("begun", "expected"),
    [
        ("done", PaymentPendingError),
        ("pending", PaymentPendingError),
        ("failed", JournalWriteError),
    ],
)
async def test_a_payment_whose_end_could_not_be_logged_is_not_told_as_failed(
    begun: str, expected: type[FreeholdError]
) -> None:
    """The disk was full under the result: whoever is told that it failed pays again."""

    async def pay(_payment: Payment, *, actor: str, key: str) -> str:
        return "r-1"

    async def watch(_run: str) -> AsyncIterator[RunEvent]:
        return
        yield

    async def wait(_run: str) -> RunResult:
        raise JournalWriteError("the disk is full")

    known = {"r-1:1": SimpleNamespace(state=begun)}
    wallet = SimpleNamespace(operation=known.get)
    node: Any = SimpleNamespace(
        runs=SimpleNamespace(pay=pay, watch=watch, wait=wait, begun=lambda *_: False),
        keeper=SimpleNamespace(wallet=lambda **_: wallet),
        purse=SimpleNamespace(bill=lambda _, **__: None),
    )
    with pytest.raises(expected, match="the disk is full"):
        await _paid(node, Payment(to="lnbc1"), "uid:0")


@pytest.mark.parametrize(
    ("status", "begun", "kind", "said"),
    [
        ("stopped", None, RunStoppedError, "it was stopped, and nothing was paid"),
        ("stopped", "failed", RunStoppedError, "it was stopped, and nothing was paid"),
        ("stopped", "pending", PaymentPendingError, "cancelled; the payment is under way"),
        ("stopped", "done", PaymentPendingError, "cancelled; the payment is under way"),
        ("failed", None, PaymentError, "cancelled"),
        ("", None, PaymentPendingError, "parked; the payment is under way"),
        ("asked", None, PaymentPendingError, "the payment is under way"),
    ],
)
async def test_a_payment_is_told_as_not_made_only_where_it_was_not(
    status: str, begun: str | None, kind: type[FreeholdError], said: str
) -> None:
    """Without a status its run is parked, and pays when the node goes on."""

    async def watch(_run: str) -> AsyncIterator[RunEvent]:
        if status == "asked":
            yield RunEvent("approval.asked", {}, 1)

    async def wait(run: str) -> RunResult:
        if not status:
            raise RunStoppedError("parked")
        return RunResult(status=cast(Any, status), reason="cancelled\nDo this.", run_id=run)

    async def pay(_payment: Payment, *, actor: str, key: str) -> str:
        return "r-1"

    known = {"r-1:1": SimpleNamespace(state=begun)} if begun else {}
    node: Any = SimpleNamespace(
        runs=SimpleNamespace(
            pay=pay, watch=watch, wait=wait, begun=lambda *_: False, is_unfinished=lambda _: True
        ),
        keeper=SimpleNamespace(wallet=lambda **_: SimpleNamespace(operation=known.get)),
        purse=SimpleNamespace(bill=lambda _, **__: None),
    )
    with pytest.raises(kind) as caught:
        await _paid(node, Payment(to="lnbc1"), "uid:0")
    assert caught.value.message.startswith(said)
    pending = kind is PaymentPendingError
    advice = "do not pay again" if pending else "Do this. `freehold trace r-1`"
    assert advice in caught.value.hint


async def test_what_came_of_a_payment_is_told_again_also_when_its_invoice_has_expired() -> None:
    log, payment, run = MemoryLog(), Payment(to="lnbc1"), id_of("rent-2026-11", "uid:0")
    prompt = log.put_blob(command(payment).encode(), "prompt")
    text = log.put_blob(b'{"operation": "r-1:1", "paid_sat": 5}', "text")
    await log.append(
        Draft("run.started", run=run, agent=NODE_AGENT, blobs=(prompt,)),
        Draft("approval.asked", run=run, path="1", data={"id": "1"}),
        Draft("run.finished", run=run, data={"status": "completed"}, blobs=(text,)),
    )

    def bill(_payment: Payment, *, late: bool) -> None:
        if not late:
            raise PaymentError("the invoice has expired")

    async def program(_run: ProgramRun) -> Answer:
        raise AssertionError("it is paid again")

    agents, clock = MemoryAgents(agent()), ManualClock()
    runs = Runs(log=log, program=program, agents=agents, clock=clock, guards=NoGuards())
    node: Any = SimpleNamespace(runs=runs, purse=SimpleNamespace(bill=bill))
    paid = await _paid(node, payment, "uid:0", "rent-2026-11")
    assert (paid["run"], paid["operation"]) == (run, "r-1:1")
    with pytest.raises(PaymentError, match="has expired"):
        await _paid(node, payment, "uid:0", "rent-2026-12")
    await log.erase(text)
    with pytest.raises(PaymentPendingError, match="it was paid, and what that came to was erased"):
        await _paid(node, payment, "uid:0", "rent-2026-11")


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (PaymentPendingError, 504),
        (RunStoppedError, 403),
        (PolicyDeniedError, 403),
        (BudgetExceededError, 403),
        (PaymentError, 400),
        (NotFoundError, 404),
        (UnknownRunError, 404),
        (StoppingError, 503),
        (JournalWriteError, 503),
    ],
)
async def test_a_payment_that_is_under_way_is_no_fault_of_the_request(
    kind: type[FreeholdError], status: int
) -> None:
    """Programs know nothing of our classes: one that is told 400 corrects the request and pays
    again."""
    request = Request({"type": "http", "method": "POST", "path": "/wallet/pay", "headers": []})
    assert (await on_error(request, kind("x"))).status_code == status


async def test_a_daemon_that_breaks_in_a_payment_leaves_its_end_open() -> None:
    request = Request({"type": "http", "method": "POST", "path": "/wallet/pay", "headers": []})
    reply = await on_bug(request, KeyError("x"))
    with answering(reply.status_code, bytes(reply.body)) as client:
        with pytest.raises(PaymentPendingError, match="KeyError"):
            client.wallet.pay("lnbc1")
        with pytest.raises(PaymentPendingError, match="KeyError"):
            client.wallet.claim("in-1", 50)
        with pytest.raises(FreeholdError, match="KeyError") as caught:
            client.status()
    assert caught.value.exit_code == 1


def test_who_waits_for_a_mint_waits_longer_than_the_daemon_does() -> None:
    """Else a mint that takes its time is told as a daemon that stopped answering."""
    given: list[float] = []

    def answer(request: httpx.Request) -> httpx.Response:
        given.append(request.extensions["timeout"]["read"])
        return httpx.Response(200, content=b"{}")

    with Client(httpx.MockTransport(answer), where="the test") as client:
        client.wallet.add_mint("https://mint.example", spend=True, accept=True)
        client.wallet.invoice(5)
        client.wallet.claim("in-1", CLAIM_MAX_S)
        client.wallet.receive("cashuB")
        client.wallet.pay("lnbc1")
        client.wallet.reclaim("out-1")
    assert min(given) > CLAIM_MAX_S + 3 * PATIENCE.ask_s


# ── connections are closed, whatever happens (a leak is a warning, and a warning an error) ───


def test_a_connection_that_fails_leaves_no_socket(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with bind_unix(path):
        gone = Client.unix(path)
    with gone, pytest.raises(DaemonNotRunningError, match="no daemon answers"):
        gone.status()
    path.unlink()
    with gone, pytest.raises(DaemonNotRunningError):
        Client.unix(path)
    gc.collect()


@pytest.mark.skipif(sys.platform == "darwin", reason="a full queue refuses there")
def test_a_daemon_that_takes_nobody_just_now_is_waited_for_and_not_told_as_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many commands at once, or one that hangs: whoever thinks it is down starts another."""
    monkeypatch.setattr("node.client.CONNECT_S", 0.2)
    with bind_unix(tmp_path / "s") as listener, contextlib.ExitStack() as crowd:
        while True:
            peer = crowd.enter_context(socket.socket(socket.AF_UNIX))
            peer.setblocking(False)
            if peer.connect_ex(str(tmp_path / "s")):
                break
        with pytest.raises(NoAnswerError, match="takes no connections"):
            Client.unix(tmp_path / "s")
        monkeypatch.setattr("node.client.CONNECT_S", 20)
        with ThreadPoolExecutor(1) as pool:
            knocked = pool.submit(Client.unix, tmp_path / "s")
            listener.setblocking(True)
            listener.accept()[0].close()
            knocked.result().close()


def test_a_connection_that_ends_halfway_is_an_error_and_closed(tmp_path: Path) -> None:
    with bind_unix(tmp_path / "s") as listener:
        listener.setblocking(True)

        def answer() -> None:
            with listener.accept()[0]:
                pass  # the knock
            with listener.accept()[0] as connection:
                connection.recv(1000)
                connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n{")

        with ThreadPoolExecutor(1) as pool:
            answered = pool.submit(answer)
            with (
                Client.unix(tmp_path / "s") as client,
                pytest.raises(ControlError, match="stopped answering"),
            ):
                client.status()
            answered.result()
    gc.collect()


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
