"""Text that a grammar forces, over a grammar that is a list of the texts it allows."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from node.inference.llama.forced import Forcing
from node.inference.llama.scheduler import MAX_FORCED

END = 256


class Texts:
    """Allows exactly these texts; `at` says how much has been taken."""

    living = 0

    def __init__(self, *texts: str, at: int = 0) -> None:
        self.texts = texts
        self.at = at
        Texts.living += 1

    def only(self, tokens: npt.NDArray[np.int32]) -> int | None:
        nexts = {ord(text[self.at]) if self.at < len(text) else END for text in self.texts}
        return nexts.pop() if len(nexts) == 1 else None

    def accept(self, token: int) -> None:
        self.texts = tuple(text for text in self.texts if text[self.at] == chr(token))
        self.at += 1
        assert self.texts, "a token that is not allowed"

    def copy(self) -> Texts:
        return Texts(*self.texts, at=self.at)

    def close(self) -> None:
        Texts.living -= 1


class Threes:
    """Three characters a token."""

    def __init__(self, *, whole: bool = True) -> None:
        self.bytes = np.arange(257 if whole else 0, dtype=np.int32)

    def continued(self, text: str) -> list[int]:
        return [1000 + start for start in range(0, len(text), 3)]


@pytest.mark.parametrize(
    ("texts", "tokens"),
    [
        (("abcdefghi", "abcdefxyz"), []),  # of two tokens the last is left to be drawn
        (("abcdefghiX", "abcdefghiY"), [1000, 1003]),
        (("abcdefgh", "xbcdefgh"), []),
        (("abcdef", "abcdefghijk"), []),  # it may end there
        (("abcdefghijkl",), [1000, 1003, 1006]),
        (("abcdefghi<call>",), [1000, 1003]),  # a marker may be one token
        (("abcdefghi\u00e9jklm",), [1000, 1003]),
        (("x" * 500,), [1000 + 3 * number for number in range(MAX_FORCED - 1)]),
    ],
)
def test_what_must_come_next(texts: tuple[str, ...], tokens: list[int]) -> None:
    grammar = Texts(*texts)
    before = Texts.living
    assert Forcing(Threes(), ("<call>",)).after(grammar, 100) == tokens
    assert grammar.at == 0  # only copies were asked to go on
    assert Texts.living == before


def test_no_more_than_there_is_room_for() -> None:
    forcing = Forcing(Threes(), ())
    assert forcing.after(Texts("x" * 60), 4) == [1000, 1003, 1006, 1009]
    assert forcing.after(Texts("x" * 60), 1) == []
    assert forcing.after(Texts("x" * 60), -1) == []


def test_the_end_is_known() -> None:
    forcing = Forcing(Threes(), ())
    assert forcing.at_end(Texts("ab", at=2))
    assert not forcing.at_end(Texts("ab", "abc", at=2))
    assert not forcing.at_end(Texts("ab", at=1))


def test_a_vocabulary_without_all_bytes_forces_nothing() -> None:
    forcing = Forcing(Threes(whole=False), ())
    assert forcing.after(Texts("x" * 60), 100) == []
    assert not forcing.at_end(Texts("ab", at=2))
