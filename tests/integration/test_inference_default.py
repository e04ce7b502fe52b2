"""The shipped model through the engine: what holds whatever it has learned."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from helpers.inference import CALC, finish_of

from node.inference import (
    EngineLimits,
    FunctionSpec,
    Generation,
    LlamaEngine,
    Message,
    ModelStore,
    Sampling,
    ToolCall,
)

PROMPTS = int(os.environ.get("FREEHOLD_TEST_PROMPTS", "12"))
TOOLS = (
    CALC,
    FunctionSpec(
        "files_read",
        "Read a file",
        {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]},
    ),
)


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[LlamaEngine]:
    made = LlamaEngine(ModelStore(tmp_path / "models"))
    yield made
    await made.aclose()


def turns(number: int) -> tuple[Message, ...]:
    """A conversation in the middle: asked, called, answered, asked again."""
    return (
        Message("system", "Answer briefly and from the notes. " * (20 if number % 3 else 30)),
        Message("user", f"What is {number} * {number + 7}?"),
        Message("assistant", "", (ToolCall("calc", {"expression": f"{number} * {number + 7}"}),)),
        Message("tool", f'{{"value":"{number * (number + 7)}"}}', name="calc"),
    )[: 2 + 2 * (number % 2)]


async def test_it_is_loaded_under_its_name(engine: LlamaEngine) -> None:
    info = await engine.info("default")
    assert info.context_tokens >= 1024
    assert info.size_bytes <= 4 * 1024 * 1024


async def test_a_call_made_is_of_a_tool_offered(engine: LlamaEngine) -> None:
    request = Generation("default", turns(12), TOOLS, tool_choice="required")
    finish = await finish_of(engine, request)
    assert finish.malformed is None
    (call,) = finish.tool_calls
    names = {"calc": ["expression"], "files_read": ["path"]}
    assert list(call.arguments) == names[call.name]


async def test_greedy_output_is_the_same_with_and_without_kept_prompts(
    engine: LlamaEngine, tmp_path: Path
) -> None:
    plain = LlamaEngine(ModelStore(tmp_path / "models"), limits=EngineLimits(reuse_prefix=False))
    kept = 0
    for number in range(PROMPTS):
        request = Generation("default", turns(number), TOOLS, sampling=Sampling(max_tokens=80))
        reused, fresh = await finish_of(engine, request), await finish_of(plain, request)
        assert (reused.raw, reused.tool_calls) == (fresh.raw, fresh.tool_calls)
        kept += reused.prompt_tokens_cached > 0
    await plain.aclose()
    assert kept >= PROMPTS // 2


async def test_a_long_conversation_is_kept(engine: LlamaEngine) -> None:
    told = "The file says: " + "blue stones and green leaves. " * 40
    first = Generation("default", (Message("user", told),), sampling=Sampling(max_tokens=4))
    finish = await finish_of(engine, first)
    again = Generation(
        "default",
        (*first.messages, Message("assistant", finish.text), Message("user", "Thanks.")),
        sampling=Sampling(max_tokens=4),
    )
    after = await finish_of(engine, again)
    assert after.prompt_tokens_cached >= finish.prompt_tokens
