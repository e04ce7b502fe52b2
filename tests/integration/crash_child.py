"""A node with one scripted run, to be killed: driven by test_runs_crash.py.

Started once, it imports what a run needs and then does as it is told on standard input, one JSON
command a line: forks a child that opens the home, takes up what an earlier child left, or starts
the run, and sees it to its end. Children have a fresh state but need not import again.
"""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import sys
import time
import traceback
from pathlib import Path

from node.clock import SystemClock
from node.journal import Boundary, Fault, FaultyStorage, FileStorage, Journal
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


async def live(home: Path, fault: list[str | int] | None) -> None:
    """One life of the node: from opening the log to the end of the run."""
    storage = FileStorage()
    if fault:
        boundary, nth = fault
        storage = FaultyStorage(Fault.KILL, Boundary(boundary), int(nth))  # type: ignore[assignment]
    journal = await Journal.open(home / "journal", origin="test/crash", storage=storage)
    looks = {stage: [Censor()] for stage in GuardStage}
    runs = Runs(
        log=journal,
        program=program(home / "count"),
        agents=MemoryAgents(CLERK),
        clock=SystemClock(),
        guards=FixedGuards(looks),
    )
    ids = await runs.recover() or [run.id for run in runs.list()]
    if not ids:
        ids = [await runs.start("clerk", "count", actor="uid:1")]
    watching = asyncio.create_task(person(runs, ids[0], home / "count"))
    result = await runs.wait(ids[0])
    await watching
    await journal.aclose()
    answer = {"status": result.status, "text": result.text, "reason": result.reason}
    (home / "answer").write_text(json.dumps(answer))


def child(home: Path, fault: list[str | int] | None) -> None:
    """The forked process; never returns."""
    try:
        asyncio.run(live(home, fault))
        os._exit(0)
    except BaseException:
        (home / "error").write_text(traceback.format_exc())
        os._exit(1)


def run(home: Path, fault: list[str | int] | None, kill_after_s: float | None) -> dict[str, float]:
    """Forks one life and says how it ended. It is killed after so long, if it lives then."""
    started = time.monotonic()
    over, held = os.pipe()  # the child holds one end: it reads as ended when the child has
    process = os.fork()
    if process == 0:
        child(home, fault)
    os.close(held)
    ended, _, _ = select.select([over], [], [], kill_after_s)
    os.close(over)
    if not ended:
        os.kill(process, signal.SIGKILL)
    _, status = os.waitpid(process, 0)
    return {"status": os.waitstatus_to_exitcode(status), "seconds": time.monotonic() - started}


def main() -> None:
    """Serves commands until standard input ends."""
    for line in sys.stdin:
        told = json.loads(line)
        found = run(Path(told["home"]), told.get("fault"), told.get("kill_after_s"))
        sys.stdout.write(json.dumps(found) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
