"""The door: what a step leaves on the log, and what it refuses."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from helpers.runs import make, script

from node.clock import ManualClock
from node.errors import BudgetExceededError, PolicyDeniedError, StepFailedError, ToolError
from node.journal import Entry, MemoryLog
from node.runs import (
    Answer,
    Effect,
    GuardContext,
    GuardStage,
    GuardVerdict,
    Outcome,
    ProgramRun,
    RunResult,
    Usage,
)
from node.runs.agent import BudgetLimits, ToolGrant
from node.runs.effect import Label
from node.runs.testing import (
    CountingEffect,
    FailingEffect,
    FixedGuards,
    PlainEffect,
    ScriptedProgram,
    agent,
    told_of,
)
from node.types import Json


async def run_script(log: MemoryLog, effects: Sequence[Effect], *agents, **more) -> RunResult:
    runs, _ = make(script(*effects), *agents, log=log, **more)
    return await runs.wait(await runs.start("clerk", "go", actor="uid:1000"))


def types(log: MemoryLog) -> list[str]:
    return [entry.type for entry in log.entries()]


def of(log: MemoryLog, kind: str) -> list[Entry]:
    return [entry for entry in log.entries() if entry.type == kind]


class Appends(MemoryLog):
    """Counts the commits."""

    def __init__(self) -> None:
        super().__init__(clock=ManualClock())
        self.commits: list[list[str]] = []

    async def append(self, *drafts):
        indices = await super().append(*drafts)
        self.commits.append([draft.type for draft in drafts])
        return indices


async def test_traceless_step_is_one_commit() -> None:
    log = Appends()
    result = await run_script(log, [PlainEffect(args={"a": 1}, value=7)])
    assert result.status == "completed"
    assert result.text == "[7]"
    assert log.commits == [["run.started"], ["step.intent", "step.result"], ["run.finished"]]
    intent, answer = of(log, "step.intent")[0], of(log, "step.result")[0]
    assert intent.draft.policy is not None
    assert (intent.draft.policy.rule, intent.draft.policy.verdict) == (
        "tools.plain.approval",
        "allow",
    )
    assert intent.data["args"] == {"a": 1}
    assert answer.data["value"] == 7
    assert answer.draft.cause == (intent.index,)


async def test_effect_with_a_trace_has_its_intent_before(tmp_path) -> None:
    log, file = Appends(), tmp_path / "count"
    seen: list[list[str]] = []

    class Looking(CountingEffect):
        async def perform(self, key: str):
            seen.append(list(log.commits[-1]))
            return await super().perform(key)

    result = await run_script(log, [Looking(file, 3)])
    assert result.status == "completed"
    assert seen == [["step.intent"]]
    assert log.commits[1:3] == [["step.intent"], ["step.result"]]
    key = f"{result.run_id}:1"
    assert Looking(file, 3).happened(key) == 1


async def test_ungranted_tool_is_refused_and_on_the_log() -> None:
    log = MemoryLog(clock=ManualClock())
    effect = PlainEffect(name="web.fetch", value=1)
    result = await run_script(log, [effect])
    assert result.text == '[{"error":"PolicyDeniedError"}]'
    assert effect.performed == []
    intent = of(log, "step.intent")[0]
    assert intent.draft.policy is not None
    assert intent.draft.policy.verdict == "deny"
    assert of(log, "step.result")[0].data["error"]["type"] == "PolicyDeniedError"


async def test_a_capability_beyond_the_grant_is_refused() -> None:
    log = MemoryLog(clock=ManualClock())
    effect = PlainEffect(capabilities=frozenset({"http"}))
    await run_script(log, [effect], agent("clerk", "plain"))
    policy = of(log, "step.intent")[0].draft.policy
    assert policy is not None
    assert (policy.rule, policy.verdict) == ("tools.plain.http", "deny")
    assert effect.performed == []


async def test_a_function_outside_the_list_is_refused() -> None:
    log = MemoryLog(clock=ManualClock())
    clerk = agent("clerk", tools=(ToolGrant("plain", functions=("write",)),))
    await run_script(log, [PlainEffect(name="plain.read")], clerk)
    policy = of(log, "step.intent")[0].draft.policy
    assert policy is not None
    assert (policy.rule, policy.verdict) == ("tools.plain.functions", "deny")


@pytest.mark.parametrize(
    ("tool", "function", "rule"),
    [
        ("notes", "notes_old_read", "tools.notes.approval"),
        ("notes_old", "notes_old_find", "tools.notes_old.approval"),
        ("notes_old", "notes_old_read", "tools.notes_old.functions"),
        ("notes_", "notes_old_find", "tools.not-granted"),
    ],
)
async def test_a_function_has_the_grant_of_its_own_tool(
    tool: str, function: str, rule: str
) -> None:
    """However much its name looks like another tool's."""
    log = MemoryLog(clock=ManualClock())
    narrow = ToolGrant("notes_old", functions=("notes_old_find",))
    effect = PlainEffect(name=function, tool=tool)
    await run_script(log, [effect], agent("clerk", tools=(ToolGrant("notes"), narrow)))
    intent = of(log, "step.intent")[0]
    assert intent.draft.policy is not None
    assert intent.draft.policy.rule == rule
    assert (intent.data["name"], intent.data["needs"]["tool"]) == (function, tool)


async def test_budget_refusal_names_the_dimension_and_what_was_done() -> None:
    log = MemoryLog(clock=ManualClock())
    clerk = agent("clerk", "plain", budget=BudgetLimits(steps=2))
    caught: list[BudgetExceededError] = []

    async def program(run: ProgramRun) -> Answer:
        for number in range(5):
            try:
                await run.step(PlainEffect(args=number))
            except BudgetExceededError as error:
                caught.append(error)
                raise
        return Answer("completed", "")

    runs, _ = make(program, clerk, log=log)
    result = await runs.wait(await runs.start("clerk", "go", actor="uid:1"))
    assert result.status == "stopped"
    (error,) = caught
    assert (error.dimension, error.limit, error.used) == ("steps", 2, 2)
    assert "done so far: 2 steps, 2 tool_calls" in error.message
    assert "steps limit 2" in result.reason
    policy = of(log, "step.intent")[-1].draft.policy
    assert policy is not None
    assert (policy.rule, policy.verdict) == ("budget.steps", "deny")


async def test_a_failed_effect_gives_its_hold_back_and_counts_as_a_step() -> None:
    log = MemoryLog(clock=ManualClock())
    effects = [FailingEffect(error=ToolError("gone"), needs_usage=Usage(egress_bytes=9_000_000))]
    result = await run_script(log, effects * 2)
    assert result.text == '[{"error":"ToolError"},{"error":"ToolError"}]'
    assert result.usage.steps == 2
    assert result.usage.egress_bytes == 0


async def test_an_unknown_failure_keeps_its_text_out_of_the_log() -> None:
    log = MemoryLog(clock=ManualClock())
    result = await run_script(log, [FailingEffect(error=KeyError("nsec1secret"))])
    assert result.text == '[{"error":"StepFailedError"}]'
    assert "nsec1secret" not in str(list(log.entries()))
    assert StepFailedError.__name__ in str(of(log, "step.result")[0].data)


async def test_what_broke_after_it_had_happened_is_asked_what_became_of_it(tmp_path: Path) -> None:
    class Breaks(CountingEffect):
        async def perform(self, key: str) -> Outcome:
            await super().perform(key)
            raise KeyError("oops")

    result = await run_script(MemoryLog(clock=ManualClock()), [Breaks(tmp_path / "n", 1)])
    assert result.text == '[{"added":1}]'


async def test_a_value_that_is_not_json_fails_the_step() -> None:
    log = MemoryLog(clock=ManualClock())
    result = await run_script(log, [PlainEffect(value=float("nan"))])
    assert result.text == '[{"error":"StepFailedError"}]'


async def test_large_and_private_content_goes_to_blobs() -> None:
    log = MemoryLog(clock=ManualClock())
    effects = [
        PlainEffect(args="x" * 5000, value="y" * 5000),
        PlainEffect(value="diary", labels=frozenset({"private"})),
        PlainEffect(args="diary says", value="more"),
    ]
    result = await run_script(log, effects)
    assert result.status == "completed"
    text = str(list(log.entries()))
    assert "xxxx" not in text
    assert "yyyy" not in text
    assert "diary" not in text
    assert '"diary"' in result.text


class Judge:
    """Says what it is told to about content that holds a word."""

    def __init__(self, word: str, verdict: GuardVerdict, name: str = "judge") -> None:
        self.name = name
        self._word = word
        self._verdict = verdict

    def check(self, stage: GuardStage, content: Json, context: GuardContext) -> GuardVerdict:
        return self._verdict if self._word in str(content) else GuardVerdict("pass")


async def test_guard_verdicts_share_the_commit_of_their_step() -> None:
    log = Appends()
    guards = FixedGuards(
        {
            GuardStage.TOOL_ARGUMENTS: [Judge("never", GuardVerdict("fail"))],
            GuardStage.TOOL_RESULT: [Judge("never", GuardVerdict("fail"), "after")],
        }
    )
    await run_script(log, [PlainEffect(value=1)], guards=guards)
    assert log.commits[1] == [
        "step.intent",
        "step.intent",
        "step.result",
        *["step.intent"],
        *["step.result"] * 2,
    ]
    paths = [entry.draft.path for entry in log.entries() if entry.draft.path]
    assert paths == [
        "1",
        "1.tool_arguments.judge",
        "1.tool_arguments.judge",
        "1.tool_result.after",
        "1.tool_result.after",
        "1",
    ]
    results = of(log, "step.result")
    assert [log.entry(entry.draft.cause[0]).draft.path for entry in results] == [
        "1.tool_arguments.judge",
        "1.tool_result.after",
        "1",
    ]


async def test_a_guard_refuses_arguments() -> None:
    log = MemoryLog(clock=ManualClock())
    bad = GuardVerdict("fail", "not that")
    later = Judge("never", bad, "later")  # one that what is too large for it would hold up
    guards = FixedGuards({GuardStage.TOOL_ARGUMENTS: [Judge("bad", bad), later]})
    effect = PlainEffect(args="bad key")
    result = await run_script(log, [effect], guards=guards)
    assert result.text == '[{"error":"GuardRefusedError"}]'
    assert effect.performed == []
    assert "bad key" not in str(list(log.entries()))  # it can be erased
    assert {e.draft.path for e in of(log, "step.intent")} == {"1", "1.tool_arguments.judge"}


async def test_a_guard_withholds_a_result() -> None:
    log = MemoryLog(clock=ManualClock())
    guards = FixedGuards({GuardStage.TOOL_RESULT: [Judge("secret", GuardVerdict("fail", "a key"))]})
    result = await run_script(log, [PlainEffect(value="the secret")], guards=guards)
    assert "withheld by guard judge: a key" in result.text
    assert "the secret" not in str(list(log.entries()))
    told = of(log, "step.result")[-1].data
    assert (told["ok"], told["usage"]) == (False, {"steps": 1, "tool_calls": 1})


@pytest.mark.parametrize("labels", [(), ("private",)])
async def test_a_guard_rewrites_a_result(labels: tuple[Label, ...]) -> None:
    """In the log, too, wherever that keeps it."""
    log = MemoryLog(clock=ManualClock())
    told = GuardVerdict("rewrite", "hidden", "the [key]")
    guards = FixedGuards({GuardStage.TOOL_RESULT: [Judge("secret", told)]})
    effect = PlainEffect(value="the secret", labels=frozenset(labels))
    result = await run_script(log, [effect], guards=guards)
    assert result.text == '["the [key]"]'
    kept = [log.blob(ref) for entry in log.entries() for ref in entry.draft.blobs]
    assert b"the secret" not in b"".join(kept)
    assert "the secret" not in str(list(log.entries()))


async def test_each_guard_judges_what_the_one_before_left() -> None:
    """And its verdict is on the log with the digest of that."""
    log = MemoryLog(clock=ManualClock())
    told = GuardVerdict("rewrite", "hidden", "the [key]")
    refuses = Judge("secret", GuardVerdict("fail", "a key"), "refuses")
    guards = FixedGuards({GuardStage.TOOL_RESULT: [Judge("secret", told), refuses]})
    result = await run_script(log, [PlainEffect(value="the secret")], guards=guards)
    assert result.text == '["the [key]"]'
    first, second = (e.data["digest"] for e in of(log, "step.intent") if ".tool_" in e.draft.path)
    assert first != second


async def test_arguments_that_cannot_be_rewritten_are_refused() -> None:
    log = MemoryLog(clock=ManualClock())
    told = GuardVerdict("rewrite", "hidden", "ok")
    guards = FixedGuards({GuardStage.TOOL_ARGUMENTS: [Judge("bad", told)]})
    effect = PlainEffect(args="bad")
    result = await run_script(log, [effect], guards=guards)
    assert result.text == '[{"error":"GuardRefusedError"}]'
    assert effect.performed == []


async def test_a_guard_that_raises_lets_nothing_pass() -> None:
    class Broken(Judge):
        def check(self, stage: GuardStage, content: Json, context: GuardContext) -> GuardVerdict:
            raise ValueError("oops")

    log = MemoryLog(clock=ManualClock())
    guards = FixedGuards({GuardStage.TOOL_ARGUMENTS: [Broken("", GuardVerdict("pass"))]})
    effect = PlainEffect()
    await run_script(log, [effect], guards=guards)
    assert effect.performed == []


async def test_input_and_answer_guards_are_steps_of_the_run() -> None:
    log = MemoryLog(clock=ManualClock())
    looks = [Judge("never", GuardVerdict("fail"))]
    guards = FixedGuards({GuardStage.INPUT: looks, GuardStage.ANSWER: looks})
    program = ScriptedProgram(lambda _: [PlainEffect(value=1)], judged=True)
    runs, _ = make(program, log=log, guards=guards)
    await runs.wait(await runs.start("clerk", "go", actor="uid:1"))
    paths = [entry.draft.path for entry in of(log, "step.result")]
    assert paths == ["1.input.judge", "2", "3.answer.judge"]


async def test_a_slow_effect_is_stopped_at_its_seconds() -> None:
    from node.runs.testing import WaitingEffect

    log = MemoryLog(clock=ManualClock())
    effect = WaitingEffect(needs_usage=Usage(seconds=0.02))
    result = await run_script(log, [effect])
    assert result.text == '[{"error":"BudgetExceededError"}]'
    assert effect.begun.is_set()


async def test_policy_error_is_raised_to_the_program() -> None:
    caught: list[PolicyDeniedError] = []

    async def program(run: ProgramRun) -> Answer:
        try:
            await run.step(PlainEffect(name="web.fetch"))
        except PolicyDeniedError as error:
            caught.append(error)
        return Answer("could_not", "no")

    runs, _ = make(program)
    result = await runs.wait(await runs.start("clerk", "go", actor="uid:1"))
    assert result.status == "could_not"
    assert "tools.not-granted" in caught[0].message


@pytest.mark.parametrize("labels", [("untrusted",), ("private",)])
async def test_one_label_alone_asks_nobody(labels) -> None:
    log = MemoryLog(clock=ManualClock())
    effects = [
        PlainEffect(labels=frozenset(labels)),
        PlainEffect(destinations=("https://evil.example/*",), value="sent"),
    ]
    result = await run_script(log, effects)
    assert '"sent"' in result.text


async def test_watchers_see_verdicts_that_are_not_a_pass_live_and_later() -> None:
    log = MemoryLog(clock=ManualClock())
    told = GuardVerdict("rewrite", "hidden", "the [key]")
    looks = [Judge("never", GuardVerdict("fail"), "calm"), Judge("secret", told)]
    guards = FixedGuards({GuardStage.TOOL_RESULT: looks})
    runs, _ = make(script(PlainEffect(value="secret")), log=log, guards=guards)
    run_id = await runs.start("clerk", "go", actor="uid:1")
    live = [event async for event in runs.watch(run_id)]
    (verdict,) = [event for event in live if event.type == "guard"]
    assert verdict.data == {
        "path": "1",
        "stage": "tool_result",
        "guard": "judge",
        "verdict": "rewrite",
        "reason": "hidden",
    }
    later, _ = make(script(), log=log)
    await later.recover()
    again = [event async for event in later.watch(run_id)]
    assert [event.type for event in again] == [event.type for event in live]
    assert [event.data for event in again if event.type == "guard"] == [verdict.data]


async def test_words_of_any_length_are_cut_to_what_an_entry_holds() -> None:
    long = "x" * 100_000
    places = tuple(f"https://{number}.example/{long}" for number in range(100))
    effects = (
        FailingEffect(error=ToolError(long, hint=long)),
        PlainEffect(value="odd"),
        PlainEffect(destinations=places),
        PlainEffect("asks.it"),
    )

    async def program(run: ProgramRun) -> Answer:
        told = [await told_of(run, effect) for effect in effects]
        return Answer("could_not", str(told), citations=(long,) * 1000, reason=long)

    guards = FixedGuards({GuardStage.TOOL_RESULT: [Judge("odd", GuardVerdict("rewrite", long, 7))]})
    clerk = agent(tools=(ToolGrant("plain"), ToolGrant("asks", approval="ask")))
    runs, _ = make(program, clerk, guards=guards)
    run_id = await runs.start("clerk", "go", actor="uid:1")
    async for event in runs.watch(run_id):
        if event.type == "approval.asked":
            await runs.deny(runs.approvals()[0].id, "uid:1", long)
    assert (await runs.wait(run_id)).status == "could_not"
    kept = runs.show(run_id)
    assert kept.text == "[{'error': 'ToolError'}, 7, None, {'error': 'PolicyDeniedError'}]"
    assert (len(kept.reason), len(kept.citations)) == (2000, 100)


async def test_guards_know_the_prompt_wherever_they_look() -> None:
    known: list[tuple[GuardStage, str]] = []

    class Listening:
        name = "listening"

        def check(self, stage: GuardStage, content: Json, context: GuardContext) -> GuardVerdict:
            known.append((stage, context.prompt))
            return GuardVerdict("pass")

    program = ScriptedProgram(lambda _: (PlainEffect(),), judged=True)
    guards = FixedGuards({stage: (Listening(),) for stage in GuardStage})
    runs, _ = make(program, guards=guards)
    await runs.wait(await runs.start("clerk", "What is 1234 * 5678?", actor="uid:1"))
    assert known == [(stage, "What is 1234 * 5678?") for stage in GuardStage]
