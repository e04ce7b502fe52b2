"""Tokens, there and back, and whatever else a stranger may send instead."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wallet.errors import ParseError, UnsupportedError
from wallet.protocol import proofs, tokens
from wallet.types import MAX_AMOUNT, Dleq, Proof, Token

V1 = "00ad268c4d1f5826"
V2 = "015ba18a8adcd02e715a58358eb618da4a4b3791151a4bee5e968bb88406ccf76a"
MINT = "https://mint.example.com/path"
POINT = b"\x02" + b"\x11" * 32


def proof(secret: str = "s", **change: Any) -> Proof:
    return replace(Proof(1, V1, secret, POINT), **change)


TOKEN = Token(MINT, "sat", (proof(), proof("t", amount=2, id=V2)))

text = st.text(st.characters(codec="utf-8"), min_size=1, max_size=30)
points = st.tuples(st.sampled_from([b"\x02", b"\x03"]), st.binary(min_size=32, max_size=32)).map(
    b"".join
)
scalars = st.binary(min_size=32, max_size=32)
any_proof = st.builds(
    Proof,
    amount=st.integers(1, 2**40),
    id=st.sampled_from([V1, V2, "00" + "ab" * 7]),
    secret=text,
    c=points,
    dleq=st.none() | st.builds(Dleq, scalars, scalars, st.none() | scalars),
    witness=st.none() | text,
    ephemeral=st.none() | points,
)
any_token = st.builds(
    Token,
    mint=st.sampled_from([MINT, "http://localhost:3338", "http://abc.onion"]),
    unit=st.sampled_from(["sat", "msat", "usd"]),
    proofs=st.lists(any_proof, min_size=1, max_size=5, unique_by=lambda proof: proof.secret).map(
        tuple
    ),
    memo=st.none() | text,
)


# ── there and back ──────────────────────────────────────────────────────────────────────────


def by_keyset(token: Token) -> Token:
    """V4 groups proofs by keyset, so that their order may change."""
    order = list(dict.fromkeys(proof.id for proof in token.proofs))
    ordered = sorted(token.proofs, key=lambda proof: order.index(proof.id))
    return replace(token, proofs=tuple(ordered))


@settings(max_examples=50)
@given(any_token)
def test_version_4_comes_back(token: Token) -> None:
    assert tokens.decode(tokens.encode(token)) == by_keyset(token)
    assert tokens.decode_raw(tokens.encode_raw(token)) == by_keyset(token)


@settings(max_examples=50)
@given(any_token)
def test_version_3_comes_back(token: Token) -> None:
    assert tokens.decode(tokens.encode(token, version=3)) == token


@settings(max_examples=50)
@given(any_proof)
def test_a_proof_in_json_comes_back(found: Proof) -> None:
    assert proofs.from_json(json.loads(json.dumps(proofs.to_json(found)))) == found


@settings(max_examples=50)
@given(any_proof)
def test_a_mint_sees_neither_blinding_factor_nor_ephemeral_key(found: Proof) -> None:
    seen = proofs.to_mint(found)
    assert seen.keys() - {"witness"} == {"amount", "id", "secret", "C"}
    assert proofs.from_json(seen) == replace(found, dleq=None, ephemeral=None)


@pytest.mark.parametrize("form", ["cashu:{}", "CASHU:{}", "cashu://{}", "  {}\n", "{}==="])
def test_a_token_may_come_as_a_link(form: str) -> None:
    assert tokens.decode(form.format(tokens.encode(TOKEN))) == TOKEN


def test_both_alphabets_of_base64_are_read() -> None:
    memo = Token(MINT, "sat", (proof(secret="?>?>~~"),), "ÿþ?~>")
    urlsafe = tokens.encode(memo)
    assert {"-", "_"} & set(urlsafe)
    assert tokens.decode(urlsafe.replace("-", "+").replace("_", "/")) == memo


def test_a_mints_url_loses_its_trailing_slashes() -> None:
    assert tokens.decode(tokens.encode(replace(TOKEN, mint=MINT + "//"))).mint == MINT


def test_other_versions() -> None:
    with pytest.raises(UnsupportedError):
        tokens.decode("cashuC" + tokens.encode(TOKEN)[6:])
    with pytest.raises(UnsupportedError):
        tokens.encode(TOKEN, version=5)


# ── shortened keyset ids ────────────────────────────────────────────────────────────────────


def test_short_ids_stay_until_keysets_are_known() -> None:
    short = replace(TOKEN, proofs=(proof(id=V2[:16]), proof("t", id=V1)))
    for version in (3, 4):
        written = tokens.encode(short, version)
        assert tokens.decode(written) == short
        assert tokens.decode(written, [V1, V2]).proofs[0].id == V2
        with pytest.raises(ParseError, match="no known keyset"):
            tokens.decode(written, [V1])
    whole = tokens.resolve(short, [V1, V2])
    assert [found.id for found in whole.proofs] == [V2, V1]
    assert tokens.resolve(whole, [V2]) == whole
    with pytest.raises(ParseError, match="more than one"):
        tokens.resolve(short, [V2, V2[:16] + "00" * 25])


# ── hostile ─────────────────────────────────────────────────────────────────────────────────


def v4(change: Callable[[dict[str, Any]], object] = lambda value: None) -> str:
    """A good V4 token after one change to its map."""
    value = cbor2.loads(tokens.encode_raw(TOKEN)[5:])
    change(value)
    return written(cbor2.dumps(value))


def written(data: bytes) -> str:
    return "cashuB" + base64.urlsafe_b64encode(data).decode()


def v3(change: Callable[[dict[str, Any]], object] = lambda value: None) -> str:
    body = tokens.encode(TOKEN, version=3)[6:]
    value = json.loads(base64.urlsafe_b64decode(body + "=="))
    change(value)
    return "cashuA" + base64.urlsafe_b64encode(json.dumps(value).encode()).decode()


def first(value: dict[str, Any]) -> dict[str, Any]:
    """The first proof of either version's map."""
    found: dict[str, Any] = (
        value["t"][0]["p"][0] if "t" in value else value["token"][0]["proofs"][0]
    )
    return found


WRONG_AMOUNTS = [0, -1, True, 1.0, "1", None, MAX_AMOUNT + 1, 2**64, 2**200, float("nan"), [1]]
WRONG_TEXTS = [None, "", 5, b"s", ["s"], "x" * 9_000]
WRONG_URLS = [
    None,
    "",
    "mint.example.com",
    "ftp://x",
    "https://",
    "https:///",
    "http://a b",
    "http://a\n",
]


@pytest.mark.parametrize("amount", WRONG_AMOUNTS)
def test_amounts_that_are_none(amount: object) -> None:
    with pytest.raises(ParseError, match=r"amount|CBOR"):  # beyond 64 bits CBOR needs a tag
        tokens.decode(v4(lambda value: first(value).update(a=amount)))
    with pytest.raises(ParseError, match="amount"):
        tokens.decode(v3(lambda value: first(value).update(amount=amount)))


def test_a_sum_beyond_what_an_amount_can_be() -> None:
    huge = tuple(proof(str(n), amount=MAX_AMOUNT) for n in range(2))
    with pytest.raises(ParseError, match="sum"):
        tokens.decode(tokens.encode(Token(MINT, "sat", huge)))


@pytest.mark.parametrize("secret", WRONG_TEXTS)
def test_secrets_that_are_none(secret: object) -> None:
    with pytest.raises(ParseError, match="secret"):
        tokens.decode(v4(lambda value: first(value).update(s=secret)))
    if not isinstance(secret, bytes):
        with pytest.raises(ParseError, match="secret"):
            tokens.decode(v3(lambda value: first(value).update(secret=secret)))


def test_a_secret_that_utf_8_cannot_express() -> None:
    with pytest.raises(ParseError, match="Unicode"):
        tokens.decode(v3(lambda value: first(value).update(secret="\ud800")))


@pytest.mark.parametrize(
    "point", [None, b"", POINT[:-1], POINT + b"\0", b"\x04" + POINT[1:], "02", 7]
)
def test_points_that_are_none(point: Any) -> None:
    with pytest.raises(ParseError, match="proof's C"):
        tokens.decode(v4(lambda value: first(value).update(c=point)))
    text = point.hex() if isinstance(point, bytes) else point
    with pytest.raises(ParseError, match="proof's C"):
        tokens.decode(v3(lambda value: first(value).update(C=text)))


@pytest.mark.parametrize("hexed", ["zz" * 33, "0 " * 33, "٠٢" + "11" * 32])
def test_hex_that_is_none(hexed: str) -> None:
    with pytest.raises(ParseError, match="proof's C"):
        tokens.decode(v3(lambda value: first(value).update(C=hexed)))


@pytest.mark.parametrize("dleq", [5, [], {}, {"e": b"1" * 32}, {"e": b"1" * 32, "s": b"1" * 31}])
def test_dleqs_that_are_none(dleq: object) -> None:
    with pytest.raises(ParseError, match="DLEQ"):
        tokens.decode(v4(lambda value: first(value).update(d=dleq)))
    with pytest.raises(ParseError, match=r"dleq|DLEQ"):
        tokens.decode(v3(lambda value: first(value).update(dleq=str(dleq))))


@pytest.mark.parametrize("nothing", [None, cbor2.undefined])
def test_optional_fields_may_be_null(nothing: object) -> None:
    def change(value: dict[str, Any]) -> None:
        first(value).update(d=nothing, w=nothing, pe=nothing)
        value.update(d=nothing)

    assert tokens.decode(v4(change)) == TOKEN


def test_unknown_fields_are_ignored() -> None:
    def change(value: dict[str, Any]) -> None:
        first(value).update(x=1.5, y=[None])
        value.update(z={"a": "b"})

    assert tokens.decode(v4(change)) == TOKEN
    assert tokens.decode(v3(change)) == TOKEN


def test_a_witness_may_be_an_object_in_json() -> None:
    found = tokens.decode(v3(lambda value: first(value).update(witness={"signatures": ["ab"]})))
    assert found.proofs[0].witness == '{"signatures":["ab"]}'


@pytest.mark.parametrize("url", WRONG_URLS)
def test_mints_that_are_none(url: object) -> None:
    with pytest.raises(ParseError, match="mint"):
        tokens.decode(v4(lambda value: value.update(m=url)))
    with pytest.raises(ParseError, match="mint"):
        tokens.decode(v3(lambda value: value["token"][0].update(mint=url)))


@pytest.mark.parametrize(
    "keyset", [None, b"", b"\0" * 7, b"\0" * 33, b"\x02" * 8, V1, "I2yN+iRYfkzT"]
)
def test_keysets_that_are_none(keyset: object) -> None:
    with pytest.raises(ParseError, match="keyset"):
        tokens.decode(v4(lambda value: value["t"][0].update(i=keyset)))


@pytest.mark.parametrize("unit", [None, "", 5, "x" * 40])
def test_units_that_are_none(unit: object) -> None:
    with pytest.raises(ParseError, match="unit"):
        tokens.decode(v4(lambda value: value.update(u=unit)))


def test_version_3_may_leave_the_unit_out() -> None:
    assert tokens.decode(v3(lambda value: value.pop("unit"))).unit == "sat"


def test_memos() -> None:
    assert tokens.decode(v4(lambda value: value.update(d=""))).memo is None
    with pytest.raises(ParseError, match="memo"):
        tokens.decode(v4(lambda value: value.update(d="x" * 5_000)))
    with pytest.raises(ParseError, match="memo"):
        tokens.decode(v4(lambda value: value.update(d=["x"])))


def test_the_same_proof_twice() -> None:
    twice = replace(TOKEN, proofs=(proof(), proof(id=V2, amount=4)))
    for version in (3, 4):
        with pytest.raises(ParseError, match="twice"):
            tokens.decode(tokens.encode(twice, version))


def test_no_proofs() -> None:
    for version in (3, 4):
        with pytest.raises(ParseError, match="no proofs"):
            tokens.decode(tokens.encode(replace(TOKEN, proofs=()), version))
    with pytest.raises(ParseError, match="no proofs"):
        tokens.decode(v3(lambda value: value.update(token=[])))


def test_ecash_of_several_mints() -> None:
    def change(value: dict[str, Any]) -> None:
        other = json.loads(json.dumps(value["token"][0]))
        other["mint"] = "https://other.example.com"
        value["token"].append(other)

    with pytest.raises(UnsupportedError, match="2 mints"):
        tokens.decode(v3(change))


def test_one_mint_in_several_parts() -> None:
    def change(value: dict[str, Any]) -> None:
        one, two = value["token"][0]["proofs"]
        value["token"] = [{"mint": MINT + "/", "proofs": [one]}, {"mint": MINT, "proofs": [two]}]

    assert tokens.decode(v3(change)) == TOKEN


@pytest.mark.parametrize("count", [1_001, 10_000])
def test_tokens_of_thousands_of_proofs(count: int) -> None:
    many = replace(TOKEN, proofs=tuple(proof(f"{n:064x}") for n in range(count)))
    for version in (3, 4):
        with pytest.raises(ParseError, match=r"at most 1000 are read|too long"):
            tokens.decode(tokens.encode(many, version))
    spread = tuple(proof(str(n), id=f"00{n:014x}") for n in range(1_001))
    with pytest.raises(ParseError, match="at most 1000 are read"):
        tokens.decode(tokens.encode(replace(TOKEN, proofs=spread)))


def test_a_thousand_proofs_are_read() -> None:
    many = replace(TOKEN, proofs=tuple(proof(f"{n:064x}") for n in range(1_000)))
    assert tokens.decode(tokens.encode(many)) == many


def test_parts_that_together_hold_too_many() -> None:
    def change(value: dict[str, Any]) -> None:
        parts = [
            {"mint": MINT, "proofs": [first(value)] * 600},
            {"mint": MINT, "proofs": [5] * 600},
        ]
        value["token"] = parts

    with pytest.raises(ParseError, match="at most 400 are read"):
        tokens.decode(v3(change))


def test_what_is_too_long_is_not_decoded() -> None:
    with pytest.raises(ParseError, match="too long"):
        tokens.decode("cashuB" + "A" * tokens.MOST_TEXT)
    with pytest.raises(ParseError, match="too long"):
        tokens.decode_raw(b"crawB" + bytes(tokens.MOST_TEXT))
    with pytest.raises(ParseError, match="no binary"):
        tokens.decode_raw(b"crawA")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        b"\x9b\x00\xff\xff\xff\xff\xff\xff\xff",  # an array of 2^56 elements
        b"\x7b\x00\xff\xff\xff\xff\xff\xff\xff",  # a text of 2^56 bytes
        b"\x81" * 100_000,
        b"\xd9\x01\x00" * 50_000,
        b"\xa2\x61a\x01\x61a\x02",  # a key twice
        b"\xa1\x61t\x62\xc3\x28",  # not UTF-8
        cbor2.dumps(cbor2.CBORTag(55799, {"t": []})),
        cbor2.dumps({"t": cbor2.CBORTag(28, [cbor2.CBORTag(29, 0)])}),
        cbor2.dumps({"t": [], "a": cbor2.CBORTag(30, [1, 3])}),
        cbor2.dumps({"t": [], "a": cbor2.CBORTag(35, "(a+)+$")}),
        cbor2.dumps([]),
        cbor2.dumps(5),
    ],
)
def test_cbor_that_is_a_trap(data: bytes) -> None:
    with pytest.raises(ParseError):
        tokens.decode(written(data))


@pytest.mark.parametrize(
    "body",
    [
        "",
        "[",
        "[" * 100_000,
        "5",
        "{}",
        '{"token":5}',
        '{"token":[5]}',
        '{"token":[{}]}',
        "\x80",
        "NaN",
    ],
)
def test_json_that_is_a_trap(body: str) -> None:
    data = body.encode("latin-1")
    with pytest.raises(ParseError):
        tokens.decode("cashuA" + base64.urlsafe_b64encode(data).decode())


@pytest.mark.parametrize(
    "wrong", ["", "cashu", "cashuB", "cashuA", "cashuB!", "cashuBé", "creqA", "casshuA"]
)
def test_what_is_no_token(wrong: str) -> None:
    with pytest.raises(ParseError):
        tokens.decode(wrong)


@given(st.text(max_size=200) | st.text(max_size=200).map("cashuB{}".format))
def test_any_text(wrong: str) -> None:
    with pytest.raises((ParseError, UnsupportedError)):
        tokens.decode(wrong)


@given(st.binary(max_size=300))
def test_any_bytes(data: bytes) -> None:
    for head in ("cashuA", "cashuB"):
        with pytest.raises((ParseError, UnsupportedError)):
            tokens.decode(head + base64.urlsafe_b64encode(data).decode())


leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(codec="utf-8"), max_size=70)
    | st.binary(max_size=70)
)
trees = st.recursive(
    leaves,
    lambda below: (
        st.lists(below, max_size=3)
        | st.dictionaries(st.sampled_from(list("tipacsdwmuer")), below, max_size=4)
    ),
    max_leaves=8,
)


def paths(value: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(value, dict):
        return [p for key, below in value.items() for p in paths(below, (*here, key))] + [here]
    if isinstance(value, list):
        return [p for key, below in enumerate(value) for p in paths(below, (*here, key))] + [here]
    return [here]


def changed(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    copy: Any = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = changed(value[path[0]], path[1:], new)
    return copy


FULL = Token(
    MINT,
    "sat",
    (proof(dleq=Dleq(b"e" * 32, b"s" * 32, b"r" * 32), witness="{}", ephemeral=POINT),),
    "m",
)


@settings(max_examples=50)
@given(st.data(), trees)
def test_any_part_may_be_anything(data: st.DataObject, new: Any) -> None:
    """Each node of a good token replaced by a random tree: read, or refused as it should be."""
    value = cbor2.loads(tokens.encode_raw(FULL)[5:])
    path = data.draw(st.sampled_from(paths(value)))
    try:
        found = tokens.decode(written(cbor2.dumps(changed(value, path, new))))
    except (ParseError, UnsupportedError):
        return
    assert all(type(each.amount) is int and each.amount > 0 for each in found.proofs)
    assert tokens.decode(tokens.encode(found)) == by_keyset(found)


@settings(max_examples=50)
@given(st.data(), trees)
def test_any_part_of_version_3_may_be_anything(data: st.DataObject, new: Any) -> None:
    body = tokens.encode(FULL, version=3)[6:]
    value = json.loads(base64.urlsafe_b64decode(body + "=="))
    path = data.draw(st.sampled_from(paths(value)))
    text = json.dumps(changed(value, path, new), default=lambda value: value.hex())
    try:
        found = tokens.decode("cashuA" + base64.urlsafe_b64encode(text.encode()).decode())
    except (ParseError, UnsupportedError):
        return
    assert tokens.decode(tokens.encode(found, version=3)) == found


@given(st.integers(0, len(tokens.encode(FULL)) - 1))
def test_a_token_cut_short_is_refused(length: int) -> None:
    with pytest.raises((ParseError, UnsupportedError)):
        tokens.decode(tokens.encode(FULL)[:length])


def test_no_message_holds_a_secret() -> None:
    twice = replace(TOKEN, proofs=(proof("the secret"), proof("the secret")))
    with pytest.raises(ParseError) as refused:
        tokens.decode(tokens.encode(twice))
    assert "the secret" not in refused.value.message + refused.value.hint
