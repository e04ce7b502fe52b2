"""Live tokens without secrets in them: words are shown once it is clear that they are harmless.

An answer is judged by the guards when it is whole, but it is watched while it is made. So what
might be the beginning of a secret is held back: a word until it ends, words of the BIP-39 list
until another word follows, and everything from a PEM header on. What is let through has been
redacted by the same rules as the answer will be.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from node.runs.guards_secrets import redact
from node.runs.seed_phrases import is_listed

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
        self._spaced = tuple(form for form in known if _SPACE.search(form))
        self._held = ""
        self._read = 0  # up to where `held` is words of the list, and spaces

    def add(self, piece: str) -> None:
        """The next piece of text."""
        self._held += piece
        if _SPACE.search(piece):
            self._release(self._harmless())

    def end(self) -> None:
        """The text is whole: shows the rest."""
        self._release(len(self._held))

    def _harmless(self) -> int:
        """Up to where no secret can have begun that is not whole. Reads each word once: a model
        may say a thousand words of the list in a row."""
        pem = self._held.find(_PEM, max(0, self._read - len(_PEM)))
        until = len(self._held) if pem < 0 else pem
        end = 0
        for space in _SPACE.finditer(self._held, self._read, until):
            if not is_listed(self._held[self._read : space.start()]):
                end = space.end()
            self._read = space.end()
        return self._before_known(end)

    def _before_known(self, end: int) -> int:
        """The same, less what may be the beginning of a known secret with spaces in it."""
        while starts := [
            start
            for form in self._spaced
            for start in range(max(0, end - len(form) + 1), end)
            if form.startswith(self._held[start:end])
        ]:
            end = min(starts)
        return end

    def _release(self, end: int) -> None:
        text, self._held = self._held[:end], self._held[end:]
        self._read = max(0, self._read - end)
        if text:
            self._show(redact(text, self._known)[0])
