"""A model of this machine and one of a server behind one engine, asked for the same things."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.inference import finish_of

from node.inference import (
    FunctionSpec,
    Generation,
    LlamaEngine,
    Message,
    ModelStore,
    RemoteEngine,
    RemoteModel,
    RemoteModels,
    RoutedEngine,
    Sampling,
    ToolCall,
)
from node.inference.testing.gguf import write_tiny_gguf
from node.inference.testing.server import ModelServer, call, say

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
ADD = FunctionSpec("add", "Adds.", SCHEMA)
ASKED = (Message("user", "What is 1 + 2?"),)


@pytest.fixture
async def both(tmp_path: Path) -> AsyncIterator[RoutedEngine]:
    """`near` is a tiny model of random weights; `far` a server."""
    store, models = ModelStore(tmp_path), RemoteModels(tmp_path)
    store.add(write_tiny_gguf(tmp_path / "x.gguf"), "near")
    said = [call(ToolCall("add", {"n": 3})), *[say('{"n": 3}')] * 2]
    async with ModelServer(said) as server:
        models.add(RemoteModel("far", server.url))
        routed = RoutedEngine(LlamaEngine(store), RemoteEngine(models), pins=store)
        yield routed
        await routed.aclose()


async def test_nothing_changes_but_the_name(both: RoutedEngine) -> None:
    for name in ("far", "near"):
        wanted = Generation(
            name, ASKED, (ADD,), "required", Sampling(max_tokens=200), parallel_tool_calls=False
        )
        finish = await finish_of(both, wanted)
        (made,) = finish.tool_calls
        assert made.name == "add"
        assert isinstance(made.arguments["n"], int)
        assert finish.reason == "tool_calls"
        assert 0 < await both.count(wanted) < (await both.info(name)).context_tokens
        assert bool(finish.remote) is (name == "far")
        assert bool(finish.model_sha256) is (name == "near")
    assert [status.model for status in both.metrics()] == list(both.loaded()) == ["near"]


async def test_a_schema_of_the_answer_holds_for_both(both: RoutedEngine) -> None:
    await finish_of(both, Generation("far", ASKED, (ADD,)))
    for name in ("far", "near"):
        wanted = Generation(name, ASKED, sampling=Sampling(max_tokens=200), answer_schema=SCHEMA)
        finish = await finish_of(both, wanted)
        assert isinstance(json.loads(finish.text)["n"], int)
        assert finish.malformed is None
        narrow = {**SCHEMA, "properties": {"n": {"type": "integer", "multipleOf": 10**39}}}
        finish = await finish_of(both, replace(wanted, answer_schema=narrow))
        assert finish.malformed == (  # no grammar can say it, so it is looked at afterwards
            f"the answer does not fit the schema asked for: n: "
            f"{json.loads(finish.raw)['n']} is not a multiple of {10**39}"
        )
        assert finish.text == ""
