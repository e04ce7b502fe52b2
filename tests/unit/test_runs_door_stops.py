"""Stops, resumptions and second deaths: one life a run, and nothing that was stopped happens."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

import pytest
from helpers.runs import SlowLog, left_of, make, question_of, script, settled

from node.clock import ManualClock
from node.errors import JournalWriteError, RunError, RunStoppedError
from node.journal import Draft, MemoryLog
from node.runs import (
    Answer,
    GuardContext,
    GuardStage,
    GuardVerdict,
    NodeLimits,
    Outcome,
    ProgramRun,
    Runs,
    Usage,
)
from node.runs.agent import BudgetLimits
from node.runs.coding import usage_from
from node.runs.program import Program
from node.runs.run import Run
from node.runs.testing import (
    BoundedEffect,
    CountingEffect,
    FixedGuards,
    PlainEffect,
    ScriptedProgram,
    WaitingEffect,
    agent,
)
from node.types import Json


class Escalating:
    name = "escalating"

    def check(self, stage: GuardStage, content: Json, context: GuardContext) -> GuardVerdict:
        return GuardVerdict("escalate", "who knows")


async def until(holds: Callable[[], object]) -> None:
    for _ in range(1000):
        if holds():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never came to that")


# ── one life a run ──────────────────────────────────────────────────────────────────────────


def writes() -> WaitingEffect:
    return WaitingEffect(name="plain.write", traceless=False)


@pytest.mark.parametrize("stopped", [False, True])
async def test_resuming_takes_no_run_up_that_is_alive(stopped: bool) -> None:
    slow = writes()
    runs, log = make(script(slow))
    if stopped:
        await runs.estop("uid:1")
        await runs.resume("uid:1")
    run_id = await runs.start("clerk", "go", actor="uid:1")
    await slow.begun.wait()
    assert await runs.resume("uid:1") == []
    slow.release.set()
    await runs.wait(run_id)
    await settled()
    assert slow.performed == [f"{run_id}:1"]
    kinds = [entry.type for entry in log.entries()]
    assert (kinds.count("step.result"), kinds.count("node.resumed")) == (1, stopped)


async def test_a_run_that_was_stopped_and_resumed_often_is_not_taken_for_one_that_crashes() -> None:
    slow = writes()
    runs, log = make(script(slow))
    run_id = await runs.start("clerk", "go", actor="uid:1")
    for _ in range(5):
        await slow.begun.wait()
        slow.begun.clear()
        await runs.estop("uid:1")
        assert await runs.resume("uid:1") == [run_id]
    await slow.begun.wait()
    again, _ = make(ScriptedProgram(lambda _: [PlainEffect("plain.write")]), log=await left_of(log))
    assert await again.recover() == [run_id]  # once it did
    slow.release.set()
    for each in (runs, again):
        assert (await each.wait(run_id)).status == "completed"


async def test_a_run_that_is_being_parked_is_resumed_when_it_is() -> None:
    ending = asyncio.Event()
    slow = writes()

    async def program(run: ProgramRun) -> Answer:
        try:
            await run.step(slow)
        finally:
            await ending.wait()
        return Answer("completed")

    runs, log = make(program)
    run_id = await runs.start("clerk", "go", actor="uid:1")
    await slow.begun.wait()
    stop = asyncio.create_task(runs.estop("uid:1"))
    await settled()
    resume = asyncio.create_task(runs.resume("uid:1"))
    await settled()
    slow.release.set()
    assert slow.performed == []
    ending.set()
    await stop
    assert await resume == [run_id]
    assert (await runs.wait(run_id)).status == "completed"
    assert slow.performed == [f"{run_id}:1"]
    assert [entry.type for entry in log.entries()].count("run.finished") == 1


async def test_a_run_that_is_left_alone_comes_back_once_however_often_it_is_resumed(
    pass_time: Callable[[float], None],
) -> None:
    slow = writes()
    runs, log = make(script(slow))
    run_id = await runs.start("clerk", "go", actor="uid:1")
    await slow.begun.wait()
    left = await left_of(log)
    for _ in range(3):
        await left.append(Draft("run.resumed", run=run_id, agent="clerk"))
    again = writes()
    after, _ = make(script(again), log=left)
    assert await after.recover() == []
    await after.estop("uid:1")
    assert await after.resume("uid:1") == []
    pass_time(60)
    await again.begun.wait()
    assert await after.resume("uid:1") == []
    again.release.set()
    await after.wait(run_id)
    await settled()
    assert again.performed == [f"{run_id}:1"]
    slow.release.set()


async def test_a_stop_that_comes_while_another_is_lifted_stands() -> None:
    runs, log = make(ScriptedProgram(lambda _: [PlainEffect()]), log=SlowLog(clock=ManualClock()))
    await runs.estop("uid:1")
    await asyncio.gather(runs.resume("uid:1"), runs.estop("uid:2"))
    with pytest.raises(RunStoppedError):
        await runs.start("clerk", "go", actor="uid:1")
    assert [entry.type for entry in log.entries()][-1] == "node.estop"


async def test_a_run_that_was_stopped_as_it_started_is_resumed() -> None:
    step = PlainEffect()
    runs, _ = make(script(step), log=SlowLog(clock=ManualClock()))
    start = asyncio.create_task(runs.start("clerk", "go", actor="uid:1"))
    await asyncio.sleep(0)
    await runs.estop("uid:1")
    run_id = await start
    assert step.performed == []
    assert await runs.resume("uid:1") == [run_id]
    assert (await runs.wait(run_id)).status == "completed"


# ── answers, stops and what is counted ──────────────────────────────────────────────────────


async def test_what_was_said_of_one_attempt_says_nothing_of_the_next(tmp_path) -> None:
    """It did not happen, so it was done; and the node died again before the log had the result."""
    step = CountingEffect(tmp_path / "n", 1, knows=False)
    runs, log = make(script(step))
    run_id = await runs.start("clerk", "go", actor="uid:1")
    await runs.wait(run_id)
    step.file.unlink()
    first = await left_of(log, "step.result", "run.finished")
    runs, _ = make(script(step), log=first)
    await runs.recover()
    question = await question_of(runs, run_id)
    assert question.reason.endswith("Did it happen? If not, it is done now.")
    await runs.deny(question.id, "uid:1")
    await runs.wait(run_id)
    second = await left_of(first, "step.result", "run.finished")
    runs, _ = make(script(step), log=second)
    await runs.recover()
    again = await question_of(runs, run_id)
    assert step.happened(f"{run_id}:1") == 1
    await runs.approve(again.id, "uid:1")
    assert (await runs.wait(run_id)).status == "completed"
    assert step.happened(f"{run_id}:1") == 1


async def test_an_answer_that_came_while_the_run_was_parked_is_taken(tmp_path) -> None:
    step = CountingEffect(tmp_path / "n", 1, knows=False)
    runs, log = make(script(step))
    run_id = await runs.start("clerk", "go", actor="uid:1")
    await runs.wait(run_id)
    step.file.unlink()
    runs, _ = make(script(step), log=await left_of(log, "step.result", "run.finished"))
    await runs.recover()
    question = await question_of(runs, run_id)
    await runs.estop("uid:1")
    await runs.deny(question.id, "uid:1")
    await runs.resume("uid:1")
    assert (await runs.wait(run_id)).status == "completed"
    assert step.happened(f"{run_id}:1") == 1


async def test_a_step_with_its_result_is_not_asked_about_any_more(tmp_path) -> None:
    """The run was cancelled while it was asked, and the node died before the run had its end."""
    step, waiting = CountingEffect(tmp_path / "n", 1, knows=False), WaitingEffect()
    runs, log = make(script(step))
    run_id = await runs.start("clerk", "go", actor="uid:1")
    await runs.wait(run_id)
    first = await left_of(log, "step.result", "run.finished")
    runs, _ = make(script(step), log=first)
    await runs.recover()
    await question_of(runs, run_id)
    await runs.cancel(run_id)
    runs, _ = make(script(step, waiting), log=await left_of(first, "run.finished"))
    await runs.recover()
    await waiting.begun.wait()
    assert runs.approvals() == []
    waiting.release.set()
    assert (await runs.wait(run_id)).status == "completed"


@pytest.mark.parametrize("how", ["estop", "cancel"])
async def test_a_stop_while_the_intent_is_written_stops_the_step(tmp_path, how: str) -> None:
    step = CountingEffect(tmp_path / "n", 1)
    log = SlowLog(clock=ManualClock())
    runs, _ = make(script(step), log=log)
    log.when = "step.intent"
    log.then = lambda: stopping.append(
        asyncio.ensure_future(runs.estop("uid:1") if how == "estop" else runs.cancel(run_id))
    )
    stopping: list[asyncio.Task[None]] = []
    run_id = await runs.start("clerk", "go", actor="uid:1")
    await until(lambda: stopping)
    await stopping[0]
    assert step.happened(f"{run_id}:1") == 0
    if how == "estop":
        await runs.resume("uid:1")
        assert (await runs.wait(run_id)).status == "completed"
        assert step.happened(f"{run_id}:1") == 1
    else:
        assert (await runs.wait(run_id)).status == "stopped"
        (result,) = (entry for entry in log.entries() if entry.type == "step.result")
        assert "did not happen" in str(result.data["error"])


@dataclass(frozen=True)
class Writing(CountingEffect):
    """Writes on the log as it finds out what it came to, as a call does that pays."""

    log: MemoryLog | None = None

    async def settle(self, key: str) -> Outcome | None:
        assert self.log is not None
        await self.log.append(Draft("wallet.settled"))
        return await super().settle(key)


async def interrupted(file: Path, *, knows: bool) -> tuple[Runs, SlowLog, Writing, str]:
    """A node that is about to take up a run whose step has an intent, and did not happen."""
    died = CountingEffect(file, 1)
    runs, log = make(script(died))
    run_id = await runs.start("clerk", "go", actor="uid:1")
    await runs.wait(run_id)
    died.file.unlink()
    left = SlowLog(clock=ManualClock())
    await left_of(log, "step.result", "run.finished", into=left)
    step = Writing(file, 1, knows, left)
    runs, _ = make(script(step), log=left)
    return runs, left, step, run_id


@pytest.mark.parametrize("how", ["estop", "cancel"])
@pytest.mark.parametrize(
    ("when", "knows"), [("wallet.settled", True), ("wallet.settled", False), ("step.again", True)]
)
async def test_a_stop_while_it_is_found_out_what_a_step_came_to(
    tmp_path: Path, when: str, knows: bool, how: str
) -> None:
    runs, log, step, run_id = await interrupted(tmp_path / "n", knows=knows)
    stopping: list[asyncio.Task[None]] = []
    log.when = when
    log.then = lambda: stopping.append(
        asyncio.ensure_future(runs.estop("uid:1") if how == "estop" else runs.cancel(run_id))
    )
    await runs.recover()
    await until(lambda: stopping)
    await stopping[0]
    assert step.happened(f"{run_id}:1") == 0
    if how == "estop":
        await runs.resume("uid:1")
        if not knows:
            await runs.deny((await question_of(runs, run_id)).id, "uid:1")
        assert (await runs.wait(run_id)).text == '[{"added":1}]'
        assert step.happened(f"{run_id}:1") == 1
    else:
        assert (await runs.wait(run_id)).usage.steps == 1
        assert [each.type for each in log.entries()].count("step.result") == 1
    assert runs._door.ledger.pockets(agent())[0].held() == Usage()


async def test_an_answer_is_good_until_the_step_is_done_again(tmp_path: Path) -> None:
    runs, log, step, run_id = await interrupted(tmp_path / "n", knows=False)
    stopping: list[asyncio.Task[None]] = []
    await runs.recover()
    question = await question_of(runs, run_id)
    log.when = "wallet.settled"
    log.then = lambda: stopping.append(asyncio.ensure_future(runs.estop("uid:1")))
    await runs.deny(question.id, "uid:1")
    await until(lambda: stopping)
    await stopping[0]
    await runs.resume("uid:1")
    assert (await asyncio.wait_for(runs.wait(run_id), 5)).text == '[{"added":1}]'
    assert step.happened(f"{run_id}:1") == 1


class Slow(CountingEffect):
    """Takes a moment, before it happens and after."""

    async def perform(self, key: str) -> Outcome:
        await asyncio.sleep(0)
        outcome = await super().perform(key)
        await asyncio.sleep(0)
        return outcome


@pytest.mark.parametrize("how", ["cancel", "estop"])
async def test_what_is_stopped_anywhere_has_each_result_once_and_counts_it(
    tmp_path: Path, how: str
) -> None:
    async def of_a_branch(child: Run, number: int) -> None:
        with child:
            await child.step(PlainEffect(usage=Usage(completion_tokens=2)))
            await child.step(Slow(tmp_path / child.id, number))

    async def program(run: Run) -> Answer:
        one, two = run.branch("one", share=0.3), run.branch("two", share=0.3)
        await asyncio.gather(of_a_branch(one, 1), of_a_branch(two, 2))
        return Answer("completed")

    moment, over = 0, False
    while not over:
        runs, log = make(cast("Program", program), log=SlowLog(clock=ManualClock()))
        run_id = await runs.start("clerk", "go", actor="uid:1")
        for _ in range(moment):
            await asyncio.sleep(0)
        moment, over = moment + 1, not runs.is_unfinished(run_id)
        if how == "cancel":
            await runs.cancel(run_id)
        else:
            await runs.estop("uid:1")
            await runs.resume("uid:1")
        await runs.wait(run_id)
        entries = log.run_entries(run_id)
        results = {each.draft.path: each for each in entries if each.type == "step.result"}
        kinds, end = Counter(each.type for each in entries), entries[-1]
        assert (kinds["step.result"], kinds["run.finished"]) == (len(results), 1)
        assert (end.type, usage_from(end.data["usage"]).steps) == ("run.finished", len(results))
        for number, path in enumerate(("1.one.2", "2.two.2"), 1):
            done = CountingEffect(tmp_path / run_id, number).happened(f"{run_id}:{path}")
            assert done == (path in results and bool(results[path].data["ok"]))
    assert moment > 10


class Late(PlainEffect):
    """Is under way for ever, and takes for ever to find out about."""

    async def perform(self, key: str) -> Outcome:
        self.performed.append(key)
        await asyncio.Event().wait()
        raise AssertionError

    async def settle(self, key: str) -> Outcome | None:
        return await self.perform(key)


async def test_what_cannot_be_found_out_in_time_counts_as_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("node.runs.life.SETTLE_S", 0.01)
    step = Late(traceless=False, needs_usage=Usage(egress_bytes=500))
    runs, log = make(script(step))
    run_id = await runs.start("clerk", "go", actor="uid:1")
    await until(lambda: step.performed)
    await runs.cancel(run_id)
    assert (await runs.wait(run_id)).usage.egress_bytes == 500
    (result,) = (entry for entry in log.entries() if entry.type == "step.result")
    assert "may or may not have happened" in str(result.data["error"])


async def test_who_asks_after_a_timeout_does_not_say_that_it_is_done_now(tmp_path) -> None:
    class Slow(CountingEffect):
        async def perform(self, key: str) -> Outcome:
            await asyncio.Event().wait()
            raise AssertionError

    step = Slow(tmp_path / "n", 1, knows=False)
    clerk = agent(budget=BudgetLimits(seconds=0.01))
    runs, _ = make(script(step), clerk)
    run_id = await runs.start("clerk", "go", actor="uid:1")
    question = await question_of(runs, run_id)
    assert question.reason.endswith("Did it happen?")
    await runs.deny(question.id, "uid:1")
    assert (await runs.wait(run_id)).text == '[{"error":"BudgetExceededError"}]'


async def test_a_call_that_is_taken_up_sends_no_more_than_is_left() -> None:
    class Died(BoundedEffect):
        async def perform(self, key: str) -> Outcome:
            if not self.given:
                self.given.append(-1)
                await asyncio.Event().wait()
            return await super().perform(key)

    call = Died(traceless=False, needs_usage=Usage(egress_bytes=500), sends=500, most=500)
    clerk = agent(budget=BudgetLimits(egress_bytes=500))
    runs, log = make(script(call), clerk)
    run_id = await runs.start("clerk", "go", actor="uid:1")
    await until(lambda: call.given)
    limits = NodeLimits(egress_bytes_per_day=0)  # others used up the node's day meanwhile
    again, _ = make(script(call), clerk, log=await left_of(log), limits=limits)
    await again.recover()
    assert (await again.wait(run_id)).usage.egress_bytes == 0
    assert call.given == [-1, 0]
    await runs.drain(0)


async def test_a_run_that_waited_for_a_person_is_cancelled_while_it_is_parked() -> None:
    escalates = FixedGuards({GuardStage.TOOL_RESULT: [Escalating()]})
    effect = PlainEffect(value="a letter")
    runs, _ = make(script(effect), guards=escalates)
    run_id = await runs.start("clerk", "go", actor="uid:1")
    await question_of(runs, run_id)
    await runs.estop("uid:1")
    await asyncio.wait_for(runs.cancel(run_id), 5)
    assert (await runs.wait(run_id)).status == "stopped"
    assert runs.approvals() == []


async def test_nothing_is_resumed_while_the_node_goes_down() -> None:
    slow = writes()
    runs, _ = make(script(slow), log=SlowLog(clock=ManualClock()))
    run_id = await runs.start("clerk", "go", actor="uid:1")
    await slow.begun.wait()
    await runs.estop("uid:1")
    resuming = asyncio.create_task(runs.resume("uid:1"))
    await asyncio.sleep(0)
    await runs.drain(0)
    assert await resuming == []
    await settled()
    assert runs.active() == {}
    assert (runs.show(run_id).status, slow.performed) == ("parked", [])


@pytest.mark.parametrize("knows", [True, False])
async def test_a_stop_while_a_run_is_taken_up_leaves_its_step_for_later(
    tmp_path: Path, knows: bool
) -> None:
    step = CountingEffect(tmp_path / "n", 1, knows=knows)
    runs, log = make(script(step))
    run_id = await runs.start("clerk", "go", actor="uid:1")
    await runs.wait(run_id)
    step.file.unlink()
    left = SlowLog(clock=ManualClock())
    await left_of(log, "step.result", "run.finished", into=left)
    runs, _ = make(script(step), log=left)
    stopping: list[asyncio.Task[None]] = []
    left.when = "run.resumed"
    left.then = lambda: stopping.append(asyncio.ensure_future(runs.estop("uid:1")))
    await runs.recover()
    await until(lambda: stopping)
    await stopping[0]
    assert "step.result" not in [entry.type for entry in left.entries()]
    assert await runs.resume("uid:1") == [run_id]
    if not knows:
        await runs.deny((await question_of(runs, run_id)).id, "uid:1")
    assert (await runs.wait(run_id)).text == '[{"added":1}]'
    assert step.happened(f"{run_id}:1") == 1


@pytest.mark.parametrize("forks", [False, True])
async def test_no_more_runs_begin_at_once_than_the_node_keeps(forks: bool) -> None:
    """All of them look how many there are before the first is on the log."""
    slow, limits = writes(), NodeLimits(runs_at_once=3)
    runs, log = make(script(slow), log=SlowLog(clock=ManualClock()), limits=limits)
    first = await runs.start("clerk", "go", actor="uid:1")
    await slow.begun.wait()
    fork = partial(runs.replay, first, from_step="1")
    begun = await asyncio.gather(
        *((fork() if forks else runs.start("clerk", "go", actor="uid:1")) for _ in range(9)),
        return_exceptions=True,
    )
    assert sum(isinstance(each, str) for each in begun) == 2
    assert sum(isinstance(each, RunError) for each in begun) == 7
    assert [entry.type for entry in log.entries()].count("run.started") == 3
    await runs.drain(0)


class Unwilling(WaitingEffect):
    """Goes on for a while when it is cancelled, as a call does that pays."""

    async def perform(self, key: str) -> Outcome:
        self.begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            await self.release.wait()
        raise AssertionError


@pytest.mark.parametrize("cancelled_first", [True, False])
@pytest.mark.parametrize("how", ["estop", "drain"])
async def test_a_run_that_is_cancelled_ends_though_all_are_stopped_meanwhile(
    how: str, cancelled_first: bool
) -> None:
    slow = Unwilling(name="plain.write", traceless=False)
    runs, log = make(script(slow))
    run_id = await runs.start("clerk", "go", actor="uid:1")
    await slow.begun.wait()
    stops = [runs.cancel(run_id), runs.estop("uid:1") if how == "estop" else runs.drain(0)]
    stopping = []
    for stop in stops if cancelled_first else reversed(stops):
        stopping.append(asyncio.ensure_future(stop))
        await settled()
    slow.release.set()
    await asyncio.wait_for(asyncio.gather(*stopping), 5)
    assert (await runs.wait(run_id)).status == "stopped"
    again, _ = make(script(slow), log=log)
    await again.recover()
    assert await again.resume("uid:1") == []


async def test_a_shutdown_does_not_wait_for_ever_for_what_a_cancelled_run_finds_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("node.runs.life.SETTLE_S", 0.01)
    step = Late(traceless=False)
    runs, _ = make(script(step))
    run_id = await runs.start("clerk", "go", actor="uid:1")
    await until(lambda: step.performed)
    await runs.estop("uid:1")
    cancelling = asyncio.create_task(runs.cancel(run_id))
    await until(lambda: len(step.performed) > 1)
    await asyncio.wait_for(runs.drain(0), 5)
    await cancelling
    assert (await runs.wait(run_id)).status == "stopped"


async def test_an_answer_that_a_cancelled_run_had_by_then_is_its_answer() -> None:
    begun = asyncio.Event()

    async def program(run: ProgramRun) -> Answer:
        begun.set()
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        return Answer("completed", "done")

    runs, _ = make(program)
    run_id = await runs.start("clerk", "go", actor="uid:1")
    await begun.wait()
    await runs.cancel(run_id)
    result = await runs.wait(run_id)
    assert (result.status, result.text) == ("completed", "done")


async def test_who_cancels_is_told_that_the_end_could_not_be_written() -> None:
    slow = writes()
    log = MemoryLog(clock=ManualClock())
    runs, _ = make(script(slow), log=log)
    run_id = await runs.start("clerk", "go", actor="uid:1")
    await slow.begun.wait()
    log._fail_at = log.size
    with pytest.raises(JournalWriteError):
        await runs.cancel(run_id)
