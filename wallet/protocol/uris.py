"""`bitcoin:` URIs (BIP-321): one text, as of a shop's code, that names several ways to pay it."""

from __future__ import annotations

from urllib.parse import parse_qs

_SCHEME = "bitcoin:"
_MOST_FIELDS = 50


def is_uri(text: str) -> bool:
    """Whether it is such a URI."""
    return text.strip()[: len(_SCHEME)].lower() == _SCHEME


def way(uri: str, name: str) -> str | None:
    """What the URI names for one way, as `creq` (NUT-26) or `lightning`; None where it names none
    or several. Names may be in any case."""
    try:
        found = parse_qs(uri.partition("?")[2], max_num_fields=_MOST_FIELDS)
    except ValueError:
        return None
    named = [value for field, values in found.items() if field.lower() == name for value in values]
    return named[0].strip() if len(named) == 1 else None
