"""Types every room shares: JSON values, and their one canonical form.

The canonical form is what digests are taken over: keys sorted, no spaces, UTF-8, no NaN. It is not
RFC 8785 (numbers keep Python's shortest form), and nothing outside the node depends on it.
"""

from __future__ import annotations

import hashlib
import json
from typing import TypeAlias

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
JsonObject: TypeAlias = "dict[str, Json]"


_encode = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
).encode


def canonical(value: Json) -> bytes:
    """The canonical UTF-8 bytes of a JSON value.

    Raises:
        ValueError: the value holds NaN or an infinity, a lone surrogate, or is not JSON.
    """
    try:
        return _encode(value).encode()
    except TypeError as error:
        raise ValueError(str(error)) from error


def digest(value: Json) -> str:
    """SHA-256 of the canonical form, in lower-case hex."""
    return hashlib.sha256(canonical(value)).hexdigest()
