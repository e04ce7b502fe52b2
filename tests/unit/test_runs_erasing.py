"""Erasing what a run handled: all of it, for good, and nothing that a run still needs."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from node.clock import ManualClock
from node.errors import (
    JournalErasedError,
    JournalError,
    JournalWriteError,
    RunError,
    UnknownRunError,
)
from node.journal import Draft, Journal, MemoryLog, verify
from node.runs import Answer, Effect, NoGuards, Program, ProgramRun, RunEvent, Runs, StepKind
from node.runs.survey import RunLog
from node.runs.testing import MemoryAgents, PlainEffect, ScriptedProgram, WaitingEffect, agent
from node.types import JsonObject

SECRET = "the prompt that nobody may read again"


def model(value: str) -> PlainEffect:
    return PlainEffect(name="generate", kind=StepKind.MODEL, args=SECRET, value=value)


def make(log: RunLog, *effects: Effect, program: Program | None = None) -> Runs:
    program, clock = program or ScriptedProgram(lambda _: effects), ManualClock()
    agents = MemoryAgents(agent())
    return Runs(log=log, program=program, agents=agents, clock=clock, guards=NoGuards())


async def finished(runs: Runs) -> str:
    run = await runs.start("clerk", SECRET, actor="uid:1")
    await runs.wait(run)
    return run


async def test_what_is_left_of_a_run_whose_beginning_was_pruned_can_be_shown_and_erased() -> None:
    """A run that went on over the end of a segment is cut there."""
    log = MemoryLog()
    ref = log.put_blob(b"its answer", "text")
    end: JsonObject = {"status": "completed", "usage": {}}
    await log.append(Draft("run.finished", run="r-cut", agent="clerk", blobs=(ref,), data=end))
    runs = make(log)
    shown = runs.show(runs.find("r-cut"))
    assert (shown.status, shown.text, shown.lost) == ("completed", "its answer", ("prompt",))
    with pytest.raises(RunError, match="was pruned away"):
        await runs.replay("r-cut")
    assert await runs.erase("r-cut") == 1
    with pytest.raises(JournalErasedError):
        log.blob(ref)


async def test_all_that_a_run_handled_is_gone_and_the_log_is_valid(tmp_path: Path) -> None:
    log = await Journal.open(tmp_path / "journal", origin="test.example/log")
    runs = make(log, model("an answer like no other"), PlainEffect(args=1, value="x" * 5000))
    run = await finished(runs)
    content = {ref.id for entry in log.run_entries(run) for ref in entry.draft.blobs}
    assert await runs.erase(run, actor="uid:7") == len(content) > 3
    told = list(log.entries(types=("blob.erased",)))
    assert {str(entry.data["id"]) for entry in told} == content
    assert {entry.draft.actor for entry in told} == {"uid:7"}
    shown = runs.show(run)
    assert (shown.status, shown.prompt, shown.text) == ("completed", "", "")
    assert shown.erased
    with pytest.raises(JournalErasedError, match=f"what run {run} began with was erased"):
        await runs.replay(run)
    assert await runs.erase(run) == 0
    await log.aclose()
    report = verify(tmp_path / "journal")
    assert (str(report.verdict), report.blobs.counts["erased"]) == ("verified", len(content))
    files = [path for path in tmp_path.rglob("*") if path.is_file()]  # noqa: ASYNC240
    assert len(files) > 4
    assert not any(SECRET.encode() in path.read_bytes() for path in files)


async def test_what_the_disk_has_lost_is_not_taken_for_an_empty_answer(tmp_path: Path) -> None:
    log = await Journal.open(tmp_path / "journal", origin="test.example/log")
    runs = make(log)
    run = await finished(runs)
    assert (runs.show(run).text, runs.show(run).lost) == ("[]", ())
    for pack in (tmp_path / "journal").rglob("*.pack"):
        os.truncate(pack, pack.stat().st_size - 1)  # the answer came last
    assert (runs.show(run).prompt, runs.show(run).lost) == (SECRET, ("text",))
    assert [(each.text, each.lost) for each in runs.list()] == [("", ("text",))]
    later = make(log)  # which has nothing of it in memory
    for told in (later.wait, later.replay):
        with pytest.raises(JournalError, match="is missing its content"):
            await told(run)
    await log.aclose()


async def test_who_watches_later_sees_no_words_of_what_was_erased() -> None:
    async def saying(run: ProgramRun) -> Answer:
        run.emit(RunEvent("token", {"text": SECRET}))
        return Answer("completed", SECRET)

    runs = make(MemoryLog(clock=ManualClock()), program=saying)
    run = await finished(runs)
    assert SECRET in str([each async for each in runs.watch(run)])
    await runs.erase(run)
    assert (await runs.wait(run)).text == ""
    assert [each.type async for each in runs.watch(run)] == ["run.started", "run.finished"]


async def test_a_run_that_is_not_over_keeps_what_it_needs() -> None:
    log, waiting = MemoryLog(clock=ManualClock()), WaitingEffect()
    runs = make(log, model("a"), waiting)
    run = await runs.start("clerk", SECRET, actor="uid:1")
    await asyncio.wait_for(waiting.begun.wait(), 30)
    with pytest.raises(RunError, match=f"run {run} is not over"):
        await runs.erase(run)
    assert (runs.show(run).prompt, runs.show(run).erased) == (SECRET, False)
    waiting.release.set()
    await runs.wait(run)
    assert await runs.erase(run)


async def test_what_an_unfinished_fork_took_over_stays_and_goes_once_it_is_over() -> None:
    log, waiting = MemoryLog(clock=ManualClock()), WaitingEffect()
    waiting.release.set()
    runs = make(log, model("a"), waiting)
    run = await finished(runs)
    waiting.release.clear()
    waiting.begun.clear()
    fork = str(await runs.replay(run, from_step="2"))
    await asyncio.wait_for(waiting.begun.wait(), 30)
    with pytest.raises(RunError, match=f"run {fork} is not over"):
        await runs.erase(run)
    waiting.release.set()
    await runs.wait(fork)
    await runs.erase(run)
    with pytest.raises(RunError, match="erased"):
        await runs.replay(fork)


async def test_a_piece_that_cannot_be_erased_keeps_none_of_the_others() -> None:
    log = MemoryLog(clock=ManualClock())
    runs = make(log, model("a"))
    run = await finished(runs)
    content = sorted({ref.id for entry in log.run_entries(run) for ref in entry.draft.blobs})
    lost = log._blobs.pop(content[0])
    with pytest.raises(JournalError, match=content[0]):
        await runs.erase(run)
    assert log._blobs == {}
    log._blobs[content[0]] = lost
    assert await runs.erase(run) == 1


async def test_without_a_log_nothing_is_erased() -> None:
    full = MemoryLog(clock=ManualClock(), fail_at=5)
    runs = make(full, model("a"))
    run = await finished(runs)
    content = dict(full._blobs)
    full._fail_at = full.size
    with pytest.raises(JournalWriteError):
        await runs.erase(run)
    assert full._blobs == content
    assert runs.failed.is_set()


async def test_of_a_run_that_nobody_knows_nothing_is_erased() -> None:
    with pytest.raises(UnknownRunError):
        await make(MemoryLog(clock=ManualClock())).erase("r-none")
