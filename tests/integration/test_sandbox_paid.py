"""The `http` capability where a server sells its answers (HTTP 402, NUT-24)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler

import pytest
from helpers.sandbox import call_with

from node.clock import Clock, ManualClock
from node.errors import PaymentError, ToolLimitError
from node.sandbox import Grant, Limits, Ticket
from node.sandbox.abi import Err
from node.sandbox.capabilities.http import http_functions
from node.sandbox.hostcall import HostCall
from node.sandbox.network import SystemNetwork
from node.sandbox.testing import MemoryPayer

PRICE = "creqApaymentrequest"
Route = Callable[["Handler", str], None]


@dataclass
class Server:
    """Answers by path; keeps path and token of what it was asked."""

    port: int = 0
    routes: dict[str, Route] = field(default_factory=dict)
    seen: list[tuple[str, str | None, bytes]] = field(default_factory=list)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"


class Handler(BaseHTTPRequestHandler):
    told: Server

    def do_GET(self) -> None:
        size = int(self.headers.get("Content-Length") or 0)
        self.told.seen.append((self.path, self.headers.get("X-Cashu"), self.rfile.read(size)))
        self.told.routes[self.path](self, self.headers.get("X-Cashu") or "")

    do_POST = do_HEAD = do_GET  # noqa: N815

    def reply(self, status: int, body: str = "", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: object) -> None:
        return


def sold(handler: Handler, token: str) -> None:
    if token:
        handler.reply(200, "what was sold")
    else:
        handler.reply(402, "pay first", X_Cashu=PRICE)


@pytest.fixture
def server(listen: Callable[[type[BaseHTTPRequestHandler]], int]) -> Server:
    told = Server(routes={"/sold": sold})
    told.port = listen(type("Bound", (Handler,), {"told": told}))
    return told


def host_call(
    pattern: str, payer: object, clock: Clock | None = None, **limits: object
) -> HostCall:
    return call_with(
        Grant(http=(pattern,), payer=payer),  # type: ignore[arg-type]
        clock=clock,
        network=Here(),
        loop=asyncio.get_running_loop(),
        **limits,  # type: ignore[arg-type]
    )


async def fetch(
    server: Server,
    payer: object,
    path: str = "/sold",
    *,
    host: str = "",
    clock: Clock | None = None,
    **more: object,
) -> tuple[HostCall, object]:
    limits = {name: more.pop(name) for name in list(more) if name in Limits.__annotations__}
    pattern = f"{host or 'http://127.0.0.1'}:{server.port}/*"
    call = host_call(pattern, payer, clock, **limits)
    url = pattern.removesuffix("/*") + path
    asked = json.dumps({"url": url, **more})
    answer = await asyncio.to_thread(http_functions(call.limits)[0].run, call, asked)
    if isinstance(answer, Err):
        return call, answer.value
    assert isinstance(answer, str)
    return call, json.loads(answer)


class Here(SystemNetwork):
    """Every name is this machine."""

    def resolve(self, host: str, port: int, timeout_s: float) -> list[str]:
        return ["127.0.0.1"]


async def test_a_price_is_paid_and_the_answer_given(server: Server) -> None:
    payer = MemoryPayer()
    _, told = await fetch(server, payer, method="POST", body="a question")
    assert (told["status"], told["body"]) == (200, "what was sold")  # type: ignore[index]
    assert payer.asked == [(server.url("/sold"), PRICE)]
    assert payer.answers == [200]
    assert server.seen == [
        ("/sold", None, b"a question"),
        ("/sold", "cashuBtoken1", b"a question"),
    ]


async def test_without_a_payer_the_guest_sees_the_402(server: Server) -> None:
    _, told = await fetch(server, None)
    assert (told["status"], told["headers"]["x-cashu"]) == (402, PRICE)  # type: ignore[index]


async def test_a_402_that_names_no_price_is_given_as_it_is(server: Server) -> None:
    server.routes["/free"] = lambda handler, _token: handler.reply(402, "no price")
    payer = MemoryPayer()
    _, told = await fetch(server, payer, "/free")
    assert (told["status"], payer.asked) == (402, [])  # type: ignore[index]


async def test_a_head_is_told_the_price_and_not_paid_for(server: Server) -> None:
    """There is nothing in its answer, and the GET after it would be paid again."""
    server.routes["/sold"] = lambda handler, _: handler.reply(402, X_Cashu=PRICE)
    payer = MemoryPayer()
    _, told = await fetch(server, payer, method="HEAD")
    assert (told["status"], told["headers"]["x-cashu"]) == (402, PRICE)  # type: ignore[index]
    assert payer.asked == []


@pytest.mark.parametrize("status", [200, 400, 403])
async def test_a_price_on_any_other_answer_is_not_paid(server: Server, status: int) -> None:
    server.routes["/given"] = lambda handler, _: handler.reply(status, "given", X_Cashu=PRICE)
    payer = MemoryPayer()
    _, told = await fetch(server, payer, "/given")
    assert (told["status"], payer.asked) == (status, [])  # type: ignore[index]


async def test_what_is_not_paid_is_said_so(server: Server) -> None:
    payer = MemoryPayer(refuse=PaymentError("it costs 9 sat, and 3 are left"))
    _, told = await fetch(server, payer)
    assert (
        told == f"{server.url('/sold')} wants to be paid, and was not: it costs 9 sat, and 3 "
        "are left"
    )
    assert [token for _, token, _ in server.seen] == [None]


async def test_a_server_that_asks_again_is_paid_once(server: Server) -> None:
    server.routes["/greedy"] = lambda handler, _: handler.reply(402, "more", X_Cashu=PRICE)
    payer = MemoryPayer()
    _, told = await fetch(server, payer, "/greedy")
    assert (told["status"], payer.answers) == (402, [402])  # type: ignore[index]
    assert len(server.seen) == 2


async def test_the_token_is_in_nothing_the_guest_is_told(server: Server) -> None:
    def echo(handler: Handler, token: str) -> None:
        if not token:
            handler.reply(402, X_Cashu=PRICE)
            return
        quoted = token.replace("t", "%74")
        handler.reply(200, f"you paid {token}, {quoted}", X_Cashu=token, Link=f"<{token}>")

    server.routes["/echo"] = echo
    call, told = await fetch(server, MemoryPayer(), "/echo")
    assert "cashuBtoken1" not in json.dumps(told)
    assert "cashuBtoken1" not in repr(call)
    assert told["body"].startswith("you paid [secret], ")  # type: ignore[index]


async def test_a_token_does_not_follow_a_redirect(server: Server) -> None:
    def away(handler: Handler, token: str) -> None:
        if token:
            handler.reply(302, Location="/elsewhere")
        else:
            handler.reply(402, X_Cashu=PRICE)

    server.routes["/away"] = away
    server.routes["/elsewhere"] = lambda handler, token: handler.reply(200, token or "none")
    payer = MemoryPayer()
    _, told = await fetch(server, payer, "/away")
    assert (told["body"], payer.answers) == ("none", [302])  # type: ignore[index]


async def test_nothing_is_paid_over_plain_http_to_the_internet(server: Server) -> None:
    payer = MemoryPayer()
    _, told = await fetch(server, payer, host="http://shop.example.org")
    assert "not on the open internet" in str(told)
    assert payer.asked == []

    class Open(Here):
        def resolve(self, host: str, port: int, timeout_s: float) -> list[str]:
            return ["93.184.215.14"]

        def connect(self, address: str, port: int, timeout_s: float) -> object:  # type: ignore[override]
            return super().connect("127.0.0.1", port, timeout_s)

    patterns = (f"http://shop.example.org:{server.port}/*", f"http://box.local:{server.port}/*")
    grant = Grant(http=patterns, payer=payer)
    call = call_with(grant, network=Open(), loop=asyncio.get_running_loop())
    asked = json.dumps({"url": f"http://shop.example.org:{server.port}/sold"})
    answer = await asyncio.to_thread(http_functions(call.limits)[0].run, call, asked)
    assert isinstance(answer, Err)
    assert "wants to be paid over plain HTTP" in answer.value
    assert payer.asked == []


async def test_a_call_pays_no_more_than_so_often(server: Server) -> None:
    def endless(handler: Handler, token: str) -> None:
        if token:
            handler.reply(302, Location="/endless")
        else:
            handler.reply(402, X_Cashu=PRICE)

    server.routes["/endless"] = endless
    payer = MemoryPayer()
    _, told = await fetch(server, payer, "/endless", payments=3)
    assert told == "more payments than payments = 3"
    assert len(payer.asked) == 3


async def test_a_price_that_is_not_paid_counts_too(server: Server) -> None:
    """The time that it took is not the call's, so there must be an end of it."""
    payer = MemoryPayer(refuse=PaymentError("the mint does not answer"))
    call = host_call(server.url("/*"), payer, payments=2)
    run, asked = http_functions(call.limits)[0].run, json.dumps({"url": server.url("/sold")})
    told = [await asyncio.to_thread(run, call, asked) for _ in range(3)]
    assert told[2] == Err("more payments than payments = 2")
    assert len(payer.asked) == 2


async def test_the_time_that_paying_takes_is_not_the_calls(server: Server) -> None:
    clock = ManualClock()

    class Slow:
        async def pay(self, url: str, request: str) -> Ticket:
            clock.advance(60)
            return Ticket("cashuBslow")

    call, told = await fetch(server, Slow(), clock=clock)
    assert told["status"] == 200  # type: ignore[index]
    assert call.remaining_s() == 30


async def test_paying_has_its_own_limit(server: Server) -> None:
    mint_answers, done = asyncio.Event(), asyncio.Event()

    class Slower:
        async def pay(self, url: str, request: str) -> Ticket:
            await mint_answers.wait()
            done.set()
            return Ticket("cashuBlate")

    _, told = await fetch(server, Slower(), payment_seconds=0.02)
    assert "paying took too long" in str(told)
    mint_answers.set()
    await asyncio.wait_for(done.wait(), 5)  # it was not broken off


async def test_what_nobody_waits_for_any_more_is_not_bought(server: Server) -> None:
    """The call was cancelled while it was paid for: the token stays, and can be taken back."""
    told: list[int] = []

    class Cancelling:
        async def pay(self, url: str, request: str) -> Ticket:
            call.is_cancelled = True
            return Ticket("cashuBunwanted", told.append)

    call = host_call(server.url("/*"), Cancelling())
    asked = json.dumps({"url": server.url("/sold")})
    with pytest.raises(ToolLimitError, match="cancelled"):
        await asyncio.to_thread(http_functions(call.limits)[0].run, call, asked)
    assert [token for _, token, _ in server.seen] == [None]
    assert told == [0]


async def test_nothing_is_paid_for_who_does_not_wait_any_more(server: Server) -> None:
    payer = MemoryPayer()
    call = host_call(server.url("/*"), payer)

    def slow(handler: Handler, _token: str) -> None:
        call.is_cancelled = True  # the run was stopped while the server took its time
        handler.reply(402, X_Cashu=PRICE)

    server.routes["/slow"] = slow
    asked = json.dumps({"url": server.url("/slow")})
    with pytest.raises(ToolLimitError, match="cancelled"):
        await asyncio.to_thread(http_functions(call.limits)[0].run, call, asked)
    assert payer.asked == []


async def test_no_answer_to_a_token_is_told_as_none(server: Server) -> None:
    def hang_up(handler: Handler, token: str) -> None:
        if token:
            handler.connection.close()
        else:
            handler.reply(402, X_Cashu=PRICE)

    server.routes["/gone"] = hang_up
    payer = MemoryPayer()
    _, told = await fetch(server, payer, "/gone")
    assert "the request failed" in str(told)
    assert "cashuB" not in str(told)
    assert payer.answers == [0]
