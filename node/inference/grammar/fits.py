"""Whether what a model wrote fits a schema, in words for that model where it does not.

A grammar does not express all that a schema says (`schema`), and a server may have none: so what
was written is looked at again.

Spec: JSON Schema 2020-12.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

from node.alarm import no_panic, time_limit
from node.inference.grammar.strict_json import StrictJsonError, parse_prefix
from node.types import Json, JsonObject, canonical

SCHEMA_S: Final = 0.5
_LONGEST_REASON = 300
_LONGEST_VALUE = 100


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
    from jsonschema.exceptions import SchemaError, best_match
    from referencing.exceptions import Unresolvable

    try:
        # a pattern, or references that branch, can take for ever
        with time_limit(SCHEMA_S), no_panic():
            error = best_match(_validator(canonical(schema)).iter_errors(value))
    except TimeoutError:
        return f"the schema cannot be applied within {SCHEMA_S:g} s"
    except (SchemaError, Unresolvable, RecursionError, ArithmeticError, ValueError) as broken:
        return f"the schema cannot be applied ({type(broken).__name__})"
    if error is None:
        return ""
    where = ".".join(str(part) for part in error.absolute_path)
    why, shown = error.message, repr(error.instance)
    if len(shown) > _LONGEST_VALUE and why.startswith(shown):  # else what is wrong is not said
        why = f"it{why[len(shown) :]}"
    return cut(f"{where}: {why}" if where else why)


@lru_cache(maxsize=256)
def _validator(schema: bytes) -> Any:
    """Compiled. References are looked up within the schema only, never fetched."""
    import json

    from jsonschema import Draft202012Validator
    from referencing import Registry

    value = json.loads(schema)
    Draft202012Validator.check_schema(value)
    registry: Registry[Any] = Registry()
    return Draft202012Validator(value, registry=registry)


def cut(text: str) -> str:
    """The text, or its beginning."""
    return text if len(text) <= _LONGEST_REASON else text[: _LONGEST_REASON - 1] + "…"
