"""The control API of a real daemon: streams that resume, people's answers, limits, TCP."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import quote

import httpx
import pytest
from helpers.node import Node
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.routing import Route

from node.client import Client
from node.errors import (
    ApprovalError,
    FreeholdError,
    NotFoundError,
    PolicyDeniedError,
    RequestError,
    RunError,
    RunStoppedError,
    UnknownRunError,
    WorkspaceError,
)
from node.gateway.app import ROUTES
from node.gateway.http import Body

if TYPE_CHECKING:
    from pathlib import Path

    from node.gateway.replies import Event

TOKEN = "0123456789abcdef0123456789abcdef"


def client(node: Node) -> Client:
    return Client.unix(node.root / "run" / "control.sock")


def raw(node: Node) -> httpx.Client:
    """HTTP without our client's manners."""
    no_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # the default one takes long to make
    transport = httpx.HTTPTransport(uds=str(node.root / "run" / "control.sock"), verify=no_tls)
    return httpx.Client(transport=transport, base_url="http://node", timeout=20)


def ids(events: list[Event]) -> list[int]:
    return [event["id"] for event in events]


def take(events: Iterator[Event], count: int) -> list[Event]:
    """The first events; closes the stream, as a client that lost its connection would."""
    found = []
    for event in events:
        found.append(event)
        if len(found) == count:
            break
    return found


def test_a_run_is_named_by_its_beginning_or_last(running: Node) -> None:
    with client(running) as control:
        with pytest.raises(UnknownRunError, match="there are no runs yet"):
            control.run("last")
        ids = [control.start("clerk", f"say {word}") for word in ("one", "two")]
        for run in ids:
            list(control.watch(run))
        assert control.run("last")["id"] == control.run(ids[1][:10])["id"] == ids[1]
        assert control.trace("last")["run"] == ids[1]
        assert control.cancel(ids[0][:10], "done already") == ids[0]
        assert control.replay("last")["ok"]
        assert list(control.watch("last"))[-1]["type"] == "run.finished"
        with pytest.raises(UnknownRunError, match="2 runs begin with r-"):
            control.trace("r-")
        for name in ("nothing", "r-0"):  # no id has a 0: they are base32
            with pytest.raises(UnknownRunError, match="there is no run"):
                control.trace(name)
        for name in ("", " ", "%", "..", "a/b"):
            with pytest.raises(NotFoundError, match="nothing is named"):
                control.trace(name)


# ── streams ─────────────────────────────────────────────────────────────────────────────────


def test_tokens_and_steps_arrive_in_order(running: Node) -> None:
    with client(running) as control:
        run = control.start("clerk", "words 20")
        events = list(control.watch(run))
    types = [event["type"] for event in events]
    assert types[0] == "run.started"
    assert types[-1] == "run.finished"
    assert ids(events) == sorted(set(ids(events)))
    said = "".join(str(e["data"]["text"]) for e in events if e["type"] == "token")
    assert said.split() == [f"word{n}" for n in range(20)]


def test_a_watch_resumes_without_gap_or_repetition(running: Node) -> None:
    with client(running) as control:
        run = control.start("clerk", "words 200")
        whole = list(control.watch(run))
        pieces: list[Event] = []
        while len(pieces) < len(whole):
            after = pieces[-1]["id"] if pieces else 0
            pieces += take(control.watch(run, after), 37)
        assert ids(pieces) == ids(whole)


def test_the_journal_resumes_from_an_index(running: Node) -> None:
    with client(running) as control:
        for number in range(3):
            for _ in control.watch(control.start("clerk", f"say {number}")):
                pass
        whole = list(control.events(follow=False))
        assert ids(whole) == list(range(len(whole)))
        assert [e["data"]["i"] for e in whole] == ids(whole)
        assert ids(list(control.events(5, follow=False))) == ids(whole)[5:]
        assert list(control.events(len(whole), follow=False)) == [], "who has seen all goes on"
    with (
        raw(running) as http,
        http.stream("GET", "/events?follow=0", headers={"Last-Event-ID": "4"}) as response,
    ):
        first = next(line for line in response.iter_lines() if line.startswith("id:"))
    assert first == "id: 5"
    with raw(running) as http:
        for said in ("999999", "9" * 19):  # of another log, or of this one before a rollback
            refused = http.get("/events", headers={"Last-Event-ID": said})
            assert (refused.status_code, refused.json()["code"]) == (400, "RequestError")


def test_following_sees_new_entries_and_ends_with_the_daemon(node: Node) -> None:
    node.up()
    with client(node) as control, client(node) as other:
        events = control.events(0)
        seen = take(events, 1)
        assert seen[0]["type"] == "node.started"
        following = control.events(1)
        run = other.start("clerk", "say hello")
        for event in following:
            seen.append(event)
            if event["type"] == "run.finished":
                other.shutdown()
    assert next(e for e in seen if e["type"] == "run.started")["data"]["run"] == run
    assert ids(seen) == list(range(len(seen)))
    assert seen[-1]["type"] == "node.stopped"
    assert node.process is not None
    assert node.process.wait(30) == 0


def test_an_abandoned_stream_costs_the_daemon_nothing(node: Node) -> None:
    node.up()
    with client(node) as control:
        run = control.start("clerk", "wait done")
        for _ in range(20):
            with client(node) as other:
                assert take(other.watch(run), 1)
        assert control.status()["runs_active"] == 1


# ── people ──────────────────────────────────────────────────────────────────────────────────


def asking(node: Node) -> None:
    path = node.root / "agents" / "clerk.toml"
    path.write_text(path.read_text().replace('name = "calc"', 'name = "calc"\napproval = "ask"'))


@pytest.mark.parametrize("answer", ["approve", "deny"])
def test_an_approval_survives_a_restart(node: Node, answer: str) -> None:
    asking(node)
    node.up()
    with client(node) as control:
        run = control.start("clerk", "calc 6*7")
        assert any(event["type"] == "approval.asked" for event in control.watch(run))
        (question,) = control.approvals()
        assert question["run"] == run
        assert question["args"] == {"expression": "6*7"}
        assert question["expires"] == pytest.approx(question["asked"] + 86_400, abs=60)
        assert control.run(run)["status"] == "waiting"
    node.down()
    node.up()
    with client(node) as control:
        (again,) = control.approvals()
        assert again["id"] == question["id"]
        if answer == "approve":
            control.approve(again["id"])
        else:
            control.deny(again["id"], "not today")
        for _ in control.watch(run):
            pass
        text = control.run(run)["text"]
        assert ("42" in text) == (answer == "approve")
        assert control.approvals() == []
        with pytest.raises(ApprovalError):
            control.approve(again["id"])
        settled = [e for e in control.events(follow=False) if e["type"] == "approval.settled"]
    assert str(settled[0]["data"]["actor"]).startswith("uid:")


def test_estop_stops_everything_until_resume(node: Node) -> None:
    node.up()
    with client(node) as control:
        run = control.start("clerk", "wait done")
        control.estop()
        assert control.status()["estop"]
        assert control.run(run)["status"] == "parked"
        with pytest.raises(RunStoppedError):
            control.start("clerk", "say x")
    node.down()
    node.up()
    with client(node) as control:
        assert control.status()["estop"]
        control.resume()
        assert not control.status()["estop"]
        assert control.run(run)["status"] == "running"
        control.cancel(run, "enough")
        found = control.run(run)
    assert found["status"] == "stopped"
    assert "enough" in found["reason"]


def test_workspace_history_and_rollback(node: Node) -> None:
    node.up()
    with client(node) as control:
        for text in ("one", "two"):
            for _ in control.watch(control.start("clerk", f"write note.txt {text}")):
                pass
        newest, oldest = control.workspace_log("clerk")
        assert newest["changed"] == ["note.txt"]
        diff = control.workspace_diff("clerk", str(oldest["id"]), str(newest["id"]))
        assert "-one" in diff
        assert "+two" in diff
        made = control.workspace_rollback("clerk", str(oldest["id"]))
        assert made == control.workspace_log("clerk")[0]["id"]
        entries = list(control.events(follow=False))
        (node.root / "agents" / "clerk.toml").unlink()
        control.reload_agents()
        assert control.workspace_log("clerk")[0]["id"] == made, "its files are still there"
    assert (node.root / "workspaces" / "clerk" / "note.txt").read_text() == "one"
    assert entries[-1]["type"] == "workspace.rolled_back"


def test_replay_says_the_same_and_forks(running: Node) -> None:
    with client(running) as control:
        run = control.start("clerk", "calc 2+2")
        for _ in control.watch(run):
            pass
        report = control.replay(run)
        assert report["ok"] is True, report
        step = next(
            str(step["path"]) for step in control.trace(run)["steps"] if step["kind"] == "tool"
        )
        forked = str(control.replay(run, from_step=step)["run"])
        for _ in control.watch(forked):
            pass
        assert control.run(forked)["text"] == control.run(run)["text"]
        assert control.run(forked)["forked_from"] == [run, step]


# ── what a client may send ──────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("body", "part"),
    [
        (b"{}", "agent"),
        (b"[1]", "body"),
        (b"{", "body"),
        (b'{"agent": "clerk", "prompt": ""}', "prompt"),
        (b'{"agent": "clerk", "prompt": 3}', "prompt"),
        (b'{"agent": "clerk", "prompt": "x", "evil": 1}', "evil"),
        (b"\xff", "body"),
    ],
)
def test_bodies_are_strict(running: Node, body: bytes, part: str) -> None:
    with raw(running) as http:
        reply = http.post("/runs", content=body)
    assert reply.status_code == 400
    assert reply.json()["code"] == "RequestError"
    assert part in reply.json()["error"]
    assert reply.json()["hint"]


def test_too_much_is_refused_while_it_is_read(node: Node) -> None:
    node.up()
    with client(node) as control, pytest.raises(RequestError, match="larger than"):
        control.start("clerk", "x" * 5_000_000)
    with client(node) as control:
        for limit in ("-1", "1001", "x", "9" * 30):
            with pytest.raises(RequestError, match="limit"):
                control.runs(limit=limit)
        assert control.runs() == []


def test_names_beyond_all_measure_are_refused_in_words(running: Node) -> None:
    with client(running) as control, raw(running) as http:
        reply = http.post(f"/approvals/{'9' * 5_000}/approve")
        assert (reply.status_code, reply.json()["code"]) == (400, "ApprovalError")
        for ask in (control.run, control.trace, control.approve):
            with pytest.raises(NotFoundError, match="nothing is named"):
                ask("9" * 70_000)
        with pytest.raises(RequestError, match="too long"):
            control.runs(agent="a" * 70_000)
        with pytest.raises(RequestError, match="too long"):
            control.workspace_diff("clerk", "a" * 70_000)


def test_tcp_wants_the_token(node: Node, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    node.env |= {
        "FREEHOLD_CONTROL__BIND": f"127.0.0.1:{port}",
        "FREEHOLD_CONTROL__TOKEN": TOKEN,
    }
    node.up()
    url = f"http://127.0.0.1:{port}"
    for wrong in ({}, {"authorization": "Bearer nope"}, {"authorization": f"Basic {TOKEN}"}):
        reply = httpx.get(f"{url}/status", headers=wrong, trust_env=False)
        assert reply.status_code == 401
        assert TOKEN not in reply.text
        assert reply.json()["hint"]
    transport = httpx.HTTPTransport()
    with Client(transport, where=url, token=TOKEN, url=url) as control:
        run = control.start("clerk", "say over tcp")
        for _ in control.watch(run):
            pass
        assert control.run(run)["actor"] == "token"
        with pytest.raises(PolicyDeniedError, match="own socket"):
            control.backup(tmp_path / "all.tar.gz")  # it has the seed's key, and all others
        with pytest.raises(PolicyDeniedError, match="own socket"):
            control.wallet.words()
    assert not (tmp_path / "all.tar.gz").exists()
    with client(node) as control:
        assert control.status()["name"] == "test-node"


def test_a_taken_port_is_said(node: Node) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        env = {"FREEHOLD_CONTROL__BIND": address, "FREEHOLD_CONTROL__TOKEN": TOKEN}
        done = node.cli("up", **env)
    assert done.returncode == 1
    assert address in done.stderr
    assert "hint:" in done.stderr


def test_json_of_errors_is_what_the_client_raises(running: Node) -> None:
    with raw(running) as http:
        reply = http.get("/nowhere")
        assert reply.status_code == 404
        assert set(json.loads(reply.content)) == {"error", "hint", "code"}
        assert http.delete("/runs").status_code == 405
    with client(running) as control, pytest.raises(FreeholdError) as caught:
        control.workspace_log("no-such-agent/..")
    assert caught.value.hint


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET /runs/ HTTP/1.1\r\nhost: n\r\n\r\n", 404),
        (b"DELETE /runs HTTP/1.1\r\nhost: n\r\n\r\n", 405),
        ("GET /runs?agent=zoë HTTP/1.1\r\nhost: n\r\n\r\n".encode(), 400),
        (b"GET /status HTTP/1.1\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\r\n\r\n", 400),
        (b"POST /runs HTTP/1.1\r\nhost: n\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"POST /resume HTTP/1.1\r\nhost: n\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", 400),
        (
            b'POST /runs HTTP/1.1\r\nhost: n\r\ncontent-length: 3000\r\n\r\n{"%s' % (b"k" * 2998),
            400,
        ),
        (
            b"POST /resume HTTP/1.1\r\nhost: n\r\ncontent-length: 3000\r\n\r\n"
            b'{"%s":1}' % (b"k" * 2994),
            400,
        ),
    ],
    ids=["slash", "method", "not ascii", "no host", "tls", "chunk", "unread", "cut", "long key"],
)
def test_every_refusal_has_one_form(running: Node, sent: bytes, status: int) -> None:
    said = spoken(running, sent)
    head, _, body = said.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert said.count(b"HTTP/1.1 ") == 1
    assert b"content-type: application/json" in head
    assert (b"allow: GET, HEAD, POST" in head) == (status == 405)
    told = json.loads(body)
    assert set(told) == {"error", "hint", "code"}
    assert all(told.values())
    assert len(body) < 1_000


def test_what_is_no_http_leaves_no_traceback(node: Node) -> None:
    """Not behind an answer, under one, nor where the answer does not wait for the body."""
    node.up()
    chunked = b" HTTP/1.1\r\nhost: n\r\ntransfer-encoding: chunked\r\n\r\n"
    for asked in (b"GET /status", b"GET /events", b"POST /estop"):
        spoken(node, asked + chunked, b"zz\r\n")
    for asked in (b"GET /status", b"GET /events", b"POST /estop", b"POST /resume"):
        assert spoken(node, asked + chunked + b"zz\r\n").count(b"HTTP/1.1 ") == 1
    assert node.down() == 0
    assert "Traceback" not in node.log.read_text()


def spoken(node: Node, *pieces: bytes) -> bytes:
    """All that a daemon says to bytes, each piece sent when it has said something to the last."""
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(20)
        peer.connect(str(node.root / "run" / "control.sock"))
        said = b""
        for piece in pieces:
            peer.sendall(piece)
            said += peer.recv(65_536)
        peer.shutdown(socket.SHUT_WR)
        while more := peer.recv(65_536):
            said += more
    return said


def test_a_request_that_takes_nothing_is_not_done_with_something(node: Node) -> None:
    """Whoever says more than is understood means something else."""
    asking(node)
    node.up()
    with client(node) as control, raw(node) as http:
        run = control.start("clerk", "calc 6*7")
        next(event for event in control.watch(run) if event["type"] == "approval.asked")
        (question,) = control.approvals()
        for path, body in (
            (f"/approvals/{question['id']}/approve", {"reason": "why not"}),
            (f"/runs/{run}/erase", {"dry_run": True}),
            ("/agents/reload", {"agent": "clerk"}),
            ("/resume", {"run": run}),
            ("/wallet/words", {"show": False}),
            ("/shutdown", {"in_s": 60}),
        ):
            reply = http.post(path, json=body)
            assert (reply.status_code, reply.json()["code"]) == (400, "RequestError"), path
            assert reply.json()["hint"].startswith("This request takes: nothing.")
        assert len(control.approvals()) == 1
        assert not control.status()["stopping"]
        assert http.post("/estop", json={"why": "smoke"}).status_code == 200  # it is no moment to
        assert control.status()["estop"]  # be particular


def test_what_is_asked_for_in_another_way_is_not_something_else(node: Node) -> None:
    node.up()
    with raw(node) as http, http.stream("GET", "/events?follow=false") as reply:
        assert (reply.status_code, "follow" in reply.read().decode()) == (400, True)
    with client(node) as control:
        control.start("clerk", "wait done")
        with pytest.raises(WorkspaceError, match="clerk is at work on its files"):
            control.workspace_rollback("clerk", "1234")


def test_an_edit_that_is_not_unicode_is_refused_in_words(running: Node) -> None:
    with client(running) as control:
        run = control.start("clerk", "calc 2+2")
        for _ in control.watch(run):
            pass
        with pytest.raises(RunError, match=r"step '\\ud800' is not taken over"):
            control.replay(run, from_step="3", edit='{"results": {"\\ud800": 1}}')


ROUTED = [route for route in ROUTES if route.path not in ("/shutdown", "/estop", "/backup")]
FIELDS = sorted({name for body in Body.__subclasses__() for name in body.model_fields})
NAMES = st.sampled_from(["clerk", "last", "r-", "0", "٣", "..", "\0", "\n", "x" * 300])
VALUES = st.recursive(
    NAMES | st.none() | st.booleans() | st.integers() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=6), inner),
    max_leaves=4,
)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    route=st.sampled_from(ROUTED),
    data=st.data(),
    query=st.dictionaries(
        st.sampled_from(["limit", "from", "after", "before", "old", "new", "agent"]),
        NAMES | st.text(max_size=6),
        max_size=2,
    ),
    body=st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=3).map(
        lambda each: json.dumps(each).encode()
    )
    | st.binary(max_size=20),
)
def test_whatever_is_sent_gets_an_answer_in_words(
    running: Node, route: Route, data: st.DataObject, query: dict[str, str], body: bytes
) -> None:
    method = data.draw(st.sampled_from(sorted({*(route.methods or ()), "PUT"} - {"HEAD"})))
    parts = [data.draw(NAMES) if "{" in part else part for part in route.path.split("/")]
    path = "/".join(quote(part, safe="") for part in parts)
    query = {**query, "follow": "0"}
    with raw(running) as http, http.stream(method, path, params=query, content=body) as reply:
        assert reply.status_code < 500, reply.read()
        if not reply.is_success:
            said = json.loads(reply.read())
            assert set(said) == {"error", "hint", "code"}
            assert said["error"]
            assert said["hint"]
