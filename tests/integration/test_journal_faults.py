"""A disk that fails and a process that dies, at every boundary of a commit."""

from __future__ import annotations

import asyncio
import errno
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from node.errors import JournalBusyError, JournalError, JournalWriteError
from node.journal import (
    Boundary,
    Draft,
    Fault,
    FaultyStorage,
    FileStorage,
    Journal,
    MemoryKeys,
    OfflineLog,
    Verdict,
    check_proof,
    storage_from,
    verify,
)
from node.journal.head import head_beside
from node.journal.note import Signer
from node.journal.segment import ROOM_BYTES
from node.journal.storage import AppendFile

DISK_KIB = 256
ORIGIN = "test.example/log"


def opened(folder: Path, **options: object) -> Journal:
    return Journal.open_sync(folder, origin=ORIGIN, **options)  # type: ignore[arg-type]


# ── the process is killed ───────────────────────────────────────────────────────────────────

CHILD = """
import os, sys
from pathlib import Path
from node.journal import Draft, Journal, storage_from
journal = Journal.open_sync(Path(sys.argv[1]), origin="test.example/log",
                            storage=storage_from(os.environ), segment_entries=5)
for number in range(6):
    blob = journal.put_blob(b"content %d" % number, "value")
    indices = journal.append_sync(Draft("a.b", data={"n": number}, blobs=(blob,)), Draft("a.c"))
    print(*indices, flush=True)
"""


def killed(folder: Path, plan: str) -> list[int]:
    """Runs the child until the fault kills it; the indices it was told are durable."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(folder)],
        env={**os.environ, "FREEHOLD_JOURNAL_FAULT": plan},
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == -9, done.stderr.decode()
    return [int(index) for index in done.stdout.split()]


# 1 is the first commit, of no entries; 3 and 4 meet the seal of the first segment
@pytest.mark.parametrize("nth", [1, 3, 4, 5])
@pytest.mark.parametrize("boundary", list(Boundary))
def test_a_kill_at_any_boundary_loses_no_acknowledged_entry(
    tmp_path: Path, boundary: Boundary, nth: int
) -> None:
    folder = tmp_path / "journal"
    told = killed(folder, f"kill:{boundary}:{nth}")
    journal = opened(folder)
    assert journal.size >= len(told)
    assert journal.size % 2 == 0, "the drafts of one append are kept or lost together"
    for index in told:
        entry = journal.entry(index)
        for ref in entry.draft.blobs:
            assert journal.blob(ref) == b"content %d" % (index // 2)
    assert journal.append_sync(Draft("a.d")) == (journal.size - 1,)
    journal.close()
    report = verify(folder, thorough=True)
    assert report.verdict is Verdict.VERIFIED, report.problems


BUSY = """
import asyncio, os, sys
from pathlib import Path
from node.journal import Draft, Journal

async def appender(journal, name):
    number = 0
    while True:
        blob = journal.put_blob(b"%s %d" % (name.encode(), number), "value")
        drafts = Draft("a.b", run=name, data={"n": number}, blobs=(blob,)), Draft("a.c", run=name)
        told = await journal.append(*drafts)
        os.write(1, b"%s %d %d\\n" % (name.encode(), number, told[0]))
        number += 1

async def main():
    journal = await Journal.open(Path(sys.argv[1]), origin="test.example/log", segment_entries=40)
    await asyncio.gather(*(appender(journal, f"{os.getpid()}-{k}") for k in range(8)))

asyncio.run(main())
"""


def test_kills_at_random_times_lose_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    folder, rng, told = tmp_path / "journal", random.Random(7), []
    for _ in range(int(os.environ.get("FREEHOLD_KILLS", "3"))):
        command = [sys.executable, "-c", BUSY, str(folder)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            wanted = range(rng.randrange(1, 200))
            told += [line for _, line in zip(wanted, child.stdout, strict=False)]
            child.kill()
            told += [line for line in child.stdout.read().splitlines() if line.count(" ") == 2]
    journal = opened(folder)
    assert len(told) > 3
    for name, number, index in (line.split() for line in told):
        entry = journal.entry(int(index))
        assert (entry.draft.run, entry.data) == (name, {"n": int(number)})
        assert journal.blob(entry.draft.blobs[0]) == f"{name} {number}".encode()
        assert journal.entry(int(index) + 1).draft.run == name
    journal.close()
    report = verify(folder, thorough=True)
    assert report.internal is Verdict.VERIFIED, report.problems


def test_content_that_never_became_durable_says_so(tmp_path: Path) -> None:
    journal = opened(tmp_path / "journal")
    ref = journal.put_blob(b"content", "value")
    journal.append_sync(Draft("a.b", blobs=(ref,)))
    journal.close()
    (tmp_path / "journal" / "blobs" / "000000000000.pack").unlink()
    journal = opened(tmp_path / "journal")
    with pytest.raises(JournalError, match="missing its content"):
        journal.blob(ref)
    journal.close()
    report = verify(tmp_path / "journal")
    assert (report.internal, report.verdict) == (Verdict.VERIFIED, Verdict.FAILED)


# ── the disk fails ──────────────────────────────────────────────────────────────────────────


def test_what_a_killed_writer_leaves_is_whole(tmp_path: Path) -> None:
    """Its room ahead is no write that was cut short; in a log that was closed there is none."""
    folder, left = tmp_path / "journal", tmp_path / "left"
    journal = opened(folder)
    journal.append_sync(Draft("a.b"))
    shutil.copytree(folder, left)
    journal.close()
    written = (folder / "000000000000.jsonl").read_bytes()
    assert not written.endswith(b"\0")
    killed = (left / "000000000000.jsonl").read_bytes()
    assert killed == written + bytes(len(killed) - len(written))
    assert 0 < len(killed) - len(written) <= ROOM_BYTES
    report = verify(left)
    assert (report.verdict, report.problems) == (Verdict.VERIFIED, [])
    assert OfflineLog.open(left).reader.size == 1
    journal = opened(left)
    assert journal.append_sync(Draft("a.c")) == (1,)
    journal.close()
    assert (left / "000000000000.jsonl").read_bytes().startswith(written)
    assert verify(left).verdict is Verdict.VERIFIED


def test_a_sealed_segment_has_no_room(tmp_path: Path) -> None:
    journal = opened(tmp_path / "journal", segment_entries=1)
    journal.append_sync(Draft("a.b"))
    journal.append_sync(Draft("a.b"))
    assert not (tmp_path / "journal" / "000000000000.jsonl").read_bytes().endswith(b"\0")
    journal.close()


def test_a_writer_that_died_before_it_cut_a_sealed_segment(tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    journal = opened(folder, segment_entries=1)
    journal.append_sync(Draft("a.b"))
    journal.append_sync(Draft("a.b"))
    journal.close()
    (folder / "000000000001.jsonl").unlink()
    sealed = folder / "000000000000.jsonl"
    seal = sealed.read_bytes()
    sealed.write_bytes(seal + bytes(ROOM_BYTES))
    head_beside(folder).unlink()
    assert verify(folder).verdict is Verdict.VERIFIED
    journal = opened(folder)
    assert journal.append_sync(Draft("a.c")) == (1,)
    journal.close()
    assert sealed.read_bytes() == seal
    assert verify(folder).verdict is Verdict.VERIFIED


def test_a_nearly_full_disk_needs_no_room_ahead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.pwrite

    def nearly_full(fd: int, data: bytes, at: int) -> int:
        if len(data) == ROOM_BYTES:
            write(fd, data[:4096], at)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(fd, data, at)

    monkeypatch.setattr(os, "pwrite", nearly_full)
    journal = opened(tmp_path / "journal")
    for number in range(3):
        assert journal.append_sync(Draft("a.b")) == (number,)
        raw = (tmp_path / "journal" / "000000000000.jsonl").read_bytes()
        assert raw.endswith(b"\n")
    journal.close()
    assert verify(tmp_path / "journal").verdict is Verdict.VERIFIED


def test_a_disk_that_fails_as_the_log_is_closed_keeps_its_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = opened(tmp_path / "journal")
    journal.append_sync(Draft("a.b"))
    before = set(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else set()

    def read_only(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with monkeypatch.context() as patch:
        patch.setattr(os, "ftruncate", read_only)
        journal.close()
    assert not before or set(os.listdir("/proc/self/fd")) < before
    assert (tmp_path / "journal" / "000000000000.jsonl").read_bytes().endswith(b"\0")
    journal = opened(tmp_path / "journal")
    assert journal.size == 1
    journal.close()


def test_what_there_is_of_a_write_that_failed_stays(tmp_path: Path) -> None:
    journal = opened(
        tmp_path / "journal", storage=FaultyStorage(Fault.EIO, Boundary.MID_WRITE, nth=3)
    )
    journal.append_sync(Draft("a.b"))
    segment = tmp_path / "journal" / "000000000000.jsonl"
    whole = segment.read_bytes().rstrip(b"\0")
    with pytest.raises(JournalWriteError):
        journal.append_sync(Draft("a.c"))
    journal.close()
    assert segment.read_bytes().startswith(whole + b'{"v":1,"i":1,')


def test_nothing_is_appended_to_a_closed_log(tmp_path: Path) -> None:
    journal = opened(tmp_path / "journal")
    journal.close()
    with pytest.raises(JournalError, match="closed"):
        journal.append_sync(Draft("a.b"))
    assert (tmp_path / "journal" / "000000000000.jsonl").read_bytes().endswith(b"\n")


@pytest.mark.parametrize("boundary", [Boundary.BEFORE_WRITE, Boundary.MID_WRITE])
def test_a_full_disk_refuses_and_cuts_back(tmp_path: Path, boundary: Boundary) -> None:
    storage = FaultyStorage(Fault.ENOSPC, boundary, nth=3)
    journal = opened(tmp_path / "journal", storage=storage)
    journal.append_sync(Draft("a.b"))
    segment = tmp_path / "journal" / "000000000000.jsonl"
    before = segment.read_bytes().rstrip(b"\0")
    with pytest.raises(JournalWriteError, match="full"):
        journal.append_sync(Draft("a.c"))
    assert segment.read_bytes() == before
    assert journal.size == 1
    assert journal.append_sync(Draft("a.d")) == (1,), "there is room again"
    assert check_proof(journal.prove(0), journal.vkey).type == "a.b", "hashes are cut back, too"
    journal.close()
    assert verify(tmp_path / "journal").verdict is Verdict.VERIFIED


def test_a_full_disk_for_content_refuses_the_entry_too(tmp_path: Path) -> None:
    storage = FaultyStorage(Fault.ENOSPC, Boundary.MID_WRITE, nth=2, only=".pack")
    journal = opened(tmp_path / "journal", storage=storage)
    first, second = (journal.put_blob(b"x" * 100, "value") for _ in range(2))
    journal.append_sync(Draft("a.b", blobs=(first,)))
    with pytest.raises(JournalWriteError):
        journal.append_sync(Draft("a.b", blobs=(second,)))
    journal.append_sync(Draft("a.b", blobs=(second,)))
    assert (journal.size, journal.blob(second)) == (2, b"x" * 100)
    journal.close()
    assert verify(tmp_path / "journal").verdict is Verdict.VERIFIED


@pytest.mark.parametrize(
    "boundary", [Boundary.BEFORE_WRITE, Boundary.MID_WRITE, Boundary.AFTER_WRITE]
)
@pytest.mark.parametrize("only", [".jsonl", ".keys"])
def test_an_io_error_stops_the_log_for_good(tmp_path: Path, boundary: Boundary, only: str) -> None:
    nth = 3 if only == ".jsonl" else 2
    storage = FaultyStorage(Fault.EIO, boundary, nth=nth, only=only)
    journal = opened(tmp_path / "journal", storage=storage)

    def append() -> tuple[int, ...]:
        ref = journal.put_blob(b"content", "value")
        return journal.append_sync(Draft("a.b", blobs=(ref,)))

    append()
    for _ in range(3):
        with pytest.raises(JournalWriteError, match="the log has stopped"):
            append()
    assert storage.reached == nth, "what failed is never tried again"
    journal.close()
    journal = opened(tmp_path / "journal")
    assert journal.size in (1, 2)
    journal.append_sync(Draft("a.c"))
    journal.close()
    assert verify(tmp_path / "journal").internal is Verdict.VERIFIED


def test_a_part_of_a_slot_that_a_crash_left_moves_none_behind_it(tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    storage = FaultyStorage(Fault.EIO, Boundary.MID_WRITE, nth=2, only=".keys")
    refs = []
    for disk in (storage, None):
        journal = opened(folder, storage=disk)
        for number in range(2):
            ref = journal.put_blob(b"content %d" % number, "value")
            try:
                journal.append_sync(Draft("a.b", blobs=(ref,)))
                refs.append(ref)
            except JournalWriteError:
                assert (folder / "blobs" / "000000000000.keys").stat().st_size == 128 + 64
        journal.close()
    journal = opened(folder)
    assert [journal.blob(ref) for ref in refs] == [b"content 0", b"content 0", b"content 1"]
    journal.close()
    assert verify(folder).verdict is Verdict.VERIFIED


class FullFolder(MemoryKeys):
    """Keys of which the `nth` cannot be kept at first."""

    def __init__(self, nth: int) -> None:
        super().__init__()
        self.left = nth

    def make(self, origin: str) -> Signer:
        self.left -= 1
        if not self.left:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().make(origin)


class FirstSegment(FileStorage):
    """A disk on which no second segment can be made."""

    def open_append(self, path: Path, *, room: int = 0) -> AppendFile:
        if path.name == "000000000001.jsonl":
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return super().open_append(path, room=room)


def test_a_log_that_cannot_turn_to_its_next_segment_stops(tmp_path: Path) -> None:
    """What went on in the old one would stand behind its seal."""
    journal = opened(tmp_path / "journal", storage=FirstSegment(), segment_entries=1)
    journal.append_sync(Draft("a.b"))
    for _ in range(2):
        with pytest.raises(JournalWriteError, match=r"next segment .* has stopped"):
            journal.append_sync(Draft("a.c"))
    journal.close()
    journal = opened(tmp_path / "journal")
    assert journal.append_sync(Draft("a.d")) == (1,)
    journal.close()
    assert verify(tmp_path / "journal").verdict is Verdict.VERIFIED


def test_a_log_whose_first_key_cannot_be_kept_is_begun_once_there_is_room(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="cannot be opened"):
        opened(tmp_path / "journal", keys=FullFolder(1))
    opened(tmp_path / "journal").close()


def test_a_log_whose_next_key_cannot_be_kept_goes_on_once_there_is_room(tmp_path: Path) -> None:
    journal = opened(tmp_path / "journal", keys=FullFolder(2), segment_entries=1)
    journal.append_sync(Draft("a.b"))
    with pytest.raises(JournalWriteError, match="next key could not be kept"):
        journal.append_sync(Draft("a.c"))
    assert journal.append_sync(Draft("a.d")) == (1,)
    journal.close()
    assert verify(tmp_path / "journal").epochs == 2


async def test_a_log_that_breaks_tells_who_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = await Journal.open(tmp_path / "journal", origin=ORIGIN)

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(journal._writer.signer, "sign", broken)
    for _ in range(2):
        with pytest.raises(JournalWriteError, match="stopped"):
            await asyncio.wait_for(journal.append(Draft("a.b")), 10)
    await journal.aclose()


async def test_all_who_wait_for_a_failed_commit_are_told(tmp_path: Path) -> None:
    storage = FaultyStorage(Fault.EIO, Boundary.AFTER_WRITE, nth=2)
    journal = await Journal.open(tmp_path / "journal", origin=ORIGIN, storage=storage)
    calls = (journal.append(Draft("a.b", data={"n": n})) for n in range(20))
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(outcome, JournalWriteError) for outcome in outcomes)
    await journal.aclose()


def fill(journal: Journal) -> int:
    """Appends until the disk is full; how many entries that took."""
    for written in range(1000):
        try:
            journal.append_sync(Draft("a.b", data={"text": "x" * 1000}))
        except JournalWriteError:
            return written
    return 1000


def test_a_disk_that_is_really_full(tiny_disk: Path) -> None:
    folder = tiny_disk / "journal"
    journal = opened(folder)
    written = fill(journal)
    assert 20 < written < 1000
    assert journal.size == written
    report = verify(folder)
    assert (report.internal, report.size) == (Verdict.VERIFIED, written)
    with pytest.raises(JournalWriteError):
        journal.append_sync(Draft("a.b", data={"text": "x" * 60_000}))
    journal.close()
    journal = opened(folder)
    assert journal.size == written
    journal.close()


# ── one writer ──────────────────────────────────────────────────────────────────────────────


def test_a_second_writer_is_refused_by_name(tmp_path: Path) -> None:
    journal = opened(tmp_path / "journal")
    with pytest.raises(JournalBusyError, match=str(os.getpid())) as refused:
        opened(tmp_path / "journal")
    assert refused.value.hint
    journal.close()
    opened(tmp_path / "journal").close()


def test_a_second_writer_in_another_process_is_refused(tmp_path: Path) -> None:
    journal = opened(tmp_path / "journal")
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(tmp_path / "journal")],
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    assert b"JournalBusyError" in done.stderr
    journal.append_sync(Draft("a.b"))
    journal.close()
    assert verify(tmp_path / "journal").size == 1


def test_a_malformed_fault_is_refused() -> None:
    with pytest.raises(JournalError, match="FREEHOLD_JOURNAL_FAULT"):
        storage_from({"FREEHOLD_JOURNAL_FAULT": "kill:nowhere:1"})
