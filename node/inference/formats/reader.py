"""The streaming readers: what they share, and the one of families that mark calls in their text.

What might still become a mark is held back, so that half of one is never shown. With `MarkedReader`
an answer is reasoning, then text, then calls; from the first mark of a call on nothing is shown,
and the family reads the whole section when it is there.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import chain
from typing import ClassVar, Final

from node.inference.formats.base import Calls, NotACall, Parsed, Shown, State

_SPACE: Final = " \t\r\n"


@dataclass(frozen=True)
class Marks:
    """What a reader looks for.

    Attributes:
        thought: the marks before and after reasoning; None where the family has none.
        calls: marks that begin a call wherever they stand.
        first: characters that begin one only where nothing but white space went before.
        ends: marks after which a model that called waits for the result.
    """

    thought: tuple[str, str] | None = None
    calls: tuple[str, ...] = ()
    first: tuple[str, ...] = ()
    ends: tuple[str, ...] = ()


class HoldingReader(ABC):
    """What readers share: text that may still become a mark is held back, the rest goes on.

    Args:
        marks: every mark there may be in a state of `plain`.
        state: where the answer begins.
    """

    plain: ClassVar[frozenset[State]]  # where text without any beginning of a mark is passed on

    def __init__(self, marks: Iterable[str], state: State) -> None:
        self._state = state
        self._firsts = frozenset(mark[0] for mark in marks if mark)
        self._held = ""
        self._reasoning: list[str] = []
        self._pushed = 0
        self.done = False
        self.reasoning_tokens = 0

    @property
    def state(self) -> State:
        return self._state

    def push(self, text: str) -> Shown:
        if self.done:
            return Shown()
        before = self._state
        self._pushed += 1
        if not self._held and before in self.plain and self._firsts.isdisjoint(text):
            self.reasoning_tokens += before == "reasoning"
            return self._keep(text)  # nearly every token
        self._held += text
        shown = self._advance()
        self.reasoning_tokens += "reasoning" in (before, self._state)
        return shown

    def close(self, *, cut: bool = False) -> tuple[Shown, Parsed]:
        shown = Shown() if self.done else self._rest()
        reasoning = "".join(self._reasoning).strip()
        if cut and not self.done and self._state == "call":
            problem = f"the tool call was cut off after {self._pushed} tokens"
            return shown, Parsed(malformed=problem, reasoning=reasoning)
        try:
            calls = self._calls()
        except NotACall as error:
            return shown, Parsed(malformed=str(error), reasoning=reasoning)
        return shown, Parsed(text=self._said(), tool_calls=calls, reasoning=reasoning)

    def _advance(self) -> Shown:
        """Takes marks out of what is held, one after another, until none is whole."""
        text, reasoning, seen = "", "", None
        while not self.done and seen != (self._state, self._held):
            seen = (self._state, self._held)
            shown = self._step()
            text, reasoning = text + shown.text, reasoning + shown.reasoning
        return Shown(text, reasoning)

    def _take(self, count: int, mark: str = "") -> Shown:
        """Keeps so much of what is held, and drops the mark after it."""
        text, self._held = self._held[:count], self._held[count + len(mark) :]
        return self._keep(text)

    @abstractmethod
    def _step(self) -> Shown:
        """Takes what is before the next mark, and the mark; what of it may be shown."""

    @abstractmethod
    def _keep(self, text: str) -> Shown:
        """Puts text where it belongs in this state; what of it may be shown."""

    @abstractmethod
    def _rest(self) -> Shown:
        """Takes what is still held at the end."""

    @abstractmethod
    def _said(self) -> str:
        """All text of the answer."""

    @abstractmethod
    def _calls(self) -> Calls:
        """The calls of the answer.

        Raises:
            NotACall: what was written is none.
        """


class MarkedReader(HoldingReader):
    """Implements `Reader`. `read` takes a section of calls, from its first mark on.

    With `answers` a text is JSON: a mark in it is in a string of its, and so is text; and what
    began as a call may in the end turn out to be such a text.
    """

    plain = frozenset({"reasoning", "text"})

    def __init__(
        self,
        marks: Marks,
        read: Callable[[str], Calls],
        *,
        thinking: bool = False,
        answers: bool = False,
        stop: tuple[str, ...] = (),
    ) -> None:
        self._marks = marks
        self._read = read
        self._answers = answers
        self._stops = tuple(filter(None, stop))
        self._in_text = (*marks.calls, *(marks.thought or ()), *marks.ends, *self._stops)
        self._text: list[str] = []
        self._tried = 0
        super().__init__(self._in_text, "reasoning" if thinking and marks.thought else "start")

    def _said(self) -> str:
        return "".join(self._text).strip()

    def _calls(self) -> Calls:
        return self._read(self._held) if self._state == "call" else ()

    def _rest(self) -> Shown:
        if self._state == "call" and not self._is_answer():
            return Shown()
        self._state = "text" if self._state == "call" else self._state
        return self._take(len(self._held))

    def _is_answer(self) -> bool:
        """Whether what looked like the beginning of a call is an answer in JSON."""
        if not self._answers or not self._held.startswith(self._marks.first or ("\0",)):
            return False
        try:
            self._read(self._held)
        except NotACall:
            return True
        return False

    def _keep(self, text: str) -> Shown:
        if not text:
            return Shown()
        if self._state == "reasoning":
            self._reasoning.append(text)
            return Shown(reasoning=text)
        self._text.append(text)
        return Shown(text)

    def _step(self) -> Shown:
        if self._state == "reasoning":
            return self._think()
        if self._state == "text":
            return self._write()
        if self._state == "start":
            self._start()
        else:
            self._call()
        return Shown()

    def _start(self) -> None:
        """It is a call, or text, or not known yet; white space after reasoning is dropped."""
        ahead = self._held.lstrip(_SPACE)
        if self._reasoning:
            self._held = ahead
        if any(ahead.startswith(mark) for mark in self._marks.first):
            self._state, self._held = "call", ahead
        elif ahead or not (self._reasoning or self._marks.first):
            self._state = "text"

    def _think(self) -> Shown:
        _, closing = self._marks.thought or ("", "")
        at, mark = first_mark(self._held, (closing,))
        shown = self._take(at, mark)
        if mark:
            self._state = "start"
        return shown

    def _write(self) -> Shown:
        at, mark = first_mark(self._held, self._in_text)
        if self._answers and any(map(str.strip, chain(self._text, (self._held[:at],)))):
            at, mark = first_mark(self._held, self._stops)
        if mark in self._marks.calls:
            shown = self._take(at)
            self._state = "call"
            return shown
        shown = self._take(at, mark)
        if mark in self._stops or mark in self._marks.ends:
            self.done, self._held = True, ""
        elif self._marks.thought and mark == self._marks.thought[0]:
            self._state = "reasoning"
        elif mark:  # reasoning that nobody saw begin
            self._reasoning += self._text
            self._text = []
            self._state = "start"
        return shown

    def _call(self) -> None:
        """Looks for the end of the calls: a mark in a string of theirs is none."""
        while not self.done:
            at, mark = first_mark(self._held[self._tried :], self._marks.ends)
            at += self._tried
            self._tried = at
            if not mark:
                return
            try:
                self._read(self._held[:at])
            except NotACall:
                self._tried = at + 1
            else:
                self.done, self._held = True, self._held[:at]


def first_mark(text: str, marks: Iterable[str]) -> tuple[int, str]:
    """Where the first whole mark stands, the longest of several; else how much of `text` holds no
    beginning of one at its end, and ""."""
    found = [(at, -len(mark), mark) for mark in marks if mark and (at := text.find(mark)) >= 0]
    if found:
        at, _, mark = min(found)
        return at, mark
    return len(text) - max((_overlap(text, mark) for mark in marks), default=0), ""


def _overlap(text: str, mark: str) -> int:
    """How many characters at the end of `text` are a beginning of `mark`."""
    for size in range(min(len(mark) - 1, len(text)), 0, -1):
        if text.endswith(mark[:size]):
            return size
    return 0
