"""What the families share that mark calls, or thoughts, inside their text: grammar and reader."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Final

from node.inference.formats.base import Asked, Calls, NotACall, Tools, check, tell
from node.inference.formats.reader import MarkedReader, Marks
from node.inference.grammar.gbnf import STRICT, Spelling, dumps, literal
from node.inference.grammar.schema import Grammar
from node.inference.types import Message
from node.types import JsonObject

SPACE: Final = r"[ \t\r\n]{0,3}"
THINK: Final = ("<think>", "</think>")


@dataclass(frozen=True)
class Marked(ABC):
    """A family whose answers are thoughts, then text, then calls.

    `thought` holds the marks before and after reasoning; None where the model has none.
    """

    thought: tuple[str, str] | None = None

    name: ClassVar[str]
    calls: ClassVar[tuple[str, ...]] = ()
    first: ClassVar[tuple[str, ...]] = ()
    ends: ClassVar[tuple[str, ...]] = ()
    inner: ClassVar[tuple[str, ...]] = ()
    single: ClassVar[bool] = False
    spelling: ClassVar[Spelling] = STRICT

    @property
    def markers(self) -> tuple[str, ...]:
        return (*self.calls, *self.inner, *self.ends, *(self.thought or ()))

    def prepare(
        self, messages: tuple[Message, ...], tools: Tools
    ) -> tuple[tuple[Message, ...], Tools]:
        return messages, tools

    def tell(self, tools: Tools) -> str:
        return tell(tools, self.example())

    def thinks(self, prompt: str) -> bool:
        if self.thought is None:
            return False
        return prompt.rstrip().endswith(self.thought[0].strip())

    def grammar(self, asked: Asked) -> str:
        check(asked)
        grammar = Grammar(self.spelling)
        calling = bool(asked.tools) and asked.choice != "none"
        calls = self.call_rules(grammar, asked) if calling else {}
        answer = grammar.add("answer", self._answer(grammar, asked, calls))
        grammar.rules["root"] = self._thoughts(grammar, asked.thinking, answer)
        return grammar.text()

    def reader(self, asked: Asked, stop: tuple[str, ...] = ()) -> MarkedReader:
        calls, first = (self.calls, self.first) if asked.tools else ((), ())
        marks = Marks(self.thought, calls, first if asked.choice != "none" else (), self.ends)
        return MarkedReader(
            marks,
            lambda text: self._read(text, asked),
            thinking=asked.thinking,
            answers=asked.answer is not None,
            stop=stop,
        )

    @abstractmethod
    def call_rules(self, grammar: Grammar, asked: Asked) -> Mapping[str, str]:
        """By mark that begins a section of calls, the rule of all that follows that mark."""

    @abstractmethod
    def read(self, section: str, tools: Tools) -> Calls:
        """The calls in a section, from its first mark on.

        Raises:
            NotACall: in words for the model.
        """

    @abstractmethod
    def example(self) -> str:
        """A call as the model is told of it."""

    def many(self, asked: Asked) -> bool:
        """Whether one answer may hold several calls."""
        return asked.many and not self.single

    def chain(
        self, grammar: Grammar, asked: Asked, mark: str, call: str, *, between: str = ""
    ) -> Mapping[str, str]:
        """The rules of a call after its mark, and of more of them where several may be made.

        `call` and what may stand `between` one and the next mark are GBNF.
        """
        rule = grammar.add("calls", "")
        tail = self.tail()
        if self.many(asked):
            more = f"{between}{literal(mark)} {rule}"
            tail = f"({more} | {tail})" if self.ends else f"({more})?"
        grammar.rules[rule] = f"{call} {tail}"
        return {mark: rule}

    def tail(self) -> str:
        """GBNF of what may stand after the last call."""
        return f"({' | '.join(map(literal, self.ends))})?" if self.ends else '""'

    def _read(self, section: str, asked: Asked) -> Calls:
        if asked.choice == "none":
            raise NotACall("no tool may be called in this answer")
        return self.read(section, asked.tools)

    def _answer(self, grammar: Grammar, asked: Asked, calls: Mapping[str, str]) -> str:
        begun = " | ".join(f"{literal(mark)} {rule}" for mark, rule in calls.items())
        if asked.choice == "required":
            return f"{SPACE} ({begun})"
        if asked.answer is not None:
            value = answer_rule(grammar, asked.answer)
            return f"{SPACE} ({begun} | {value})" if begun else f"{SPACE} {value}"
        ends: dict[str, str | None] = dict.fromkeys((*self.calls, *self.ends))
        ends.update(dict.fromkeys(self.thought or ()))
        ends.update({mark: rule for mark, rule in calls.items() if mark in self.calls})
        first = {mark: calls.get(mark) for mark in self.first} if asked.tools else None
        return grammar.until("text", ends, first=first)

    def _thoughts(self, grammar: Grammar, thinking: bool, answer: str) -> str:
        if self.thought is None:
            return answer
        opening, closing = self.thought
        inside = grammar.until("thought", {closing: answer}, may_end=False)
        return inside if thinking else f"{answer} | {SPACE} {literal(opening)} {inside}"


def answer_rule(grammar: Grammar, schema: JsonObject) -> str:
    """A rule of an answer in JSON, whatever the family's calls are spelled like."""
    json = Grammar()
    return grammar.embed(json, json.value("the answer", schema))


def named_rule(
    grammar: Grammar, tools: Tools, key: str, *, opening: str = '{"name"', more: str = '""'
) -> str:
    """A rule of `{"name": ..., "arguments": ...}`.

    `key` is the family's word for the second, `opening` what of the first is not yet written, and
    `more` GBNF of what may follow the second.
    """
    colon, comma = grammar.spelling.colon, grammar.spelling.comma
    bodies = []
    for tool in tools:
        arguments = grammar.arguments(tool.name, tool.parameters)
        name = literal(dumps(tool.name))
        bodies.append(f"{name} {comma} {literal(dumps(key))} {colon} {arguments}")
    one = grammar.add("call-body", " | ".join(bodies))
    return grammar.add("call", f'{literal(opening)} {colon} {one} {more} "}}"')


def choice_rule(grammar: Grammar, tools: Tools, middle: str) -> str:
    """A rule of a function's name, what stands in the middle, and its arguments."""
    return grammar.add(
        "call",
        " | ".join(
            f"{literal(tool.name)} {middle} {grammar.arguments(tool.name, tool.parameters)}"
            for tool in tools
        ),
    )
