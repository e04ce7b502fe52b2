"""NIP-47's connection string: who the wallet service is, where it listens, and our secret.

The string is a key to somebody's money. It is parsed once, and from then on the secret lives in a
`SecretKey` that shows itself to nobody; no error repeats any part of the string.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

from wallet.errors import ParseError
from wallet.nwc.keys import KEY_BYTES, SecretKey, check_public, hex_bytes
from wallet.nwc.websocket import check_url

SCHEME = "nostr+walletconnect"
_SCHEMES = (SCHEME, "nostrwalletconnect")  # the second is what it was called at first
MAX_LENGTH = 4_096
MAX_RELAYS = 8
_HINT = "Copy the whole connection string from your wallet again."


@dataclass(frozen=True)
class Connection:
    """A wallet service's public key, its relays, our key for talking to it, and the Lightning
    address of the wallet where the string names one."""

    service: str
    relays: tuple[str, ...]
    key: SecretKey = field(repr=False)
    address: str | None = None

    @classmethod
    def parse(cls, text: str) -> Connection:
        """What a connection string says.

        Raises:
            ParseError: it is none; the message holds nothing of it.
        """
        try:
            return cls._parse(text.strip())
        except ParseError as error:
            raise ParseError(f"this is no connection string: {error.message}", hint=_HINT) from None

    @classmethod
    def _parse(cls, text: str) -> Connection:
        scheme, _, rest = text[:MAX_LENGTH].partition(":")
        if scheme.lower() not in _SCHEMES or len(text) >= MAX_LENGTH:
            raise ParseError(f"it does not begin with {SCHEME}:// or is too long")
        try:
            parts = urlsplit("//" + rest.removeprefix("//"))
            asked = parse_qs(parts.query, max_num_fields=32, errors="strict")
        except ValueError:
            raise ParseError("its parameters cannot be read") from None
        service = check_public((parts.netloc + parts.path.rstrip("/")).lower(), "the wallet's key")
        secret = hex_bytes(_only(asked, "secret").lower(), KEY_BYTES, "the secret")
        address = next(iter(asked.get("lud16", [])), None)
        return cls(service, _relays(asked), SecretKey(secret), address)


def _only(asked: dict[str, list[str]], name: str) -> str:
    values = asked.get(name, [])
    if len(values) != 1:
        raise ParseError(f"it names {len(values)} values for '{name}', not one")
    return values[0]


def _relays(asked: dict[str, list[str]]) -> tuple[str, ...]:
    urls = tuple(dict.fromkeys(asked.get("relay", [])))
    if not 1 <= len(urls) <= MAX_RELAYS:
        raise ParseError(f"it names {len(urls)} relays, not 1 to {MAX_RELAYS}")
    return tuple(check_url(url) for url in urls)
