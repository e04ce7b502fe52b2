"""JSON calls that are explained in the conversation itself, for templates that know no tools.

`Generic` is a call alone, `{"name": ..., "arguments": ...}`: the whole answer begins with a brace.
`Fenced` is the same in a fence of its own, as Gemma 3 was taught to write code, with text before it
where the model likes; what is fenced as anything else is text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Final

from node.inference.formats.base import Asked, Calls, Tools, read_alone, read_named, read_wrapped
from node.inference.formats.marked import Marked, named_rule
from node.inference.grammar.gbnf import dumps, literal
from node.inference.grammar.schema import Grammar
from node.inference.types import Message

_FENCE: Final = "```tool_call\n"
_CLOSE: Final = "\n```"


@dataclass(frozen=True)
class Generic(Marked):
    name: ClassVar[str] = "generic"
    first: ClassVar[tuple[str, ...]] = ("{",)
    single: ClassVar[bool] = True

    def prepare(
        self, messages: tuple[Message, ...], tools: Tools
    ) -> tuple[tuple[Message, ...], Tools]:
        return in_words(messages, self.shown, self.tell(tools) if tools else ""), ()

    def shown(self, call: str) -> str:
        """A call's JSON as an earlier turn shows it."""
        return call

    def call_rules(self, grammar: Grammar, asked: Asked) -> Mapping[str, str]:
        return {"{": named_rule(grammar, asked.tools, "arguments", opening='"name"')}

    def read(self, section: str, tools: Tools) -> Calls:
        return read_alone(section, tools)

    def example(self) -> str:
        return '{"name": "FUNCTION", "arguments": {...}} alone'


@dataclass(frozen=True)
class Fenced(Generic):
    name: ClassVar[str] = "fenced"
    first: ClassVar[tuple[str, ...]] = ()
    calls: ClassVar[tuple[str, ...]] = (_FENCE,)
    single: ClassVar[bool] = False

    @property
    def markers(self) -> tuple[str, ...]:
        return self.thought or ()

    def shown(self, call: str) -> str:
        return f"{_FENCE}{call}{_CLOSE}"

    def call_rules(self, grammar: Grammar, asked: Asked) -> Mapping[str, str]:
        one = f"{named_rule(grammar, asked.tools, 'arguments')} {literal(_CLOSE)}"
        return self.chain(grammar, asked, _FENCE, one, between='"\\n" ')

    def read(self, section: str, tools: Tools) -> Calls:
        closing = _CLOSE.strip()
        return read_wrapped(section, _FENCE, closing, lambda at: read_named(section, at, tools))

    def example(self) -> str:
        return f'{_FENCE}{{"name": "FUNCTION", "arguments": {{...}}}}{_CLOSE}\n'


def in_words(
    messages: tuple[Message, ...], shown: Callable[[str], str], told: str
) -> tuple[Message, ...]:
    """The conversation as a template without tools can show it: calls and results are words.

    Turns of one role that would follow each other are joined, since many templates refuse them.
    """
    turns: list[Message] = [Message("system", told)] if told else []
    for message in messages:
        plain = _plain(message, shown)
        if turns and turns[-1].role == plain.role != "assistant":
            first, second = turns[-1].content, plain.content
            if plain.role == "system" and told:
                first, second = second, first
            turns[-1] = replace(plain, content=f"{first}\n\n{second}".strip())
        else:
            turns.append(plain)
    return tuple(turns)


def _plain(message: Message, shown: Callable[[str], str]) -> Message:
    if message.role == "tool":
        return Message("user", f"Result of {message.name or 'the tool'}:\n{message.content}")
    if message.tool_calls:
        calls = [
            shown(dumps({"name": call.name, "arguments": call.arguments}))
            for call in message.tool_calls
        ]
        return Message(message.role, "\n".join([message.content, *calls]).strip())
    return message
