"""Keys, events, filters and encryption: what they refuse, and that they never show a secret."""

from __future__ import annotations

import base64
import contextlib
import hmac
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wallet.errors import ParseError, VerificationError, WalletError
from wallet.nwc import nip44
from wallet.nwc.events import Event, Filter
from wallet.nwc.keys import SecretKey, check_public, hex_bytes, verify
from wallet.nwc.relay import decode
from wallet.protocol.curve import ORDER

KEY = SecretKey(bytes(31) + b"\7")
SHARED = nip44.conversation_key(KEY, SecretKey(bytes(31) + b"\x0b").public)
NOW = 1_700_000_000
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def event(**changes: object) -> dict[str, object]:
    made = Event.make(KEY, 1, "hello", tags=[["p", KEY.public], ["t", "a", "b"]], now=NOW)
    raw = {**made.to_json(), "tags": [list(tag) for tag in made.tags]}
    return {**raw, **changes}


# ── keys ────────────────────────────────────────────────────────────────────────────────────


def test_a_secret_key_shows_itself_to_nobody() -> None:
    secret = bytes(31) + b"\7"
    for text in (repr(KEY), str(KEY), f"{KEY}"):
        assert secret.hex() not in text
        assert KEY.public in text
    with pytest.raises(TypeError):
        pickle.dumps(KEY)


@pytest.mark.parametrize("secret", [bytes(32), ORDER.to_bytes(32, "big"), b"\xff" * 32, b"\1"])
def test_no_secret_key(secret: bytes) -> None:
    with pytest.raises(ParseError) as caught:
        SecretKey(secret)
    assert secret.hex() not in str(caught.value)


def test_a_random_key_is_drawn_again_until_it_is_one() -> None:
    drawn = iter([bytes(32), b"\xff" * 32, bytes(31) + b"\7"])
    assert SecretKey.new(lambda size: next(drawn)).public == KEY.public
    assert SecretKey.new().public != SecretKey.new().public


def test_verify_says_no_to_what_is_no_key_or_signature() -> None:
    signature = KEY.sign(bytes(32))
    public = bytes.fromhex(KEY.public)
    assert verify(public, bytes(32), signature)
    assert not verify(public[:31], bytes(32), signature)
    assert not verify(b"\xff" * 32, bytes(32), signature)
    assert not verify(public, bytes(32), signature[:63])
    assert not verify(public, b"\1" * 32, signature)


@pytest.mark.parametrize("text", ["", "a" * 63, "A" * 64, "g" * 64, 7, None, "٠" * 64])
def test_no_hex(text: object) -> None:
    with pytest.raises(ParseError):
        hex_bytes(text, 32, "it")


def test_a_public_key_must_be_on_the_curve() -> None:
    assert check_public(KEY.public) == KEY.public
    with pytest.raises(ParseError):
        check_public("f" * 64)


# ── events ──────────────────────────────────────────────────────────────────────────────────


def test_an_event_is_read_again_as_it_was_made() -> None:
    made = Event.make(KEY, 1, 'a "line"\n\u2028', tags=[["p", KEY.public]], now=NOW + 0.9)
    raw = {**made.to_json(), "tags": [["p", KEY.public]], "more": "is ignored"}
    assert Event.parse(raw) == made
    assert made.created_at == NOW
    assert made.tag("p") == KEY.public
    assert made.tag("e") is None
    assert "line" not in repr(made)


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": 65_536},
        {"kind": -1},
        {"kind": True},
        {"kind": 1.0},
        {"created_at": 2**53},
        {"created_at": "1"},
        {"tags": "p"},
        {"tags": ["p"]},
        {"tags": [[1]]},
        {"tags": [["a"]] * 5_001},
        {"content": None},
        {"content": "\ud800"},
        {"id": "0" * 63},
        {"sig": "x"},
        {"pubkey": KEY.public.upper()},
    ],
)
def test_no_event(wrong: dict[str, object]) -> None:
    with pytest.raises(ParseError):
        Event.parse(event(**wrong))


@pytest.mark.parametrize("name", ["id", "pubkey", "created_at", "kind", "tags", "content", "sig"])
def test_an_event_has_all_its_fields(name: str) -> None:
    raw = event()
    del raw[name]
    with pytest.raises(ParseError):
        Event.parse(raw)


def test_an_event_is_its_authors() -> None:
    other = Event.make(SecretKey.new(), 1, "hello", now=NOW)
    with pytest.raises(VerificationError, match="signature"):
        Event.parse(event(sig=other.sig))
    with pytest.raises(VerificationError, match="id"):
        Event.parse(event(id="0" * 64))
    with pytest.raises(VerificationError, match="id"):
        Event.parse(event(tags=[["p", KEY.public]]))


def test_an_event_cannot_be_made_of_anything() -> None:
    with pytest.raises(ParseError):
        Event.make(KEY, 70_000, "", now=NOW)
    with pytest.raises(ParseError):
        Event.make(KEY, 1, "\ud800", now=NOW)


@given(JSON)
def test_no_json_is_an_event_by_chance(raw: object) -> None:
    with pytest.raises(WalletError):
        Event.parse(raw)


@given(st.sampled_from(sorted(event())), JSON)
def test_an_event_with_one_field_of_anything(name: str, value: object) -> None:
    with contextlib.suppress(WalletError):
        assert Event.parse(event(**{name: value})).to_json()[name] == event()[name]


# ── filters ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("wanted", "matches"),
    [
        (Filter(), True),
        (Filter(kinds=(1, 2)), True),
        (Filter(kinds=(2,)), False),
        (Filter(authors=(KEY.public,)), True),
        (Filter(authors=("0" * 64,)), False),
        (Filter(ids=("0" * 64,)), False),
        (Filter(since=NOW, until=NOW), True),
        (Filter(since=NOW + 1), False),
        (Filter(until=NOW - 1), False),
        (Filter(tags={"p": ("0" * 64, KEY.public)}), True),
        (Filter(tags={"p": (KEY.public,), "t": ("b",)}), False),
        (Filter(tags={"t": ("a",)}), True),
        (Filter(tags={"e": ("a",)}), False),
    ],
)
def test_what_a_filter_matches(wanted: Filter, matches: bool) -> None:
    assert wanted.matches(Event.parse(event())) is matches
    raw = {name: list(v) if isinstance(v, tuple) else v for name, v in wanted.to_json().items()}
    assert Filter.parse(raw) == wanted


@pytest.mark.parametrize(
    "raw",
    [[], {"kinds": 1}, {"kinds": [True]}, {"authors": [1]}, {"since": -1}, {"x": 1}, {"#pp": []}],
)
def test_no_filter(raw: object) -> None:
    with pytest.raises(ParseError):
        Filter.parse(raw)


@given(JSON)
def test_filters_of_anything(raw: object) -> None:
    with contextlib.suppress(ParseError):
        assert Filter.parse(raw).matches(Event.parse(event())) in (True, False)


# ── frames and encryption ───────────────────────────────────────────────────────────────────


@given(st.text() | JSON.map(repr))
def test_frames_of_anything(text: str) -> None:
    with contextlib.suppress(ParseError):
        assert isinstance(decode(text)[0], str)


def test_deep_frames_are_refused() -> None:
    with pytest.raises(ParseError):
        decode("[" * 200_000)


@given(st.text(min_size=1).filter(lambda text: text.isprintable()))
def test_what_is_encrypted_is_decrypted(text: str) -> None:
    assert nip44.decrypt(nip44.encrypt(text, SHARED), SHARED) == text


@given(
    st.text() | st.binary(min_size=99, max_size=200).map(lambda raw: base64.b64encode(raw).decode())
)
def test_payloads_of_anything(payload: str) -> None:
    with pytest.raises(WalletError):
        nip44.decrypt(payload, SHARED)


@given(st.integers(0, 10**6), st.integers(1, 255))
def test_a_payload_that_was_altered(place: int, flip: int) -> None:
    raw = bytearray(base64.b64decode(nip44.encrypt("pay ten", SHARED)))
    raw[place % len(raw)] ^= flip
    with pytest.raises(WalletError):
        nip44.decrypt(base64.b64encode(raw).decode(), SHARED)


def test_a_payload_too_large_is_not_even_decoded() -> None:
    with pytest.raises(ParseError, match="long"):
        nip44.decrypt("A" * 200_000, SHARED)


def test_two_payloads_of_one_text_differ() -> None:
    assert nip44.encrypt("x", SHARED) != nip44.encrypt("x", SHARED)


def test_text_that_is_none() -> None:
    with pytest.raises(ParseError):
        nip44.encrypt("\ud800", SHARED)
    with pytest.raises(ParseError):
        nip44.message_keys(SHARED, bytes(31))


def raw(padded: bytes) -> str:
    """A payload with a right MAC around any padded text."""
    nonce = b"\5" * 32
    keys = nip44.message_keys(SHARED, nonce)
    hidden = nip44._chacha(keys, padded)
    mac = hmac.digest(keys.hmac_key, nonce + hidden, "sha256")
    return base64.b64encode(b"\2" + nonce + hidden + mac).decode()


@pytest.mark.parametrize(
    "padded",
    [
        b"\0\1" + b"\xff" + bytes(31),  # no UTF-8
        b"\0\0" + b"\0\0\0\5" + b"hello" + bytes(27),  # the long form for a short text
        b"\0\0" + bytes(32),
        b"\0\1" + b"a" + bytes(63),  # padded too far
        b"\0\x40" + b"a" + bytes(31),
    ],
)
def test_padding_that_cannot_be(padded: bytes) -> None:
    with pytest.raises(ParseError):
        nip44.decrypt(raw(padded), SHARED)
    assert nip44.decrypt(raw(b"\0\1" + b"a" + bytes(31)), SHARED) == "a"


def test_a_payload_that_is_short_in_bytes() -> None:
    with pytest.raises(ParseError, match="short"):
        nip44.decrypt(base64.b64encode(b"\2" + bytes(97)).decode(), SHARED)
