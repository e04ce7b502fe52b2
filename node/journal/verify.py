"""Verification of a log from its folder and a key alone, in one pass and little memory.

Two questions, answered apart. Is the log internally consistent: does every commit fit its entries,
does every seal bear its epoch key's signature, do the seals lead from the first key to the last?
And is it consistent with a checkpoint kept elsewhere? Only the second can catch a log that was cut
short, rolled back, or rewritten by whoever holds its keys.

Each commit names the hash of the commit line before it, so the signature at the end of a segment
vouches for all of its commit lines; `thorough` verifies every one, and parses every entry.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from node.errors import JournalDamagedError, JournalError, JournalVersionError
from node.journal.blobaudit import BlobAudit, BlobReport
from node.journal.entry import parse
from node.journal.head import believed, head_beside, read_head
from node.journal.lock import is_locked
from node.journal.note import Checkpoint, VerifierKey, handed_over
from node.journal.opening import first_key
from node.journal.pruned import Pruned, read_pruned
from node.journal.segment import (
    Batch,
    Scan,
    read_commit,
    scan,
    segment_path,
    segments,
)
from node.journal.tail import damaged, unfinished, unreadable
from node.journal.tree import Frontier


class Verdict(StrEnum):
    """What can be said: `verified`, `failed`, or `unknown` where it cannot be told."""

    VERIFIED = "verified"
    FAILED = "failed"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Against:
    """A checkpoint from elsewhere and whether the log is consistent with it."""

    source: str
    size: int
    verdict: Verdict
    reason: str = ""


@dataclass
class AuditReport:
    """What verification found. `problems` name the first bad index where there is one; of a log
    that a newer version wrote `hint` says what to do."""

    folder: str
    origin: str = ""
    size: int = 0
    root: str = ""
    pruned: int = 0
    epochs: int = 0
    key: str = ""
    internal: Verdict = Verdict.UNKNOWN
    against: list[Against] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    hint: str = ""
    blobs: BlobReport = field(default_factory=BlobReport)

    @property
    def verdict(self) -> Verdict:
        """The worst of all that was asked."""
        asked = [self.internal, *(one.verdict for one in self.against)]
        if not self.blobs.whole:
            return Verdict.FAILED
        for worst in (Verdict.FAILED, Verdict.UNKNOWN):
            if worst in asked:
                return worst
        return Verdict.VERIFIED


def verify(
    folder: Path,
    *,
    vkey: VerifierKey | None = None,
    since: Sequence[tuple[str, bytes]] = (),
    head: Path | None = None,
    blobs: bool = True,
    thorough: bool = False,
) -> AuditReport:
    """Verifies a log. Never raises for what it finds; everything is in the report.

    Args:
        folder: the journal's.
        vkey: the key to believe, of any epoch; where None, the one in the folder.
        since: checkpoints kept elsewhere, as (name, signed note).
        head: the file of the kept head, which must hold one of this log; by default the one beside
            the folder, if it is there.
        blobs: whether to read and check all content kept beside the log.
        thorough: whether to verify every commit's signature and parse every entry.
    """
    report = AuditReport(str(folder))
    beside = head_beside(folder)
    try:
        _no_pipes([beside, *folder.rglob("*")])
        audit = BlobAudit(folder) if blobs else None
        run = _Verification(folder, vkey, report, audit, thorough=thorough)
        run.expect(since, read_head(head or beside), named=head)
        run.whole()
    except JournalDamagedError as error:
        report.internal = Verdict.FAILED
        report.problems.append(error.message)
    except (JournalError, OSError) as error:
        report.internal = Verdict.UNKNOWN
        report.problems.append(str(error))
        report.hint = error.hint if isinstance(error, JournalVersionError) else ""
    if not report.against:
        why = "the log itself could not be verified"
        report.against = [Against(name, 0, Verdict.UNKNOWN, why) for name, _ in since]
    return report


def _no_pipes(paths: list[Path]) -> None:
    """Raises JournalError at what would be waited for without end, in a folder of anyone's."""
    for path in paths:
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise JournalError(f"{path} is no file")


class _Verification:
    """One pass over a folder; also what watches the scan."""

    def __init__(
        self,
        folder: Path,
        vkey: VerifierKey | None,
        report: AuditReport,
        blobs: BlobAudit | None,
        *,
        thorough: bool,
    ) -> None:
        self.folder, self.vkey, self.report = folder, vkey, report
        self.blobs, self.thorough = blobs, thorough
        self.since: list[tuple[str, Checkpoint | None]] = []
        self.heads: list[Checkpoint] = []
        self.named: Path | None = None  # where the head must be
        self.roots: dict[int, bytes] = {}
        self.keys: list[VerifierKey] = []
        self.signers: set[VerifierKey] = set()  # a seal may name any key as the next
        self.unsaid = 0  # where the log begins, until an entry says that what was before it went
        self.held: Batch | None = None  # until its commit is known to be good

    def expect(
        self, since: Sequence[tuple[str, bytes]], heads: list[Checkpoint], *, named: Path | None
    ) -> None:
        """Takes the checkpoints whose roots must be met on the way."""
        self.heads, self.named = heads, named
        for name, note in since:
            try:
                self.since.append((name, Checkpoint.parse(note)))
            except JournalDamagedError:
                self.since.append((name, None))
        points = [point for _, point in self.since if point]
        self.roots = {point.size: b"" for point in [*points, *heads]}

    def whole(self) -> None:
        """Reads everything. Raises JournalDamagedError at the first thing that is wrong."""
        genesis, live = first_key(self.folder), is_locked(self.folder)
        if genesis is None:
            raise JournalError(f"there is no log in {self.folder}")
        pruned = read_pruned(self.folder, genesis)
        self.keys, self.signers = list(pruned.keys), set(pruned.keys[:-1])
        self.report.origin, self.report.pruned = genesis.name, pruned.size
        self.report.internal = Verdict.VERIFIED
        self.unsaid = pruned.size
        found = self._segments(pruned, live)
        self._trust()
        if self.unsaid:
            text = f"the entries before {self.unsaid} are gone, and no entry says they were pruned"
            raise JournalDamagedError(text)
        self.report.size, self.report.root = found.frontier.size, found.frontier.root().hex()
        self.report.epochs = len(self.keys)
        self.report.against = [self._compare(name, point) for name, point in self.since]
        if kept := believed(self.heads, self.keys):
            self.report.against.append(self._compare("the kept head", kept))
        elif self.named:
            why = f"{self.named} holds no head of this log"
            self.report.against.append(Against("the kept head", 0, Verdict.UNKNOWN, why))
        if self.blobs:
            self.report.blobs = self.blobs.finish(self.report.size, live=live)

    def _segments(self, pruned: Pruned, live: bool) -> Scan:
        firsts = [first for first in segments(self.folder) if first >= pruned.size]
        found = Scan(pruned.size, pruned.frontier.copy(), pruned.chain)
        self._meet(found.frontier)
        for first in firsts:
            if first != found.frontier.size or (found.last and not found.last.sealed):
                raise JournalDamagedError(f"the segment from entry {found.frontier.size} is gone")
            found = self._segment(found, last=first == firsts[-1], live=live)
        if found.last is None and not pruned.size and len(firsts) < 2:
            raise JournalDamagedError("the log has no commit at all")
        return found

    def _segment(self, before: Scan, *, last: bool, live: bool) -> Scan:
        path = segment_path(self.folder, before.frontier.size)
        watch = self if self.thorough or self.blobs or self.roots or self.unsaid else None
        origin = self.keys[0].name
        found = scan(path, before.frontier, before.chain, origin, watch, room=last)
        if found.last:
            self._take(found.last.line)
            self._signed(found.last.line, f"entries {found.doubtful} to {found.last.size}")
            if found.last.sealed:
                self.keys.append(handed_over(found.last.checkpoint(), self.keys[-1]))
        if found.wrong:
            self._tail(path, found, live and last)
        if found.wrong and not last:
            raise damaged(found)
        if self.blobs:
            self.blobs.segment_done(found.first)
        return found

    def _signed(self, line: bytes, what: str) -> None:
        if not read_commit(line).signed_by(self.keys[-1]):
            text = f"the commit of {what} is not signed by its epoch's key"
            raise JournalDamagedError(text)
        self.signers.add(self.keys[-1])

    def _tail(self, path: Path, found: Scan, live: bool) -> None:
        """Judges what follows the last good commit. Raises JournalDamagedError."""
        where = f"bytes after entry {found.frontier.size - 1} are covered by no commit"
        if not unfinished(path, found, self.keys[-1]):
            raise unreadable(path, found, self.keys[-1])
        if live:
            self.report.notes.append(f"{where}: the writer is at work")
        else:
            self.report.internal = Verdict.UNKNOWN
            self.report.problems.append(f"{where}: a write, or the log, was cut short")

    def _trust(self) -> None:
        self.report.key = str(self.vkey or self.keys[0])
        if self.vkey is None:
            self.report.notes.append("no key was given: believed the one in the folder")
        elif self.vkey not in self.keys:
            raise JournalDamagedError("the log is not signed by the key given")
        elif self.vkey not in self.signers:
            self.report.internal = Verdict.UNKNOWN
            self.report.problems.append(
                "the key given has signed nothing here: the last seal names it as the next, and "
                "anybody's seal could. Give the key of an epoch before"
            )

    def _compare(self, name: str, point: Checkpoint | None) -> Against:
        if point is None:
            return Against(name, 0, Verdict.UNKNOWN, "it is not a checkpoint")
        if self.report.pruned > point.size and point.origin == self.report.origin:
            return Against(name, point.size, Verdict.UNKNOWN, "it is in the pruned part")
        why = self._why_not(point)
        return Against(name, point.size, Verdict.FAILED if why else Verdict.VERIFIED, why)

    def _why_not(self, point: Checkpoint) -> str:
        if point.origin != self.report.origin:
            return f"it is of another log, {point.origin!r}"
        if point.size > self.report.size:
            return f"the log ends before it, at {self.report.size}"
        if not any(point.signed_by(key) for key in self.keys):
            return "no key of this log signed it"
        return "" if self.roots[point.size] == point.root else "the log was rewritten since"

    # ── the scan's watch ────────────────────────────────────────────────────────────────────

    def batch(self, frontier: Frontier, batch: Batch) -> None:
        """See `Watch`."""
        if self.held:
            self._take(self.held.commit)
        self.held = batch
        end = batch.first + len(batch.lines)
        for size in sorted(size for size in self.roots if batch.first < size < end):
            frontier.extend(batch.leaves[frontier.size - batch.first : size - batch.first])
            self._meet(frontier)
        frontier.extend(batch.leaves[frontier.size - batch.first :])
        self._meet(frontier)

    def _take(self, good: bytes) -> None:
        """Looks into the batch held if `good` is its commit; what no commit covers is not."""
        batch, self.held = self.held, None
        if batch is None or batch.commit != good:
            return
        if self.blobs:
            self.blobs.entries(batch.lines, batch.first)
        if self.unsaid:
            self._said(batch)
        if self.thorough:
            self._signed(batch.commit, f"the entries from {batch.first}")
            for index, line in enumerate(batch.lines, batch.first):
                parse(line, index, thorough=True)

    def _said(self, batch: Batch) -> None:
        """Looks for the entry that comes before any pruning."""
        for line in [x for x in batch.lines if b',"type":"log.pruned",' in x]:
            entry = parse(line)
            if entry.type == "log.pruned" and entry.data.get("size") == self.unsaid:
                self.unsaid = 0
                return

    def _meet(self, frontier: Frontier) -> None:
        if frontier.size in self.roots:
            self.roots[frontier.size] = frontier.root()
