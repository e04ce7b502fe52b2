"""Entries to bytes and back; what is no entry is refused with words."""

from __future__ import annotations

import json
from bisect import bisect_left
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.errors import FreeholdError, JournalDamagedError, JournalError
from node.journal import MAX_ENTRY_BYTES, BlobRef, Draft, Entry, PolicyVerdict, entry_json
from node.journal.entry import line, parse, prepare, stamp
from node.journal.note import Checkpoint, VerifierKey
from node.journal.proof import Proof, check_extension

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | text
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=8,
)
refs = st.builds(
    BlobRef, st.binary(min_size=32, max_size=32).map(bytes.hex), st.integers(0, 2**40), text
)
drafts = st.builds(
    Draft,
    type=st.from_regex(r"[a-z][a-z0-9_]{0,9}(\.[a-z0-9_]{1,9}){0,2}", fullmatch=True),
    run=st.none() | text,
    path=st.none() | text,
    cause=st.lists(st.integers(0, 2**40), max_size=3).map(tuple),
    agent=st.none() | text,
    actor=text,
    policy=st.none() | st.builds(PolicyVerdict, text, text),
    blobs=st.lists(refs, max_size=3).map(tuple),
    data=st.dictionaries(text, values, max_size=4),
)
KEY = VerifierKey.parse("example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k")


@given(drafts, st.integers(0, 2**48))
def test_an_entry_comes_back(draft: Draft, index: int) -> None:
    raw = line(prepare(draft), index, stamp(1_700_000_000_000, "b00t", 5))
    assert raw.startswith(b'{"v":1,"i":%d,"ts":' % index)
    assert b"\n" not in raw
    entry = parse(raw, index)
    assert entry == Entry(index, 1_700_000_000_000, "b00t", 5, draft)
    assert entry_json(entry) == json.loads(raw)


@pytest.mark.parametrize("causes", [0, 1, 2000])
def test_what_is_taken_is_never_too_long_once_it_is_written(causes: int) -> None:
    """A log that holds a longer entry does not open again."""

    def draft(size: int) -> Draft:
        return Draft("a.b", cause=(10**18,) * causes, data={"text": "x" * size})

    def is_refused(size: int) -> bool:
        try:
            prepare(draft(size))
        except JournalError:
            return True
        return False

    most = bisect_left(range(MAX_ENTRY_BYTES), True, key=is_refused) - 1
    whole = line(prepare(draft(most)), 10**18, stamp(10**13, "f" * 16, 10**14))
    assert 0 < most < len(whole) <= MAX_ENTRY_BYTES


def test_negative_causes_are_drafts_of_the_same_call() -> None:
    raw = line(prepare(Draft("a.b", cause=(3, -1, -2))), 10, stamp(0, "b", 0))
    assert parse(raw).draft.cause == (3, 9, 8)


@pytest.mark.parametrize(
    "draft",
    [
        Draft("A.b"),
        Draft(""),
        Draft("a..b"),
        Draft("a.b\n"),
        Draft("x" * 65),
        Draft("a.b", data={"n": float("nan")}),
        Draft("a.b", data={"n": b"raw"}),  # type: ignore[dict-item]
        Draft("a.b", run="\ud800"),
        Draft("a.b", run=7),  # type: ignore[arg-type]
        Draft("a.b", blobs=(BlobRef("00", 1, "x"),)),
        Draft("a.b", data={"text": "x" * MAX_ENTRY_BYTES}),
    ],
)
def test_what_cannot_be_an_entry_is_refused(draft: Draft) -> None:
    with pytest.raises(JournalError):
        prepare(draft)


def test_deep_nesting_is_refused_and_not_a_traceback() -> None:
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(JournalError):
        prepare(Draft("a.b", data={"deep": deep}))
    with pytest.raises(JournalDamagedError):
        parse(b"[" * 100_000)


def test_an_entry_as_long_as_can_be() -> None:
    draft = Draft("a.b", data={"text": "x" * (MAX_ENTRY_BYTES - 400)})
    assert len(line(prepare(draft), 2**40, stamp(2**41, "b" * 16, 2**41))) <= MAX_ENTRY_BYTES


GOOD = line(prepare(Draft("a.b", blobs=(BlobRef("0" * 64, 1, "x"),))), 0, stamp(1, "b", 1))


@given(st.integers(0, len(GOOD) - 1), st.binary(min_size=1, max_size=3))
def test_any_edit_of_an_entry_is_read_or_refused(at: int, new: bytes) -> None:
    try:
        entry = parse(GOOD[:at] + new + GOOD[at + len(new) :])
    except JournalDamagedError:
        return
    assert isinstance(entry, Entry)


@given(st.binary(max_size=60) | values.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_as_entry_or_proof(raw: bytes) -> None:
    with pytest.raises(JournalDamagedError):
        parse(raw)
    with pytest.raises(FreeholdError):
        Proof.parse(raw).check(KEY)
    with pytest.raises(FreeholdError):
        check_extension(raw, Checkpoint("example.com/foo", 1, bytes(32)), KEY)
    head = b"c2sp.org/tlog-proof@v1\nextra "
    with pytest.raises(FreeholdError):
        Proof.parse(head + raw + b"\nindex 0\n\n" + raw)


@pytest.mark.parametrize("number", ["007", "+7", "", "9" * 5000])
def test_a_number_in_a_proof_is_written_in_one_way(number: str) -> None:
    old = Checkpoint(KEY.name, 7, bytes(32))
    with pytest.raises(JournalDamagedError, match="not an index"):
        check_extension(f"old {number}\n\n".encode(), old, KEY)
