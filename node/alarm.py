"""A bound on the time of code that asks nobody: a regular expression, a schema, a template.

Such code may be a stranger's, and runs where nothing else does meanwhile. Python looks at signals
between its own steps and within the matching of a regular expression, so an alarm ends either.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raises TimeoutError in the block after `seconds`.

    Uses SIGALRM, which only the main thread can: on another one nothing is bounded. Not nestable.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    armed = True

    def expire(_signal: int, _frame: object) -> None:
        if armed:
            raise TimeoutError(f"it took over {seconds:g} s")

    before = signal.signal(signal.SIGALRM, expire)
    # again and again: what is raised while an object is finalised gets no further
    signal.setitimer(signal.ITIMER_REAL, seconds, seconds)
    try:
        try:
            yield
        finally:
            armed = False  # should it ring just before this, the rest is done all the same
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
