"""What is not in the form that docs/journal.md gives is not taken for a log, whoever signed it.

Two verifiers must come to one verdict: what one of them takes and the other does not is a way to
show different logs to different people.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from node.errors import JournalDamagedError
from node.journal import Draft, Journal, Verdict, verify
from node.journal.entry import line, prepare, stamp
from node.journal.note import Checkpoint, Signer, commit_line, commit_text
from node.journal.segment import previous_hash, scan, segment_path, segments
from node.journal.tail import unfinished
from node.journal.tree import Frontier, leaf_hash
from node.journal.types import BlobRef
from node.types import JsonObject

ORIGIN = "test.example/log"
STRANGER, NEXT, AFTER = (Signer(ORIGIN, bytes([n]) * 32) for n in (1, 2, 3))


@dataclass
class Forged:
    """A log's first segment, made line by line by who has its key."""

    folder: Path
    key: Signer = field(default_factory=lambda: Signer(ORIGIN, bytes(32)))
    tree: Frontier = field(default_factory=Frontier)
    chain: bytes = bytes(32)
    lines: list[bytes] = field(default_factory=list)

    def entry(self, change: Callable[[bytes], bytes] = bytes, draft: Draft | None = None) -> bytes:
        """Adds an entry, changed."""
        draft = draft or Draft("a.b")
        whole = change(line(prepare(draft), self.tree.size, stamp(1, "b", 1)))
        self.lines.append(whole)
        self.tree.push(leaf_hash(whole))
        return whole

    def text(self, more: str = "") -> bytes:
        """What the next commit signs, with more extension lines."""
        size, root = self.tree.size, self.tree.root()
        return commit_text(ORIGIN, size, root, self.chain) + more.encode()

    def commit(self, more: str = "", note: bytes = b"") -> None:
        """Adds a commit: of this text, or of a whole note."""
        whole = commit_line(note or self.key.sign(self.text(more)))
        self.lines.append(whole)
        self.chain = previous_hash(whole)

    def written(self, tail: bytes = b"") -> Path:
        """The folder, with the segment in it and what follows its last line."""
        self.folder.mkdir(exist_ok=True)
        (self.folder / "log.vkey").write_text(f"{self.key.key}\n")
        whole = b"".join(b"%s\n" % each for each in self.lines)
        segment_path(self.folder, 0).write_bytes(whole + tail)
        return self.folder


@pytest.fixture
def forged(tmp_path: Path) -> Forged:
    log = Forged(tmp_path / "journal")
    log.commit()
    log.entry()
    return log


def verdict(folder: Path, *, thorough: bool = False) -> Verdict:
    report = verify(folder, thorough=thorough)
    assert report.verdict is Verdict.VERIFIED or report.problems or report.blobs.problems
    return report.verdict


# ── commits ─────────────────────────────────────────────────────────────────────────────────


def uncanonical(note: bytes) -> bytes:
    """The same bytes to a lenient reader: bits that base64 does not use are not zero."""
    encoded = commit_line(note)
    at = encoded.index(b"=", 1) - 1
    return encoded[:at] + bytes([encoded[at] + 1]) + encoded[at + 1 :]


@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize(
    "more",
    ["more x\n", f"more x\nnext {NEXT.key}\n", f"next {NEXT.key}\nnext {AFTER.key}\n"],
    ids=["another", "before-next", "two-keys"],
)
def test_a_commit_has_no_other_lines(forged: Forged, more: str, last: bool) -> None:
    forged.commit(more)
    if not last:
        forged.entry()
        forged.commit()
    assert verdict(forged.written()) is Verdict.FAILED


@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("first", [True, False])
def test_a_commit_has_one_signature_line(forged: Forged, first: bool, last: bool) -> None:
    text = forged.text()
    lines = [signer.sign(text).removeprefix(text + b"\n") for signer in (forged.key, STRANGER)]
    forged.commit(note=text + b"\n" + b"".join(lines if first else reversed(lines)))
    if not last:
        forged.entry()
        forged.commit()
    assert verdict(forged.written()) is Verdict.FAILED


def test_a_commit_that_nobody_signed_is_none(forged: Forged) -> None:
    forged.commit(note=forged.text() + b"\n")
    forged.entry()
    forged.commit()
    assert verdict(forged.written()) is Verdict.FAILED


def test_a_commit_line_has_one_base64(forged: Forged) -> None:
    while len(forged.key.sign(forged.text())) % 3 == 0:
        forged.entry(lambda x: x, Draft("a.b", data={"size": 10**forged.tree.size}))
        forged.commit()
        while forged.tree.size < 10:
            forged.entry()
    forged.lines.append(uncanonical(forged.key.sign(forged.text())))
    forged.chain = previous_hash(forged.lines[-1])
    forged.entry()
    forged.commit()
    assert verdict(forged.written()) is Verdict.FAILED


@pytest.mark.parametrize("tail", [b'{"v":1,"i":1,"ts":', b"=Zm", bytes(64) + b"\n", b"x"])
def test_nothing_follows_a_seal(forged: Forged, tail: bytes) -> None:
    forged.commit(f"next {NEXT.key}\n")
    assert verdict(forged.written()) is Verdict.VERIFIED
    assert verdict(forged.written(tail)) is Verdict.FAILED
    with pytest.raises(JournalDamagedError, match="at entry 1"):
        Journal.open_sync(forged.folder, origin=ORIGIN)


def test_a_segment_that_another_follows_ends_with_a_seal(forged: Forged) -> None:
    forged.commit()
    forged.written()
    forged.lines = [forged.entry()]
    forged.commit()
    segment_path(forged.folder, 1).write_bytes(b"".join(b"%s\n" % each for each in forged.lines))
    assert verdict(forged.folder) is Verdict.FAILED
    with pytest.raises(JournalDamagedError, match="the seal at entry 1"):
        Journal.open_sync(forged.folder, origin=ORIGIN)


@pytest.mark.parametrize(("more", "verdict_of_it"), [("", "verified"), ("more x\n", "failed")])
def test_a_seal_has_its_form_where_its_segment_is_pruned_too(
    forged: Forged, more: str, verdict_of_it: str
) -> None:
    forged.commit(f"next {NEXT.key}\n{more}")
    seal, root = forged.lines[-1], forged.tree.root()
    pruned = {"v": 1, "size": 1, "frontier": [root.hex()], "seals": [seal[1:].decode()]}
    forged.lines, first = [], forged.key
    forged.entry(draft=Draft("log.pruned", data={"size": 1}))
    forged.key = NEXT
    forged.commit()
    forged.key = first
    segment_path(forged.written(), 0).rename(segment_path(forged.folder, 1))
    whole = json.dumps({**pruned, "chain": previous_hash(seal).hex()}) + "\n"
    (forged.folder / "pruned").write_text(whole)
    assert verdict(forged.folder) == verdict_of_it


# ── entries ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"run":null', b'"run":"mine","run":null'),
        (b'"data":{}', b'"data":{"a":1,"a":2}'),
        (b'"data":{}', b'"data": {}'),
        (b'"data":{}', b'"data":{"a":[1,\t2]}'),
        (b'"data":{}', b'"data":{}\r'),
        (b'"node"', b'"\xed\xa0\x80"'),
        (b'"a.b"', b'"A b"'),
        (b'"cause":[]', b'"cause":[1]'),
        (b'"cause":[]', b'"cause":[-1]'),
        (b'"blobs":[]', b'"blobs":[{"id":"%s","len":-1,"role":"x"}]' % (b"ab" * 32)),
    ],
)
def test_a_thorough_look_takes_what_reads_in_one_way(
    forged: Forged, old: bytes, new: bytes
) -> None:
    changed = forged.entry(lambda whole: whole.replace(old, new))
    assert new in changed
    forged.commit()
    assert verdict(forged.written(), thorough=True) is Verdict.FAILED


@pytest.mark.parametrize("end", [b" ", b"\r", b"\0", b"]"])
def test_an_entry_ends_with_its_brace(forged: Forged, end: bytes) -> None:
    forged.entry(lambda whole: whole + end)
    forged.commit()
    assert verdict(forged.written()) is Verdict.FAILED


@pytest.mark.parametrize(
    "data", [{"text": ' "a" : \t\n\\" '}, {"n": 1.5e300, "deep": [[{"a": {"a": None}}]]}]
)
def test_a_thorough_look_takes_what_a_writer_writes(tmp_path: Path, data: JsonObject) -> None:
    with closing(Journal.open_sync(tmp_path / "journal", origin=ORIGIN)) as log:
        log.append_sync(Draft("a.b"), Draft("a.c", cause=(-1,), run=' "x" ', data=data))
    assert verdict(tmp_path / "journal", thorough=True) is Verdict.VERIFIED


def test_content_in_a_reference_of_another_form_is_looked_for(forged: Forged) -> None:
    refs = (BlobRef("ab" * 32, 1, "x"), BlobRef("cd" * 32, 1, "y"))
    draft = Draft("a.b", blobs=refs)
    forged.entry(lambda whole: whole.replace(b'"len":1,"role":"x"', b'"len":-1,"role":"x"'), draft)
    forged.commit()
    assert verdict(forged.written()) is Verdict.FAILED


# ── what no commit covers ───────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("thorough", [True, False])
def test_what_no_commit_covers_is_not_looked_into(forged: Forged, thorough: bool) -> None:
    """A power cut left the entry, but neither its content nor the middle of its commit."""
    forged.commit()
    forged.entry(draft=Draft("a.b", blobs=(BlobRef("ab" * 32, 1, "x"),)))
    tail = forged.lines.pop() + b"\n=Zm" + bytes(300) + b"=\n"
    assert verdict(forged.written(tail), thorough=thorough) is Verdict.UNKNOWN


@pytest.mark.parametrize("last", [b"", b"x", b"\0"])
def test_a_signed_commit_is_not_what_a_cut_left(forged: Forged, last: bytes) -> None:
    """Of the entry before it one bit fell over; only its newline may be missing, or be another."""
    forged.commit()
    forged.entry()
    forged.commit()
    forged.lines[-2] = forged.lines[-2].replace(b"a.b", b"a.c")
    tail = forged.lines.pop() + last
    assert verdict(forged.written(tail)) is Verdict.FAILED
    with pytest.raises(JournalDamagedError, match="at entry 1"):
        Journal.open_sync(forged.folder, origin=ORIGIN)


def test_more_than_a_write_was_not_cut_short(forged: Forged) -> None:
    """Nor is it read: a file can be made that looks larger than any memory."""
    forged.commit()
    os.truncate(segment_path(forged.written(), 0), 1 << 25)
    assert verdict(forged.folder) is Verdict.FAILED


def test_a_write_that_ends_while_the_log_is_verified_is_no_damage(forged: Forged) -> None:
    forged.commit()
    forged.entry()
    path = segment_path(forged.written(b'{"v":1,"i":2,"ts":'), 0)
    found = scan(path, Frontier(), bytes(32), ORIGIN)
    forged.entry()
    forged.commit()
    forged.written()
    assert unfinished(path, found, forged.key.key)


# ── beside the segments ─────────────────────────────────────────────────────────────────────


def test_the_kept_head_is_held_against_a_log_whose_key_only_stands_there(tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    with closing(Journal.open_sync(folder, origin=ORIGIN)) as log:
        log.append_sync(Draft("a.b"))
        log._rotate()
        (secret,) = (folder / "keys").glob("*.key")
        current = Signer(ORIGIN, secret.read_bytes()).key
        log.append_sync(Draft("a.b"))
    segment_path(folder, 1).write_bytes(b"")
    report = verify(folder, vkey=current)
    assert (report.verdict, report.internal) == (Verdict.FAILED, Verdict.UNKNOWN)
    assert report.against[0].reason == "the log ends before it, at 1"


@pytest.mark.parametrize("raw", [b"", b"\xff\n", f"{NEXT.key}".encode()])
def test_without_the_first_key_nothing_can_be_told(forged: Forged, raw: bytes) -> None:
    forged.commit()
    (forged.written() / "log.vkey").write_bytes(raw)
    assert verdict(forged.folder) is Verdict.UNKNOWN


@pytest.mark.parametrize(
    "name", ["000000000001.jsonl", "log.vkey", "pruned", "lock", "blobs/0.pack", "../journal.head"]
)
def test_a_pipe_in_the_folder_is_not_waited_for(forged: Forged, name: str) -> None:
    forged.commit()
    pipe = forged.written() / name
    pipe.unlink(missing_ok=True)
    pipe.parent.mkdir(exist_ok=True)
    os.mkfifo(pipe)
    assert verdict(forged.folder) is Verdict.UNKNOWN


def test_only_what_is_called_as_one_is_a_segment(forged: Forged) -> None:
    forged.commit()
    forged.written()
    for name in ("1.jsonl", "0000000000000.jsonl", "\u0660" * 12 + ".jsonl", "+00000000001.jsonl"):
        (forged.folder / name).write_bytes(b"=\n")
    assert segments(forged.folder) == [0]
    assert verdict(forged.folder) is Verdict.VERIFIED


def test_a_checkpoint_may_be_signed_by_others_too(tmp_path: Path) -> None:
    """C2SP: any name without spaces and plus, and up to 16 signatures of almost 5 kB."""
    folder = tmp_path / "journal"
    with closing(Journal.open_sync(folder, origin=ORIGIN)) as log:
        log.append_sync(Draft("a.b"))
        note = log.checkpoint().note
    large = commit_line(bytes(4 + 4950))[1:]
    for number in range(15):
        note += f"\N{EM DASH} zeuge-ü{number}.example/{'x' * 120} ".encode() + large + b"\n"
    assert verify(folder, since=[("mine", note)]).verdict is Verdict.VERIFIED
    for name in (b"a+b", "a\u2003b".encode(), b""):
        other = note + b"\xe2\x80\x94 " + name + b" AAAAAAAA\n"
        with pytest.raises(JournalDamagedError):
            Checkpoint.parse(other)
