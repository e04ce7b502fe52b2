"""What every family of models shares: the seam, the reading of a call's JSON, the checks of names.

A family says how the conversation must look for its template, which grammar its answers have, and
how to read them. The grammar and the reader of a family are made from the same marks, so that what
the one allows the other reads.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from node.errors import GrammarError
from node.inference.grammar.gbnf import dumps
from node.inference.grammar.strict_json import StrictJsonError, parse_prefix
from node.inference.types import FunctionSpec, Message, ToolCall
from node.types import Json, JsonObject

Choice = Literal["auto", "none", "required"]
State = Literal["start", "reasoning", "text", "call"]
Tools = tuple[FunctionSpec, ...]
Calls = tuple[ToolCall, ...]
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


@dataclass(frozen=True)
class Parsed:
    """A finished answer. `malformed` says what is wrong, in words a model can act on."""

    text: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    malformed: str | None = None
    reasoning: str = ""


class Shown(NamedTuple):
    """What of an answer that grows may be shown: no markup, nor what may become markup.

    A tuple, since one is made for every token.
    """

    text: str = ""
    reasoning: str = ""


@dataclass(frozen=True)
class Asked:
    """What an answer may be.

    Attributes:
        tools, choice: as in `Generation`.
        many: whether one answer may hold several calls, where the family can.
        thinking: whether the prompt ended inside a block of reasoning (`CallFormat.thinks`).
        answer: the schema of an answer in text, which is then JSON; None for free text.
    """

    tools: Tools = ()
    choice: Choice = "auto"
    many: bool = True
    thinking: bool = False
    answer: JsonObject | None = None


class Reader(Protocol):
    """Reads one answer while it is made. Give it each token's text, "" where there is none yet."""

    @property
    def state(self) -> State:
        """Where the answer is; "start" as long as it may still become a call or text."""
        ...

    @property
    def done(self) -> bool:
        """Whether a stop string, or the family's own end, was reached: the rest is not wanted."""
        ...

    @property
    def reasoning_tokens(self) -> int:
        """How many of the pushes were of reasoning, its marks included."""
        ...

    def push(self, text: str) -> Shown:
        """Takes what was made and returns what may be shown of it; nothing once it is done."""
        ...

    def close(self, *, cut: bool = False) -> tuple[Shown, Parsed]:
        """The rest that may be shown, and what the answer says. `cut`: it was not finished."""
        ...


class CallFormat(Protocol):
    """One family's way of calling tools. `markers` are the special tokens an answer may hold."""

    @property
    def name(self) -> str: ...
    @property
    def markers(self) -> tuple[str, ...]: ...

    def prepare(
        self, messages: tuple[Message, ...], tools: Tools
    ) -> tuple[tuple[Message, ...], Tools]:
        """The conversation and the tools as the template must be given them."""
        ...

    def tell(self, tools: Tools) -> str:
        """The tools in words, for a template that does not show them."""
        ...

    def thinks(self, prompt: str) -> bool:
        """Whether a prompt that ends so leaves the model inside a block of reasoning."""
        ...

    def grammar(self, asked: Asked) -> str:
        """GBNF of an answer; its root is `root`. Where no tools are offered none is needed.

        Raises:
            GrammarError: a tool's name or schema cannot be expressed, or is too large.
        """
        ...

    def reader(self, asked: Asked, stop: tuple[str, ...] = ()) -> Reader:
        """Reads an answer that was asked for so. `stop` strings end text, never calls."""
        ...


def parse(form: CallFormat, raw: str, asked: Asked) -> Parsed:
    """Reads a whole answer. Never raises."""
    reader = form.reader(asked)
    reader.push(raw)
    return reader.close()[1]


def tell(tools: Tools, example: str) -> str:
    """The tools in words, and how to call one."""
    lines = "\n".join(
        dumps({"name": tool.name, "description": tool.description, "parameters": tool.parameters})
        for tool in tools
    )
    return (
        f"You may call these functions:\n{lines}\n"
        f"To call one, write {example} and nothing after it. Otherwise answer in plain words."
    )


def check(asked: Asked) -> None:
    """Refuses names that no format could write, and calls required of no tools.

    Raises:
        GrammarError: says which.
    """
    if asked.choice == "required" and not asked.tools:
        raise GrammarError("a tool call is required but no tool is offered")
    seen: set[str] = set()
    for tool in asked.tools:
        if not _NAME.fullmatch(tool.name):
            raise GrammarError(
                f"{tool.name[:80]!r} cannot be the name of a function",
                hint="1 to 64 letters, digits, _ . or -.",
            )
        if tool.name in seen:
            raise GrammarError(f"two functions are called {tool.name}", hint="Names must differ.")
        seen.add(tool.name)


class NotACall(Exception):
    """Why what a model wrote is not a call, in words for that model. Never leaves the package."""


def read_json(text: str, start: int = 0) -> tuple[Json, int]:
    """The JSON value that begins at `start`, and where it ends.

    Raises:
        NotACall: there is none.
    """
    try:
        return parse_prefix(text, start)
    except StrictJsonError as error:
        raise NotACall(f"the tool call is not valid JSON: {error}") from error


def to_call(name: Json, arguments: Json, tools: Sequence[FunctionSpec]) -> ToolCall:
    """A call of one of the tools.

    Raises:
        NotACall: there is no such tool, or the arguments are no object.
    """
    if not isinstance(name, str) or all(tool.name != name for tool in tools):
        names = ", ".join(tool.name for tool in tools) or "none"
        raise NotACall(f"there is no tool {dumps(name)[:100]}; the tools are: {names}")
    if not isinstance(arguments, dict):
        raise NotACall("the arguments of a tool call must be an object")
    return ToolCall(name, arguments)


def named_call(value: Json, tools: Sequence[FunctionSpec], key: str = "arguments") -> ToolCall:
    """A call out of `{"name": ..., "arguments": ...}`; `key` is the family's word for the second.

    Raises:
        NotACall: it has another shape.
    """
    if not isinstance(value, dict) or set(value) - {"id", "type"} != {"name", key}:
        raise NotACall(f'a tool call must be {{"name": ..., "{key}": {{...}}}}')
    return to_call(value["name"], value[key], tools)


def skip(text: str, mark: str, at: int = 0) -> int:
    """The index after `mark`, white space before it passed over.

    Raises:
        NotACall: something else stands there.
    """
    at = past_space(text, at)
    if not text.startswith(mark, at):
        raise NotACall(f"a tool call must have {mark.strip()} here: {text[at : at + 40]!r}")
    return at + len(mark)


def past_space(text: str, at: int) -> int:
    """The index of the first character from `at` on that is not white space."""
    while at < len(text) and text[at] in " \t\r\n":
        at += 1
    return at


def read_alone(text: str, tools: Tools, key: str = "arguments") -> Calls:
    """The one call that is all of the answer.

    Raises:
        NotACall: it is none, or more stands there.
    """
    value, at = read_json(text, past_space(text, 0))
    if past_space(text, at) < len(text):
        raise NotACall("a tool call must be the whole answer, with no text after it")
    return (named_call(value, tools, key),)


def read_wrapped(
    section: str, opening: str, closing: str, one: Callable[[int], tuple[ToolCall, int]]
) -> Calls:
    """Calls one after another, each between two marks. `one` reads what begins at an index.

    Raises:
        NotACall: a mark is missing, or what `one` says.
    """
    calls, at = [], 0
    while at < len(section):
        call, at = one(past_space(section, skip(section, opening, at)))
        calls.append(call)
        at = past_space(section, skip(section, closing, at))
    return tuple(calls)


def read_named(section: str, at: int, tools: Tools, key: str = "arguments") -> tuple[ToolCall, int]:
    """The call in the JSON that begins at `at`, and where it ends.

    Raises:
        NotACall: there is none.
    """
    value, end = read_json(section, at)
    return named_call(value, tools, key), end


def one_call_a_turn(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """The same conversation for a template that shows one call a turn, each before its result."""
    turns: list[Message] = []
    waiting: list[Message] = []
    for message in messages:
        if message.role == "tool" and waiting:
            names = [turn.tool_calls[0].name for turn in waiting]
            turns.append(waiting.pop(names.index(message.name) if message.name in names else 0))
        else:
            turns += waiting
            waiting = []
        if message.role == "assistant" and len(message.tool_calls) > 1:
            first, *rest = message.tool_calls
            waiting = [Message("assistant", message.content, (first,))]
            waiting += [Message("assistant", "", (call,)) for call in rest]
        else:
            turns.append(message)
    return (*turns, *waiting)
