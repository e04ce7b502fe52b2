"""`{"name": ..., "parameters": {...}}`, alone or after `<|python_tag|>`: Llama 3.1, 3.2 and 3.3.

Their templates refuse more than one call a turn, so there is one.

Spec: Meta's "Llama 3.1 model card and prompt formats".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Final

from node.inference.formats.base import Asked, Calls, Tools, one_call_a_turn, read_alone
from node.inference.formats.marked import Marked, named_rule
from node.inference.grammar.gbnf import LOOSE, Spelling
from node.inference.grammar.schema import Grammar
from node.inference.types import Message

_TAG: Final = "<|python_tag|>"


@dataclass(frozen=True)
class Llama(Marked):
    name: ClassVar[str] = "llama"
    calls: ClassVar[tuple[str, ...]] = (_TAG,)
    first: ClassVar[tuple[str, ...]] = ("{",)
    single: ClassVar[bool] = True
    spelling: ClassVar[Spelling] = LOOSE

    def prepare(
        self, messages: tuple[Message, ...], tools: Tools
    ) -> tuple[tuple[Message, ...], Tools]:
        return one_call_a_turn(messages), tools

    def call_rules(self, grammar: Grammar, asked: Asked) -> Mapping[str, str]:
        rest = named_rule(grammar, asked.tools, "parameters", opening='"name"')
        return {"{": rest, _TAG: grammar.add("tagged", f'"{{" {rest}')}

    def read(self, section: str, tools: Tools) -> Calls:
        return read_alone(section.removeprefix(_TAG), tools, "parameters")

    def example(self) -> str:
        return '{"name": "FUNCTION", "parameters": {...}} alone'
