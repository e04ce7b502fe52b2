"""Base64, JSON and CBOR from strangers, with every surprise turned into a ParseError.

Callers bound the size before they come here. CBOR's tags are refused, since none belongs in a
token or request and some are traps: shared references make a small input large, rationals and
regular expressions make a short one slow. Floating point passes through here and is refused by
the fields, none of which is one.
"""

from __future__ import annotations

import base64
import json
from typing import NoReturn

import cbor2

from wallet.errors import ParseError

_DEPTH = 16
_TAGS = (*range(6), 25, 28, 29, 30, 35, 36, 37, 52, 54, 100, 256, 258, 260, 261, 1004, 43000, 55799)


def from_base64(text: str, what: str) -> bytes:
    """Either alphabet, with or without padding."""
    plain = text.rstrip("=").replace("-", "+").replace("_", "/")
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except ValueError:
        raise ParseError(f"{what} is not base64", hint="Was it copied whole?") from None


def to_base64(data: bytes, *, padded: bool = False) -> str:
    """The URL-safe alphabet."""
    text = base64.urlsafe_b64encode(data).decode()
    return text if padded else text.rstrip("=")


def from_json(text: str | bytes, what: str) -> object:
    """One JSON value."""
    try:
        value: object = json.loads(text)
    except (ValueError, RecursionError):
        raise ParseError(f"{what} is not JSON") from None
    return value


def to_json(value: object) -> str:
    """Compact, and not escaped beyond need: these strings are signed and hashed as they are."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def from_cbor(data: bytes, what: str) -> object:
    """One CBOR value without tags; duplicate keys are refused."""
    try:
        value: object = cbor2.loads(
            data,
            semantic_decoders=dict.fromkeys(_TAGS, _refuse),
            max_depth=_DEPTH,
            allow_duplicate_keys=False,
            strict_hashable_types=True,
        )
    except Exception:  # not all that the library raises is a CBORError
        raise ParseError(f"{what} is not CBOR", hint="Was it copied whole?") from None
    return value


def to_cbor(value: object) -> bytes:
    """With keys in the order given."""
    return cbor2.dumps(value)


def _refuse(*_: object) -> NoReturn:
    raise ParseError("a tag in CBOR")
