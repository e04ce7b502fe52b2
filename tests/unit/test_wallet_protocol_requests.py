"""Payment requests in both forms, the payments that answer them, and signed quotes."""

from __future__ import annotations

import base64
import json
import struct
from dataclasses import replace
from typing import Any

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wallet.errors import ParseError, UnsupportedError
from wallet.protocol import bech32, curve, nip19, p2pk, quotes, requests, uris
from wallet.protocol.conditions import Condition
from wallet.protocol.requests import PaymentPayload, PaymentRequest, Transport
from wallet.types import MAX_AMOUNT, BlindedMessage, Dleq, Proof

KEY = curve.public(bytes(31) + b"\x07")
PROFILE = nip19.Profile(KEY[1:], ("wss://relay.example.com", "wss://other.example.com"))
FULL = PaymentRequest(
    id="an id",
    amount=21,
    unit="sat",
    single_use=True,
    mints=("https://a.example.com", "http://localhost:3338"),
    description="Kaffee ☕",
    transports=(
        Transport("nostr", str(PROFILE), (("n", "17", "4"),)),
        Transport("post", "https://pay.example.com/x"),
    ),
    lock=Condition("P2PK", KEY.hex(), (("locktime", "5"), ("refund", KEY.hex()))),
)
PROOF = Proof(1, "00ad268c4d1f5826", "s", KEY, Dleq(b"e" * 32, b"s" * 32, b"r" * 32))
PAYLOAD = PaymentPayload("https://a.example.com", "sat", (PROOF,), "an id", "a memo")

words = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
tags = st.lists(st.lists(words, min_size=1, max_size=3).map(tuple), max_size=3).map(tuple)
profiles = st.builds(
    nip19.Profile,
    st.binary(min_size=32, max_size=32),
    st.lists(words, max_size=3).map(tuple),
)
transports = st.builds(
    Transport,
    st.just("nostr"),
    profiles.map(str),
    tags.map(lambda found: tuple(tag for tag in found if tag[0] != "r")),
) | st.builds(Transport, st.sampled_from(["post", "7"]), words, tags)
any_request = st.builds(
    PaymentRequest,
    id=st.none() | words,
    amount=st.none() | st.integers(1, MAX_AMOUNT),
    unit=st.sampled_from(["sat", "msat", "usd"]),
    single_use=st.none() | st.booleans(),
    mints=st.lists(st.sampled_from(["https://a.b", "http://c.onion"]), max_size=2).map(tuple),
    description=st.none() | words,
    transports=st.lists(transports, max_size=2).map(tuple),
    lock=st.none() | st.builds(Condition, st.sampled_from(["P2PK", "HTLC", "9"]), words, tags),
)


# ── there and back ──────────────────────────────────────────────────────────────────────────


@settings(max_examples=50)
@given(any_request)
def test_a_request_comes_back(request: PaymentRequest) -> None:
    for version in ("A", "B"):
        text = requests.encode(request, version)  # type: ignore[arg-type]
        assert requests.decode(text) == request
        assert requests.decode(f" {text}\n") == request


def test_an_open_request_is_nothing_but_a_wish() -> None:
    for version in ("A", "B"):
        text = requests.encode(PaymentRequest(), version)  # type: ignore[arg-type]
        assert requests.decode(text) == PaymentRequest()


def test_a_request_in_a_bitcoin_uri() -> None:
    for text in (requests.encode(FULL, "B"), requests.encode(FULL, "A")):
        assert requests.decode(f"bitcoin:bc1q?amount=1&CREQ={text}") == FULL
    for value in ("ab+/", "ab+", "ab%2B"):  # base64's own, at its end too
        assert uris.way(f"bitcoin:?a=b&creq={value}", "creq") == value.replace("%2B", "+")
    for uri in ("bitcoin:", "bitcoin:?creq=", "bitcoin:?creq=a&creq=b", "bitcoin:?" + "a=b&" * 60):
        with pytest.raises(ParseError, match=r"URI holds no"):
            requests.decode(uri)


def test_the_values_of_a_transports_tags() -> None:
    way = Transport("nostr", "", (("n", "17"), ("x",), ("n", "4", "44")))
    assert way.values("n") == ("17", "4", "44")
    assert way.values("r") == ()


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"description": "x" * 70_000}, UnsupportedError),
        ({"mints": ("https://" + "x" * 900,) * 20}, UnsupportedError),
        ({"transports": (Transport("smoke", "x"),)}, UnsupportedError),
        ({"transports": (Transport("256", "x"),)}, UnsupportedError),
        ({"transports": (Transport("post", "x", (("a" * 256,),)),)}, UnsupportedError),
        ({"transports": (Transport("nostr", "npub1x"),)}, ParseError),
        ({"lock": Condition("²", "x")}, UnsupportedError),
    ],
)
def test_what_has_no_room_in_version_b(change: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        requests.encode(replace(FULL, **change), "B")


# ── hostile ─────────────────────────────────────────────────────────────────────────────────


def creq_a(value: object) -> str:
    return "creqA" + base64.urlsafe_b64encode(cbor2.dumps(value)).decode()


@pytest.mark.parametrize(
    "change",
    [
        {"a": 0},
        {"a": -1},
        {"a": 1.5},
        {"a": True},
        {"a": "1"},
        {"a": 2**63},
        {"a": 1, "u": None},
        {"i": 5},
        {"i": "x" * 300},
        {"u": 5},
        {"u": "x" * 40},
        {"s": 1},
        {"s": "true"},
        {"m": "https://a.b"},
        {"m": [5]},
        {"m": ["ftp://a.b"]},
        {"m": ["https://a.b"] * 101},
        {"d": "x" * 5_000},
        {"t": {}},
        {"t": [5]},
        {"t": [{"t": "post"}]},
        {"t": [{"t": "post", "a": "x"}] * 21},
        {"t": [{"t": "post", "a": "x", "g": [[]]}]},
        {"t": [{"t": "post", "a": "x", "g": [[5]]}]},
        {"nut10": 5},
        {"nut10": {"k": "P2PK"}},
        {"nut10": {"k": "P2PK", "d": 5}},
        {"nut10": {"k": "P2PK", "d": "x", "t": [["a", 1]]}},
    ],
)
def test_requests_that_are_none(change: dict[str, Any]) -> None:
    value = {**requests.to_value(FULL), **change}
    with pytest.raises(ParseError):
        requests.decode(creq_a(value))


def test_other_wallets_write_null_and_undefined() -> None:
    for nothing in (None, cbor2.undefined):
        value = dict.fromkeys(("i", "a", "u", "s", "m", "d", "t", "nut10"), nothing)
        assert requests.decode(creq_a(value)) == PaymentRequest()


@pytest.mark.parametrize(
    "text", ["", "creq", "creqA", "creqA!", "creqC1", "creqb1", "cashuB", "CREQB1QQ"]
)
def test_what_is_no_request(text: str) -> None:
    with pytest.raises(ParseError):
        requests.decode(text)


def test_what_is_too_long_is_not_decoded() -> None:
    for head in ("creqA", "CREQB1"):
        with pytest.raises(ParseError, match="too long"):
            requests.decode(head + "A" * requests.MOST_TEXT)
    with pytest.raises(ParseError, match="too long"):
        requests.decode("CREQB1" + "Q" * bech32.MOST_TEXT)
    with pytest.raises(ParseError, match="too long"):
        requests.payload_from_json(b" " * (requests.MOST_PAYLOAD + 1))


def creq_b(*parts: bytes, prefix: str = "creqb", variant: bech32.Variant | None = None) -> str:
    return bech32.encode(prefix, b"".join(parts), variant or bech32.Variant.BECH32M)


def tlv(kind: int, value: bytes) -> bytes:
    return struct.pack(">BH", kind, len(value)) + value


NOSTR = tlv(1, b"\0") + tlv(2, KEY[1:])


@pytest.mark.parametrize(
    "data",
    [
        b"\x01",
        b"\x01\x00\x05abc",
        b"\x01\xff\xff",
        tlv(1, b"\xff"),
        tlv(1, b"a") * 2,
        tlv(2, b"\x01"),
        tlv(2, bytes(8)),
        tlv(3, b"\x00") + tlv(2, b"\xff" * 8),
        tlv(2, b"\0" * 7 + b"\1"),
        tlv(4, b"\x02"),
        tlv(4, b""),
        tlv(5, b"x"),
        tlv(7, b""),
        tlv(7, tlv(1, b"\0")),
        tlv(7, tlv(1, b"\0\0") + tlv(2, KEY[1:])),
        tlv(7, tlv(1, b"\0") + tlv(2, KEY)),
        tlv(7, NOSTR + tlv(2, KEY[1:])),
        tlv(7, NOSTR + tlv(3, b"\x05ab")),
        tlv(7, NOSTR + tlv(3, b"")),
        tlv(7, NOSTR + tlv(3, b"\x01r" + b"\xff" + b"x" * 255) * 2 + tlv(3, b"\x01r\x01\xff")),
        tlv(7, tlv(1, b"\1") + tlv(2, b"\xff")),
        tlv(8, tlv(1, b"\0") + tlv(2, b"\xff")),
        tlv(8, tlv(1, b"\0") + tlv(2, b"")),
        tlv(9, b"") * 300,
    ],
)
def test_tlv_that_is_none(data: bytes) -> None:
    with pytest.raises(ParseError):
        requests.decode(creq_b(data))


def test_unknown_parts_are_ignored_and_unknown_kinds_kept() -> None:
    way = tlv(7, tlv(1, b"\x09") + tlv(2, b"x") + tlv(9, b"?"))
    found = requests.decode(creq_b(tlv(200, b"?"), tlv(1, b"a"), way))
    assert found == PaymentRequest(id="a", transports=(Transport("9", "x"),))
    assert requests.decode(requests.encode(found, "B")) == found
    assert requests.decode(creq_b(tlv(3, b"sat"))).unit == "sat"


def test_another_prefix_or_checksum_is_refused() -> None:
    with pytest.raises(ParseError, match="bech32m"):
        requests.decode(creq_b(variant=bech32.Variant.BECH32))
    with pytest.raises(ParseError):
        requests.decode(creq_b(prefix="creqb1"))


@given(st.binary(max_size=120))
def test_any_tlv(data: bytes) -> None:
    for text in (creq_b(data), creq_b(tlv(7, data)), creq_b(tlv(8, data))):
        try:
            found = requests.decode(text)
        except ParseError:
            continue
        assert requests.decode(requests.encode(found)) == found


leaves = st.none() | st.booleans() | st.integers() | st.floats() | words | st.binary(max_size=9)
trees = st.recursive(
    leaves,
    lambda below: (
        st.lists(below, max_size=3)
        | st.dictionaries(st.sampled_from(["t", "a", "g", "k", "d", "i", "m"]), below, max_size=3)
    ),
    max_leaves=6,
)


@given(st.sampled_from(["i", "a", "u", "s", "m", "d", "t", "nut10", "x"]), trees)
def test_any_part_may_be_anything(name: str, new: object) -> None:
    try:
        found = requests.decode(creq_a({**requests.to_value(FULL), name: new}))
    except ParseError:
        return
    assert requests.decode(requests.encode(found)) == found


@given(st.text(max_size=100) | st.text(max_size=60).map("creqA{}".format))
def test_any_text(text: str) -> None:
    for found in (text, f"CREQB1{text}", f"bitcoin:?creq={text}"):
        with pytest.raises(ParseError):
            requests.decode(found)


# ── locks that a request asks for ───────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("kind", "data", "error"),
    [
        ("P2PK", "02", ParseError),
        ("HTLC", "a]" + "0" * 62, ParseError),
        ("X", "x", UnsupportedError),
    ],
)
def test_a_lock_nobody_can_open_is_not_made(kind: str, data: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        p2pk.read(Condition(kind, data))


# ── payments ────────────────────────────────────────────────────────────────────────────────


def test_a_payment_comes_back() -> None:
    text = requests.payload_to_json(PAYLOAD)
    assert requests.payload_from_json(text) == PAYLOAD
    assert requests.payload_from_json(text.encode()) == PAYLOAD
    assert PAYLOAD.amount == 1
    bare = replace(PAYLOAD, id=None, memo=None)
    assert json.loads(requests.payload_to_json(bare)).keys() == {"mint", "unit", "proofs"}
    assert "r" * 32 not in repr(PAYLOAD)


@pytest.mark.parametrize(
    "change",
    [
        {"mint": None},
        {"mint": "x"},
        {"unit": None},
        {"unit": ""},
        {"proofs": None},
        {"proofs": []},
        {"proofs": {}},
        {"proofs": [5]},
        {"proofs": [{}]},
        {"proofs": [{"amount": 1}] * 1_001},
        {"id": 5},
        {"memo": ["x"]},
    ],
)
def test_payments_that_are_none(change: dict[str, Any]) -> None:
    value = {**json.loads(requests.payload_to_json(PAYLOAD)), **change}
    with pytest.raises(ParseError):
        requests.payload_from_json(json.dumps(value))


def test_a_payment_with_a_proof_twice() -> None:
    twice = replace(PAYLOAD, proofs=(PROOF, PROOF))
    with pytest.raises(ParseError, match="twice"):
        requests.payload_from_json(requests.payload_to_json(twice))


@given(st.binary(max_size=60) | st.recursive(words, st.lists).map(lambda v: json.dumps(v).encode()))
def test_any_payment(data: bytes) -> None:
    with pytest.raises(ParseError):
        requests.payload_from_json(data)


# ── bech32 and Nostr keys ───────────────────────────────────────────────────────────────────


@given(st.binary(max_size=100), st.sampled_from(bech32.Variant))
def test_bech32_comes_back(data: bytes, variant: bech32.Variant) -> None:
    text = bech32.encode("a1b", data, variant)
    assert bech32.decode(text) == ("a1b", data, variant)
    assert bech32.decode(text.upper()) == ("a1b", data, variant)


@given(st.binary(min_size=1, max_size=30), st.data())
def test_one_wrong_character_is_seen(data: bytes, draw: st.DataObject) -> None:
    text = bech32.encode("x", data, bech32.Variant.BECH32M)
    place = draw.draw(st.integers(2, len(text) - 1))
    other = draw.draw(
        st.sampled_from(sorted(set("qpzry9x8gf2tvdw0s3jn54khce6mua7l") - {text[place]}))
    )
    with pytest.raises(ParseError):
        bech32.decode(text[:place] + other + text[place + 1 :])


@pytest.mark.parametrize(
    "text",
    [
        "A12UEL5L",  # BIP-173
        "a12uel5l",
        "11qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqc8247j",
        "A1LQFN3A",  # BIP-350
        "a1lqfn3a",
    ],
)
def test_bech32_of_the_specifications(text: str) -> None:
    prefix, data, variant = bech32.decode(text)
    assert bech32.encode(prefix, data, variant) == text.lower()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        "1qzzfhee",  # BIP-350: empty prefix
        "pzry9x0s0muk",  # no separator
        "x1b4n0q5v",  # wrong character
        "li1dgmt3",  # too short a checksum
        "A1G7SGD8",  # wrong checksum
        "a12uEL5L",  # mixed case
        "\x7f1axkwrx",
        "é1qqqqqq",
        "A12UEL5L".replace("L", "\u212a"),  # a sign whose lower case is the letter k
        "a1" + "q" * 5,
    ],
)
def test_bech32_that_is_none(text: str) -> None:
    with pytest.raises(ParseError):
        bech32.decode(text)


@pytest.mark.parametrize("values", [[31], [0] * 3, [0, 1], [0, 0, 0, 31]])
def test_bits_of_no_byte_are_refused(values: list[int]) -> None:
    with pytest.raises(ParseError, match="bits"):
        bech32._bytes(values)


@given(profiles)
def test_a_nostr_key_comes_back(profile: nip19.Profile) -> None:
    assert nip19.read(str(profile)) == profile


def test_nostr_keys_of_the_specification() -> None:
    """The examples of NIP-19."""
    npub = "npub10elfcs4fr0l0r8af98jlmgdh9c8tcxjvz9qkw038js35mp4dma8qzvjptg"
    key = "7e7e9c42a91bfef19fa929e5fda1b72e0ebc1a4c1141673e2794234d86addf4e"
    assert nip19.read(npub) == nip19.Profile(bytes.fromhex(key))
    profile = nip19.read(
        "nprofile1qqsrhuxx8l9ex335q7he0f09aej04zpazpl0ne2cgukyawd24mayt8gpp4mhxue69uhhytnc9e3k7mgpz4m"
        "hxue69uhkg6nzv9ejuumpv34kytnrdaksjlyr9p"
    )
    assert (
        profile.pubkey.hex() == "3bf0c63fcb93463407af97a5e5ee64fa883d107ef9e558472c4eb9aaaefa459d"
    )
    assert profile.relays == ("wss://r.x.com", "wss://djbas.sadkb.com")


def nprofile(*parts: bytes, prefix: str = "nprofile") -> str:
    return bech32.encode(prefix, b"".join(parts), bech32.Variant.BECH32)


@pytest.mark.parametrize(
    "text",
    [
        nprofile(),
        nprofile(b"\0"),
        nprofile(b"\0\x20", KEY[1:-1]),
        nprofile(b"\0\x21", KEY),
        nprofile(b"\0\x20", KEY[1:], b"\0\x20", KEY[1:]),
        nprofile(b"\0\x20", KEY[1:], b"\1\1\xff"),
        nprofile(b"\0\x20", KEY[1:], b"\1\1x" * 21),
        nprofile(KEY[1:], prefix="nsec"),
        nprofile(KEY, prefix="npub"),
        bech32.encode("npub", KEY[1:], bech32.Variant.BECH32M),
    ],
)
def test_nostr_keys_that_are_none(text: str) -> None:
    with pytest.raises(ParseError):
        nip19.read(text)


def test_nostr_profiles_hold_what_is_not_known_yet() -> None:
    assert nip19.read(nprofile(b"\x07\x01x\0\x20", KEY[1:])) == nip19.Profile(KEY[1:])
    with pytest.raises(ParseError):
        str(nip19.Profile(KEY[1:], ("wss://" + "x" * 300,)))


# ── quotes ──────────────────────────────────────────────────────────────────────────────────

PRIVATE = bytes(31) + b"\x07"
OUTPUTS = [BlindedMessage(4, "00ad268c4d1f5826", KEY), BlindedMessage(256, "00ad268c4d1f5826", KEY)]


@pytest.mark.parametrize("framed", [False, True])
def test_a_quote_is_signed_over_its_outputs(framed: bool) -> None:
    signature = quotes.sign("quote", OUTPUTS, PRIVATE, framed=framed)
    assert signature == quotes.sign("quote", OUTPUTS, PRIVATE, framed=framed)
    assert quotes.verify("quote", OUTPUTS, signature, KEY)
    assert not quotes.verify("quote", OUTPUTS[:1], signature, KEY)
    assert not quotes.verify("quotes", OUTPUTS, signature, KEY)
    assert not quotes.verify("quote", OUTPUTS, signature, curve.public(PRIVATE[1:] + b"\x08"))


def test_the_framed_message() -> None:
    """As NUT-20 was amended: 0 is no byte, 256 two."""
    outputs = [replace(OUTPUTS[1], b=b"B"), replace(OUTPUTS[0], amount=0, b=b"")]
    assert quotes.framed_message("q", outputs) == (
        b"Cashu_MintQuoteSig_v1\0\0\0\1q\0\0\0\2\1\0\0\0\0\1B" + bytes(8)
    )


@pytest.mark.parametrize(
    ("ids", "amounts"),
    [
        ([], None),
        (["a", "a"], None),
        ([str(n) for n in range(101)], None),
        (["a"], [259]),
        (["a"], []),
        (["a", "b"], [261, -1]),
        (["a", "b"], [260, 0]),
    ],
)
def test_batches_no_mint_accepts(ids: list[str], amounts: list[int] | None) -> None:
    with pytest.raises(ParseError):
        quotes.check_batch(ids, OUTPUTS, amounts=amounts)


def test_a_batch_that_sums() -> None:
    quotes.check_batch(["a", "b"], OUTPUTS, [None, "00"], [200, 60])
    with pytest.raises(ParseError, match="1 signatures"):
        quotes.check_batch(["a", "b"], OUTPUTS, [None])
