"""Whether what a model wrote fits a schema, in words for that model where it does not.

A grammar does not express all that a schema says (`schema`), and a server may have none: so what
was written is looked at again.

Spec: JSON Schema 2020-12.
"""

from __future__ import annotations

from node.inference.grammar.strict_json import StrictJsonError, parse_prefix
from node.schemas import checker
from node.types import Json, JsonObject


def answer_fault(schema: JsonObject, text: str) -> str | None:
    """What keeps a text from being an answer in JSON of the schema; None where it is one."""
    value, fault = read_json(text)
    if fault:
        return f"the answer must be JSON of the schema asked for; it is {fault}"
    wrong = schema_fault(schema, value)
    return f"the answer does not fit the schema asked for: {wrong}" if wrong else None


def read_json(text: str) -> tuple[Json, str]:
    """The one strict JSON value that the text is; or None, and what it is instead."""
    stripped = text.strip()
    try:
        value, end = parse_prefix(stripped)
    except StrictJsonError as error:
        return None, f"not valid JSON: {error.message}"
    if end != len(stripped):
        return None, "not valid JSON: there is more behind it"
    return value, ""


def schema_fault(schema: JsonObject, value: Json) -> str:
    """Where a value does not fit a JSON Schema (2020-12); "" where it does. Never raises."""
    try:
        return checker(schema).wrong(value)
    except ValueError as error:
        return f"the schema cannot be applied: {error}"
