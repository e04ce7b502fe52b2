"""The text of a server's answer, with the thoughts in front of it taken out while it comes.

They stand between `<think>` marks; or only their end is marked, as of a model whose prompt began
them.
"""

from __future__ import annotations

from typing import Final

from node.inference.formats.marked import THINK
from node.inference.formats.reader import first_mark
from node.inference.types import Token

_OPEN, _CLOSE = THINK
_MOST_BLANK: Final = 1000  # in front of a mark


class Answer:
    """The text of an answer, apart from thoughts in front of it, up to its stop strings.

    Attributes:
        bytes: of all that came, thoughts included.
        stopped: whether a stop string has come.
        closing: what may end thoughts that nobody saw begin.
    """

    def __init__(self, stops: tuple[str, ...]) -> None:
        self.bytes = 0
        self.stopped = False
        self.thoughts: list[str] = []
        self.closing: tuple[str, ...] = (_CLOSE,)
        self._stops = tuple(filter(None, stops))
        self._shown: list[str] = []
        self._told = 0  # thoughts that were told as such
        self._held = ""
        self._mark: str | None = _OPEN  # what is looked for; None when no thoughts can begin
        self._trims = False

    @property
    def text(self) -> str:
        """What was shown of the answer."""
        return "".join(self._shown)

    def add(self, text: str) -> Token:
        """Takes in what came; what of it may be shown now."""
        self.bytes += len(text.encode())
        self._held += text
        if self._mark == _OPEN:
            self._look_for_thoughts()
        if self._mark == _CLOSE:
            self._think()
        return self._token("" if self._mark else self._show(final=False))

    def end(self) -> Token:
        """What was held back, once, at the end."""
        if self._mark == _CLOSE:  # it never stopped thinking: there is no answer
            self.thoughts.append(self._held)
            return self._token("")
        self._mark = None
        return self._token(self._show(final=True))

    def _token(self, text: str) -> Token:
        new, self._told = self.thoughts[self._told :], len(self.thoughts)
        return Token(text, reasoning="".join(new))

    def _look_for_thoughts(self) -> None:
        begun = self._held.lstrip()
        if begun.startswith(_OPEN):
            self._held, self._mark = begun[len(_OPEN) :], _CLOSE
        elif not _OPEN.startswith(begun) or len(self._held) > _MOST_BLANK:
            self._mark = None

    def _think(self) -> None:
        """Takes what is held, up to where the thoughts end or may be about to."""
        thought, found, rest = self._held.partition(_CLOSE)
        if found:
            self._end_thoughts(rest)
        else:
            kept = len(_CLOSE) - 1
            thought, self._held = self._held[:-kept], self._held[-kept:]
        self.thoughts.append(thought)

    def _end_thoughts(self, rest: str) -> None:
        self._held, self._mark, self._trims = rest, None, True
        self.closing = ()

    def _show(self, *, final: bool) -> str:
        if self._trims:
            self._held = self._held.lstrip()
            self._trims = not self._held
        at, mark = first_mark(self._held, (*self._stops, *self.closing))
        if mark in self.closing:
            self.thoughts += [*self._shown, self._held[:at]]
            self._shown = []
            self._end_thoughts(self._held[at + len(mark) :])
            return self._show(final=final)
        self.stopped = bool(mark)
        ready = at if mark or not final else len(self._held)
        shown, self._held = self._held[:ready], self._held[ready:]
        self._shown.append(shown)
        return shown
