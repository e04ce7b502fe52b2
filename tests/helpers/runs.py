"""Runs on doubles: agents and log in memory, a clock that moves only when told to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from node.clock import Clock, ManualClock
from node.errors import JournalWriteError, ToolError
from node.journal import Draft, Entry, MemoryLog
from node.runs import AgentManifest, Effect, Guards, NoGuards, Program, Runs
from node.runs.approvals import Approval
from node.runs.steady import steadily
from node.runs.testing import MemoryAgents, ScriptedProgram, agent
from node.sandbox import ToolManifest
from node.sandbox.testing import MemorySandbox


class SlowLog(MemoryLog):
    """Writes `moments` turns of the loop after it was asked to, as a disk does; `then` comes while
    an entry of the type `when` is written."""

    moments = 2
    when = ""
    then: Callable[[], object] = staticmethod(lambda: None)

    async def append(self, *drafts: Draft) -> tuple[int, ...]:
        return await steadily(self._in_a_moment(*drafts))

    async def _in_a_moment(self, *drafts: Draft) -> tuple[int, ...]:
        if any(draft.type == self.when for draft in drafts):
            self.when = ""
            self.then()
        for _ in range(self.moments):
            await asyncio.sleep(0)
        return self.append_sync(*drafts)


class DyingLog(MemoryLog):
    """Takes no entry past `last`."""

    last = 10**9

    async def append(self, *drafts: Draft) -> tuple[int, ...]:
        if self.size + len(drafts) > self.last:
            raise JournalWriteError("the process died")
        return await super().append(*drafts)


class Shelf:
    """The tools of a sandbox in memory, as installed."""

    def __init__(self, sandbox: MemorySandbox) -> None:
        self._sandbox = sandbox

    def names(self) -> list[str]:
        return sorted(self._sandbox.tools)

    def get(self, name: str) -> ToolManifest:
        try:
            return self._sandbox.tools[name].manifest()
        except KeyError:
            raise ToolError(f"there is no tool {name}") from None


def make(
    program: Program,
    *agents: AgentManifest,
    log: MemoryLog | None = None,
    clock: Clock | None = None,
    guards: Guards | None = None,
    **more: Any,
) -> tuple[Runs, MemoryLog]:
    """A node of these agents, or of one named clerk, and its log."""
    clock = clock or ManualClock()
    log = log or MemoryLog(clock=clock)
    runs = Runs(
        log=log,
        program=program,
        agents=MemoryAgents(*(agents or (agent(),))),
        clock=clock,
        guards=guards or NoGuards(),
        **more,
    )
    return runs, log


def script(*effects: Effect) -> ScriptedProgram:
    """A program of these steps."""
    return ScriptedProgram(lambda _: effects)


async def finished(runs: Runs, prompt: str = "go") -> str:
    """A run of the clerk that has ended; its id."""
    run_id = await runs.start("clerk", prompt, actor="uid:1")
    await runs.wait(run_id)
    return run_id


async def settled() -> None:
    """Whatever can go on by itself has."""
    for _ in range(20):
        await asyncio.sleep(0)


async def question_of(runs: Runs, run_id: str) -> Approval:
    """The one open question, once the run has asked it."""
    async for event in runs.watch(run_id):
        if event.type == "approval.asked" and runs.approvals():
            (question,) = runs.approvals()
            return question
    raise AssertionError("nobody was asked")


async def left_of(
    log: MemoryLog,
    *without: str,
    change: Callable[[Entry], Draft | None] = lambda entry: entry.draft,
    drop: str = "",
    into: MemoryLog | None = None,
) -> MemoryLog:
    """What a crash leaves of a log: not its entries of the types `without`, nor those of which
    `change` makes None, and no content of the role `drop`."""
    left = into or MemoryLog(clock=ManualClock())
    for entry in log.entries():
        draft = None if entry.type in without else change(entry)
        if draft is None:
            continue
        for ref in draft.blobs:
            if ref.role != drop and ref.id in log._blobs:
                left._blobs[ref.id] = log.blob(ref)
        await left.append(draft)
    return left
