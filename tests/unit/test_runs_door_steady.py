"""Work that a cancellation does not tear apart."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest

from node.clock import ManualClock
from node.journal import MemoryLog
from node.runs import Answer, NoGuards, Outcome, ProgramRun, Runs, Usage
from node.runs.steady import steadily
from node.runs.testing import MemoryAgents, PlainEffect, agent


async def test_the_work_is_done_and_the_cancellation_comes_after() -> None:
    begun, go, done = asyncio.Event(), asyncio.Event(), []

    async def work() -> int:
        begun.set()
        await go.wait()
        done.append("work")
        return 7

    async def caller() -> None:
        done.append(await steadily(work()))
        await asyncio.sleep(0)
        done.append("never")

    task = asyncio.create_task(caller())
    await begun.wait()
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert done == ["work", 7]


async def test_what_the_work_raises_is_raised() -> None:
    async def work() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await steadily(work())


@dataclass(frozen=True)
class LateEffect(PlainEffect):
    """Its time ends while it does the last of what must not be torn apart."""

    async def perform(self, key: str) -> Outcome:
        performing = asyncio.current_task()
        assert performing is not None

        async def last() -> None:
            while not performing.cancelling():  # noqa: ASYNC110 - nothing tells of that
                await asyncio.sleep(0)

        await steadily(last())
        return await super().perform(key)


async def test_a_step_whose_time_ends_as_it_is_done_cancels_nobody() -> None:
    """Up to Python 3.12 the cancellation of a time limit that is over strikes after it."""
    clock = ManualClock()

    async def program(run: ProgramRun) -> Answer:
        outcome = await run.step(LateEffect(value="done", needs_usage=Usage(seconds=1e-9)))
        await asyncio.sleep(0)
        return Answer("completed", str(outcome.value))

    log, agents = MemoryLog(clock=clock), MemoryAgents(agent())
    runs = Runs(log=log, program=program, agents=agents, clock=clock, guards=NoGuards())
    result = await runs.wait(await runs.start("clerk", "go", actor="uid:1"))
    assert (result.status, result.text) == ("completed", "done")
