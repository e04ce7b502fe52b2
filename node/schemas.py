"""JSON Schema (2020-12): compiled once, and what of a value does not fit, in words.

References are resolved within the schema only: jsonschema would fetch a remote one, and a tool's
schema must not be able to make the daemon open a connection. Nor to hold it up: a pattern that goes
back and forth over a text, or references that branch, can take for ever, so both compiling and
applying have a time limit.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, Final

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, ValidationError, best_match
from referencing import Registry
from referencing.exceptions import Unresolvable

from node.alarm import time_limit
from node.types import Json, JsonObject, canonical

COMPILED_S: Final = 2.0  # once; a large one takes a good part of it
MOST_S: Final = 0.5
_LONGEST_MESSAGE: Final = 300
_LONGEST_VALUE: Final = 100


class Checker:
    """Says what is wrong with a value, in words a model can act on."""

    def __init__(self, schema: JsonObject) -> None:
        Draft202012Validator.check_schema(schema)
        registry: Registry[Any] = Registry()
        self._validator = Draft202012Validator(schema, registry=registry)

    def wrong(self, value: Json) -> str:
        """Where it does not fit, and why; empty if it does. Never raises."""
        try:
            with _bounded(MOST_S):
                error = best_match(self._validator.iter_errors(value))
            return "" if error is None else _words(error)
        except TimeoutError:
            return f"the schema cannot be applied within {MOST_S:g} s"
        except (Unresolvable, RecursionError, ArithmeticError, ValueError) as broken:
            return f"the schema cannot be applied: {type(broken).__name__}"


def checker(schema: JsonObject) -> Checker:
    """The compiled schema; the same schema is compiled once.

    Raises:
        ValueError: it is not a JSON Schema, or takes too long to tell.
    """
    try:
        with _bounded(COMPILED_S):
            return _compiled(canonical(schema))
    except (SchemaError, RecursionError, ArithmeticError, TimeoutError) as error:
        raise ValueError(str(error).splitlines()[0]) from error


@lru_cache(maxsize=4096)
def _compiled(schema: bytes) -> Checker:
    return Checker(json.loads(schema))


@contextmanager
def _bounded(seconds: float) -> Iterator[None]:
    """Raises TimeoutError in the block after `seconds`, and RecursionError for a panic.

    jsonschema looks references up in Rust code, which panics where the limit of recursion is met in
    it. A panic is no Exception, and would get past all who are ready for any of those; a schema
    that refers to itself can bring it about.
    """
    try:
        with time_limit(seconds):
            yield
    except BaseException as error:
        if type(error).__module__ != "pyo3_runtime":
            raise
        raise RecursionError("it went too deep") from None


def _words(error: ValidationError) -> str:
    """Where and why; without a long value, behind which nobody would read what is wrong."""
    where = ".".join(str(part) for part in error.absolute_path)
    why, value = error.message, repr(error.instance)
    if len(value) > _LONGEST_VALUE and why.startswith(value):
        why = f"it{why[len(value) :]}"
    return (f"{where}: {why}" if where else why)[:_LONGEST_MESSAGE]
