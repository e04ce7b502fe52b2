"""Group commit for asyncio: one thread that commits whatever has gathered.

A caller encodes its drafts, queues them and waits. The thread takes all that is queued, commits
it at once, and wakes the callers of one loop with a single call. While it waits for the disk it
does not hold the interpreter, so the loop gathers the next group meanwhile; a slow disk delays
those who wait for it and nobody else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from threading import Thread

from node.errors import JournalError
from node.journal.writer import Call

MAX_GROUP_ENTRIES = 256
"""So that a group never has more bytes than a commit may: 256 entries of 65,535 bytes."""


@dataclass(slots=True)
class Waiting:
    """A call in the queue and who waits for it."""

    call: Call
    future: asyncio.Future[int]
    loop: asyncio.AbstractEventLoop


class Group:
    """The queue and its thread.

    Args:
        commit: commits calls in order and returns the first index; raises JournalError.
        room: how many entries still fit in one commit without turning to a new segment.
    """

    def __init__(self, commit: Callable[[list[Call]], int], room: Callable[[], int]) -> None:
        self._commit, self._room = commit, room
        self._queue: SimpleQueue[Waiting | None] = SimpleQueue()
        self._thread = Thread(target=self._run, name="journal-commit", daemon=True)
        self._thread.start()

    def submit(self, call: Call, loop: asyncio.AbstractEventLoop) -> asyncio.Future[int]:
        """Queues a call; the future gives the index of its first entry."""
        future: asyncio.Future[int] = loop.create_future()
        self._queue.put(Waiting(call, future, loop))
        return future

    def close(self) -> None:
        """Commits what is queued and ends the thread."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        held: Waiting | None = None
        while True:
            first = held or self._queue.get()
            if first is None:
                return
            group, held, ended = self._gather(first)
            self._settle(group)
            if ended:
                return

    def _gather(self, first: Waiting) -> tuple[list[Waiting], Waiting | None, bool]:
        """A group that fits one commit, what did not fit any more, and whether to end."""
        group, count = [first], len(first.call)
        most = min(MAX_GROUP_ENTRIES, self._room())
        try:
            while count < most:
                following = self._queue.get_nowait()
                if following is None:
                    return group, None, True
                if count + len(following.call) > most:
                    return group, following, False
                group.append(following)
                count += len(following.call)
        except Empty:
            pass
        return group, None, False

    def _settle(self, group: list[Waiting]) -> None:
        try:
            index = self._commit([waiting.call for waiting in group])
        except JournalError as error:
            outcome: int | JournalError = error
        else:
            outcome = index
        for loop in {waiting.loop for waiting in group}:
            try:
                loop.call_soon_threadsafe(_wake, loop, group, outcome)
            except RuntimeError:  # the loop was closed; nobody waits any more
                continue


def _wake(
    loop: asyncio.AbstractEventLoop, group: list[Waiting], outcome: int | JournalError
) -> None:
    index = outcome if isinstance(outcome, int) else 0
    for waiting in group:
        future = waiting.future
        if waiting.loop is loop and not future.done():
            if isinstance(outcome, int):
                future.set_result(index)
            else:
                future.set_exception(outcome)
        index += len(waiting.call)
