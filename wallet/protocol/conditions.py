"""Well-known secrets: spending conditions inside a proof's secret (NUT-10).

The text is what is signed and hashed, so a secret is parsed and never written again. A secret
whose JSON names a key twice could mean one thing to a wallet and another to a mint: refused.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from wallet.errors import ParseError
from wallet.protocol import _encoding, _fields

_MOST_TAGS = 64
_MOST_VALUES = 64

Tags = tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Condition:
    """A kind (`P2PK`, `HTLC`), its data, and tags: a name and values each."""

    kind: str
    data: str
    tags: Tags = ()
    nonce: str = field(default="", repr=False)

    def values(self, name: str) -> tuple[str, ...] | None:
        """The values of a tag; None where it is absent.

        Raises:
            ParseError: it is there twice.
        """
        found = [tag[1:] for tag in self.tags if tag[0] == name]
        if len(found) > 1:
            raise ParseError(f"a spending condition has two tags {name!r}")
        return found[0] if found else None


def parse(secret: str) -> Condition | None:
    """The condition in a proof's secret; None where it is an ordinary secret.

    Raises:
        ParseError: it has the form of a condition and is malformed, so that a mint may treat it
            otherwise than we do.
    """
    if not secret.lstrip(" \t\r\n").startswith("["):
        return None
    if len(secret) > _fields.MOST_SECRET:
        raise ParseError(f"a secret of {len(secret)} characters is too long")
    try:
        value = json.loads(secret, object_pairs_hook=_unique)
    except ValueError:
        return None
    except RecursionError:
        raise ParseError("a spending condition is nested too deeply") from None
    if not (isinstance(value, list) and len(value) == 2):
        return None
    kind, body = value
    if not (isinstance(kind, str) and isinstance(body, dict)):
        return None
    data, nonce = body.get("data"), body.get("nonce")
    if not (isinstance(data, str) and isinstance(nonce, str)):
        raise ParseError("a spending condition lacks data or nonce")
    return Condition(kind, data, read_tags(body.get("tags"), "a spending condition"), nonce)


def serialise(condition: Condition, random: Callable[[int], bytes] = secrets.token_bytes) -> str:
    """A new secret with this condition, and a new nonce where it has none."""
    body: dict[str, object] = {
        "nonce": condition.nonce or random(32).hex(),
        "data": condition.data,
        "tags": [list(tag) for tag in condition.tags],
    }
    return _encoding.to_json([condition.kind, body])


def read_tags(value: object, what: str) -> Tags:
    """Tags from JSON or CBOR: arrays of one or more strings that are not empty.

    Raises:
        ParseError: they are anything else.
    """
    if not _fields.present(value):
        return ()
    tags: list[tuple[str, ...]] = []
    for tag in _fields.sequence(value, f"the tags of {what}", _MOST_TAGS):
        parts = _fields.sequence(tag, f"a tag of {what}", _MOST_VALUES)
        if not parts:
            raise ParseError(f"a tag of {what} is empty")
        tags.append(tuple(_fields.text(part, f"a tag of {what}", 1_024) for part in parts))
    return tuple(tags)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        raise ParseError("a spending condition names a key twice")
    return value
