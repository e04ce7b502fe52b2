"""Types every room shares: JSON values, and their one canonical form.

The canonical form is what digests are taken over: keys sorted, no spaces, UTF-8, no NaN. It is not
RFC 8785 (numbers keep Python's shortest form), and nothing outside the node depends on it.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import TypeAlias

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
JsonObject: TypeAlias = "dict[str, Json]"

JSON_DEPTH = 128
"""How deep a value's lists and objects may be nested. What is written at the very edge of Python's
stack cannot be read back where less of the stack is left, so the edge is kept far away."""

_encode = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
).encode


def canonical(value: Json) -> bytes:
    """The canonical UTF-8 bytes of a JSON value.

    Raises:
        ValueError: the value holds NaN or an infinity, a lone surrogate, is nested over
            `JSON_DEPTH` deep, or is not JSON.
    """
    try:
        raw = _encode(value).encode()
    except (TypeError, RecursionError) as error:
        raise ValueError(str(error)) from error
    if deeper(raw, JSON_DEPTH):
        raise ValueError(f"nested over {JSON_DEPTH} deep")
    return raw


_TEXT = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"')
_ALIKE = bytes.maketrans(b"{}", b"[]")
_FLESH = bytes(set(range(256)) - set(b"{}[]"))


def deeper(raw: bytes, depth: int) -> bool:
    """Whether JSON text is nested over `depth` deep."""
    if raw.count(b"[") + raw.count(b"{") <= depth:
        return False
    bones = _TEXT.sub(b"", raw).translate(_ALIKE, _FLESH)
    for _ in range(depth):
        if not bones:
            return False
        bones = bones.replace(b"[]", b"")
    return bool(bones)


def digest(value: Json) -> str:
    """SHA-256 of the canonical form, in lower-case hex."""
    return hashlib.sha256(canonical(value)).hexdigest()
