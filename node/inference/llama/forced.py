"""Text that a grammar forces, found by asking it byte after byte.

Inside a call the names of keys and the punctuation are given: `", "arguments": {"path": "` costs a
dozen steps if each token is drawn, and one if they are evaluated together. The grammar is asked
which of the 256 single-byte tokens, or the end, may come next (some ten microseconds); as long as
it is just one, that is the text. Its last token is left to be drawn: what follows may join it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from node.inference.llama.scheduler import MAX_FORCED

WORTH_FORCING_TOKENS: Final = 2
_END: Final = 256  # its place in `Vocabulary.bytes`
_MAX_BYTES: Final = 4 * MAX_FORCED
G = TypeVar("G", bound="Matcher")


class Matcher(Protocol):
    """What a grammar is asked."""

    def only(self, tokens: npt.NDArray[np.int32]) -> int | None: ...
    def accept(self, token: int) -> None: ...
    def copy(self: G) -> G: ...
    def close(self) -> None: ...


class Vocabulary(Protocol):
    """What is needed of one. `bytes`: a token for each of the 256 and one that ends, or none."""

    bytes: npt.NDArray[np.int32]

    def continued(self, text: str) -> list[int]: ...


class Forcing:
    """Finds forced tokens. Text of the `markers` is left to be drawn: it may be one token."""

    def __init__(self, vocab: Vocabulary, markers: Sequence[str]) -> None:
        self._vocab = vocab
        self._stops = frozenset(ord(marker[0]) for marker in markers if marker)

    def after(self, grammar: Matcher, most: int) -> list[int]:
        """At most `most` tokens that must come next; none where too few to pay."""
        text = self._text(grammar)
        tokens = self._vocab.continued(text)[:-1] if text else []
        tokens = tokens[: max(min(most, MAX_FORCED - 1), 0)]
        return tokens if len(tokens) >= WORTH_FORCING_TOKENS else []

    def at_end(self, grammar: Matcher) -> bool:
        """Whether nothing but the end may come next."""
        return len(self._vocab.bytes) > 0 and grammar.only(self._vocab.bytes) == _END

    def _text(self, grammar: Matcher) -> str:
        """The ASCII text that must come next."""
        found = bytearray()
        walker: Matcher | None = None
        if not len(self._vocab.bytes):
            return ""
        try:
            while len(found) < _MAX_BYTES:
                byte = (walker or grammar).only(self._vocab.bytes)
                if byte is None or byte > 0x7F or byte in self._stops:
                    break
                found.append(byte)
                walker = walker or grammar.copy()
                walker.accept(int(self._vocab.bytes[byte]))
        finally:
            if walker is not None:
                walker.close()
        return found.decode("ascii")
