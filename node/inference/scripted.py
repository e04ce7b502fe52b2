"""An engine that says what it is told to: for tests and fault injection, never shown as a model.

It keeps what a caller can notice of a real one: streaming, cancel, context overflow with sizes,
counted tokens (one a word, mark or space run, four a message), a raw form for calls, crashes.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Callable, Iterable
from dataclasses import dataclass
from typing import TypeAlias

from node.errors import ContextOverflowError, InferenceError, ModelError
from node.inference.grammar.gbnf import dumps
from node.inference.types import Finish, Generation, ModelInfo, Token, ToolCall

_PIECE = re.compile(r"\w+|[^\w\s]|\s+")
_SHA256 = "0" * 64


@dataclass(frozen=True)
class Say:
    """A plain answer; with `malformed`, one that could not be read as a call, and why."""

    text: str
    malformed: str | None = None


@dataclass(frozen=True)
class Call:
    """An answer that calls tools."""

    calls: tuple[ToolCall, ...]

    def __init__(self, *calls: ToolCall) -> None:
        object.__setattr__(self, "calls", calls)


@dataclass(frozen=True)
class Fail:
    """Raises `error` after `after` pieces of `text`."""

    error: InferenceError
    text: str = ""


@dataclass(frozen=True)
class Wait:
    """Sets `reached`, then waits for `event`, then goes on with `step`."""

    event: asyncio.Event
    step: Say | Call | Fail
    reached: asyncio.Event | None = None


Step: TypeAlias = Say | Call | Fail | Wait


class ScriptedEngine:
    """Answers with the steps of a script, in order, or with what a function says of each request.

    Args:
        script: the steps, or a function from a request to a step (a script that a process killed
            and started again goes on with, since it holds no position).
        models: the names it answers to.
        context_tokens: prompts of as many or more are refused.

    Attributes:
        requests: what it was asked, oldest first.
    """

    def __init__(
        self,
        script: Iterable[Step] | Callable[[Generation], Step],
        *,
        models: tuple[str, ...] = ("default",),
        context_tokens: int = 4096,
    ) -> None:
        self._next = script if callable(script) else _in_order(list(script))
        self._models = models
        self._context_tokens = context_tokens
        self.requests: list[Generation] = []

    async def generate(self, request: Generation) -> AsyncGenerator[Token, None]:
        """Streams the next step, a token at a time.

        Raises:
            ModelError: a model it does not answer to.
            ContextOverflowError: the prompt is too long.
            InferenceError: the script is at its end, or says so.
        """
        prompt = await self._fitting(request)
        self.requests.append(request)
        step = self._next(request)
        if isinstance(step, Wait):
            if step.reached is not None:
                step.reached.set()
            await step.event.wait()
            step = step.step
        raw = _raw(step)
        pieces = _PIECE.findall(raw)[: request.sampling.max_tokens]
        for piece in pieces:
            yield Token(piece)
            await asyncio.sleep(0)  # where a caller may cancel
        if isinstance(step, Fail):
            raise step.error
        yield Token("", _finish(step, request, prompt, pieces, len(_PIECE.findall(raw))))

    async def count(self, request: Generation) -> int:
        """Prompt tokens: one a word, mark or run of spaces, four a message."""
        self._check(request.model)
        texts = [message.content for message in request.messages]
        texts += [
            dumps({"name": call.name, "arguments": call.arguments})
            for message in request.messages
            for call in message.tool_calls
        ]
        texts += [
            f"{tool.name} {tool.description} {dumps(tool.parameters)}" for tool in request.tools
        ]
        return 4 * len(request.messages) + sum(len(_PIECE.findall(text)) for text in texts)

    async def info(self, model: str) -> ModelInfo:
        """What it is: a digest of zeros and no file."""
        self._check(model)
        return ModelInfo(model, _SHA256, "", 0, self._context_tokens, "scripted")

    async def forget(self) -> None:
        """Nothing is kept."""

    async def aclose(self) -> None:
        """Nothing to end."""

    async def _fitting(self, request: Generation) -> int:
        tokens = await self.count(request)
        if tokens >= self._context_tokens:
            raise ContextOverflowError(
                f"the prompt has {tokens} tokens; this model's context holds "
                f"{self._context_tokens}, one of them for the answer",
                hint="Shorten the conversation or the tools' descriptions, or use a larger model.",
            )
        return tokens

    def _check(self, model: str) -> None:
        if model not in self._models:
            raise ModelError(
                f"there is no model {model!r}; there are: {', '.join(self._models)}",
                hint="Add one with `freehold model add FILE.gguf`.",
            )


def _in_order(steps: list[Step]) -> Callable[[Generation], Step]:
    left = iter(steps)

    def following(_request: Generation) -> Step:
        step = next(left, None)
        if step is None:
            raise InferenceError(f"the script of {len(steps)} steps is at its end")
        return step

    return following


def _raw(step: Say | Call | Fail) -> str:
    if isinstance(step, Call):
        return "".join(
            f"<tool_call>{dumps({'name': call.name, 'arguments': call.arguments})}</tool_call>"
            for call in step.calls
        )
    return step.text


def _finish(
    step: Say | Call, request: Generation, prompt: int, pieces: list[str], whole: int
) -> Finish:
    raw = "".join(pieces)
    cut = len(pieces) < whole
    calls = step.calls if isinstance(step, Call) and not cut else ()
    malformed = step.malformed if isinstance(step, Say) else None
    if isinstance(step, Call) and cut:
        malformed = f"the tool call was cut off after {len(pieces)} tokens"
    return Finish(
        reason="length" if cut else "tool_calls" if calls else "stop",
        text="" if isinstance(step, Call) or malformed else raw,
        raw=raw,
        tool_calls=calls,
        prompt_tokens=prompt,
        completion_tokens=len(pieces),
        seconds=0.0,
        malformed=malformed,
        sampling=request.sampling,
        model_sha256=_SHA256,
    )
