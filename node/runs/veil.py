"""Live tokens without secrets in them: words are shown once it is clear that they are harmless.

An answer is judged by the guards when it is whole, but it is watched while it is made. So what
might be the beginning of a secret is held back: a word until it ends, words of the BIP-39 list
until another word follows, and everything from a PEM header on. What is let through has been
redacted by the same rules as the answer will be.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from node.runs.guards_secrets import is_listed, redact

_SPACE = re.compile(r"\s+")
_PEM = "-----BEGIN"


class Veil:
    """Takes one generation's text in pieces and gives back what may be shown.

    Args:
        known: the node's own secrets in all their forms, longest first.
        show: called with text that may be shown, never with an empty one.
    """

    def __init__(self, show: Callable[[str], None], known: tuple[str, ...] = ()) -> None:
        self._show = show
        self._known = known
        self._held = ""

    def add(self, piece: str) -> None:
        """The next piece of text."""
        self._held += piece
        if _SPACE.search(piece):
            self._release(_harmless(self._held))

    def end(self) -> None:
        """The text is whole: shows the rest."""
        self._release(len(self._held))

    def _release(self, end: int) -> None:
        text, self._held = self._held[:end], self._held[end:]
        if text:
            self._show(redact(text, self._known)[0])


def _harmless(text: str) -> int:
    """Up to where no secret can have begun that is not whole."""
    pem = text.find(_PEM)
    text = text if pem < 0 else text[:pem]
    end = 0
    for space in _SPACE.finditer(text):
        if not is_listed(text[end : space.start()]):
            end = space.end()
    return end
