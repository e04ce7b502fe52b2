"""One thread writes, and what waits for it is committed together.

Each write is a function of the tables that runs in a transaction on the store's own thread, so
that the event loop never waits for a disk. Writes that arrive while one commit is being synced go
into the next as a group: each has a savepoint, so that one that fails takes none with it, and all
share one fsync. Reads use a second connection and see what is committed.

`probe` is told of every point at which the process could die; tests raise from it.
"""

from __future__ import annotations

import asyncio
import os
import queue
import sqlite3
import threading
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from wallet.errors import StoreDamagedError, StoreError
from wallet.store import schema

T = TypeVar("T")
Probe = Callable[[str], None]
MOST_TOGETHER = 64
_FULL = "Free some space on the disk; nothing was lost."
_HINTS = {
    "is full": _FULL,  # as SQLite says it
    "No space left": _FULL,
    "is locked": "Another program has it open: close that, and try again.",
    "not a database": StoreDamagedError.HINT,
    "malformed": StoreDamagedError.HINT,
}


class _Queued(asyncio.Future[T]):
    """What is queued is written. Who is cancelled meanwhile learns of it then, and lets go of
    nothing before: whoever comes next would read that nothing was begun."""

    def cancel(self, msg: object = None) -> bool:
        return False


@dataclass
class _Job(Generic[T]):
    name: str
    work: Callable[[sqlite3.Connection], T]
    loop: asyncio.AbstractEventLoop
    future: _Queued[T]
    result: T | None = None
    error: BaseException | None = None

    def tell(self) -> None:
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.result)  # type: ignore[arg-type]


class Database:
    """A SQLite file with one writing thread.

    Args:
        path: the file; made with mode 0600.
        probe: called with `begin NAME`, `commit NAME` and `done NAME` around each write.

    Raises:
        StoreError: it cannot be opened, is no wallet, or is damaged.
    """

    def __init__(self, path: Path, *, probe: Probe | None = None) -> None:
        self._probe = probe or _ignore
        self._queue: queue.SimpleQueue[_Job[Any] | None] = queue.SimpleQueue()
        self._reading = threading.Lock()
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            path.chmod(0o600)
            with ExitStack() as opened:
                self._writer = opened.enter_context(closing(_connect(path)))
                schema.prepare(self._writer)
                self._reader = opened.enter_context(closing(_connect(path)))
                self._reader.execute("PRAGMA query_only = ON")
                opened.pop_all()
        except (sqlite3.Error, OSError) as error:
            raise _store_error(error) from error
        self._ended = False
        self._thread = threading.Thread(target=self._serve, name="wallet-store", daemon=True)
        self._thread.start()

    async def write(self, name: str, work: Callable[[sqlite3.Connection], T]) -> T:
        """Runs `work` in a transaction; it is on the disk when this returns, or is cancelled.

        Raises:
            StoreError: SQLite failed (a full disk, ...); nothing was changed.
        """
        if self._ended:
            raise StoreError("the wallet is closed")
        self._probe(f"begin {name}")
        loop = asyncio.get_running_loop()
        job: _Job[T] = _Job(name, work, loop, _Queued(loop=loop))
        self._queue.put(job)
        result = await job.future
        self._probe(f"done {name}")
        return result

    def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Runs `work` on what is committed.

        Raises:
            StoreError: SQLite failed.
        """
        with self._reading:
            try:
                return work(self._reader)
            except sqlite3.Error as error:
                raise _store_error(error) from error

    def end(self) -> None:
        """Takes no more writes; call it where `write` is called."""
        if not self._ended:
            self._ended = True
            self._queue.put(None)

    def join(self) -> None:
        """Finishes, after `end`, what waits, then closes. Blocks; again is no error."""
        self._thread.join()
        with self._reading:
            self._reader.close()

    def _serve(self) -> None:
        while (jobs := self._next()) is not None:
            self._commit(jobs)
            loops = {job.loop for job in jobs}
            for loop in loops:
                _tell(loop, [job for job in jobs if job.loop is loop])
        self._writer.close()

    def _next(self) -> list[_Job[Any]] | None:
        job = self._queue.get()
        if job is None:
            return None
        jobs = [job]
        while len(jobs) < MOST_TOGETHER and not self._queue.empty():
            more = self._queue.get()
            if more is None:
                self._queue.put(None)
                break
            jobs.append(more)
        return jobs

    def _commit(self, jobs: list[_Job[Any]]) -> None:
        connection = self._writer
        try:
            connection.execute("BEGIN IMMEDIATE")
            for job in jobs:
                self._run(job, alone=len(jobs) == 1)
            if all(job.error is not None for job in jobs):
                connection.execute("ROLLBACK")
            else:
                connection.execute("COMMIT")
        except BaseException as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            for job in jobs:
                job.error = job.error or _told(error)

    def _run(self, job: _Job[Any], *, alone: bool) -> None:
        connection = self._writer
        if not alone:
            connection.execute("SAVEPOINT job")
        try:
            job.result = job.work(connection)
            self._probe(f"commit {job.name}")
        except BaseException as error:
            job.error = _told(error)
            if not connection.in_transaction:  # SQLite rolled all of it back (a full disk)
                raise
            if not alone:
                connection.execute("ROLLBACK TO job")
        if not alone:
            connection.execute("RELEASE job")


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5)


def _tell(loop: asyncio.AbstractEventLoop, jobs: list[_Job[Any]]) -> None:
    def tell() -> None:
        for job in jobs:
            job.tell()

    try:
        loop.call_soon_threadsafe(tell)
    except RuntimeError:  # the loop is closed; nobody waits any more
        return


def _told(error: BaseException) -> BaseException:
    return _store_error(error) if isinstance(error, sqlite3.Error) else error


def _store_error(error: Exception) -> StoreError:
    hints = (hint for words, hint in _HINTS.items() if words in str(error))
    return StoreError(
        f"the wallet's file cannot be used: {error}",
        hint=next(
            hints, "Check the file, its folder and their owner; a backup can be restored beside it."
        ),
    )


def _ignore(_point: str) -> None:
    return
