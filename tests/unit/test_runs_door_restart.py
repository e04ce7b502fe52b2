"""What a restart finds: the oldest unfinished run, today's spending, rewritten arguments."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest
from helpers.runs import left_of, make, script
from hypothesis import given, settings
from hypothesis import strategies as st

from node import errors
from node.clock import ManualClock
from node.errors import (
    FreeholdError,
    JournalDamagedError,
    JournalError,
    JournalReadError,
    RunError,
)
from node.journal import Entry, MemoryLog
from node.runs import (
    Answer,
    Edit,
    GuardContext,
    GuardStage,
    GuardVerdict,
    Outcome,
    ProgramRun,
    ReplayReport,
    StepKind,
    Usage,
)
from node.runs.coding import error_from, error_json, usage_from, usage_json
from node.runs.testing import (
    CountingEffect,
    FixedGuards,
    PlainEffect,
    ScriptedProgram,
    WaitingEffect,
    agent,
)
from node.types import Json

DAY_S = 86_400


def waits_if_slow(slow: WaitingEffect):
    async def program(run: ProgramRun) -> Answer:
        await run.step(slow if run.prompt == "slow" else PlainEffect())
        return Answer("completed", run.prompt)

    return program


async def test_an_old_unfinished_run_is_found_behind_finished_ones() -> None:
    slow = WaitingEffect()
    runs, log = make(waits_if_slow(slow), agent(), agent("other"))
    first = await runs.start("clerk", "quick", actor="uid:1")
    await runs.wait(first)
    old = await runs.start("clerk", "slow", actor="uid:1")
    for _ in range(5):
        await runs.wait(await runs.start("other", "quick", actor="uid:1"))
    after, _ = make(waits_if_slow(PlainEffect()), log=log)  # type: ignore[arg-type]
    assert await after.recover() == [old]
    assert (await after.wait(old)).text == "slow"
    listed = [(run.agent, run.status) for run in after.list()]
    assert listed == [("other", "completed")] * 5 + [("clerk", "completed")] * 2
    assert [run.id for run in after.list(agent="clerk")] == [old, first]
    assert [run.id for run in after.list(agent="clerk", limit=1)] == [old]
    third, _ = make(waits_if_slow(PlainEffect()), log=log)  # type: ignore[arg-type]
    assert await third.recover() == []
    await runs.drain(0)


@settings(max_examples=20, deadline=None)
@given(prompts=st.lists(st.sampled_from(["slow", "quick"]), min_size=1, max_size=12))
async def test_exactly_the_unfinished_runs_are_resumed(prompts: list[str]) -> None:
    slow = WaitingEffect()
    runs, log = make(waits_if_slow(slow))
    ids = await asyncio.gather(*(runs.start("clerk", each, actor="uid:1") for each in prompts))
    quick = [run_id for run_id, prompt in zip(ids, prompts, strict=True) if prompt == "quick"]
    for run_id in quick:
        await runs.wait(run_id)
    after, _ = make(waits_if_slow(WaitingEffect()), log=log)
    assert sorted(await after.recover()) == sorted(set(ids) - set(quick))
    await after.drain(0)
    await runs.estop("uid:1")


async def test_a_run_over_midnight_counts_on_both_days() -> None:
    clock = ManualClock()
    clock.advance(DAY_S - clock.wall_s % DAY_S - 10)  # ten seconds before midnight

    def spends(tokens: int) -> PlainEffect:
        return PlainEffect(kind=StepKind.MODEL, args=tokens, usage=Usage(completion_tokens=tokens))

    async def program(run: ProgramRun) -> Answer:
        await run.step(spends(70))
        clock.advance(20)
        await run.step(spends(5))
        return Answer("completed", "")

    runs, log = make(program, clock=clock)
    run_id = await runs.start("clerk", "go", actor="uid:1")
    assert (await runs.wait(run_id)).usage.completion_tokens == 75
    after, _ = make(program, log=log, clock=clock)
    await after.recover()
    for one in (runs, after):
        mine, node = one._door.ledger.pockets(agent())
        assert mine.used.completion_tokens == node.used.completion_tokens == 5
    finished = next(entry for entry in log.entries() if entry.type == "run.finished")
    assert sorted(finished.data["spent"].values(), key=str) == [
        {"steps": 1, "completion_tokens": 5},
        {"steps": 1, "completion_tokens": 70},
    ]


@pytest.mark.parametrize("finished", [True, False])
async def test_a_step_over_midnight_counts_on_the_day_it_was_reserved(finished: bool) -> None:
    """In this process, in one that takes the run up again, and in one that finds it ended."""
    clock = ManualClock()
    clock.advance(DAY_S - clock.wall_s % DAY_S - 10)

    class Late(PlainEffect):
        async def perform(self, key: str) -> Outcome:
            clock.advance(20)
            return await super().perform(key)

    late = Late(kind=StepKind.MODEL, args=1, usage=Usage(completion_tokens=70), traceless=False)
    waits = WaitingEffect(kind=StepKind.MODEL, args=2, usage=Usage(completion_tokens=5))

    async def program(run: ProgramRun) -> Answer:
        await run.step(late)
        await run.step(waits)
        return Answer("completed", "")

    runs, log = make(program, clock=clock)
    before = runs._door.ledger.pockets(agent())
    run_id = await runs.start("clerk", "go", actor="uid:1")
    await waits.begun.wait()
    if finished:
        waits.release.set()
        await runs.wait(run_id)
    else:
        await runs.drain(0)
    assert [pocket.used.completion_tokens for pocket in before] == [70, 70]
    after, _ = make(program, log=log, clock=clock)
    await after.recover()
    if not finished:
        waits.release.set()
        await after.wait(run_id)
    today = after._door.ledger.pockets(agent())
    assert [pocket.used.completion_tokens for pocket in today] == [5, 5]
    (ended,) = (entry for entry in log.entries() if entry.type == "run.finished")
    assert [day["completion_tokens"] for day in ended.data["spent"].values()] == [70, 5]


@dataclass(frozen=True)
class RewritableCounter(CountingEffect):
    """One whose number a guard may change."""

    def with_args(self, args: Json) -> RewritableCounter:
        assert isinstance(args, dict)
        return replace(self, number=int(str(args["number"])))


class Halves:
    """Rewrites numbers over ten."""

    name = "halves"

    def check(self, stage: GuardStage, content: Json, context: GuardContext) -> GuardVerdict:
        assert isinstance(content, dict)
        number = int(str(content["number"]))
        if number <= 10:
            return GuardVerdict("pass")
        return GuardVerdict("rewrite", "too many", {"number": number // 2})


@pytest.mark.parametrize("happened", [True, False])
@pytest.mark.parametrize("crash", [True, False])
async def test_rewritten_arguments_are_what_is_performed_and_settled(
    tmp_path, crash: bool, happened: bool
) -> None:
    guards = FixedGuards({GuardStage.TOOL_ARGUMENTS: [Halves(), Halves()]})
    effect = RewritableCounter(tmp_path / "n", 40)
    runs, log = make(script(effect), guards=guards)
    run_id = await runs.start("clerk", "go", actor="uid:1")
    result = await runs.wait(run_id)
    assert result.text == '[{"added":10}]'
    intent = next(e for e in log.run_entries(run_id) if e.type == "step.intent")
    assert intent.data["args"] == {"number": 40}
    if crash:
        if not happened:
            effect.file.unlink()
        left = MemoryLog(clock=ManualClock())
        kept = [e for e in log.entries() if e.type != "run.finished" and e.draft.path != "1"]
        for entry in [kept[0], intent, *kept[1:]]:
            for ref in entry.draft.blobs:
                left._blobs[ref.id] = log.blob(ref)
            await left.append(replace(entry.draft, cause=()))
        after, _ = make(script(effect), log=left, guards=guards)
        await after.recover()
        assert (await after.wait(run_id)).text == result.text
    assert RewritableCounter(effect.file, 10).happened(f"{run_id}:1") == 1
    assert len(effect.file.read_bytes().splitlines()) == 1


def jsons() -> st.SearchStrategy[Json]:
    plain = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
    return st.recursive(
        plain, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8
    )


@given(text=st.text() | jsons().map(json.dumps))
def test_an_edit_is_read_or_refused(text: str) -> None:
    try:
        edit = Edit.of(text)
    except FreeholdError:
        return
    assert edit.prompt is None or isinstance(edit.prompt, str)


def test_a_prompt_of_many_brackets_is_a_prompt() -> None:
    assert Edit.of("[" * 200_000).prompt == "[" * 200_000


@given(
    usage=st.builds(
        Usage,
        steps=st.integers(0, 9),
        prompt_tokens=st.integers(0, 10**9),
        seconds=st.floats(0, 1e6),
        msat=st.integers(0, 10**12),
    )
)
def test_usage_comes_back_from_the_log_as_it_was(usage: Usage) -> None:
    assert usage_from(usage_json(usage)) == usage


@pytest.mark.parametrize(
    "name",
    [
        name
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, FreeholdError)
    ],
)
def test_every_error_comes_back_as_its_own_class(name: str) -> None:
    kind = getattr(errors, name)
    again = error_from(error_json(kind("what", hint="do")))
    assert (type(again), again.message, again.hint) == (kind, "what", "do")


class Wary:
    """Escalates every result."""

    name = "wary"

    def check(self, stage: GuardStage, content: Json, context: GuardContext) -> GuardVerdict:
        return GuardVerdict("escalate", "look at it")


async def test_an_answer_about_a_held_result_holds_for_rewritten_arguments_too(tmp_path) -> None:
    looks = {GuardStage.TOOL_ARGUMENTS: [Halves()], GuardStage.TOOL_RESULT: [Wary()]}
    effect = RewritableCounter(tmp_path / "n", 20)
    runs, log = make(script(effect), guards=FixedGuards(looks))
    run_id = await runs.start("clerk", "go", actor="uid:1")
    async for event in runs.watch(run_id):
        if event.type == "approval.asked":
            break
    (question,) = runs.approvals()
    assert question.args == {"number": 10}
    await runs.drain(0)
    after, _ = make(script(effect), log=log, guards=FixedGuards(looks))
    await after.recover()
    await after.approve(question.id, "uid:1")
    assert (await after.wait(run_id)).text == '[{"added":10}]'
    assert [e.type for e in log.entries()].count("approval.asked") == 1
    assert RewritableCounter(effect.file, 10).happened(f"{run_id}:1") == 1


async def test_what_may_have_happened_counts_as_used() -> None:
    begun = asyncio.Event()

    class Unknown(PlainEffect):
        async def perform(self, key: str):
            begun.set()
            await asyncio.Event().wait()
            raise AssertionError

        async def settle(self, key: str):
            raise errors.OutcomeUnknownError("who knows")

    effect = Unknown(traceless=False, needs_usage=Usage(egress_bytes=500))
    runs, _ = make(script(effect))
    run_id = await runs.start("clerk", "go", actor="uid:1")
    await begun.wait()
    await runs.cancel(run_id)
    assert (await runs.wait(run_id)).usage.egress_bytes == 500


# ── a disk that cannot be read just now ─────────────────────────────────────────────────────


def unread(*_: object) -> None:
    raise JournalReadError("the process has no file left")


async def test_a_result_that_cannot_be_read_just_now_is_not_taken_for_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runs, log = make(ScriptedProgram(lambda _: [PlainEffect(value="x" * 5000)]))
    run = await runs.start("clerk", "go", actor="uid:1")
    await runs.wait(run)
    left = await left_of(log, "run.finished")
    kept = {ref.id for entry in log.entries() for ref in entry.draft.blobs if ref.role == "value"}
    read = left.blob
    monkeypatch.setattr(left, "blob", lambda ref: unread() if ref.id in kept else read(ref))
    again = PlainEffect(value="x" * 5000)
    after, _ = make(script(again), log=left)
    assert await after.recover() == [run]
    await after.wait(run)
    assert again.performed == [], "it may have been done"


@pytest.mark.parametrize("error", [JournalReadError, JournalDamagedError])
@pytest.mark.parametrize("what", ["entry", "newest", "blob"])
async def test_a_log_that_cannot_be_read_forgets_no_run(
    monkeypatch: pytest.MonkeyPatch, error: type[JournalError], what: str
) -> None:
    slow = WaitingEffect()
    runs, log = make(waits_if_slow(slow))
    quick = await runs.start("clerk", "quick", actor="uid:1")
    await runs.wait(quick)
    await runs.start("clerk", "slow", actor="uid:1")
    await slow.begun.wait()
    size = log.size

    def fails(*_: object) -> None:
        raise error("it cannot be read")

    newest = log.newest

    def finds(*types: str, **which: str | None) -> Iterator[Entry]:
        if "run.finished" in types:
            fails()
        yield from newest(*types, **which)

    monkeypatch.setattr(log, what, finds if what == "newest" else fails)
    after, _ = make(waits_if_slow(PlainEffect()), log=log)  # type: ignore[arg-type]
    if what == "blob" and error is JournalDamagedError:
        await after.recover()
        assert log.entry(log.size - 1).type == "run.finished", "what it began with is gone"
    else:
        with pytest.raises(error):
            await after.recover()
        assert log.size == size
    monkeypatch.undo()
    await runs.drain(0)


async def test_an_answer_that_cannot_be_read_just_now_is_not_told_as_empty(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runs, log = make(waits_if_slow(PlainEffect()))  # type: ignore[arg-type]
    run = await runs.start("clerk", "quick", actor="uid:1")
    assert (await runs.wait(run)).text == "quick"
    after, _ = make(waits_if_slow(PlainEffect()), log=log)  # type: ignore[arg-type]
    await after.recover()
    with monkeypatch.context() as patched:
        patched.setattr(log, "blob", unread)
        with pytest.raises(JournalReadError):
            await after.wait(run)
    assert (await after.wait(run)).text == "quick"


class Passes:
    """Lets everything pass."""

    name = "passes"

    def check(self, stage: GuardStage, content: Json, context: GuardContext) -> GuardVerdict:
        return GuardVerdict("pass")


@pytest.mark.parametrize(
    ("judges", "keeps", "missed"),
    [(True, True, None), (True, False, "4"), (False, False, "3.answer.passes")],
)
async def test_a_replay_that_leaves_something_out_is_noticed_behind_what_guards_said(
    judges: bool, keeps: bool, missed: str | None
) -> None:
    def takes(*, judges: bool, keeps: bool):
        async def program(run: ProgramRun) -> Answer:
            await run.guard(GuardStage.INPUT, run.prompt)
            await run.step(PlainEffect(args=1))
            if judges:
                await run.guard(GuardStage.ANSWER, "done")
            if keeps:
                await run.step(PlainEffect(args=2))
            return Answer("completed", "done")

        return program

    guards = FixedGuards({stage: [Passes()] for stage in GuardStage})
    runs, log = make(takes(judges=True, keeps=True), guards=guards)
    run_id = await runs.start("clerk", "go", actor="uid:1")
    await runs.wait(run_id)
    after, _ = make(takes(judges=judges, keeps=keeps), log=log, guards=guards)
    report = await after.replay(run_id)
    assert isinstance(report, ReplayReport)
    assert (report.divergence and report.divergence.path) == missed
    with pytest.raises(RunError, match="a guard's verdict"):
        await after.replay(run_id, from_step="4", edit='{"results": {"1.input.passes": 1}}')


async def test_a_replay_that_has_more_judged_than_was_writes_nothing() -> None:
    def takes(*, judges: bool):
        async def program(run: ProgramRun) -> Answer:
            await run.step(PlainEffect(args=1))
            if judges:
                await run.guard(GuardStage.ANSWER, "done")
            return Answer("completed", "done")

        return program

    guards = FixedGuards({GuardStage.ANSWER: [Passes()]})
    runs, log = make(takes(judges=False), guards=guards)
    run_id = await runs.start("clerk", "go", actor="uid:1")
    await runs.wait(run_id)
    size = log.size
    report = await make(takes(judges=True), log=log, guards=guards)[0].replay(run_id)
    assert isinstance(report, ReplayReport)
    assert (report.divergence and report.divergence.path, log.size) == ("2", size)


@pytest.mark.parametrize("stage", [GuardStage.INPUT, GuardStage.ANSWER])
@pytest.mark.parametrize("judged", [True, False])
async def test_guards_do_not_speak_where_a_step_was_nor_the_other_way_round(
    judged: bool, stage: GuardStage
) -> None:
    stuck, effect = WaitingEffect(), PlainEffect()

    def takes(*, judged: bool):
        async def program(run: ProgramRun) -> Answer:
            await (run.guard(stage, run.prompt) if judged else run.step(effect))
            await run.step(stuck)
            return Answer("completed", "")

        return program

    guards = FixedGuards({stage: [Passes()]})
    runs, log = make(takes(judged=judged), guards=guards)
    run_id = await runs.start("clerk", "go", actor="uid:1")
    await stuck.begun.wait()
    effect.performed.clear()
    after, _ = make(takes(judged=not judged), log=log, guards=guards)
    await after.recover()
    result = await asyncio.wait_for(after.wait(run_id), 20)
    assert (result.status, effect.performed) == ("failed", [])
    assert "the record has " + ("a guard's verdict" if judged else "a step") in result.reason
    await runs.drain(0)
