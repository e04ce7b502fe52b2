"""Keysets: their ids, fees, and the amounts they can express (NUT-01, NUT-02).

An id is derived from the keys, so that a mint cannot give two users different keys under one
name. Version 1 (`00`, 8 bytes) hashes the keys only; version 2 (`01`, 33 bytes) the unit, fee and
expiry too. Tokens may shorten a version 2 id to its first 8 bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256

from wallet.errors import ParseError, UnsupportedError, VerificationError
from wallet.protocol import curve
from wallet.types import Keyset, KeysetInfo

MOST_KEYS = 512
MOST_PARTS = 1_000  # proofs that one amount may be split into
_MOST_KEY_AMOUNT = 2**64 - 1
_ID = re.compile(r"(?:00[0-9a-f]{14}|01[0-9a-f]{64})\Z")
_SHORT = re.compile(r"01[0-9a-f]{14}\Z")


def keyset_id(
    keys: Mapping[int, bytes],
    *,
    unit: str,
    final_expiry: int | None = None,
    input_fee_ppk: int = 0,
    version: int,
) -> str:
    """The id of a keyset, in hex: version 1 begins with `00`, version 2 with `01` (NUT-02).

    Raises:
        UnsupportedError: another version.
    """
    ordered = sorted(keys.items())
    if version == 1:
        return "00" + sha256(b"".join(key for _, key in ordered)).hexdigest()[:14]
    if version != 2:
        raise UnsupportedError(f"keyset ids of version {version} are not known")
    text = ",".join(f"{amount}:{key.hex()}" for amount, key in ordered) + f"|unit:{unit.lower()}"
    if input_fee_ppk:
        text += f"|input_fee_ppk:{input_fee_ppk}"
    if final_expiry:
        text += f"|final_expiry:{final_expiry}"
    return "01" + sha256(text.encode()).hexdigest()


def version_of(keyset: str) -> int:
    """The version of a whole id: 1 or 2.

    Raises:
        UnsupportedError: neither, such as the ids of before 2024, or a shortened one.
    """
    if not _ID.match(keyset):
        raise UnsupportedError(
            f"keyset id {keyset[:70]!r} is of no version this wallet knows",
            hint="The mint is too old or too new.",
        )
    return 1 if keyset.startswith("00") else 2


def checked(info: KeysetInfo, keys: Mapping[int, bytes]) -> Keyset:
    """A keyset whose keys are points and whose id comes from them.

    Raises:
        VerificationError: a key is no point, an amount no amount, or the id another keyset's.
        UnsupportedError: an id of unknown version.
    """
    version = version_of(info.id)
    if "|" in info.unit:  # would let a unit pose as another keyset's fee or expiry
        raise VerificationError(f"keyset {info.id} has a unit that is none")
    if not 0 < len(keys) <= MOST_KEYS:
        raise VerificationError(f"keyset {info.id} has {len(keys)} keys")
    for amount, key in keys.items():
        if not 0 < amount <= _MOST_KEY_AMOUNT or not curve.is_point(key):
            raise VerificationError(f"keyset {info.id} has a key that is none, for {amount}")
    derived = keyset_id(
        keys,
        unit=info.unit,
        final_expiry=info.final_expiry,
        input_fee_ppk=info.input_fee_ppk,
        version=version,
    )
    if derived != info.id:
        raise VerificationError(
            f"the keys of keyset {info.id} are those of {derived}",
            hint="Do not use this mint until its operator explains it.",
        )
    return Keyset(info, dict(sorted(keys.items())))


def split(amount: int, amounts: Sequence[int]) -> tuple[int, ...]:
    """The fewest of a keyset's amounts that sum to `amount`, ascending.

    Largest first, which gives the fewest where each amount divides the next, as all mints have.

    Raises:
        UnsupportedError: it is negative, or cannot be made of them in a thousand parts.
    """
    parts: list[int] = []
    rest = amount
    for part in sorted(set(amounts), reverse=True):
        count, rest = divmod(rest, part) if rest >= part > 0 else (0, rest)
        if len(parts) + count > MOST_PARTS:
            break
        parts += [part] * count
    if rest or sum(parts) != amount:
        raise UnsupportedError(f"the keyset's amounts cannot make up {amount}")
    return tuple(reversed(parts))


def fee(keysets_of_inputs: Iterable[KeysetInfo]) -> int:
    """What the mint charges for inputs of these keysets, one a proof, in their unit (NUT-02)."""
    return (sum(info.input_fee_ppk for info in keysets_of_inputs) + 999) // 1000


def whole_id(short: str, known: Iterable[str]) -> str:
    """The whole id of one that a token may have shortened (NUT-00); whole ones stay as they are.

    Raises:
        ParseError: it is no id, or not exactly one known keyset begins so.
    """
    if _ID.match(short):
        return short
    if not _SHORT.match(short):
        raise ParseError(f"{short[:70]!r} is not a keyset id of a version this wallet knows")
    found = {keyset for keyset in known if keyset.startswith(short)}
    if len(found) != 1:
        raise ParseError(
            f"{'no' if not found else 'more than one'} known keyset has an id beginning {short}",
            hint="Load the mint's keysets, then read the token again.",
        )
    return found.pop()


def read_id(text: str, known: Iterable[str] = ()) -> str:
    """An id as tokens hold it: made whole where any keyset is known, else taken as it is.

    Raises:
        ParseError: it is no id, or cannot be made whole.
    """
    known = tuple(known)
    if not known and _SHORT.match(text):
        return text
    return whole_id(text.lower(), known)
