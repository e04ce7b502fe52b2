"""What a server says of its errors, in words that can be shown: one line, cut, without its key."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from node.errors import ContextOverflowError, RemoteError, RemoteRefusedError
from node.inference.grammar.gbnf import dumps
from node.types import Json

Conceal = Callable[[str], str]
_UNSUPPORTED: Final = ("unsupported_parameter", "unsupported_value")
_OVERFLOW: Final = ("context size", "context length", "context_length", "exceed_context")


def server_error(
    who: str, body: Json, status: int = 0, *, conceal: Conceal = str
) -> RemoteError | ContextOverflowError:
    """The error a server tells of, in its own words, cut; with the status where there is one.

    Without a status it came in the middle of an answer. `conceal` takes the server's key out of
    the words, before they are cut and half of it is left.
    """
    words = _error_words(body, conceal)
    told = f": {words}" if words else ""
    where = f" (status {status})" if status else ""
    if any(mark in words.lower() for mark in _OVERFLOW):
        return ContextOverflowError(
            f"the prompt does not fit, says {who}{where}{told}",
            hint="Shorten the conversation, or give the server a larger context.",
        )
    message, hint = f"{who} refused the request{where}{told}", _advice(status)
    if not status:
        return RemoteError(message, hint=hint)
    refused = RemoteRefusedError(message, hint=hint)
    refused.setting = _unsupported(body)
    return refused


def _unsupported(body: Json) -> str:
    """The member of the request that OpenAI says a model does not take, or not with that value."""
    error = body.get("error") if isinstance(body, dict) else None
    if not isinstance(error, dict) or error.get("code") not in _UNSUPPORTED:
        return ""
    return str(error.get("param") or "")


def _error_words(body: Json, conceal: Conceal) -> str:
    """What an error's body says: OpenAI's `error.message`, or whatever else is there."""
    found: Json = body
    for key in ("error", "message", "detail"):
        if isinstance(found, dict) and found.get(key) is not None:
            found = found[key]
    words = found if isinstance(found, str) else "" if found is None else dumps(found)
    kind = body.get("error") if isinstance(body, dict) else None
    code = str(kind.get("code") or kind.get("type") or "") if isinstance(kind, dict) else ""
    told = f"{words} [{code}]" if code and code not in words else words
    plain = "".join(char if char.isprintable() else " " for char in conceal(told))
    return plain if len(plain) <= 300 else plain[:299] + "…"


def _advice(status: int) -> str:
    return {
        401: "It wants another key: `freehold model connect` keeps one.",
        403: "The key may not do this: `freehold model connect` keeps another.",
        404: "Look at the address, and at the model's name there.",
    }.get(status, "Look at the server's log.")
