"""Kills, emergency stops and answers in any order: in the end each step happened once.

The person says the truth about what happened; the node is what must not lose or repeat a step.
`FREEHOLD_CHAOS` is how many orders are tried.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from contextlib import suppress
from pathlib import Path
from random import Random

import pytest

from node.clock import ManualClock
from node.errors import FreeholdError, JournalWriteError
from node.journal import Draft, MemoryLog
from node.runs import NoGuards, Outcome, Runs
from node.runs.agent import ToolGrant
from node.runs.approvals import Approval
from node.runs.steady import steadily
from node.runs.testing import CountingEffect, MemoryAgents, ScriptedProgram, agent

TRIES = int(os.environ.get("FREEHOLD_CHAOS", "60"))
OVER = ("completed", "failed", "stopped")


class ChanceLog(MemoryLog):
    """Writes after a while, in order, as long as its process lives."""

    def __init__(self, chance: Random) -> None:
        super().__init__(clock=ManualClock())
        self.chance, self.last = chance, 10**9
        self._one = asyncio.Lock()

    async def append(self, *drafts: Draft) -> tuple[int, ...]:
        return await steadily(self._later(*drafts))

    async def _later(self, *drafts: Draft) -> tuple[int, ...]:
        async with self._one:
            await moments(self.chance.randrange(3))
            if self.size + len(drafts) > self.last:
                raise JournalWriteError("the process died")
            return self.append_sync(*drafts)


class Slow(CountingEffect):
    async def perform(self, key: str) -> Outcome:
        await moments(self.number % 3)
        outcome = await super().perform(key)
        await moments(2)
        return outcome


async def moments(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


class Chaos:
    """One run of three steps, in as many processes as it takes."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.chance = Random(seed)
        self.log = ChanceLog(self.chance)
        self.steps = [Slow(folder / "n", n, knows=self.chance.random() < 0.5) for n in range(3)]
        grants = (ToolGrant("counter"), ToolGrant("counter", approval="ask"))
        self.clerk = agent("clerk", tools=(self.chance.choice(grants),))
        self.calls: deque[asyncio.Task[object]] = deque()

    def process(self) -> Runs:
        return Runs(
            log=self.log,
            program=ScriptedProgram(lambda _: self.steps),
            agents=MemoryAgents(self.clerk),
            clock=ManualClock(),
            guards=NoGuards(),
        )

    async def live(self, runs: Runs) -> None:
        """One process, until it dies."""
        self.log.last = self.log.size + self.chance.randrange(1, 14)
        with suppress(FreeholdError):
            await runs.recover()
            if not self.log.size:
                await runs.start("clerk", "go", actor="uid:1")
        for _ in range(self.chance.randrange(40)):
            await moments(1)
            what = self.chance.random()
            if what < 0.15:
                call = runs.estop("uid:1") if what < 0.05 else runs.resume("uid:1")
                self.calls.append(asyncio.ensure_future(call))
            await self.answer(runs, sometimes=True)
        self.log.last = self.log.size
        with suppress(FreeholdError):
            await self.log.append(Draft("node.started"))
        runs._fail(JournalWriteError("the process died"))
        await moments(100)
        await asyncio.gather(*self.calls, return_exceptions=True)
        self.calls.clear()

    async def answer(self, runs: Runs, *, sometimes: bool = False) -> None:
        for question in runs.approvals():
            if not sometimes or self.chance.random() < 0.5:
                yes = question.kind == "policy" or self.happened(question)
                with suppress(FreeholdError):
                    await (runs.approve if yes else runs.deny)(question.id, "uid:1")

    def happened(self, question: Approval) -> bool:
        step = self.steps[int(question.path) - 1]
        return step.happened(f"{question.run}:{question.path}") > 0

    async def end(self) -> None:
        """The last process, which nobody kills."""
        self.log.last = 10**9
        runs = self.process()
        await runs.recover()
        await runs.resume("uid:1")
        (summary,) = runs.list()
        for _ in range(2000):
            await moments(1)
            await self.answer(runs)
            if runs.show(summary.id).status in OVER:
                break
        found = runs.show(summary.id)
        if found.status == "parked":  # it went down too often, and is left alone for a while
            return
        assert (found.status, found.reason) == ("completed", "")
        happened = [s.happened(f"{found.id}:{n}") for n, s in enumerate(self.steps, 1)]
        assert happened == [1, 1, 1]
        kinds = [entry.type for entry in self.log.entries()]
        assert (kinds.count("run.finished"), kinds.count("step.result")) == (1, 3)


@pytest.mark.parametrize("seed", range(TRIES))
async def test_each_step_happens_once(tmp_path: Path, seed: int) -> None:
    chaos = Chaos(tmp_path, seed)
    for _ in range(chaos.chance.randrange(1, 5)):
        await chaos.live(chaos.process())
    if chaos.log.size:
        await chaos.end()
