"""Calls that a server says its model made, judged as those of a local model are.

A local model writes its calls under a grammar made from the tools' schemas. A server may have none,
or may make things up, so what the grammar would have seen to is checked here: the function was
offered, the arguments are one strict JSON object, and they fit the function's schema. Why a call
cannot be used is said in words for the model, which is told them and may try again.
"""

from __future__ import annotations

from typing import Final

from node.inference.grammar.fits import read_json, schema_fault
from node.inference.grammar.gbnf import dumps
from node.inference.types import FunctionSpec, Generation, ToolCall

MAX_CALLS: Final = 64
_LONGEST_NAME: Final = 300


def read_calls(
    request: Generation, written: list[tuple[str, str]]
) -> tuple[tuple[ToolCall, ...], str | None]:
    """The calls, or none of them and what is wrong with the first that cannot be used.

    Args:
        written: name and arguments of each call, as the server sent them.
    """
    if written and request.tool_choice == "none":
        return (), "no function may be called now; answer in plain words"
    if not written and request.tool_choice == "required":
        return (), "a function must be called; answer with a call and no other text"
    if len(written) > 1 and not request.parallel_tool_calls:
        return (), "call one function at a time"
    calls: list[ToolCall] = []
    for name, arguments in written:
        call = _read(request.tools, name, arguments)
        if isinstance(call, str):
            return (), call
        calls.append(call)
    return tuple(calls), None


def _read(tools: tuple[FunctionSpec, ...], name: str, text: str) -> ToolCall | str:
    tool = next((tool for tool in tools if tool.name == name), None)
    if tool is None:
        names = ", ".join(each.name for each in tools) or "none"
        return f"there is no tool {dumps(_cut(name))}; the tools are: {names}"
    arguments, fault = read_json(text or "{}")
    if fault or not isinstance(arguments, dict):
        return f"the arguments of {name} are {fault or 'not an object'}"
    wrong = schema_fault(tool.parameters, arguments)
    return f"the arguments of {name} are wrong: {wrong}" if wrong else ToolCall(name, arguments)


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_NAME else text[: _LONGEST_NAME - 1] + "…"
