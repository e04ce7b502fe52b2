"""How a family of models writes a tool call: one class a family, recognised from the template.

A format knows four things: how the conversation must look for the template, the grammar of an
answer, whether an answer that has begun is a call, and how to read a finished one. Another family
is another class in `FORMATS`; nothing else in the room knows what a call looks like.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, Protocol

from node.errors import GrammarError
from node.inference.schema import Grammar, dumps, literal
from node.inference.strict_json import StrictJsonError, parse_prefix
from node.inference.types import FunctionSpec, Message, ToolCall
from node.types import Json

Choice = Literal["auto", "none", "required"]
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


@dataclass(frozen=True)
class Parsed:
    """A finished answer. `malformed` says what is wrong, in words a model can act on."""

    text: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    malformed: str | None = None


class CallFormat(Protocol):
    """One family's way of calling tools. `markers` are the special tokens an answer may hold."""

    name: str
    markers: tuple[str, ...]

    def fits(self, template: str) -> bool:
        """Whether a model with this chat template writes calls so."""
        ...

    def prepare(
        self, messages: tuple[Message, ...], tools: tuple[FunctionSpec, ...]
    ) -> tuple[tuple[Message, ...], tuple[FunctionSpec, ...]]:
        """The conversation and the tools as the template must be given them."""
        ...

    def grammar(self, tools: tuple[FunctionSpec, ...], choice: Choice) -> str:
        """GBNF of an answer; its root is `root`.

        Raises:
            GrammarError: a tool's name or schema cannot be expressed.
        """
        ...

    def is_call(self, raw: str) -> bool | None:
        """Whether output that begins so is a call, and not text; None where it may be either."""
        ...

    def parse(self, raw: str, tools: tuple[FunctionSpec, ...]) -> Parsed:
        """Reads a finished answer. Never raises."""
        ...


class Hermes:
    """`<tool_call>{"name": ..., "arguments": ...}</tool_call>`: Hermes, Qwen, our own model."""

    name = "hermes"
    _OPEN: Final = "<tool_call>"
    _CLOSE: Final = "</tool_call>"
    markers: tuple[str, ...] = (_OPEN, _CLOSE)

    def fits(self, template: str) -> bool:
        return self._OPEN in template

    def prepare(
        self, messages: tuple[Message, ...], tools: tuple[FunctionSpec, ...]
    ) -> tuple[tuple[Message, ...], tuple[FunctionSpec, ...]]:
        return messages, tools

    def grammar(self, tools: tuple[FunctionSpec, ...], choice: Choice) -> str:
        grammar = Grammar()
        text = _text_without(grammar, self._OPEN)
        return _answer(grammar, tools, choice, text, (self._OPEN, self._CLOSE))

    def is_call(self, raw: str) -> bool | None:
        if raw.startswith(self._OPEN):
            return True
        return None if self._OPEN.startswith(raw) else False

    def parse(self, raw: str, tools: tuple[FunctionSpec, ...]) -> Parsed:
        rest = raw.strip()
        if self._OPEN not in rest:
            return Parsed(text=rest)
        calls: list[ToolCall] = []
        while rest:
            if not rest.startswith(self._OPEN):
                return Parsed(malformed="a tool call must be the whole answer, with no other text")
            call, rest = _read_call(rest[len(self._OPEN) :].lstrip(), tools)
            if isinstance(call, str):
                return Parsed(malformed=call)
            if not rest.startswith(self._CLOSE):
                return Parsed(malformed=f"a tool call must end with {self._CLOSE}")
            calls.append(call)
            rest = rest[len(self._CLOSE) :].lstrip()
        return Parsed(tool_calls=tuple(calls))


class Generic:
    """`{"name": ..., "arguments": ...}` alone, explained in the conversation itself.

    For models whose template knows no tools, or a family that is not listed yet.
    """

    name = "generic"
    markers: tuple[str, ...] = ()

    def fits(self, template: str) -> bool:
        return True

    def prepare(
        self, messages: tuple[Message, ...], tools: tuple[FunctionSpec, ...]
    ) -> tuple[tuple[Message, ...], tuple[FunctionSpec, ...]]:
        plain = [_without_tools(message) for message in messages]
        if tools:
            told = _tell(tools)
            if plain and plain[0].role == "system":
                plain[0] = replace(plain[0], content=f"{plain[0].content}\n\n{told}".strip())
            else:
                plain.insert(0, Message("system", told))
        return tuple(plain), ()

    def grammar(self, tools: tuple[FunctionSpec, ...], choice: Choice) -> str:
        grammar = Grammar()
        text = grammar.add("text", r"([^{] [^\x00]*)?")
        return _answer(grammar, tools, choice, text, ("", ""))

    def is_call(self, raw: str) -> bool | None:
        return raw.startswith("{") if raw else None

    def parse(self, raw: str, tools: tuple[FunctionSpec, ...]) -> Parsed:
        if not self.is_call(raw) or not tools:
            return Parsed(text=raw.strip())
        call, rest = _read_call(raw, tools)
        if isinstance(call, str):
            return Parsed(malformed=call)
        if rest:
            return Parsed(malformed="a tool call must be the whole answer, with no other text")
        return Parsed(tool_calls=(call,))


FORMATS: Final[tuple[CallFormat, ...]] = (Hermes(), Generic())


def recognise(template: str) -> CallFormat:
    """The format of the model with this chat template."""
    return next(form for form in FORMATS if form.fits(template))


def _answer(
    grammar: Grammar,
    tools: tuple[FunctionSpec, ...],
    choice: Choice,
    text: str,
    marks: tuple[str, str],
) -> str:
    """The whole grammar: a call between the marks, or text, as `choice` says."""
    _check_names(tools)
    if choice == "required" and not tools:
        raise GrammarError("a tool call is required but no tool is offered")
    if choice == "none" or not tools:
        grammar.rules["root"] = text
        return grammar.text()
    bodies = []
    for tool in tools:
        arguments = grammar.arguments(tool.name, tool.parameters)
        bodies.append(literal(f'{dumps(tool.name)}, "arguments": ') + " " + arguments)
    one = grammar.add("call-body", " | ".join(bodies))
    opening, closing = literal(marks[0] + '{"name": '), literal("}" + marks[1])
    call = grammar.add("call", f"{opening} {one} {closing}")
    grammar.rules["root"] = call if choice == "required" else f"{call} | {text}"
    return grammar.text()


def _check_names(tools: Sequence[FunctionSpec]) -> None:
    names = [tool.name for tool in tools]
    for name in names:
        if not _NAME.fullmatch(name):
            raise GrammarError(
                f"{name!r} cannot be the name of a function",
                hint="1 to 64 letters, digits, _ . or -.",
            )
        if names.count(name) > 1:
            raise GrammarError(f"two functions are called {name}", hint="Names must differ.")


def _text_without(grammar: Grammar, marker: str) -> str:
    """Rules for text in which `marker` never stands: the states of looking for it.

    Needs a marker whose first character does not come again in it.
    """
    first = marker[0]
    if first in marker[1:]:
        raise AssertionError(f"the states of {marker} would need more ways back")
    names = ["text", *(f"text-{index}" for index in range(1, len(marker)))]
    for index, char in enumerate(marker):
        ways = [f"[^{first}] text" if index == 0 else f"[^{first}{char}] text"]
        ways.append(f'"{first}" {names[1]}')
        if 0 < index < len(marker) - 1:
            ways.append(f'"{char}" {names[index + 1]}')
        grammar.rules[names[index]] = " | ".join([*ways, '""'])
    return names[0]


def _read_call(text: str, tools: Sequence[FunctionSpec]) -> tuple[ToolCall | str, str]:
    """The call that `text` begins with, or what is wrong with it; and what follows."""
    try:
        value, end = parse_prefix(text)
    except StrictJsonError as error:
        return f"the tool call is not valid JSON: {error}", ""
    return _to_call(value, tools), text[end:].lstrip()


def _to_call(value: Json, tools: Sequence[FunctionSpec]) -> ToolCall | str:
    if not isinstance(value, dict) or set(value) != {"name", "arguments"}:
        return 'a tool call must be {"name": ..., "arguments": {...}}'
    name, arguments = value["name"], value["arguments"]
    names = [tool.name for tool in tools]
    if not isinstance(name, str) or name not in names:
        return f"there is no tool {dumps(name)}; the tools are: {', '.join(names) or 'none'}"
    if not isinstance(arguments, dict):
        return "the arguments of a tool call must be an object"
    return ToolCall(name, arguments)


def _without_tools(message: Message) -> Message:
    """The message in words that a template without tools can show."""
    if message.role == "tool":
        return Message("user", f"Result of {message.name or 'the tool'}:\n{message.content}")
    if message.tool_calls:
        calls = [
            dumps({"name": call.name, "arguments": call.arguments}) for call in message.tool_calls
        ]
        return Message(message.role, "\n".join([message.content, *calls]).strip())
    return message


def _tell(tools: tuple[FunctionSpec, ...]) -> str:
    lines = [
        dumps({"name": tool.name, "description": tool.description, "parameters": tool.parameters})
        for tool in tools
    ]
    return (
        "You may call one of these functions:\n" + "\n".join(lines) + "\n"
        'To call one, answer with nothing but {"name": "FUNCTION", "arguments": {...}}. '
        "Otherwise answer in plain words."
    )
