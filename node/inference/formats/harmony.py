"""gpt-oss: messages in channels. Analysis is reasoning, final is the answer, commentary with a
recipient is a call and without one is said to the person.

An answer is a header, a message, and so on: `<|channel|>analysis<|message|>...<|end|>` then
`<|start|>assistant<|channel|>commentary to=functions.NAME <|constrain|>json<|message|>{...}`. The
model was taught to put the recipient before the channel or after it; both are allowed and read.

Spec: OpenAI, "OpenAI harmony response format".
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar, Final

from node.inference.formats.base import (
    Asked,
    Calls,
    NotACall,
    Shown,
    Tools,
    check,
    one_call_a_turn,
    past_space,
    read_json,
    tell,
    to_call,
)
from node.inference.formats.marked import answer_rule
from node.inference.formats.reader import HoldingReader, first_mark
from node.inference.grammar.gbnf import LOOSE, Spelling, literal
from node.inference.grammar.schema import Grammar
from node.inference.types import Message
from node.types import Json

_START: Final = "<|start|>"
_CHANNEL: Final = "<|channel|>"
_MESSAGE: Final = "<|message|>"
_END: Final = "<|end|>"
_CONSTRAIN: Final = "<|constrain|>"
_LAST: Final = ("<|return|>", "<|call|>")
_MARKS: Final = (_START, _CHANNEL, _MESSAGE, _END, _CONSTRAIN, *_LAST)
_TO: Final = re.compile(r"to=(\S+?)(?=\s|<|$)")
_IN: Final = re.compile(r"<\|channel\|>\s*([a-z]+)")
_FUNCTIONS: Final = "functions."
_MAX_HEADER: Final = 256
_NONE: Final[dict[str, str | None]] = dict.fromkeys(_MARKS)


@dataclass(frozen=True)
class Harmony:
    """Implements `CallFormat`; the model makes one call a turn."""

    name: ClassVar[str] = "harmony"
    markers: ClassVar[tuple[str, ...]] = (_START, _CHANNEL, _MESSAGE, _END, _CONSTRAIN)
    spelling: ClassVar[Spelling] = LOOSE

    def prepare(
        self, messages: tuple[Message, ...], tools: Tools
    ) -> tuple[tuple[Message, ...], Tools]:
        return one_call_a_turn(messages), tools

    def tell(self, tools: Tools) -> str:
        call = f"{_CHANNEL}commentary to=functions.FUNCTION {_CONSTRAIN}json{_MESSAGE}{{...}}"
        return tell(tools, call)

    def thinks(self, prompt: str) -> bool:
        return prompt.endswith(f"{_CHANNEL}analysis{_MESSAGE}")

    def grammar(self, asked: Asked) -> str:
        check(asked)
        grammar = Grammar(self.spelling)
        grammar.rules["root"] = ""
        following = grammar.add("next", "")
        again = grammar.add("again", f"{literal(_START + 'assistant')} {following}")
        said = grammar.until("said", {**_NONE, _END: again}, may_end=False)
        ways = [f"{literal(_CHANNEL + 'analysis' + _MESSAGE)} {said}"]
        if asked.choice != "required":
            ways.append(f"{literal(_CHANNEL + 'final' + _MESSAGE)} {_final(grammar, asked)}")
        if asked.choice != "none" and asked.tools:
            ways.append(f"{literal(_CHANNEL + 'commentary' + _MESSAGE)} {said}")
            ways += _calls(grammar, asked.tools)
        grammar.rules[following] = " | ".join(ways)
        grammar.rules["root"] = said if asked.thinking else following
        return grammar.text()

    def reader(self, asked: Asked, stop: tuple[str, ...] = ()) -> HarmonyReader:
        tools = asked.tools if asked.choice != "none" else ()
        return HarmonyReader(tools, thinking=asked.thinking, stop=stop)


class HarmonyReader(HoldingReader):
    """Implements `Reader`."""

    plain = frozenset({"reasoning", "text", "call"})

    def __init__(self, tools: Tools, *, thinking: bool = False, stop: tuple[str, ...] = ()) -> None:
        self._tools = tools
        self._stops = tuple(filter(None, stop))
        self._texts: list[str] = []
        self._called: list[tuple[str, list[str]]] = []
        super().__init__((*_MARKS, *self._stops), "reasoning" if thinking else "start")

    def _said(self) -> str:
        return "\n\n".join(self._texts).strip()

    def _calls(self) -> Calls:
        return tuple(
            to_call(to.removeprefix(_FUNCTIONS), self._whole(pieces), self._tools)
            for to, pieces in self._called
        )

    def _rest(self) -> Shown:
        return Shown() if self._state == "start" else self._take(len(self._held))

    def _step(self) -> Shown:
        """Takes whole headers and messages."""
        return self._head() if self._state == "start" else self._body()

    def _head(self) -> Shown:
        """The header of the next message. What is none is text: a model may forget its form."""
        at = self._held.find(_MESSAGE)
        if at >= 0 and _may_be_header(self._held[:at]):
            header, self._held = self._held[:at], self._held[at + len(_MESSAGE) :]
            self._begin(header)
        elif at >= 0 or not _may_be_header(self._held[:_MAX_HEADER]) or self._too_long():
            self._state = "text"
            self._texts.append("")
        return Shown()

    def _too_long(self) -> bool:
        return len(self._held) >= _MAX_HEADER + len(_MESSAGE)

    def _begin(self, header: str) -> None:
        to, channel = _TO.search(header), _IN.search(header)
        if to is not None:
            self._state = "call"
            self._called.append((to[1], []))
        elif channel is not None and channel[1] == "analysis":
            self._state = "reasoning"
        else:
            self._state = "text"
            self._texts.append("")

    def _body(self) -> Shown:
        if self._state == "call":
            return self._arguments()
        stops = self._stops if self._state == "text" else ()
        at, mark = first_mark(self._held, (*_MARKS, *stops))
        shown = self._take(at)
        if mark:
            self.done = mark in stops
            self._end(mark)
        return shown

    def _arguments(self) -> Shown:
        """A call ends at the first mark after a whole value: one in a string of it is none."""
        at, mark = first_mark(self._held, _MARKS)
        shown = self._take(at)
        if mark:
            try:
                self._whole(self._called[-1][1])
            except NotACall:
                self._take(1)
            else:
                self._end(mark)
        return shown

    @staticmethod
    def _whole(pieces: list[str]) -> Json:
        text = "".join(pieces)
        value, at = read_json(text, past_space(text, 0))
        if past_space(text, at) < len(text):
            raise NotACall("a tool call's message must be one JSON object")
        return value

    def _end(self, mark: str) -> None:
        """The message is whole; the next header may begin with the mark itself."""
        self.done = self.done or mark in _LAST
        self._state = "start"
        self._held = self._held[0 if mark == _CHANNEL else len(mark) :]

    def _keep(self, text: str) -> Shown:
        if not text:
            return Shown()
        if self._state == "reasoning":
            self._reasoning.append(text)
            return Shown(reasoning=text)
        if self._state == "call":
            self._called[-1][1].append(text)
            return Shown()
        begins = not self._texts[-1] and any(self._texts[:-1])
        self._texts[-1] += text
        return Shown(text="\n\n" * begins + text)


def _calls(grammar: Grammar, tools: Tools) -> list[str]:
    said = f'(" "? {literal(_CONSTRAIN)} " "? "json" | " json")?'
    head = grammar.add("json-head", f"{said} {literal(_MESSAGE)}")
    after, before = [], []
    for tool in tools:
        arguments = grammar.arguments(tool.name, tool.parameters)
        after.append(f"{literal(tool.name)} {head} {arguments}")
        before.append(f"{literal(tool.name + _CHANNEL + 'commentary')} {head} {arguments}")
    to = f" to={_FUNCTIONS}"
    return [
        f"{literal(_CHANNEL + 'commentary' + to)} ({' | '.join(after)})",
        f"{literal(to)} ({' | '.join(before)})",
    ]


def _final(grammar: Grammar, asked: Asked) -> str:
    if asked.answer is not None:
        return answer_rule(grammar, asked.answer)
    return grammar.until("text", _NONE)


def _may_be_header(text: str) -> bool:
    """Whether `text` is, or begins, what may stand before a message."""
    begun = text.strip()
    starts = (_CHANNEL, _START, "to=", "assistant", _CONSTRAIN, _MESSAGE)
    fits = any(begun.startswith(start) or start.startswith(begun) for start in starts)
    return fits and len(text) <= _MAX_HEADER
