"""Taking runs up again, replaying them, forking them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from helpers.runs import finished, left_of, make, script

from node.clock import ManualClock
from node.errors import (
    JournalReadError,
    JournalWriteError,
    OutcomeUnknownError,
    RunError,
    UnknownRunError,
)
from node.journal import BlobRef, Draft, Entry, MemoryLog
from node.runs import (
    AgentRegistry,
    Answer,
    Edit,
    Effect,
    GuardContext,
    GuardStage,
    GuardVerdict,
    NodeLimits,
    NoGuards,
    Outcome,
    ProgramRun,
    ReplayReport,
    RunEvent,
    Runs,
    StepKind,
    Usage,
)
from node.runs.effect import PASS
from node.runs.testing import (
    CountingEffect,
    FailingEffect,
    FixedGuards,
    MemoryAgents,
    PlainEffect,
    ScriptedProgram,
    WaitingEffect,
    agent,
)

# ── recovery ────────────────────────────────────────────────────────────────────────────────


async def test_recorded_steps_are_not_performed_again(tmp_path) -> None:
    def effects():
        return [
            PlainEffect(args=1, value="one"),
            CountingEffect(tmp_path / "n", 2),
            FailingEffect(args=3, error=RunError("no")),
            PlainEffect(name="web.x"),
        ]

    runs, log = make(script(*effects()))
    run_id = await finished(runs)
    text = (await runs.wait(run_id)).text
    again = effects()
    after, left = make(script(*again), log=await left_of(log, "run.finished"))
    assert await after.recover() == [run_id]
    result = await after.wait(run_id)
    assert (result.status, result.text) == ("completed", text)
    assert again[0].performed == []
    assert again[2].performed == []
    assert again[1].happened(f"{run_id}:2") == 1
    assert [e.type for e in left.entries()].count("step.intent") == 4
    assert result.usage == (await runs.wait(run_id)).usage


async def test_a_log_that_calls_functions_by_tool_and_function_is_taken_up() -> None:
    step = PlainEffect(name="notes_read", tool="plain", value="one")
    runs, log = make(script(step))
    run_id = await finished(runs)

    def older(entry: Entry) -> Draft:
        if entry.type != "step.intent":
            return entry.draft
        return replace(entry.draft, data={**entry.data, "name": "plain.notes_read"})

    old = await left_of(log, change=older)
    again = PlainEffect(name="notes_read", tool="plain", value="two")
    after, _ = make(script(again), log=old)
    report = await after.replay(run_id)
    assert isinstance(report, ReplayReport)
    assert (report.ok, again.performed) == (True, [])
    for other in (PlainEffect(name="notes_read", tool="web"), PlainEffect(name="notes_find")):
        diverged, _ = make(script(other), log=old)
        found = await diverged.replay(run_id)
        assert isinstance(found, ReplayReport)
        assert not found.ok


@pytest.mark.parametrize("happened", [True, False])
async def test_an_intent_without_a_result_is_settled(tmp_path, happened: bool) -> None:
    effect = CountingEffect(tmp_path / "n", 1)
    runs, log = make(script(effect))
    run_id = await finished(runs)
    if not happened:
        effect.file.unlink()
    left = await left_of(log, "step.result", "run.finished")
    after, _ = make(script(effect), log=left)
    await after.recover()
    assert (await after.wait(run_id)).text == '[{"added":1}]'
    assert effect.happened(f"{run_id}:1") == 1
    assert [e.type for e in left.entries()] == [
        "run.started",
        "step.intent",
        "run.resumed",
        *([] if happened else ["step.again"]),
        "step.result",
        "run.finished",
    ]


@pytest.mark.parametrize("happened", [True, False])
async def test_a_person_says_what_nothing_else_can(tmp_path, happened: bool) -> None:
    effect = CountingEffect(tmp_path / "n", 1, knows=False)
    runs, log = make(script(effect))
    run_id = await finished(runs)
    if not happened:
        effect.file.unlink()
    left = await left_of(log, "step.result", "run.finished")
    after, _ = make(script(effect), log=left, limits=NodeLimits(approval_seconds=0.001))
    await after.recover()
    async for event in after.watch(run_id):
        if event.type == "approval.asked":
            break
    (question,) = after.approvals()
    assert (question.kind, question.expires) == ("outcome_unknown", None)
    await (after.approve if happened else after.deny)(question.id, "uid:1")
    assert (await after.wait(run_id)).status == "completed"
    assert effect.happened(f"{run_id}:1") == 1


async def test_a_result_whose_blob_was_lost_counts_as_none(tmp_path) -> None:
    value = "x" * 5000
    runs, log = make(script(PlainEffect(args=1, value=value), CountingEffect(tmp_path / "n", 2)))
    run_id = await finished(runs)
    effect = PlainEffect(args=1, value=value)
    after, left = make(
        script(effect, CountingEffect(tmp_path / "n", 2)),
        log=await left_of(log, "run.finished", drop="value"),
    )
    await after.recover()
    assert value in (await after.wait(run_id)).text
    assert effect.performed == [f"{run_id}:1"]
    assert CountingEffect(tmp_path / "n", 2).happened(f"{run_id}:2") == 1
    # and the second time it is known
    last, _ = make(script(PlainEffect(args=1)), log=await left_of(left, "run.finished"))
    await last.recover()
    assert value in (await last.wait(run_id)).text


@pytest.mark.parametrize(
    "other",
    [
        PlainEffect(args=2),
        PlainEffect(name="plain.other", args=1),
        PlainEffect(kind=StepKind.RETRIEVAL, args=1),
    ],
)
async def test_another_step_than_the_recorded_one_diverges(other: PlainEffect) -> None:
    runs, log = make(script(PlainEffect(args=1)))
    run_id = await finished(runs)
    after, _ = make(script(other), log=await left_of(log, "run.finished"))
    await after.recover()
    result = await after.wait(run_id)
    assert result.status == "failed"
    assert "step 1 diverged" in result.reason
    assert other.performed == []


async def test_a_run_that_gets_nowhere_is_left_alone(tmp_path) -> None:
    clock = ManualClock()
    stuck = WaitingEffect()
    runs, log = make(script(stuck), clock=clock)
    run_id = await runs.start("clerk", "go", actor="uid:1")
    await stuck.begun.wait()
    for _ in range(3):  # the process dies without a word, again and again
        again = WaitingEffect()
        runs, _ = make(script(again), log=log, clock=clock)
        assert await runs.recover() == [run_id]
        await again.begun.wait()
    runs, _ = make(script(WaitingEffect()), log=log, clock=clock)
    assert await runs.recover() == []
    assert runs.show(run_id).status == "parked"
    assert "3 times" in runs.show(run_id).reason

    early, _ = make(script(PlainEffect()), log=log, clock=clock)
    assert await early.recover() == []
    clock.advance(61)
    late, _ = make(script(PlainEffect(value=1)), log=log, clock=clock)
    assert await late.recover() == [run_id]
    assert (await late.wait(run_id)).status == "completed"
    await early.drain(0)
    await runs.drain(0)


async def parked_for_a_moment(clock: ManualClock) -> tuple[str, MemoryLog, float]:
    """A run that is parked, its log, and the time until which it is."""
    runs, log = make(script(PlainEffect(value=1)), clock=clock)
    run_id = await finished(runs)
    left = await left_of(log, "run.finished")
    until = clock.wall() + 0.01
    await left.append(Draft("run.parked", run=run_id, data={"reason": "x", "until": until}))
    return run_id, left, until


def announced(begun: asyncio.Event) -> ScriptedProgram:
    """A program of one effect, which says when it has begun."""

    def effects(_: ProgramRun) -> tuple[Effect, ...]:
        begun.set()
        return (PlainEffect(value=1),)

    return ScriptedProgram(effects)


async def test_a_parked_run_comes_back_by_itself_when_its_time_is_over() -> None:
    clock, begun = ManualClock(), asyncio.Event()
    run_id, left, _ = await parked_for_a_moment(clock)
    after, _ = make(announced(begun), log=left, clock=clock)
    assert await after.recover() == []
    clock.advance(1)
    async with asyncio.timeout(5):
        await begun.wait()
    assert (await after.wait(run_id)).status == "completed"


async def test_a_parked_run_comes_back_though_the_log_could_not_be_read_at_its_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("node.runs.lives.AGAIN_S", 0.01, raising=False)
    clock, begun = ManualClock(), asyncio.Event()
    run_id, left, _ = await parked_for_a_moment(clock)
    after, _ = make(announced(begun), log=left, clock=clock)
    assert await after.recover() == []
    read, failures = left.run_entries, [JournalReadError("no file is left")]

    def reads(run: str) -> list[Entry]:
        if failures:
            raise failures.pop()
        return read(run)

    monkeypatch.setattr(left, "run_entries", reads)
    async with asyncio.timeout(5):
        await begun.wait()
    assert (await after.wait(run_id)).status == "completed"


async def test_a_run_that_is_on_the_log_begins_though_it_could_not_be_read_just_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Who is told of an error asks again, and the first would have begun at the next start."""
    monkeypatch.setattr("node.runs.lives.AGAIN_S", 0.01)
    begun = asyncio.Event()
    runs, log = make(announced(begun))
    read, failures = log.blob, [JournalReadError("no file is left")]

    def reads(ref: BlobRef | str) -> bytes:
        if failures:
            raise failures.pop()
        return read(ref)

    monkeypatch.setattr(log, "blob", reads)
    run_id = await runs.start("clerk", "hello", actor="uid:1")
    async with asyncio.timeout(5):
        await begun.wait()
    assert (await runs.wait(run_id)).status == "completed"


@pytest.mark.parametrize("restarted", [True, False])
async def test_a_clock_that_was_set_back_does_not_keep_a_run_parked(restarted: bool) -> None:
    clock, begun = ManualClock(), asyncio.Event()
    run_id, left, until = await parked_for_a_moment(clock)
    after, _ = make(announced(begun), log=left, clock=clock)
    if restarted:  # a board without a battery begins in 1970
        clock.wall_s = 0.0
    assert await after.recover() == ([run_id] if restarted else [])
    clock.wall_s = min(clock.wall_s, until - 3600)
    async with asyncio.timeout(5):
        await begun.wait()
    assert (await after.wait(run_id)).status == "completed"


async def test_a_run_whose_beginning_was_erased_fails_and_says_so() -> None:
    runs, log = make(script(PlainEffect()))
    run_id = await finished(runs)
    after, _ = make(script(PlainEffect()), log=await left_of(log, "run.finished", drop="prompt"))
    assert await after.recover() == []
    assert "cannot be resumed" in (await after.wait(run_id)).reason


@pytest.mark.parametrize("at", range(1, 6))
async def test_without_a_log_agents_stop(tmp_path, at: int) -> None:
    effects = [PlainEffect(args=1), CountingEffect(tmp_path / "n", 2), PlainEffect(args=3)]
    runs, _ = make(script(*effects), log=MemoryLog(clock=ManualClock(), fail_at=at))
    run_id = await runs.start("clerk", "go", actor="uid:1")
    with pytest.raises(JournalWriteError):
        await runs.wait(run_id)
    assert runs.failed.is_set()
    with pytest.raises(JournalWriteError):
        await runs.start("clerk", "more", actor="uid:1")
    if at < 4:
        assert not effects[1].file.exists()


async def test_cancelled_step_that_cannot_tell_is_recorded_as_unknown(tmp_path) -> None:
    begun = asyncio.Event()

    class Unknown(PlainEffect):
        async def perform(self, key: str) -> Outcome:
            begun.set()
            await asyncio.Event().wait()
            raise AssertionError

        async def settle(self, key: str) -> Outcome | None:
            raise OutcomeUnknownError("who knows")

    runs, log = make(script(Unknown(traceless=False)))
    run_id = await runs.start("clerk", "go", actor="uid:1")
    await begun.wait()
    await runs.cancel(run_id)
    (result,) = [e for e in log.run_entries(run_id) if e.type == "step.result"]
    assert result.data["error"]["type"] == "OutcomeUnknownError"


# ── replay and forks ────────────────────────────────────────────────────────────────────────


def model(value, args="ask", tokens: int = 5) -> PlainEffect:
    usage = Usage(completion_tokens=tokens)
    return PlainEffect(name="generate", kind=StepKind.MODEL, args=args, value=value, usage=usage)


async def test_replay_compares_and_performs_nothing(tmp_path) -> None:
    effects = [model("a"), PlainEffect(value=1), CountingEffect(tmp_path / "n", 1)]
    runs, log = make(script(*effects))
    run_id = await finished(runs)
    size = log.size
    fresh = [model("other"), PlainEffect(value=2), CountingEffect(tmp_path / "n", 1)]
    after, _ = make(script(*fresh), log=log)
    await after.recover()
    report = await after.replay(run_id)
    assert report == ReplayReport(run_id, ok=True, steps=3)
    assert log.size == size
    assert fresh[0].performed == fresh[1].performed == []
    assert fresh[2].happened(f"{run_id}:3") == 1


@pytest.mark.parametrize(
    ("effects", "path", "recorded", "replayed"),
    [
        (
            [PlainEffect(args=1), PlainEffect(args=9)],
            "2",
            "plain.read with other arguments",
            "plain.read",
        ),
        ([PlainEffect(args=1)], "2", "tool plain.read", "nothing: it ended"),
        ([PlainEffect(args=n) for n in (1, 2, 3)], "3", "nothing", "a step"),
        ([PlainEffect(args=1), model("x")], "2", "tool plain.read", "model generate"),
    ],
)
async def test_replay_reports_the_first_divergence(effects, path, recorded, replayed) -> None:
    runs, log = make(script(PlainEffect(args=1), PlainEffect(args=2)))
    run_id = await finished(runs)
    after, _ = make(script(*effects), log=log)
    report = await after.replay(run_id)
    assert isinstance(report, ReplayReport)
    assert not report.ok
    assert report.divergence is not None
    found = report.divergence
    assert (found.path, found.recorded, found.replayed) == (path, recorded, replayed)


async def test_replay_notices_another_answer() -> None:
    runs, log = make(script(PlainEffect(value=1)))
    run_id = await finished(runs)

    async def other(run: ProgramRun) -> Answer:
        await run.step(PlainEffect())
        return Answer("completed", "something else")

    after, _ = make(other, log=log)
    report = await after.replay(run_id)
    assert isinstance(report, ReplayReport)
    assert report.divergence is not None
    assert report.divergence.path == "answer"


async def test_a_fork_takes_over_earlier_steps_and_goes_live() -> None:
    effects = [model("one", "a"), model("two", "b"), model("three", "c")]
    runs, log = make(script(*effects))
    run_id = await finished(runs)
    live = [model("x", "a"), model("y", "b"), model("z", "c")]
    after, _ = make(script(*live), log=log)
    await after.recover()
    new = await after.replay(run_id, from_step="2", actor="uid:5")
    assert isinstance(new, str)
    assert (await after.wait(new)).text == '["one","y","z"]'
    assert live[0].performed == []
    summary = after.show(new)
    assert (summary.forked_from, summary.actor) == ((run_id, "2"), "uid:5")
    first = log.run_entries(new)[0]
    assert first.draft.cause == (log.run_entries(run_id)[0].index,)
    assert summary.usage.completion_tokens == 15
    assert isinstance(await after.replay(new), ReplayReport)
    assert (await after.replay(new)).ok  # type: ignore[union-attr]


@dataclass(frozen=True)
class Nest(PlainEffect):
    """Takes two steps within its own."""

    run: Any = None
    inner: Any = None

    async def perform(self, key: str) -> Outcome:
        for number in (1, 2):
            await self.run.within(key.partition(":")[2], f"402.{number}", self.inner)
        return await super().perform(key)


async def test_a_fork_in_the_middle_of_a_step_takes_nothing_of_that_step_over() -> None:
    """A payment within it, say, was for what another call had fetched."""
    inner = PlainEffect("plain.inner", traceless=False)

    async def program(run: ProgramRun) -> Answer:
        await run.step(model("one"))
        await run.step(Nest("plain.nest", traceless=False, run=run, inner=inner))
        return Answer("completed", "done")

    runs, log = make(program)
    run_id = await finished(runs)
    assert inner.performed == [f"{run_id}:2.402.1", f"{run_id}:2.402.2"]
    new = str(await runs.replay(run_id, from_step="2.402.2"))
    assert (await runs.wait(new)).text == "done"
    assert inner.performed[2:] == [f"{new}:2.402.1", f"{new}:2.402.2"]
    copied = {e.draft.path for e in log.run_entries(new) if "copied_from" in e.data}
    assert copied == {"1"}
    assert (await runs.replay(new)).ok  # type: ignore[union-attr]


async def test_a_fork_with_another_model_prompt_and_result() -> None:
    async def program(run: ProgramRun) -> Answer:
        one = await run.step(model("one", {"prompt": run.prompt, "model": run.agent.model}))
        two = await run.step(model([one.value, run.prompt, run.agent.model], "b"))
        return Answer("completed", str(two.value))

    runs, log = make(program)
    run_id = await finished(runs, "old")
    edit = Edit(prompt="new", results={"1": "edited"})
    new = await runs.replay(run_id, from_step="2", model="big", edit=edit)
    assert isinstance(new, str)
    assert (await runs.wait(new)).text == "['edited', 'new', 'big']"
    (old,) = [e for e in log.run_entries(new) if e.data.get("edited")]
    assert "copied_from" in old.data
    text = '{"results": {"1": "again"}}'
    again = await runs.replay(run_id, from_step="2", edit=text)
    assert isinstance(again, str)
    assert (await runs.wait(again)).text == "['again', 'old', 'default']"


class Redacting:
    """Takes a word out of every prompt that has it."""

    name = "redacting"

    def check(self, stage: GuardStage, content: Any, context: GuardContext) -> GuardVerdict:
        if "hunter2" not in str(content):
            return PASS
        return GuardVerdict("rewrite", "a secret", str(content).replace("hunter2", "[redacted]"))


@pytest.mark.parametrize("old", ["my password is hunter2", "old"])
@pytest.mark.parametrize(("new", "goal"), [("hunter2?", "[redacted]?"), ("new", "new")])
async def test_the_new_prompt_of_a_fork_is_judged_itself(old: str, new: str, goal: str) -> None:
    async def program(run: ProgramRun) -> Answer:
        verdict = await run.guard(GuardStage.INPUT, run.prompt)
        await run.step(model("one"))
        await run.step(model("two"))
        rewritten = verdict.verdict == "rewrite"
        return Answer("completed", str(verdict.value) if rewritten else run.prompt)

    runs, log = make(program, guards=FixedGuards({GuardStage.INPUT: [Redacting()]}))
    run_id = await finished(runs, old)
    fork = str(await runs.replay(run_id, from_step="3", edit=new))
    assert (await runs.wait(fork)).text == goal
    assert (await runs.replay(fork)).ok  # type: ignore[union-attr]
    copied = {e.draft.path for e in log.run_entries(fork) if "copied_from" in e.data}
    assert copied == {"2"}


async def test_what_a_fork_adds_is_erasable_and_tells_nothing_of_the_first_run() -> None:
    runs, log = make(script(model("a"), model("b", "b", 1)))
    run_id = await finished(runs, "the prompt")
    edit = Edit(prompt="another", results={"1": "a secret wish"})
    new = str(await runs.replay(run_id, from_step="2", edit=edit))
    await runs.wait(new)
    assert "a secret wish" not in "".join(str(entry.draft) for entry in log.run_entries(new))
    salts = [
        log.blob(ref)
        for run in (run_id, new)
        for ref in log.run_entries(run)[0].draft.blobs
        if ref.role == "salt"
    ]
    assert len({*salts}) == len(salts) == 2
    assert (await runs.replay(new)).ok  # type: ignore[union-attr]


async def test_copied_steps_do_not_count_on_the_day_again() -> None:
    clock = ManualClock()
    runs, log = make(script(model("a", tokens=50), model("b", "b", 1)), clock=clock)
    run_id = await finished(runs)
    new = await runs.replay(run_id, from_step="2")
    await runs.wait(str(new))
    after, _ = make(script(), log=log, clock=clock)
    await after.recover()
    for ledger in (runs._door.ledger, after._door.ledger):
        used = ledger.pockets(agent())[1].used
        assert used.completion_tokens == 52


@pytest.mark.parametrize(
    "arguments",
    [
        {"from_step": "7"},
        {"from_step": "2", "edit": '{"results": {"2": 1}}'},
        {"from_step": "2", "edit": '{"what": 1}'},
        {"from_step": "2", "edit": '{"results": {"1": NaN}}'},
        {"from_step": "2", "edit": '{"results": {"1": "\\ud800"}}'},
        {"from_step": "2", "edit": '{"results": {"1": ' + "[" * 200 + "]" * 200 + "}}"},
        {"edit": "new prompt"},
        {"model": "big"},
    ],
)
async def test_what_cannot_be_forked_is_said(arguments) -> None:
    runs, log = make(script(PlainEffect(args=1), PlainEffect(args=2)))
    run_id = await finished(runs)
    size = log.size
    with pytest.raises(RunError):
        await runs.replay(run_id, **arguments)
    assert log.size == size


async def test_an_erased_step_cannot_be_replayed() -> None:
    runs, log = make(script(model("a")))
    run_id = await finished(runs)
    result = next(e for e in log.run_entries(run_id) if e.type == "step.result")
    await log.erase(result.draft.blobs[0])
    with pytest.raises(RunError, match="erased"):
        await runs.replay(run_id)


async def test_a_fork_does_nothing_again_because_its_result_was_erased() -> None:
    runs, log = make(script(model("a"), model("b")))
    run_id = await finished(runs)
    result = next(e for e in log.run_entries(run_id) if e.type == "step.result")
    await log.erase(result.draft.blobs[0])
    with pytest.raises(RunError, match="content of step 1 was erased"):
        await runs.replay(run_id, from_step="2")
    given = await runs.replay(run_id, from_step="2", edit='{"results": {"1": "known"}}')
    assert (await runs.wait(str(given))).text == '["known","b"]'


async def test_an_agent_that_is_paused_is_not_forked() -> None:
    agents = MemoryAgents(agent())
    log = MemoryLog(clock=ManualClock())
    runs = Runs(
        log=log, program=script(model("a")), agents=agents, clock=ManualClock(), guards=NoGuards()
    )
    run_id = await finished(runs)
    agents.put(replace(agent(), paused=True))
    with pytest.raises(RunError, match="paused"):
        await runs.replay(run_id, from_step="1")


async def test_an_agent_is_not_forked_whose_file_says_by_now_that_it_is_paused(
    tmp_path: Path,
) -> None:
    file, log = tmp_path / "clerk.toml", MemoryLog(clock=ManualClock())
    file.write_text('name = "clerk"\ninstructions = "Go."\n')
    runs = Runs(
        log=log,
        program=script(model("a")),
        agents=AgentRegistry(tmp_path),
        clock=ManualClock(),
        guards=NoGuards(),
    )
    run_id = await finished(runs)
    file.write_text('name = "clerk"\ninstructions = "Go."\npaused = true\n')
    with pytest.raises(RunError, match="paused"):
        await runs.replay(run_id, from_step="1")


async def test_there_is_no_such_run() -> None:
    runs, _ = make(script())
    for call in (runs.wait("r-x"), runs.replay("r-x"), runs.cancel("r-x")):
        with pytest.raises(UnknownRunError):
            await call
    with pytest.raises(UnknownRunError):
        runs.show("r-x")


# ── watching ────────────────────────────────────────────────────────────────────────────────


async def collect(runs: Runs, run_id: str, after: int = 0) -> list[RunEvent]:
    return [event async for event in runs.watch(run_id, after)]


async def test_watch_shows_steps_and_tokens_and_resumes_by_id() -> None:
    async def program(run: ProgramRun) -> Answer:
        run.emit(RunEvent("token", {"path": "1", "text": "a"}))
        await run.step(PlainEffect())
        run.emit(RunEvent("token", {"path": "2", "text": "b"}))
        return Answer("completed", "ab")

    runs, _ = make(program)
    run_id = await runs.start("clerk", "go", actor="uid:1")
    events = await collect(runs, run_id)
    kinds = [event.type for event in events]
    assert kinds == ["run.started", "token", "step.intent", "step.result", "token", "run.finished"]
    ids = [event.id for event in events]
    assert ids == sorted(set(ids))
    for place, event in enumerate(events):
        assert await collect(runs, run_id, event.id) == events[place + 1 :]
    intent, result = events[2].data, events[3].data
    assert (intent["path"], intent["kind"], intent["name"]) == ("1", "tool", "plain.read")
    assert (result["ok"], result["ms"]) == (True, 0.0)


async def test_a_slow_watcher_holds_nothing_up_and_misses_no_step() -> None:
    from node.runs.events import Stream

    log = MemoryLog(clock=ManualClock())
    stream = Stream(lambda: log.run_entries("r"), size=8)
    for number in range(50):
        (index,) = await log.append(Draft("step.result", run="r", path=str(number)))
        stream.emit(RunEvent("step.result", {"path": str(number)}), index=index)
        stream.emit(RunEvent("token", {"text": "t"}))
    stream.close()
    seen = [event async for event in stream.watch()]
    paths = [event.data["path"] for event in seen if event.type == "step.result"]
    assert paths == [str(number) for number in range(50)]
    assert [event.id for event in seen] == sorted({event.id for event in seen})


async def test_a_finished_run_of_an_earlier_process_can_be_watched() -> None:
    runs, log = make(script(PlainEffect()))
    run_id = await finished(runs)
    after, _ = make(script(), log=log)
    await after.recover()
    kinds = [event.type for event in await collect(after, run_id)]
    assert kinds == ["run.started", "step.intent", "step.result", "run.finished"]


# ── starting ────────────────────────────────────────────────────────────────────────────────


async def test_changed_manifests_are_journalled_and_used_by_the_next_run() -> None:
    clock = ManualClock()
    log, agents, slow = MemoryLog(clock=clock), MemoryAgents(agent()), WaitingEffect()
    models: list[str] = []

    async def program(run: ProgramRun) -> Answer:
        await run.step(slow)
        models.append(run.agent.model)
        return Answer("completed", "")

    runs = Runs(log=log, program=program, agents=agents, clock=clock, guards=NoGuards())
    first = await runs.start("clerk", "go", actor="uid:1")
    agents.put(_with_model("big"))
    second = await runs.start("clerk", "go", actor="uid:1")
    slow.release.set()
    await runs.wait(first)
    await runs.wait(second)
    assert models == ["default", "big"]
    (changed,) = [e for e in log.entries() if e.type == "agent.changed"]
    assert (changed.draft.agent, changed.data["digest"]) == ("clerk", "1" * 64)


async def test_a_restart_journals_only_the_manifests_that_really_changed(tmp_path: Path) -> None:
    log = MemoryLog(clock=ManualClock())

    def manifest(name: str, more: str = "") -> None:
        (tmp_path / f"{name}.toml").write_text(f'name = "{name}"\ninstructions = "Go."\n{more}')

    async def restarted() -> list[tuple[str, str]]:
        """What a new process, looking twice, adds to the log."""
        size = log.size
        agents = AgentRegistry(tmp_path)
        runs = Runs(
            log=log, program=script(), agents=agents, clock=ManualClock(), guards=NoGuards()
        )
        await runs.refresh_agents()
        await runs.refresh_agents()
        return [(str(e.draft.agent), str(e.data["change"])) for e in log.entries(size)]

    for name in ("a", "b", "c"):
        manifest(name)
    assert await restarted() == [("a", "added"), ("b", "added"), ("c", "added")]
    assert await restarted() == []
    manifest("a", 'model = "big"')
    manifest("b", "colour = 1")
    (tmp_path / "c.toml").unlink()
    assert await restarted() == [("a", "changed"), ("b", "broken"), ("c", "removed")]
    assert await restarted() == []
    manifest("b")
    manifest("c")
    assert await restarted() == [("b", "changed"), ("c", "added")]
    (tmp_path / "b.toml").write_text("=")
    assert await restarted() == [("b", "broken")]
    (tmp_path / "b.toml").unlink()
    assert await restarted() == [("b", "removed")]


def _with_model(name: str):
    from dataclasses import replace

    return replace(agent(), model=name, digest="1" * 64)


async def test_a_resumed_run_keeps_the_manifest_it_began_with() -> None:
    from dataclasses import replace

    async def program(run: ProgramRun) -> Answer:
        await run.step(PlainEffect())
        return Answer("completed", run.agent.instructions)

    runs, log = make(program, replace(agent(), instructions="old"))
    run_id = await finished(runs)
    after, _ = make(
        program, replace(agent(), instructions="new"), log=await left_of(log, "run.finished")
    )
    await after.recover()
    assert (await after.wait(run_id)).text == "old"


async def test_paused_unknown_and_too_many() -> None:
    from dataclasses import replace

    from node.errors import ManifestError

    slow = WaitingEffect()
    runs, _ = make(
        script(slow), agent(), replace(agent("off"), paused=True), limits=NodeLimits(runs_at_once=1)
    )
    with pytest.raises(RunError, match="paused"):
        await runs.start("off", "go", actor="uid:1")
    with pytest.raises(ManifestError):
        await runs.start("nobody", "go", actor="uid:1")
    run_id = await runs.start("clerk", "go", actor="uid:1")
    with pytest.raises(RunError, match="unfinished"):
        await runs.start("clerk", "go", actor="uid:1")
    slow.release.set()
    await runs.wait(run_id)
    assert [line.id for line in runs.list()] == [run_id]
    assert runs.active() == {}
