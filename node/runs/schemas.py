"""A function's JSON Schema (draft 2020-12), compiled once, and what is wrong with arguments.

References are resolved within the schema only: jsonschema would fetch a remote one, and a tool's
schema must not be able to make the daemon open a connection. Nor to hold it up: a pattern that goes
back and forth over a text, or references that branch, can take for ever, so both compiling and
applying have a time limit.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, ValidationError, best_match
from referencing import Registry
from referencing.exceptions import Unresolvable

from node.alarm import no_panic, time_limit
from node.runs.content import clean_text
from node.types import Json, JsonObject, canonical

_LONGEST_MESSAGE = 300
_LONGEST_VALUE = 100
MOST_S = 0.5


class Checker:
    """Says what is wrong with a function's arguments, in words a model can act on."""

    def __init__(self, schema: JsonObject) -> None:
        Draft202012Validator.check_schema(schema)
        registry: Registry[Any] = Registry()
        self._validator = Draft202012Validator(schema, registry=registry)

    def wrong(self, arguments: Json) -> str:
        """Empty if the arguments are right; never raises."""
        try:
            with time_limit(MOST_S), no_panic():
                error = best_match(self._validator.iter_errors(arguments))
            return _words(error) if error is not None else ""
        except TimeoutError:
            return f"the schema cannot be applied within {MOST_S:g} s"
        except (Unresolvable, RecursionError, ArithmeticError, ValueError) as broken:
            return f"the schema cannot be applied: {type(broken).__name__}"


def checker(schema: JsonObject) -> Checker:
    """The compiled schema; the same schema is compiled once.

    Raises:
        ValueError: it is not a JSON Schema.
    """
    try:
        with time_limit(MOST_S), no_panic():
            return _compiled(canonical(schema))
    except (SchemaError, RecursionError, ArithmeticError, TimeoutError) as error:
        raise ValueError(str(error).splitlines()[0]) from error


@lru_cache(maxsize=512)
def _compiled(schema: bytes) -> Checker:
    import json

    return Checker(json.loads(schema))


def _words(error: ValidationError) -> str:
    """Where and why; without a long value, behind which nobody would read what is wrong."""
    where = ".".join(str(part) for part in error.absolute_path)
    why, value = error.message, repr(error.instance)
    if len(value) > _LONGEST_VALUE and why.startswith(value):
        why = f"it{why[len(value) :]}"
    return clean_text(f"{where}: {why}" if where else why)[:_LONGEST_MESSAGE]
