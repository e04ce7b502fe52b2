"""Tokens: ecash as text that one person gives another (NUT-00).

V4 (`cashuB`, CBOR) is what is written; V3 (`cashuA`, JSON) is deprecated and still met. `craw` is
V4 as bytes. A token says what it claims and proves nothing: whoever receives it checks each
proof (`dleq.check`) against keysets fetched from a mint they chose to trust. A memo is a stranger's
text: escape it before it meets a terminal.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from wallet.errors import ParseError, UnsupportedError
from wallet.protocol import _encoding, _fields, proofs
from wallet.protocol.keysets import read_id, whole_id
from wallet.types import Dleq, Proof, Token

MOST_TEXT = 2_000_000  # characters of a token that are looked at
_MOST_MINTS = 100
_RAW = b"crawB"


def decode(text: str, known_keysets: Iterable[str] = ()) -> Token:
    """Reads a token of version 3 or 4, with or without `cashu:` before it.

    Args:
        text: the token.
        known_keysets: whole ids of the mint's keysets, to resolve shortened ones with. Without
            any, shortened ids stay short: see `resolve`.

    Raises:
        ParseError: it cannot be read, holds too much, or the same proof twice.
        UnsupportedError: a version of the future, or proofs of more than one mint.
    """
    if len(text) > MOST_TEXT:
        raise ParseError(f"a token of {len(text)} characters is too long: {MOST_TEXT} are read")
    text = text.strip()
    if text[:6].lower() == "cashu:":
        text = text[6:].removeprefix("//")
    head, body = text[:6], text[6:]
    if head == "cashuB":
        return _from_v4(_encoding.from_base64(body, "the token"), known_keysets)
    if head == "cashuA":
        return _from_v3(_encoding.from_base64(body, "the token"), known_keysets)
    if head.startswith("cashu") and head[5:].isalnum():
        raise UnsupportedError(f"tokens of version {head[5:]!r} are not known")
    raise ParseError("this is no Cashu token", hint="A token begins with cashuB or cashuA.")


def encode(token: Token, version: int = 4) -> str:
    """Writes a token. Version 3 only for those who cannot read version 4.

    Raises:
        UnsupportedError: another version.
    """
    if version == 4:
        return "cashuB" + _encoding.to_base64(_encoding.to_cbor(_to_v4(token)))
    if version == 3:
        return "cashuA" + _encoding.to_base64(_encoding.to_json(_to_v3(token)).encode())
    raise UnsupportedError(f"tokens of version {version} cannot be written")


def decode_raw(data: bytes, known_keysets: Iterable[str] = ()) -> Token:
    """Reads a token of version 4 in binary form. Raises as `decode`."""
    if len(data) > MOST_TEXT:
        raise ParseError(f"a token of {len(data)} bytes is too long: {MOST_TEXT} are read")
    if not data.startswith(_RAW):
        raise ParseError("this is no binary Cashu token", hint="One begins with crawB.")
    return _from_v4(data.removeprefix(_RAW), known_keysets)


def encode_raw(token: Token) -> bytes:
    """Writes a token of version 4 in binary form."""
    return _RAW + _encoding.to_cbor(_to_v4(token))


def resolve(token: Token, known_keysets: Iterable[str]) -> Token:
    """The same token with every shortened keyset id made whole.

    Raises:
        ParseError: not exactly one known keyset begins like one of them.
    """
    known = tuple(known_keysets)
    whole = {short: whole_id(short, known) for short in {proof.id for proof in token.proofs}}
    found = tuple(replace(proof, id=whole[proof.id]) for proof in token.proofs)
    return replace(token, proofs=found)


# ── V4 ──────────────────────────────────────────────────────────────────────────────────────


def _from_v4(data: bytes, known: Iterable[str]) -> Token:
    fields = _fields.mapping(_encoding.from_cbor(data, "the token"), "the token")
    known, found = tuple(known), list[Proof]()
    for group in _fields.sequence(fields.get("t"), "the token's list", proofs.MOST_PROOFS):
        part = _fields.mapping(group, "a part of the token")
        keyset = part.get("i")
        if type(keyset) is not bytes:
            raise ParseError("a part of the token names no keyset")
        whole = read_id(keyset.hex(), known)
        room = proofs.MOST_PROOFS - len(found)
        for proof in _fields.sequence(part.get("p"), "the token's list of proofs", room):
            found.append(_proof_from_v4(_fields.mapping(proof, "a proof"), whole))
    return Token(
        mint=_fields.mint_url(fields.get("m"), "the token's mint"),
        unit=_fields.text(fields.get("u"), "the token's unit", _fields.MOST_UNIT),
        proofs=proofs.checked(found),
        memo=_memo(fields.get("d")),
    )


def _proof_from_v4(fields: Mapping[Any, object], keyset: str) -> Proof:
    dleq, witness, ephemeral = fields.get("d"), fields.get("w"), fields.get("pe")
    return Proof(
        amount=_fields.amount(fields.get("a"), "a proof's amount"),
        id=keyset,
        secret=_fields.text(fields.get("s"), "a proof's secret", _fields.MOST_SECRET),
        c=_point(fields.get("c"), "a proof's C"),
        dleq=_dleq_from_v4(dleq) if _fields.present(dleq) else None,
        witness=_fields.text(witness, "a proof's witness", _fields.MOST_WITNESS)
        if _fields.present(witness)
        else None,
        ephemeral=_point(ephemeral, "a proof's pe") if _fields.present(ephemeral) else None,
    )


def _dleq_from_v4(value: object) -> Dleq:
    fields = _fields.mapping(value, "a proof's DLEQ")
    e, s = (_fields.raw(fields.get(name), f"a DLEQ's {name}", 32) for name in "es")
    r = fields.get("r")
    return Dleq(e, s, _fields.raw(r, "a DLEQ's r", 32) if _fields.present(r) else None)


def _point(value: object, what: str) -> bytes:
    return _fields.point(_fields.raw(value, what, 33), what)


def _memo(value: object) -> str | None:
    if not _fields.present(value) or value == "":
        return None
    return _fields.text(value, "the token's memo", _fields.MOST_MEMO)


def _to_v4(token: Token) -> dict[str, object]:
    groups: dict[str, list[object]] = {}
    for proof in token.proofs:
        groups.setdefault(proof.id, []).append(_proof_to_v4(proof))
    value: dict[str, object] = {
        "t": [{"i": bytes.fromhex(keyset), "p": found} for keyset, found in groups.items()]
    }
    if token.memo:
        value["d"] = token.memo
    return value | {"m": token.mint, "u": token.unit}


def _proof_to_v4(proof: Proof) -> dict[str, object]:
    value: dict[str, object] = {"a": proof.amount, "s": proof.secret, "c": proof.c}
    if proof.dleq is not None:
        parts = {"e": proof.dleq.e, "s": proof.dleq.s, "r": proof.dleq.r}
        value["d"] = {name: part for name, part in parts.items() if part is not None}
    if proof.witness is not None:
        value["w"] = proof.witness
    if proof.ephemeral is not None:
        value["pe"] = proof.ephemeral
    return value


# ── V3 ──────────────────────────────────────────────────────────────────────────────────────


def _from_v3(data: bytes, known: Iterable[str]) -> Token:
    fields = _fields.mapping(_encoding.from_json(data, "the token"), "the token")
    known, found, mints = tuple(known), list[Proof](), set[str]()
    for entry in _fields.sequence(fields.get("token"), "the token's list", _MOST_MINTS):
        part = _fields.mapping(entry, "a part of the token")
        mints.add(_fields.mint_url(part.get("mint"), "the token's mint"))
        room = proofs.MOST_PROOFS - len(found)
        for proof in _fields.sequence(part.get("proofs"), "the token's list of proofs", room):
            found.append(proofs.from_json(proof, known))
    if len(mints) > 1:
        raise UnsupportedError(
            f"the token holds ecash of {len(mints)} mints",
            hint="Ask the sender for one token a mint.",
        )
    unit = fields.get("unit")
    return Token(
        mint="".join(mints),
        unit=_fields.text(unit, "the token's unit", _fields.MOST_UNIT) if unit else "sat",
        proofs=proofs.checked(found),
        memo=_memo(fields.get("memo")),
    )


def _to_v3(token: Token) -> dict[str, object]:
    found = [proofs.to_json(proof) for proof in token.proofs]
    value: dict[str, object] = {"token": [{"mint": token.mint, "proofs": found}]}
    value["unit"] = token.unit
    return value | {"memo": token.memo} if token.memo else value
