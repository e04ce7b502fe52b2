"""The remote engine against a real llama-server, where `scripts/build_llama_server` has built one.

Any other binary of it can be named by FREEHOLD_LLAMA_SERVER.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from helpers.inference import finish_of

import node.inference
from node.errors import ContextOverflowError
from node.inference.remote.engine import RemoteEngine
from node.inference.remote.entries import RemoteModel, RemoteModels
from node.inference.types import Finish, FunctionSpec, Generation, Message

ROOT = Path(__file__).resolve().parents[2]
BUILT = ROOT / "build" / "llama-server" / "bin" / "llama-server"
DEFAULT_MODEL = Path(node.inference.__file__).parent / "default_model" / "default.gguf"
CONTEXT = 1024
CALC = FunctionSpec(
    "calc",
    "Calculate an arithmetic expression exactly.",
    {
        "type": "object",
        "properties": {"expression": {"type": "string"}},
        "required": ["expression"],
    },
)
SYSTEM = Message("system", "You are a helpful assistant.")


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The API of a server with the default model."""
    server = Path(os.environ.get("FREEHOLD_LLAMA_SERVER") or BUILT)
    if not server.exists():
        pytest.skip("llama-server is not built; scripts/build_llama_server builds it")
    command = [server, "--model", DEFAULT_MODEL, "--port", "0", "--jinja"]
    with subprocess.Popen(
        [*command, "--threads", "1", "--parallel", "2", "--ctx-size", str(2 * CONTEXT)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stderr is not None
            yield _listening(process.stderr)
        finally:
            process.kill()


def _listening(said: Iterator[str]) -> str:
    seen = []
    for line in said:
        seen.append(line)
        if found := re.search(r"listening on (http://127\.0\.0\.1:[1-9]\d*)", line):
            return found[1] + "/v1"
    raise AssertionError("".join(seen))


@pytest.fixture
async def engine(tmp_path: Path, address: str) -> AsyncIterator[RemoteEngine]:
    models = RemoteModels(tmp_path)
    models.add(RemoteModel("far", address))
    made = RemoteEngine(models)
    yield made
    await made.aclose()


async def finish(engine: RemoteEngine, *messages: Message, **more: object) -> Finish:
    request = Generation("far", (SYSTEM, *messages), **more)  # type: ignore[arg-type]
    return await finish_of(engine, request)


async def test_a_call_and_the_answer_after_it(engine: RemoteEngine, address: str) -> None:
    question = Message("user", "What is 12 * 34?")
    asked = await finish(engine, question, tools=(CALC,))
    assert [(call.name, call.arguments) for call in asked.tool_calls] == [
        ("calc", {"expression": "12 * 34"})
    ]
    assert asked.remote == address
    assert not asked.estimated
    result = Message("tool", '{"value":"408"}', name="calc")
    said = Message("assistant", tool_calls=asked.tool_calls)
    answered = await finish(engine, question, said, result, tools=(CALC,))
    assert "408" in answered.text


async def test_its_count_of_a_prompt_is_what_it_then_takes(engine: RemoteEngine) -> None:
    request = Generation("far", (SYSTEM, Message("user", "Hello!")), tools=(CALC,))
    counted = await engine.count(request)
    assert counted == (await finish(engine, request.messages[1], tools=(CALC,))).prompt_tokens


async def test_a_prompt_that_does_not_fit_is_told_with_the_sizes(engine: RemoteEngine) -> None:
    with pytest.raises(ContextOverflowError, match=str(CONTEXT)):
        await finish(engine, Message("user", "word " * 3 * CONTEXT))
