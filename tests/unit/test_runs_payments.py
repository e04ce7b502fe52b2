"""Payments through the door: who may be paid, from what budget, and what a crash leaves."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest
from helpers.runs import DyingLog, left_of, settled

from node.clock import ManualClock
from node.errors import JournalWriteError, ManifestError, RunError, RunStoppedError
from node.journal import MemoryLog, spend
from node.money import Payment
from node.money.testing import FEE_SAT, MOST_FEE_SAT, MemoryPurse
from node.runs import AgentManifest, GuardSet, NodeLimits, Runs, programs
from node.runs.agent import BudgetLimits, PaymentGrant
from node.runs.effect import StepKind
from node.runs.payment_effect import PaymentEffect
from node.runs.policy import ManifestPolicy
from node.runs.policy_payments import covers_payee
from node.runs.testing import MemoryAgents, PlainEffect, ScriptedProgram, agent

ANNA = "anna@example.org"
BOB = "bob@example.org"
NODE = "lightning:02" + "ab" * 32
BUDGET = BudgetLimits(sats=100, sats_per_day=150)


def payer(*allow: str, over: int | None = None, **more: object) -> AgentManifest:
    budget = more.pop("budget", BUDGET)
    grant = PaymentGrant(allow or (ANNA,), over)
    return agent("clerk", budget=budget, payments=grant, **more)


class Node:
    """A node whose runs make the given payments; `restart` is what a crash leaves of it."""

    def __init__(self, manifest: AgentManifest, purse: MemoryPurse | None = None) -> None:
        self.purse = purse or MemoryPurse()
        self.manifest = manifest
        self.clock = ManualClock()
        self.log = MemoryLog(clock=self.clock)
        self.payments: tuple[Payment, ...] = ()
        self.before: tuple[PlainEffect, ...] = ()
        self.limits = NodeLimits()
        self.runs = self.make()

    def make(self) -> Runs:
        def script(_prompt: str) -> list[object]:
            pays = [PaymentEffect(self.purse, payment) for payment in self.payments]
            return [*self.before, *pays]

        checker: Callable[[str, str], None] = lambda _tool, _function: None  # noqa: E731
        guards = GuardSet(checkers=checker)
        guards._always = guards._always[:1]  # the shape of arguments is not what is tested here
        return Runs(
            log=self.log,
            program=programs(ScriptedProgram(script), self.purse),
            agents=MemoryAgents(self.manifest),
            clock=self.clock,
            guards=guards,
            limits=self.limits,
            policy=ManifestPolicy(ask_over_sats=1000),
        )

    async def pay(self, *payments: Payment) -> list[object]:
        self.payments = payments
        run = await self.runs.start("clerk", "go", actor="uid:1")
        return json.loads((await self.runs.wait(run)).text)

    def spent(self) -> dict[str, float]:
        return {one.name: one.totals.get("msat", 0) for one in spend(self.log.entries(), "peer")}

    async def asked(self, run: str) -> str:
        async for event in self.runs.watch(run):
            if event.type == "approval.asked":
                (question,) = self.runs.approvals()
                return question.id
        raise AssertionError("nobody was asked")


def to(destination: str, amount: int, kind: str = "address") -> Payment:
    return Payment(f"{kind}|{destination}|{amount}")


# ── budgets ─────────────────────────────────────────────────────────────────────────────────


async def test_a_payment_is_booked_as_what_it_came_to() -> None:
    node = Node(payer())
    (value,) = await node.pay(to(ANNA, 20))
    assert value == {
        "paid_sat": 20,
        "fee_sat": FEE_SAT,
        "to": ANNA,
        "mint": "https://mint.example",
        "operation": value["operation"],
    }
    assert node.purse.made == {value["operation"]: 1}
    assert value["operation"].endswith(":1")
    assert node.spent() == {ANNA: (20 + FEE_SAT) * 1000}
    intent = next(e for e in node.log.entries() if e.type == "step.intent")
    assert intent.data["needs"]["usage"]["msat"] == (20 + MOST_FEE_SAT) * 1000
    assert intent.data["needs"]["destinations"] == [ANNA]


async def test_what_no_preimage_proves_is_told() -> None:
    node = Node(payer())
    node.purse.unproven = True
    (value,) = await node.pay(to(ANNA, 20))
    assert (value["paid_sat"], value["proven"]) == (20, False)


async def test_a_payment_that_a_fork_took_over_was_made_once() -> None:
    node = Node(payer())
    node.payments = (to(ANNA, 20), to(ANNA, 30))
    run = await node.runs.start("clerk", "go", actor="uid:1")
    await node.runs.wait(run)
    again = await node.runs.replay(run, from_step="2")
    assert isinstance(again, str)
    await node.runs.wait(again)
    assert sum(node.purse.made.values()) == 3
    assert node.spent() == {ANNA: (20 + 30 + 30 + 3 * FEE_SAT) * 1000}


async def test_what_was_begun_before_a_day_and_paid_on_it_is_of_that_day() -> None:
    node = Node(payer())
    await node.pay(to(ANNA, 20), to(ANNA, 30))
    entries = [replace(entry, ts=index) for index, entry in enumerate(node.log.entries())]
    results = (each for each in entries if each.type == "step.result")
    _, second = (each.ts for each in results if "msat" in each.data["usage"])
    for since_ms, sats in ((0, 50 + 2 * FEE_SAT), (second, 30 + FEE_SAT)):
        (one,) = spend(entries, "peer", since_ms=since_ms)
        assert (one.name, one.totals["msat"]) == (ANNA, sats * 1000)
    assert spend(entries, "peer", since_ms=second + 1) == []


async def test_what_may_not_fit_is_not_paid() -> None:
    node = Node(payer())
    assert await node.pay(to(ANNA, 100 - MOST_FEE_SAT + 1)) == [{"error": "BudgetExceededError"}]
    first, second = await node.pay(to(ANNA, 60), to(ANNA, 40))
    assert (first["paid_sat"], second) == (60, {"error": "BudgetExceededError"})
    assert (await node.pay(to(ANNA, 60)))[0]["paid_sat"] == 60
    assert await node.pay(to(ANNA, 28)) == [{"error": "BudgetExceededError"}]  # the agent's day
    assert sum(node.purse.made.values()) == 2


async def test_the_nodes_day_is_every_agents_and_not_the_owners() -> None:
    node = Node(payer(budget=BudgetLimits(sats=9_000, sats_per_day=9_000)))
    node.limits = NodeLimits(sats_per_day=50)
    node.runs = node.make()
    assert await node.pay(to(ANNA, 60)) == [{"error": "BudgetExceededError"}]
    run = await node.runs.pay(to(ANNA, 60), actor="uid:1")
    assert (await node.runs.wait(run)).status == "completed"
    assert (await node.pay(to(ANNA, 40)))[0]["paid_sat"] == 40
    assert [one.name for one in spend(node.log.entries(), "agent")] == ["node", "clerk"]
    again = node.make()
    await again.recover()
    node.runs = again
    assert await node.pay(to(ANNA, 10)) == [{"error": "BudgetExceededError"}]  # 41 + 12 > 50


async def test_without_sats_nothing_is_paid() -> None:
    node = Node(payer(budget=BudgetLimits()))
    assert await node.pay(to(ANNA, 1)) == [{"error": "BudgetExceededError"}]
    assert not node.purse.made


async def test_guards_look_at_what_a_model_would_pay() -> None:
    node = Node(payer())
    assert await node.pay(Payment("x" * 300_000)) == [{"error": "GuardRefusedError"}]


async def test_what_failed_costs_nothing() -> None:
    node = Node(payer(), MemoryPurse(fail={ANNA}))
    first, second = await node.pay(to(ANNA, 90), Payment("what?"))
    assert first == {"error": f"{ANNA} refused the payment"}
    assert "nothing that can be paid" in second["error"]
    node.purse.fail.clear()
    assert (await node.pay(to(ANNA, 90)))[0]["paid_sat"] == 90


async def test_why_a_payee_takes_nothing_is_in_the_payees_words() -> None:
    """They may say to a model what they like: the run has read something from outside."""
    node = Node(payer(ANNA, "*@example.org", over=100), MemoryPurse(fail={ANNA}))
    node.payments = (to(ANNA, 50), to(BOB, 1))
    run = await node.runs.start("clerk", "go", actor="uid:1")
    await node.asked(run)
    (question,) = node.runs.approvals()
    assert question.rule == "payments.untrusted"
    await node.runs.deny(question.id, "uid:1")
    await node.runs.wait(run)


# ── who may be paid ─────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("listed", "destination", "covered"),
    [
        (ANNA, ANNA, True),
        (ANNA, "banna@example.org", False),
        ("*@example.org", ANNA, True),
        ("*@example.org", "anna@example.org.evil.net", False),
        ("*@example.org", "example.org", False),
        ("*@example.org", "https://evil.net/@example.org", False),
        ("*@example.org", "https://evil.net/pay?to=anna@example.org", False),
        ("*@example.org", "https://anna@example.org", False),
        ("lightning:*", NODE, True),
        ("lightning:*", "cashu:02aa", False),
        (NODE, NODE, True),
        (NODE, NODE[:-1] + "0", False),
        ("cashu:*", "cashu:02aa", True),
        ("https://a.example/*", "https://a.example/x?y=1", True),
        ("https://a.example/*", "https://b.example/x", False),
        ("https://a.example/*", "https://a.example.evil.net/x", False),
        ("https://a.example/p/*", "https://a.example/p/../x", False),
        ("https://a.example/*", ANNA, False),
        ("https://a.example/*", "https://", False),
        ("lightning:*", "bearer", False),
        ("cashu:*", "bearer", False),
        ("example.org", ANNA, False),
        ("anna@*", ANNA, False),
        ("cashu:02*", "cashu:03aa", False),
    ],
)
def test_what_an_entry_covers(listed: str, destination: str, covered: bool) -> None:
    assert covers_payee(listed, destination) is covered


@pytest.mark.parametrize("allow", [(), ("bob@example.org",), ("lightning:*", "cashu:*")])
async def test_who_is_not_listed_is_not_paid(allow: tuple[str, ...]) -> None:
    node = Node(replace(payer(), payments=PaymentGrant(allow)))
    assert await node.pay(to(ANNA, 1)) == [{"error": "PolicyDeniedError"}]
    intent = next(e for e in node.log.entries() if e.type == "step.intent")
    assert intent.draft.policy is not None
    assert (intent.draft.policy.rule, intent.draft.policy.verdict) == ("payments.allow", "deny")
    assert not node.purse.made


async def test_a_manifest_that_says_to_ask_always_is_not_overruled_by_the_node() -> None:
    node = Node(payer(over=0))
    node.payments = (to(ANNA, 1),)
    run = await node.runs.start("clerk", "go", actor="uid:1")
    await node.runs.deny(await node.asked(run), "uid:1")
    await node.runs.wait(run)
    assert not node.purse.made


@pytest.mark.parametrize("over", [10, None])
async def test_above_the_limit_a_person_is_asked(over: int | None) -> None:
    node = Node(payer(over=over, budget=BudgetLimits(sats=5_000, sats_per_day=5_000)))
    limit = over or 1000
    assert (await node.pay(to(ANNA, limit - MOST_FEE_SAT)))[0]["paid_sat"] == limit - MOST_FEE_SAT
    node.payments = (to(ANNA, limit), to(ANNA, limit + 1))
    run = await node.runs.start("clerk", "go", actor="uid:1")
    seen = []
    async for event in node.runs.watch(run):
        for question in node.runs.approvals() if event.type == "approval.asked" else ():
            seen.append((question.rule, question.reason))
            answer = node.runs.deny if len(seen) > 1 else node.runs.approve
            await answer(question.id, "uid:1")
    assert seen == [
        (
            "payments.approval_over_sats",
            f"pay {amount} sat and at most {MOST_FEE_SAT} sat of fees to {ANNA}",
        )
        for amount in (limit, limit + 1)
    ]
    paid, refused = json.loads((await node.runs.wait(run)).text)
    assert (paid["paid_sat"], refused) == (limit, {"error": "PolicyDeniedError"})
    assert sum(node.purse.made.values()) == 2


@pytest.mark.parametrize(
    ("labels", "allow", "send_to", "asks"),
    [
        ({"untrusted"}, ("*@example.org",), (), "payments.untrusted"),
        ({"untrusted"}, (ANNA,), (), None),
        ({"untrusted"}, ("*@example.org", ANNA), (), None),
        ({"private"}, ("*@example.org",), (), None),
        ({"untrusted", "private"}, (ANNA,), (), "taint.send"),
        ({"untrusted", "private"}, (ANNA,), (ANNA,), None),
    ],
)
async def test_what_was_read_decides_too(
    labels: set[str], allow: tuple[str, ...], send_to: tuple[str, ...], asks: str | None
) -> None:
    node = Node(payer(*allow, send_to=send_to))
    node.before = (PlainEffect(labels=frozenset(labels)),)  # type: ignore[arg-type]
    node.payments = (to(ANNA, 1),)
    run = await node.runs.start("clerk", "go", actor="uid:1")
    if asks:
        question = await node.asked(run)
        (shown,) = node.runs.approvals()
        assert shown.rule == asks
        read = "what is private and what others wrote" if len(labels) > 1 else "what others wrote"
        assert shown.reason.startswith(f"the run has read {read}; pay 1 sat and at most ")
        await node.runs.deny(question, "uid:1")
    await node.runs.wait(run)
    assert bool(node.purse.made) is (asks is None)


# ── what nobody knows yet ───────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("paid", [True, False])
async def test_the_wallet_answers_what_only_it_can_know(paid: bool) -> None:
    node = Node(payer(), MemoryPurse(hang={ANNA}))
    node.payments = (to(ANNA, 50),)
    run = await node.runs.start("clerk", "go", actor="uid:1")
    await node.asked(run)
    node.purse.settle(f"{run}:1", paid=paid)
    await node.runs.found_out(f"{run}:2", happened=not paid, reason="that is another payment")
    await node.runs.found_out(f"{run}:1", happened=paid, reason="the wallet knows")
    (value,) = json.loads((await node.runs.wait(run)).text)
    assert (value.get("paid_sat"), "error" in value) == ((50, False) if paid else (None, True))
    assert node.spent() == {ANNA: (50 + FEE_SAT) * 1000 if paid else 0}
    answer = next(e for e in node.log.entries() if e.type == "approval.settled")
    assert (answer.draft.actor, answer.data["verdict"]) == (
        "wallet",
        "happened" if paid else "did_not_happen",
    )


async def test_a_person_who_says_it_happened_has_it_booked() -> None:
    node = Node(payer(), MemoryPurse(hang={ANNA}))
    node.payments = (to(ANNA, 50),)
    run = await node.runs.start("clerk", "go", actor="uid:1")
    await node.runs.approve(await node.asked(run), "uid:1")
    (value,) = json.loads((await node.runs.wait(run)).text)
    assert value["settled_by"] == "uid:1"
    assert node.spent() == {ANNA: (50 + MOST_FEE_SAT) * 1000}
    assert not node.purse.made


async def test_a_lost_answer_is_asked_about_and_not_paid_again() -> None:
    node = Node(payer(), MemoryPurse(lose={ANNA}))
    (value,) = await node.pay(to(ANNA, 50))
    assert (value["paid_sat"], node.purse.made) == (50, {value["operation"]: 1})


async def test_a_stopped_run_says_that_it_may_have_paid() -> None:
    node = Node(payer(), MemoryPurse(hang={ANNA}))
    node.payments = (to(ANNA, 50),)
    run = await node.runs.start("clerk", "go", actor="uid:1")
    await node.asked(run)
    await node.runs.cancel(run)
    assert node.spent() == {ANNA: (50 + MOST_FEE_SAT) * 1000}


# ── crashes ─────────────────────────────────────────────────────────────────────────────────


async def test_dying_at_any_entry_pays_once() -> None:
    deaths = 0
    for last in range(1, 40):
        node = Node(payer(), MemoryPurse())
        node.log = DyingLog(clock=node.clock)
        node.log.last = last
        node.runs = node.make()
        node.payments = (to(ANNA, 10), to(ANNA, 20))
        try:
            run = await node.runs.start("clerk", "go", actor="uid:1")
            await node.runs.wait(run)
        except JournalWriteError:
            deaths += 1
            node.log.last = 10**9
            node.runs = node.make()
            for run in await node.runs.recover():
                await node.runs.wait(run)
        if any(entry.type == "run.started" for entry in node.log.entries()):
            assert sorted(node.purse.made.values()) == [1, 1], last
            assert node.spent() == {ANNA: (30 + 2 * FEE_SAT) * 1000}, last
        if deaths < last:
            return
    raise AssertionError("it never came to its end")


# ── the owner ───────────────────────────────────────────────────────────────────────────────


async def test_the_owner_pays_whom_they_like_and_it_is_on_the_log() -> None:
    node = Node(payer(over=1))
    run = await node.runs.pay(Payment("bearer", 5_000), actor="uid:1")
    result = await node.runs.wait(run)
    assert json.loads(result.text)["paid_sat"] == 5_000
    assert node.runs.show(run).agent == "node"
    assert node.runs.show(run).actor == "uid:1"
    node.purse.fail.add(ANNA)
    run = await node.runs.pay(to(ANNA, 1), actor="uid:1")
    result = await node.runs.wait(run)
    assert (result.status, result.reason) == ("failed", f"{ANNA} refused the payment")


async def test_a_payment_of_the_owners_is_replayed_but_never_forked() -> None:
    node = Node(payer())
    run = await node.runs.pay(to(ANNA, 7), actor="uid:1")
    await node.runs.wait(run)
    report = await node.runs.replay(run)
    assert report.ok  # type: ignore[union-attr]
    with pytest.raises(RunError, match="make it again"):
        await node.runs.replay(run, from_step="1")
    assert node.purse.made == {f"{run}:1": 1}


async def test_an_emergency_stop_stops_the_owners_payments_too() -> None:
    node = Node(payer())
    await node.runs.estop("uid:1")
    with pytest.raises(RunStoppedError):
        await node.runs.pay(to(ANNA, 7), actor="uid:1")


def test_no_agent_can_be_named_as_the_node(tmp_path) -> None:  # type: ignore[no-untyped-def]
    from node.runs import read_manifest

    path = tmp_path / "node.toml"
    path.write_text('name = "node"\ninstructions = "x"\n')
    with pytest.raises(ManifestError, match="cannot be 'node'"):
        read_manifest(path)


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ('[payments]\nallow = ["anna@example.org"]', "needs sats"),
        ('[budget]\nsats = 1\nsats_per_day = 1\n[payments]\nallow = ["anna"]', "must be http"),
        ('[budget]\nsats = 1\nsats_per_day = 1\n[payments]\nallow = ["*"]', "must be http"),
        ('[budget]\nsats = 1\nsats_per_day = 1\n[payments]\nallow = ["bearer"]', "must be http"),
        ("[payments]\napproval_over = 1", "unknown key payments.approval_over; did you mean"),
        ("[payments]\napproval_over_sats = 1.5", "approval_over_sats"),
        ('[[tools]]\nname = "web"\ngrant.pay = ["https://a.example/*"]', "pay needs http"),
    ],
)
def test_a_manifest_says_what_is_wrong_with_its_payments(tmp_path, more: str, problem: str) -> None:  # type: ignore[no-untyped-def]
    from node.runs import read_manifest

    path = tmp_path / "clerk.toml"
    path.write_text(f'name = "clerk"\ninstructions = "x"\n{more}\n')
    with pytest.raises(ManifestError, match=problem):
        read_manifest(path)


async def test_an_address_is_listed_in_any_case(tmp_path) -> None:  # type: ignore[no-untyped-def]
    from node.runs import read_manifest

    path = tmp_path / "clerk.toml"
    path.write_text(
        'name = "clerk"\ninstructions = "x"\nsend_to = ["anna@Example.org"]\n'
        '[budget]\nsats = 100\nsats_per_day = 100\n[payments]\nallow = ["anna@Example.ORG"]\n'
    )
    node = Node(read_manifest(path))
    node.before = (PlainEffect(labels=frozenset({"untrusted", "private"}), kind=StepKind.MODEL),)
    assert (await node.pay(to(ANNA, 1)))[-1]["paid_sat"] == 1


# ── a payment that is taken up again ────────────────────────────────────────────────────────


class Hanging(Node):
    """A node that died while a payment hung, and whose invoice is over since."""

    async def come_back(self) -> str:
        self.payments = (to(ANNA, 90),)
        run = await self.runs.start("clerk", "go", actor="uid:1")
        await self.asked(run)
        await self.runs.drain(0)
        self.log = await left_of(
            self.log, "approval.asked", "approval.settled", into=MemoryLog(clock=self.clock)
        )
        self.purse.expired.add(ANNA)
        self.runs = self.make()
        assert await self.runs.recover() == [run]
        return run


async def test_what_hangs_is_held_although_its_invoice_is_over() -> None:
    node = Hanging(payer(ANNA, BOB, over=100), MemoryPurse(hang={ANNA}))
    run = await node.come_back()
    await node.asked(run)
    assert await node.pay(to(BOB, 90)) == [{"error": "BudgetExceededError"}]
    node.purse.settle(f"{run}:1", paid=True)
    await node.runs.found_out(f"{run}:1", happened=True, reason="the wallet knows")
    (value,) = json.loads((await node.runs.wait(run)).text)
    assert (value["paid_sat"], value["to"]) == (90, ANNA)
    assert node.spent()[ANNA] == (90 + FEE_SAT) * 1000


@pytest.mark.parametrize("locked", [False, True])
async def test_what_may_be_paid_yet_is_never_told_as_failed(locked: bool) -> None:
    node = Hanging(payer(), MemoryPurse(hang={ANNA}))
    node.purse.locked = False
    run = await node.come_back()
    node.purse.locked = locked
    await node.runs.deny(await node.asked(run), "uid:1")
    while (await settled(), node.runs.approvals())[1]:
        (again,) = node.runs.approvals()
        await node.runs.deny(again.id, "uid:1")
    (value,) = json.loads((await node.runs.wait(run)).text)
    assert value == {"error": "PaymentPendingError"}
    assert node.spent() == {ANNA: (90 + MOST_FEE_SAT) * 1000}


async def test_an_amount_that_a_model_writes_with_a_point_is_that_amount() -> None:
    asked = Payment.from_json({"to": f"address|{ANNA}|", "amount_sat": 5.0})
    assert asked.amount_sat == 5
    assert Payment.from_json({"to": "x", "amount_sat": 5.5}).amount_sat is None
    assert Payment.from_json({"to": "x", "amount_sat": float("inf")}).amount_sat is None
