"""Events and filters of Nostr (NIP-01): made and signed, parsed and verified.

An `Event` that exists is whole: `Event.parse` takes nothing whose id is not the digest of its
content or whose signature is not by its author, so the rest of the code never asks again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from wallet.errors import ParseError, VerificationError
from wallet.nwc.keys import KEY_BYTES, SIGNATURE_BYTES, SecretKey, hex_bytes, verify

Tags = tuple[tuple[str, ...], ...]

MAX_KIND = 65_535
MAX_TIME = 2**53 - 1  # what every JSON reader still takes exactly
MAX_TAGS = 5_000
_FIELDS = ("id", "pubkey", "created_at", "kind", "tags", "content", "sig")


def event_id(pubkey: str, created_at: int, kind: int, tags: Tags, content: str) -> bytes:
    """SHA-256 of the event's serialised form.

    Raises:
        ParseError: a text in it is not valid Unicode.
    """
    listed = [0, pubkey, created_at, kind, tags, content]
    text = json.dumps(listed, separators=(",", ":"), ensure_ascii=False)
    try:
        return hashlib.sha256(text.encode()).digest()
    except UnicodeEncodeError:
        raise ParseError("an event's text is not valid Unicode") from None


@dataclass(frozen=True)
class Event:
    """A signed event. `created_at` in seconds since 1970; hex is lowercase."""

    id: str
    pubkey: str
    created_at: int
    kind: int
    tags: Tags
    content: str = field(repr=False)
    sig: str = field(repr=False)

    @classmethod
    def make(
        cls,
        key: SecretKey,
        kind: int,
        content: str,
        *,
        tags: Sequence[Sequence[str]] = (),
        now: float,
    ) -> Event:
        """An event signed with `key`.

        Raises:
            ParseError: a kind or a text no event can have.
        """
        own, at = tuple(tuple(tag) for tag in tags), int(now)
        _check_numbers(at, kind)
        digest = event_id(key.public, at, kind, own, content)
        return cls(digest.hex(), key.public, at, kind, own, content, key.sign(digest).hex())

    @classmethod
    def parse(cls, raw: object) -> Event:
        """The event a decoded JSON object holds, once its id and signature are right.

        Raises:
            ParseError: it is no event.
            VerificationError: its id or its signature is not right.
        """
        fields = _fields(raw)
        author, signature = fields["pubkey"], fields["sig"]
        digest = event_id(
            author, fields["created_at"], fields["kind"], fields["tags"], fields["content"]
        )
        if digest.hex() != fields["id"]:
            raise VerificationError("an event's id is not the digest of its content")
        if not verify(bytes.fromhex(author), digest, bytes.fromhex(signature)):
            raise VerificationError("an event's signature is not by its author")
        return cls(**fields)

    def to_json(self) -> dict[str, Any]:
        """The form it has on the wire."""
        return {name: getattr(self, name) for name in _FIELDS}

    def tag(self, name: str) -> str | None:
        """The value of the first tag of that name."""
        return next(iter(self.values(name)), None)

    def values(self, name: str) -> tuple[str, ...]:
        """The values of all tags of that name."""
        return tuple(tag[1] for tag in self.tags if len(tag) > 1 and tag[0] == name)


def _check_numbers(created_at: object, kind: object) -> None:
    if type(created_at) is not int or not 0 <= created_at <= MAX_TIME:
        raise ParseError("an event's time is not a whole number of seconds")
    if type(kind) is not int or not 0 <= kind <= MAX_KIND:
        raise ParseError(f"an event's kind is not a number from 0 to {MAX_KIND}")


def _tags(raw: object) -> Tags:
    if not isinstance(raw, list) or len(raw) > MAX_TAGS:
        raise ParseError("an event's tags are not a list of bearable length")
    for tag in raw:
        if not isinstance(tag, list) or not all(isinstance(item, str) for item in tag):
            raise ParseError("an event's tag is not a list of texts")
    return tuple(tuple(tag) for tag in raw)


def unsigned(raw: dict[str, Any]) -> dict[str, Any]:
    """The fields an event's id is made of, checked.

    Raises:
        ParseError: one is missing, or not what it must be.
    """
    if any(name not in raw for name in _FIELDS[1:-1]):
        raise ParseError("an event lacks one of its fields")
    _check_numbers(raw["created_at"], raw["kind"])
    hex_bytes(raw["pubkey"], KEY_BYTES, "an event's author")
    if not isinstance(raw["content"], str):
        raise ParseError("an event's content is not a text")
    return {**{name: raw[name] for name in _FIELDS[1:-1]}, "tags": _tags(raw["tags"])}


def _fields(raw: object) -> dict[str, Any]:
    if not isinstance(raw, dict) or not {"id", "sig"} <= raw.keys():
        raise ParseError("an event lacks one of its fields")
    hex_bytes(raw["id"], 32, "an event's id")
    hex_bytes(raw["sig"], SIGNATURE_BYTES, "an event's signature")
    return {"id": raw["id"], **unsigned(raw), "sig": raw["sig"]}


@dataclass(frozen=True)
class Filter:
    """What to ask a relay for; an empty field asks for anything. `tags`: name to values."""

    kinds: tuple[int, ...] = ()
    authors: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()
    tags: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    since: int | None = None
    until: int | None = None
    limit: int | None = None

    def to_json(self) -> dict[str, Any]:
        """The form it has on the wire."""
        named = {f"#{name}": values for name, values in self.tags.items()}
        every = {
            "kinds": self.kinds,
            "authors": self.authors,
            "ids": self.ids,
            "since": self.since,
            "until": self.until,
            "limit": self.limit,
        }
        chosen = {name: value for name, value in every.items() if value not in (None, ())}
        return {**named, **chosen}

    @classmethod
    def parse(cls, raw: object) -> Filter:
        """The filter a decoded JSON object holds.

        Raises:
            ParseError: it is none, or asks for something unknown.
        """
        if not isinstance(raw, dict):
            raise ParseError("a filter is not an object")
        plain: dict[str, Any] = {}
        tags: dict[str, tuple[str, ...]] = {}
        for name, value in raw.items():
            if name in ("kinds", "authors", "ids"):
                plain[name] = _listed(value, int if name == "kinds" else str)
            elif name in ("since", "until", "limit"):
                plain[name] = _whole(value)
            elif len(name) == 2 and name.startswith("#"):
                tags[name[1:]] = _listed(value, str)
            else:
                raise ParseError("a filter asks for something unknown")
        return cls(**plain, tags=tags)

    def matches(self, event: Event) -> bool:
        """Whether a relay would send this event for it."""
        return (
            (not self.kinds or event.kind in self.kinds)
            and (not self.authors or event.pubkey in self.authors)
            and (not self.ids or event.id in self.ids)
            and (self.since is None or event.created_at >= self.since)
            and (self.until is None or event.created_at <= self.until)
            and all(
                not set(values).isdisjoint(event.values(name)) for name, values in self.tags.items()
            )
        )


def _listed(value: object, kind: type) -> tuple[Any, ...]:
    if not isinstance(value, list) or not all(type(item) is kind for item in value):
        raise ParseError("a filter's list is not one")
    return tuple(value)


def _whole(value: object) -> int:
    if type(value) is not int or not 0 <= value <= MAX_TIME:
        raise ParseError("a filter's number is not a whole one")
    return value
