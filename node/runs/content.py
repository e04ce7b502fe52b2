"""Walks over JSON that came from outside: bounded in depth, never raising.

Text from a tool or a model may be valid JSON and still not be storable: a lone surrogate written
as an escape, NaN, or ten thousand brackets. `clean` makes it storable, so that nothing behind it
has to think of that.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator

from node.types import Json

MAX_DEPTH = 64
TOO_DEEP = "[nested too deep]"


def map_text(value: Json, change: Callable[[str], str]) -> Json:
    """The same value with `change` applied to every string, keys too; what is nested more than 64
    deep becomes a note."""
    return _mapped(value, change, lambda number: number)


def _mapped(
    value: Json, text: Callable[[str], str], number: Callable[[float], Json], depth: int = 0
) -> Json:
    if isinstance(value, str):
        return text(value)
    if isinstance(value, float):
        return number(value)
    if not isinstance(value, list | dict):
        return value
    if depth >= MAX_DEPTH:
        return TOO_DEEP
    if isinstance(value, list):
        return [_mapped(item, text, number, depth + 1) for item in value]
    return {text(key): _mapped(item, text, number, depth + 1) for key, item in value.items()}


def scalars(value: Json) -> Iterator[str | int | float]:
    """Every string and number in a value, keys too; what is nested too deep is left out."""
    stack: list[tuple[Json, int]] = [(value, 0)]
    while stack:
        item, depth = stack.pop()
        if isinstance(item, bool) or item is None:
            continue
        if isinstance(item, str | int | float):
            yield item
        elif depth < MAX_DEPTH:
            inner = item if isinstance(item, list) else [*item.keys(), *item.values()]
            stack.extend((part, depth + 1) for part in reversed(inner))


def clean(value: Json) -> Json:
    """The value as it can be stored and hashed: lone surrogates become U+FFFD, NaN and the
    infinities null, and what is nested more than 64 deep a note."""
    return _mapped(value, clean_text, lambda number: number if math.isfinite(number) else None)


def clean_text(text: str) -> str:
    """The text with lone surrogates replaced by U+FFFD."""
    if text.isascii():
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def compact(value: Json) -> str:
    """JSON without spaces, keys in their own order: how a model sees a result."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def text_bytes(value: Json) -> int:
    """About how many bytes of UTF-8 JSON the value has, without building them."""
    total = 0
    for item in scalars(value):
        if isinstance(item, str):
            total += (len(item) if item.isascii() else len(item.encode("utf-8", "replace"))) + 3
        elif isinstance(item, int):
            total += item.bit_length() // 3 + 2
        else:
            total += 18
    return total
