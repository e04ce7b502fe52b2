"""What agents, tools, crashes and strangers with the folder must not achieve."""

from __future__ import annotations

import asyncio
import base64
import errno
import hashlib
import json
import os
import shutil
import sqlite3
from array import array
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, nullcontext, suppress
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from node.errors import (
    JournalBusyError,
    JournalDamagedError,
    JournalErasedError,
    JournalError,
    JournalReadError,
    JournalRollbackError,
    JournalWriteError,
)
from node.journal import (
    BlobState,
    Boundary,
    Draft,
    Fault,
    FaultyStorage,
    Journal,
    OfflineLog,
    Verdict,
    relink,
    verify,
)
from node.journal.blobs import BlobReader, Slot
from node.journal.blobstore import BlobStore
from node.journal.hashes import HashFiles
from node.journal.note import commit_line
from node.journal.opening import first_key, read_tree
from node.journal.pruned import Pruned, checked, read_pruned, write_pruned
from node.journal.segment import previous_hash, segment_path, segments
from node.journal.tree import Frontier, ranges
from node.types import JSON_DEPTH, Json, canonical

ORIGIN = "test.example/log"


def opened(folder: Path, **options: Any) -> Journal:
    return Journal.open_sync(folder, origin=ORIGIN, **options)


def nested(depth: int, *, lists: bool = True) -> Json:
    value: Json = 1
    for _ in range(depth):
        value = [value] if lists else {"a": value}
    return value


# ── what a run puts into an entry ───────────────────────────────────────────────────────────


def test_data_that_looks_like_an_erasure_erases_nothing(tmp_path: Path) -> None:
    with closing(opened(tmp_path / "journal")) as log:
        ref = log.put_blob(b"evidence", "prompt")
        log.append_sync(Draft("a.b", blobs=(ref,)))
        log.append_sync(Draft("a.c", data={"x": 1, "type": "blob.erased", "id": ref.id}))
        assert list(log.entries(types=("blob.erased",))) == []
    with closing(opened(tmp_path / "journal")) as log:
        assert log.blob(ref) == b"evidence"


def test_data_that_looks_like_content_is_not_missed(tmp_path: Path) -> None:
    named: Json = [{"id": "ab" * 32, "len": 1, "role": "x"}]
    with closing(opened(tmp_path / "journal")) as log:
        ref = log.put_blob(b"content", 'a "role" \\')
        log.append_sync(Draft("a.b", actor='"blobs":[', data={"blobs": named, "z": 1}))
        log.append_sync(Draft("a.b", run='r"\\', blobs=(ref, ref), data={"blobs": named}))
    report = verify(tmp_path / "journal")
    assert report.verdict is Verdict.VERIFIED, report.blobs.problems
    assert report.blobs.counts[BlobState.PRESENT] == 1


def test_data_that_looks_like_another_run_is_not_shown_as_of_it(tmp_path: Path) -> None:
    with closing(opened(tmp_path / "journal")) as log:
        log.append_sync(
            Draft("a.b", run="r-1"), Draft("a.b", run="r-2", data={"run": "r-1", "a": 1})
        )
    reader = OfflineLog.open(tmp_path / "journal").reader
    assert [entry.index for entry in reader.run_entries("r-1")] == [0]


@pytest.mark.parametrize("lists", [True, False])
def test_what_is_nested_too_deep_to_be_read_back_is_not_written(
    tmp_path: Path, lists: bool
) -> None:
    """The log would be read where less of Python's stack is left than where it was written."""
    with closing(opened(tmp_path / "journal")) as log:
        for depth in (5_000, 985, 970, 950, 500, 200):
            with pytest.raises(JournalError, match=r"JSON|deep"):
                log.append_sync(Draft("a.b", run="r", data={"v": nested(depth, lists=lists)}))
        log.append_sync(Draft("a.b", run="r", data={"v": nested(JSON_DEPTH, lists=lists)}))
        assert len(log.run_entries("r")) == log.size == 1
    for depth, fits in ((JSON_DEPTH, True), (JSON_DEPTH + 1, False), (985, False)):
        with nullcontext() if fits else pytest.raises(ValueError, match=r"deep|recursion"):
            assert canonical(nested(depth, lists=lists))
    flat: Json = {"v": [[] for _ in range(5_000)], "text": "[" * 5_000 + '\\"{'}
    assert canonical(flat) == canonical(flat)


def test_more_than_a_commit_holds_is_refused_at_once(tmp_path: Path) -> None:
    """A log that holds such a commit does not open again."""
    drafts = [Draft("a.b", data={"text": "x" * 60_000})] * 280
    with closing(opened(tmp_path / "journal")) as log:
        with pytest.raises(JournalError, match="280 entries do not fit in one commit"):
            log.append_sync(*drafts)
        log.append_sync(*drafts[:270])
    with closing(opened(tmp_path / "journal")) as log:
        assert log.size == 270


# ── following ───────────────────────────────────────────────────────────────────────────────


async def test_a_follower_of_a_pruned_log_sees_each_entry_once(tmp_path: Path) -> None:
    log = await Journal.open(tmp_path / "journal", origin=ORIGIN, segment_entries=10)
    for _ in range(25):
        await log.append(Draft("a.b"))
    assert await log.prune(25) == 20
    seen, size = [], log.size
    async for entry in log.subscribe(3):
        seen.append(entry.index)
        if len(seen) == size - 20:
            await log.append(Draft("a.last"))
        elif entry.type == "a.last":
            break
    assert seen == list(range(20, size + 1))
    await log.aclose()


async def test_a_follower_ahead_of_the_log_waits_for_its_entry(tmp_path: Path) -> None:
    log = await Journal.open(tmp_path / "journal", origin=ORIGIN)
    await log.append(Draft("a.b"))
    ahead = asyncio.ensure_future(anext(log.subscribe(3)))
    for _ in range(3):
        await log.append(Draft("a.b"))
    assert (await ahead).index == 3
    await log.aclose()


async def test_a_follower_waits_for_a_commit_that_is_being_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The writer is in a new segment already, and the reader has not heard of it."""
    log = await Journal.open(tmp_path / "journal", origin=ORIGIN, segment_entries=2)
    await log.append(Draft("a.b"), Draft("a.b"))
    follow, told, goes_on = log._reader.follow, Event(), Event()

    def late(first: int, offsets: array[int]) -> None:
        told.set()
        assert goes_on.wait(30)
        follow(first, offsets)

    monkeypatch.setattr(log._reader, "follow", late)
    appending = asyncio.ensure_future(asyncio.to_thread(log.append_sync, Draft("a.c")))
    assert await asyncio.to_thread(told.wait, 30)
    assert log.size == 3
    entries = log.subscribe(0)
    assert [(await anext(entries)).index for _ in range(2)] == [0, 1]
    third = asyncio.ensure_future(anext(entries))
    for _ in range(10):
        await asyncio.sleep(0)
    assert not third.done()
    goes_on.set()
    assert (await third).type == "a.c"
    await appending
    await log.aclose()


# ── erasing ─────────────────────────────────────────────────────────────────────────────────


async def test_an_erasure_whose_caller_went_away_is_done(tmp_path: Path) -> None:
    log = await Journal.open(tmp_path / "journal", origin=ORIGIN)
    ref = log.put_blob(b"secret", "prompt")
    await log.append(Draft("a.b", blobs=(ref,)))
    busy = Event()
    with ThreadPoolExecutor(1) as pool:
        asyncio.get_running_loop().set_default_executor(pool)
        erasing = asyncio.ensure_future(log.erase(ref))
        await asyncio.sleep(0)
        pool.submit(busy.wait)  # all that comes after the first look waits in a queue
        assert (await anext(log.subscribe(1))).type == "blob.erased"
        for _ in range(10):
            await asyncio.sleep(0)
        erasing.cancel()
        with suppress(asyncio.CancelledError):
            await erasing
        busy.set()
        await asyncio.gather(*log._erasing, return_exceptions=True)
        with pytest.raises(JournalError, match="erased"):
            log.blob(ref)
        log.close()


def test_what_was_written_twice_is_erased_twice(tmp_path: Path) -> None:
    """A full disk refuses the entry after its content was written; then the entry comes again."""
    disk = FaultyStorage(Fault.ENOSPC, Boundary.BEFORE_WRITE, nth=3)
    with closing(opened(tmp_path / "journal", storage=disk)) as log:
        log.append_sync(Draft("a.b", blobs=(log.put_blob(b"before", "x"),)))
        ref = log.put_blob(b"secret", "x")
        with pytest.raises(JournalWriteError):
            log.append_sync(Draft("a.b", blobs=(ref,)))
        log.append_sync(Draft("a.b"))
        log.append_sync(Draft("a.b", blobs=(ref,)))
        assert log.blob(ref) == b"secret"
        reader = BlobReader(tmp_path / "journal" / "blobs")
        assert [slot.id.hex() for slot in reader.slots(0)].count(ref.id) == 1
        asyncio.run(log.erase(ref))
        after = log.put_blob(b"after", "x")
        log.append_sync(Draft("a.b", blobs=(after,)))
        assert log.blob(after) == b"after"
    # slots that crashes and older versions left
    keys = tmp_path / "journal" / "blobs" / f"{0:012d}.keys"
    with closing(opened(tmp_path / "journal")) as log:
        ref = log.put_blob(b"secret", "x")
        log.append_sync(Draft("a.b", blobs=(ref,)))
        slot = keys.read_bytes()[-128:]
        keys.write_bytes(keys.read_bytes() + slot)
        asyncio.run(log.erase(ref))
    assert slot[32:96] not in keys.read_bytes()
    for announced in (True, False):  # of two slots one was emptied: a crash came
        with closing(opened(tmp_path / "journal")) as log:
            ref = log.put_blob(b"secret", "x")
            log.append_sync(Draft("a.b", blobs=(ref,)))
            slot = keys.read_bytes()[-128:]
            log._blobs.erase(ref.id)
            keys.write_bytes(keys.read_bytes() + slot)
            if announced:
                log.append_sync(Draft("blob.erased", data={"id": ref.id}))
            else:
                asyncio.run(log.erase(ref))
        opened(tmp_path / "journal").close()
        assert slot[32:96] not in keys.read_bytes()


@pytest.mark.parametrize("before", [0, 2])
def test_content_of_a_commit_that_was_cut_off_cannot_be_read_again(
    tmp_path: Path, before: int
) -> None:
    """No entry names it, so that nobody could ever erase it; its run handles it anew."""
    folder, secret = tmp_path / "journal", (b"a secret", b"another")
    disk = FaultyStorage(Fault.EIO, Boundary.BEFORE_WRITE, nth=2 + before)
    with closing(opened(folder, storage=disk)) as log:
        named = [log.put_blob(b"named", "x") for _ in range(before)]
        for ref in named:
            log.append_sync(Draft("a.b", blobs=(ref,)))
        lost = [log.put_blob(content, "x") for content in secret]
        with pytest.raises(JournalWriteError):
            log.append_sync(Draft("a.b", blobs=tuple(lost)))
    reader = BlobReader(folder / "blobs")
    assert [reader.content(ref.id) for ref in lost] == list(secret), "the crash left it"
    with closing(opened(folder)) as log:
        assert [log.blob(ref) for ref in named] == [b"named"] * before
        for ref in lost:
            with pytest.raises(JournalErasedError):
                log.blob(ref)
    assert verify(folder).verdict is Verdict.VERIFIED


def test_keys_of_a_commit_that_was_cut_off_are_all_destroyed_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "journal"
    with closing(opened(folder, storage=FaultyStorage(Fault.EIO, Boundary.MID_WRITE, 2))) as log:
        lost = [log.put_blob(b"a secret", "x") for _ in range(3)]
        with pytest.raises(JournalWriteError):
            log.append_sync(Draft("a.b", blobs=tuple(lost)))
    wipe, left = BlobStore._wipe, [1]

    def fails(store: BlobStore, slot: Slot) -> None:
        if not left:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        left.pop()
        wipe(store, slot)

    with monkeypatch.context() as patch:
        patch.setattr(BlobStore, "_wipe", fails)
        with pytest.raises(JournalError, match="cannot be opened"):
            opened(folder)
    opened(folder).close()
    assert [slot.erased for slot in BlobReader(folder / "blobs").slots(0)] == [True] * 3


@pytest.mark.parametrize("damage", ["flipped", "gone", "a folder"])
def test_content_that_cannot_be_read_is_erased_all_the_same(tmp_path: Path, damage: str) -> None:
    """Its key opens a copy, and most of what is left of it."""
    keys, pack = (tmp_path / "journal" / "blobs" / f"{0:012d}.{kind}" for kind in ("keys", "pack"))
    with closing(opened(tmp_path / "journal")) as log:
        refs = [log.put_blob(b"secret" * 100, "x") for _ in range(2)]
        log.append_sync(Draft("a.b", blobs=tuple(refs)))
        content = pack.read_bytes()
        pack.unlink()
        if damage == "flipped":
            pack.write_bytes(b"%c" % (content[0] ^ 1) + content[1:-1])
        elif damage == "a folder":
            pack.mkdir()
        asyncio.run(log.erase(refs[0]))
        with pytest.raises(JournalErasedError):
            asyncio.run(log.erase(refs[0]))
        log.append_sync(Draft("blob.erased", data={"id": refs[1].id}))  # and then a crash came
        log.append_sync(Draft("blob.erased", data={"id": "none"}))
    with keys.open("r+b") as file:
        file.seek(128 + 32)
        file.write(bytes(32))  # half of it was done
    with closing(opened(tmp_path / "journal")):
        slots = keys.read_bytes()
    assert [slots[at + 32 : at + 96] for at in (0, 128)] == [bytes(64)] * 2
    assert verify(tmp_path / "journal").verdict is Verdict.VERIFIED


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 3_000_000])
def test_content_whose_key_is_another_is_damaged(tmp_path: Path, size: int) -> None:
    """Whoever changes a key can also write the few bytes beside it that say that it is whole."""
    folder = tmp_path / "journal"
    with closing(opened(folder)) as log:
        log.append_sync(Draft("a.b", blobs=(log.put_blob(os.urandom(size), "x"),)))
    assert verify(folder).blobs.counts[BlobState.PRESENT] == 1
    keys = folder / "blobs" / f"{0:012d}.keys"
    slot = bytearray(keys.read_bytes())
    slot[64] ^= 1
    slot[120:128] = hashlib.sha256(slot[32:96]).digest()[:8]
    keys.write_bytes(slot)
    assert verify(folder).blobs.counts[BlobState.DAMAGED] == 1


def test_content_that_cannot_be_read_is_not_said_to_be_damaged(tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    with closing(opened(folder)) as log:
        log.append_sync(Draft("a.b", blobs=(log.put_blob(b"content", "x"),)))
    pack = folder / "blobs" / f"{0:012d}.pack"
    kept = pack.read_bytes()
    pack.unlink()
    pack.symlink_to(pack)  # as root, too, this cannot be opened
    report = verify(folder)
    assert (report.verdict, report.blobs.counts[BlobState.DAMAGED]) == (Verdict.UNKNOWN, 0)
    assert str(pack) in report.problems[0]
    pack.unlink()
    pack.write_bytes(kept)
    assert verify(folder).verdict is Verdict.VERIFIED


def test_content_that_was_erased_and_came_back_is_told(tmp_path: Path) -> None:
    """As by a backup of the blobs' folder; the log says that it was destroyed."""
    folder = tmp_path / "journal"
    keys = folder / "blobs" / f"{0:012d}.keys"
    with closing(opened(folder)) as log:
        ref = log.put_blob(b"secret", "x")
        log.append_sync(Draft("a.b", blobs=(ref,)))
        before = keys.read_bytes()
        asyncio.run(log.erase(ref))
        assert verify(folder).verdict is Verdict.VERIFIED
    keys.write_bytes(before)
    report = verify(folder)
    assert (report.internal, report.verdict) == (Verdict.VERIFIED, Verdict.FAILED)
    assert report.blobs.counts[BlobState.UNERASED] == 1
    assert report.blobs.counts[BlobState.PRESENT] == 0
    assert f"blob {ref.id} of entry 1 is unerased" in report.blobs.problems
    with closing(opened(folder)):
        assert verify(folder).verdict is Verdict.VERIFIED, "it was taken up again"


def test_an_erasure_that_the_disk_refuses_is_told_and_taken_up_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "journal"

    def fails(_fd: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with closing(opened(folder)) as log:
        ref, other = (log.put_blob(b"secret", "x") for _ in range(2))
        log.append_sync(Draft("a.b", blobs=(ref, other)))
        with monkeypatch.context() as patch:
            patch.setattr("node.journal.blobstore.sync", fails)
            with pytest.raises(JournalError, match="cannot be destroyed"):
                asyncio.run(log.erase(ref))
        log.append_sync(Draft("blob.erased", data={"id": other.id}))
        assert verify(folder).verdict is Verdict.VERIFIED, "it may be about to go"
    assert verify(folder).blobs.counts[BlobState.UNERASED] == 1
    with closing(opened(folder)) as log, pytest.raises(JournalErasedError):
        log.blob(other)


# ── pruning ─────────────────────────────────────────────────────────────────────────────────


def fill(folder: Path) -> Journal:
    """A log of segments of ten, the first with content."""
    log = opened(folder, segment_entries=10)
    for number in range(25):
        blobs = (log.put_blob(b"content", "x"),) if number % 10 == 0 else ()
        log.append_sync(Draft("a.b", run=f"run-{number}", blobs=blobs))
    assert log.run_entries("run-0")
    return log


@pytest.mark.parametrize("step", ["pruned", "blobs", "segments"])
def test_an_interrupted_pruning_is_finished(
    tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "journal"
    log = fill(folder)
    left: list[int] = []

    def stop(*_: object) -> None:
        if not left:
            raise KeyboardInterrupt
        left.pop()

    if step == "pruned":
        monkeypatch.setattr("node.journal.prune.finish", stop)
    elif step == "blobs":
        left.append(1)
        real = log._blobs.remove

        def remove(segment: int) -> None:
            stop()
            real(segment)

        monkeypatch.setattr(log._blobs, "remove", remove)
    else:
        real_unlink = Path.unlink
        left.append(1)

        def unlink(path: Path, missing_ok: bool = False) -> None:
            if path.suffix == ".jsonl":
                stop()
            real_unlink(path, missing_ok=missing_ok)

        monkeypatch.setattr(Path, "unlink", unlink)
    with pytest.raises(KeyboardInterrupt):
        asyncio.run(log.prune(20))
    if step != "segments":
        assert log.index.find(run="run-7"), "it is asked meanwhile"
    log.close()
    monkeypatch.undo()
    with closing(opened(folder)) as log:
        assert log.start == 20
        assert log.index.find(types=("a.b",))[0] == 20
    assert b"run-7" not in (folder / "index.db").read_bytes()
    assert segments(folder)[0] == 20
    assert {int(path.stem) for path in (folder / "blobs").iterdir()} == {20}
    assert verify(folder).verdict is Verdict.VERIFIED


def test_the_keys_of_pruned_content_are_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "journal" / "blobs" / f"{0:012d}.keys"
    with closing(fill(tmp_path / "journal")) as log, path.open("rb") as keys:
        asyncio.run(log.prune(10))
        assert keys.read() == bytes(128)


def test_the_secret_of_an_epoch_that_ended_is_overwritten(tmp_path: Path) -> None:
    """Whoever finds it on the disk could write that epoch anew."""
    with closing(opened(tmp_path / "journal", segment_entries=1)) as log:
        log.append_sync(Draft("a.b"))
        (path,) = (tmp_path / "journal" / "keys").iterdir()
        with path.open("rb") as secret:
            log.append_sync(Draft("a.b"))
            assert not path.exists()
            assert secret.read() == bytes(32)


def test_a_pruned_log_without_its_hashes_is_pruned_further(tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    with closing(fill(folder)) as log:
        assert asyncio.run(log.prune(10)) == 10
    shutil.rmtree(folder / "tree")
    with closing(opened(folder, segment_entries=10)) as log:
        assert asyncio.run(log.prune(20)) == 20
    assert verify(folder).verdict is Verdict.VERIFIED
    with closing(opened(folder)) as log:
        assert log.start == 20


def test_a_pruned_entry_leaves_nothing_in_the_index(tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    with closing(fill(folder)) as log:
        asyncio.run(log.prune(20))
        assert log.index.find(run="run-24")
    held = b"".join(path.read_bytes() for path in folder.glob("index.db*"))
    assert b"run-24" in held
    assert b"run-7" not in held


def without_front(folder: Path) -> Pruned:
    """What `pruned` would hold of a log's first segment."""
    genesis, hashes = first_key(folder), HashFiles(folder / "tree")
    assert genesis is not None
    seals = read_tree(folder, genesis, hashes).seals[:1]
    frontier = Frontier(10, [hashes.subtree(*part) for part in ranges(0, 10)])
    return checked(frontier, previous_hash(commit_line(seals[0].note)), seals, genesis)


SAYS = {"a": 0, "type": "log.pruned", "size": 10}


@pytest.mark.parametrize(
    ("said", "verdict"),
    [
        (Draft("a.b"), Verdict.FAILED),
        (Draft("log.pruned", data={"size": 20}), Verdict.FAILED),
        (Draft("a.b", data=SAYS), Verdict.FAILED),
        (Draft("log.pruned", data={"size": 10}), Verdict.VERIFIED),
    ],
)
def test_a_front_that_a_stranger_removed_is_seen(
    tmp_path: Path, said: Draft, verdict: Verdict
) -> None:
    """All that `pruned` holds is public: anyone with the folder can write one."""
    folder = tmp_path / "journal"
    log = fill(folder)
    log.append_sync(said)
    log.close()
    write_pruned(folder, without_front(folder))
    segment_path(folder, 0).unlink()
    seal = read_pruned(folder, log.vkey).seals[0].note
    report = verify(folder, blobs=False, since=[("its seal", seal)])
    assert report.verdict is verdict
    assert "no entry says" in "".join(report.problems) or verdict is Verdict.VERIFIED


@pytest.mark.parametrize(
    "change",
    [
        lambda made: {**made, "size": made["size"] + 2},
        lambda made: {**made, "frontier": [*reversed(made["frontier"])]},
        lambda made: {**made, "frontier": made["frontier"][:1]},
        lambda made: {**made, "chain": "00" * 32},
        lambda made: {**made, "seals": []},
        lambda made: {**made, "seals": made["seals"] * 2},
        lambda made: {**made, "seals": []} | {"size": 0, "frontier": [], "chain": "00" * 32},
        lambda made: {"more": 1, **made},
    ],
)
def test_what_is_kept_of_a_front_fits_its_seal_or_is_refused(
    tmp_path: Path, change: Callable[[dict[str, Any]], dict[str, Any]]
) -> None:
    folder = tmp_path / "journal"
    fill(folder).close()
    write_pruned(folder, without_front(folder))
    genesis, path = first_key(folder), folder / "pruned"
    assert genesis is not None
    assert read_pruned(folder, genesis).size == 10
    path.write_bytes(json.dumps(change(json.loads(path.read_bytes()))).encode() + b"\n")
    with pytest.raises(JournalDamagedError, match=r"the file pruned|the seal at entry 10"):
        read_pruned(folder, genesis)


# ── the index ───────────────────────────────────────────────────────────────────────────────


def damage_page(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("pragma wal_checkpoint(truncate)")
        (page,) = db.execute("select rootpage from sqlite_master where name='entry_run'").fetchone()
        (size,) = db.execute("pragma page_size").fetchone()
    with path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(os.urandom(size))


def lose_rows(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("delete from entry where i between 3 and 5")


@pytest.mark.parametrize("damage", [damage_page, lose_rows])
def test_a_damaged_index_is_made_anew(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    """Recovery reads a run's entries by it: one that is short would repeat what was done."""
    folder = tmp_path / "journal"
    fill(folder).close()
    damage(folder / "index.db")
    with closing(opened(folder)) as log:
        for number in range(25):
            assert [entry.index for entry in log.run_entries(f"run-{number}")] == [number]


def test_an_index_that_is_ahead_of_its_log_is_made_anew(tmp_path: Path) -> None:
    """As where an older copy of the log was put back."""
    folder, old = tmp_path / "journal", tmp_path / "old"
    fill(folder).close()
    shutil.copytree(folder, old)
    with closing(opened(folder)) as log:
        log.append_sync(Draft("a.b", run="run-0"))
        assert [entry.index for entry in log.run_entries("run-0")] == [0, 25]
    shutil.copy(folder / "index.db", old)
    with closing(opened(old)) as log:
        assert [entry.index for entry in log.run_entries("run-0")] == [0]


def test_an_index_of_another_version_is_made_anew(tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    fill(folder).close()
    with closing(sqlite3.connect(folder / "index.db")) as db, db:
        db.execute("update entry set run = 'in another form'")
        db.execute("pragma user_version = 99")
    with closing(opened(folder)) as log:
        assert log.index.find(run="run-7") == [7]


# ── linking ─────────────────────────────────────────────────────────────────────────────────


def test_a_log_that_is_gone_is_linked_by_its_kept_head(tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    fill(folder).close()
    shutil.rmtree(folder)
    folder.mkdir()
    with closing(relink(folder, origin=f"{ORIGIN}-2")) as log:
        data = log.entry(0).data
    assert (data["origin"], data["vkey"]) == (ORIGIN, None)
    assert b"\n25\n" in base64.b64decode(str(data["kept"]))
    with closing(Journal.open_sync(folder, origin=f"{ORIGIN}-2")) as log:
        assert log.size == 1
    assert verify(folder).verdict is Verdict.VERIFIED
    with pytest.raises(JournalError, match="no log"):
        relink(tmp_path / "nothing", origin=ORIGIN)


def test_a_log_that_links_another_and_is_gone_is_linked_itself(tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    fill(folder).close()
    relink(folder, origin=f"{ORIGIN}-2").close()
    shutil.rmtree(folder)
    with closing(relink(folder, origin=f"{ORIGIN}-3")) as log:
        data = log.entry(0).data
    assert (data["origin"], data["vkey"]) == (f"{ORIGIN}-2", None)
    assert b"\n1\n" in base64.b64decode(str(data["kept"]))


def test_a_log_that_is_being_written_is_not_set_aside(tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    with closing(fill(folder)) as log:
        with pytest.raises(JournalBusyError):
            relink(folder, origin=f"{ORIGIN}-2")
        log.append_sync(Draft("a.b"))
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["journal"]
    assert verify(folder).size == 26


@pytest.mark.parametrize("nth", [1, 2, 3])
@pytest.mark.parametrize("daemon", [True, False])
def test_a_linking_that_was_interrupted_forgets_nothing(
    tmp_path: Path, nth: int, daemon: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "journal"
    fill(folder).close()
    root = verify(folder).root
    left = [nth]
    steps = {name: getattr(Path, name) for name in ("rename", "replace")}

    def counted(name: str) -> Callable[[Path, Path], Path]:
        def step(path: Path, target: Path) -> Path:
            if path.suffix in {"", ".new", ".head"} and path.parent == tmp_path:
                left[0] -= 1
                if not left[0]:
                    raise KeyboardInterrupt
            done: Path = steps[name](path, target)
            return done

        return step

    for name in steps:
        monkeypatch.setattr(Path, name, counted(name))
    with pytest.raises(KeyboardInterrupt):
        relink(folder, origin=f"{ORIGIN}-2")
    monkeypatch.undo()
    if nth == 3:  # the new log is there whole
        log = Journal.open_sync(folder, origin=f"{ORIGIN}-2")
    else:
        if nth == 2:
            if daemon:  # it makes the folder, and is refused
                folder.mkdir()
            with pytest.raises(JournalRollbackError):
                opened(folder)
        log = relink(folder, origin=f"{ORIGIN}-2")
    with closing(log):
        data = log.entry(0).data
    assert data["origin"] == ORIGIN
    assert verify(tmp_path / str(data["folder"])).root == root
    with closing(Journal.open_sync(folder, origin=f"{ORIGIN}-2")) as log:
        assert log.size == 1


# ── a disk that refuses ─────────────────────────────────────────────────────────────────────


def test_a_folder_that_cannot_be_used_is_an_error_of_the_tree(tmp_path: Path) -> None:
    (tmp_path / "journal" / "lock").mkdir(parents=True)
    with pytest.raises(JournalError, match="cannot be opened"):
        opened(tmp_path / "journal")
    folder = tmp_path / "other"
    fill(folder).close()
    with segment_path(folder, 20).open("ab") as file:
        file.write(b'{"v":1,"i":25,"ts":')
    (folder / "quarantine").write_text("in the way")
    with pytest.raises(JournalError, match="cannot be opened"):
        opened(folder)
    (folder / "quarantine").unlink()
    opened(folder).close()


def test_what_cannot_be_read_just_now_is_not_told_as_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who believes that a result is lost takes its step again."""
    with closing(opened(tmp_path / "journal")) as log:
        ref = log.put_blob(b"content", "x")
        log.append_sync(Draft("a.b", blobs=(ref,)))
        real, failing = Path.open, [""]

        def no_file_left(path: Path, *more: Any, **named: Any) -> Any:
            if path.suffix == failing[0]:
                raise OSError(errno.EMFILE, "Too many open files")
            return real(path, *more, **named)

        monkeypatch.setattr(Path, "open", no_file_left)
        for failing[0] in (".keys", ".pack", ".jsonl"):
            with pytest.raises(JournalReadError, match="Too many"):
                log.entry(0) if failing[0] == ".jsonl" else log.blob(ref)
        monkeypatch.undo()
        assert (log.entry(0).type, log.blob(ref)) == ("a.b", b"content")
