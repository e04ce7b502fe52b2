"""Payment requests and the payment that answers one (NUT-18).

The text has two forms: `creqA` (CBOR, here) and `creqB` (bech32m, NUT-26: `requests_b`). What a
request asks for is a stranger's wish: the payer's rules decide, and show `description` escaped.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from wallet.errors import ParseError
from wallet.protocol import _encoding, _fields, conditions, proofs, requests_b, uris
from wallet.protocol.conditions import Condition, Tags
from wallet.types import Proof

MOST_TEXT = 65_536  # characters of a request
MOST_PAYLOAD = 2_000_000  # bytes of a payment
_MOST_ID = 256
_MOST_MINTS = 100
_MOST_TRANSPORTS = 20


@dataclass(frozen=True)
class Transport:
    """How the payee wants to be paid: `nostr` to an nprofile, `post` to a URL, or one unknown."""

    kind: str
    target: str
    tags: Tags = ()

    def values(self, name: str) -> tuple[str, ...]:
        """All values of all tags of this name: `n` are the NIPs a payee reads."""
        return tuple(value for tag in self.tags if tag[0] == name for value in tag[1:])


@dataclass(frozen=True)
class PaymentRequest:
    """What a payee asks for; anything may be left open.

    Attributes:
        id: comes back in the payment.
        amount: in `unit`, which is set where the amount is.
        single_use: None where the request does not say.
        mints: of which ecash is taken; any, where there are none.
        transports: by preference. None: the payment travels as the request came (NUT-24).
        lock: the condition (NUT-10) that the payee wants the ecash locked with.
    """

    id: str | None = None
    amount: int | None = None
    unit: str | None = None
    single_use: bool | None = None
    mints: tuple[str, ...] = ()
    description: str | None = None
    transports: tuple[Transport, ...] = ()
    lock: Condition | None = None


@dataclass(frozen=True)
class PaymentPayload:
    """Ecash that answers a request, as it is sent over a transport."""

    mint: str
    unit: str
    proofs: tuple[Proof, ...] = field(repr=False)
    id: str | None = None
    memo: str | None = None

    @property
    def amount(self) -> int:
        """The sum of the proofs."""
        return sum(proof.amount for proof in self.proofs)


def encode(request: PaymentRequest, version: Literal["A", "B"] = "A") -> str:
    """The request as text.

    Raises:
        UnsupportedError: the form of version B has no room for a part of it.
        ParseError: a transport's target is no Nostr key (version B).
    """
    if version == "B":
        return requests_b.encode(to_value(request))
    return "creqA" + _encoding.to_base64(_encoding.to_cbor(to_value(request)), padded=True)


def decode(text: str) -> PaymentRequest:
    """Reads a request of either version, or a `bitcoin:` URI that holds one (BIP-321).

    Raises:
        ParseError: it cannot be read.
    """
    if len(text) > MOST_TEXT:
        raise ParseError(f"a request of {len(text)} characters is too long: {MOST_TEXT} are read")
    text = text.strip()
    if uris.is_uri(text):
        text = _of_uri(text)
    if text[:5].lower() == "creqa":
        data = _encoding.from_base64(text[5:], "the payment request")
        return from_value(_encoding.from_cbor(data, "the payment request"))
    if text[:6].lower() == "creqb1":
        return from_value(requests_b.decode(text))
    raise ParseError(
        "this is no Cashu payment request", hint="A payment request begins with creqA or creqB."
    )


def payload_to_json(payload: PaymentPayload) -> str:
    """The payment as its receiver reads it."""
    value = _without_none(
        id=payload.id,
        memo=payload.memo,
        mint=payload.mint,
        unit=payload.unit,
        proofs=[proofs.to_json(proof) for proof in payload.proofs],
    )
    return _encoding.to_json(value)


def payload_from_json(text: str | bytes, known_keysets: Iterable[str] = ()) -> PaymentPayload:
    """Reads a payment. That it pays the request is for the caller to check.

    Raises:
        ParseError: it cannot be read, holds too much, or the same proof twice.
    """
    if len(text) > MOST_PAYLOAD:
        raise ParseError(f"a payment of {len(text)} bytes is too long: {MOST_PAYLOAD} are read")
    fields = _fields.mapping(_encoding.from_json(text, "the payment"), "the payment")
    return PaymentPayload(
        id=_optional(fields.get("id"), "the payment's id", _MOST_ID),
        memo=_optional(fields.get("memo"), "the payment's memo", _fields.MOST_MEMO),
        mint=_fields.mint_url(fields.get("mint"), "the payment's mint"),
        unit=_fields.text(fields.get("unit"), "the payment's unit", _fields.MOST_UNIT),
        proofs=proofs.list_from_json(fields.get("proofs"), known_keysets),
    )


def to_value(request: PaymentRequest) -> dict[str, object]:
    """The map that NUT-18 describes, without what is left open."""
    lock = request.lock
    return _without_none(
        i=request.id,
        a=request.amount,
        u=request.unit,
        s=request.single_use,
        m=list(request.mints) or None,
        d=request.description,
        t=[
            _without_none(t=way.kind, a=way.target, g=_lists(way.tags))
            for way in request.transports
        ]
        or None,
        nut10=lock and _without_none(k=lock.kind, d=lock.data, t=_lists(lock.tags)),
    )


def from_value(value: object) -> PaymentRequest:
    """A request from the map that NUT-18 describes.

    Raises:
        ParseError: a field is not what it must be, or there is an amount without a unit.
    """
    fields = _fields.mapping(value, "the payment request")
    amount, unit = fields.get("a"), _optional(fields.get("u"), "its unit", _fields.MOST_UNIT)
    if _fields.present(amount) and unit is None:
        raise ParseError("the payment request names an amount without a unit")
    lock = fields.get("nut10")
    return PaymentRequest(
        id=_optional(fields.get("i"), "the request's id", _MOST_ID),
        amount=_fields.amount(amount, "the request's amount") if _fields.present(amount) else None,
        unit=unit,
        single_use=_flag(fields.get("s")),
        mints=tuple(
            _fields.mint_url(mint, "a mint of the request")
            for mint in _list(fields.get("m"), "the request's mints", _MOST_MINTS)
        ),
        description=_optional(fields.get("d"), "the request's description", _fields.MOST_MEMO),
        transports=tuple(
            _transport(way)
            for way in _list(fields.get("t"), "the request's transports", _MOST_TRANSPORTS)
        ),
        lock=_lock(lock) if _fields.present(lock) else None,
    )


def _transport(value: object) -> Transport:
    fields = _fields.mapping(value, "a transport")
    return Transport(
        _fields.text(fields.get("t"), "a transport's type", 32),
        _fields.text(fields.get("a"), "a transport's target", 8_192),
        conditions.read_tags(fields.get("g"), "a transport"),
    )


def _lock(value: object) -> Condition:
    fields = _fields.mapping(value, "the request's lock")
    return Condition(
        _fields.text(fields.get("k"), "the lock's kind", 32),
        _fields.text(fields.get("d"), "the lock's data", 1_024),
        conditions.read_tags(fields.get("t"), "the request's lock"),
    )


def _flag(value: object) -> bool | None:
    if not _fields.present(value):
        return None
    if not isinstance(value, bool):
        raise ParseError("the request's single use is neither true nor false")
    return value


def _optional(value: object, what: str, most: int) -> str | None:
    if not _fields.present(value) or value == "":
        return None
    return _fields.text(value, what, most)


def _list(value: object, what: str, most: int) -> Iterable[object]:
    return _fields.sequence(value, what, most) if _fields.present(value) else ()


def _lists(tags: Tags) -> list[list[str]] | None:
    return [list(tag) for tag in tags] or None


def _without_none(**fields: object) -> dict[str, object]:
    return {name: value for name, value in fields.items() if value is not None}


def _of_uri(uri: str) -> str:
    found = uris.way(uri, "creq")
    if not found:
        raise ParseError(
            "the bitcoin: URI holds no Cashu payment request",
            hint="Nothing is paid on the chain: ask for a Lightning invoice or a payment request.",
        )
    return found
