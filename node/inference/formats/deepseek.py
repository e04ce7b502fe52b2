"""DeepSeek's marks: V3 and R1 with the kind of call and a fence of JSON, V3.1 without.

Spec: the chat templates of DeepSeek-V3, -R1 and -V3.1.
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
    skip,
    to_call,
)
from node.inference.formats.marked import Marked, choice_rule
from node.inference.grammar.gbnf import LOOSE, Spelling, literal
from node.inference.grammar.schema import Grammar

_ALL: Final = "<｜tool▁calls▁begin｜>"
_END_ALL: Final = "<｜tool▁calls▁end｜>"
_ONE: Final = "<｜tool▁call▁begin｜>"
_END_ONE: Final = "<｜tool▁call▁end｜>"
_THEN: Final = "<｜tool▁sep｜>"
_FENCE: Final = "\n```json\n"
_END_FENCE: Final = "\n```"


@dataclass(frozen=True)
class DeepSeek(Marked):
    """`name`, a mark and the arguments: V3.1."""

    name: ClassVar[str] = "deepseek"
    calls: ClassVar[tuple[str, ...]] = (_ALL,)
    inner: ClassVar[tuple[str, ...]] = (_END_ALL, _ONE, _END_ONE, _THEN)
    spelling: ClassVar[Spelling] = LOOSE
    before: ClassVar[str] = ""
    between: ClassVar[str] = _THEN
    after: ClassVar[str] = ""

    def call_rules(self, grammar: Grammar, asked: Asked) -> Mapping[str, str]:
        body = choice_rule(grammar, asked.tools, literal(self.between))
        one = grammar.add(
            "one", f"{literal(_ONE + self.before)} {body} {literal(self.after + _END_ONE)}"
        )
        more = f'("\\n"? {one})*' if self.many(asked) else '""'
        return {_ALL: grammar.add("calls", f'"\\n"? {one} {more} "\\n"? {literal(_END_ALL)}')}

    def read(self, section: str, tools: Tools) -> Calls:
        calls: Calls = ()
        at = past_space(section, skip(section, _ALL))
        while section.startswith(_ONE, at):
            at = skip(section, self.before, at + len(_ONE))
            head = section.find(self.between.rstrip(), at)
            if head < 0:
                raise NotACall(f"a tool call must be NAME{self.between}{{...}}")
            name = section[at:head].strip()
            at = past_space(section, head + len(self.between.rstrip()))
            value, at = read_json(section, at)
            at = skip(section, _END_ONE, skip(section, self.after.strip(), at))
            calls = (*calls, to_call(name, value, tools))
            at = past_space(section, at)
        if past_space(section, skip(section, _END_ALL, at)) < len(section) or not calls:
            raise NotACall("no text may follow the tool calls")
        return calls

    def example(self) -> str:
        call = f"{self.before}FUNCTION{self.between}{{...}}{self.after}"
        return f"{_ALL}{_ONE}{call}{_END_ONE}{_END_ALL}"


@dataclass(frozen=True)
class DeepSeekFenced(DeepSeek):
    """`function`, a mark, the name, and the arguments in a fence: V3 and R1."""

    name: ClassVar[str] = "deepseek-fenced"
    before: ClassVar[str] = f"function{_THEN}"
    between: ClassVar[str] = _FENCE
    after: ClassVar[str] = _END_FENCE
