"""The `Idempotency-Key` of a request that may be sent again, as client and daemon take it."""

from __future__ import annotations

import re

from node.errors import RequestError

HEADER = "idempotency-key"
_KEY = re.compile(r"[!-~]{8,255}")


def check_key(key: str) -> str:
    """The key; empty stands for none.

    Raises:
        RequestError: it is not of 8 to 255 visible ASCII characters.
    """
    if key and not _KEY.fullmatch(key):
        raise RequestError(
            "a key that makes a request one with others must have 8 to 255 visible ASCII "
            "characters and no space",
            hint="A UUID is one, or `rent-2026-11`; every new request needs its own.",
        )
    return key
