"""What a chat template can show, found by showing it something.

Templates are written for their makers' own code: one raises on a system turn, one shows it only
while a user's turn is the last, one drops the text of a turn that calls, one joins arguments to
text and so wants them as text, many know no tools at all. None of that can be read off the source,
so small conversations with words that stand nowhere else are rendered, and what does not come out
is given to the template in another way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from node.errors import TemplateError
from node.inference.chat import call_id, call_json, function_json
from node.inference.grammar.gbnf import dumps
from node.inference.types import FunctionSpec, Message, ToolCall
from node.types import Json, JsonObject

Render = Callable[[Mapping[str, object]], str]

_SYSTEM, _USER, _NAME, _KEY, _VALUE, _RESULT = (
    f"zq{word}zq" for word in ("system", "user", "name", "key", "value", "result")
)
_CALLED: Final = (
    Message("assistant", "", (ToolCall(_NAME, {_KEY: _VALUE}),)),
    Message("tool", _RESULT, name=_NAME),
)


@dataclass(frozen=True)
class Shape:
    """How a template takes a conversation.

    Attributes:
        system: it shows a system turn, also when results were the last to come.
        tools: it shows the tools it is given.
        calls: it shows earlier calls and their results.
        arguments_as_text: it wants a call's arguments as JSON text, not as an object.
        no_content: it wants no content at all, not an empty one, in a turn that only calls.
    """

    system: bool = True
    tools: bool = True
    calls: bool = True
    arguments_as_text: bool = False
    no_content: bool = False


def shape_of(render: Render) -> Shape:
    """Finds the shape of a template. Never raises TemplateError: what raises is not shown."""
    shape = _shape_of_calls(render, Shape(tools=_shows_tools(render)))
    return replace(shape, system=_shows_system(render, shape))


def turns_of(messages: tuple[Message, ...], shape: Shape) -> list[Json]:
    """The messages in the form templates are written for; calls and results share made-up ids."""
    turns: list[Json] = []
    waiting: list[tuple[str, str]] = []
    made = 0
    for message in messages:
        turn: JsonObject = {"role": message.role, "content": message.content}
        if message.name is not None:
            turn["name"] = message.name
        if message.tool_calls:
            waiting = []
            calls: list[Json] = []
            for call in message.tool_calls:
                made += 1
                waiting.append((call_id(made), call.name))
                given = dumps(call.arguments) if shape.arguments_as_text else call.arguments
                calls.append(call_json(made, call.name, given))
            turn["tool_calls"] = calls
            if shape.no_content and not message.content:
                turn["content"] = None
        elif message.role == "tool" and waiting:
            at = next((i for i, (_, name) in enumerate(waiting) if name == message.name), 0)
            turn["tool_call_id"] = waiting.pop(at)[0]
        turns.append(turn)
    return turns


def fold_system(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """A system turn's text at the head of the first user turn's."""
    if not messages or messages[0].role != "system":
        return messages
    system, *rest = messages
    if rest and rest[0].role == "user":
        return (Message("user", f"{system.content}\n\n{rest[0].content}"), *rest[1:])
    return (Message("user", system.content), *rest)


def _rendered(render: Render, turns: list[Json], tools: Json = None) -> str:
    try:
        return render({"messages": turns, "tools": tools, "add_generation_prompt": True})
    except TemplateError:
        return ""


def _shows_system(render: Render, shape: Shape) -> bool:
    asked = (Message("system", _SYSTEM), Message("user", _USER))
    conversations = (asked, (*asked, *_CALLED)) if shape.calls else (asked,)
    shown = [_rendered(render, turns_of(each, shape)) for each in conversations]
    return all(_SYSTEM in text and _USER in text for text in shown)


def _shows_tools(render: Render) -> bool:
    properties: JsonObject = {_KEY: {"type": "string", "description": "d"}}
    schema: JsonObject = {"type": "object", "properties": properties, "required": [_KEY]}
    tool = function_json(FunctionSpec(_NAME, "d", schema))
    return _NAME in _rendered(render, turns_of((Message("user", _USER),), Shape()), [tool])


def _shape_of_calls(render: Render, shape: Shape) -> Shape:
    for as_text in (False, True):
        for no_content in (False, True):
            tried = replace(shape, arguments_as_text=as_text, no_content=no_content)
            if _shows_calls(render, tried):
                return tried
    return replace(shape, calls=False)


def _shows_calls(render: Render, shape: Shape) -> bool:
    shown = _rendered(render, turns_of((Message("user", _USER), *_CALLED), shape))
    whole = all(word in shown for word in (_NAME, _KEY, _VALUE, _RESULT))
    badly = (f"'{_KEY}'", f'\\"{_KEY}', "None")  # Python's own notation, JSON in JSON, no content
    return whole and not any(word in shown for word in badly)
