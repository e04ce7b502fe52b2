"""`[TOOL_CALLS]` and calls, in the two ways that Mistral's tokenisers have had.

Up to their version 7 a JSON list, `[TOOL_CALLS][{"name": ..., "arguments": ..., "id": ...}]`; from
version 11 on a mark a call, `[TOOL_CALLS]name[ARGS]{...}`, with `[CALL_ID]` and nine characters
before `[ARGS]` in the first of those.

Spec: mistral-common, "Tokenization" and its instruct tokenisers v3, v7, v11 and v13.
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
    named_call,
    past_space,
    read_json,
    skip,
    to_call,
)
from node.inference.formats.marked import Marked, choice_rule, named_rule
from node.inference.grammar.gbnf import LOOSE, Spelling, literal
from node.inference.grammar.schema import Grammar

_MARK: Final = "[TOOL_CALLS]"
_ARGS: Final = "[ARGS]"
_ID: Final = "[CALL_ID]"
_HEAD: Final = re.compile(r"\s*([A-Za-z0-9_.-]{1,64})(?:\[CALL_ID\][A-Za-z0-9]{1,64})?\[ARGS\]\s*")


@dataclass(frozen=True)
class MistralList(Marked):
    """The older way: one mark and a list."""

    name: ClassVar[str] = "mistral-list"
    calls: ClassVar[tuple[str, ...]] = (_MARK,)
    spelling: ClassVar[Spelling] = LOOSE

    def call_rules(self, grammar: Grammar, asked: Asked) -> Mapping[str, str]:
        comma, colon = self.spelling.comma, self.spelling.colon
        named = rf'({comma} "\"id\"" {colon} "\"" [A-Za-z0-9]{{9}} "\"")?'
        call = named_rule(grammar, asked.tools, "arguments", more=named)
        more = f"({comma} {call})*" if self.many(asked) else '""'
        return {_MARK: grammar.add("calls", f'" "? "[" {call} {more} "]"')}

    def read(self, section: str, tools: Tools) -> Calls:
        at = past_space(section, skip(section, _MARK))
        if not section.startswith("[", at):
            return _marked(section, tools)
        value, at = read_json(section, at)
        if past_space(section, at) < len(section):
            raise NotACall("no text may follow the list of tool calls")
        if not isinstance(value, list) or not value:
            raise NotACall("the list of tool calls is empty")
        return tuple(named_call(call, tools) for call in value)

    def example(self) -> str:
        return f'{_MARK}[{{"name": "FUNCTION", "arguments": {{...}}}}]'


@dataclass(frozen=True)
class Mistral(MistralList):
    """The newer way: a mark a call. `ids`: each has one."""

    name: ClassVar[str] = "mistral"
    inner: ClassVar[tuple[str, ...]] = (_ARGS, _ID)
    ids: bool = False

    def call_rules(self, grammar: Grammar, asked: Asked) -> Mapping[str, str]:
        middle = f"{literal(_ID)} [A-Za-z0-9]{{9}} " if self.ids else ""
        call = choice_rule(grammar, asked.tools, middle + literal(_ARGS))
        return self.chain(grammar, asked, _MARK, call)

    def example(self) -> str:
        return f"{_MARK}FUNCTION{_ARGS}{{...}}"


def _marked(section: str, tools: Tools) -> Calls:
    """Reads either way: models that came between the two are not all told apart by a template."""
    calls, at = [], 0
    while at < len(section):
        at = skip(section, _MARK, at)
        head = _HEAD.match(section, at)
        if head is None:
            raise NotACall(f"a tool call must be {_MARK}NAME{_ARGS}{{...}}")
        value, at = read_json(section, head.end())
        calls.append(to_call(head[1], value, tools))
        at = past_space(section, at)
    return tuple(calls)
