"""Eight runs on one model whose process is killed under them: the shipped model, the real door."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path

from node.clock import SystemClock
from node.errors import RunnerCrashedError
from node.inference import Generation, LlamaEngine, ModelStore, Token
from node.journal import Journal
from node.runs import AgentLoop, GuardSet, Places, RunResult, Runs, Toolset, Workspaces
from node.runs.testing import MemoryAgents, agent
from node.sandbox import Sandbox, ToolStore

EIGHT = 8
TALKER = agent("talker", tools=(), model="default", temperature=0.0, max_tokens=64)
PROMPTS = [
    f"The note says: {number} green leaves and {number + 3} blue stones. What does it say?"
    for number in range(EIGHT)
]


class KilledOnce(LlamaEngine):
    """Its model's process is killed when so many generations have begun to speak, or to count."""

    def __init__(self, store: ModelStore, *, speaking: int = 0, counting: int = 0) -> None:
        super().__init__(store)
        self.left = {"speaking": speaking, "counting": counting}
        self.crashed = 0

    async def generate(self, request: Generation) -> AsyncGenerator[Token, None]:
        spoke = False
        try:
            async with aclosing(super().generate(request)) as tokens:
                async for token in tokens:
                    if not spoke and token.finish is None:
                        spoke = True
                        self._one("speaking")
                    yield token
        except RunnerCrashedError:
            self.crashed += 1
            raise

    async def count(self, request: Generation) -> int:
        counted = asyncio.ensure_future(super().count(request))
        await asyncio.sleep(0)  # it has asked
        self._one("counting")
        return await counted

    def _one(self, what: str) -> None:
        self.left[what] -= 1
        if self.left[what] == 0:
            os.kill(self.loaded()["default"], signal.SIGKILL)


async def answers(home: Path, engine: LlamaEngine, *, together: bool) -> list[RunResult]:
    """The results of a run a prompt, on a node of its own."""
    clock = SystemClock()
    journal = await Journal.open(home / "journal", origin="test/crash", clock=clock)
    sandbox, places = Sandbox(home / "cache"), Places(home / "workspaces", home / "stores")
    toolset = Toolset(tools=ToolStore(home, home), sandbox=sandbox, places=places)
    workspaces = Workspaces(places.workspaces, clock=clock)
    runs = Runs(
        log=journal,
        program=AgentLoop(engine=engine, toolset=toolset, workspaces=workspaces),
        agents=MemoryAgents(TALKER),
        clock=clock,
        guards=GuardSet(checkers=toolset.checker),
    )

    async def one(prompt: str) -> RunResult:
        return await runs.wait(await runs.start("talker", prompt, actor="uid:1"))

    if together:
        found = await asyncio.gather(*map(one, PROMPTS))
    else:
        found = [await one(prompt) for prompt in PROMPTS]
    for room in (sandbox, engine, journal):
        await room.aclose()
    return found


async def test_a_killed_model_loses_none_of_eight_runs(tmp_path: Path) -> None:
    """In the middle of eight answers, and while eight prompts are counted before them."""
    store = ModelStore(tmp_path / "models")
    expected = await answers(tmp_path / "alone", LlamaEngine(store), together=False)
    assert all(end.text for end in expected)
    for moment in ("speaking", "counting"):
        engine = KilledOnce(store, **{moment: EIGHT})
        found = await answers(tmp_path / moment, engine, together=True)
        assert engine.left[moment] <= 0, f"not killed while {moment}"
        assert engine.crashed > 0 or moment == "counting"
        assert [(end.status, end.reason) for end in found] == [("completed", "")] * EIGHT
        assert [end.text for end in found] == [end.text for end in expected]
