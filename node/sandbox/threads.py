"""A few threads for guests, and a way to them that costs little.

`concurrent.futures` spends as long on its locks as a small guest spends running. Here a job is one
item on a queue and its result one callback on the loop, about half of that.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeVar

from node.errors import SandboxError
from node.sandbox.engine import no_thread

# What a guest may use (`Limits.stack_bytes`) and the host functions it calls, with room to spare:
# the stack that a system gives a thread by itself can be smaller than the guest's limit.
_STACK_BYTES = 8 * 1024 * 1024
_T = TypeVar("_T")
_Job = tuple[Callable[[], Any], "asyncio.Future[Any]", asyncio.AbstractEventLoop]


def closed() -> SandboxError:
    """What a call fails with where the sandbox is closed."""
    return SandboxError("the sandbox is closed", hint="The node is stopping; ask it later.")


class Threads:
    """At most `count` jobs at a time, in the order they came. Threads start as they are needed."""

    def __init__(self, count: int, name: str) -> None:
        self._count, self._name = count, name
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._unfinished = 0
        self._is_closed = False

    def run(self, work: Callable[[], _T]) -> asyncio.Future[_T]:
        """A future of the running loop for what `work` returns or raises.

        Raises:
            SandboxError: the threads have ended, or the system has none for the first of them.
        """
        self.check_open()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[_T] = loop.create_future()
        if self._unfinished >= len(self._threads) < self._count:
            self._start()
        self._unfinished += 1
        self._jobs.put((work, future, loop))
        return future

    def check_open(self) -> None:
        """Raises SandboxError where the threads have ended."""
        if self._is_closed:
            raise closed()

    def _start(self) -> None:
        name = f"{self._name}-{len(self._threads)}"
        thread = threading.Thread(target=self._serve, name=name, daemon=True)
        usual = threading.stack_size(_STACK_BYTES)
        try:
            thread.start()
        except RuntimeError as error:  # a limit of the system's: what others finish, jobs wait for
            if not self._threads:
                raise no_thread() from error
        else:
            self._threads.append(thread)
        finally:
            threading.stack_size(usual)

    def _serve(self) -> None:
        while (job := self._jobs.get()) is not None:
            work, future, loop = job
            try:
                result, error = work(), None
            except BaseException as raised:  # handed to whoever waits
                result, error = None, raised
            del job, work
            try:
                loop.call_soon_threadsafe(self._settle, future, result, error)
            except RuntimeError:  # the loop was closed; nobody waits any more
                self._unfinished -= 1
            del future, result, error

    def _settle(
        self, future: asyncio.Future[Any], result: object, error: BaseException | None
    ) -> None:
        self._unfinished -= 1
        if future.done():
            return
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)

    def close(self) -> None:
        """Takes no more jobs; call it where `run` is called."""
        self._is_closed = True
        for _ in self._threads:
            self._jobs.put(None)

    def join(self) -> None:
        """Waits, after `close`, for the jobs that were handed over and the threads' end."""
        for thread in self._threads:
            thread.join()
        self._threads.clear()
