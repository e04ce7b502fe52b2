"""Group commit for asyncio: what was appended in one turn of the loop is committed at once.

A caller encodes its drafts, queues them and waits; at the end of the loop's turn all that is queued
goes into one commit. While the disk is quick the loop's own thread makes it: handing over to
another thread and back costs as much as such a disk's sync. Once a sync took longer, and for
whatever may take long by itself (content, large entries, the end of a segment), a thread of its own
does: a slow disk then delays those who wait for it, and the loop gathers the next group meanwhile.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from threading import Lock, Thread

from node.errors import JournalError, JournalWriteError
from node.journal.entry import Prepared
from node.journal.writer import Call

MAX_GROUP_ENTRIES = 256
"""So that a group never has more bytes than a commit may: 256 entries of 65,535 bytes."""
LIGHT_BYTES = 1 << 16
"""Entries of more bytes are not written on a loop's thread."""


class Queued(asyncio.Future[int]):
    """The index a queued call's first entry gets. What is queued is committed, whoever is cancelled
    meanwhile: a task that waits for it is woken by it, and learns of its cancellation then."""

    def cancel(self, msg: object = None) -> bool:
        return False


Waiting = tuple[Call, Queued]


async def committed(queued: Queued) -> int:
    """Sees a commit to its end. A cancellation that comes meanwhile strikes at the next wait."""
    try:
        return await queued
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None:
            task.uncancel()
            task.cancel()
        return queued.result()


class Group:
    """The queue, and the thread for what must not hold a loop up.

    Args:
        commit: commits calls in order and returns the first index; raises JournalError.
        turn: held by whoever commits.
        room: how many entries still fit in one commit without turning to a new segment.
        quick: whether the disk is, as far as is known.
    """

    def __init__(
        self,
        commit: Callable[[list[Call]], int],
        *,
        turn: Lock,
        room: Callable[[], int],
        quick: Callable[[], bool],
    ) -> None:
        self._commit, self._turn, self._room, self._quick = commit, turn, room, quick
        self._queue: deque[Waiting] = deque()
        self._loops: set[asyncio.AbstractEventLoop] = set()
        self._bell: SimpleQueue[bool] = SimpleQueue()
        self._ended = False
        self._thread = Thread(target=self._run, name="journal-commit", daemon=True)
        self._thread.start()

    def submit(self, call: Call, loop: asyncio.AbstractEventLoop) -> Queued:
        """Queues a call of drafts."""
        future = Queued(loop=loop)
        self._queue.append((call, future))
        if loop not in self._loops:
            self._loops.add(loop)
            loop.call_soon(self._flush, loop)
        return future

    def close(self) -> None:
        """Commits what is queued and ends the thread."""
        self._bell.put(False)
        self._thread.join()
        self._ended = True
        self._refuse_late(None)  # what was queued while the thread ended

    def _flush(self, loop: asyncio.AbstractEventLoop) -> None:
        """Commits what is queued, here if that is soon done."""
        self._loops.discard(loop)
        try:
            if self._quick() and self._turn.acquire(blocking=False):
                try:
                    self._settle(self._gather(light=True), loop)
                finally:
                    self._turn.release()
        finally:
            if self._queue and not self._ended:
                self._bell.put(True)
        if self._ended:
            self._refuse_late(loop)

    def _refuse_late(self, here: asyncio.AbstractEventLoop | None) -> None:
        with self._turn:
            late = list(self._queue)
            self._queue.clear()
        self._tell(late, JournalError("the log is closed"), here)

    def _run(self) -> None:
        goes_on = True
        while goes_on:
            goes_on = self._bell.get()
            while self._queue:
                with self._turn:
                    self._settle(self._gather(light=False), None)

    def _gather(self, *, light: bool) -> list[Waiting]:
        """Takes a group that fits one commit off the queue."""
        group: list[Waiting] = []
        count, size, most = 0, 0, min(MAX_GROUP_ENTRIES, self._room())
        while self._queue:
            call = self._queue[0][0]
            count += len(call)
            if light:
                size += sum(map(weight, call))
            if (count > most or size > LIGHT_BYTES) and (group or light):
                break
            group.append(self._queue.popleft())
        return group

    def _settle(self, group: list[Waiting], here: asyncio.AbstractEventLoop | None) -> None:
        """Commits a group and tells those who wait, each in its own loop; one is `here`."""
        if not group:
            return
        try:
            outcome: int | JournalError = self._commit([call for call, _ in group])
        except JournalError as error:
            outcome = error
        except BaseException:  # Ctrl-C, on a loop's thread: who waits must not wait for ever
            self._tell(group, JournalWriteError("the node was interrupted in a commit"), here)
            raise
        self._tell(group, outcome, here)

    def _tell(
        self,
        group: list[Waiting],
        outcome: int | JournalError,
        here: asyncio.AbstractEventLoop | None,
    ) -> None:
        for loop in {future.get_loop() for _, future in group}:
            if loop is here:
                _wake(loop, group, outcome)
                continue
            try:
                loop.call_soon_threadsafe(_wake, loop, group, outcome)
            except RuntimeError:  # the loop was closed; nobody waits any more
                continue


def weight(made: Prepared) -> int:
    """About how many bytes an entry has; over any limit where content comes with it."""
    return LIGHT_BYTES + 1 if made.blobs else len(made.before) + len(made.after)


def _wake(
    loop: asyncio.AbstractEventLoop, group: list[Waiting], outcome: int | JournalError
) -> None:
    index = outcome if isinstance(outcome, int) else 0
    for call, future in group:
        if future.get_loop() is loop:
            if isinstance(outcome, int):
                future.set_result(index)
            else:
                future.set_exception(outcome)
        index += len(call)
