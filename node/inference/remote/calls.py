"""Calls that a server says its model made, judged as those of a local model are.

A local model writes its calls under a grammar made from the tools' schemas. A server may have none,
or may make things up, so what the grammar would have seen to is checked here: the function was
offered, the arguments are one strict JSON object, and they fit the function's schema. Why a call
cannot be used is said in words for the model, which is told them and may try again.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

from node.alarm import time_limit
from node.inference.grammar.gbnf import dumps
from node.inference.grammar.strict_json import StrictJsonError, parse_prefix
from node.inference.types import FunctionSpec, Generation, ToolCall
from node.types import Json, JsonObject, canonical

MAX_CALLS: Final = 64
SCHEMA_S: Final = 0.5
_LONGEST_REASON = 300
_LONGEST_VALUE = 100


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


def read_json(text: str) -> tuple[Json, str]:
    """The one strict JSON value that the text is; or None, and what it is instead."""
    stripped = text.strip()
    try:
        value, end = parse_prefix(stripped)
    except StrictJsonError as error:
        return None, f"not valid JSON: {error.message}"
    if end != len(stripped):
        return None, "not valid JSON: there is more behind it"
    return value, ""


def schema_fault(schema: JsonObject, value: Json) -> str:
    """Where a value does not fit a JSON Schema (2020-12); "" where it does. Never raises."""
    from jsonschema.exceptions import SchemaError, best_match
    from referencing.exceptions import Unresolvable

    try:
        with time_limit(SCHEMA_S):  # a pattern, or references that branch, can take for ever
            error = best_match(_validator(canonical(schema)).iter_errors(value))
    except TimeoutError:
        return f"the schema cannot be applied within {SCHEMA_S:g} s"
    except (SchemaError, Unresolvable, RecursionError, ArithmeticError, ValueError) as broken:
        return f"the schema cannot be applied ({type(broken).__name__})"
    if error is None:
        return ""
    where = ".".join(str(part) for part in error.absolute_path)
    why, shown = error.message, repr(error.instance)
    if len(shown) > _LONGEST_VALUE and why.startswith(shown):  # else what is wrong is not said
        why = f"it{why[len(shown) :]}"
    return _cut(f"{where}: {why}" if where else why)


@lru_cache(maxsize=256)
def _validator(schema: bytes) -> Any:
    """Compiled. References are looked up within the schema only, never fetched."""
    import json

    from jsonschema import Draft202012Validator
    from referencing import Registry

    value = json.loads(schema)
    Draft202012Validator.check_schema(value)
    registry: Registry[Any] = Registry()
    return Draft202012Validator(value, registry=registry)


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_REASON else text[: _LONGEST_REASON - 1] + "…"
