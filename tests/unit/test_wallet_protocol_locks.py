"""Locks to keys and hashes: who can open them, and what is refused before money goes in."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wallet.errors import ParseError, UnsupportedError, VerificationError
from wallet.protocol import blindkeys, conditions, curve, htlc, p2pk, witness
from wallet.protocol.conditions import Condition
from wallet.protocol.p2pk import Lock
from wallet.types import BlindedMessage, Proof

PRIVATE = [bytes(31) + bytes([n]) for n in range(1, 8)]
KEYS = [curve.public(private) for private in PRIVATE]
NOW = 1_790_000_000
PREIMAGE = b"p" * 32
OUTPUTS = [
    BlindedMessage(1, "00ad268c4d1f5826", KEYS[5]),
    BlindedMessage(2, "00ad268c4d1f5826", KEYS[6]),
]


def proof(lock: Lock, **change: Any) -> Proof:
    return replace(Proof(1, "00ad268c4d1f5826", p2pk.secret(lock), KEYS[0]), **change)


def opens(lock: Lock, *signers: int, preimage: bytes | None = None, now: float = NOW) -> bool:
    """Whether these people's keys open the lock, in a swap."""
    signed = witness.sign([proof(lock)], OUTPUTS, [PRIVATE[n] for n in signers], preimage=preimage)
    try:
        witness.check(signed, OUTPUTS, now=now)
    except VerificationError:
        return False
    return True


# ── well-known secrets ──────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "secret",
    ["", "abcd" * 16, "[", "[1,2]", '["P2PK"]', '["a","b"]', "[[],{}]", '{"a":1}', '"P2PK"'],
)
def test_ordinary_secrets_have_no_condition(secret: str) -> None:
    assert conditions.parse(secret) is None
    assert p2pk.lock_of(secret) is None


@pytest.mark.parametrize(
    "body",
    [
        "{}",
        '{"nonce":"a"}',
        '{"data":"a"}',
        '{"nonce":1,"data":"a"}',
        '{"nonce":"a","data":["b"]}',
        '{"nonce":"a","data":"b","tags":5}',
        '{"nonce":"a","data":"b","tags":[[]]}',
        '{"nonce":"a","data":"b","tags":["ab"]}',
        '{"nonce":"a","data":"b","tags":[["locktime",5]]}',
        '{"nonce":"a","data":"b","tags":[["locktime",""]]}',
        '{"nonce":"a","data":"b","data":"c"}',
        '{"nonce":"a","data":"b","tags":' + "[" * 3_000 + "]" * 3_000 + "}",
        '{"nonce":"a","data":"' + "b" * 9_000 + '"}',
    ],
)
def test_malformed_conditions_are_refused(body: str) -> None:
    for blank in ("", " \n\t"):
        with pytest.raises(ParseError):
            conditions.parse(f'{blank}["P2PK",{body}]')


def test_a_condition_comes_back() -> None:
    condition = Condition("KIND", "data", (("a",), ("b", "1", "2")), "nonce")
    secret = conditions.serialise(condition)
    assert conditions.parse(secret) == condition
    assert (condition.values("a"), condition.values("b")) == ((), ("1", "2"))
    assert condition.values("c") is None
    fresh = replace(condition, nonce="")
    assert conditions.serialise(fresh) != conditions.serialise(fresh)
    assert json.loads(conditions.serialise(fresh, bytes))[1]["nonce"] == "00" * 32


# ── locks ───────────────────────────────────────────────────────────────────────────────────

tags_of_keys = st.lists(st.sampled_from(KEYS), max_size=4, unique_by=lambda key: key[1:]).map(tuple)


@st.composite
def locks(draw: st.DrawFn) -> Lock:
    keys, refund = draw(tags_of_keys), draw(tags_of_keys)
    digest = draw(st.none() | st.binary(min_size=32, max_size=32))
    if not keys and digest is None:
        keys = (KEYS[0],)
    return Lock(
        keys,
        draw(st.integers(1, max(len(keys), 1))),
        draw(st.none() | st.integers(0, 2**40)),
        refund,
        draw(st.integers(1, max(len(refund), 1))),
        draw(st.booleans()),
        digest,
    )


@given(locks())
def test_a_lock_comes_back(lock: Lock) -> None:
    assert p2pk.lock_of(p2pk.secret(lock)) == lock


@pytest.mark.parametrize(
    "lock",
    [
        Lock(()),
        Lock((KEYS[0],), n_sigs=2),
        Lock((KEYS[0],), n_sigs=0),
        Lock((KEYS[0], KEYS[1]), n_sigs=-1),
        Lock((KEYS[0], KEYS[0])),
        Lock((KEYS[0], bytes([KEYS[0][0] ^ 1]) + KEYS[0][1:])),
        Lock((KEYS[0],), refund=(KEYS[1], KEYS[1]), locktime=1),
        Lock((KEYS[0],), n_sigs_refund=2, refund=(KEYS[1],), locktime=1),
        Lock((b"\x02" + bytes(32),)),
        Lock((KEYS[0][1:],)),
        Lock((KEYS[0],), locktime=-5),
        Lock((KEYS[0],), hash=b"short"),
    ],
)
def test_money_is_not_put_behind_a_lock_nobody_can_open(lock: Lock) -> None:
    with pytest.raises(ParseError):
        p2pk.secret(lock)


def condition(*tags: tuple[str, ...], kind: str = "P2PK", data: str = "") -> str:
    return conditions.serialise(Condition(kind, data or KEYS[0].hex(), tags))


@pytest.mark.parametrize(
    "tag",
    [
        ("n_sigs", "0"),
        ("n_sigs", "2"),
        ("n_sigs", "-1"),
        ("n_sigs", "+1"),
        ("n_sigs", "1", "1"),
        ("n_sigs", "١"),
        ("n_sigs",),
        ("n_sigs", "9" * 30),
        ("n_sigs_refund", "1"),
        ("sigflag", "SIG_NONE"),
        ("sigflag",),
        ("sigflag", "SIG_ALL", "SIG_INPUTS"),
        ("pubkeys", "02"),
        ("pubkeys", KEYS[0].hex()),
        ("pubkeys", KEYS[0].hex().upper()),
        ("refund", "zz" * 33),
        ("refund", "02" + "00" * 32),
    ],
)
def test_malformed_locks_are_refused(tag: tuple[str, ...]) -> None:
    with pytest.raises(ParseError):
        p2pk.lock_of(condition(tag))


@pytest.mark.parametrize("name", ["n_sigs", "sigflag", "locktime", "pubkeys", "refund"])
def test_a_tag_that_comes_twice_is_refused(name: str) -> None:
    with pytest.raises(ParseError, match="two tags"):
        p2pk.lock_of(condition((name, "1"), (name, "1")))


@pytest.mark.parametrize("kind", ["p2pk", "P2SH", ""])
def test_other_kinds_are_not_supported(kind: str) -> None:
    with pytest.raises(UnsupportedError):
        p2pk.lock_of(condition(kind=kind))


@pytest.mark.parametrize("time", ["-1", "1e3", " 5", "5.0", "x", "9" * 19, "9" * 30, "٥"])
def test_a_locktime_that_is_no_time_never_comes(time: str) -> None:
    lock = p2pk.lock_of(condition(("locktime", time)))
    assert lock is not None
    assert lock.locktime is None
    assert not lock.expired(float("inf"))


def test_mixed_case_keys_are_the_same_keys() -> None:
    lock = p2pk.lock_of(condition(data=KEYS[0].hex().upper()))
    assert lock is not None
    assert lock.keys == (KEYS[0],)


def test_a_hash_lock_needs_a_hash() -> None:
    with pytest.raises(ParseError):
        p2pk.lock_of(condition(kind="HTLC", data="a]" + "0" * 62))


# ── who opens what ──────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("sig_all", [False, True])
class TestOpening:
    def test_one_key(self, sig_all: bool) -> None:
        lock = Lock((KEYS[0],), sig_all=sig_all)
        assert opens(lock, 0)
        assert not opens(lock, 1)
        assert not opens(lock)

    def test_two_of_three(self, sig_all: bool) -> None:
        lock = Lock(tuple(KEYS[:3]), 2, sig_all=sig_all)
        assert opens(lock, 0, 1)
        assert opens(lock, 1, 2)
        assert opens(lock, 0, 1, 2, 4)
        assert not opens(lock, 1)
        assert not opens(lock, 1, 1)
        assert not opens(lock, 1, 4)

    def test_refund_after_the_locktime(self, sig_all: bool) -> None:
        lock = Lock((KEYS[0],), locktime=NOW, refund=(KEYS[1], KEYS[2]), sig_all=sig_all)
        assert not opens(lock, 1, now=NOW)
        assert opens(lock, 1, now=NOW + 1)
        assert opens(lock, 0, now=NOW + 1)
        assert not opens(lock, 3, now=NOW + 1)
        both = replace(lock, n_sigs_refund=2)
        assert not opens(both, 1, now=NOW + 1)
        assert opens(both, 1, 2, now=NOW + 1)

    def test_pathways_do_not_mix(self, sig_all: bool) -> None:
        lock = Lock(tuple(KEYS[:2]), 2, NOW - 1, tuple(KEYS[2:4]), 2, sig_all)
        assert not opens(lock, 1, 2)
        assert opens(lock, 2, 3)

    def test_anybody_after_a_locktime_without_refund(self, sig_all: bool) -> None:
        lock = Lock((KEYS[0],), locktime=NOW, sig_all=sig_all)
        assert opens(lock, now=NOW + 1)
        assert not opens(lock, now=NOW)

    def test_hash(self, sig_all: bool) -> None:
        lock = Lock((KEYS[0],), hash=htlc.hash_of(PREIMAGE), sig_all=sig_all)
        assert opens(lock, 0, preimage=PREIMAGE)
        assert not opens(lock, 0)
        assert not opens(lock, 0, preimage=b"q" * 32)
        assert not opens(lock, preimage=PREIMAGE)
        assert not opens(lock, 1, preimage=PREIMAGE)

    def test_hash_without_keys(self, sig_all: bool) -> None:
        lock = Lock((), hash=htlc.hash_of(PREIMAGE), sig_all=sig_all)
        assert opens(lock, preimage=PREIMAGE)
        assert not opens(lock, 0)

    def test_hash_refund(self, sig_all: bool) -> None:
        digest = htlc.hash_of(PREIMAGE)
        lock = Lock((KEYS[0],), 1, NOW, (KEYS[1],), 1, sig_all, digest)
        assert not opens(lock, 1, now=NOW)
        assert opens(lock, 1, now=NOW + 1)
        assert opens(lock, 0, preimage=PREIMAGE, now=NOW + 1)
        assert not opens(lock, 0, now=NOW + 1)

    def test_a_preimage_of_another_length_is_none(self, sig_all: bool) -> None:
        lock = Lock((), hash=htlc.hash_of(b"short"), sig_all=sig_all)
        assert not opens(lock, preimage=b"short")

    def test_people_sign_in_turn(self, sig_all: bool) -> None:
        """The second signs what the first handed on; signing again changes nothing."""
        inputs: tuple[Proof, ...] = (proof(Lock(tuple(KEYS[:3]), 2, sig_all=sig_all)),)
        for private in PRIVATE[:2]:
            with pytest.raises(VerificationError, match="2 signatures"):
                witness.check(inputs, OUTPUTS, now=NOW)
            inputs = witness.sign(inputs, OUTPUTS, [private])
            assert witness.sign(inputs, OUTPUTS, [private]) == inputs
        witness.check(inputs, OUTPUTS, now=NOW)


def test_inputs_sign_for_themselves() -> None:
    inputs = [proof(Lock((KEYS[0],))), proof(Lock((KEYS[1],))), Proof(1, "00", "plain", KEYS[0])]
    signed = witness.sign(inputs, OUTPUTS, PRIVATE[:2])
    assert signed[2] == inputs[2]
    witness.check(signed, [], now=NOW)
    with pytest.raises(VerificationError):
        witness.check([replace(signed[1], witness=signed[0].witness)], [], now=NOW)


def alike(count: int = 2, **more: Any) -> list[Proof]:
    return [proof(Lock((KEYS[0],), sig_all=True, **more)) for _ in range(count)]


def test_one_signature_for_all_covers_everything() -> None:
    signed = witness.sign(alike(), OUTPUTS, [PRIVATE[0]], quote="q")
    assert signed[1].witness is None
    witness.check(signed, OUTPUTS, now=NOW, quote="q")
    for inputs, outputs, quote in [
        (signed[::-1], OUTPUTS, "q"),
        (signed[:1], OUTPUTS, "q"),
        (signed, OUTPUTS[::-1], "q"),
        (signed, OUTPUTS[:1], "q"),
        (signed, [replace(OUTPUTS[0], amount=2), OUTPUTS[1]], "q"),
        (signed, OUTPUTS, "another"),
        (signed, OUTPUTS, None),
        ((replace(signed[0], c=KEYS[1]), signed[1]), OUTPUTS, "q"),
    ]:
        with pytest.raises(VerificationError):
            witness.check(inputs, outputs, now=NOW, quote=quote)


@pytest.mark.parametrize(
    "other",
    [
        Proof(1, "00ad268c4d1f5826", "plain", KEYS[0]),
        proof(Lock((KEYS[0],))),
        proof(Lock((KEYS[1],), sig_all=True)),
        proof(Lock((KEYS[0],), sig_all=True, locktime=5)),
        proof(Lock((), sig_all=True, hash=htlc.hash_of(PREIMAGE))),
    ],
)
def test_inputs_that_one_signature_covers_must_be_alike(other: Proof) -> None:
    for inputs in ([alike(1)[0], other], [other, alike(1)[0]]):
        signed = witness.sign(inputs, OUTPUTS, PRIVATE[:2], preimage=PREIMAGE)
        with pytest.raises(VerificationError, match="different conditions"):
            witness.check(signed, OUTPUTS, now=NOW)


# ── witnesses ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "5",
        '{"signatures":5}',
        '{"signatures":[5]}',
        '{"signatures":[""]}',
        '{"preimage":"00"}',
        '{"preimage":5}',
        json.dumps({"signatures": ["00"] * 65}),
        '{"signatures":["' + "0" * 40_000 + '"]}',
        "[" * 20_000,
    ],
)
def test_witnesses_that_are_none(text: str) -> None:
    with pytest.raises(ParseError):
        witness.Witness.read(text)
    with pytest.raises(ParseError):
        witness.check([proof(Lock((KEYS[0],)), witness=text)], [], now=NOW)


def test_a_witness_written_twice_over_is_read() -> None:
    found = witness.Witness(("ab",), PREIMAGE)
    text = found.write()
    assert witness.Witness.read(text) == witness.Witness.read(json.dumps(text)) == found
    with pytest.raises(ParseError):
        witness.Witness.read(json.dumps(json.dumps(text)))


def test_an_empty_witness_is_not_written() -> None:
    assert witness.Witness().write() is None
    assert witness.Witness.read(None) == witness.Witness.read("{}") == witness.Witness()
    (unsigned,) = witness.sign([proof(Lock((KEYS[0],)))], [], [PRIVATE[3]])
    assert unsigned.witness is None


@given(st.text(max_size=60) | st.binary(min_size=64, max_size=64).map(bytes.hex))
def test_any_signature_says_no(signature: str) -> None:
    assert not p2pk.signed_by("message", signature, KEYS[0])
    assert not p2pk.signed_by("message", signature, b"\x02" + bytes(32))
    assert not p2pk.signed_by("\ud800", signature, KEYS[0])


@given(
    st.text(max_size=100)
    | st.recursive(st.text(max_size=9), st.lists, max_leaves=6).map(json.dumps)
)
def test_any_secret_or_witness(text: str) -> None:
    known = (ParseError, UnsupportedError, VerificationError)
    for found in (
        Proof(1, "00", text, KEYS[0]),
        Proof(1, "00", p2pk.secret(Lock((KEYS[0],))), KEYS[0], witness=text),
    ):
        try:
            witness.check(witness.sign([found], OUTPUTS, PRIVATE[:1]), OUTPUTS, now=NOW)
        except known:
            continue


tags = st.lists(
    st.lists(
        st.sampled_from(["n_sigs", "sigflag", "SIG_ALL", "locktime", "refund", "pubkeys", "1", "2"])
        | st.sampled_from(KEYS).map(bytes.hex)
        | st.text(max_size=5)
        | st.integers(),
        max_size=3,
    ),
    max_size=4,
)


@given(
    st.sampled_from(["P2PK", "HTLC", "X"]), st.sampled_from(KEYS).map(bytes.hex) | st.text(), tags
)
def test_any_lock(kind: str, data: str, found: list[Any]) -> None:
    secret = json.dumps([kind, {"nonce": "n", "data": data, "tags": found}])
    try:
        lock = p2pk.lock_of(secret)
    except (ParseError, UnsupportedError):
        return
    assert lock is not None
    assert p2pk.lock_of(p2pk.secret(lock)) == lock


@pytest.mark.parametrize("key", [b"", b"\x02", KEYS[0][:-1], KEYS[0] + b"\0", b"\x02" + bytes(32)])
def test_what_is_no_key_has_signed_nothing(key: bytes) -> None:
    assert not p2pk.signed_by("message", p2pk.sign("message", PRIVATE[0]), key)


def test_signing_shows_no_secret() -> None:
    assert "aa" * 64 not in repr(witness.Witness(("aa" * 64,), PREIMAGE))


# ── blinded keys ────────────────────────────────────────────────────────────────────────────


@settings(max_examples=25)
@given(locks(), st.integers(1, 2**200).map(lambda n: n.to_bytes(32, "big")))
def test_owners_find_their_blinded_keys(lock: Lock, ephemeral: bytes) -> None:
    blinded = blindkeys.blind(lock, ephemeral)
    assert not {*blinded.keys, *blinded.refund} & {*lock.keys, *lock.refund}
    assert replace(blinded, keys=lock.keys, refund=lock.refund) == lock
    public = curve.public(ephemeral)
    for private, key in zip(PRIVATE, KEYS, strict=True):
        found = blindkeys.private_keys(blinded, public, [private])
        slots = [
            new
            for old, new in zip(
                (*lock.keys, *lock.refund), (*blinded.keys, *blinded.refund), strict=True
            )
            if old == key
        ]
        assert [curve.public(each) for each in found] == slots


def test_a_nostr_key_without_its_parity_is_found() -> None:
    odd = next(n for n, key in enumerate(KEYS) if key[0] == 3)
    lifted = b"\x02" + KEYS[odd][1:]
    blinded = blindkeys.blind(Lock((lifted,)), PRIVATE[1])
    (found,) = blindkeys.private_keys(blinded, KEYS[1], [PRIVATE[odd]])
    assert curve.public(found) == blinded.keys[0]


@pytest.mark.parametrize("sig_all", [False, True])
def test_a_blinded_lock_is_opened_and_its_trace_removed(sig_all: bool) -> None:
    lock = blindkeys.blind(Lock((KEYS[0], KEYS[2]), 2, sig_all=sig_all), PRIVATE[4])
    inputs = [proof(lock, ephemeral=KEYS[4]) for _ in range(2)]
    for count in (1, 2):
        signed = witness.sign(inputs[:count], OUTPUTS, [PRIVATE[0], PRIVATE[2]])
        assert all(each.ephemeral is None for each in signed)
        witness.check(signed, OUTPUTS, now=NOW)
    with pytest.raises(VerificationError):
        witness.check(witness.sign(inputs, OUTPUTS, [PRIVATE[0], PRIVATE[3]]), OUTPUTS, now=NOW)


def test_what_has_no_slot_is_not_supported() -> None:
    keys = tuple(curve.public(bytes(30) + b"\x01" + bytes([n])) for n in range(12))
    assert len(blindkeys.blind(Lock(keys[:11]), PRIVATE[0]).keys) == 11
    with pytest.raises(UnsupportedError):
        blindkeys.blind(Lock(keys), PRIVATE[0])
    with pytest.raises(UnsupportedError):
        blindkeys.blind(Lock(keys[:11], hash=htlc.hash_of(PREIMAGE)), PRIVATE[0])
    with pytest.raises(VerificationError):
        blindkeys.private_keys(Lock((KEYS[0],)), bytes(33), [PRIVATE[0]])


def test_slot_0_of_a_hash_lock_is_its_hash() -> None:
    lock = blindkeys.blind(Lock((KEYS[0],), hash=htlc.hash_of(PREIMAGE)), PRIVATE[4])
    shared = blindkeys.shared_secret(PRIVATE[4], KEYS[0])
    r = curve.generated(blindkeys.scalar(shared, 1))
    assert lock.keys[0] == curve.to_bytes(curve.add(curve.point(KEYS[0]), r))


def test_a_lock_without_a_hash_needs_no_preimage() -> None:
    assert htlc.opens(Lock((KEYS[0],)), None)
