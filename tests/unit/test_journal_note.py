"""Signed notes and checkpoints: the example of C2SP signed-note, and bytes that are none."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.errors import FreeholdError, JournalDamagedError, JournalError
from node.journal.note import Checkpoint, Note, Signer, VerifierKey, commit_text, handed_over
from node.journal.tree import EMPTY_ROOT

C2SP_KEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
C2SP_NOTE = """This is an example message.

— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuw\
HjG1Yu72IneyaQM=
""".encode()
SIGNER = Signer("test.example/log", bytes(range(32)))


def test_the_note_of_the_specification() -> None:
    key = VerifierKey.parse(C2SP_KEY)
    assert str(key) == C2SP_KEY
    assert Note.parse(C2SP_NOTE).signed_by(key)
    assert not Note.parse(C2SP_NOTE.replace(b"example message", b"example massage")).signed_by(key)
    assert not Note.parse(C2SP_NOTE).signed_by(SIGNER.key)


def test_a_checkpoint_comes_back() -> None:
    following = Signer("test.example/log", bytes(32)).key
    note = SIGNER.sign(commit_text("test.example/log", 7, b"r" * 32, b"p" * 32, following))
    point = Checkpoint.parse(note)
    assert (point.origin, point.size, point.root) == ("test.example/log", 7, b"r" * 32)
    assert point.extension("next") == str(following)
    assert point.extension("none") is None
    assert point.signed_by(SIGNER.key)
    assert not point.signed_by(following)


def test_a_checkpoint_of_another_origin_is_not_the_keys() -> None:
    note = SIGNER.sign(commit_text("other.example/log", 0, EMPTY_ROOT, bytes(32)))
    assert not Checkpoint.parse(note).signed_by(SIGNER.key)


def test_a_seal_hands_over_to_a_key_of_its_own_log() -> None:
    mine, other = (Signer(name, bytes(32)).key for name in ("test.example/log", "b.example/log"))
    for key in (mine, other):
        note = SIGNER.sign(commit_text("test.example/log", 7, b"r" * 32, b"p" * 32, key))
        with nullcontext() if key is mine else pytest.raises(JournalDamagedError, match="a key of"):
            assert handed_over(Checkpoint.parse(note), SIGNER.key) == mine


def test_a_root_has_one_base64() -> None:
    """Its last character has bits that no byte needs: one root could be written in four ways."""
    note = SIGNER.sign(commit_text("test.example/log", 7, bytes(32), b"p" * 32))
    other = note.replace(b"AAAA=\n", b"AAAB=\n", 1)
    assert other != note
    with pytest.raises(JournalDamagedError, match="not canonical base64"):
        Checkpoint.parse(other)


def test_a_known_key_whose_signature_fails_spoils_the_note() -> None:
    good = SIGNER.sign(b"text\n")
    bad = SIGNER.sign(b"other\n").rpartition(b"\n\n")[2]
    assert Note.parse(good).signed_by(SIGNER.key)
    assert not Note.parse(good + bad).signed_by(SIGNER.key)


@pytest.mark.parametrize(
    "text",
    ["", "a", "a+b", "a+00000000+AAAA", C2SP_KEY + "\n", C2SP_KEY.replace("+530d", "+530e")],
)
def test_what_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(JournalError) as refused:
        VerifierKey.parse(text)
    assert refused.value.hint


@pytest.mark.parametrize("name", ["ex\u00e4mple/log", "", "a b", "a+b", "a\n", "x" * 129])
def test_what_is_no_origin_is_refused(name: str) -> None:
    with pytest.raises(JournalError):
        Signer(name, bytes(32))


@given(st.binary(max_size=300))
def test_any_bytes_as_a_note(raw: bytes) -> None:
    try:
        Checkpoint.parse(raw)
    except JournalDamagedError:
        return
    assert raw.count(b"\n") >= 4


@given(st.integers(0, 400), st.binary(max_size=4))
def test_any_edit_of_a_checkpoint_spoils_its_signature(at: int, new: bytes) -> None:
    note = SIGNER.sign(commit_text("test.example/log", 3, b"r" * 32, b"p" * 32))
    edited = note[:at] + new + note[at + len(new) :]
    try:
        signed = Checkpoint.parse(edited).signed_by(SIGNER.key)
    except JournalDamagedError:
        return
    assert not signed or edited.startswith(note), "only more signatures may follow"


@given(st.text(max_size=120))
def test_any_text_as_a_key(text: str) -> None:
    try:
        key = VerifierKey.parse(text)
    except FreeholdError:
        return
    assert str(key) == text
