"""Group commit: what shares a commit, on which thread it is made, and who waits for whom."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from node.clock import ManualClock
from node.errors import JournalError, JournalWriteError
from node.journal import Boundary, Draft, Fault, FaultyStorage, FileStorage, Journal, verify

ORIGIN = "test.example/log"
WARM = 20  # quick syncs after which a disk counts as quick


@dataclass
class Disk(FileStorage):
    """A disk that says which thread syncs a segment, takes as long as it is told, and can hang."""

    clock: ManualClock = field(default_factory=ManualClock)
    takes_s: float = 0.0
    threads: list[str] = field(default_factory=list)
    hangs: threading.Event | None = None
    hanging: threading.Event = field(default_factory=threading.Event)

    def open_append(self, path: Path, *, room: int = 0) -> Any:
        file = super().open_append(path, room=room)
        return _Segment(file, self) if path.suffix == ".jsonl" else file


@dataclass
class _Segment:
    file: Any
    disk: Disk

    def sync(self) -> None:
        self.disk.threads.append(threading.current_thread().name)
        if self.disk.hangs is not None:
            self.disk.hanging.set()
            assert self.disk.hangs.wait(20), "whoever should have gone on did not"
        self.disk.clock.advance(self.disk.takes_s)
        self.file.sync()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
async def log(disk: Disk, tmp_path: Path) -> AsyncIterator[Journal]:
    made = await Journal.open(tmp_path / "log", origin=ORIGIN, storage=disk, clock=disk.clock)
    yield made
    await made.aclose()
    assert verify(tmp_path / "log", thorough=True).problems == []


async def warm(log: Journal, disk: Disk) -> None:
    for _ in range(WARM):
        await log.append(Draft("a.b"))
    with log._commits:  # which the other thread may hold still, having told of a commit
        disk.threads.clear()


HERE, THERE = "MainThread", "journal-commit"


async def test_a_quick_disk_is_synced_on_the_loops_thread(log: Journal, disk: Disk) -> None:
    await log.append(Draft("a.b"))
    assert disk.threads[-1] == THERE, "a new disk is not known yet"
    await warm(log, disk)
    await log.append(Draft("a.b"))
    assert disk.threads == [HERE]


async def test_a_slow_sync_sends_commits_to_the_other_thread(log: Journal, disk: Disk) -> None:
    await warm(log, disk)
    disk.takes_s = 0.1
    await log.append(Draft("a.b"))
    disk.takes_s = 0.0
    await log.append(Draft("a.b"))
    assert disk.threads == [HERE, THERE]
    await warm(log, disk)
    await warm(log, disk)
    await log.append(Draft("a.b"))
    assert disk.threads == [HERE], "it was quick again for long enough"


async def test_a_slow_disk_does_not_hold_the_loop_up(log: Journal, disk: Disk) -> None:
    disk.hangs = threading.Event()
    waiting = asyncio.create_task(log.append(Draft("a.b")))
    await asyncio.to_thread(disk.hanging.wait)
    assert not waiting.done()
    disk.hangs.set()
    assert await waiting == (0,)


async def test_the_loop_does_not_wait_for_another_threads_commit(log: Journal, disk: Disk) -> None:
    await warm(log, disk)
    disk.hangs = threading.Event()
    blocking = asyncio.create_task(asyncio.to_thread(log.append_sync, Draft("a.b")))
    await asyncio.to_thread(disk.hanging.wait)
    waiting = asyncio.create_task(log.append(Draft("a.c")))
    for _ in range(5):
        await asyncio.sleep(0)
    disk.hangs.set()
    assert (await blocking, await waiting) == ((WARM,), (WARM + 1,))


async def test_what_is_appended_in_one_turn_shares_a_commit(log: Journal, disk: Disk) -> None:
    for _ in range(2):
        disk.threads.clear()
        calls = (log.append(Draft("a.b"), Draft("a.c", data={"n": n})) for n in range(64))
        told = await asyncio.gather(*calls)
        assert len(disk.threads) == 1
        assert [log.entry(second).data["n"] for _, second in told] == list(range(64))
        await warm(log, disk)


async def test_more_than_a_commit_may_hold_takes_several(log: Journal, disk: Disk) -> None:
    await warm(log, disk)
    told = await asyncio.gather(*(log.append(Draft("a.b")) for _ in range(600)))
    assert [index for (index,) in told] == list(range(WARM, WARM + 600))
    assert len(disk.threads) == 3


@pytest.mark.parametrize("kind", ["content", "large"])
async def test_what_takes_long_is_written_by_the_other_thread(
    log: Journal, disk: Disk, kind: str
) -> None:
    await warm(log, disk)
    blobs = (log.put_blob(b"content", "value"),) if kind == "content" else ()
    large = [Draft("a.b", data={"text": "x" * 60_000})] * 2 if kind == "large" else []
    heavy = large or [Draft("a.b", blobs=blobs)]
    calls = log.append(Draft("a.c")), log.append(*heavy), log.append(Draft("a.d"))
    told = await asyncio.gather(*calls)
    assert disk.threads == [HERE, THERE]
    assert [index for indices in told for index in indices] == list(
        range(WARM, WARM + 2 + len(heavy))
    ), "in the order they were appended"
    assert log.entry(told[2][0]).type == "a.d"


@pytest.mark.parametrize("quick", [True, False])
async def test_who_is_cancelled_meanwhile_still_learns_the_index(
    log: Journal, disk: Disk, quick: bool
) -> None:
    if quick:
        await warm(log, disk)
    size, done = log.size, []

    async def caller() -> None:
        done.append(await log.append(Draft("a.b")))
        await asyncio.sleep(0)
        done.append(())

    task = asyncio.create_task(caller())
    await asyncio.sleep(0)
    for _ in range(2):
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert done == [(size,)]


async def test_who_is_cancelled_meanwhile_learns_of_a_failure_first(tmp_path: Path) -> None:
    storage = FaultyStorage(Fault.EIO, Boundary.AFTER_WRITE, nth=2)
    log = await Journal.open(tmp_path / "broken", origin=ORIGIN, storage=storage)
    task = asyncio.create_task(log.append(Draft("a.b")))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(JournalWriteError):
        await task
    await log.aclose()


def test_an_interrupted_commit_stops_the_log_and_leaves_nobody_waiting(
    disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, loop = tmp_path / "interrupted", asyncio.new_event_loop()
    log = Journal.open_sync(folder, origin=ORIGIN, storage=disk, clock=disk.clock)
    loop.run_until_complete(warm(log, disk))

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    task = loop.create_task(log.append(Draft("a.b")))
    with monkeypatch.context() as patch:
        patch.setattr(log._writer, "_after", interrupted)
        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(task)
    with pytest.raises(JournalWriteError, match="interrupted"):
        loop.run_until_complete(task)
    with pytest.raises(JournalWriteError, match="interrupted"):
        log.append_sync(Draft("a.b"))
    loop.close()
    log.close()
    log = Journal.open_sync(folder, origin=ORIGIN)
    assert log.size == WARM + 1, "it was durable, though nobody was told"
    log.close()
    assert verify(folder, thorough=True).problems == []


async def test_who_appends_while_the_log_closes_is_told(log: Journal) -> None:
    call = log._prepare([Draft("a.b")])
    await log.aclose()
    queued = log._group.submit(call, asyncio.get_running_loop())
    with pytest.raises(JournalError, match="closed"):
        await asyncio.wait_for(queued, 10)


async def test_many_loops_and_threads_at_once(log: Journal, disk: Disk) -> None:
    async def appender(name: str) -> list[int]:
        return [(await log.append(Draft("a.b", run=name)))[0] for _ in range(20)]

    async def several(name: str) -> list[int]:
        found = await asyncio.gather(*(appender(f"{name}{n}") for n in range(4)))
        return [index for indices in found for index in indices]

    def elsewhere(name: str) -> list[int]:
        return asyncio.run(several(name))

    def blocking() -> list[int]:
        return [log.append_sync(Draft("a.c"))[0] for _ in range(20)]

    await warm(log, disk)
    found = await asyncio.gather(
        several("here"),
        *(asyncio.to_thread(elsewhere, f"loop{n}") for n in range(3)),
        asyncio.to_thread(blocking),
    )
    told = [index for indices in found for index in indices]
    assert sorted(told) == list(range(WARM, WARM + 4 * 80 + 20))


async def test_what_is_queued_is_committed_before_the_log_closes(tmp_path: Path) -> None:
    log = await Journal.open(tmp_path / "closing", origin=ORIGIN)
    waiting = asyncio.create_task(log.append(Draft("a.b")))
    await asyncio.sleep(0)
    await log.aclose()
    assert await waiting == (0,)


class Told:
    """A lock that tells when somebody has to wait for it."""

    def __init__(self, lock: threading.Lock, waited_for: threading.Event) -> None:
        self.lock, self.waited_for = lock, waited_for

    def __enter__(self) -> None:
        if not self.lock.acquire(blocking=False):
            self.waited_for.set()
            self.lock.acquire()

    def __exit__(self, *_: object) -> None:
        self.lock.release()


def test_a_commit_under_way_is_over_before_its_file_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that had begun as the log was closed: it is acknowledged, and stays."""
    disk = Disk()
    journal = Journal.open_sync(tmp_path / "journal", origin=ORIGIN, storage=disk)
    begun, closing, met = threading.Event(), threading.Event(), threading.Event()
    prepare, close = journal._prepare, journal.index.close

    def prepared(drafts: Any) -> Any:
        made = prepare(drafts)
        begun.set()
        assert closing.wait(20)
        return made

    def close_index() -> None:
        disk.hangs = threading.Event()
        closing.set()
        assert disk.hanging.wait(20)
        close()

    monkeypatch.setattr(journal, "_commits", Told(journal._commits, met))
    monkeypatch.setattr(journal, "_prepare", prepared)
    monkeypatch.setattr(journal.index, "close", close_index)
    with ThreadPoolExecutor(2) as pool:
        appended = pool.submit(journal.append_sync, Draft("a.b"))
        assert begun.wait(20)
        closed = pool.submit(journal.close)
        closed.add_done_callback(lambda _: met.set())
        assert met.wait(20)
        assert disk.hangs is not None
        disk.hangs.set()
        assert appended.result() == (0,)
        closed.result()
    journal = Journal.open_sync(tmp_path / "journal", origin=ORIGIN)
    assert journal.size == 1
    journal.close()
