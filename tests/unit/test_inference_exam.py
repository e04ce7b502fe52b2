"""The examination of tool calling: its cases, its marks, its verdicts; and the bench around it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest

from node.clock import ManualClock
from node.errors import ContextOverflowError, ModelError, RunnerCrashedError
from node.inference import (
    Call,
    Fail,
    Generation,
    Say,
    ScriptedEngine,
    Token,
    ToolCall,
    Wait,
    run_bench,
)
from node.inference.models.exam import Exam, examine
from node.inference.models.exam_cases import CASES, KINDS, LIBRARY, YARD, Calls, Case, Says
from node.inference.scripted import Step

TRAINING = Path(__file__).resolve().parents[2] / "scripts" / "default_model"
BY_PROMPT = {case.asked: case for case in CASES}


def case_of(request: Generation) -> tuple[Case, Calls | Says]:
    """The case that is asked, and what must follow now."""
    asked = next(message.content for message in request.messages if message.role == "user")
    case = BY_PROMPT[asked]
    made = sum(bool(message.tool_calls) for message in request.messages)
    return case, case.expected[made - (case.given is not None)]


def right(request: Generation) -> Step:
    """What a model that can do everything says."""
    case, expected = case_of(request)
    if isinstance(expected, Says):
        return Say(f"There was a problem: {' '.join(expected.words)}")
    arguments = expected.arguments
    if arguments is None:
        schema = next(tool.parameters for tool in case.tools if tool.name == expected.tool)
        arguments = dict.fromkeys(schema["required"], "east")  # type: ignore[union-attr]
        if expected.tool == "term_translate":
            arguments["language"] = "fr"
    return Call(ToolCall(expected.tool, arguments))


def taken(step: object) -> Exam:
    return asyncio.run(examine(ScriptedEngine(step), "default"))  # type: ignore[arg-type]


def one(case: Case, step: Step) -> str:
    """The problem of one case answered so."""
    engine = ScriptedEngine(lambda _request: step)
    exam = asyncio.run(examine(engine, "default", cases=[case]))
    return exam.marks[0].problem


# ── the cases ───────────────────────────────────────────────────────────────────────────────


def test_there_are_six_of_each_kind() -> None:
    assert len(CASES) == len(BY_PROMPT) == 30
    assert [sum(case.kind == kind for case in CASES) for kind in KINDS] == [6] * 5


def test_what_is_expected_can_be_done() -> None:
    for case in CASES:
        schemas = {tool.name: tool.parameters for tool in case.tools}
        steps: list[Calls | Says | ToolCall] = [*case.expected]
        calls = [step for step in steps if isinstance(step, Calls)]
        others = [call for step in steps if isinstance(step, Says) for call in step.instead]
        for call in calls:
            assert call.tool in schemas
            if call.arguments is not None:
                jsonschema.validate(call.arguments, schemas[call.tool])
        for other in [*others, *([case.given[0]] if case.given else [])]:
            jsonschema.validate(other.arguments, schemas[other.name])


def test_no_model_of_ours_is_trained_on_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(TRAINING))
    from data import Maker
    from other_tools import OTHERS

    names = {name for other in OTHERS.values() for name in other.names.split("|")}
    assert not names & {tool.name for tool in (*LIBRARY, *YARD)}
    maker = Maker(7)
    asked = {
        turn["content"].strip(" .?!").casefold()
        for _ in range(300)
        for turn in maker.conversation().messages
        if turn["role"] == "user"
    }
    assert not asked & {case.asked.strip(" .?!").casefold() for case in CASES}
    sys.modules.pop("data", None)


# ── marks ───────────────────────────────────────────────────────────────────────────────────


def test_a_model_that_does_all_of_it_is_fit() -> None:
    exam = taken(right)
    assert [mark.problem for mark in exam.marks if mark.problem] == []
    assert exam.verdict == "fit for agents"
    assert exam.passed(constrained=False) == exam.cases(constrained=True) == 30


def test_a_model_that_writes_bad_calls_is_fit_with_the_grammar_only() -> None:
    def step(request: Generation) -> Step:
        return right(request) if request.constrained else Say("{", malformed="no JSON")

    exam = taken(step)
    assert exam.verdict == "only with grammar"
    assert exam.passed(constrained=False) == 0


def test_a_model_that_always_calls_is_not_fit_however_well_it_calls() -> None:
    def step(request: Generation) -> Step:
        case, _ = case_of(request)
        calls = case.kind == "no tool fits"
        return Call(ToolCall("shelf_lookup", {"title": "x"})) if calls else right(request)

    exam = taken(step)
    assert exam.passed(constrained=True) == 24
    assert exam.verdict == "not fit"


def test_a_model_that_never_calls_is_not_fit() -> None:
    assert taken(lambda _request: Say("I cannot.")).verdict == "not fit"


def test_what_cannot_be_asked_is_not_passed() -> None:
    for error in (ContextOverflowError("too long"), RunnerCrashedError("died")):
        exam = taken(lambda _request, error=error: Fail(error))
        assert exam.verdict == "not fit"
        assert all("could not be asked" in mark.problem for mark in exam.marks)


def find(kind: str, number: int = 0) -> Case:
    return [case for case in CASES if case.kind == kind][number]


def test_arguments_must_be_exact_and_numbers_are_numbers() -> None:
    case = find("exact arguments", 4)
    (expected,) = case.expected
    assert isinstance(expected, Calls)
    assert expected.arguments is not None
    arguments = expected.arguments
    assert one(case, Call(ToolCall("sensor_alarm", arguments))) == ""
    for wrong in (
        {**arguments, "above": 37},
        {**arguments, "notify": ["bo", "ana"]},
        {**arguments, "more": 1},
        {"sensor": "T4"},
    ):
        assert "and should with" in one(case, Call(ToolCall("sensor_alarm", wrong)))
    parcel = find("exact arguments", 5)
    (label,) = parcel.expected
    assert isinstance(label, Calls)
    assert label.arguments is not None
    for express, is_right in ((True, True), (1, False)):
        call = ToolCall("parcel_label", {**label.arguments, "express": express})
        assert (one(parcel, Call(call)) == "") is is_right
    water = find("exact arguments", 2)
    assert one(water, Call(ToolCall("bed_water", {"bed": "south", "litres": 12.0}))) == ""
    assert one(water, Call(ToolCall("bed_water", {"bed": "south", "litres": True}))) != ""


def test_the_right_tool_with_impossible_arguments_is_wrong() -> None:
    case = find("right tool", 4)
    assert one(case, Call(ToolCall("bed_readings", {"bed": "east"}))) == ""
    assert "is not one of" in one(case, Call(ToolCall("bed_readings", {"bed": "up"})))
    assert "should call bed_readings" in one(case, Call(ToolCall("bed_water", {"bed": "east"})))
    assert "should call bed_readings" in one(case, Say("Humid."))
    two = Call(*[ToolCall("bed_readings", {"bed": "east"})] * 2)
    assert "several calls" in one(case, two)


def test_after_an_error_it_is_told_or_done_otherwise_but_not_repeated() -> None:
    case = find("after an error", 5)
    assert case.given is not None
    assert one(case, Say("At most 300 can be ordered, so 400 was not ordered.")) == ""
    assert one(case, Call(ToolCall("stock_order", {"part": "P-77", "quantity": 300}))) == ""
    assert "should answer" in one(case, Call(case.given[0]))
    assert "does not tell" in one(case, Say("Done, 400 are on their way."))
    assert one(case, Say(" ")) == "said nothing"


def test_the_result_of_the_first_step_must_be_told() -> None:
    case = find("two steps")
    first = ToolCall("shelf_lookup", {"title": "Persuasion"})

    def told(words: str) -> str:
        engine = ScriptedEngine(lambda r: Say(words) if len(r.messages) > 2 else Call(first))
        return asyncio.run(examine(engine, "default", cases=[case])).marks[0].problem

    assert "does not tell" in told("It is on a shelf.")
    assert told("Shelf C17.") == ""


def test_an_answer_without_end_is_left() -> None:
    engine = ScriptedEngine(lambda _request: Say("well " * 400))
    exam = asyncio.run(examine(engine, "default", cases=[find("no tool fits")]))
    assert "went on for over 600 characters" in exam.marks[0].problem


# ── the bench ───────────────────────────────────────────────────────────────────────────────


class Ticking(ManualClock):
    """Every look at the clock takes a hundredth of a second."""

    def monotonic(self) -> float:
        self.advance(0.01)
        return super().monotonic()


def agent(request: Generation) -> Step:
    if request.messages[0].role == "system":
        return right(request)
    if request.tools:
        return Call(ToolCall("diary_write", {"entry": "word " * 300}))
    return Say("Yes.")


async def test_a_bench_measures_and_examines() -> None:
    engine = ScriptedEngine(agent)
    told: list[str] = []
    found = await run_bench(
        engine,
        "default",
        memory=lambda: 123,
        clock=Ticking(),
        progress=lambda what, _done, _every: told.append(what),
    )
    record = found.record()
    assert record.verdict == "fit for agents"
    assert (record.exam_cases, record.exam_grammar, record.exam_plain) == (30, 30, 30)
    assert record.agents == (1, 4, 8)
    assert all(rate > 0 for rate in (*record.prompt_tokens_per_s, *record.generated_tokens_per_s))
    assert record.memory_bytes == 123
    assert record.first_token_kept_s > 0
    assert record.first_token_cold_s > 0
    assert record.at.startswith("2023-11-14T22:1")
    assert record.sha256 == (await engine.info("default")).sha256
    assert list(dict.fromkeys(told)) == ["loading", "speed", "first token", "examination"]
    prompts = {m.content for r in engine.requests for m in r.messages if "diary" not in m.content}
    assert len(prompts) > 13  # prompts that are alike would be kept, and not measured


class Slow(ScriptedEngine):
    """Takes its time, one token after another: seconds for each it reads and each it makes."""

    def __init__(self, clock: ManualClock, reads_s: float, makes_s: float) -> None:
        super().__init__(agent)
        self.clock, self.reads_s, self.makes_s = clock, reads_s, makes_s

    async def generate(self, request: Generation) -> AsyncGenerator[Token, None]:
        self.clock.advance(self.reads_s * await self.count(request))
        async with aclosing(super().generate(request)) as tokens:
            async for token in tokens:
                self.clock.advance(self.makes_s)
                yield token


@pytest.mark.parametrize(
    ("reads_s", "makes_s", "agents", "left"),
    [
        (0.0001, 0.001, (1, 4, 8), range(1)),
        (0.001, 0.02, (1, 4, 8), range(1, 15)),
        (0.003, 0.05, (1, 4, 8), range(15, 25)),
        (0.03, 0.15, (1, 4), range(25, 30)),
        (0.2, 0.5, (1,), range(30, 31)),
    ],
)
async def test_a_slow_machine_is_asked_less_and_not_longer(
    reads_s: float, makes_s: float, agents: tuple[int, ...], left: range
) -> None:
    clock = ManualClock()
    found = await run_bench(
        Slow(clock, reads_s, makes_s), "default", memory=lambda: 0, clock=clock, limit_s=120
    )
    a_case_s = 700 * reads_s + 60 * makes_s  # as many as agents may be under way at the end
    assert clock.monotonic() < 120 * 1.25 + agents[-1] * a_case_s
    assert tuple(speed.agents for speed in found.speeds) == agents
    assert found.exam.left in left
    assert found.exam.cases(constrained=True) == found.exam.cases(constrained=False)
    assert ("8 agents at once" in found.left_out) == (8 not in agents)
    assert any("of the examination's 30 cases" in what for what in found.left_out) == (
        found.exam.left > 0
    )


async def test_an_answer_that_never_comes_is_not_waited_for() -> None:
    never = asyncio.Event()

    def stuck(request: Generation) -> Step:
        case, _ = case_of(request)
        step = right(request)
        assert isinstance(step, Say | Call)
        return Wait(never, step) if case.kind == "two steps" and request.constrained else step

    exam = await examine(ScriptedEngine(stuck), "default", within_s=0.5)
    assert exam.left == 6
    assert exam.verdict == "not examined"
    kinds = [mark.case.kind for mark in exam.marks if mark.constrained]
    assert kinds == [case.kind for case in CASES if case.kind != "two steps"]


async def test_whenever_time_is_over_all_kinds_were_asked_alike() -> None:
    engine = ScriptedEngine(right)
    await examine(engine, "default")
    first = [case_of(request)[0].kind for request in engine.requests[:10]]
    assert set(first) == set(KINDS)


async def test_a_model_that_is_not_there_is_an_error() -> None:
    with pytest.raises(ModelError):
        await run_bench(ScriptedEngine(agent), "none", memory=lambda: 0)


def test_verdicts_want_four_in_five_and_half_of_each_kind() -> None:
    marks = list(taken(right).marks)

    def without(count: int, *kinds: str) -> str:
        each = [[m for m in marks if m.constrained and m.case.kind == kind] for kind in kinds]
        wrong = [mark for some in each for mark in some[:count]]
        kept = [replace(m, problem="no") if m in wrong else m for m in marks]
        return Exam(tuple(kept)).verdict

    assert without(3, "two steps") == "fit for agents"
    assert without(4, "two steps") == "not fit"
    assert without(3, "two steps", "right tool") == "fit for agents"
    assert without(2, "two steps", "right tool", "no tool fits", "after an error") == "not fit"
