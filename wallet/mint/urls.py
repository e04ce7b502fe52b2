"""Addresses of mints (NUT-00: no slash at the end).

Ecash is a bearer token, so it goes over TLS; plain HTTP only to this machine, and to onion
services, which encrypt by themselves.
"""

from __future__ import annotations

from urllib.parse import SplitResult, urlsplit

from wallet import network
from wallet.errors import ParseError, RefusedError

_MOST_CHARACTERS = 512


def mint_url(text: str) -> str:
    """The address in its one form: lower-case host, no slash at the end.

    Raises:
        ParseError: it is no address, or has parts a mint's address has not.
        RefusedError: plain HTTP to another machine.
    """
    parts, port = _parts(text)
    host = (parts.hostname or "").lower()
    if parts.scheme == "http" and not (network.is_here(host) or host.endswith(".onion")):
        raise RefusedError(
            f"mint {text!r} would be spoken to without encryption",
            hint="Use its https:// address; http:// is for this machine and onion services only.",
        )
    shown = f"[{host}]" if ":" in host else host
    usual = {"http": 80, "https": 443}[parts.scheme]
    suffix = "" if port in (None, usual) else f":{port}"
    return f"{parts.scheme}://{shown}{suffix}{parts.path.rstrip('/')}"


def websocket_url(url: str) -> str:
    """Where a mint's updates come from (NUT-17)."""
    return "ws" + url.removeprefix("http") + "/v1/ws"


def _parts(text: str) -> tuple[SplitResult, int | None]:
    told = ascii(text[:100])
    try:
        parts = urlsplit(text.strip())
        port = parts.port
    except ValueError:
        raise ParseError(f"{told} is not an address", hint="Mints' begin with https://.") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ParseError(f"{told} is not a mint's address", hint="They begin with https://.")
    if parts.query or parts.fragment or "@" in parts.netloc or len(text) > _MOST_CHARACTERS:
        raise ParseError(
            f"the mint address {told} has parts that no mint's address has",
            hint="Give scheme, host, port and path only.",
        )
    if not text.isascii() or not text.strip().isprintable() or " " in text.strip():
        raise ParseError(f"the mint address {told} has characters that addresses have not")
    return parts, port
