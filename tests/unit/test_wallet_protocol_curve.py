"""Blind signatures, their proofs, and what is made of a mint's answer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wallet.errors import UnverifiedError, VerificationError
from wallet.protocol import curve, dleq, keysets, outputs
from wallet.types import BlindSignature, Dleq, Keyset, KeysetInfo, Output, Proof

PRIVATE = {amount: amount.to_bytes(32, "big") for amount in (1, 2, 4, 8)}
KEYS = {amount: curve.public(private) for amount, private in PRIVATE.items()}
KEYSET = Keyset(KeysetInfo(keysets.keyset_id(KEYS, unit="sat", version=2), "sat"), KEYS)
NOT_SCALARS = [
    bytes(32),
    b"\xff" * 32,
    curve.ORDER.to_bytes(32, "big"),
    b"\x01",
    bytes(31) + b"\x01\x00",
    b"",
]
NOT_POINTS = [
    b"",
    bytes(33),
    b"\x02" * 32,
    b"\x02" + bytes(32),  # x = 0 is not on the curve
    b"\x02" + b"\xff" * 32,
    b"\x04" + curve.public(PRIVATE[1])[1:],
    curve.public(PRIVATE[1]) + b"\x00",
]


def scalars() -> st.SearchStrategy[bytes]:
    return st.integers(1, curve.ORDER - 1).map(lambda number: number.to_bytes(32, "big"))


def signed(made: Output, *, private: bytes | None = None) -> BlindSignature:
    key = private or PRIVATE[made.message.amount]
    return BlindSignature(
        made.message.amount,
        made.message.id,
        curve.sign(made.message.b, key),
        dleq.prove(key, made.message.b),
    )


def made(amount: int = 4, secret: str = "a secret") -> Output:
    return outputs.output(amount, KEYSET.id, secret, bytes(31) + b"\x09")


def finished(**change: Any) -> Proof:
    output = made()
    (proof,) = outputs.finish(
        [output], [replace(signed(output), **change)], KEYSET, require_dleq=True
    )
    return proof


@given(scalars(), scalars(), st.text(st.characters(codec="utf-8")))
def test_a_blind_signature_is_a_signature(k: bytes, r: bytes, secret: str) -> None:
    c = curve.unblind(curve.sign(curve.blind(secret, r), k), r, curve.public(k))
    assert c == curve.sign(curve.y_of(secret), k)


@pytest.mark.parametrize("data", NOT_POINTS)
def test_what_is_no_point_is_refused(data: bytes) -> None:
    assert not curve.is_point(data)
    with pytest.raises(VerificationError):
        curve.sign(data, PRIVATE[1])
    with pytest.raises(VerificationError):
        curve.unblind(data, PRIVATE[1], KEYS[1])
    with pytest.raises(VerificationError):
        curve.unblind(KEYS[1], PRIVATE[1], data)


@pytest.mark.parametrize("data", NOT_SCALARS)
def test_what_is_no_scalar_is_refused(data: bytes) -> None:
    with pytest.raises(VerificationError):
        curve.blind("s", data)
    with pytest.raises(VerificationError):
        curve.unblind(KEYS[1], data, KEYS[1])
    with pytest.raises(VerificationError):
        curve.sign(KEYS[1], data)
    with pytest.raises(VerificationError):
        curve.public(data)


def test_infinity_is_refused() -> None:
    """A mint that answers rK makes C infinity."""
    r = bytes(31) + b"\x05"
    with pytest.raises(VerificationError, match="infinity"):
        curve.unblind(curve.sign(KEYS[2], r), r, KEYS[2])


def test_a_secret_that_is_no_text_is_refused() -> None:
    with pytest.raises(VerificationError):
        curve.y_of("\ud800")


def test_random_scalars_come_from_the_given_source() -> None:
    assert curve.random_scalar(bytes) == bytes(31) + b"\x01"
    assert curve.is_point(curve.public(curve.random_scalar(lambda count: b"\xff" * count)))
    assert curve.random_scalar() != curve.random_scalar()


# ── DLEQ ────────────────────────────────────────────────────────────────────────────────────


def test_a_finished_proof_is_verified_by_anybody() -> None:
    proof = finished()
    assert proof.dleq is not None
    assert proof.dleq.r == made().r
    assert proof.c == curve.sign(curve.y_of(proof.secret), PRIVATE[4])
    dleq.check(proof, KEYSET)


@pytest.mark.parametrize("field", ["e", "s", "r"])
@pytest.mark.parametrize("value", [*NOT_SCALARS, PRIVATE[8]])
def test_any_other_dleq_is_wrong(field: str, value: bytes) -> None:
    proof = finished()
    assert proof.dleq is not None
    wrong = replace(proof, dleq=replace(proof.dleq, **{field: value}))
    assert not dleq.verify_proof(KEYS[4], wrong)
    with pytest.raises(VerificationError):
        dleq.check(wrong, KEYSET)


@pytest.mark.parametrize(
    "change",
    [{"secret": "another"}, {"secret": "\ud800"}, {"amount": 2}, {"c": KEYS[1]}, {"c": bytes(33)}],
)
def test_a_dleq_is_of_one_proof(change: dict[str, Any]) -> None:
    with pytest.raises(VerificationError, match="was not signed"):
        dleq.check(replace(finished(), **change), KEYSET)


def test_a_missing_dleq_is_an_error_of_its_own() -> None:
    proof = finished()
    assert proof.dleq is not None
    for missing in (None, replace(proof.dleq, r=None)):
        bare = replace(proof, dleq=missing)
        assert not dleq.verify_proof(KEYS[4], bare)
        with pytest.raises(UnverifiedError):
            dleq.check(bare, KEYSET)


@pytest.mark.parametrize("change", [{"amount": 3}, {"id": "00456a94ab4e1c46"}, {"amount": -4}])
def test_a_proof_of_no_key_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(VerificationError, match="has no key"):
        dleq.check(replace(finished(), **change), KEYSET)


@given(scalars(), scalars())
def test_what_a_mint_proves_holds(private: bytes, r: bytes) -> None:
    b = curve.blind("x", r)
    c_, proof = curve.sign(b, private), dleq.prove(private, b)
    assert dleq.verify_signature(curve.public(private), b, c_, proof)
    other = curve.public(curve.negated(private))
    assert not dleq.verify_signature(other, b, c_, proof)


@given(st.binary(max_size=66), st.binary(max_size=40), st.binary(max_size=40))
def test_verification_of_anything_says_no(point: bytes, e: bytes, s: bytes) -> None:
    assert not dleq.verify_signature(KEYS[1], point, point, Dleq(e, s))
    assert not dleq.verify_signature(point, KEYS[1], KEYS[2], Dleq(e, s))
    assert not dleq.verify_proof(KEYS[1], Proof(1, KEYSET.id, "s", point, Dleq(e, s, e)))


# ── a mint's answer ─────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "change",
    [
        {"amount": 8},
        {"amount": 3},
        {"id": "00456a94ab4e1c46"},
        {"c": KEYS[1]},
        {"c": bytes(33)},
        {"dleq": Dleq(bytes(32), bytes(32))},
        {"dleq": None},
    ],
)
def test_an_answer_to_something_else_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(VerificationError):
        finished(**change)


def test_an_answer_signed_with_another_key_is_refused() -> None:
    output = made()
    other = signed(output, private=PRIVATE[8])
    with pytest.raises(VerificationError, match="wrong DLEQ"):
        outputs.finish([output], [other], KEYSET, require_dleq=False)


def test_an_answer_without_dleq_is_taken_only_where_allowed() -> None:
    output = made()
    bare = replace(signed(output), dleq=None)
    with pytest.raises(UnverifiedError):
        outputs.finish([output], [bare], KEYSET, require_dleq=True)
    (proof,) = outputs.finish([output], [bare], KEYSET, require_dleq=False)
    assert proof.dleq is None
    assert proof.c == curve.sign(curve.y_of(proof.secret), PRIVATE[4])


@pytest.mark.parametrize("count", [0, 1, 3])
def test_an_answer_to_fewer_or_more_is_refused(count: int) -> None:
    asked = [made(secret="a"), made(secret="b")]
    answers = [signed(asked[0])] * count
    with pytest.raises(VerificationError, match="2 outputs have"):
        outputs.finish(asked, answers, KEYSET, require_dleq=True)


def test_blank_outputs_take_the_mints_amounts() -> None:
    blank = [outputs.output(0, KEYSET.id, str(n), bytes(31) + bytes([n])) for n in range(1, 5)]
    answers = [
        replace(signed(replace(each, message=replace(each.message, amount=amount))), amount=amount)
        for each, amount in zip(blank[:2], (8, 2), strict=True)
    ]
    change = outputs.finish_blank(blank, answers, KEYSET, require_dleq=True)
    assert [(proof.amount, proof.secret) for proof in change] == [(8, "1"), (2, "2")]
    with pytest.raises(VerificationError, match="have 3 signatures"):
        outputs.finish_blank(blank[:2], [*answers, answers[0]], KEYSET, require_dleq=True)
    with pytest.raises(VerificationError):
        outputs.finish_blank(blank, answers[::-1], KEYSET, require_dleq=True)


@pytest.mark.parametrize(
    ("reserve", "count"), [(-1, 0), (0, 0), (1, 1), (2, 1), (3, 2), (4, 2), (1000, 10), (1024, 10)]
)
def test_blank_outputs_hold_any_part_of_a_reserve(reserve: int, count: int) -> None:
    assert outputs.blank_count(reserve) == count


def test_the_ephemeral_key_of_a_blinded_lock_is_kept() -> None:
    output = replace(made(), ephemeral=KEYS[1])
    (proof,) = outputs.finish([output], [signed(output)], KEYSET, require_dleq=True)
    assert proof.ephemeral == KEYS[1]


def test_nothing_secret_is_shown() -> None:
    output = made(secret="the secret")
    shown = repr(output) + repr(finished())
    assert "the secret" not in shown
    assert repr(output.r) not in shown
