"""Readers for single fields of what came from outside: the right type and size, or a ParseError.

`what` names the field in the message; its value never appears there, since it may be a secret.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cbor2

from wallet.errors import ParseError
from wallet.types import MAX_AMOUNT

MOST_SECRET = 8_192  # characters; mints allow about 1,000
MOST_URL = 1_024
MOST_UNIT = 32
MOST_MEMO = 4_096
MOST_WITNESS = 32_768


def present(value: object) -> bool:
    """Whether an optional field has a value: other wallets write null or undefined for none."""
    return value is not None and value is not cbor2.undefined


def mapping(value: object, what: str) -> Mapping[Any, object]:
    """A JSON object or CBOR map."""
    if not isinstance(value, dict):
        raise ParseError(f"{what} is not a map")
    return value


def sequence(value: object, what: str, most: int) -> Sequence[object]:
    """An array of at most so many elements."""
    if not isinstance(value, (list, tuple)):
        raise ParseError(f"{what} is not an array")
    if len(value) > most:
        raise ParseError(f"{what} holds {len(value)} elements, at most {most} are read")
    return value


def text(value: object, what: str, most: int) -> str:
    """A string of at least one character that UTF-8 can express."""
    if type(value) is not str or not value:
        raise ParseError(f"{what} is missing or no text")
    if len(value) > most:
        raise ParseError(f"{what} has {len(value)} characters, at most {most} are read")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ParseError(f"{what} is not Unicode text") from None
    return value


def amount(value: object, what: str) -> int:
    """A whole number above 0. True, 1.0 and "1" are none."""
    if type(value) is not int or not 0 < value <= MAX_AMOUNT:
        raise ParseError(f"{what} is not a whole number from 1 to 2^63 - 1")
    return value


def raw(value: object, what: str, length: int) -> bytes:
    """A CBOR byte string of this length."""
    if type(value) is not bytes or len(value) != length:
        raise ParseError(f"{what} is not {length} bytes")
    return value


def hexed(value: object, what: str, length: int) -> bytes:
    """So many bytes in hexadecimal."""
    if type(value) is str and len(value) == 2 * length:
        try:
            data = bytes.fromhex(value)
        except ValueError:
            data = b""
        if len(data) == length:
            return data
    raise ParseError(f"{what} is not {length} bytes in hex")


def point(data: bytes, what: str) -> bytes:
    """Has the form of a compressed point; that it lies on the curve shows when it is used."""
    if data[0] not in (2, 3):
        raise ParseError(f"{what} is not a compressed point")
    return data


def mint_url(value: object, what: str) -> str:
    """An http(s) URL without trailing slashes."""
    url = text(value, what, MOST_URL).rstrip("/")
    host = url.partition("://")[2]
    if not url.lower().startswith(("http://", "https://")) or not host or not url.isprintable():
        raise ParseError(f"{what} is not an http or https URL")
    if " " in url:
        raise ParseError(f"{what} holds a space")
    return url
