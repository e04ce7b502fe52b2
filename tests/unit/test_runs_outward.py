"""Model steps that leave this machine: where the door was told they go is where they go."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from typing import cast

import pytest

from node.errors import InferenceError
from node.inference import (
    Destination,
    Engine,
    Finish,
    FunctionSpec,
    Generation,
    Message,
    ModelInfo,
    Token,
    ToolCall,
)
from node.runs.context import Conversation, Exchange
from node.runs.effect import Effect
from node.runs.fit_effect import Fit, plan_of
from node.runs.model_effect import Generate, Opening

THERE, ELSEWHERE = "https://a.example", "https://b.example"
ASKED = Generation("far", (Message("user", "Hello"),))


@dataclass
class Moving:
    """An engine of a model that may move; `bound` is where its requests were to go."""

    url: str = THERE
    bound: list[str] = field(default_factory=list)

    def destination(self, model: str) -> Destination:
        if not self.url:
            raise InferenceError(f"there is no model {model}")
        return Destination(self.url, keyed=True)

    async def info(self, model: str) -> ModelInfo:
        return ModelInfo(model, "", self.url, 0, 1000, remote=True, counts=True)

    async def count(self, request: Generation) -> int:
        self.bound.append(request.bound_for)
        return 10 + sum(len(message.content) for message in request.messages) // 4

    async def generate(self, request: Generation) -> AsyncIterator[Token]:
        self.bound.append(request.bound_for)
        yield Token("Hi", Finish("stop", "Hi", "Hi", (), 10, 1, 0.0))


def effects(engine: Moving) -> dict[str, Effect]:
    asked = cast("Engine", engine)
    return {
        "open": Opening(asked, ASKED, tuple),
        "generate": Generate(asked, ASKED, 100),
        "fit": Fit(asked, ASKED, Conversation("", "Hello")),
    }


@pytest.mark.parametrize("name", ["open", "generate", "fit"])
async def test_a_model_that_moved_once_it_was_let_through_is_sent_nothing_elsewhere(
    name: str,
) -> None:
    engine = Moving()
    effect = effects(engine)[name]
    assert (effect.needs.destinations, effect.needs.traceless) == ((THERE,), False)
    engine.url = ELSEWHERE
    await effect.perform("r-1:1")
    assert {*engine.bound} == {THERE}


def test_what_a_model_is_told_of_functions_is_sent_too() -> None:
    told = FunctionSpec("read", "Reads a file. " * 100, {"type": "object"})
    bare, told_of = (
        Generate(cast("Engine", Moving()), replace(ASKED, tools=tools), 100).needs.usage
        for tools in ((), (told,))
    )
    assert told_of.egress_bytes - bare.egress_bytes > len(told.description)


@pytest.mark.parametrize("name", ["open", "generate", "fit"])
def test_where_nobody_can_tell_where_a_model_is_it_may_be_anywhere(name: str) -> None:
    needs = effects(Moving(""))[name].needs
    assert (needs.destinations, needs.traceless) == (("*",), False)


async def test_a_conversation_is_not_sent_forty_times_to_make_it_fit() -> None:
    exchanges = tuple(
        Exchange(
            Message("assistant", "", (ToolCall("read", {"part": n}),)),
            (Message("tool", f"{n} word " * 40, name="read"),),
        )
        for n in range(40)
    )
    talk, engine = Conversation("Be brief.", "Read it all.", exchanges=exchanges), Moving()
    fit = Fit(cast("Engine", engine), replace(ASKED, messages=talk.messages()), talk)
    outcome = await fit.perform("r-1:1")
    found = plan_of(outcome)
    rest = replace(ASKED, messages=talk.without(found.summarise).messages())
    assert (found.fits, found.keep) == (True, None)
    assert found.room // 2 < await engine.count(rest) <= found.room - found.summary_tokens
    assert 0 < outcome.usage.egress_bytes <= fit.needs.usage.egress_bytes
