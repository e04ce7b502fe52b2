"""`<tool_call>{"name": ..., "arguments": ...}</tool_call>`: Hermes, Qwen 2.5 and 3, our own model.

Spec: the chat templates of NousResearch's Hermes 2 Pro and of Qwen 2.5.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Final

from node.inference.formats.base import Asked, Calls, Tools, read_named, read_wrapped
from node.inference.formats.marked import Marked, named_rule
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
        one = f'"\\n"? {call} "\\n"? {literal(_CLOSE)}'
        return self.chain(grammar, asked, _OPEN, one, between='"\\n"? ')

    def read(self, section: str, tools: Tools) -> Calls:
        return read_wrapped(section, _OPEN, _CLOSE, lambda at: read_named(section, at, tools))

    def example(self) -> str:
        return f'{_OPEN}{{"name": "FUNCTION", "arguments": {{...}}}}{_CLOSE}'
