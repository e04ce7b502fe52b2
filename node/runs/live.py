"""A reply's words as watchers see them, so that what is shown never contradicts the outcome.

Words are shown while the model makes them, unless guards of the answer have yet to judge them:
then they are held, and shown once they are the answer. Words that turn out not to be it (a reply
that cannot be used, that a guard refused, or that began again in a new process) are taken back by
a `token.reset`, which names the step and says why.
"""

from __future__ import annotations

from collections.abc import Callable

from node.runs.program import RunEvent

TOKEN, RESET = "token", "token.reset"


class Live:
    """The words of one run's replies, one reply after the other.

    Args:
        emit: shows an event to whoever watches.
        held: whether the words of the reply under way wait for a verdict.
    """

    def __init__(self, emit: Callable[[RunEvent], None], held: Callable[[], bool]) -> None:
        self._emit = emit
        self._held = held
        self._path = ""
        self._shown = ""

    def show(self, event: RunEvent) -> None:
        """The next event of a generation: words, or that it begins again."""
        path = str(event.data.get("path"))
        if path != self._path:
            self._path, self._shown = path, ""
        if event.type == RESET:
            self.take_back(str(event.data.get("reason", "")))
        elif not self._held():
            self._shown += str(event.data.get("text", ""))
            self._emit(event)

    def take_back(self, reason: str) -> None:
        """The words are not the answer. Nothing where none were shown."""
        if self._shown:
            self._emit(RunEvent(RESET, {"path": self._path, "reason": reason}))
        self._shown = ""

    def settle(self, answer: str, *, changed: bool = False) -> None:
        """The answer stands: shows what of it was held, or takes the place of what was shown, since
        guards `changed` it, or it turned out to have been thoughts at first."""
        if not self._path or self._shown.strip() == answer:
            return
        self.take_back("the guards changed it" if changed else "it was not all of it the answer")
        self._emit(RunEvent(TOKEN, {"path": self._path, "text": answer}))
