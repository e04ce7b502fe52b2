"""How libllama's threads wait for one another: awake on a free machine, asleep on a busy one.

A token of a small model is some three hundred barriers, a few dozen microseconds apart. Threads
that sleep at each of them lose more than half of the speed (a model of 0.5B weights: 23 ms a token
instead of 10). Threads that stay awake lose as much on a machine where others want its processors:
they spin for one that is not running. libgomp spins GOMP_SPINCOUNT times before it sleeps, and not
at all while it has more threads than there are processors. So the machine is watched, and as long
as it is busy libgomp is given threads that do nothing. Where there is no libgomp, or the kernel
does not say how long a thread had to wait for a processor, nothing is done or threads sleep.

Specs: libgomp's manual, GOMP_SPINCOUNT; Linux's Documentation/scheduler/sched-stats.rst.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable
from typing import Any, Final, Protocol

ENVIRONMENT: Final = {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "3000"}  # 10 to 40 us
WINDOW_S: Final = 0.25
BUSY: Final = 0.1  # of the time a thread wanted a processor it had to wait for one


def waited_s() -> float | None:
    """For how long the calling thread has waited for a processor; None where it is not known."""
    try:
        with open("/proc/thread-self/schedstat", "rb") as file:
            ran, waited, _ = map(int, file.read().split())
    except (OSError, ValueError):
        return None
    return waited / 1e9 if ran else None


class Sleep(Protocol):
    """Whether barriers are slept at."""

    def begin(self) -> None: ...
    def end(self) -> None: ...


class Barriers:
    """Decides, from time to time, how the threads of one process wait. One thread's.

    Args:
        sleep: what it does to make them sleep.
        waited_s: for how long the calling thread has waited for a processor since it began; None
            where that is not known.
    """

    def __init__(self, sleep: Sleep, waited_s: Callable[[], float | None] = waited_s) -> None:
        self.asleep = False
        self._sleep = sleep
        self._waited_s = waited_s
        self._before: float | None = None
        self._decoded_s = 0.0

    def watch(self, decode_s: float) -> None:
        """Says for how long this thread has been decoding since it began; for after each step."""
        if self._before is not None and decode_s - self._decoded_s < WINDOW_S:
            return
        waited = self._waited_s()
        if waited is None:
            self._set(asleep=True)
            waited = 0.0
        elif self._before is not None:
            self._set(asleep=waited - self._before > BUSY * (decode_s - self._decoded_s))
        self._before, self._decoded_s = waited, decode_s

    def _set(self, *, asleep: bool) -> None:
        if asleep != self.asleep:
            self.asleep = asleep
            (self._sleep.begin if asleep else self._sleep.end)()


class CrowdedLibgomp:
    """Makes libgomp's threads sleep at barriers, by more of them than there are processors.

    The additional ones belong to a thread of their own, end with it, and do nothing.

    Args:
        library: a loaded library that uses libgomp, if it does.
    """

    def __init__(self, library: Any) -> None:
        self._parallel: Any = getattr(library, "GOMP_parallel", None)
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self) -> None:
        """Returns when it holds."""
        if self._parallel is None:
            return
        self._over.clear()
        ready = threading.Event()
        self._thread = threading.Thread(target=self._crowd, args=(ready,), daemon=True)
        self._thread.start()
        ready.wait()

    def end(self) -> None:
        """Barriers are spun at again as soon as the threads have ended."""
        if self._thread is not None:
            self._over.set()
            self._thread.join()
            self._thread = None

    def _crowd(self, ready: threading.Event) -> None:
        """A team is made by having it do something: take the length of an empty string."""
        nothing = ctypes.create_string_buffer(1)
        task = ctypes.cast(ctypes.CDLL(None).strlen, ctypes.c_void_p)
        threads = ctypes.c_uint((os.cpu_count() or 1) + 1)
        self._parallel(task, ctypes.byref(nothing), threads, ctypes.c_uint(0))
        ready.set()
        self._over.wait()
