"""`bitcoin:` URIs (BIP-321): one text, as of a shop's code, that names several ways to pay it."""

from __future__ import annotations

from urllib.parse import unquote

_SCHEME = "bitcoin:"


def is_uri(text: str) -> bool:
    """Whether it is such a URI."""
    return text.strip()[: len(_SCHEME)].lower() == _SCHEME


def way(uri: str, name: str) -> str | None:
    """What the URI names for one way, as `creq` (NUT-26) or `lightning`; None where it names none
    or several. Names may be in any case; a plus is one (RFC 3986), as base64 has it."""
    parts = (part.partition("=") for part in uri.partition("?")[2].split("&"))
    named = [unquote(value) for field, _, value in parts if unquote(field).lower() == name]
    return named[0] if len(named) == 1 else None
