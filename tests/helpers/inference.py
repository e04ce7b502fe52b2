"""What an engine is asked for in tests, and what it answers."""

from __future__ import annotations

from contextlib import aclosing

from node.inference import Finish, FunctionSpec, Generation
from node.inference.types import Engine

CALC = FunctionSpec(
    "calc",
    "Work out a sum exactly",
    {
        "type": "object",
        "properties": {"expression": {"type": "string"}},
        "required": ["expression"],
    },
)


async def collect(engine: Engine, request: Generation) -> tuple[str, Finish]:
    """The text of all tokens, and the end that came with the last."""
    text, finish = "", None
    async with aclosing(engine.generate(request)) as tokens:
        async for token in tokens:
            assert finish is None
            text, finish = text + token.text, token.finish
    assert finish is not None
    return text, finish


async def finish_of(engine: Engine, request: Generation) -> Finish:
    """The end of an answer."""
    return (await collect(engine, request))[1]
