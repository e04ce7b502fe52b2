"""Requests and finishes as JSON, for the frames between an engine and its runner process."""

from __future__ import annotations

import math
from typing import Any, Final, get_args

from node.inference.llama.protocol import Frame, ProtocolError, field, natural
from node.inference.types import (
    Finish,
    FinishReason,
    FunctionSpec,
    Generation,
    Message,
    Sampling,
    ToolCall,
)
from node.types import canonical

_FINISH: Final[dict[str, type[Any]]] = {
    "text": str,
    "raw": str,
    "seconds": float,
    "model_sha256": str,
    "remote": str,
    "estimated": bool,
    "reasoning": str,
}
_COUNTS: Final = ("prompt_tokens", "completion_tokens", "prompt_tokens_cached", "reasoning_tokens")


def pack_request(request: Generation) -> Frame:
    """A request as JSON. Order of keys in schemas is kept: the grammar and the prompt follow it."""
    return {
        "messages": [_turn(message) for message in request.messages],
        "tools": [vars(tool) for tool in request.tools],
        "tool_choice": request.tool_choice,
        "sampling": vars(request.sampling),
        "priority": request.priority,
        "answer_schema": request.answer_schema,
        "parallel_tool_calls": request.parallel_tool_calls,
        "constrained": request.constrained,
    }


def _turn(message: Message) -> Frame:
    return {**vars(message), "tool_calls": [vars(call) for call in message.tool_calls]}


def unpack_request(frame: Frame) -> Generation:
    """The request of `pack_request`.

    Raises:
        ProtocolError: a field is missing or of the wrong kind.
    """
    try:
        return Generation(
            model="",
            messages=tuple(_message(message) for message in frame["messages"]),
            tools=tuple(FunctionSpec(**tool) for tool in frame["tools"]),
            tool_choice=frame["tool_choice"],
            sampling=_sampling(frame["sampling"]),
            priority=frame["priority"],
            answer_schema=frame["answer_schema"],
            parallel_tool_calls=frame["parallel_tool_calls"],
            constrained=frame["constrained"],
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ProtocolError(f"a request that is not whole: {error!r}") from error


def pack_finish(finish: Finish) -> Frame:
    """A finish as JSON."""
    calls = [vars(call) for call in finish.tool_calls]
    return {**vars(finish), "tool_calls": calls, "sampling": vars(finish.sampling)}


def unpack_finish(frame: Frame) -> Finish:
    """The finish of `pack_finish`.

    Raises:
        ProtocolError: a field is missing or of the wrong kind.
    """
    try:
        if frame["reason"] not in get_args(FinishReason) or not math.isfinite(frame["seconds"]):
            raise ProtocolError("a finish without a reason or a time")
        counts: dict[str, Any] = {key: natural(frame, key) for key in _COUNTS}
        return Finish(
            reason=frame["reason"],
            **{key: field(frame, key, kind) for key, kind in _FINISH.items()},
            **counts,
            malformed=None if frame["malformed"] is None else field(frame, "malformed", str),
            tool_calls=tuple(_call(call) for call in field(frame, "tool_calls", list)),
            sampling=_sampling(frame["sampling"]),
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ProtocolError(f"a finish that is not whole: {error!r}") from error


def _call(frame: Any) -> ToolCall:
    if not isinstance(frame, dict):
        raise ProtocolError("a call that is not an object")
    arguments = field(frame, "arguments", dict)
    canonical(arguments)  # raises ValueError for what is not JSON, or nested too deep
    return ToolCall(field(frame, "name", str), arguments)


def _message(frame: Frame) -> Message:
    calls = tuple(_call(call) for call in frame["tool_calls"])
    return Message(frame["role"], frame["content"], calls, frame["name"])


def _sampling(frame: Frame) -> Sampling:
    bias = tuple((int(token), float(value)) for token, value in frame["logit_bias"])
    return Sampling(**{**frame, "stop": tuple(frame["stop"]), "logit_bias": bias})
