"""Functions and calls in the form of OpenAI's chat API, for which chat templates are written too.

Spec: OpenAI API reference, "Create chat completion".
"""

from __future__ import annotations

from node.inference.types import FunctionSpec
from node.types import Json, JsonObject

_CALL_ID_CHARS = 9  # Mistral's templates raise on any other length


def function_json(tool: FunctionSpec) -> JsonObject:
    """A function that is offered; templates take its properties for granted."""
    function: JsonObject = {
        "name": tool.name,
        "description": tool.description,
        "parameters": {"type": "object", "properties": {}, **tool.parameters},
    }
    return {"type": "function", "function": function}


def call_id(number: int) -> str:
    """A made-up id for the call of that number in its conversation."""
    return f"call{number:0{_CALL_ID_CHARS - 4}d}"[-_CALL_ID_CHARS:]


def call_json(number: int, name: str, arguments: Json) -> JsonObject:
    """An earlier call; `arguments` are an object, or JSON text of one."""
    function: JsonObject = {"name": name, "arguments": arguments}
    return {"id": call_id(number), "type": "function", "function": function}
