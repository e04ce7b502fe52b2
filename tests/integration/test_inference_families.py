"""Each family through the real engine: a tiny model of its tokens calls a tool."""

from __future__ import annotations

import jsonschema
import pytest
from helpers.inference import collect

from node.inference import (
    FunctionSpec,
    Generation,
    LlamaEngine,
    Message,
    ModelStore,
    Sampling,
)
from node.inference.testing.families import FAMILIES, SPACED
from node.inference.testing.gguf import write_tiny_gguf

SETTING = FunctionSpec(
    "set",
    "sets a lamp",
    {
        "type": "object",
        "properties": {
            "lamp": {"type": "string", "enum": ["hall", "door"]},
            "level": {"type": "integer", "minimum": 0, "maximum": 99},
        },
        "required": ["lamp", "level"],
        "additionalProperties": False,
    },
)
MODELS = {**FAMILIES, "mistral-spaced": SPACED}
CLOSING = ("</think>", "[/THINK]", "<channel|>", "<|end|>")
TURNS = (Message("system", "You keep the lamps."), Message("user", "More light in the hall."))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ModelStore:
    folder = tmp_path_factory.mktemp("families")
    made = ModelStore(folder / "home")
    for name, model in MODELS.items():
        made.add(write_tiny_gguf(folder / f"{name}.gguf", model))
    return made


def thoughts_end(name: str) -> tuple[tuple[int, float], ...]:
    """A bias to the marks after thoughts: a model of random weights would think for ever."""
    texts = [text for text, _ in MODELS[name].specials]
    return tuple((256 + texts.index(mark), 12.0) for mark in CLOSING if mark in texts)


@pytest.mark.parametrize("name", list(MODELS))
async def test_a_call_is_made_and_its_result_taken(engine: LlamaEngine, name: str) -> None:
    sampling = Sampling(
        temperature=1.0, seed=5, max_tokens=400, top_k=0, top_p=1, logit_bias=thoughts_end(name)
    )
    request = Generation(
        name,
        TURNS,
        (SETTING,),
        tool_choice="required",
        sampling=sampling,
        parallel_tool_calls=False,
    )
    shown, end = await collect(engine, request)
    assert end.malformed is None, end.raw
    assert end.reason == "tool_calls", end.raw
    (call,) = end.tool_calls
    jsonschema.validate(call.arguments, SETTING.parameters)
    assert "lamp" not in shown
    assert end.reasoning_tokens <= end.completion_tokens
    after = (
        *TURNS,
        Message("assistant", "", end.tool_calls),
        Message("tool", "The lamp is on.", name="set"),
    )
    words = Generation(name, after, (SETTING,), tool_choice="none", sampling=Sampling(max_tokens=8))
    assert await engine.count(words) > await engine.count(request)
    _, end = await collect(engine, words)
    assert end.tool_calls == ()


async def test_a_thought_cut_in_a_letter_has_no_more_tokens_than_were_made(
    engine: LlamaEngine,
) -> None:
    half = Sampling(max_tokens=5, logit_bias=((0xE2, 1000.0),))
    _, end = await collect(engine, Generation("deepseek-fenced", TURNS, sampling=half))
    assert end.reasoning == "\ufffd" * 5
    assert end.reasoning_tokens == end.completion_tokens == 5
