"""What an attacker does to a log: never a false OK, a traceback, or a lost commit."""

from __future__ import annotations

import errno
import json
import os
import shutil
from base64 import b64encode
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from node.backup import cut
from node.errors import (
    FreeholdError,
    JournalDamagedError,
    JournalError,
    JournalRollbackError,
)
from node.journal import (
    Draft,
    Journal,
    MemoryKeys,
    OfflineLog,
    Verdict,
    VerifierKey,
    check_proof,
    first_key,
    verify,
)
from node.journal import segment as segment_module
from node.journal.head import head_beside
from node.journal.note import Signer, commit_line, commit_text
from node.journal.segment import ROOM_BYTES, previous_hash, scan
from node.journal.tree import Frontier, leaf_hash, node_hash

ORIGIN = "test.example/log"
# 1 is every bit and every byte; else a step coprime to 8, so that all bit positions are met
STEP = int(os.environ.get("FREEHOLD_ATTACK_STEP", "29"))


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A log of two epochs, three commits in the last, with content beside it."""
    folder = tmp_path / "journal"
    journal = Journal.open_sync(folder, origin=ORIGIN)
    blob = journal.put_blob(b"what is 2 + 2?", "prompt")
    journal.append_sync(Draft("run.started", run="r1", blobs=(blob,)), Draft("a.b", cause=(-1,)))
    journal._rotate()
    for number in range(3):
        journal.append_sync(Draft("a.b", data={"n": number}), Draft("a.c", data={"t": "ü\n"}))
    journal.close()
    return folder


def copy(folder: Path, name: str, *, head: bool = True) -> Path:
    """A copy of a log to damage, in a folder of its own."""
    home = folder.parent / name
    shutil.rmtree(home, ignore_errors=True)
    target = home / "journal"
    shutil.copytree(folder, target)
    if head:
        shutil.copy(folder.with_name("journal.head"), home / "journal.head")
    return target


def reopened(folder: Path) -> int | None:
    """How many entries the log has when opened; None where it refuses to open."""
    try:
        journal = Journal.open_sync(folder, origin=ORIGIN)
    except JournalError:
        return None
    journal.close()
    return journal.size


def segment(folder: Path, number: int = -1) -> Path:
    return sorted(folder.glob("*.jsonl"))[number]


def key(folder: Path) -> VerifierKey:
    found = first_key(folder)
    assert found is not None
    return found


def never_ok(folder: Path, vkey: VerifierKey) -> None:
    report = verify(folder, vkey=vkey)
    assert report.verdict is not Verdict.VERIFIED
    assert report.problems or report.blobs.problems or any(one.reason for one in report.against)
    assert reopened(folder) is None


def test_the_log_itself_is_good(small: Path) -> None:
    assert verify(small, vkey=key(small), thorough=True).verdict is Verdict.VERIFIED
    assert reopened(small) == 8


@pytest.mark.parametrize("number", [0, 1])
def test_every_flipped_bit_of_a_segment_is_seen(small: Path, number: int) -> None:
    vkey, target = key(small), segment(small, number)
    good = target.read_bytes()
    for bit in range(0, len(good) * 8, STEP):
        raw = bytearray(good)
        raw[bit // 8] ^= 1 << bit % 8
        target.write_bytes(raw)
        report = verify(small, vkey=vkey)
        assert report.verdict is not Verdict.VERIFIED, f"bit {bit}"
        if bit % 5 == 0:
            opened = reopened(small)
            # a segment that is sealed is read whole by verify, not by every start
            assert opened is None or (number == 0 and opened == 8), f"bit {bit}"
    target.write_bytes(good)


def test_every_flipped_bit_of_the_last_segment_is_seen_without_the_kept_head(small: Path) -> None:
    vkey, target = key(small), segment(small)
    good = target.read_bytes()
    head = small.with_name("journal.head")
    head.unlink()
    for bit in range(3, len(good) * 8, 3 * STEP):
        raw = bytearray(good)
        raw[bit // 8] ^= 1 << bit % 8
        target.write_bytes(raw)
        assert verify(small, vkey=vkey).verdict is not Verdict.VERIFIED, f"bit {bit}"
        assert reopened(small) is None, f"bit {bit}"
        head.unlink(missing_ok=True)


@pytest.mark.parametrize("name", ["log.vkey", "blobs/000000000000.keys", "blobs/000000000000.pack"])
def test_every_flipped_bit_of_key_and_content_is_seen(small: Path, name: str) -> None:
    vkey, target = key(small), small / name
    good = target.read_bytes()
    for bit in range(0, len(good) * 8, max(1, STEP // 4)):
        raw = bytearray(good)
        raw[bit // 8] ^= 1 << bit % 8
        target.write_bytes(raw)
        assert verify(small, vkey=vkey).verdict is not Verdict.VERIFIED, f"bit {bit}"


def test_a_log_cut_at_any_byte_is_never_ok(small: Path) -> None:
    vkey, good = key(small), segment(small).read_bytes()
    for size in [*range(0, len(good) - 1, max(1, STEP // 6)), len(good) - 1]:
        segment(small).write_bytes(good[:size])
        report = verify(small, vkey=vkey)
        assert report.verdict is not Verdict.VERIFIED, f"cut to {size}"
        if size % 3 == 0 or size == len(good) - 1:
            expected = 8 if size == len(good) - 1 else None
            assert reopened(small) == expected, f"cut to {size}"


def test_a_change_is_not_taken_for_a_commit_cut_short(small: Path) -> None:
    """An entry of the last commit is changed, and the commit's newline cut off."""
    vkey, good = key(small), segment(small).read_bytes().removesuffix(b"\n")
    end = good.rindex(b"\n=")
    start = good.index(b"\n", good.rindex(b"\n=", 0, end) + 1) + 1
    for bit in range(8 * start, 8 * end, STEP):
        raw = bytearray(good)
        raw[bit // 8] ^= 1 << bit % 8
        segment(small).write_bytes(raw)
        assert verify(small, vkey=vkey).internal is Verdict.FAILED, f"bit {bit}"
        assert reopened(small) is None


def test_a_write_cut_short_loses_nothing_that_was_committed(small: Path) -> None:
    """The kept head is of the commit before: what follows it was never acknowledged."""
    good = segment(small).read_bytes()
    commits = [at for at in range(len(good)) if good[at : at + 2] == b"\n="]
    before = good.index(b"\n", commits[-2] + 1) + 1
    head = small.with_name("journal.head")
    head.unlink()
    for size in range(before, len(good) - 1, STEP):
        segment(small).write_bytes(good[:size])
        assert reopened(small) == 6, f"cut to {size}"
        assert segment(small).read_bytes() == good[:before]
        if size > before:
            aside = sorted((small / "quarantine").iterdir())
            assert good[before:size] in [path.read_bytes() for path in aside]
            shutil.rmtree(small / "quarantine")
        head.unlink()


def test_zeros_after_a_power_cut_are_set_aside(small: Path) -> None:
    good = segment(small).read_bytes()
    segment(small).write_bytes(good + b'{"v":1,"i":8,' + bytes(600))
    assert verify(small).verdict is Verdict.UNKNOWN
    assert reopened(small) == 8
    assert segment(small).read_bytes() == good


def test_any_sectors_of_a_write_may_be_lost_in_a_power_cut(tmp_path: Path) -> None:
    """It was not acknowledged; the writes before it are, and stay."""
    folder = tmp_path / "journal"
    with closing(Journal.open_sync(folder, origin=ORIGIN)) as journal:
        journal.append_sync(Draft("a.b", data={"text": "x" * 300}))
        good, head = segment(folder).read_bytes(), head_beside(folder).read_bytes()
        kept = good.rstrip(b"\0")
        journal.append_sync(*(Draft("a.c", data={"text": "y" * 700}) for _ in range(2)))
        after = segment(folder).read_bytes()
    end = len(after.rstrip(b"\0"))
    sectors = range(len(kept) // 512, (end - 1) // 512 + 1)
    assert len(sectors) > 3
    for lost in range(1, 1 << len(sectors)):
        raw = bytearray(after)
        for bit, sector in enumerate(sectors):
            if lost >> bit & 1:
                raw[sector * 512 : sector * 512 + 512] = good[sector * 512 : sector * 512 + 512]
        segment(folder).write_bytes(raw)
        head_beside(folder).write_bytes(head)
        whole = raw[: end - 1] == after[: end - 1]  # but for the newline
        assert verify(folder).internal is not Verdict.FAILED, f"{lost:b}"
        if not whole:
            assert OfflineLog.open(folder).reader.size == 1, f"{lost:b}"
            assert cut(folder).segments == ((segment(folder), len(kept)),), f"{lost:b}"
        assert reopened(folder) == (3 if whole else 1), f"{lost:b}"
        assert segment(folder).read_bytes() == (after[:end] if whole else kept), f"{lost:b}"


def test_a_write_that_was_acknowledged_is_not_set_aside(tmp_path: Path) -> None:
    """The kept head says that it was: the log is refused as it is."""
    folder = tmp_path / "journal"
    with closing(Journal.open_sync(folder, origin=ORIGIN)) as journal:
        journal.append_sync(Draft("a.b", data={"text": "x" * 2000}))
    raw = bytearray(segment(folder).read_bytes())
    raw[1024:1536] = bytes(512)
    segment(folder).write_bytes(raw)
    assert verify(folder).verdict is Verdict.FAILED
    with pytest.raises(JournalRollbackError):
        Journal.open_sync(folder, origin=ORIGIN)
    assert segment(folder).read_bytes() == raw


def test_a_letter_is_no_lost_sector(small: Path) -> None:
    """A zero in the entries of the last commit is what somebody did."""
    good = bytearray(segment(small).read_bytes())
    good[good.rindex(b"c", 0, good.rindex(b"\n="))] = 0
    segment(small).write_bytes(good)
    assert verify(small).internal is Verdict.FAILED


def test_room_ahead_says_nothing(small: Path) -> None:
    good = segment(small).read_bytes()
    for room in (1, 511, ROOM_BYTES):
        segment(small).write_bytes(good + bytes(room))
        report = verify(small)
        assert (report.verdict, report.size, report.problems) == (Verdict.VERIFIED, 8, [])
        assert reopened(small) == 8
        assert segment(small).read_bytes() == good
    assert not (small / "quarantine").exists()


@pytest.mark.parametrize(
    "tail",
    [bytes(ROOM_BYTES + 1), bytes(1000) + b"x", bytes(9) + b"x" + bytes(9), bytes(9) + b"\n"],
)
def test_what_is_not_all_zeros_or_more_than_room_is_set_aside(small: Path, tail: bytes) -> None:
    good = segment(small).read_bytes()
    segment(small).write_bytes(good + tail)
    assert verify(small).internal is Verdict.UNKNOWN
    assert reopened(small) == 8
    assert segment(small).read_bytes() == good
    (aside,) = (small / "quarantine").iterdir()
    assert aside.read_bytes().rstrip(b"\0") == tail.rstrip(b"\0")


def test_there_is_no_room_behind_a_segment_that_another_follows(small: Path) -> None:
    first = segment(small).with_name("000000000000.jsonl")
    first.write_bytes(first.read_bytes() + bytes(100))
    assert verify(small).internal is Verdict.FAILED
    assert reopened(small) is None


@pytest.mark.parametrize("torn", ["newline", "entry"])
def test_who_only_reads_changes_nothing(small: Path, torn: str) -> None:
    """The folder may be another's, or its writer may be in the middle of a write."""
    good = segment(small).read_bytes()
    segment(small).write_bytes(good[:-1] if torn == "newline" else good + b'{"v":1,"i":8,')
    shutil.rmtree(small / "tree")
    before = {path: path.read_bytes() for path in small.rglob("*") if path.is_file()}
    log = OfflineLog.open(small)
    assert check_proof(log.prove(1), log.genesis).index == 1
    log.export(small.parent / "tiles")
    verify(small, thorough=True)
    after = {path: path.read_bytes() for path in small.rglob("*") if path.is_file()}
    assert after == before


def test_what_cannot_be_set_aside_stays_where_it_is(
    small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torn = segment(small).read_bytes() + b'{"v":1,"i":8,'
    segment(small).write_bytes(torn)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("node.journal.tail.write_durably", full)
        assert reopened(small) is None
    assert segment(small).read_bytes() == torn
    assert reopened(small) == 8


def lines_of(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)


def edits(lines: list[bytes]) -> Iterator[tuple[str, list[bytes]]]:
    for at in range(len(lines) - 1):
        yield f"swap {at}", [*lines[:at], lines[at + 1], lines[at], *lines[at + 2 :]]
    for at in range(len(lines)):
        yield f"twice {at}", [*lines[:at], lines[at], *lines[at:]]
        yield f"without {at}", [*lines[:at], *lines[at + 1 :]]


@pytest.mark.parametrize("number", [0, 1])
def test_lines_moved_doubled_or_deleted_are_seen(small: Path, number: int) -> None:
    vkey, target = key(small), segment(small, number)
    good = lines_of(target)
    for what, lines in edits(good):
        target.write_bytes(b"".join(lines))
        assert verify(small, vkey=vkey).verdict is not Verdict.VERIFIED, what


@pytest.mark.parametrize("number", [0, 1])
def test_a_deleted_segment_is_seen(small: Path, number: int) -> None:
    vkey = key(small)
    segment(small, number).unlink()
    never_ok(small, vkey)


def test_a_rolled_back_log_is_refused_by_the_kept_head(small: Path) -> None:
    """An older copy is a perfect log; only something kept elsewhere can tell."""
    old = copy(small, "old", head=False)
    journal = Journal.open_sync(small, origin=ORIGIN)
    journal.append_sync(Draft("a.d"))
    point = journal.checkpoint()
    journal.close()
    assert verify(old).verdict is Verdict.VERIFIED
    report = verify(old, since=[("mine", point.note)])
    assert report.internal is Verdict.VERIFIED
    assert report.verdict is Verdict.FAILED
    assert "ends before it" in report.against[0].reason

    shutil.copy(small.with_name("journal.head"), old.with_name("journal.head"))
    assert verify(old).verdict is Verdict.FAILED
    with pytest.raises(JournalRollbackError, match="has 8 entries, but 9") as refused:
        Journal.open_sync(old, origin=ORIGIN)
    assert "relink" in refused.value.hint


def test_a_checkpoint_is_believed_for_its_signature_only(small: Path) -> None:
    """Of any of the log's keys; what is signed by another says nothing of this log."""
    with closing(Journal.open_sync(small, origin=ORIGIN)) as journal:
        point = journal.checkpoint()
    text, stranger = point.note.partition(b"\n\n")[0] + b"\n", Signer(ORIGIN, bytes(32))
    given = {
        "good": point.note,
        "forged": stranger.sign(text),
        "another": Signer("b.example/log", bytes(32)).sign(
            commit_text("b.example/log", point.size, point.root, bytes(32))
        ),
        "nothing": b"it is nothing",
    }
    report = verify(small, since=[*given.items()])
    assert report.verdict is Verdict.FAILED, "that nothing is known of one does not hide it"
    assert [(one.source, one.verdict, one.reason) for one in report.against[:4]] == [
        ("good", Verdict.VERIFIED, ""),
        ("forged", Verdict.FAILED, "no key of this log signed it"),
        ("another", Verdict.FAILED, "it is of another log, 'b.example/log'"),
        ("nothing", Verdict.UNKNOWN, "it is not a checkpoint"),
    ]


def test_nothing_is_said_of_a_checkpoint_where_the_log_itself_is_wrong(small: Path) -> None:
    segment(small, 0).unlink()
    report = verify(small, since=[("mine", b"")])
    assert [(one.source, one.verdict) for one in report.against] == [("mine", Verdict.UNKNOWN)]


def test_only_a_thorough_look_verifies_each_commit(tmp_path: Path) -> None:
    """Whoever has the key can put a commit below its own that the key never signed."""
    keys, folder = MemoryKeys(), tmp_path / "journal"
    with closing(Journal.open_sync(folder, origin=ORIGIN, keys=keys)) as journal:
        journal.append_sync(Draft("a.b"))
        journal.append_sync(Draft("a.b"))
    signer, stranger = keys.signers[journal.vkey], Signer(ORIGIN, bytes(32))
    begin, *lines = (line[:-1] for line in lines_of(segment(folder)))
    frontier, chain, made = Frontier(), previous_hash(begin), [begin]
    for entry, by in zip(lines[::2], (stranger, signer), strict=True):
        frontier.push(leaf_hash(entry))
        commit = commit_line(by.sign(commit_text(ORIGIN, frontier.size, frontier.root(), chain)))
        made, chain = [*made, entry, commit], previous_hash(commit)
    segment(folder).write_bytes(b"\n".join([*made, b""]))
    assert verify(folder).internal is Verdict.VERIFIED
    report = verify(folder, thorough=True)
    assert report.internal is Verdict.FAILED
    assert "the entries from 0 is not signed" in report.problems[0]


def test_a_log_rolled_back_past_an_epoch_is_refused(small: Path) -> None:
    """The kept head is signed by a key that the older copy has never heard of."""
    segment(small, 1).unlink()
    first = segment(small, 0)
    first.write_bytes(b"".join(lines_of(first)[:-1]))
    never_ok(small, key(small))


def rewrite(folder: Path, number: int, signer: Signer, change: bytes) -> None:
    """Rewrites a segment's last entry and signs it again, as whoever holds the key could."""
    path = segment(folder, number)
    first = int(path.stem)
    frontier, chain = Frontier(), bytes(32)
    for before in sorted(folder.glob("*.jsonl"))[:number]:
        for line in lines_of(before):
            if line.startswith(b"="):
                chain = previous_hash(line[:-1])
            else:
                frontier.push(leaf_hash(line[:-1]))
    assert frontier.size == first
    entries = [line[:-1] for line in lines_of(path) if not line.startswith(b"=")]
    entries[-1] = entries[-1].replace(b'"data":{', b'"data":{%s' % change)
    for entry in entries:
        frontier.push(leaf_hash(entry))
    text = commit_text(ORIGIN, frontier.size, frontier.root(), chain)
    path.write_bytes(b"\n".join([*entries, commit_line(signer.sign(text))]) + b"\n")


def test_a_rewrite_with_the_real_key_is_seen_by_what_was_kept_elsewhere(tmp_path: Path) -> None:
    keys, folder = MemoryKeys(), tmp_path / "journal"
    journal = Journal.open_sync(folder, origin=ORIGIN, keys=keys)
    journal.append_sync(Draft("a.b", data={"n": 1}), Draft("a.b", data={"n": 2}))
    point = journal.checkpoint()
    journal.close()
    rewrite(folder, 0, keys.signers[journal.vkey], b'"x":1,')

    report = verify(folder, since=[("mine", point.note)])
    assert report.internal is Verdict.VERIFIED, "the rewrite is a well-formed log of its own"
    assert report.verdict is Verdict.FAILED
    assert {one.reason for one in report.against} == {"the log was rewritten since"}
    with pytest.raises(JournalRollbackError):
        Journal.open_sync(folder, origin=ORIGIN, keys=keys)

    folder.with_name("journal.head").unlink()
    assert verify(folder).verdict is Verdict.VERIFIED, "nothing local can tell"


def test_a_stolen_current_key_cannot_rewrite_a_past_epoch(small: Path) -> None:
    (secret,) = (small / "keys").glob("*.key")
    thief = Signer(ORIGIN, secret.read_bytes())
    vkey = key(small)
    assert thief.key != vkey, "the first epoch's secret is gone"
    small.with_name("journal.head").unlink()
    rewrite(small, 0, thief, b'"x":1,')
    report = verify(small, vkey=vkey)
    assert report.internal is Verdict.FAILED
    assert "not signed by its epoch's key" in report.problems[0]
    assert reopened(small) is None


def test_a_stolen_current_key_cannot_drop_the_seal_and_go_on(small: Path) -> None:
    (secret,) = (small / "keys").glob("*.key")
    thief = Signer(ORIGIN, secret.read_bytes())
    vkey = key(small)
    small.with_name("journal.head").unlink()
    segment(small, 1).unlink()
    rewrite(small, 0, thief, b'"x":1,')
    assert verify(small, vkey=vkey).verdict is Verdict.FAILED


def test_a_stolen_current_key_proves_nothing_of_a_past_epoch(small: Path) -> None:
    log = OfflineLog.open(small)
    (secret,) = (small / "keys").glob("*.key")
    thief, first = Signer(ORIGIN, secret.read_bytes()), key(small)
    assert check_proof(log.prove(1), first) == log.reader.entry(1)
    assert check_proof(log.prove(1), thief.key) == log.reader.entry(1), "who knows only that key"

    line = log.reader.raw(1).replace(b'"data":{', b'"data":{"x":1')
    seals = [b64encode(seal.note).decode() for seal in log.tree()[1].seals]
    for paths in ([], [[]], [[b64encode(leaf_hash(log.reader.raw(0))).decode()]]):
        extra = {"entry": line.decode(), "seals": seals, "paths": paths}
        root = node_hash(leaf_hash(log.reader.raw(0)), leaf_hash(line))
        point = thief.sign(commit_text(ORIGIN, 2, root, bytes(32)))
        told = b64encode(json.dumps(extra, ensure_ascii=False).encode()).decode()
        sibling = b64encode(leaf_hash(log.reader.raw(0))).decode()
        head = f"c2sp.org/tlog-proof@v1\nextra {told}\nindex 1\n{sibling}\n\n"
        with pytest.raises(JournalDamagedError, match="the seal of its epoch"):
            check_proof(head.encode() + point, first)


def test_another_logs_key_is_not_believed(small: Path, tmp_path: Path) -> None:
    other = Journal.open_sync(tmp_path / "other" / "journal", origin=ORIGIN)
    other.close()
    report = verify(small, vkey=other.vkey)
    assert report.verdict is Verdict.FAILED
    assert "not signed by the key given" in report.problems[0]


def test_a_key_that_a_seal_names_vouches_for_nothing_before_it_signs(
    small: Path, tmp_path: Path
) -> None:
    (secret,) = (small / "keys").glob("*.key")
    current = Signer(ORIGIN, secret.read_bytes())
    assert verify(small, vkey=current.key).verdict is Verdict.VERIFIED

    class Names(MemoryKeys):
        """A forger's keys: the next one is somebody else's, of whom they know the name alone."""

        def make(self, origin: str) -> Signer:
            return current if self.signers else super().make(origin)

    forged = Journal.open_sync(tmp_path / "forged" / "journal", origin=ORIGIN, keys=Names())
    forged.append_sync(Draft("a.b", data={"forged": True}))
    forged._rotate()
    forged.close()
    report = verify(forged.folder, vkey=current.key)
    assert report.verdict is Verdict.UNKNOWN
    assert "has signed nothing" in report.problems[0]


def test_an_entry_out_of_its_place_is_named(small: Path) -> None:
    path = segment(small)
    path.write_bytes(path.read_bytes().replace(b'{"v":1,"i":4,', b'{"v":1,"i":5,'))
    (problem,) = verify(small).problems
    assert "entry 4" in problem


@pytest.mark.parametrize(
    ("limits", "lines"),
    [
        ({"MAX_ENTRY_BYTES": 50}, [b"x" * 500]),
        ({"SEGMENT_ENTRIES": 3}, [b"x\n"] * 200),
        ({"MAX_COMMIT_BYTES": 300}, [b"x\n"] * 800),
    ],
)
def test_what_would_not_end_is_not_read_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limits: dict[str, int], lines: list[bytes]
) -> None:
    for name, most in {"_CHUNK": 64, **limits}.items():
        monkeypatch.setattr(segment_module, name, most)
    path = tmp_path / "000000000000.jsonl"
    path.write_bytes(b"".join(lines))
    assert scan(path, Frontier(), bytes(32), ORIGIN).wrong == "a line or a commit is too long"


def test_an_entry_that_is_too_long_is_named(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segment_module, "MAX_ENTRY_BYTES", 50)
    assert "entry 0 is over 50 bytes" in verify(small).problems[0]


def test_garbage_is_never_a_traceback(tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    folder.mkdir()
    assert verify(folder).verdict is Verdict.UNKNOWN
    (folder / "000000000000.jsonl").write_bytes(b"=\n=\n")
    assert verify(folder).verdict is Verdict.UNKNOWN
    with pytest.raises(FreeholdError):
        Journal.open_sync(folder, origin=ORIGIN)
    (folder / "log.vkey").write_bytes(b"\xff\n")
    assert verify(folder).verdict is Verdict.UNKNOWN
