"""Gift wraps (NIP-59): an event for one reader, whose author and time nobody else can see.

A rumor (an event without signature) is sealed by its author and wrapped by a key made for this
once. `message` and `unwrap` are what NIP-17's direct messages are made of.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from wallet.errors import ParseError, VerificationError
from wallet.nwc import nip44
from wallet.nwc.events import Event, Tags, event_id, unsigned
from wallet.nwc.keys import SecretKey

MESSAGE, SEAL, WRAP = 14, 13, 1059
TWO_DAYS_S = 2 * 24 * 3_600


@dataclass(frozen=True)
class Rumor:
    """An unsigned event: who wrote it is known from the seal around it."""

    pubkey: str
    created_at: int
    kind: int
    content: str = field(repr=False)
    tags: Tags = ()

    def to_json(self) -> dict[str, Any]:
        """The form it has inside a seal."""
        fields = (self.pubkey, self.created_at, self.kind, self.tags, self.content)
        names = ("pubkey", "created_at", "kind", "tags", "content")
        return {"id": event_id(*fields).hex(), **dict(zip(names, fields, strict=True))}


def message(
    author: SecretKey,
    reader: str,
    content: str,
    *,
    now: float,
    random: Callable[[int], int] = secrets.randbelow,
) -> Event:
    """A direct message (NIP-17) as the event to publish.

    Args:
        reader: the public key it is for.
        now: Unix seconds; the seal and the wrap say up to two days less.
        random: a number below its argument.

    Raises:
        ParseError: `reader` is no key, or the content is too long to encrypt twice.
    """
    rumor = Rumor(author.public, int(now), MESSAGE, content, (("p", reader),))
    sealed = _encrypted(author, reader, rumor.to_json())
    seal = Event.make(author, SEAL, sealed, now=now - random(TWO_DAYS_S))
    once = SecretKey.new()
    wrapped = _encrypted(once, reader, seal.to_json())
    tags = [["p", reader]]
    return Event.make(once, WRAP, wrapped, tags=tags, now=now - random(TWO_DAYS_S))


def unwrap(reader: SecretKey, wrap: Event) -> Rumor:
    """What a gift wrap holds.

    Raises:
        VerificationError: its seal is forged, or says another author than the rumor in it.
        ParseError, UnsupportedError: it holds none, or is for somebody else.
    """
    seal = Event.parse(_decrypted(reader, wrap.pubkey, wrap.content))
    if wrap.kind != WRAP or seal.kind != SEAL or seal.tags:
        raise ParseError("a gift wrap does not hold a seal")
    rumor = _rumor(_decrypted(reader, seal.pubkey, seal.content))
    if rumor.pubkey != seal.pubkey:
        raise VerificationError("a sealed message names another author than its seal")
    return rumor


def _encrypted(key: SecretKey, other: str, fields: dict[str, Any]) -> str:
    text = json.dumps(fields, separators=(",", ":"), ensure_ascii=False)
    return nip44.encrypt(text, nip44.conversation_key(key, other))


def _decrypted(key: SecretKey, other: str, payload: str) -> Any:
    text = nip44.decrypt(payload, nip44.conversation_key(key, other))
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise ParseError("a gift wrap does not hold JSON") from None


def _rumor(raw: Any) -> Rumor:
    if not isinstance(raw, dict):
        raise ParseError("a seal does not hold an event")
    fields = unsigned(raw)
    if "id" in raw and raw["id"] != event_id(**fields).hex():
        raise VerificationError("a rumor's id is not the digest of its content")
    return Rumor(**fields)
