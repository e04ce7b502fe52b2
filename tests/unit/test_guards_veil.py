"""Live tokens: all that is harmless comes through, in order, and no secret does."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.runs.guards_secrets import redact
from node.runs.veil import Veil

SEED = "legal winner thank year wave sausage worth useful legal winner thank yellow"
SECRETS = [
    "nsec1" + "q" * 58,
    SEED,
    "-----BEGIN EC PRIVATE KEY-----\nMHcC AQ\nEEIN\n-----END EC PRIVATE KEY-----",
    "sk-proj-" + "aB3_" * 10,
    *("hunter2-hunter2", "Token id=abc def, key=hunter3-hunter3"),
]
KNOWN = ("hunter2-hunter2", "Token id=abc def, key=hunter3-hunter3")


def shown(text: str, size: int) -> list[str]:
    pieces: list[str] = []
    veil = Veil(pieces.append, KNOWN)
    for at in range(0, len(text), size):
        veil.add(text[at : at + size])
    veil.end()
    return pieces


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_no_secret_is_shown_however_it_is_cut(secret: str, size: int) -> None:
    text = f"The key you asked for is {secret} and it is ours."
    pieces = shown(text, size)
    assert "".join(pieces) == redact(text, KNOWN)[0]
    assert "[redacted " in "".join(pieces)
    assert all(pieces)


def test_words_are_shown_as_they_come() -> None:
    pieces: list[str] = []
    veil = Veil(pieces.append)
    for piece in ("The ", "sum", " of ", "them", " is 12", "\n"):
        veil.add(piece)
    assert "".join(pieces) == "The sum of them is "
    assert len(pieces) >= 3
    veil.end()
    assert "".join(pieces) == "The sum of them is 12\n"


@given(text=st.text(st.sampled_from("ab Z.1-\n")), size=st.integers(1, 5))
@settings(max_examples=150, deadline=None)
def test_text_without_secrets_arrives_whole(text: str, size: int) -> None:
    assert "".join(shown(text, size)) == text


@pytest.mark.parametrize("word", ["again ", "again", "again \n ", "-----BEGIN again "])
def test_time_grows_with_the_words_and_no_faster(word: str) -> None:
    """A model that says words of the list on and on must not hold up the node."""

    def seconds(words: int) -> float:
        started = time.thread_time()
        assert "".join(shown(word * words, len(word))) == word * words
        return time.thread_time() - started

    assert seconds(4000) <= 25 * seconds(400) + 0.2
