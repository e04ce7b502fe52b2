"""Payments over the control API: what is told of one whose end is not known."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest
from helpers.client import answering
from starlette.requests import Request

from node.client import Client
from node.clock import ManualClock
from node.errors import (
    BudgetExceededError,
    FreeholdError,
    JournalWriteError,
    NotFoundError,
    PaymentError,
    PaymentPendingError,
    PolicyDeniedError,
    RunStoppedError,
    StoppingError,
    UnknownRunError,
)
from node.gateway.http import on_bug, on_error
from node.gateway.wallet_pay import CLAIM_MAX_S, _paid
from node.journal import Draft, MemoryLog
from node.money import Payment
from node.runs import Answer, NoGuards, ProgramRun, RunEvent, RunResult, Runs
from node.runs.agent import NODE_AGENT
from node.runs.once import id_of
from node.runs.owner import command
from node.runs.testing import MemoryAgents, agent
from wallet.mint.limits import PATIENCE


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
