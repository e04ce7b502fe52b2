"""The client of the control API: what it makes of answers, of another version's and of none."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from helpers.client import answering
from hypothesis import given, settings
from hypothesis import strategies as st

from node.client import Client
from node.errors import (
    BudgetExceededError,
    ControlError,
    DaemonNotRunningError,
    FreeholdError,
    NoAnswerError,
    PaymentPendingError,
    RequestError,
)
from node.gateway import bind_unix, sse
from node.types import JsonObject


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
