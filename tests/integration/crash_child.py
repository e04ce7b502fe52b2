"""A node with one scripted run, to be killed by test_runs_crash.py."""

from __future__ import annotations

import asyncio
from pathlib import Path

from crash_lives import first_run, keep_answer, serve

from node.clock import SystemClock
from node.journal import Journal, Storage
from node.runs import (
    Answer,
    GuardContext,
    GuardStage,
    GuardVerdict,
    Program,
    ProgramRun,
    Runs,
    StepKind,
    Usage,
)
from node.runs.agent import ToolGrant
from node.runs.testing import CountingEffect, FixedGuards, MemoryAgents, PlainEffect, agent
from node.types import Json, canonical

CLERK = agent(
    "clerk",
    tools=(ToolGrant("plain"), ToolGrant("counter"), ToolGrant("asked", approval="ask")),
)


class Censor:
    """Rewrites one word in results, and lets the rest pass."""

    name = "censor"

    def check(self, stage: GuardStage, content: Json, context: GuardContext) -> GuardVerdict:
        if content == "rude":
            return GuardVerdict("rewrite", "a rude word", "polite")
        return GuardVerdict("pass")


class AskedCounter(CountingEffect):
    """A counter that policy asks about."""

    name = "asked.add"


def program(file: Path) -> Program:
    """Every kind of step: with and without a trace, in branches, asked about, refused, judged."""

    async def take(run: ProgramRun) -> Answer:
        told: list[Json] = [(await run.guard(GuardStage.INPUT, run.prompt)).verdict]
        told.append((await run.step(PlainEffect(args="read", value="rude"))).value)
        told.append((await run.step(CountingEffect(file, 1))).value)
        model = PlainEffect(
            name="generate",
            kind=StepKind.MODEL,
            args={"prompt": run.prompt},
            value="m" * 3000,
            usage=Usage(completion_tokens=7),
        )
        told.append(len(str((await run.step(model)).value)))
        with run.branch("one") as one, run.branch("two", share=0.9) as two:  # type: ignore[attr-defined]
            both = await asyncio.gather(
                one.step(CountingEffect(file, 2)), two.step(CountingEffect(file, 3))
            )
        told += [outcome.value for outcome in both]
        told.append((await run.step(AskedCounter(file, 4))).value)
        told.append((await run.step(CountingEffect(file, 5, knows=False))).ok)
        told.append((await run.guard(GuardStage.ANSWER, "done")).verdict)
        return Answer("completed", canonical(told).decode(), citations=("2", "3"))

    return take


async def person(runs: Runs, run_id: str, file: Path) -> None:
    """Answers questions: yes to policy; to "did it happen?", by looking."""
    async for _ in runs.watch(run_id):
        for question in runs.approvals():
            key = f"{question.run}:{question.path}"
            happened = CountingEffect(file, 5).happened(key)
            yes = question.kind == "policy" or happened
            await (runs.approve if yes else runs.deny)(question.id, "uid:1")


async def live(home: Path, storage: Storage) -> None:
    """One life of the node: from opening the log to the end of the run."""
    journal = await Journal.open(home / "journal", origin="test/crash", storage=storage)
    looks = {stage: [Censor()] for stage in GuardStage}
    runs = Runs(
        log=journal,
        program=program(home / "count"),
        agents=MemoryAgents(CLERK),
        clock=SystemClock(),
        guards=FixedGuards(looks),
    )
    run_id = await first_run(runs, "count")
    watching = asyncio.create_task(person(runs, run_id, home / "count"))
    result = await runs.wait(run_id)
    await watching
    await journal.aclose()
    keep_answer(home, result)


if __name__ == "__main__":
    serve(live)
