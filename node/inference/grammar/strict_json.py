"""JSON of a model's making, read strictly: what two readers could take for two things is refused.

Spec: RFC 8259, with its interoperability advice made rules (no duplicate names, no lone
surrogates, finite numbers), and a bound on depth.
"""

from __future__ import annotations

import json
import math
from typing import Final, NoReturn

from node.errors import InferenceError
from node.types import Json

MAX_DEPTH: Final = 64


class StrictJsonError(InferenceError):
    """Why the text is not acceptable, in words for the one who wrote it."""


def parse_prefix(text: str, start: int = 0) -> tuple[Json, int]:
    """The value that begins at `start` and the index after it.

    Raises:
        StrictJsonError: the text there is not acceptable JSON.
    """
    try:
        value, end = _DECODER.raw_decode(text, start)
    except StrictJsonError:
        raise
    except json.JSONDecodeError as error:
        raise StrictJsonError(f"{error.msg} at character {error.pos - start}") from error
    except RecursionError as error:
        raise StrictJsonError(f"nested over {MAX_DEPTH} deep") from error
    except ValueError as error:  # int() of over 4,300 digits
        raise StrictJsonError("a number of too many digits") from error
    _check(value, 0)
    return value, end


def _check(value: Json, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise StrictJsonError(f"nested over {MAX_DEPTH} deep")
    if isinstance(value, str):
        _check_text(value)
    elif isinstance(value, list):
        for item in value:
            _check(item, depth + 1)
    elif isinstance(value, dict):
        for key, item in value.items():
            _check_text(key)
            _check(item, depth + 1)


def _check_text(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise StrictJsonError("text with half of a surrogate pair") from error


def _pairs(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    value = dict(pairs)
    if len(value) < len(pairs):
        raise StrictJsonError("the same name twice in one object")
    return value


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise StrictJsonError(f"the number {text} is too large")
    return value


def _constant(name: str) -> NoReturn:
    raise StrictJsonError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_pairs, parse_float=_finite, parse_constant=_constant, strict=True
)
