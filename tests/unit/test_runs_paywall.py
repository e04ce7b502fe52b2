"""What a tool fetches is paid for as a step within its step: once, whatever happens."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from helpers.runs import DyingLog, SlowLog

from node.clock import ManualClock
from node.errors import FreeholdError, JournalWriteError, PaymentError, ToolError
from node.gateway.trace import trace
from node.journal import MemoryLog, spend
from node.money import Bill, Found, Payment
from node.money.testing import FEE_SAT, MOST_FEE_SAT, MemoryPurse
from node.runs import (
    AgentManifest,
    Answer,
    NoGuards,
    Places,
    ProgramRun,
    RunResult,
    Runs,
    Toolset,
)
from node.runs.agent import BudgetLimits, PaymentGrant, ToolGrant
from node.runs.payment_effect import OWNER, PAYWALL, PaymentEffect
from node.runs.policy import ManifestPolicy
from node.runs.testing import MemoryAgents, agent
from node.sandbox import Grant, ToolManifest
from node.sandbox.testing import FunctionTool, MemorySandbox
from node.types import Json, JsonObject

SHOP = "https://shop.example"
BUDGET = BudgetLimits(sats=100, sats_per_day=500)


@dataclass
class Shop:
    """Sells each path for its price; a token is taken once, and its answer kept for who asks
    again with it."""

    prices: dict[str, int] = field(default_factory=lambda: {"/a": 10, "/b": 20})
    status: int = 200
    taken: dict[str, str] = field(default_factory=dict)
    made_anew: str = ""

    def price(self, path: str) -> str:
        return f"request|{self.made_anew or SHOP + path}|{self.prices[path]}"

    def take(self, path: str, token: str) -> str:
        if self.taken.setdefault(token, path) != path:
            raise ToolError("that token paid for something else")
        return f"content of {path}"


class Node:
    """A node with one tool, `web`, that fetches the paths it is told."""

    def __init__(self, home: Path, manifest: AgentManifest | None = None) -> None:
        self.home = home
        self.shop = Shop()
        self.purse = MemoryPurse()
        self.clock = ManualClock()
        self.log = MemoryLog(clock=self.clock)
        self.paths = ["/a", "/b"]
        self.read_only = True
        self.before_answer: list[Exception] = []
        grant = ToolGrant("web", http=(f"{SHOP}/*",), pay=(f"{SHOP}/*",))
        self.manifest = manifest or agent("clerk", budget=BUDGET, tools=(grant,))
        self.runs = self.make()

    def make(self) -> Runs:
        tool = FunctionTool(
            "web",
            {"web_fetch": self.fetch},
            capabilities=frozenset({"http"}),
            read_only=self.read_only,
            idempotent=self.read_only,
        )
        sandbox = MemorySandbox([tool])
        self.toolset = Toolset(
            tools=Shelf(tool.manifest()),
            sandbox=sandbox,
            places=Places(self.home / "w", self.home / "s"),
            purse=self.purse,
        )
        return Runs(
            log=self.log,
            program=self.program,
            agents=MemoryAgents(self.manifest),
            clock=self.clock,
            guards=NoGuards(),
            policy=ManifestPolicy(ask_over_sats=50),
        )

    async def program(self, run: ProgramRun) -> Answer:
        (offer,) = self.toolset.offers(run.agent)
        arguments: JsonObject = {"paths": list(self.paths)}
        effect = self.toolset.effect(run.agent, offer, arguments, run=run)
        outcome = await run.step(effect)
        return Answer("completed", json.dumps([outcome.ok, outcome.value]))

    async def fetch(self, arguments: JsonObject, grant: Grant) -> Json:
        told: list[Json] = []
        for path in arguments["paths"]:  # type: ignore[union-attr]
            told.append(await self.buy(str(path), grant))
        if self.before_answer:
            raise self.before_answer.pop()
        return told

    async def buy(self, path: str, grant: Grant) -> str:
        if grant.payer is None:
            return "402"
        try:
            ticket = await grant.payer.pay(f"{SHOP}{path}", self.shop.price(path))
        except JournalWriteError:
            raise
        except FreeholdError as error:
            return error.message
        ticket.answered(self.shop.status)
        if self.shop.status != 200:
            return str(self.shop.status)
        content = self.shop.take(path, ticket.token)
        self.purse.redeemed.add(self.operation(ticket.token))
        return content

    @staticmethod
    def operation(token: str) -> str:
        return bytes.fromhex(token.removeprefix("cashuB")).decode()

    async def go(self) -> tuple[bool, Json]:
        run = await self.runs.start("clerk", "go", actor="uid:1")
        ok, value = json.loads((await self.runs.wait(run)).text)
        return ok, value

    def spent(self, by: str) -> dict[str, float]:
        return {one.name: one.totals.get("msat", 0) for one in spend(self.log.entries(), by)}


class Shelf:
    def __init__(self, manifest: ToolManifest) -> None:
        self.manifest = manifest

    def get(self, name: str) -> ToolManifest:
        return self.manifest

    def names(self) -> list[str]:
        return ["web"]


BOTH = ["content of /a", "content of /b"]
COST = (30 + 2 * FEE_SAT) * 1000


async def test_each_price_is_a_step_within_the_tools(tmp_path: Path) -> None:
    node = Node(tmp_path)
    assert await node.go() == (True, BOTH)
    (run,) = node.runs.list()
    assert node.purse.made == {f"{run.id}:1.402.1": 1, f"{run.id}:1.402.2": 1}
    assert run.usage.msat == COST
    assert node.spent("agent") == {"clerk": COST}
    assert node.spent("tool") == {"web_fetch": COST}
    assert node.spent("peer") == {f"{SHOP}/b": 21_000, f"{SHOP}/a": 11_000}
    (step,) = trace(node.log, run.id)["steps"]
    assert [(each["path"], each["kind"], each["name"]) for each in step["steps"]] == [
        ("1.402.1", "payment", "pay_402"),
        ("1.402.2", "payment", "pay_402"),
    ]
    assert step["steps"][0]["value"]["paid_sat"] == 10
    assert step["steps"][0]["args"]["url"] == f"{SHOP}/a"


async def test_no_token_is_on_the_log(tmp_path: Path) -> None:
    node = Node(tmp_path)
    await node.go()
    written = "".join(json.dumps(entry.data) for entry in node.log.entries())
    blobs = [node.log.blob(ref) for entry in node.log.entries() for ref in entry.draft.blobs]
    for token in node.shop.taken:
        assert token not in written
        assert not any(token.encode() in blob for blob in blobs)
    assert len(node.shop.taken) == 2


@pytest.mark.parametrize("status", [200, 500])
async def test_what_a_call_under_way_asks_for_can_be_erased(tmp_path: Path, status: int) -> None:
    """It may have read what is private, which the run is told once the call is over."""
    node = Node(tmp_path)
    node.paths, node.shop.status = ["/a?diary=Monday"], status
    node.shop.prices["/a?diary=Monday"] = 10
    await node.go()
    (run,) = node.runs.list()
    nested = [each for each in node.log.run_entries(run.id) if "1." in (each.draft.path or "")]
    assert len(nested) == (2 if status == 200 else 4)
    assert "Monday" not in "".join(json.dumps(each.data) for each in nested)
    (step,) = trace(node.log, run.id)["steps"]
    assert step["steps"][0]["args"]["url"] == f"{SHOP}/a?diary=Monday"
    assert node.spent("peer").keys() == {f"{SHOP}/a"}
    report = await node.runs.replay(run.id)
    assert report.ok  # type: ignore[union-attr]


async def test_a_replay_pays_nothing_and_is_the_same(tmp_path: Path) -> None:
    node = Node(tmp_path)
    await node.go()
    made = dict(node.purse.made)
    report = await node.runs.replay(node.runs.list()[0].id)
    assert report.ok  # type: ignore[union-attr]
    assert node.purse.made == made


async def test_what_one_call_buys_twice_is_paid_for_twice(tmp_path: Path) -> None:
    node = Node(tmp_path)
    node.paths = ["/a", "/a"]
    assert await node.go() == (True, ["content of /a", "content of /a"])
    assert (len(node.purse.made), len(node.shop.taken)) == (2, 2)


async def test_the_budget_bounds_what_a_call_pays(tmp_path: Path) -> None:
    grant = ToolGrant("web", http=(f"{SHOP}/*",), pay=(f"{SHOP}/*",))
    small = BudgetLimits(sats=10 + MOST_FEE_SAT, sats_per_day=100)
    node = Node(tmp_path, agent("clerk", budget=small, tools=(grant,)))
    ok, (first, second) = await node.go()  # type: ignore[misc]
    assert (ok, first) == (True, "content of /a")
    assert "the budget of run" in second
    assert sum(node.purse.made.values()) == 1


@pytest.mark.parametrize(
    ("grant", "over", "prices", "why"),
    [
        ((f"{SHOP}/other/*",), None, {"/a": 1}, "not allowed: tools.web.pay"),
        ((f"{SHOP}/*",), 5, {"/a": 10}, "needs a person's word (payments.approval_over_sats)"),
        ((f"{SHOP}/*",), None, {"/a": 60}, "needs a person's word (payments.approval_over_sats)"),
    ],
)
async def test_what_is_not_granted_is_refused_and_on_the_log(
    tmp_path: Path, grant: tuple[str, ...], over: int | None, prices: dict[str, int], why: str
) -> None:
    tool = ToolGrant("web", http=(f"{SHOP}/*",), pay=grant)
    payments = PaymentGrant(approval_over_sats=over)
    manifest = agent("clerk", budget=BUDGET, tools=(tool,), payments=payments)
    node = Node(tmp_path, manifest)
    node.paths, node.shop.prices = ["/a"], prices
    ok, (told,) = await node.go()  # type: ignore[misc]
    assert ok
    assert why in told
    assert not node.purse.made
    assert not node.runs.approvals()
    assert any(
        entry.draft.policy and entry.draft.policy.verdict == "deny" for entry in node.log.entries()
    )


async def test_a_tool_that_may_not_pay_sees_the_402(tmp_path: Path) -> None:
    grant = ToolGrant("web", http=(f"{SHOP}/*",))
    node = Node(tmp_path, agent("clerk", budget=BUDGET, tools=(grant,)))
    assert await node.go() == (True, ["402", "402"])


@pytest.mark.parametrize("status", [0, 400, 402, 500])
async def test_a_token_that_was_not_taken_comes_back(tmp_path: Path, status: int) -> None:
    node = Node(tmp_path)
    node.paths, node.shop.status = ["/a"], status
    await node.go()
    (run,) = node.runs.list()
    assert node.purse.taken_back == [f"{run.id}:1.402.1"]
    assert run.usage.msat == 2 * FEE_SAT * 1000  # what making and taking it back cost
    assert node.purse.balance_sat == 1_000_000 - 2 * FEE_SAT


async def test_what_the_payee_redeemed_stays_paid(tmp_path: Path) -> None:
    node = Node(tmp_path)
    node.paths, node.shop.status = ["/a"], 500
    node.purse.redeemed = Everything()  # type: ignore[assignment]
    await node.go()
    (run,) = node.runs.list()
    assert (node.purse.taken_back, run.usage.msat) == ([], (10 + FEE_SAT) * 1000)


class Everything(set):  # type: ignore[type-arg]
    def __contains__(self, item: object) -> bool:
        return True


async def test_a_broken_tool_has_paid_all_the_same(tmp_path: Path) -> None:
    node = Node(tmp_path)
    node.before_answer = [ToolError("the tool broke")]
    assert await node.go() == (False, {"error": "the tool broke"})
    assert node.runs.list()[0].usage.msat == COST


async def test_a_payment_still_under_way_is_waited_for(tmp_path: Path) -> None:
    node = Node(tmp_path)
    go_on, begun = asyncio.Event(), asyncio.Event()
    pay = node.purse.pay

    async def slow(*args, **how):  # type: ignore[no-untyped-def]
        begun.set()
        await go_on.wait()
        return await pay(*args, **how)

    async def impatient(path: str, grant: Grant) -> str:
        assert grant.payer is not None
        waiting = asyncio.ensure_future(grant.payer.pay(f"{SHOP}{path}", node.shop.price(path)))
        await begun.wait()
        waiting.cancel()
        go_on.set()
        return "no time"

    node.paths, node.purse.pay, node.buy = ["/a"], slow, impatient  # type: ignore[method-assign]
    assert await node.go() == (True, ["no time"])
    (run,) = node.runs.list()
    assert node.purse.made == {f"{run.id}:1.402.1": 1}
    assert node.purse.taken_back == [f"{run.id}:1.402.1"]


async def test_nothing_is_bought_once_the_call_is_over(tmp_path: Path) -> None:
    """A guest's thread asks for it at the very moment at which the call's time is over."""
    node, asked = Node(tmp_path), []

    async def late(path: str, grant: Grant) -> str:
        assert grant.payer is not None
        asked.append(asyncio.ensure_future(grant.payer.pay(f"{SHOP}{path}", node.shop.price(path))))
        return "over"

    async def waits(run: ProgramRun) -> Answer:
        answer = await Node.program(node, run)
        await asyncio.wait(asked)
        return answer

    node.log = SlowLog(clock=node.clock)
    node.paths, node.buy, node.program = ["/a"], late, waits  # type: ignore[method-assign]
    node.runs = node.make()
    assert await node.go() == (True, ["over"])
    assert not node.purse.made
    with pytest.raises(PaymentError, match="is over"):
        await asked[0]


@pytest.mark.parametrize("read_only", [True, False])
async def test_nothing_is_bought_once_the_call_was_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read_only: bool
) -> None:
    """Nor while it is found out what became of it."""
    monkeypatch.setattr("node.runs.tool_effect._CALL_SECONDS", 0.01)
    monkeypatch.setattr("node.runs.tool_effect._PAYING_SECONDS", 0)
    node, asked = Node(tmp_path), []
    node.read_only, node.log = read_only, SlowLog(clock=node.clock)

    async def stopped(path: str, grant: Grant) -> str:
        assert grant.payer is not None
        try:
            await asyncio.Event().wait()
        finally:
            pay = grant.payer.pay(f"{SHOP}{path}", node.shop.price(path))
            asked.append(asyncio.ensure_future(pay))
        raise AssertionError

    node.paths, node.buy = ["/a"], stopped  # type: ignore[method-assign]
    node.runs = node.make()
    run = await node.runs.start("clerk", "go", actor="uid:1")
    async for event in node.runs.watch(run):
        if event.type == "approval.asked":
            await node.runs.deny(node.runs.approvals()[0].id, "uid:1")
    with pytest.raises(PaymentError, match="is over"):
        await asked[0]
    assert not node.purse.made


@dataclass
class SlowPurse(MemoryPurse):
    """Says that it has paid a moment after it has."""

    paid: asyncio.Event = field(default_factory=asyncio.Event)

    async def pay(self, payment: Payment, bill: Bill, *, key: str) -> Found:
        found = await super().pay(payment, bill, key=key)
        self.paid.set()
        await asyncio.sleep(0)
        return found


@pytest.mark.parametrize("again", ["cancel", "drain"])
async def test_a_run_that_is_stopped_twice_counts_what_it_was_paying_once(
    tmp_path: Path, again: str
) -> None:
    for moments in range(12):
        node = Node(tmp_path / str(moments))
        node.log = SlowLog(clock=node.clock)
        node.purse = purse = SlowPurse()
        node.paths = ["/a"]
        node.runs = node.make()
        run = await node.runs.start("clerk", "go", actor="uid:1")
        await purse.paid.wait()
        first = asyncio.create_task(node.runs.cancel(run))
        for _ in range(moments):
            await asyncio.sleep(0)
        await (node.runs.cancel(run) if again == "cancel" else node.runs.drain(0))
        await first
        results = [e.draft.path for e in node.log.run_entries(run) if e.type == "step.result"]
        assert len(results) == len(set(results))
        back = bool(node.purse.taken_back)
        fees = (await node.runs.wait(run)).usage.msat - (not back) * 10_000
        assert fees == (1 + back) * FEE_SAT * 1000


async def cancelled_once_paid(node: Node, *, stop: bool = False) -> RunResult:
    """A run that is cancelled when it has bought something, and has not handed it over."""
    paid, forever = asyncio.Event(), asyncio.Event()

    async def slow(path: str, grant: Grant) -> str:
        assert grant.payer is not None
        await grant.payer.pay(f"{SHOP}{path}", node.shop.price(path))
        paid.set()
        await forever.wait()
        return ""

    node.paths, node.buy = ["/a"], slow  # type: ignore[method-assign]
    run = await node.runs.start("clerk", "go", actor="uid:1")
    await paid.wait()
    if stop:
        await node.runs.estop("uid:1")
    await node.runs.cancel(run)
    return await node.runs.wait(run)


async def test_what_a_cancelled_call_had_bought_comes_back(tmp_path: Path) -> None:
    node = Node(tmp_path)
    result = await cancelled_once_paid(node)
    assert node.purse.taken_back == [f"{result.run_id}:1.402.1"]
    assert (result.status, result.usage.msat) == ("stopped", 2 * FEE_SAT * 1000)
    assert node.spent("agent") == {"clerk": 2 * FEE_SAT * 1000}
    again = node.make()
    await again.recover()
    assert [each.status for each in again.list()] == ["stopped"]


async def test_what_was_bought_is_used_when_the_run_goes_on(tmp_path: Path) -> None:
    """A shutdown is no reason to take it back: the next process makes the call again. It may ask
    for something else first, which that does not pay for."""
    node, bought = Node(tmp_path), asyncio.Event()
    buy = node.buy

    async def slow(path: str, grant: Grant) -> str:
        assert grant.payer is not None
        await grant.payer.pay(f"{SHOP}{path}", node.shop.price(path))
        bought.set()
        return await asyncio.Future()

    async def other_first(path: str, grant: Grant) -> str:
        return f"{await buy('/b', grant)}, {await buy(path, grant)}"

    node.paths, node.buy = ["/a"], slow  # type: ignore[method-assign]
    run = await node.runs.start("clerk", "go", actor="uid:1")
    await bought.wait()
    await node.runs.drain(0)
    node.buy, node.runs = other_first, node.make()  # type: ignore[method-assign]
    assert await node.runs.recover() == [run]
    assert json.loads((await node.runs.wait(run)).text) == [True, ["content of /b, content of /a"]]
    taken = {node.operation(token): path for token, path in node.shop.taken.items()}
    assert taken == {f"{run}:1.402.1": "/a", f"{run}:1.402.2": "/b"}
    assert (node.purse.made, node.purse.taken_back) == (dict.fromkeys(taken, 1), [])


async def test_in_an_emergency_stop_what_was_bought_waits_in_the_outbox(tmp_path: Path) -> None:
    node = Node(tmp_path)
    result = await cancelled_once_paid(node, stop=True)
    assert node.purse.taken_back == []
    assert (result.status, result.usage.msat) == ("stopped", (10 + FEE_SAT) * 1000)


async def test_what_was_bought_in_vain_comes_back_where_the_budget_is_spent(tmp_path: Path) -> None:
    grant = ToolGrant("web", http=(f"{SHOP}/*",), pay=(f"{SHOP}/*",))
    two = BudgetLimits(sats=100, sats_per_day=100, steps=2)  # the call and what it pays
    node = Node(tmp_path, agent("clerk", budget=two, tools=(grant,)))
    node.paths, node.shop.status = ["/a"], 500
    await node.go()
    (run,) = node.runs.list()
    assert node.purse.taken_back == [f"{run.id}:1.402.1"]


# ── crashes ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("read_only", [True, False])
@pytest.mark.parametrize("new_price", [False, True])
async def test_dying_at_any_entry_pays_each_url_once(
    tmp_path: Path, read_only: bool, new_price: bool
) -> None:
    for last in range(1, 40):
        node = Node(tmp_path)
        node.read_only = read_only
        node.log = DyingLog(clock=node.clock)
        node.log.last = last
        node.runs = node.make()
        died = await crashed(node)
        if died and any(entry.type == "run.started" for entry in node.log.entries()):
            if new_price:  # a request that is made anew each time, as servers do
                node.shop.made_anew = "again"
            await recover(node)
            assert max(node.purse.made.values()) == 1, last
            assert len(node.purse.made) == 2, last
            assert node.spent("agent") == {"clerk": COST}, last
            assert node.runs.list()[0].usage.msat == COST, last
        if not died:
            return
    raise AssertionError("it never came to its end")


@pytest.mark.parametrize("read_only", [True, False])
async def test_dying_at_any_entry_takes_back_once_what_was_not_taken(
    tmp_path: Path, read_only: bool
) -> None:
    for last in range(1, 40):
        node = Node(tmp_path)
        node.read_only, node.paths, node.shop.status = read_only, ["/a"], 500
        node.log = DyingLog(clock=node.clock)
        node.log.last = last
        node.runs = node.make()
        died = await crashed(node)
        if died and any(entry.type == "run.started" for entry in node.log.entries()):
            await recover(node)
            made = node.purse.made
            assert (sum(made.values()), node.purse.taken_back) == (len(made), [*made]), last
            cost = len(made) * 2 * FEE_SAT
            assert node.purse.balance_sat == 1_000_000 - cost, last
            assert node.runs.list()[0].usage.msat == cost * 1000, last
            assert node.spent("agent") == {"clerk": cost * 1000}, last
        if not died:
            return
    raise AssertionError("it never came to its end")


@pytest.mark.parametrize(("last", "redeemed"), [(5, False), (6, False), (6, True)])
async def test_a_token_is_used_after_a_crash_only_if_it_was_not_taken_back(
    tmp_path: Path, last: int, redeemed: bool
) -> None:
    node = Node(tmp_path)
    node.paths, node.shop.status = ["/a"], 500
    if redeemed:
        node.purse.redeemed = Everything()  # type: ignore[assignment]
    node.log = DyingLog(clock=node.clock)
    node.log.last = last  # with the intent of taking it back, or its result
    node.runs = node.make()
    assert await crashed(node)
    node.shop.status = 200
    await recover(node)
    (run,) = node.runs.list()
    (told,) = json.loads(run.text)[1]
    assert sum(node.purse.made.values()) == 1
    if redeemed:
        assert (told, node.purse.taken_back) == ("content of /a", [])
    else:
        assert told == "it was paid for before, and the payee did not take it"
        assert (node.shop.taken, node.purse.taken_back) == ({}, [f"{run.id}:1.402.1"])


async def crashed(node: Node) -> bool:
    try:
        run = await node.runs.start("clerk", "go", actor="uid:1")
        await node.runs.wait(run)
    except JournalWriteError:
        return True
    return False


async def recover(node: Node) -> None:
    """The next life: a person says that a call which cannot tell did not happen."""
    node.log.last = 10**9  # type: ignore[attr-defined]
    node.runs = node.make()
    for run in await node.runs.recover():
        async for _ in node.runs.watch(run):
            for question in node.runs.approvals():
                await node.runs.deny(question.id, "uid:1")
        await node.runs.wait(run)


async def test_a_call_that_is_said_to_have_happened_has_its_payments_settled(
    tmp_path: Path,
) -> None:
    node = Node(tmp_path)
    node.read_only = False
    node.log = DyingLog(clock=node.clock)
    node.log.last = 4  # run.started, the tool's intent, a payment with intent and result
    node.runs = node.make()
    assert await crashed(node)
    node.log.last = 10**9
    node.runs = node.make()
    for run in await node.runs.recover():
        async for event in node.runs.watch(run):
            if event.type == "approval.asked":
                await node.runs.approve(node.runs.approvals()[0].id, "uid:1")
        await node.runs.wait(run)
    assert node.spent("agent") == {"clerk": 11_000}
    assert node.runs.list()[0].usage.msat == 11_000


def test_a_shop_that_is_listed_is_paid_whatever_was_read() -> None:
    """Its URLs name one payee, whatever stands for their end."""
    manifest = agent("clerk", tools=(ToolGrant("web", http=(f"{SHOP}/*",), pay=(f"{SHOP}/*",)),))
    sold = Payment("request|x|10", url=f"{SHOP}/a")
    price = PaymentEffect(MemoryPurse(), sold, name=PAYWALL, tool="web")
    decided = ManifestPolicy(ask_over_sats=50).decide(price, manifest, frozenset({"untrusted"}))
    assert (decided.rule, decided.verdict) == ("tools.web.pay", "allow")


@pytest.mark.parametrize(("url", "verdict"), [(f"{SHOP}/a", "allow"), ("https://b.net/", "deny")])
def test_a_tool_that_is_named_owner_has_its_own_grant_only(url: str, verdict: str) -> None:
    manifest = agent("clerk", tools=(ToolGrant(OWNER, http=(f"{SHOP}/*",), pay=(f"{SHOP}/*",)),))
    price = PaymentEffect(MemoryPurse(), Payment("request|x|10", url=url), name=PAYWALL, tool=OWNER)
    decided = ManifestPolicy(ask_over_sats=50).decide(price, manifest, frozenset())
    assert (decided.rule, decided.verdict) == ("tools.owner.pay", verdict)
