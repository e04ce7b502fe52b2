"""Live tokens: all that is harmless comes through, in order, and no secret does."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.runs import seed_phrases
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
def test_each_word_is_looked_up_once(word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that says words of the list on and on must not hold up the node."""
    looked_up: list[str] = []

    def is_listed(text: str) -> bool:
        looked_up.append(text)
        return seed_phrases.is_listed(text)

    monkeypatch.setattr("node.runs.veil.is_listed", is_listed)
    assert "".join(shown(word * 400, len(word))) == word * 400
    assert sum(map(len, looked_up)) <= len(word * 400)
