"""Payment requests for QR codes: fields as TLV, in upper-case bech32m (NUT-26).

This module turns the map of NUT-18 into that text and back; what the fields must be is the
business of `requests`, which reads the map that comes out of here like any other.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from wallet.errors import ParseError, UnsupportedError
from wallet.protocol import bech32, nip19

_PREFIX = "creqb"
_ID, _AMOUNT, _UNIT, _SINGLE, _MINT, _DESCRIPTION, _TRANSPORT, _LOCK = range(1, 9)
_KIND, _TARGET, _TAG = range(1, 4)
_TRANSPORTS = ("nostr", "post")
_LOCKS = ("P2PK", "HTLC")
_MOST_PARTS = 256


def encode(value: Mapping[str, Any]) -> str:
    """The text for the map of NUT-18.

    Raises:
        UnsupportedError: a part is of a kind without a number, or too long for its length field.
        ParseError: a Nostr transport whose target is no npub or nprofile.
    """
    parts = [
        _text(_ID, value.get("i")),
        _part(_AMOUNT, struct.pack(">Q", value["a"])) if "a" in value else b"",
        _part(_UNIT, b"\x00") if value.get("u") == "sat" else _text(_UNIT, value.get("u")),
        _part(_SINGLE, bytes([value["s"]])) if "s" in value else b"",
        *(_text(_MINT, mint) for mint in value.get("m", ())),
        _text(_DESCRIPTION, value.get("d")),
        *(_part(_TRANSPORT, _transport(way)) for way in value.get("t", ())),
        _part(_LOCK, _lock(value["nut10"])) if "nut10" in value else b"",
    ]
    text = bech32.encode(_PREFIX, b"".join(parts), bech32.Variant.BECH32M)
    if len(text) > bech32.MOST_TEXT:
        raise UnsupportedError("the payment request is too long for this form; use version A")
    return text.upper()


def decode(text: str) -> dict[str, object]:
    """The map of NUT-18 that the text says; unknown parts are left out.

    Raises:
        ParseError: it is damaged, or a part is not what it must be.
    """
    prefix, data, variant = bech32.decode(text)
    if prefix != _PREFIX or variant is not bech32.Variant.BECH32M:
        raise ParseError("this is no payment request in bech32m")
    value: dict[str, object] = {}
    mints: list[str] = []
    transports: list[object] = []
    for kind, part in _parts(data):
        if kind == _MINT:
            mints.append(_string(part))
        elif kind == _TRANSPORT:
            transports.append(_transport_from(part))
        elif kind in _READERS:
            name, read = _READERS[kind]
            if name in value:
                raise ParseError(f"the payment request says {name!r} twice")
            value[name] = read(part)
    return value | {"m": mints, "t": transports}


# ── writing ─────────────────────────────────────────────────────────────────────────────────


def _part(kind: int, value: bytes) -> bytes:
    if len(value) > 0xFFFF:
        raise UnsupportedError("a part of the payment request is too long for this form")
    return struct.pack(">BH", kind, len(value)) + value


def _text(kind: int, value: str | None) -> bytes:
    return b"" if value is None else _part(kind, value.encode())


def _tag(values: Sequence[str]) -> bytes:
    parts = [value.encode() for value in values]
    if any(len(part) > 255 for part in parts):
        raise UnsupportedError("a tag of the payment request is too long for this form")
    return _part(_TAG, b"".join(bytes([len(part)]) + part for part in parts))


def _number(kind: str, names: Sequence[str]) -> bytes:
    if kind in names:
        return _part(_KIND, bytes([names.index(kind)]))
    if kind.isascii() and kind.isdigit() and len(kind) <= 3 and int(kind) <= 255:
        return _part(_KIND, bytes([int(kind)]))  # one we did not know when we read it
    raise UnsupportedError(f"{kind[:70]!r} has no number in this form; use version A")


def _transport(way: Mapping[str, Any]) -> bytes:
    target: bytes = way["a"].encode()
    relays: tuple[str, ...] = ()
    if way["t"] == "nostr":
        profile = nip19.read(way["a"])
        target, relays = profile.pubkey, profile.relays
    tags = [*way.get("g", ()), *(("r", relay) for relay in relays)]
    return (
        _number(way["t"], _TRANSPORTS)
        + _part(_TARGET, target)
        + b"".join(_tag(tag) for tag in tags)
    )


def _lock(lock: Mapping[str, Any]) -> bytes:
    tags = b"".join(_tag(tag) for tag in lock.get("t", ()))
    return _number(lock["k"], _LOCKS) + _text(_TARGET, lock["d"]) + tags


# ── reading ─────────────────────────────────────────────────────────────────────────────────


def _parts(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    for _ in range(_MOST_PARTS):
        if at == len(data):
            return
        kind, length = struct.unpack_from(">BH", data, at) if at + 3 <= len(data) else (0, 0xFFFFF)
        at += 3 + length
        if at > len(data):
            raise ParseError("the payment request breaks off")
        yield kind, data[at - length : at]
    raise ParseError(f"the payment request has more than {_MOST_PARTS} parts")


def _string(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise ParseError("a text in the payment request is not UTF-8") from None


def _amount(data: bytes) -> int:
    if len(data) != 8:
        raise ParseError("the payment request's amount is not 8 bytes")
    return int.from_bytes(data, "big")


def _unit(data: bytes) -> str:
    return "sat" if data == b"\x00" else _string(data)


def _flag(data: bytes) -> bool:
    if data not in (b"\x00", b"\x01"):
        raise ParseError("the payment request's single use is neither 0 nor 1")
    return data == b"\x01"


def _nested(data: bytes, names: Sequence[str]) -> tuple[str, bytes, list[list[str]]]:
    kinds: list[int] = []
    targets: list[bytes] = []
    tags: list[list[str]] = []
    for part, value in _parts(data):
        if part == _KIND and len(value) == 1:
            kinds.append(value[0])
        elif part == _TARGET:
            targets.append(value)
        elif part == _TAG:
            tags.append(_tag_from(value))
    if len(kinds) != 1 or len(targets) != 1:
        raise ParseError("a part of the payment request lacks its kind or target, or has two")
    return names[kinds[0]] if kinds[0] < len(names) else str(kinds[0]), targets[0], tags


def _tag_from(data: bytes) -> list[str]:
    found: list[str] = []
    while data:
        value = data[1 : 1 + data[0]]
        if len(value) < data[0]:
            raise ParseError("a tag of the payment request breaks off")
        found.append(_string(value))
        data = data[1 + len(value) :]
    return found


def _transport_from(data: bytes) -> dict[str, object]:
    kind, target, tags = _nested(data, _TRANSPORTS)
    if kind != "nostr":
        return {"t": kind, "a": _string(target), "g": tags}
    if len(target) != 32:
        raise ParseError("a Nostr transport's target is not 32 bytes")
    relays = tuple(relay for tag in tags if tag[:1] == ["r"] for relay in tag[1:])
    others = [tag for tag in tags if tag[:1] != ["r"]]
    return {"t": kind, "a": str(nip19.Profile(target, relays)), "g": others}


def _lock_from(data: bytes) -> dict[str, object]:
    kind, target, tags = _nested(data, _LOCKS)
    return {"k": kind, "d": _string(target), "t": tags}


_READERS = {
    _ID: ("i", _string),
    _AMOUNT: ("a", _amount),
    _UNIT: ("u", _unit),
    _SINGLE: ("s", _flag),
    _DESCRIPTION: ("d", _string),
    _LOCK: ("nut10", _lock_from),
}
