"""What is open is asked about until it has ended, and those who wait are told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from node.clock import ManualClock
from node.errors import RunStoppedError
from node.journal import Draft, MemoryLog
from node.money import FeeRule, Found, Keeper, Payment, WalletKey, WalletPurse
from node.money.ways import Ways
from node.runs import Outcome as Done
from node.runs import Runs, Settling, programs
from node.runs.checks import NoGuards
from node.runs.testing import CountingEffect, MemoryAgents, ScriptedProgram, agent
from wallet import Rules
from wallet.lightning import WebReply, WebRequest
from wallet.lightning.testing import MemoryWeb
from wallet.mint import MintClient
from wallet.mint.testing import Fault, MemoryLightning, MemoryMint, Outcome
from wallet.protocol import requests
from wallet.protocol.conditions import Condition
from wallet.protocol.requests import PaymentRequest, Transport
from wallet.wallet import Wallet

URL = "https://mint.example"
NOW = 1_800_000_000.0
KEY = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"


async def shop(_request: WebRequest) -> WebReply:
    return WebReply(200, b"{}")


class Node:
    """A node whose owner pays, over a mint in memory."""

    def __init__(self, folder: Path) -> None:
        self.lightning = MemoryLightning(now=lambda: NOW)
        self.mint = MemoryMint(URL, fee_ppk=100, lightning=self.lightning, now=lambda: NOW)
        self.keeper = Keeper(
            folder / "wallet.db",
            folder / "keys",
            rules=Rules(multipath=False),
            connect=lambda url: MintClient(url, self.mint),
        )
        self.web = MemoryWeb()
        self.clock = ManualClock()
        self.log = MemoryLog(clock=self.clock)
        ways = Ways(web=self.web)
        self.purse = WalletPurse(self.keeper, fees=FeeRule(), ways=ways, now=lambda: NOW, wait_s=0)
        self.runs = self.make()
        self.settling = self.settling_of(self.runs)

    def make(self) -> Runs:
        return Runs(
            log=self.log,
            program=programs(ScriptedProgram(lambda _: []), self.purse),
            agents=MemoryAgents(),
            clock=self.clock,
            guards=NoGuards(),
        )

    def settling_of(self, runs: Runs) -> Settling:
        return Settling(self.keeper, self.purse, runs, self.log, tick_s=0.01)

    async def fill(self) -> None:
        wallet = await self.keeper.make()
        await wallet.add_mint(URL)
        made = await wallet.request_invoice(500)
        self.lightning.pay(made.bolt11)
        await wallet.claim_invoice(made.operation)

    async def pay(self, to: str) -> str:
        """A payment of the owner's that hangs; its run, which waits."""
        self.lightning.outcome = Outcome.PENDING
        run = await self.runs.pay(Payment(to), actor="uid:1")
        async for event in self.runs.watch(run):
            if event.type == "approval.asked":
                return run
        raise AssertionError("it did not hang")

    def settled(self) -> list[str]:
        entries = self.log.entries(types=("wallet.settled",))
        return [f"{each.data['kind']} {each.data['state']}" for each in entries]


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    made = Node(tmp_path)
    await made.fill()
    yield made
    await made.keeper.aclose()


@pytest.mark.parametrize("outcome", [Outcome.PAID, Outcome.FAILED])
async def test_a_run_that_waits_goes_on_when_its_payment_has_ended(
    node: Node, outcome: Outcome
) -> None:
    invoice = node.lightning.invoice(30_000)
    run = await node.pay(invoice)
    asking = asyncio.create_task(node.settling.forever())
    node.lightning.outcome = outcome
    node.lightning.end(invoice, outcome)
    result = await asyncio.wait_for(node.runs.wait(run), 30)
    asking.cancel()
    assert node.runs.approvals() == []
    if outcome is Outcome.PAID:
        assert (result.status, json.loads(result.text)["paid_sat"]) == ("completed", 30)
        assert node.settled() == ["melt done"]
    else:
        assert (result.status, result.usage.msat) == ("failed", 0)
        assert node.settled() == ["melt failed"]
    assert node.lightning.is_paid(invoice) is (outcome is Outcome.PAID)


async def test_an_invoice_that_is_paid_is_taken_by_itself(node: Node) -> None:
    wallet = node.keeper.wallet()
    made = await wallet.request_invoice(64)
    asking = asyncio.create_task(node.settling.forever())
    node.lightning.pay(made.bolt11)
    async for entry in node.log.subscribe(0):
        if entry.type == "wallet.settled":
            break
    asking.cancel()
    assert (wallet.balance(), node.settled()) == (564, ["mint done"])


async def test_a_token_that_was_redeemed_is_open_no_more(node: Node, tmp_path: Path) -> None:
    sent = await node.keeper.wallet().send(5)
    async with await Wallet.open(
        tmp_path / "other" / "w.db", key=bytes(32), connect=lambda url: MintClient(url, node.mint)
    ) as other:
        await other.add_mint(URL)
        await other.receive(sent.token)
    asking = asyncio.create_task(node.settling.forever())
    async with asyncio.timeout(30):
        async for entry in node.log.subscribe(0):
            if entry.data.get("outbox") == "delivered":
                break
    asking.cancel()
    assert node.keeper.wallet().outbox() == ()


async def some_rounds(settling: Settling, monkeypatch: pytest.MonkeyPatch) -> None:
    """Has it look for what is open five times."""
    enough, rounds, catch_up = asyncio.Event(), [], settling.telling.catch_up

    async def counted(*, over_s: float) -> None:
        await catch_up(over_s=over_s)
        rounds.append(over_s)
        if len(rounds) > 5:
            enough.set()

    monkeypatch.setattr(settling.telling, "catch_up", counted)
    asking = asyncio.create_task(settling.forever())
    await asyncio.wait_for(enough.wait(), 30)
    asking.cancel()


async def test_nobody_is_asked_where_nothing_is_open(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = len(node.mint.requests)
    await some_rounds(node.settling, monkeypatch)
    assert len(node.mint.requests) == before


async def test_a_mint_that_is_away_leaves_it_open(node: Node) -> None:
    invoice = node.lightning.invoice(30_000)
    run = await node.pay(invoice)
    node.lightning.end(invoice, Outcome.PAID)
    node.mint.faults.add(Fault.UNREACHABLE, times=50)
    assert await node.settling.once() == ()
    assert [each.run for each in node.runs.approvals()] == [run]
    node.mint.faults.clear()
    assert [each.state for each in await node.settling.once()] == ["done"]
    assert (await node.runs.wait(run)).status == "completed"


async def stopped_before_its_mint(node: Node) -> tuple[str, str]:
    """An invoice, and the run that pays it, in an emergency stop: its mint never got the payment,
    and would make it now."""
    invoice = node.lightning.invoice(30_000)
    for path in ("/v1/melt/bolt11", "/v1/melt/quote/bolt11/*", "/v1/checkstate"):
        node.mint.faults.add(Fault.LOST_REQUEST, path, times=50)
    run = await node.pay(invoice)
    await node.runs.estop("uid:1")
    node.mint.faults.clear()
    node.lightning.outcome = Outcome.PAID
    return invoice, run


async def test_an_emergency_stop_makes_no_payment_that_its_mint_never_got(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    invoice, run = await stopped_before_its_mint(node)
    again = node.make()  # a restart
    for settling in (node.settling, node.settling_of(again)):
        with pytest.raises(RunStoppedError):
            await settling.once()
        await some_rounds(settling, monkeypatch)
    assert not node.lightning.is_paid(invoice)
    assert await again.recover() == []
    assert await again.resume("uid:1") == [run]
    assert (await again.wait(run)).status == "completed"
    assert node.lightning.is_paid(invoice)


async def test_a_run_that_is_cancelled_in_an_emergency_stop_pays_nothing_by_that(
    node: Node,
) -> None:
    invoice, run = await stopped_before_its_mint(node)
    await node.runs.cancel(run)
    assert not node.lightning.is_paid(invoice)
    result = await node.runs.wait(run)
    assert (result.status, result.usage.msat) == ("stopped", 35_000)  # it may be paid yet


async def test_a_stop_in_the_middle_of_a_round_hands_nothing_over(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    way, lock = Transport("post", "https://shop.example/pay"), Condition("P2PK", KEY)
    asked = PaymentRequest(None, 9, "sat", transports=(way,), lock=lock)
    await node.pay(requests.encode(asked))
    node.web.hosts["shop.example"] = shop
    wallet = node.keeper.wallet()
    look = wallet.refresh_outbox

    async def stopped() -> object:
        await node.runs.estop("uid:1")
        return await look()

    monkeypatch.setattr(wallet, "refresh_outbox", stopped)
    await node.settling.once()
    assert node.web.requests == []


async def test_ecash_that_came_back_by_hand_was_no_payment(node: Node) -> None:
    way = Transport("post", "https://shop.example/pay")
    asked = requests.encode(PaymentRequest(None, 9, "sat", transports=(way,)))
    node.web.hosts["shop.example"], node.web.lose = shop, 99
    run = await node.pay(asked)
    await node.keeper.wallet().reclaim(f"{run}:1")
    await node.settling.once()
    result = await node.runs.wait(run)
    assert result.status == "failed"
    assert result.reason == "the payee did not take it; it cost 1 sat all the same"
    assert result.usage.msat == 1_000
    answer = next(each for each in node.log.entries() if each.type == "approval.settled")
    assert answer.data["verdict"] == "did_not_happen"


async def test_what_was_not_handed_over_is_handed_over_later(node: Node) -> None:
    """Ecash that is locked to its payee, whose server was away, can only be given to it."""
    way, lock = Transport("post", "https://shop.example/pay"), Condition("P2PK", KEY)
    asked = requests.encode(PaymentRequest(None, 9, "sat", transports=(way,), lock=lock))
    run = await node.pay(asked)
    await node.settling.once()
    assert [each.run for each in node.runs.approvals()] == [run]
    node.web.hosts["shop.example"] = shop
    await node.settling.once()
    result = await asyncio.wait_for(node.runs.wait(run), 30)
    assert (result.status, json.loads(result.text)["paid_sat"]) == ("completed", 9)
    assert len(node.web.requests) == 1


@pytest.mark.parametrize(
    ("made_by", "yes"),
    [
        ("wallet.restoring", True),
        ("wallet.restoring", False),
        ("wallet.mint_added", True),
        ("wallet.nwc_connected", True),
    ],
)
async def test_a_wallet_that_was_made_anew_knows_nothing_of_payments_before_it(
    node: Node, tmp_path: Path, made_by: str, yes: bool
) -> None:
    """Its file was lost while a payment was under way, and it came back from its seed."""
    invoice = node.lightning.invoice(30_000)
    run = await node.pay(invoice)
    await node.runs.drain(0)
    words = node.keeper.wallet().words()
    await node.keeper.aclose()
    for file in tmp_path.glob("wallet.db*"):  # noqa: ASYNC240
        file.unlink()
    wallet = await node.keeper.make(words)
    await wallet.add_mint(URL)
    await node.log.append(Draft(made_by, actor="uid:1"))
    await wallet.restore(URL)
    node.lightning.end(invoice, Outcome.PAID)
    before = len(node.mint.requests)
    again = node.make()
    await again.recover()
    await node.settling_of(again).once()
    (question,) = again.approvals()
    assert (question.run, len(node.mint.requests)) == (run, before)
    await (again.approve if yes else again.deny)(question.id, "uid:1")
    result = await asyncio.wait_for(again.wait(run), 30)
    if yes:
        assert (len(node.mint.requests), result.usage.msat) == (before, 35_000)
    else:  # that is what they wanted, and their risk
        assert len(node.mint.requests) > before


@pytest.mark.parametrize(
    ("event", "lost"),
    [
        (None, False),
        (Draft("wallet.mint_added", data={"made": False}, actor="uid:1"), False),
        (Draft("wallet.mint_added", data={"made": True}, actor="uid:1"), True),
        (Draft("wallet.restoring", actor="uid:1"), True),
    ],
    ids=["nothing", "second mint", "made", "restored"],
)
async def test_a_payment_that_was_never_begun_is_known_once_the_wallet_is_open(
    node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, event: Draft | None, lost: bool
) -> None:
    """The node ended between the intent and the wallet, which was locked when it started again."""
    invoice, begun = node.lightning.invoice(30_000), asyncio.Event()

    async def dies(*_: object, **__: object) -> Found:
        begun.set()
        return await asyncio.Future()

    with monkeypatch.context() as patch:
        patch.setattr(node.purse, "pay", dies)
        run = await node.runs.pay(Payment(invoice), actor="uid:1")
        await begun.wait()
        await node.runs.drain(0)
    await node.keeper.aclose()
    WalletKey(tmp_path / "keys").set_passphrase(None, "a word or two")
    await node.keeper.start()
    again = node.make()
    await again.recover()
    async for seen in again.watch(run):
        if seen.type == "approval.asked":
            break
    if event is not None:
        await node.log.append(event)
    await node.keeper.unlock("a word or two")
    await node.settling_of(again).once()
    if lost:  # it may have been begun, and the wallet not know of it
        assert [each.run for each in again.approvals()] == [run]
        assert not node.lightning.is_paid(invoice)
    else:
        assert (await asyncio.wait_for(again.wait(run), 30)).status == "completed"
        assert node.lightning.is_paid(invoice)


class Lost(CountingEffect):
    """Breaks, and cannot tell whether it happened."""

    async def perform(self, key: str) -> Done:
        raise KeyError(key)


async def test_a_question_about_no_payment_is_not_for_the_wallet_to_answer(
    node: Node, tmp_path: Path
) -> None:
    """It knows of none under that key, and what it says did not happen is done again."""
    runs = Runs(
        log=node.log,
        program=ScriptedProgram(lambda _: [Lost(tmp_path / "n", 1, knows=False)]),
        agents=MemoryAgents(agent()),
        clock=node.clock,
        guards=NoGuards(),
    )
    run = await runs.start("clerk", "go", actor="uid:1")
    async for event in runs.watch(run):
        if event.type == "approval.asked":
            break
    await node.settling_of(runs).once()
    assert [each.run for each in runs.approvals()] == [run]
    await runs.drain(0)


async def test_a_broken_round_is_not_the_last(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    invoice = node.lightning.invoice(30_000)
    run = await node.pay(invoice)
    node.lightning.end(invoice, Outcome.PAID)
    real, rounds = node.settling.once, []

    async def once() -> object:
        rounds.append(len(rounds))
        if len(rounds) == 1:
            raise KeyError("what nobody thought of")
        return await real()

    monkeypatch.setattr(node.settling, "once", once)
    asking = asyncio.create_task(node.settling.forever())
    result = await asyncio.wait_for(node.runs.wait(run), 30)
    asking.cancel()
    assert (result.status, len(rounds)) == ("completed", 2)
