"""The streaming reader of families that mark a call, or a thought, inside their text.

An answer is reasoning, then text, then calls. What might still become a mark is held back, so that
half of one is never shown; from the first mark of a call on nothing is shown, and the family reads
the whole section when it is there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from node.inference.formats.base import NotACall, Parsed, Shown, State
from node.inference.types import ToolCall

_SPACE: Final = " \t\r\n"
Calls = tuple[ToolCall, ...]


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


class MarkedReader:
    """Implements `Reader`. `read` takes a section of calls, from its first mark on."""

    def __init__(
        self,
        marks: Marks,
        read: Callable[[str], Calls],
        *,
        thinking: bool = False,
        stop: tuple[str, ...] = (),
    ) -> None:
        self._marks = marks
        self._read = read
        self._stops = tuple(filter(None, stop))
        self._in_text = (*marks.calls, *(marks.thought or ()), *marks.ends, *self._stops)
        self._firsts = frozenset(mark[0] for mark in self._in_text if mark)
        self._state: State = "reasoning" if thinking and marks.thought else "start"
        self._held = ""
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._pushed = 0
        self._tried = 0
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
        if before == "text" and not self._held and self._firsts.isdisjoint(text):
            return Shown(self._keep(self._text, text))  # nearly every token: it begins no mark
        self._held += text
        shown = self._advance()
        self.reasoning_tokens += "reasoning" in (before, self._state)
        return shown

    def close(self, *, cut: bool = False) -> tuple[Shown, Parsed]:
        shown = Shown()
        if self._state == "reasoning":
            shown = Shown(reasoning=self._keep(self._reasoning, self._held))
        elif self._state != "call" and not self.done:
            shown = Shown(text=self._keep(self._text, self._held))
        return shown, self._parsed(cut)

    def _parsed(self, cut: bool) -> Parsed:
        text, reasoning = "".join(self._text).strip(), "".join(self._reasoning).strip()
        if self._state != "call":
            return Parsed(text=text, reasoning=reasoning)
        if cut and not self.done:
            problem = f"the tool call was cut off after {self._pushed} tokens"
            return Parsed(malformed=problem, reasoning=reasoning)
        try:
            return Parsed(text=text, tool_calls=self._read(self._held), reasoning=reasoning)
        except NotACall as error:
            return Parsed(malformed=str(error), reasoning=reasoning)

    def _advance(self) -> Shown:
        """Takes marks out of what is held, one after another, until none is whole."""
        text: list[str] = []
        reasoning: list[str] = []
        state = None
        while not self.done and state != (self._state, self._held):
            state = (self._state, self._held)
            if self._state == "reasoning":
                reasoning.append(self._think())
            elif self._state == "start":
                self._start()
            elif self._state == "text":
                text.append(self._write())
            else:
                self._call()
        return Shown("".join(text), "".join(reasoning))

    def _start(self) -> None:
        """It is a call, or text, or not known yet; white space after reasoning is dropped."""
        ahead = self._held.lstrip(_SPACE)
        if self._reasoning:
            self._held = ahead
        if any(ahead.startswith(mark) for mark in self._marks.first):
            self._state, self._held = "call", ahead
        elif ahead or not (self._reasoning or self._marks.first):
            self._state = "text"

    def _think(self) -> str:
        _, closing = self._marks.thought or ("", "")
        at, mark = first_mark(self._held, (closing,))
        shown = self._keep(self._reasoning, self._take(at, mark))
        if mark:
            self._state = "start"
        return shown

    def _write(self) -> str:
        at, mark = first_mark(self._held, self._in_text)
        if mark in self._marks.calls:
            shown = self._keep(self._text, self._take(at, ""))
            self._state = "call"
            return shown
        shown = self._keep(self._text, self._take(at, mark))
        if mark in self._stops or mark in self._marks.ends:
            self.done, self._held = bool(mark), "" if mark else self._held
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

    def _take(self, at: int, mark: str) -> str:
        taken, self._held = self._held[:at], self._held[at + len(mark) :]
        return taken

    @staticmethod
    def _keep(where: list[str], text: str) -> str:
        if text:
            where.append(text)
        return text


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
