"""Bytes as text that people can copy: bech32 (BIP-173) and bech32m (BIP-350).

Without the 90 characters BIP-173 allows, since payment requests, nprofiles and LNURLs are longer;
callers bound the length.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum

from wallet.errors import ParseError

MOST_TEXT = 16_384  # characters
_ALPHABET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_VALUES = {letter: value for value, letter in enumerate(_ALPHABET)}
_GENERATORS = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)


class Variant(IntEnum):
    """The checksum's constant tells which."""

    BECH32 = 1
    BECH32M = 0x2BC830A3


def encode(prefix: str, data: bytes, variant: Variant) -> str:
    """Lower case. `prefix` is what stands before the separator `1`."""
    values = _regrouped(data, 8, 5)
    checksum = _polymod([*_expanded(prefix), *values, *[0] * 6]) ^ variant
    values += [checksum >> 5 * (5 - place) & 31 for place in range(6)]
    return f"{prefix}1" + "".join(_ALPHABET[value] for value in values)


def decode(text: str, *, most: int = MOST_TEXT) -> tuple[str, bytes, Variant]:
    """The prefix in lower case, the data, and which of the two it is.

    Raises:
        ParseError: cases are mixed, a character or the checksum is wrong, or it is too long.
    """
    if len(text) > most:
        raise ParseError(f"a bech32 text of {len(text)} characters is too long: {most} are read")
    lower = text.lower()
    prefix, separator, body = lower.rpartition("1")
    values = [_VALUES.get(letter, -1) for letter in body]
    if text not in (lower, text.upper()) or not separator or not prefix or len(values) < 6:
        raise ParseError("this is no bech32 text")
    if not text.isascii() or not prefix.isprintable() or -1 in values:
        raise ParseError("a bech32 text holds a character that belongs in none")
    checksum = _polymod([*_expanded(prefix), *values])
    if checksum not in (Variant.BECH32, Variant.BECH32M):
        raise ParseError("the checksum of a bech32 text is wrong", hint="Was it copied whole?")
    return prefix, _bytes(values[:-6]), Variant(checksum)


def _bytes(values: list[int]) -> bytes:
    spare = len(values) * 5 % 8
    if spare >= 5 or (values and values[-1] & (1 << spare) - 1):
        raise ParseError("a bech32 text ends in bits that belong to no byte")
    return bytes(_regrouped(values, 5, 8)[: len(values) * 5 // 8])


def _regrouped(values: Iterable[int], old: int, new: int) -> list[int]:
    """Groups of `old` bits as groups of `new`, the last filled with zeros."""
    held, bits, groups = 0, 0, []
    for value in values:
        held, bits = (held << old | value) & 0xFFFF, bits + old
        while bits >= new:
            bits -= new
            groups.append(held >> bits & (1 << new) - 1)
    if bits:
        groups.append(held << (new - bits) & (1 << new) - 1)
    return groups


def _expanded(prefix: str) -> list[int]:
    return [*(ord(letter) >> 5 for letter in prefix), 0, *(ord(letter) & 31 for letter in prefix)]


def _polymod(values: Iterable[int]) -> int:
    checksum = 1
    for value in values:
        top = checksum >> 25
        checksum = (checksum & 0x1FFFFFF) << 5 ^ value
        for bit, generator in enumerate(_GENERATORS):
            if top >> bit & 1:
                checksum ^= generator
    return checksum
