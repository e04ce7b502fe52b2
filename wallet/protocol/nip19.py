"""A Nostr key with or without relays, as text: npub and nprofile (NIP-19).

Payment requests name their recipient so.
"""

from __future__ import annotations

from dataclasses import dataclass

from wallet.errors import ParseError
from wallet.protocol import bech32

_PUBKEY, _RELAY = 0, 1
_MOST_TEXT = 8_192  # characters
_MOST_RELAYS = 20


@dataclass(frozen=True)
class Profile:
    """A public key of 32 bytes, x only, and the relays it reads."""

    pubkey: bytes
    relays: tuple[str, ...] = ()

    def __str__(self) -> str:
        """An npub, or an nprofile where there are relays that fit into one."""
        if not self.relays:
            return bech32.encode("npub", self.pubkey, bech32.Variant.BECH32)
        data = bytes([_PUBKEY, len(self.pubkey)]) + self.pubkey
        for relay in self.relays:
            encoded = relay.encode()
            if len(encoded) > 255:
                raise ParseError(f"a relay's URL of {len(encoded)} bytes is too long")
            data += bytes([_RELAY, len(encoded)]) + encoded
        return bech32.encode("nprofile", data, bech32.Variant.BECH32)


def read(text: str) -> Profile:
    """An npub or nprofile.

    Raises:
        ParseError: it is neither.
    """
    prefix, data, variant = bech32.decode(text, most=_MOST_TEXT)
    if variant is bech32.Variant.BECH32 and prefix == "npub" and len(data) == 32:
        return Profile(data)
    if variant is not bech32.Variant.BECH32 or prefix != "nprofile":
        raise ParseError("this is neither an npub nor an nprofile")
    keys, relays = [], []
    while data:
        kind, value = data[0], data[2 : 2 + data[1]] if len(data) > 1 else b""
        if len(data) < 2 or len(value) < data[1]:
            raise ParseError("an nprofile breaks off")
        data = data[2 + len(value) :]
        if kind == _PUBKEY:
            keys.append(value)
        elif kind == _RELAY:
            relays.append(_url(value))
    if len(keys) != 1 or len(keys[0]) != 32 or len(relays) > _MOST_RELAYS:
        raise ParseError("an nprofile must hold one key of 32 bytes, and few relays")
    return Profile(keys[0], tuple(relays))


def _url(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise ParseError("a relay's URL is not text") from None
