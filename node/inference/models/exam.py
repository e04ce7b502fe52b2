"""Whether a model can work as an agent: thirty cases, with the grammar and without it.

With the grammar a call is always well-formed, so what is left to the model is to choose and to copy
rightly; without it the form too is its own doing. Both are marked alike, and the verdict is one of
three plain ones. The cases are in `exam_cases`; they are asked greedily, several at a time, and so
that whenever time is over about as many of each kind were asked, with the grammar and without.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final

import jsonschema

from node.clock import Clock, SystemClock
from node.errors import InferenceError
from node.inference.models.exam_cases import CASES, KINDS, SYSTEM, Calls, Case, Kind, Says
from node.inference.models.pins import Verdict
from node.inference.types import Engine, Finish, Generation, Message, Sampling, ToolCall
from node.types import Json

AT_ONCE: Final = 8
MAX_TOKENS: Final = 1024  # some models think before they call
MAX_CHARS: Final = 600  # of an answer, thoughts not counted: no case wants a third of it
PASS_SHARE: Final = 0.8
PASS_SHARE_OF_A_KIND: Final = 0.5


@dataclass(frozen=True)
class Marked:
    """A case and how it went; `problem` is empty where it was passed."""

    case: Case
    constrained: bool
    problem: str


@dataclass(frozen=True)
class Exam:
    """The cases as marked, with the grammar and without; for `left` more there was no time."""

    marks: tuple[Marked, ...]
    left: int = 0

    def passed(self, *, constrained: bool, kind: Kind | None = None) -> int:
        """How many cases were passed, of all kinds or of one."""
        return sum(not mark.problem for mark in self._of(constrained, kind))

    def cases(self, *, constrained: bool, kind: Kind | None = None) -> int:
        """How many there were."""
        return len(self._of(constrained, kind))

    @property
    def verdict(self) -> Verdict:
        """Four in five cases must be passed, and half of each kind.

        "not examined" where time was over before there were two of each.
        """
        if self.left and any(self.cases(constrained=True, kind=kind) < 2 for kind in KINDS):
            return "not examined"
        if not self._suffices(constrained=True):
            return "not fit"
        return "fit for agents" if self._suffices(constrained=False) else "only with grammar"

    def _suffices(self, *, constrained: bool) -> bool:
        def share(kind: Kind | None) -> float:
            return self.passed(constrained=constrained, kind=kind) / max(
                1, self.cases(constrained=constrained, kind=kind)
            )

        return share(None) >= PASS_SHARE and all(
            share(kind) >= PASS_SHARE_OF_A_KIND for kind in KINDS
        )

    def _of(self, constrained: bool, kind: Kind | None) -> list[Marked]:
        return [
            mark
            for mark in self.marks
            if mark.constrained == constrained and kind in (None, mark.case.kind)
        ]


async def examine(
    engine: Engine,
    model: str,
    *,
    cases: Iterable[Case] = CASES,
    max_tokens: int = MAX_TOKENS,
    within_s: float | None = None,
    at_once: int = AT_ONCE,
    done: Callable[[int, int], None] = lambda _done, _all: None,
    clock: Clock | None = None,
) -> Exam:
    """Asks all cases, with the grammar and without. `done` is told how many are, of how many.

    An answer may have `max_tokens`: a model that repeats itself without end takes all of them. A
    case whose two answers are not there `within_s` is left.

    A case that cannot be asked (its prompt does not fit, the template refuses it) is not passed.
    """
    time = clock or SystemClock()
    end = None if within_s is None else time.monotonic() + within_s
    turns = asyncio.Semaphore(at_once)
    marks: dict[tuple[int, bool], Marked] = {}
    numbered = list(enumerate(cases))
    asked = [(*item, how) for item in _kinds_in_turn(numbered) for how in (True, False)]

    async def one(number: int, case: Case, constrained: bool) -> None:
        async with turns, _until(end, time):
            if end is not None and time.monotonic() >= end:
                return
            try:
                problem = await _mark(engine, model, case, constrained, max_tokens)
            except InferenceError as error:
                problem = f"could not be asked: {error.message}"
            if end is None or time.monotonic() <= end:
                marks[number, constrained] = Marked(case, constrained, problem)
                done(len(marks), len(asked))

    async with asyncio.TaskGroup() as group:
        for item in asked:
            group.create_task(one(*item))
    whole = [number for number, _ in numbered if {(number, True), (number, False)} <= marks.keys()]
    kept = tuple(marks[number, how] for how in (True, False) for number in whole)
    return Exam(kept, left=len(numbered) - len(whole))


def _kinds_in_turn(cases: list[tuple[int, Case]]) -> list[tuple[int, Case]]:
    """The first of each kind, then the second of each, and so on."""
    seen: Counter[Kind] = Counter()
    places = {}
    for number, case in cases:
        places[number] = seen[case.kind]
        seen[case.kind] += 1
    return sorted(cases, key=lambda item: places[item[0]])


@asynccontextmanager
async def _until(end: float | None, clock: Clock) -> AsyncIterator[None]:
    """Leaves the block, without an error, when the time is over."""
    with suppress(TimeoutError):
        async with asyncio.timeout(None if end is None else max(0.0, end - clock.monotonic())):
            yield


async def _mark(engine: Engine, model: str, case: Case, constrained: bool, max_tokens: int) -> str:
    """What is wrong with the model's way through the case; "" if nothing."""
    messages = [Message("system", SYSTEM), Message("user", case.asked)]
    if case.given is not None:
        messages += _step(*case.given)
    for expected in case.expected:
        request = Generation(
            model,
            tuple(messages),
            case.tools,
            sampling=Sampling(max_tokens=max_tokens),
            parallel_tool_calls=False,
            constrained=constrained,
        )
        finish = await _ask(engine, request)
        if finish is None:
            return f"went on for over {MAX_CHARS} characters"
        if problem := _problem(case, expected, finish):
            return problem
        if isinstance(expected, Calls):
            messages += _step(finish.tool_calls[0], expected.result)
    return ""


async def _ask(engine: Engine, request: Generation) -> Finish | None:
    """How the answer ended; None if it was left because it went on and on."""
    length = 0
    async with aclosing(engine.generate(request)) as tokens:
        async for token in tokens:
            if token.finish is not None:
                return token.finish
            length += len(token.text)
            if length > MAX_CHARS:
                return None
    raise InferenceError("the engine ended an answer without saying how", hint="Try again.")


def _step(call: ToolCall, result: str) -> list[Message]:
    return [
        Message("assistant", tool_calls=(call,)),
        Message("tool", result, name=call.name),
    ]


def _problem(case: Case, expected: Calls | Says, finish: Finish) -> str:
    if finish.malformed:
        return f"not well-formed: {finish.malformed}"
    if isinstance(expected, Calls):
        return _problem_of_call(case, expected, finish)
    if finish.tool_calls:
        called = any(_same_call(finish.tool_calls[0], other) for other in expected.instead)
        return "" if called else f"called {_shown(finish.tool_calls[0])}, and should answer"
    said = finish.text.casefold()
    if not said.strip():
        return "said nothing"
    if expected.words and not any(word.casefold() in said for word in expected.words):
        return f"said {finish.text[:120]!r}, which does not tell the result"
    return ""


def _problem_of_call(case: Case, expected: Calls, finish: Finish) -> str:
    if len(finish.tool_calls) != 1:
        said = f"said {finish.text[:120]!r}" if not finish.tool_calls else "made several calls"
        return f"{said}, and should call {expected.tool}"
    (call,) = finish.tool_calls
    if call.name != expected.tool:
        return f"called {_shown(call)}, and should call {expected.tool}"
    if expected.arguments is None:
        return _invalid(case, call)
    if not _same(call.arguments, expected.arguments):
        return f"called {_shown(call)}, and should with {expected.arguments}"
    return ""


def _invalid(case: Case, call: ToolCall) -> str:
    (schema,) = (tool.parameters for tool in case.tools if tool.name == call.name)
    try:
        jsonschema.validate(call.arguments, schema)
    except jsonschema.ValidationError as error:
        return f"called {_shown(call)}: {error.message[:120]}"
    return ""


def _same_call(call: ToolCall, other: ToolCall) -> bool:
    return call.name == other.name and _same(call.arguments, other.arguments)


def _same(found: Json, expected: Json) -> bool:
    """Equal as JSON: 30 and 30.0 are one number, true and 1 are not."""
    if isinstance(found, dict) and isinstance(expected, dict):
        return set(found) == set(expected) and all(
            _same(found[key], expected[key]) for key in found
        )
    if isinstance(found, list) and isinstance(expected, list):
        return len(found) == len(expected) and all(map(_same, found, expected))
    if isinstance(found, bool) or isinstance(expected, bool):
        return found is expected
    return found == expected


def _shown(call: ToolCall) -> str:
    return f"{call.name}({', '.join(f'{key}={value!r}' for key, value in call.arguments.items())})"[
        :200
    ]
