"""`call:NAME{key:value}` between marks, strings between marks of their own: Gemma's own notation.

FunctionGemma and Gemma 4 differ in the marks only. Both wait for the result after a mark that
begins it, so that mark ends an answer.

Spec: Google's "Function calling with FunctionGemma", and the chat template of Gemma 4.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Final

from node.inference.formats.base import (
    Asked,
    Calls,
    NotACall,
    Tools,
    past_space,
    read_wrapped,
    skip,
    to_call,
)
from node.inference.formats.marked import Marked
from node.inference.grammar.gbnf import Spelling, literal
from node.inference.grammar.schema import Grammar
from node.inference.grammar.strict_json import MAX_DEPTH, StrictJsonError, parse_prefix
from node.inference.types import ToolCall
from node.types import Json, JsonObject

_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_KEY: Final = re.compile(r"[A-Za-z0-9_.$-]{1,64}")


@dataclass(frozen=True)
class FunctionGemma(Marked):
    name: ClassVar[str] = "function-gemma"
    calls: ClassVar[tuple[str, ...]] = ("<start_function_call>",)
    ends: ClassVar[tuple[str, ...]] = ("<start_function_response>",)
    inner: ClassVar[tuple[str, ...]] = ("<end_function_call>", "<escape>")
    spelling: ClassVar[Spelling] = Spelling('":"', '","', quote="<escape>")

    def call_rules(self, grammar: Grammar, asked: Asked) -> Mapping[str, str]:
        (opening,), closing = self.calls, self.inner[0]
        names = [
            f"{literal(tool.name)} {grammar.arguments(tool.name, tool.parameters)}"
            for tool in asked.tools
        ]
        one = f'"call:" {grammar.add("call", " | ".join(names))} {literal(closing)}'
        return self.chain(grammar, asked, opening, one)

    def read(self, section: str, tools: Tools) -> Calls:
        (opening,), closing = self.calls, self.inner[0]
        return read_wrapped(section, opening, closing, lambda at: self._one(section, at, tools))

    def _one(self, section: str, at: int, tools: Tools) -> tuple[ToolCall, int]:
        head = _NAME.match(section, skip(section, "call:", at))
        if head is None:
            raise NotACall("a tool call must be call:NAME{...}")
        arguments, at = _Values(section, self.spelling.quote).value(head.end(), 0)
        return to_call(head[0], arguments, tools), at

    def example(self) -> str:
        (opening,), closing, quote = self.calls, self.inner[0], self.spelling.quote
        return f"{opening}call:FUNCTION{{key:{quote}text{quote},other:1}}{closing}"


@dataclass(frozen=True)
class Gemma4(FunctionGemma):
    name: ClassVar[str] = "gemma4"
    calls: ClassVar[tuple[str, ...]] = ("<|tool_call>",)
    ends: ClassVar[tuple[str, ...]] = ("<|tool_response>",)
    inner: ClassVar[tuple[str, ...]] = ("<tool_call|>", '<|"|>', "<|channel>", "<channel|>")
    spelling: ClassVar[Spelling] = Spelling('":"', '","', quote='<|"|>')


class _Values:
    """The values of a text in which keys are bare and strings stand between two quotes."""

    def __init__(self, text: str, quote: str) -> None:
        self._text = text
        self._quote = quote

    def value(self, at: int, depth: int) -> tuple[Json, int]:
        """The value that begins at `at`, and where it ends.

        Raises:
            NotACall: there is none.
        """
        at = past_space(self._text, at)
        if depth > MAX_DEPTH:
            raise NotACall(f"the arguments are nested over {MAX_DEPTH} deep")
        if self._text.startswith(self._quote, at):
            return self._string(at + len(self._quote))
        if self._text.startswith("{", at):
            return self._object(at + 1, depth)
        if self._text.startswith("[", at):
            return self._array(at + 1, depth)
        return self._flat(at)

    def _string(self, at: int) -> tuple[str, int]:
        end = self._text.find(self._quote, at)
        if end < 0:
            raise NotACall(f"a string must end with {self._quote}")
        return self._text[at:end], end + len(self._quote)

    def _flat(self, at: int) -> tuple[Json, int]:
        try:
            value, end = parse_prefix(self._text, at)
        except StrictJsonError as error:
            raise NotACall(f"a value cannot be read: {error}") from error
        if isinstance(value, str):
            raise NotACall(f"a string must stand between two {self._quote}")
        return value, end

    def _array(self, at: int, depth: int) -> tuple[Json, int]:
        values: list[Json] = []
        while not self._closed(at, "]"):
            value, at = self.value(skip(self._text, ",", at) if values else at, depth + 1)
            values.append(value)
        return values, skip(self._text, "]", at)

    def _object(self, at: int, depth: int) -> tuple[Json, int]:
        pairs: JsonObject = {}
        while not self._closed(at, "}"):
            at = past_space(self._text, skip(self._text, ",", at) if pairs else at)
            key = _KEY.match(self._text, at)
            if key is None:
                raise NotACall("an argument must be key:value")
            if key[0] in pairs:
                raise NotACall(f"the argument {key[0]} is there twice")
            pairs[key[0]], at = self.value(skip(self._text, ":", key.end()), depth + 1)
        return pairs, skip(self._text, "}", at)

    def _closed(self, at: int, mark: str) -> bool:
        return self._text.startswith(mark, past_space(self._text, at))
