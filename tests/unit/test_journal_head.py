"""The kept head: what it refuses, what its own damage must not, and who keeps it."""

from __future__ import annotations

import asyncio
import shutil
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from node.errors import JournalError, JournalRollbackError, JournalWriteError
from node.journal import Draft, Journal, Verdict, verify
from node.journal.head import read_head

ORIGIN = "test.example/log"
SLOT_BYTES = 2048


def opened(folder: Path, **options: Any) -> Journal:
    return Journal.open_sync(folder, origin=ORIGIN, **options)


def grow(folder: Path, kind: str = "a.b", *, times: int = 1) -> None:
    with closing(opened(folder)) as log:
        for _ in range(times):
            log.append_sync(Draft(kind))


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A log of three entries; its kept head is beside it."""
    grow(tmp_path / "journal", times=3)
    return tmp_path / "journal"


@pytest.fixture
def head(log: Path) -> Path:
    return log.with_name("journal.head")


def test_a_head_whose_bits_fell_over_keeps_no_log_from_starting(log: Path, head: Path) -> None:
    good = head.read_bytes()
    for at in range(0, len(good), 9):
        if good[at]:
            head.write_bytes(good[:at] + bytes([good[at] ^ 1 << at % 7]) + good[at + 1 :])
            with closing(opened(log)) as again:
                assert again.size == 3
    grow(log)
    found = read_head(head)
    assert (found and found[0].size, verify(log, head=head).verdict) == (4, Verdict.VERIFIED)


@pytest.mark.parametrize("torn", [0, 1])
def test_a_head_that_a_power_cut_tore_leaves_the_one_before(
    log: Path, head: Path, torn: int, tmp_path: Path
) -> None:
    shutil.copytree(log, tmp_path / "old")
    grow(log, times=3)
    raw = bytearray(head.read_bytes())
    assert len(raw) > SLOT_BYTES
    raw[torn * SLOT_BYTES + 20 : torn * SLOT_BYTES + 500] = bytes(480)
    (tmp_path / "old.head").write_bytes(raw)
    with pytest.raises(JournalRollbackError, match="has 3 entries"):
        opened(tmp_path / "old")


def test_a_log_that_went_another_way_than_its_head_is_refused(
    log: Path, head: Path, tmp_path: Path
) -> None:
    """It is longer, too, so that its size says nothing."""
    shutil.copytree(log, tmp_path / "other")
    grow(log)
    grow(tmp_path / "other", "a.c", times=5)
    shutil.copy(head, tmp_path / "other.head")
    with pytest.raises(JournalRollbackError, match="not the one whose head was kept at 4"):
        opened(tmp_path / "other")


def test_a_pruned_log_without_its_hashes_may_be_ahead_of_its_head(log: Path, head: Path) -> None:
    with closing(opened(log)) as journal:
        asyncio.run(journal.rotate())
        asyncio.run(journal.prune(3))
    kept = head.read_bytes()
    grow(log, times=2)
    head.write_bytes(kept)  # a power cut: it is written without a sync
    shutil.rmtree(log / "tree")
    grow(log)
    assert verify(log).verdict is Verdict.VERIFIED


def test_a_head_that_is_gone_is_kept_again_from_the_start_on(log: Path, head: Path) -> None:
    head.unlink()
    opened(log).close()
    assert [point.size for point in read_head(head)] == [3]


def test_a_head_that_cannot_be_read_is_not_taken_for_none(log: Path, head: Path) -> None:
    head.unlink()
    head.mkdir()
    with pytest.raises(JournalError, match="cannot read the kept head"):
        opened(log)
    assert verify(log).verdict is Verdict.UNKNOWN


def test_a_log_whose_head_cannot_be_kept_stops(log: Path, tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere" / "head"
    with pytest.raises(JournalWriteError, match="head could not be kept"):
        opened(log, head=nowhere)
    with (
        closing(opened(tmp_path / "new", head=nowhere)) as journal,
        pytest.raises(JournalWriteError, match="head could not be kept"),
    ):
        journal.append_sync(Draft("a.b"))
