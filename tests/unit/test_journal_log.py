"""The journal and its double: what is appended, read, followed, erased, pruned and proved."""

from __future__ import annotations

import asyncio
import shutil
from collections import Counter
from collections.abc import AsyncIterator
from itertools import islice
from pathlib import Path

import pytest

from node.clock import ManualClock
from node.errors import (
    JournalDamagedError,
    JournalError,
    JournalRollbackError,
    JournalWriteError,
)
from node.journal import (
    BlobState,
    Checkpoint,
    Draft,
    Entry,
    Journal,
    MemoryLog,
    OfflineLog,
    PolicyVerdict,
    Verdict,
    VerifierKey,
    check_extension,
    check_proof,
    relink,
    verify,
)
from node.journal.blobs import BlobReader, Sealed
from node.journal.blobstore import BlobStore
from node.journal.entry import parse
from node.journal.reader import LogReader
from node.journal.storage import FileStorage

ORIGIN = "test.example/log"
IO = Path("/proc/self/io")


@pytest.fixture(params=["journal", "memory"])
async def log(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Journal | MemoryLog]:
    """The real log, and its double, which must behave the same."""
    clock = ManualClock()
    made: Journal | MemoryLog = MemoryLog(clock=clock)
    if request.param == "journal":
        made = await Journal.open(tmp_path / "journal", origin=ORIGIN, clock=clock)
    yield made
    await made.aclose()


async def journal_at(folder: Path, **options: int) -> Journal:
    return await Journal.open(folder, origin=ORIGIN, **options)  # type: ignore[arg-type]


# ── both ────────────────────────────────────────────────────────────────────────────────────


async def test_what_is_appended_can_be_read(log: Journal | MemoryLog) -> None:
    policy = PolicyVerdict("tools.calc", "allow")
    first = Draft("run.started", run="r1", agent="clerk", actor="uid:1000", data={"n": [1, None]})
    second = Draft("step.intent", run="r1", path="1", cause=(-1,), policy=policy)
    assert await log.append(first, second) == (0, 1)
    assert await log.append(Draft("run.started", run="r2")) == (2,)
    assert await log.append() == ()
    assert log.size == 3
    entry = log.entry(1)
    assert (entry.type, entry.draft.cause, entry.draft.policy) == ("step.intent", (0,), policy)
    assert (entry.ts, entry.mono) == (1_700_000_000_000, 0)
    assert [e.index for e in log.run_entries("r1")] == [0, 1]
    assert log.run_entries("none") == []
    assert [e.draft.run for e in log.entries(1)] == ["r1", "r2"]
    assert [e.index for e in log.entries(types=("run.started",))] == [0, 2]


@pytest.mark.parametrize("cause", [(0,), (-1,), (7,), (-2,)])
async def test_a_cause_must_be_earlier(log: Journal | MemoryLog, cause: tuple[int, ...]) -> None:
    with pytest.raises(JournalError, match="cause"):
        await log.append(Draft("a.b", cause=cause))
    assert log.size == 0


@pytest.mark.parametrize("index", [-1, 0, 5])
async def test_an_entry_that_is_not_there(log: Journal | MemoryLog, index: int) -> None:
    with pytest.raises(JournalError, match="no entry"):
        log.entry(index)


async def test_content_is_kept_and_erased(log: Journal | MemoryLog) -> None:
    ref, other = log.put_blob(b"a secret", "prompt"), log.put_blob(b"", "empty")
    assert log.put_blob(b"a secret", "prompt").id != ref.id, "the same text has another id"
    assert (ref.size, ref.role) == (8, "prompt")
    await log.append(Draft("a.b", blobs=(ref, other)))
    assert (log.blob(ref), log.blob(other.id)) == (b"a secret", b"")
    await log.erase(ref, actor="uid:1000")
    with pytest.raises(JournalError, match="erased"):
        log.blob(ref)
    assert log.entry(1).data == {"id": ref.id}
    assert log.blob(other) == b""
    with pytest.raises(JournalError):
        await log.erase("0" * 64)


async def test_many_at_once(log: Journal | MemoryLog) -> None:
    async def appender(name: int) -> list[tuple[int, ...]]:
        drafts = Draft("a.b", run=f"r{name}"), Draft("a.c", run=f"r{name}", cause=(-1,))
        return [await log.append(*drafts) for _ in range(5)]

    told = await asyncio.gather(*map(appender, range(20)))
    for name, calls in enumerate(told):
        entries = log.run_entries(f"r{name}")
        assert [entry.index for entry in entries] == [index for call in calls for index in call]
        for intent, result in calls:
            assert result == intent + 1
            assert log.entry(result).draft.cause == (intent,)
    assert log.size == 200


async def test_a_follower_sees_what_was_and_what_comes(log: Journal | MemoryLog) -> None:
    await log.append(Draft("a.b"), Draft("a.c"))
    seen: list[str] = []

    async def follow() -> None:
        async for entry in log.subscribe(1):
            seen.append(entry.type)
            if entry.type == "a.e":
                return

    following = asyncio.create_task(follow())
    await log.append(Draft("a.d"))
    await log.append(Draft("a.e"))
    await asyncio.wait_for(following, 10)
    assert seen == ["a.c", "a.d", "a.e"]


async def test_followers_end_with_the_log(log: Journal | MemoryLog) -> None:
    await log.append(Draft("a.b"))
    entries: list[Entry] = []

    async def follow() -> None:
        async for entry in log.subscribe():
            entries.append(entry)
            ready.set()

    ready = asyncio.Event()
    following = asyncio.create_task(follow())
    await asyncio.wait_for(ready.wait(), 10)
    await log.aclose()
    await asyncio.wait_for(following, 10)
    assert len(entries) == 1


async def test_the_doubles_disk_fills_up() -> None:
    log = MemoryLog(fail_at=2)
    await log.append(Draft("a.b"))
    with pytest.raises(JournalWriteError):
        await log.append(Draft("a.c"), Draft("a.d"))
    assert log.size == 1


# ── the journal ─────────────────────────────────────────────────────────────────────────────


async def test_a_log_goes_on_where_it_ended(tmp_path: Path) -> None:
    for start in range(3):
        journal = await journal_at(tmp_path / "journal")
        assert journal.size == start
        assert await journal.append(Draft("a.b", run="r")) == (start,)
        await journal.aclose()
    assert (
        len({entry.boot for entry in OfflineLog.open(tmp_path / "journal").reader.entries()}) == 3
    )
    with pytest.raises(JournalError, match="closed"):
        await journal.append(Draft("a.b"))


async def test_an_origin_never_changes(tmp_path: Path) -> None:
    await (await journal_at(tmp_path / "journal")).aclose()
    with pytest.raises(JournalError, match="not 'other'"):
        await Journal.open(tmp_path / "journal", origin="other")


async def test_segments_turn_and_each_has_its_key(tmp_path: Path) -> None:
    journal = await journal_at(tmp_path / "journal", segment_entries=10)
    for number in range(9):
        await journal.append(*[Draft("a.b", run=f"r{number % 2}")] * 3)
        assert len(list((tmp_path / "journal" / "keys").iterdir())) == 1
    names = sorted(path.name for path in (tmp_path / "journal").glob("*.jsonl"))
    assert names == ["000000000000.jsonl", "000000000009.jsonl", "000000000018.jsonl"]
    assert len(journal.run_entries("r0")) == 15
    await journal.rotate()
    await journal.rotate()
    await journal.aclose()
    report = verify(tmp_path / "journal", vkey=journal.vkey, thorough=True)
    assert (report.verdict, report.size, report.epochs) == (Verdict.VERIFIED, 27, 4)
    journal = await journal_at(tmp_path / "journal")
    assert [entry.index for entry in journal.entries()] == list(range(27))
    await journal.append(Draft("a.c"))
    await journal.aclose()
    assert verify(tmp_path / "journal").verdict is Verdict.VERIFIED


async def test_a_key_signs_for_a_week(tmp_path: Path) -> None:
    clock = ManualClock()
    for days in (0, 6, 2):
        clock.advance(days * 24 * 3600)
        journal = await Journal.open(tmp_path / "journal", origin=ORIGIN, clock=clock)
        await journal.append(Draft("a.b"))
        await journal.append(Draft("a.c"))
        await journal.aclose()
    names = sorted(path.name for path in (tmp_path / "journal").glob("*.jsonl"))
    assert names == ["000000000000.jsonl", "000000000004.jsonl"]
    assert verify(tmp_path / "journal").epochs == 2


async def test_a_key_does_not_sign_for_longer_because_the_clock_was_wrong(tmp_path: Path) -> None:
    folder, wrong = tmp_path / "journal", ManualClock(wall_s=4_000_000_000.0)
    journal = await Journal.open(folder, origin=ORIGIN, clock=wrong)
    await journal.append(Draft("a.b"))
    await journal.aclose()
    journal = await Journal.open(folder, origin=ORIGIN, clock=ManualClock())
    for _ in range(3):
        await journal.append(Draft("a.b"))
    await journal.aclose()
    assert verify(folder).epochs == 2


async def test_an_erasure_that_a_crash_interrupted_is_finished(tmp_path: Path) -> None:
    journal = await journal_at(tmp_path / "journal")
    ref = journal.put_blob(b"secret", "prompt")
    await journal.append(Draft("a.b", blobs=(ref,)))
    await journal.append(Draft("blob.erased", data={"id": ref.id}))
    await journal.aclose()
    journal = await journal_at(tmp_path / "journal")
    with pytest.raises(JournalError, match="erased"):
        journal.blob(ref)
    await journal.aclose()


async def test_a_lost_tree_or_index_is_derived_again(tmp_path: Path) -> None:
    journal = await journal_at(tmp_path / "journal", segment_entries=300)
    for number in range(20):
        await journal.append(*[Draft("a.b", run=f"r{number % 3}")] * 40)
    expected = journal.run_entries("r1")
    root = journal.checkpoint().root
    await journal.aclose()
    (tmp_path / "journal" / "tree" / "0").write_bytes(b"nonsense")
    (tmp_path / "journal" / "index.db").write_bytes(b"nonsense" * 1000)
    journal = await journal_at(tmp_path / "journal")
    assert journal.run_entries("r1") == expected
    assert check_proof(journal.prove(17), journal.vkey).index == 17
    assert journal.checkpoint().root == root
    await journal.aclose()


async def test_an_index_that_was_cut_off_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A start that took too long was killed; the next must not begin from nothing for ever."""
    monkeypatch.setattr("node.journal.index.PART", 3, raising=False)
    journal = await journal_at(tmp_path / "journal")
    await journal.append(*(Draft("a.b", run="r") for _ in range(10)))
    parsed, dies_at = list[bytes](), 8

    def parse_until_killed(line: bytes) -> Entry:
        parsed.append(line)
        if len(parsed) == dies_at:
            raise KeyboardInterrupt
        return parse(line)

    monkeypatch.setattr("node.journal.index.parse", parse_until_killed)
    with pytest.raises(KeyboardInterrupt):
        journal.index.find()
    await journal.aclose()
    again = await journal_at(tmp_path / "journal")
    assert again.index.find(run="r") == [*range(10)]
    assert len(parsed) == dies_at + 10 - 6
    await again.aclose()


async def test_an_index_of_another_log_is_not_used(tmp_path: Path) -> None:
    for name, run in (("one", "a"), ("two", "b")):
        journal = await journal_at(tmp_path / name)
        await journal.append(Draft("x.y", run=run))
        assert len(journal.run_entries(run)) == 1
        await journal.aclose()
    shutil.copy(tmp_path / "one" / "index.db", tmp_path / "two" / "index.db")
    journal = await journal_at(tmp_path / "two")
    assert journal.run_entries("a") == []
    assert len(journal.run_entries("b")) == 1
    await journal.aclose()


async def test_the_index_finds(tmp_path: Path) -> None:
    journal = await journal_at(tmp_path / "journal")
    deny = PolicyVerdict("default", "deny")
    await journal.append(
        Draft("a.b", run="r", agent="x"), Draft("a.c", agent="x", policy=deny), Draft("a.b")
    )
    assert journal.index.find(types=("a.b",)) == [0, 2]
    assert journal.index.find(agent="x", verdict="deny") == [1]
    assert journal.index.find(last=2) == [1, 2]
    assert journal.index.find(run="r", start=1) == []
    assert journal.index.find(types=("a.b", "a.c"), end=2, last=1) == [1]
    await journal.aclose()


async def test_the_newest_entries_are_had_without_a_look_at_all(tmp_path: Path) -> None:
    journal = await journal_at(tmp_path / "journal")
    for first in range(0, 3000, 200):
        drafts = [Draft("ab"[n % 2] + ".c", agent="xyz"[n % 3]) for n in range(first, first + 200)]
        await journal.append(*drafts)
    assert [entry.index for entry in journal.newest("a.c", "b.c")] == [*range(2999, -1, -1)]
    found = [entry.index for entry in journal.newest("b.c", agent="x")]
    assert found == [index for index in range(2999, -1, -1) if index % 2 and index % 3 == 0]
    work = Counter[str]()
    assert journal.index._db is not None
    journal.index._db.set_progress_handler(lambda: work.update("s"), 1)  # each step of SQLite
    assert [entry.index for entry in islice(journal.newest("a.c", "b.c"), 3)] == [2999, 2998, 2997]
    assert work["s"] < 10_000
    await journal.aclose()


@pytest.mark.skipif(not IO.exists(), reason="the system does not tell what a process reads")
def test_content_near_what_was_last_read_is_found_without_reading_all(tmp_path: Path) -> None:
    store = BlobStore(tmp_path, FileStorage())
    blobs = [Sealed.of(b"content %d" % number) for number in range(6_000)]
    store.write(0, blobs)
    store.written(blobs)
    store.close()
    ids = [blob.id.hex() for blob in blobs]
    reader, whole = BlobReader(tmp_path), store.path(0, "keys").stat().st_size
    assert [reader.content(ids[number]) for number in (5_999, 0, 3_000)] == [
        b"content 5999",
        b"content 0",
        b"content 3000",
    ]
    assert reader.content(ids[-1]) == b"content 5999"
    before = _bytes_read()
    for number in range(5_999, 4_999, -1):  # as a list has them
        assert reader.content(ids[number]) == b"content %d" % number
    assert _bytes_read() - before < 1000 * whole / 4
    with pytest.raises(JournalError, match="is not in this log"):
        reader.content("ab" * 32)


def _bytes_read() -> int:
    return int(IO.read_text().split()[1])


async def test_proofs_stand_alone(tmp_path: Path) -> None:
    journal = await journal_at(tmp_path / "journal", segment_entries=100)
    old = journal.checkpoint()
    for number in range(150):
        await journal.append(Draft("a.b", data={"n": number}), Draft("a.c"))
        if number in (30, 120):
            old = journal.checkpoint()
    other = await journal_at(tmp_path / "other")
    for index in (0, 99, 100, 299):
        proof = journal.prove(index)
        assert check_proof(proof, journal.vkey) == journal.entry(index)
        with pytest.raises(JournalDamagedError):
            check_proof(proof, other.vkey)
        with pytest.raises(JournalDamagedError):
            check_proof(
                proof.replace(b"index %d\n" % index, b"index %d\n" % (index + 1)), journal.vkey
            )
    growth = journal.prove_consistency(old.size)
    signer = next(k for k in [journal._writer.signer.key])
    assert check_extension(growth, old, signer).size == 300
    forged = Checkpoint(old.origin, old.size, bytes(32))
    with pytest.raises(JournalDamagedError, match="not a prefix"):
        check_extension(growth, forged, signer)
    with pytest.raises(JournalDamagedError, match="not signed"):
        check_extension(growth, old, other.vkey)
    with pytest.raises(JournalError, match="no entry"):
        journal.prove(300)
    with pytest.raises(JournalError):
        journal.prove_consistency(301)
    await journal.aclose()
    await other.aclose()
    offline = OfflineLog.open(tmp_path / "journal")
    for key in offline.tree()[1].keys:  # of an epoch before the entry's, its own, or after it
        assert [check_proof(offline.prove(n), key).index for n in (7, 150, 299)] == [7, 150, 299]


def test_who_reads_while_the_log_turns_to_its_next_segment_finds_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another thread's turn may come between any two lines of the writer's."""

    class AtOnce(LogReader):
        def __setattr__(self, name: str, value: object) -> None:
            super().__setattr__(name, value)
            if name == "_live" and self.size:
                found.append(self.entry(self.size - 1).index)

    found: list[int] = []
    monkeypatch.setattr("node.journal.journal.LogReader", AtOnce)
    journal = Journal.open_sync(tmp_path / "journal", origin=ORIGIN, segment_entries=2)
    for _ in range(5):
        journal.append_sync(Draft("a.b"))
    journal.close()
    assert found == list(range(5))


async def test_entries_of_any_length_are_found_without_the_writer(tmp_path: Path) -> None:
    journal = await journal_at(tmp_path / "journal")
    sizes = [1, 60_000, 1, 3000, 60_000, 60_000, 1, 2100, 1]
    for size in sizes:
        await journal.append(Draft("a.b", data={"text": "x" * size}), Draft("a.c"))
    await journal.rotate()
    await journal.append(Draft("a.d"))
    await journal.aclose()
    with (tmp_path / "journal" / "000000000018.jsonl").open("ab") as file:
        file.write(b'{"v":1,"i":19,"ts":' + b"1" * 200_000)  # a write that was cut off
    reader = OfflineLog.open(tmp_path / "journal").reader
    assert [reader.entry(index).index for index in range(18)] == list(range(18))
    assert [len(str(reader.entry(2 * n).data["text"])) for n in range(9)] == sizes
    assert reader.size == 19


async def test_a_proof_of_hashes_that_are_damaged_is_not_handed_out(tmp_path: Path) -> None:
    journal = await journal_at(tmp_path / "journal")
    await journal.append(*[Draft("a.b")] * 9)
    await journal.rotate()
    with (tmp_path / "journal" / "tree" / "0").open("r+b") as hashes:
        hashes.seek(32 * 4)
        hashes.write(bytes(32))
    with pytest.raises(JournalError, match="stored tile hashes do not fit"):
        journal.prove(5)
    with pytest.raises(JournalError, match="stored tile hashes do not fit"):
        journal.prove_consistency(5)
    await journal.aclose()


async def test_pruning_keeps_the_log_whole(tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    journal = await journal_at(folder, segment_entries=10)
    shared, gone = journal.put_blob(b"shared", "value"), journal.put_blob(b"gone", "value")
    await journal.append(Draft("a.b", run="r", blobs=(shared, gone)))
    early = journal.checkpoint()
    for _ in range(12):
        await journal.append(Draft("a.b", run="r"), Draft("a.c"))
    await journal.append(Draft("a.d", blobs=(shared,)))
    late = journal.checkpoint()
    assert await journal.prune(5) == 0, "the first segment ends after 5"
    assert await journal.prune(23) == 19
    assert sorted(path.name for path in folder.glob("*.jsonl"))[0] == "000000000019.jsonl"
    with pytest.raises(JournalError, match="no entry 18"):
        journal.entry(18)
    assert journal.entry(19).index == 19
    assert all(entry.index >= 19 for entry in journal.run_entries("r"))
    assert journal.blob(shared) == b"shared"
    with pytest.raises(JournalError):
        journal.blob(gone)
    assert check_proof(journal.prove(20), journal.vkey).index == 20
    await journal.aclose()

    journal = await journal_at(folder)
    assert (journal.start, journal.size) == (19, 27)
    assert journal.entry(26).data == {"size": 19}
    await journal.append(Draft("a.e"))
    await journal.aclose()
    report = verify(folder, vkey=journal.vkey, since=[("late", late.note)])
    assert report.verdict is Verdict.VERIFIED, report.problems
    assert report.pruned == 19
    assert verify(folder, since=[("early", early.note)]).verdict is Verdict.UNKNOWN
    files = OfflineLog.open(folder).export(tmp_path / "tiles")
    assert files == len([path for path in (tmp_path / "tiles").rglob("*") if path.is_file()])

    shutil.rmtree(folder / "tree")
    journal = await journal_at(folder)
    assert journal.size == 28
    await journal.aclose()
    (folder / "pruned").write_bytes((folder / "pruned").read_bytes().replace(b'"v": 1', b'"v": 2'))
    assert verify(folder).verdict is Verdict.FAILED


async def test_tiles_hold_the_key_that_signed_their_checkpoint(tmp_path: Path) -> None:
    """And not the one that its seal names, which has signed nothing yet."""
    journal = await journal_at(tmp_path / "journal")
    await journal.append(Draft("a.b"))
    await journal.rotate()
    await journal.aclose()
    OfflineLog.open(tmp_path / "journal").export(tmp_path / "tiles")
    key = VerifierKey.parse((tmp_path / "tiles" / "log.vkey").read_text().strip())
    assert Checkpoint.parse((tmp_path / "tiles" / "checkpoint").read_bytes()).signed_by(key)


async def test_erased_and_missing_content_are_told_apart(tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    journal = await journal_at(folder)
    refs = [journal.put_blob(b"content %d" % number, "value") for number in range(3)]
    await journal.append(Draft("a.b", blobs=tuple(refs)))
    await journal.erase(refs[0])
    journal._blobs.erase(refs[1].id)
    await journal.aclose()
    keys = (folder / "blobs" / "000000000000.keys").read_bytes()
    assert keys[32:96] == bytes(64), "key and salt are overwritten in place"
    report = verify(folder)
    assert report.internal is Verdict.VERIFIED
    assert report.blobs.counts == {
        BlobState.PRESENT: 1, BlobState.ERASED: 1, BlobState.UNERASED: 0,
        BlobState.MISSING: 1, BlobState.DAMAGED: 0,
    }  # fmt: skip
    assert refs[1].id in report.blobs.problems[0]
    assert verify(folder, blobs=False).verdict is Verdict.VERIFIED


async def test_a_lost_log_is_linked_by_a_new_one(tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    journal = await journal_at(folder)
    await journal.append(Draft("a.b"))
    await journal.aclose()
    shutil.copytree(folder, tmp_path / "backup")
    journal = await journal_at(folder)
    await journal.append(Draft("a.c"))
    kept = journal.checkpoint()
    await journal.aclose()
    shutil.rmtree(folder)
    shutil.copytree(tmp_path / "backup", folder)
    with pytest.raises(JournalRollbackError):
        await journal_at(folder)
    with pytest.raises(JournalError, match="again"):
        relink(folder, origin=ORIGIN)
    journal = relink(folder, origin=f"{ORIGIN}-2")
    linked = journal.entry(0)
    assert linked.type == "log.linked"
    assert linked.data["origin"] == ORIGIN
    import base64

    old = Checkpoint.parse(base64.b64decode(str(linked.data["kept"])))
    assert (old.size, old.root) == (2, kept.root)
    assert Checkpoint.parse(base64.b64decode(str(linked.data["found"]))).size == 1
    journal.close()
    assert verify(folder).verdict is Verdict.VERIFIED
    assert (tmp_path / "journal.old-1" / "log.vkey").is_file()


async def test_a_deleted_log_is_not_begun_again(tmp_path: Path) -> None:
    journal = await journal_at(tmp_path / "journal")
    await journal.append(Draft("a.b"))
    await journal.aclose()
    shutil.rmtree(tmp_path / "journal")
    with pytest.raises(JournalRollbackError):
        await journal_at(tmp_path / "journal")


@pytest.mark.parametrize("left", [None, bytes(32), b"short"])
async def test_a_lost_secret_is_said_so(tmp_path: Path, left: bytes | None) -> None:
    """One that is another's would sign what nobody then believes."""
    journal = await journal_at(tmp_path / "journal")
    await journal.aclose()
    (secret,) = (tmp_path / "journal" / "keys").iterdir()
    if left is None:
        secret.unlink()
    else:
        secret.write_bytes(left)
    with pytest.raises(JournalError, match="secret") as refused:
        await journal_at(tmp_path / "journal")
    assert refused.value.hint


def test_nobody_else_may_read_it(tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    journal = Journal.open_sync(folder, origin=ORIGIN)
    journal.append_sync(Draft("a.b", blobs=(journal.put_blob(b"x", "value"),)))
    journal.close()
    for path in [folder, *folder.rglob("*")]:
        allowed = 0o044 if path.name == "log.vkey" else 0
        allowed |= 0o044 if path.name.startswith("index.db") else 0
        assert not path.stat().st_mode & 0o077 & ~allowed, path


async def test_verify_while_the_writer_is_at_work(tmp_path: Path) -> None:
    journal = await journal_at(tmp_path / "journal")
    await journal.append(Draft("a.b"))
    with (tmp_path / "journal" / "000000000000.jsonl").open("ab") as file:
        file.write(b'{"v":1,"i":1,"ts":')
    report = verify(tmp_path / "journal")
    assert (report.verdict, report.size) == (Verdict.VERIFIED, 1)
    assert any("writer is at work" in text for text in report.notes)
    await journal.aclose()
    assert verify(tmp_path / "journal").verdict is Verdict.UNKNOWN
