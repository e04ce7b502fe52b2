"""Requests that are sent again with their key begin one run."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from node.clock import ManualClock
from node.errors import JournalReadError, RequestError, RunError, RunStoppedError
from node.journal import BlobRef, Draft, Journal, MemoryLog
from node.money import Payment
from node.runs import NoGuards, ProgramRun, Runs
from node.runs.once import id_of, was_begun
from node.runs.program import Answer
from node.runs.survey import RunLog
from node.runs.testing import MemoryAgents, agent

KEY = "9b7a53d2-6d1c-4a3e"


class Counting:
    """A program that counts how often it was begun."""

    def __init__(self) -> None:
        self.begun = 0

    async def __call__(self, run: ProgramRun) -> Answer:
        self.begun += 1
        return Answer("completed", f"answer {self.begun}")


def make(log: RunLog, program: Counting, *, paused: bool = False) -> Runs:
    agents = MemoryAgents(agent(paused=paused))
    return Runs(log=log, program=program, agents=agents, clock=ManualClock(), guards=NoGuards())


async def test_the_same_key_is_the_same_run_also_at_once_and_when_nothing_may_begin() -> None:
    program, log = Counting(), MemoryLog()
    runs = make(log, program)
    first, second = await asyncio.gather(
        *(runs.start("clerk", "pay the rent", actor="uid:1", key=KEY) for _ in range(2))
    )
    assert first == second
    assert (await runs.wait(first)).text == "answer 1"
    await runs.estop("uid:1")
    assert await runs.start("clerk", "pay the rent", actor="uid:1", key=KEY) == first
    with pytest.raises(RunStoppedError):
        await runs.start("clerk", "pay the rent", actor="uid:1", key="another-key")
    await runs.resume("uid:1")
    assert (await runs.wait(first)).text == "answer 1"
    after = make(log, program, paused=True)  # as after a restart
    assert await after.start("clerk", "pay the rent", actor="uid:1", key=KEY) == first
    with pytest.raises(RunError, match="is paused"):
        await after.start("clerk", "pay the rent", actor="uid:1")
    assert program.begun == 1


async def test_a_key_is_its_owner_s_and_for_one_request() -> None:
    program = Counting()
    runs = make(MemoryLog(), program)
    first = await runs.start("clerk", "pay the rent", actor="uid:1", key=KEY)
    other = await runs.start("clerk", "pay the rent", actor="token", key=KEY)
    third, fourth = [await runs.start("clerk", "pay the rent", actor="uid:1") for _ in range(2)]
    assert len({first, other, third, fourth}) == 4
    for asked in (("clerk", "pay it twice"), ("typist", "pay the rent")):
        with pytest.raises(RequestError, match=f"began run {first}, which was asked something"):
            await runs.start(*asked, actor="uid:1", key=KEY)
    with pytest.raises(RequestError, match=f"began run {first}"):
        await runs.pay(Payment(to="02" + "11" * 32, amount_sat=5), actor="uid:1", key=KEY)
    assert (runs.begun(KEY, "uid:1"), runs.begun(KEY, "uid:2"), runs.begun("", "uid:1")) == (
        True, False, False,
    )  # fmt: skip
    for run in (first, other, third, fourth):
        await runs.wait(run)
    assert program.begun == 4


async def test_an_erased_run_is_not_begun_again(tmp_path: Path) -> None:
    log = await Journal.open(tmp_path / "journal", origin="test.example/log")
    program = Counting()
    runs = make(log, program)
    run = await runs.start("clerk", "pay the rent", actor="uid:1", key=KEY)
    await runs.wait(run)
    assert await runs.erase(run) > 0
    assert await runs.start("clerk", "pay the rent", actor="uid:1", key=KEY) == run
    assert program.begun == 1
    await log.aclose()


async def test_nor_one_whose_beginning_was_pruned_or_cannot_be_read() -> None:
    log, run = MemoryLog(), id_of(KEY, "uid:1")
    await log.append(Draft("run.finished", run=run, agent="clerk", data={"status": "completed"}))
    assert was_begun(log, run, "clerk", "pay the rent")

    class Unread(MemoryLog):
        def blob(self, ref: BlobRef | str) -> bytes:
            raise JournalReadError("Too many open files")

    unread = Unread()
    refs = (unread.put_blob(b"pay the rent", "prompt"),)
    await unread.append(Draft("run.started", run=run, agent="clerk", blobs=refs))
    with pytest.raises(JournalReadError):
        was_begun(unread, run, "clerk", "another prompt")
