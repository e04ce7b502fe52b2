"""Approvals, taint, emergency stop, cancelling and draining."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest
from helpers.runs import SlowLog, left_of, make, question_of, script, settled

from node.clock import ManualClock
from node.errors import ApprovalError, JournalError, RunStoppedError
from node.journal import Draft, Entry, MemoryLog
from node.runs import (
    Answer,
    GuardContext,
    GuardStage,
    GuardVerdict,
    NodeLimits,
    ProgramRun,
    Runs,
    StepKind,
)
from node.runs.agent import BudgetLimits, ToolGrant
from node.runs.effect import PASS, Effect, Usage
from node.runs.policy import ManifestPolicy
from node.runs.taint import covers
from node.runs.testing import (
    CountingEffect,
    FixedGuards,
    PlainEffect,
    ScriptedProgram,
    WaitingEffect,
    agent,
)
from node.types import Json, digest

ASKING = agent("clerk", tools=(ToolGrant("plain", approval="ask"), ToolGrant("counter")))


async def test_an_approved_step_happens_and_says_by_whom() -> None:
    effect = PlainEffect(args={"to": "all"}, value="done")
    runs, log = make(script(effect), ASKING)
    run_id = await runs.start("clerk", "go", actor="uid:1")
    question = await question_of(runs, run_id)
    assert (question.name, question.args, question.rule) == (
        "plain.read",
        {"to": "all"},
        "tools.plain.approval",
    )
    assert runs.show(run_id).status == "waiting"
    assert effect.performed == []
    await runs.approve(question.id, "uid:1000")
    assert (await runs.wait(run_id)).text == '["done"]'
    intent = next(e for e in log.entries() if e.type == "step.intent")
    settled = next(e for e in log.entries() if e.type == "approval.settled")
    assert intent.draft.policy is not None
    assert intent.draft.policy.verdict == "approved"
    assert settled.index in intent.draft.cause
    assert settled.draft.actor == "uid:1000"
    assert runs.approvals() == []


async def test_a_denied_step_does_not_happen() -> None:
    effect = PlainEffect()
    runs, log = make(script(effect), ASKING)
    run_id = await runs.start("clerk", "go", actor="uid:1")
    question = await question_of(runs, run_id)
    await runs.deny(question.id, "uid:1000", "too risky")
    assert (await runs.wait(run_id)).text == '[{"error":"PolicyDeniedError"}]'
    assert effect.performed == []
    refused = next(e for e in log.entries() if e.type == "step.result")
    assert "too risky" in refused.data["error"]["message"]
    with pytest.raises(ApprovalError):
        await runs.approve(question.id, "uid:1000")


async def test_nobody_answering_is_a_no() -> None:
    effect = PlainEffect()
    runs, log = make(script(effect), ASKING, limits=NodeLimits(approval_seconds=0.01))
    result = await runs.wait(await runs.start("clerk", "go", actor="uid:1"))
    assert result.text == '[{"error":"PolicyDeniedError"}]'
    assert effect.performed == []
    intent = next(e for e in log.entries() if e.type == "step.intent")
    assert intent.draft.policy is not None
    assert intent.draft.policy.verdict == "expired"


async def test_an_answer_that_comes_too_late_tells_the_run_no() -> None:
    """The machine slept: its clock went on, and what waits did not."""
    clock = ManualClock()
    runs, _ = make(script(PlainEffect()), ASKING, clock=clock)
    run_id = await runs.start("clerk", "go", actor="uid:1")
    async for event in runs.watch(run_id):
        if event.type == "approval.asked":
            break
    (question,) = runs.approvals()
    clock.advance(86_401)
    with pytest.raises(ApprovalError, match="expired"):
        await runs.approve(question.id, "uid:1")
    result = await asyncio.wait_for(runs.wait(run_id), 5)
    assert result.text == '[{"error":"PolicyDeniedError"}]'


async def test_an_answer_in_time_counts_however_long_it_takes_to_write(
    pass_time: Callable[[float], None],
) -> None:
    """The time of its question is over by then."""
    log = SlowLog(clock=ManualClock())
    log.moments, log.when = 20, "approval.settled"
    log.then = lambda: pass_time(NodeLimits().approval_seconds + 1)
    runs, _ = make(script(PlainEffect(value=1)), ASKING, log=log)
    run_id = await runs.start("clerk", "go", actor="uid:1")
    await runs.approve((await question_of(runs, run_id)).id, "uid:1")
    assert (await runs.wait(run_id)).text == "[1]"


async def test_the_first_answer_counts_and_there_is_no_second() -> None:
    log = SlowLog(clock=ManualClock())
    runs, _ = make(script(PlainEffect(value=1)), ASKING, log=log)
    run_id = await runs.start("clerk", "go", actor="uid:1")
    question = (await question_of(runs, run_id)).id
    answers = (runs.deny(question, "uid:1"), runs.approve(question, "uid:2"))
    _, second = await asyncio.gather(*answers, return_exceptions=True)
    assert isinstance(second, ApprovalError)
    assert (await runs.wait(run_id)).text == '[{"error":"PolicyDeniedError"}]'
    assert [e.type for e in log.entries()].count("approval.settled") == 1


async def test_an_answer_that_the_log_does_not_take_leaves_the_question_open() -> None:
    runs, _ = make(script(PlainEffect(value=1)), ASKING)
    run_id = await runs.start("clerk", "go", actor="uid:1")
    question = (await question_of(runs, run_id)).id
    with pytest.raises(JournalError):
        await runs.deny(question, "uid:1", "no text: \ud800")
    await runs.approve(question, "uid:1")
    assert (await runs.wait(run_id)).text == "[1]"


async def test_what_was_asked_about_cannot_be_guessed_once_it_is_erased() -> None:
    runs, log = make(script(PlainEffect(args={"to": "anna"})), ASKING)
    await runs.start("clerk", "go", actor="uid:1")
    await settled()
    (asked,) = (entry for entry in log.entries() if entry.type == "approval.asked")
    assert asked.data["digest"] != digest({"to": "anna"})
    await runs.drain(0)


async def test_a_question_of_an_older_log_is_not_asked_again() -> None:
    effect = PlainEffect(args={"to": "anna"})
    runs, log = make(script(effect), ASKING)
    await runs.start("clerk", "go", actor="uid:1")
    await settled()
    await runs.drain(0)

    def older(entry: Entry) -> Draft:
        if entry.type != "approval.asked":
            return entry.draft
        return replace(entry.draft, data={**entry.data, "digest": digest({"to": "anna"})})

    after, _ = make(script(effect), ASKING, log=await left_of(log, change=older))
    (run_id,) = await after.recover()
    (question,) = after.approvals()
    await after.approve(question.id, "uid:1")
    assert (await after.wait(run_id)).status == "completed"
    assert effect.performed == [f"{run_id}:1"]


async def test_a_question_survives_a_restart_and_may_be_answered_in_between() -> None:
    clock = ManualClock()
    effect = PlainEffect(value="done")
    before, log = make(script(effect), ASKING, clock=clock)
    run_id = await before.start("clerk", "go", actor="uid:1")
    question = await question_of(before, run_id)
    await asyncio.wait_for(before.drain(1000), 5)  # nobody waits for a person
    assert before.show(run_id).status == "parked"

    after, _ = make(script(effect), ASKING, log=log, clock=clock)
    assert await after.recover() == [run_id]
    (again,) = after.approvals()
    assert (again.id, again.expires) == (question.id, question.expires)
    await after.approve(again.id, "uid:7")
    assert (await after.wait(run_id)).text == '["done"]'
    assert [e.type for e in log.entries()].count("approval.asked") == 1


@pytest.mark.parametrize(
    "other",
    [PlainEffect(args="b"), PlainEffect(args="a", destinations=("https://b.example",))],
    ids=["arguments", "place"],
)
async def test_an_answer_does_not_cover_anything_else(other: PlainEffect) -> None:
    """A program that comes back with other arguments, or sends elsewhere, is asked anew."""
    clock = ManualClock()
    before, log = make(script(PlainEffect(args="a")), ASKING, clock=clock)
    run_id = await before.start("clerk", "go", actor="uid:1")
    question = await question_of(before, run_id)
    await before.approve(question.id, "uid:1000")
    await before.wait(run_id)
    cut = await left_of(
        log, "step.intent", "step.result", "run.finished", into=MemoryLog(clock=clock)
    )
    after, _ = make(script(other), ASKING, log=cut, clock=clock)
    await after.recover()
    again = await asked_now(after, run_id)
    assert again.args == other.args
    assert other.performed == []
    await after.deny(again.id, "uid:1")
    await after.wait(run_id)


async def test_a_question_that_needs_no_answer_any_more_is_closed() -> None:
    """The model was moved to where its owner lets it send, while the node was down."""
    clerk = agent(send_to=("https://b.example",))
    first = PlainEffect(args="a", destinations=("https://a.example",))
    before, log = make(script(*TAINTED, first), clerk)
    run_id = await before.start("clerk", "go", actor="uid:1")
    await question_of(before, run_id)
    await before.drain(5)
    slow = WaitingEffect("plain.slow")
    moved = PlainEffect(args="a", destinations=("https://b.example",))
    after, _ = make(script(*TAINTED, moved, slow), clerk, log=log)
    await after.recover()
    await slow.begun.wait()
    assert (after.approvals(), len(moved.performed)) == ([], 1)
    slow.release.set()
    await after.wait(run_id)


async def test_a_question_about_a_step_that_the_budget_refuses_by_now_is_closed() -> None:
    """Another run spent what was left of the day, as an emergency stop was lifted."""
    asks, pays = PlainEffect("asks.it"), PlainEffect(usage=Usage(msat=3000))
    pays_too = PlainEffect("asks.it", usage=Usage(msat=3000))
    slow = WaitingEffect("plain.slow")

    def steps(prompt: str) -> list[Effect]:
        return [asks, pays] if prompt == "first" else [pays_too, slow]

    grants = (ToolGrant("asks", approval="ask"), ToolGrant("plain"))
    clerk = agent(tools=grants, budget=BudgetLimits(sats=5, sats_per_day=5))
    runs, _ = make(ScriptedProgram(steps), clerk)
    first = await runs.start("clerk", "first", actor="uid:1")
    question = await question_of(runs, first)
    late = await runs.start("clerk", "late", actor="uid:1")
    async for event in runs.watch(late):
        if event.type == "approval.asked":
            break
    await runs.estop("uid:1")
    await runs.approve(question.id, "uid:1")
    await runs.resume("uid:1")
    await slow.begun.wait()
    assert (runs.approvals(), pays_too.performed) == ([], [])
    slow.release.set()
    await runs.wait(late)


async def asked_now(runs: Runs, run_id: str):
    async for _ in runs.watch(run_id):
        open_now = runs.approvals()
        if open_now:
            return open_now[-1]
    raise AssertionError("nobody was asked")


async def test_the_wrong_id_or_a_second_answer_is_an_error() -> None:
    runs, _ = make(script())
    for wrong in ("", "17", "-1", "x", "²"):
        with pytest.raises(ApprovalError):
            await runs.approve(wrong, "uid:1")


TAINTED = [
    PlainEffect(args=1, labels=frozenset({"untrusted"})),
    PlainEffect(args=2, labels=frozenset({"private"})),
]


def send(place: str) -> PlainEffect:
    return PlainEffect(args=3, destinations=(place,), value="sent")


async def test_what_is_denied_is_not_asked_about_for_what_was_read() -> None:
    effect = replace(send("https://a.example/*"), tool="mail")
    runs, log = make(script(*TAINTED, effect), limits=NodeLimits(approval_seconds=0.1))
    result = await runs.wait(await runs.start("clerk", "go", actor="uid:1"))
    assert result.text.endswith('{"error":"PolicyDeniedError"}]')
    assert "approval.asked" not in [entry.type for entry in log.entries()]
    assert effect.performed == []


@pytest.mark.parametrize(
    ("places", "rule", "verdict"),
    [
        (("nostr:anna",), "send_to", "allow"),
        (("nostr:bob",), "kind.message", "ask"),
        (("nostr:anna", "nostr:bob"), "kind.message", "ask"),
        ((), "kind.message", "ask"),
    ],
)
def test_messages_go_where_the_owner_listed(
    places: tuple[str, ...], rule: str, verdict: str
) -> None:
    message = PlainEffect(kind=StepKind.MESSAGE, destinations=places)
    decided = ManifestPolicy().decide(message, agent(send_to=("nostr:anna",)), frozenset())
    assert (decided.rule, decided.verdict) == (rule, verdict)


async def test_a_run_with_both_labels_asks_before_it_sends() -> None:
    effect = send("https://a.example/*")
    runs, _ = make(script(*TAINTED, effect))
    run_id = await runs.start("clerk", "go", actor="uid:1")
    question = await question_of(runs, run_id)
    assert question.rule == "taint.send"
    assert question.reason == (
        "the run has read what is private and what others wrote; it can send to https://a.example/*"
    )
    assert effect.performed == []
    await runs.deny(question.id, "uid:1")
    assert "sent" not in (await runs.wait(run_id)).text


async def test_a_listed_destination_needs_no_question() -> None:
    clerk = agent("clerk", "plain", send_to=("https://a.example/*",))
    runs, _ = make(script(*TAINTED, send("https://a.example/*")), clerk)
    result = await runs.wait(await runs.start("clerk", "go", actor="uid:1"))
    assert result.text == '[null,null,"sent"]'


async def test_what_a_branch_read_taints_its_parent_and_its_heirs() -> None:
    async def program(run: ProgramRun) -> Answer:
        with run.branch("reader") as child:
            for effect in TAINTED:
                await child.step(effect)
        assert run.labels == {"untrusted", "private"}
        heir = run.branch("writer")
        await heir.step(send("https://a.example/*"))
        return Answer("completed", "sent")

    runs, _ = make(program)
    run_id = await runs.start("clerk", "go", actor="uid:1")
    question = await question_of(runs, run_id)
    assert (question.rule, question.path) == ("taint.send", "2.writer.1")
    await runs.approve(question.id, "uid:1")
    assert (await runs.wait(run_id)).status == "completed"


async def test_labels_are_back_after_a_restart() -> None:
    clock = ManualClock()
    hold = WaitingEffect(args="w")
    before, log = make(script(*TAINTED, hold, send("https://a.example/*")), clock=clock)
    run_id = await before.start("clerk", "go", actor="uid:1")
    await hold.begun.wait()
    await before.drain(0)

    free = PlainEffect(args="w")
    after, _ = make(script(*TAINTED, free, send("https://a.example/*")), log=log, clock=clock)
    await after.recover()
    question = await question_of(after, run_id)
    assert question.rule == "taint.send"
    await after.deny(question.id, "uid:1")
    await after.wait(run_id)


@pytest.mark.parametrize(
    ("listed", "place", "yes"),
    [
        ("https://a.example/*", "https://a.example/*", True),
        ("https://a.example/*", "https://a.example/x/y?z=1", True),
        ("https://a.example/v1/*", "https://a.example/v1/../v2", False),
        ("https://a.example/v1/*", "https://a.example/v1/%2e%2e/v2", False),
        ("https://a.example/v1/*", "https://a.example/v1/%252e%252e/v2", False),
        ("https://a.example/v1/*", "https://a.example/v1/..\\x", False),
        ("https://a.example/*", "https://a.example.evil.example/x", False),
        ("https://*", "https://evil.example/x", False),
        ("https://*.example/*", "https://evil.example/x", False),
        ("npub1abc", "npub1abc", True),
        ("npub1*", "npub1abc", False),
        ("*", "https://evil.example/", False),
    ],
)
def test_destinations(listed: str, place: str, yes: bool) -> None:
    assert covers(listed, place) is yes


class Escalates:
    name = "wary"

    def check(self, stage: GuardStage, content: Json, context: GuardContext) -> GuardVerdict:
        return GuardVerdict("escalate" if "odd" in str(content) else "pass", "looks odd")


@pytest.mark.parametrize("yes", [True, False])
@pytest.mark.parametrize("restart", [True, False])
async def test_an_escalated_result_waits_for_a_person(yes: bool, restart: bool) -> None:
    guards, clock = FixedGuards({GuardStage.TOOL_RESULT: [Escalates()]}), ManualClock()
    effect = PlainEffect(value="odd thing", traceless=False)
    runs, log = make(script(effect), guards=guards, clock=clock)
    run_id = await runs.start("clerk", "go", actor="uid:1")
    question = await question_of(runs, run_id)
    if restart:
        await runs.drain(0)
        runs, _ = make(script(effect), guards=guards, log=log, clock=clock)
        await runs.recover()
    await (runs.approve if yes else runs.deny)(question.id, "uid:1")
    text = (await runs.wait(run_id)).text
    assert ("odd thing" in text) is yes
    assert len(effect.performed) == 1


async def test_a_held_result_of_a_cancelled_run_is_one_result_and_counts_once() -> None:
    guards = FixedGuards({GuardStage.TOOL_RESULT: [Escalates()]})
    effect = PlainEffect(value="odd thing", traceless=False)
    runs, log = make(script(effect), guards=guards)
    run_id = await runs.start("clerk", "go", actor="uid:1")
    await question_of(runs, run_id)
    await runs.cancel(run_id)
    kinds = [e.type for e in log.run_entries(run_id) if e.draft.path == "1"]
    assert kinds.count("step.result") == 1
    assert (await runs.wait(run_id)).usage.tool_calls == 1


@pytest.mark.parametrize("yes", [True, False])
async def test_escalated_arguments_wait_for_a_person(yes: bool) -> None:
    guards = FixedGuards({GuardStage.TOOL_ARGUMENTS: [Escalates()]})
    effect = PlainEffect(args="odd", value="done")
    runs, _ = make(script(effect), guards=guards)
    run_id = await runs.start("clerk", "go", actor="uid:1")
    question = await question_of(runs, run_id)
    await (runs.approve if yes else runs.deny)(question.id, "uid:1")
    await runs.wait(run_id)
    assert bool(effect.performed) is yes


@dataclass(frozen=True)
class Changing(PlainEffect):
    """Is `then` where a guard changes its arguments."""

    then: PlainEffect = field(default_factory=PlainEffect)

    def with_args(self, args: Json) -> PlainEffect:
        return replace(self.then, args=args)


class Redacts:
    name = "redacts"

    def check(self, stage: GuardStage, content: Json, context: GuardContext) -> GuardVerdict:
        hidden = str(content).replace("secret", "[hidden]")
        return GuardVerdict("rewrite", "hidden", hidden) if "secret" in str(content) else PASS


REDACTS = FixedGuards({GuardStage.TOOL_ARGUMENTS: [Redacts()]})


async def test_what_guards_changed_is_what_a_person_is_asked_about_and_what_happens() -> None:
    guards = FixedGuards({GuardStage.TOOL_ARGUMENTS: [Redacts(), Escalates()]})
    effect = Changing(args="odd secret")
    runs, _ = make(script(effect), guards=guards)
    run_id = await runs.start("clerk", "go", actor="uid:1")
    question = await question_of(runs, run_id)
    assert (question.kind, question.args) == ("guard", "odd [hidden]")
    await runs.approve(question.id, "uid:1")
    await runs.wait(run_id)
    assert (effect.performed, effect.then.performed) == ([], [f"{run_id}:1"])


async def test_policy_has_a_say_about_what_guards_changed() -> None:
    listed, other = "https://a.example", "https://b.example"
    then = PlainEffect(destinations=(other,))
    effect = Changing(args="secret", destinations=(listed,), then=then)
    runs, _ = make(script(*TAINTED, effect), agent(send_to=(listed,)), guards=REDACTS)
    run_id = await runs.start("clerk", "go", actor="uid:1")
    question = await question_of(runs, run_id)
    assert (question.rule, question.args) == ("taint.send", "[hidden]")
    await runs.deny(question.id, "uid:1")
    await runs.wait(run_id)
    assert then.performed == []

    then = PlainEffect(capabilities=frozenset({"http"}))
    runs, _ = make(script(Changing(args="secret", then=then)), guards=REDACTS)
    result = await runs.wait(await runs.start("clerk", "go", actor="uid:1"))
    assert (result.text, then.performed) == ('[{"error":"PolicyDeniedError"}]', [])


async def test_an_escalated_prompt_waits_for_a_person() -> None:
    guards = FixedGuards({GuardStage.INPUT: [Escalates()]})

    async def program(run: ProgramRun) -> Answer:
        return Answer("completed", (await run.guard(GuardStage.INPUT, run.prompt)).verdict)

    runs, _ = make(program, guards=guards)
    run_id = await runs.start("clerk", "odd", actor="uid:1")
    question = await question_of(runs, run_id)
    assert question.args == "odd"
    await runs.deny(question.id, "uid:1")
    assert (await runs.wait(run_id)).text == "fail"


# ── stopping ────────────────────────────────────────────────────────────────────────────────


async def test_cancel_ends_the_run_cleanly_and_settles_what_was_under_way(tmp_path) -> None:
    class Slow(CountingEffect):
        async def perform(self, key: str):
            outcome = await super().perform(key)
            begun.set()
            await asyncio.Event().wait()
            return outcome

    begun = asyncio.Event()
    effect = Slow(tmp_path / "count", 1)
    runs, log = make(script(effect, PlainEffect()))
    run_id = await runs.start("clerk", "go", actor="uid:1")
    await begun.wait()
    await runs.cancel(run_id, "enough", actor="uid:2")
    result = await runs.wait(run_id)
    assert (result.status, result.reason) == ("stopped", "enough (uid:2)")
    (recorded,) = [e for e in log.run_entries(run_id) if e.type == "step.result"]
    assert recorded.data["value"] == {"added": 1}
    await runs.cancel(run_id)  # harmless on a finished run


async def test_cancelling_before_the_first_step() -> None:
    runs, log = make(script(PlainEffect()))
    run_id = await runs.start("clerk", "go", actor="uid:1")
    await runs.cancel(run_id, "no")
    assert (await runs.wait(run_id)).status == "stopped"
    assert [e.type for e in log.entries()] == ["run.started", "run.finished"]


async def test_estop_stops_everything_until_resume_even_across_a_restart(tmp_path) -> None:
    clock = ManualClock()
    slow, count = WaitingEffect(args="w"), CountingEffect(tmp_path / "count", 1)
    runs, log = make(script(count, slow), clock=clock)
    ids = [await runs.start("clerk", f"go {n}", actor="uid:1") for n in range(2)]
    await slow.begun.wait()
    await runs.estop("uid:9")
    assert runs.stopped
    with pytest.raises(RunStoppedError):
        await runs.start("clerk", "more", actor="uid:1")
    with pytest.raises(RunStoppedError):
        await runs.wait(ids[0])

    fast = PlainEffect(args="w", value="fast")
    after, _ = make(script(count, fast), log=log, clock=clock)
    assert await after.recover() == []
    assert after.stopped
    with pytest.raises(RunStoppedError):
        await after.start("clerk", "more", actor="uid:1")
    assert sorted(await after.resume("uid:9")) == sorted(ids)
    for run_id in ids:
        assert (await after.wait(run_id)).text == '[{"added":1},"fast"]'
        assert count.happened(f"{run_id}:1") == 1


async def test_resume_in_the_same_process() -> None:
    slow = WaitingEffect()
    runs, _ = make(script(slow))
    run_id = await runs.start("clerk", "go", actor="uid:1")
    await slow.begun.wait()
    await runs.estop("uid:9")
    slow.release.set()
    assert await runs.resume("uid:9") == [run_id]
    assert (await runs.wait(run_id)).status == "completed"


async def test_drain_lets_quick_runs_finish_and_parks_the_rest() -> None:
    quick, slow = WaitingEffect(args="q"), WaitingEffect(args="s")

    async def program(run: ProgramRun) -> Answer:
        await run.step(quick if run.prompt == "quick" else slow)
        return Answer("completed", "ok")

    runs, log = make(program)
    one = await runs.start("clerk", "quick", actor="uid:1")
    two = await runs.start("clerk", "slow", actor="uid:1")
    await asyncio.gather(quick.begun.wait(), slow.begun.wait())
    asyncio.get_running_loop().call_later(0.01, quick.release.set)
    await runs.drain(0.2)
    assert (await runs.wait(one)).status == "completed"
    assert runs.show(two).status == "parked"
    assert [e.data["reason"] for e in log.entries() if e.type == "run.parked"] == ["shutdown"]
    with pytest.raises(RunStoppedError):
        await runs.start("clerk", "more", actor="uid:1")


async def test_cancelling_a_run_that_is_parked(tmp_path) -> None:
    clock, effect = ManualClock(), CountingEffect(tmp_path / "count", 1)

    class Slow(CountingEffect):
        async def perform(self, key: str):
            await super().perform(key)
            begun.set()
            await asyncio.Event().wait()
            raise AssertionError

    begun = asyncio.Event()
    before, log = make(script(Slow(effect.file, 1), PlainEffect()), clock=clock)
    run_id = await before.start("clerk", "go", actor="uid:1")
    await begun.wait()
    await before.estop("uid:9")

    plain = PlainEffect()
    after, _ = make(script(effect, plain), log=log, clock=clock)
    await after.recover()
    await after.cancel(run_id, "no more", actor="uid:1")
    result = await after.wait(run_id)
    assert result.status == "stopped"
    assert effect.happened(f"{run_id}:1") == 1
    assert plain.performed == []
    (recorded,) = [e for e in log.run_entries(run_id) if e.type == "step.result"]
    assert recorded.data["value"] == {"added": 1}


async def test_what_a_program_leaves_running_takes_no_more_steps(tmp_path) -> None:
    left: list[asyncio.Task] = []
    slow = WaitingEffect(args="slow", traceless=False)

    async def program(run: ProgramRun) -> Answer:
        left.append(asyncio.create_task(run.step(slow)))
        await slow.begun.wait()
        return Answer("completed", "done")

    runs, log = make(program)
    run_id = await runs.start("clerk", "go", actor="uid:1")
    assert (await runs.wait(run_id)).text == "done"
    with pytest.raises(asyncio.CancelledError):
        await left[0]
    kinds = [e.type for e in log.run_entries(run_id)]
    assert kinds == ["run.started", "step.intent", "step.result", "run.finished"]


async def test_the_network_without_a_named_place_is_anywhere() -> None:
    clerk = agent("clerk", tools=(ToolGrant("plain", http=("https://a.example/*",)),))
    effect = PlainEffect(args=3, capabilities=frozenset({"http"}))
    runs, _ = make(script(*TAINTED, effect), clerk)
    run_id = await runs.start("clerk", "go", actor="uid:1")
    question = await question_of(runs, run_id)
    assert question.rule == "taint.send"
    await runs.deny(question.id, "uid:1")
    await runs.wait(run_id)


async def test_a_prompt_that_is_no_unicode_is_taken_as_far_as_it_is() -> None:
    async def program(run: ProgramRun) -> Answer:
        return Answer("completed", run.prompt)

    runs, _ = make(program)
    run_id = await runs.start("clerk", "a\ud800b", actor="uid:1")
    assert (await runs.wait(run_id)).text == "a?b"
