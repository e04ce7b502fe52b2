"""Calls as tags, a tag an argument: Qwen3-Coder's, and GLM 4.5's.

An argument whose schema allows only strings is written as it is, any other as JSON; which of the
two it is follows from the schema, for the grammar and for the reader alike.

Spec: the chat templates of Qwen3-Coder and GLM-4.5.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Final

from node.inference.formats.base import (
    Asked,
    Calls,
    NotACall,
    Tools,
    past_space,
    read_json,
    read_wrapped,
    skip,
    to_call,
)
from node.inference.formats.marked import Marked
from node.inference.grammar.gbnf import literal
from node.inference.grammar.schema import Grammar, cannot_write
from node.inference.types import FunctionSpec, ToolCall
from node.types import Json, JsonObject

_OPEN: Final = "<tool_call>"
_CLOSE: Final = "</tool_call>"
_NOTHING: Final = '""'
_WHOLE: Final = frozenset({"$ref", "const", "enum"})
_MAX_DEPTH: Final = 8  # of references and choices; any deeper is written as JSON


@dataclass(frozen=True)
class Tags:
    """The texts around a call's name, a key and a value."""

    name: tuple[str, str]
    key: tuple[str, str]
    value: tuple[str, str]
    end: str


@dataclass(frozen=True)
class QwenCoder(Marked):
    """`<function=NAME><parameter=KEY>VALUE</parameter></function>` in `<tool_call>`."""

    name: ClassVar[str] = "qwen-coder"
    calls: ClassVar[tuple[str, ...]] = (_OPEN,)
    inner: ClassVar[tuple[str, ...]] = (_CLOSE,)
    tags: ClassVar[Tags] = Tags(
        name=("\n<function=", ">\n"),
        key=("<parameter=", ">"),
        value=("\n", "\n</parameter>\n"),
        end="</function>\n",
    )

    def call_rules(self, grammar: Grammar, asked: Asked) -> Mapping[str, str]:
        bodies = " | ".join(self._body(grammar, tool) for tool in asked.tools)
        call = grammar.add("call", bodies)
        one = f"{literal(self.tags.name[0])} {call} {literal(self.tags.end + _CLOSE)}"
        return self.chain(grammar, asked, _OPEN, one, between='"\\n"? ')

    def _body(self, grammar: Grammar, tool: FunctionSpec) -> str:
        Grammar().arguments(tool.name, tool.parameters)  # refuses what no call could be made of
        if _declares_elsewhere(tool.parameters):
            raise cannot_write(tool.name, "#", "arguments that are declared in a choice")
        properties = tool.parameters.get("properties") or {}
        needed = tool.parameters.get("required") or []
        if not isinstance(properties, dict) or not isinstance(needed, list):
            raise AssertionError("what makes a grammar has properties")
        pairs = [(self._pair(grammar, tool, key), key in needed) for key in properties]
        head = literal(tool.name + self.tags.name[1])
        return f"{head} {grammar.sequence(pairs, 'tags', _NOTHING)}"

    def _pair(self, grammar: Grammar, tool: FunctionSpec, key: str) -> str:
        tags = self.tags
        close = tags.value[1]
        constants = _strings_of(tool.parameters, key)
        if not key.strip() or key != key.strip() or set("<>\r\n") & set(key):
            raise cannot_write(tool.name, f"#/properties/{key}", "a name of angles or blanks")
        if any(close in text + close[:-1] for text in constants or ()):
            raise cannot_write(tool.name, f"#/properties/{key}", f"the text {close.strip()}")
        if constants is None:
            value = f"{grammar.property(tool.name, tool.parameters, key)} {literal(close)}"
        elif constants:
            value = f"({' | '.join(map(literal, constants))}) {literal(close)}"
        else:
            value = grammar.until("raw", {close: _NOTHING}, may_end=False)
        return f"{literal(tags.key[0] + key + tags.key[1] + tags.value[0])} {value}"

    def read(self, section: str, tools: Tools) -> Calls:
        return read_wrapped(section, _OPEN, _CLOSE, lambda at: self._one(section, at, tools))

    def _one(self, section: str, at: int, tools: Tools) -> tuple[ToolCall, int]:
        tags = self.tags
        at = skip(section, tags.name[0].strip(), at)
        end = section.find(tags.name[1], at)
        name = section[at : max(end, at)].strip()
        to_call(name, {}, tools)
        parameters = next(tool.parameters for tool in tools if tool.name == name)
        arguments: JsonObject = {}
        at = past_space(section, end + len(tags.name[1]))
        while section.startswith(tags.key[0], at):
            key, value, at = self._argument(section, at + len(tags.key[0]), parameters)
            if key in arguments:
                raise NotACall(f"the argument {key} is there twice")
            arguments[key] = value
            at = past_space(section, at)
        at = skip(section, tags.end.strip(), at)
        return ToolCall(name, arguments), at

    def _argument(self, section: str, at: int, parameters: JsonObject) -> tuple[str, Json, int]:
        opening, close = self.tags.key[1] + self.tags.value[0], self.tags.value[1]
        middle = section.find(opening, at)
        end = section.find(close, middle + len(opening))
        if middle < 0 or end < 0:
            raise NotACall(f"an argument must end with {close.strip()} on a line of its own")
        key, text = section[at:middle], section[middle + len(opening) : end]
        if _strings_of(parameters, key) is not None:
            return key, text, end + len(close)
        value, used = read_json(text)
        if used < len(text):
            raise NotACall(f"the argument {key} must be one JSON value")
        return key, value, end + len(close)

    def example(self) -> str:
        tags = self.tags
        key = f"{tags.key[0]}KEY{tags.key[1]}{tags.value[0]}VALUE{tags.value[1]}"
        return f"{_OPEN}{tags.name[0]}FUNCTION{tags.name[1]}{key}{tags.end}{_CLOSE}"


@dataclass(frozen=True)
class Glm(QwenCoder):
    """The name, then `<arg_key>` and `<arg_value>` in turns, in `<tool_call>`."""

    name: ClassVar[str] = "glm"
    inner: ClassVar[tuple[str, ...]] = (
        *(_CLOSE, "<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>"),
    )
    tags: ClassVar[Tags] = Tags(
        name=("", "\n"),
        key=("<arg_key>", "</arg_key>\n"),
        value=("<arg_value>", "</arg_value>\n"),
        end="",
    )


def _declares_elsewhere(schema: JsonObject) -> bool:
    """Whether other arguments are known than those that the schema itself declares."""
    options = [*_listed(schema.get("anyOf")), *_listed(schema.get("oneOf"))]
    choosing = (option for option in options if isinstance(option, dict))
    return not _WHOLE.isdisjoint(schema) or any(
        "properties" in option or _declares_elsewhere(option) for option in choosing
    )


def _listed(value: Json) -> list[Json]:
    return value if isinstance(value, list) else []


def _strings_of(root: JsonObject, key: str) -> tuple[str, ...] | None:
    """The strings that a property may be, () for any; None where it may be something else."""
    properties = root.get("properties")
    schema = properties.get(key) if isinstance(properties, dict) else None
    return _strings(schema, root, 0)


def _strings(schema: Json, root: JsonObject, depth: int) -> tuple[str, ...] | None:
    if not isinstance(schema, dict) or depth > _MAX_DEPTH:
        return None
    if "$ref" in schema:
        return _strings(_target(schema["$ref"], root), root, depth + 1)
    listed = [schema["const"]] if "const" in schema else schema.get("enum")
    if isinstance(listed, list):
        return tuple(map(str, listed)) if all(isinstance(one, str) for one in listed) else None
    options = schema.get("anyOf", schema.get("oneOf"))
    if isinstance(options, list):
        each = [_strings(option, root, depth + 1) for option in options]
        known = [one for one in each if one is not None]
        if len(known) < len(each):
            return None
        return () if () in known else tuple(value for one in known for value in one)
    return () if schema.get("type") in ("string", ["string"]) else None


def _target(pointer: Json, root: JsonObject) -> Json:
    parts = str(pointer).split("/")
    definitions = root.get(parts[1]) if len(parts) == 3 else None
    return definitions.get(parts[2]) if isinstance(definitions, dict) else None
