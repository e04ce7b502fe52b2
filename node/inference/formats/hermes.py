"""`<tool_call>{"name": ..., "arguments": ...}</tool_call>`: Hermes, Qwen 2.5 and 3, our own model.

Spec: the chat templates of NousResearch's Hermes 2 Pro and of Qwen 2.5.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Final

from node.inference.formats.base import Asked, Tools, named_call, past_space, read_json, skip
from node.inference.formats.marked import Marked, named_rule
from node.inference.formats.reader import Calls
from node.inference.grammar.gbnf import literal
from node.inference.grammar.schema import Grammar

_OPEN: Final = "<tool_call>"
_CLOSE: Final = "</tool_call>"


@dataclass(frozen=True)
class Hermes(Marked):
    name: ClassVar[str] = "hermes"
    calls: ClassVar[tuple[str, ...]] = (_OPEN,)
    inner: ClassVar[tuple[str, ...]] = (_CLOSE,)

    def call_rules(self, grammar: Grammar, asked: Asked) -> Mapping[str, str]:
        call = named_rule(grammar, asked.tools, "arguments")
        rule = grammar.add("calls", "")
        more = f'("\\n"? {literal(_OPEN)} {rule})?' if self.many(asked) else '""'
        grammar.rules[rule] = f'"\\n"? {call} "\\n"? {literal(_CLOSE)} {more}'
        return {_OPEN: rule}

    def read(self, section: str, tools: Tools) -> Calls:
        calls, at = [], 0
        while at < len(section):
            value, at = read_json(section, past_space(section, skip(section, _OPEN, at)))
            calls.append(named_call(value, tools))
            at = past_space(section, skip(section, _CLOSE, at))
        return tuple(calls)

    def example(self) -> str:
        return f'{_OPEN}{{"name": "FUNCTION", "arguments": {{...}}}}{_CLOSE}'
