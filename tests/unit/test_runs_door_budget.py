"""Budgets: never overspent by concurrent branches, rebuilt from the log, by day and by node."""

from __future__ import annotations

import asyncio

import pytest
from helpers.runs import make
from hypothesis import given, settings
from hypothesis import strategies as st

from node.clock import ManualClock
from node.errors import BudgetExceededError, OutcomeUnknownError
from node.journal import MemoryLog
from node.runs import Answer, NodeLimits, NoGuards, Outcome, ProgramRun, Runs, StepKind, Usage
from node.runs.agent import BudgetLimits
from node.runs.budget import Hold, Pocket, amounts, part, reserve, run_limits
from node.runs.testing import BoundedEffect, MemoryAgents, PlainEffect, WaitingEffect, agent

USAGES = st.builds(
    Usage,
    steps=st.integers(0, 5),
    tool_calls=st.integers(0, 5),
    prompt_tokens=st.integers(0, 50),
    completion_tokens=st.integers(0, 50),
    egress_bytes=st.integers(0, 500),
    msat=st.integers(0, 500),
)


def spend(usage: Usage, fraction: float) -> Usage:
    return part(usage, fraction)


@settings(deadline=None)
@given(
    limits=USAGES,
    actions=st.lists(
        st.tuples(st.integers(0, 7), USAGES, st.floats(0, 1), st.sampled_from("rco")), max_size=60
    ),
)
def test_holds_never_sum_to_more_than_the_limit(limits, actions) -> None:
    """Any interleaving of reserve, reconcile (with at most what was held) and release."""
    total = {k: v for k, v in amounts(limits).items() if k != "seconds"}
    shared = Pocket("all", total)
    own = [Pocket(f"own {n}", {}) for n in range(2)]
    open_holds: dict[int, Hold] = {}
    for slot, wanted, fraction, action in actions:
        if action == "r" and slot not in open_holds:
            left, asked = shared.left(), amounts(wanted)
            if any(asked[name] > left[name] for name in left):
                with pytest.raises(BudgetExceededError):
                    reserve((own[slot % 2], shared), wanted)
            else:
                open_holds[slot] = reserve((own[slot % 2], shared), wanted)
        elif action == "c" and slot in open_holds:
            hold = open_holds.pop(slot)
            hold.reconcile(spend(hold.usage, fraction))
        elif action == "o" and slot in open_holds:
            open_holds.pop(slot).release()
        taken = amounts(shared.used + shared.held())
        assert all(taken[name] <= total[name] for name in total)
        used = own[0].used + own[1].used
        assert amounts(used) == amounts(shared.used)


def test_a_refused_reservation_holds_nothing_anywhere() -> None:
    rich, poor = Pocket("rich", {"msat": 9000}), Pocket("poor", {"msat": 1000}, key="{} there")
    with pytest.raises(BudgetExceededError) as caught:
        reserve((rich, poor), Usage(msat=2500))
    assert caught.value.owner == "poor"
    assert "sats limit 1, used 0, the next step needs 2.5;" in caught.value.message
    assert caught.value.hint == "Raise sats there, or ask for less."
    assert rich.held() == Usage()


def test_every_dimension_of_a_run_is_limited() -> None:
    from node.runs.budget import run_limits

    assert set(run_limits(agent(), NodeLimits())) == set(amounts(Usage()))


async def run_one(program, *agents, **more) -> tuple[Runs, MemoryLog, str]:
    runs, log = make(program, *agents, **more)
    await runs.recover()
    return runs, log, await runs.start("clerk", "go", actor="uid:1")


@settings(max_examples=25, deadline=None)
@given(
    shares=st.lists(st.floats(0.05, 1), min_size=1, max_size=4),
    costs=st.lists(st.integers(1, 400), min_size=1, max_size=12),
    nap=st.lists(st.integers(0, 3), min_size=12, max_size=12),
)
async def test_concurrent_branches_never_jointly_overspend(shares, costs, nap) -> None:
    limit = 1000
    spent: list[int] = []

    async def worker(run, number: int) -> None:
        with run as child:
            for place, cost in enumerate(costs):
                for _ in range(nap[(number + place) % 12]):
                    await asyncio.sleep(0)
                usage = Usage(completion_tokens=cost)
                effect = PlainEffect(args=place, kind=StepKind.MODEL, usage=usage)
                try:
                    await child.step(effect)
                except BudgetExceededError:
                    continue
                spent.append(cost)

    async def program(run: ProgramRun) -> Answer:
        branches = [run.branch(f"b{n}", share=share) for n, share in enumerate(shares)]
        await asyncio.gather(*(worker(child, n) for n, child in enumerate(branches)))
        left = run.remaining().completion_tokens
        assert left == limit - sum(spent)
        return Answer("completed", "")

    clerk = agent("clerk", "plain", budget=BudgetLimits(tokens=limit, steps=10_000, seconds=1e6))
    runs, _, run_id = await run_one(program, clerk)
    result = await runs.wait(run_id)
    assert result.status == "completed", result.reason
    assert sum(spent) <= limit
    assert result.usage.completion_tokens == sum(spent)


async def test_a_branch_that_is_joined_takes_no_more_steps() -> None:
    async def program(run: ProgramRun) -> Answer:
        with run.branch("b", share=1) as child:
            await child.step(PlainEffect())
        await child.step(PlainEffect())
        return Answer("completed", "")

    runs, _, run_id = await run_one(program)
    result = await runs.wait(run_id)
    assert result.status == "failed"
    assert "joined already" in result.reason


async def test_paths_of_branches_do_not_depend_on_who_is_faster() -> None:
    async def program(run: ProgramRun) -> Answer:
        await run.step(PlainEffect())
        one, two = run.branch("one"), run.branch("two")
        await two.step(PlainEffect())
        inner = one.branch("inner")
        await inner.step(PlainEffect())
        await one.step(PlainEffect())
        return Answer("completed", "")

    runs, log, run_id = await run_one(program)
    await runs.wait(run_id)
    paths = [e.draft.path for e in log.run_entries(run_id) if e.type == "step.intent"]
    assert paths == ["1", "3.two.1", "2.one.1.inner.1", "2.one.2"]


def tokens(count: int) -> PlainEffect:
    return PlainEffect(kind=StepKind.MODEL, usage=Usage(completion_tokens=count))


def one_step(effect):
    async def program(run: ProgramRun) -> Answer:
        await run.step(effect)
        return Answer("completed", "")

    return program


async def test_an_agents_day_is_counted_over_runs_restarts_and_midnight() -> None:
    clock = ManualClock()
    clerk = agent("clerk", "plain", budget=BudgetLimits(tokens=80, tokens_per_day=100))
    runs, log, first = await run_one(one_step(tokens(70)), clerk, clock=clock)
    assert (await runs.wait(first)).status == "completed"

    again, _, second = await run_one(one_step(tokens(70)), clerk, clock=clock, log=log)
    result = await again.wait(second)
    assert result.status == "stopped"
    assert "agent clerk today" in result.reason
    assert "limit 100, used 70" in result.reason

    clock.advance(86_400)
    third = await again.start("clerk", "go", actor="uid:1")
    assert (await again.wait(third)).status == "completed"


async def test_a_small_egress_budget_is_given_whole_to_a_call_that_keeps_to_it() -> None:
    """Not refused because a call might have sent more than the budget has, and never overspent."""
    given: list[int] = []

    def call(sends: int) -> BoundedEffect:
        return BoundedEffect(needs_usage=Usage(egress_bytes=65_536), sends=sends, given=given)

    async def program(run: ProgramRun) -> Answer:
        for sends in (1_000, 4_000, 9_000, 1):
            await run.step(call(sends))
        return Answer("completed", "")

    clerk = agent("clerk", "plain", budget=BudgetLimits(egress_bytes=10_000))
    runs, _, run_id = await run_one(program, clerk)
    result = await runs.wait(run_id)
    assert given == [10_000, 9_000, 5_000]
    assert result.usage.egress_bytes == 10_000
    assert (result.status, "egress_bytes limit 10000" in result.reason) == ("stopped", True)


async def test_without_time_left_nothing_is_begun() -> None:
    clock, after = ManualClock(), PlainEffect(args="after")

    class Long(PlainEffect):
        async def perform(self, key: str) -> Outcome:
            clock.advance(121)
            return await super().perform(key)

    async def program(run: ProgramRun) -> Answer:
        await run.step(Long())
        await run.step(after)
        return Answer("completed", "")

    runs, _, run_id = await run_one(program, clock=clock)
    result = await runs.wait(run_id)
    assert (result.status, after.performed) == ("stopped", [])
    assert "seconds limit 120" in result.reason


async def test_an_effect_that_cannot_send_less_is_refused_whole() -> None:
    sender = PlainEffect(needs_usage=Usage(egress_bytes=65_536))
    clerk = agent("clerk", "plain", budget=BudgetLimits(egress_bytes=10_000))
    runs, _, run_id = await run_one(one_step(sender), clerk)
    assert (await runs.wait(run_id)).status == "stopped"
    assert sender.performed == []


async def test_a_call_that_ran_out_of_time_counts_all_it_might_have_sent() -> None:
    sender = WaitingEffect(needs_usage=Usage(egress_bytes=700, seconds=0.01))
    runs, _, run_id = await run_one(one_step(sender), agent("clerk", "plain"))
    assert (await runs.wait(run_id)).usage.egress_bytes == 700


async def test_what_is_limited_to_nothing_is_not_limited_by_what_the_node_gives() -> None:
    nothing = BudgetLimits(tool_calls=0, egress_bytes=0, tokens_per_day=0)
    limits = run_limits(agent(budget=nothing), NodeLimits())
    assert (limits["tool_calls"], limits["egress_bytes"]) == (0, 0)
    runs, _, run_id = await run_one(one_step(tokens(1)), agent(budget=nothing))
    reason = (await runs.wait(run_id)).reason
    assert "agent clerk today is spent: tokens limit 0" in reason
    assert "Raise tokens_per_day in [budget] of agent clerk" in reason


async def test_what_nobody_knows_of_counts_all_it_was_given_to_send() -> None:
    class Lost(BoundedEffect):
        async def perform(self, key: str) -> Outcome:
            raise OutcomeUnknownError("the answer was lost.")

        async def settle(self, key: str) -> Outcome | None:
            raise OutcomeUnknownError("the answer was lost.")

    lost = Lost(traceless=False, needs_usage=Usage(egress_bytes=65_536))
    clerk = agent(budget=BudgetLimits(egress_bytes=10_000))
    runs, _, run_id = await run_one(one_step(lost), clerk)
    async for event in runs.watch(run_id):
        if event.type == "approval.asked":
            await runs.cancel(run_id)
    assert (await runs.wait(run_id)).usage.egress_bytes == 10_000


async def test_a_day_that_its_owner_cuts_short_is_shorter_for_the_next_run() -> None:
    log = MemoryLog(clock=ManualClock())
    agents = MemoryAgents(agent(budget=BudgetLimits(tokens_per_day=100)))
    program, clock = one_step(tokens(30)), ManualClock()
    runs = Runs(log=log, program=program, agents=agents, clock=clock, guards=NoGuards())
    assert (await runs.wait(await runs.start("clerk", "go", actor="uid:1"))).status == "completed"
    agents.put(agent(budget=BudgetLimits(tokens_per_day=50)))
    reason = (await runs.wait(await runs.start("clerk", "go", actor="uid:1"))).reason
    assert "agent clerk today is spent: tokens limit 50, used 30" in reason


async def test_the_nodes_day_binds_all_agents() -> None:
    clock, limits = ManualClock(), NodeLimits(tokens_per_day=100)
    runs, log, first = await run_one(one_step(tokens(70)), clock=clock, limits=limits)
    await runs.wait(first)
    other = agent("clerk2", "plain")
    more, _, _ = await run_one(
        one_step(tokens(70)), agent(), other, log=log, limits=limits, clock=clock
    )
    result = await more.wait(await more.start("clerk2", "go", actor="uid:1"))
    assert "this node today" in result.reason


async def test_an_intent_without_a_result_counts_as_held_after_a_crash() -> None:
    clock, limits = ManualClock(), NodeLimits(egress_bytes_per_day=100)
    effect = WaitingEffect(traceless=False, needs_usage=Usage(egress_bytes=80))
    runs, log, _ = await run_one(one_step(effect), clock=clock, limits=limits)
    await effect.begun.wait()
    # the process "dies" here: another one reads the same log, and is stopped before it resumes
    await log.append(_estop())
    program = one_step(PlainEffect(needs_usage=Usage(egress_bytes=30)))
    after, _ = make(program, log=log, clock=clock, limits=limits)
    await after.recover()
    pockets = after._door.ledger.pockets(agent())
    assert pockets[1].held().egress_bytes == 80
    with pytest.raises(BudgetExceededError) as caught:
        reserve(pockets, Usage(egress_bytes=30))
    assert caught.value.owner == "this node today"
    effect.release.set()
    await runs.cancel(_only(runs))


async def test_what_a_cancelled_step_may_use_stays_held_until_its_end_is_known() -> None:
    asked, tell = asyncio.Event(), asyncio.Event()

    class Paying(WaitingEffect):
        async def settle(self, key: str) -> Outcome | None:
            asked.set()
            await tell.wait()
            return Outcome(True, None, Usage(msat=4000))

    paying = Paying(traceless=False, needs_usage=Usage(msat=4000))
    other = PlainEffect(usage=Usage(msat=4000))

    async def program(run: ProgramRun) -> Answer:
        await run.step(paying if run.prompt == "go" else other)
        return Answer("completed", "")

    clerk = agent(budget=BudgetLimits(sats=5, sats_per_day=5))
    runs, _, first = await run_one(program, clerk)
    await paying.begun.wait()
    cancelling = asyncio.ensure_future(runs.cancel(first))
    await asked.wait()
    second = await runs.start("clerk", "another", actor="uid:1")
    assert "agent clerk today is spent" in (await runs.wait(second)).reason
    tell.set()
    await cancelling
    today = runs._door.ledger.pockets(clerk)[0]
    assert (today.used.msat, today.held(), other.performed) == (4000, Usage(), [])


async def test_an_intent_without_a_result_counts_as_held_in_an_emergency_stop() -> None:
    paying = WaitingEffect(traceless=False, needs_usage=Usage(msat=4000))
    clerk = agent(budget=BudgetLimits(sats=5, sats_per_day=5))
    runs, _, run_id = await run_one(one_step(paying), clerk)
    today = runs._door.ledger.pockets(clerk)[0]
    for _ in range(3):
        await paying.begun.wait()
        paying.begun.clear()
        await runs.estop("uid:1")
        assert (today.held().steps, today.held().msat) == (1, 4000)
        await runs.resume("uid:1")
    paying.release.set()
    await runs.wait(run_id)
    assert (today.used.steps, today.held()) == (1, Usage())
    assert not runs._door.ledger._left_open


async def test_a_call_that_was_left_and_is_cancelled_counts_all_it_might_have_sent() -> None:
    sender = WaitingEffect(traceless=False, needs_usage=Usage(egress_bytes=700))
    runs, _, run_id = await run_one(one_step(sender))
    await sender.begun.wait()
    await runs.estop("uid:1")
    await runs.cancel(run_id)
    assert (await runs.wait(run_id)).usage.egress_bytes == 700


async def test_a_call_that_was_cancelled_counts_all_it_might_have_sent_on_its_day() -> None:
    clock = ManualClock()
    sender = WaitingEffect(traceless=False, needs_usage=Usage(egress_bytes=700))
    runs, log, run_id = await run_one(one_step(sender), clock=clock)
    await sender.begun.wait()
    clock.advance(86_400)
    await runs.cancel(run_id)
    (result,) = (entry for entry in log.entries() if entry.type == "step.result")
    assert result.data["usage"] == {"steps": 1, "tool_calls": 1, "egress_bytes": 700}
    assert result.data["day"] == "2023-11-14"
    assert "was stopped under way" in str(result.data["error"])


def _estop():
    from node.journal import Draft

    return Draft("node.estop", actor="uid:1")


def _only(runs: Runs) -> str:
    (found,) = runs.active()
    return found


async def test_remaining_says_what_is_left() -> None:
    seen: list[Usage] = []

    async def program(run: ProgramRun) -> Answer:
        await run.step(tokens(30))
        seen.append(run.remaining())
        return Answer("completed", "")

    clerk = agent("clerk", "plain", budget=BudgetLimits(tokens=100, steps=5, sats=3))
    runs, _, run_id = await run_one(program, clerk)
    await runs.wait(run_id)
    assert (seen[0].completion_tokens, seen[0].steps, seen[0].msat) == (70, 4, 3000)


@pytest.mark.parametrize("name", ["", "a.b", "input", "tool_result"])
async def test_a_branch_has_a_name_its_paths_can_be_read_by(name: str) -> None:
    caught: list[ValueError] = []

    async def program(run: ProgramRun) -> Answer:
        try:
            run.branch(name)
        except ValueError as error:
            caught.append(error)
        return Answer("completed", "")

    runs, _, run_id = await run_one(program)
    await runs.wait(run_id)
    assert caught


async def test_a_clock_that_is_set_back_gives_no_day_twice() -> None:
    clock = ManualClock()
    clock.advance(86_400 - clock.wall_s % 86_400 + 5)  # five seconds past midnight
    clerk = agent("clerk", "plain", budget=BudgetLimits(tokens=80, tokens_per_day=100))
    runs, log, first = await run_one(one_step(tokens(70)), clerk, clock=clock)
    assert (await runs.wait(first)).status == "completed"
    for seconds in (-10, 10):  # the day before, and this one again
        clock.wall_s += seconds
        run_id = await runs.start("clerk", "go", actor="uid:1")
        status = (await runs.wait(run_id)).status
        assert status == ("completed" if seconds < 0 else "stopped")
    clock.wall_s -= 10
    again, _, last = await run_one(one_step(tokens(70)), clerk, clock=clock, log=log)
    assert "agent clerk today" in (await again.wait(last)).reason


async def test_a_clock_that_was_wrong_hides_nothing_of_today() -> None:
    clock = ManualClock()
    clerk = agent("clerk", "plain", budget=BudgetLimits(tokens=80, tokens_per_day=100))
    runs, log, first = await run_one(one_step(tokens(70)), clerk, clock=clock)
    assert (await runs.wait(first)).status == "completed"
    now, clock.wall_s = clock.wall_s, 0.0  # a machine that keeps no time, before it has asked
    for _ in range(5):
        runs, _, run_id = await run_one(one_step(tokens(5)), clerk, clock=clock, log=log)
        await runs.wait(run_id)
    clock.wall_s = now
    again, _, last = await run_one(one_step(tokens(70)), clerk, clock=clock, log=log)
    assert "limit 100, used 70" in (await again.wait(last)).reason
