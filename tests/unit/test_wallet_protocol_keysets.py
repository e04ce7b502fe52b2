"""Keyset ids, fees and splits; secrets from a seed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wallet.errors import ParseError, UnsupportedError, VerificationError
from wallet.protocol import curve, derivation, keysets
from wallet.protocol.derivation import Seed
from wallet.types import MAX_AMOUNT, KeysetInfo

KEYS = {2**n: curve.public(bytes(31) + bytes([n + 1])) for n in range(4)}
V1 = keysets.keyset_id(KEYS, unit="sat", version=1)
V2 = keysets.keyset_id(KEYS, unit="sat", version=2)
WORDS = "half depart obvious quality work element tank gorilla view sugar picture humble"
POWERS = [2**n for n in range(64)]


# ── ids ─────────────────────────────────────────────────────────────────────────────────────


def test_an_id_comes_from_the_keys_in_the_order_of_amounts() -> None:
    backwards = dict(reversed(KEYS.items()))
    assert keysets.keyset_id(backwards, unit="sat", version=1) == V1
    assert keysets.keyset_id(backwards, unit="SAT", version=2) == V2
    assert list(keysets.checked(KeysetInfo(V2, "sat"), backwards).keys) == [1, 2, 4, 8]


@pytest.mark.parametrize(
    "change", [{"unit": "msat"}, {"input_fee_ppk": 100}, {"final_expiry": 2_000_000_000}]
)
def test_version_2_binds_what_version_1_does_not(change: dict[str, object]) -> None:
    good = KeysetInfo(V2, "sat")
    assert keysets.checked(good, KEYS).info == good
    with pytest.raises(VerificationError, match="are those of 01"):
        keysets.checked(replace(good, **change), KEYS)  # type: ignore[arg-type]
    assert keysets.checked(replace(good, id=V1, **change), KEYS).id == V1  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {0: KEYS[1]},
        {-1: KEYS[1]},
        {2**64: KEYS[1]},
        {1: b""},
        {1: bytes(33)},
        {1: b"\x02" + bytes(32)},
        dict.fromkeys(range(1, 600), KEYS[1]),
    ],
)
def test_keys_that_are_none_are_refused(keys: dict[int, bytes]) -> None:
    own = keysets.keyset_id(keys, unit="sat", version=2)
    with pytest.raises(VerificationError):
        keysets.checked(KeysetInfo(own, "sat"), keys)


def test_a_unit_cannot_pose_as_a_fee() -> None:
    unit = "sat|input_fee_ppk:100"
    posed = keysets.keyset_id(KEYS, unit=unit, version=2)
    assert posed == keysets.keyset_id(KEYS, unit="sat", input_fee_ppk=100, version=2)
    with pytest.raises(VerificationError, match="unit"):
        keysets.checked(KeysetInfo(posed, unit), KEYS)


@pytest.mark.parametrize(
    "unknown", ["", "I2yN+iRYfkzT", "02" + "00" * 32, V2[:16], V1.upper(), V1 + "0"]
)
def test_ids_of_other_versions_are_not_supported(unknown: str) -> None:
    with pytest.raises(UnsupportedError):
        keysets.checked(KeysetInfo(unknown, "sat"), KEYS)


def test_there_are_two_versions() -> None:
    assert (keysets.version_of(V1), keysets.version_of(V2)) == (1, 2)
    with pytest.raises(UnsupportedError):
        keysets.keyset_id(KEYS, unit="sat", version=3)


def test_short_ids_are_made_whole() -> None:
    other = keysets.keyset_id(KEYS, unit="msat", version=2)
    assert keysets.whole_id(V2[:16], [V1, other, V2, V2]) == V2
    assert keysets.whole_id(V1, []) == V1
    assert keysets.whole_id(V2, []) == V2
    assert keysets.read_id(V2[:16]) == V2[:16]
    assert keysets.read_id(V2.upper(), [V1]) == V2


def test_short_ids_of_none_or_two_keysets_are_refused() -> None:
    twin = V2[:16] + "00" * 25
    with pytest.raises(ParseError, match="no known keyset"):
        keysets.whole_id(V2[:16], [V1])
    with pytest.raises(ParseError, match="more than one"):
        keysets.whole_id(V2[:16], [V2, twin])
    for garbage in ("", "x", V1[:15], "02" + V2[2:16]):
        with pytest.raises(ParseError):
            keysets.read_id(garbage, [V2])


# ── amounts ─────────────────────────────────────────────────────────────────────────────────


@given(st.integers(0, MAX_AMOUNT))
def test_a_split_is_the_binary_digits(amount: int) -> None:
    parts = keysets.split(amount, POWERS)
    assert sum(parts) == amount
    assert len(parts) == amount.bit_count()
    assert list(parts) == sorted(parts)


@given(st.integers(0, 2_000), st.sets(st.integers(1, 50), min_size=1))
def test_a_split_of_odd_amounts_sums_or_is_refused(amount: int, amounts: set[int]) -> None:
    try:
        parts = keysets.split(amount, sorted(amounts))
    except UnsupportedError:
        assert 1 not in amounts or amount > 1_000
        return
    assert sum(parts) == amount
    assert set(parts) <= amounts


@pytest.mark.parametrize(
    ("amount", "amounts"),
    [(-1, [1]), (-1, []), (1, []), (3, [2]), (1_001, [1]), (MAX_AMOUNT, [1]), (1, [0]), (5, [-5])],
)
def test_what_cannot_be_split_is_refused(amount: int, amounts: list[int]) -> None:
    with pytest.raises(UnsupportedError):
        keysets.split(amount, amounts)


@pytest.mark.parametrize(
    ("rates", "expected"),
    [
        ([], 0),
        ([0], 0),
        ([100], 1),
        ([100] * 10, 1),
        ([100] * 11, 2),
        ([1000] * 3, 3),
        ([1, 999], 1),
    ],
)
def test_fees_round_up_over_all_inputs(rates: list[int], expected: int) -> None:
    assert keysets.fee(KeysetInfo(V1, "sat", input_fee_ppk=rate) for rate in rates) == expected


# ── derivation ──────────────────────────────────────────────────────────────────────────────


def test_every_counter_and_keyset_has_its_own_secret() -> None:
    seed = Seed.from_words(WORDS)
    found = [seed.derive(keyset, counter) for keyset in (V1, V2) for counter in range(20)]
    assert len({secret for secret, _ in found}) == len({r for _, r in found}) == 40
    assert all(curve.scalar(r) and len(bytes.fromhex(secret)) == 32 for secret, r in found)


def test_each_number_has_a_key_of_its_own() -> None:
    seed = Seed.from_words(WORDS)
    assert len(seed.value) == 64
    assert len({seed.p2pk_key(n) for n in range(3)}) == 3
    assert seed.p2pk_key(1) == Seed.from_words(WORDS).p2pk_key(1)


def test_bip_32_of_its_first_vector() -> None:
    """m/0'/1 of BIP-32's test vector 1."""
    master = Seed(bytes(range(16)))
    node = master._node((2**31,))
    assert node[0].hex() == "edb2e14f9ee77d26dd93b4ecede8d16ed408ce149b6cd80b0715a2d911a0afea"
    key, chain = derivation._child(node, 1, curve.public(node[0]))
    assert key.hex() == "3c6cb8d0f6a264c91ea8b5030fadaa8e538b020f0a387421a12de9319dc93368"
    assert chain.hex() == "2a7857631386ba23dacac34180dd1983734e444fdbf774041578e9b6adb37c19"


@pytest.mark.parametrize(
    ("keyset", "counter"),
    [(V1, -1), (V1, 2**31), (V2, -1), (V2, 2**64), (V2[:16], 0), ("I2yN+iRYfkzT", 0), ("", 0)],
)
def test_what_has_no_derivation_is_not_supported(keyset: str, counter: int) -> None:
    with pytest.raises(UnsupportedError):
        Seed(bytes(64)).derive(keyset, counter)
    with pytest.raises(UnsupportedError):
        Seed(bytes(64)).p2pk_key(-1)


def test_words_are_brought_into_form() -> None:
    assert derivation.check_words(f"  {WORDS.upper()}\n".replace(" ", "  ")) == WORDS
    assert Seed.from_words(WORDS.title()) == Seed.from_words(WORDS)
    twelve = derivation.new_words()
    assert len(twelve.split()) == 12
    assert derivation.check_words(twelve) == twelve
    assert derivation.new_words(bytes).endswith("abandon about")


@pytest.mark.parametrize(
    "words", ["", "half", WORDS[:-7], WORDS.replace("half", "help"), "x" * 2_000]
)
def test_other_words_are_refused_and_not_shown(words: str) -> None:
    with pytest.raises(ParseError) as refused:
        derivation.check_words(words)
    assert "depart" not in refused.value.message + refused.value.hint
    with pytest.raises(ParseError):
        Seed.from_words(words)


def test_a_seed_is_not_shown() -> None:
    seed = Seed.from_words(WORDS)
    seed.derive(V1, 0)
    assert repr(seed) == "Seed()"
