"""Notices that a process which owes an answer has fallen silent.

Native code can wait for itself, or go round and round in what a file told it. Such a process is not
dead: it would hold up whoever asks it, one after another, until somebody ends it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Watch:
    """Calls `silent` once where an answer is owed and nothing was heard for `seconds`."""

    def __init__(self, seconds: float, silent: Callable[[], None]) -> None:
        self._seconds = seconds
        self._silent = silent
        self._time = asyncio.get_running_loop().time
        self._owes = False
        self._since = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def asked(self) -> None:
        """Something was asked, which is to be answered."""
        if not self._owes:
            self._owes, self._since = True, self._time()
            if self._timer is None:
                self._wait(self._seconds)

    def heard(self, *, owes: bool) -> None:
        """Something was said; whether more is owed."""
        self._owes, self._since = owes, self._time()
        if owes and self._timer is None:
            self._wait(self._seconds)

    def close(self) -> None:
        """Stops watching."""
        self._owes = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wait(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._look)

    def _look(self) -> None:
        self._timer = None
        if not self._owes:
            return
        left = self._since + self._seconds - self._time()
        if left > 0:
            self._wait(left)
        else:
            self._owes = False
            self._silent()
