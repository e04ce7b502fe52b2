"""The index of the log where its file cannot be used just now."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from node.errors import JournalReadError
from node.journal import Draft, Journal


@contextmanager
def disk_is_full() -> Iterator[None]:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@contextmanager
def no_file_can_be_opened() -> Iterator[None]:
    limits, taken = resource.getrlimit(resource.RLIMIT_NOFILE), list[int]()
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, limits[1]))
    try:
        with suppress(OSError):
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for descriptor in taken:
            os.close(descriptor)


@pytest.mark.parametrize("short", [disk_is_full, no_file_can_be_opened])
async def test_an_index_that_cannot_be_opened_just_now_is_kept(
    tmp_path: Path, short: Callable[[], Iterator[None]]
) -> None:
    """Making it anew reads all of the log, and takes minutes where that is long."""
    journal = await Journal.open(tmp_path / "journal", origin="test.example/log")
    await journal.append(Draft("a.b", run="r"), Draft("a.c", run="r"))
    assert journal.index.find(run="r") == [0, 1]
    journal.index.close()
    file = tmp_path / "journal" / "index.db"
    before = file.read_bytes()
    with short(), pytest.raises(JournalReadError, match="cannot be read"):
        journal.index.find(run="r")
    assert file.read_bytes() == before
    assert journal.index.find(run="r") == [0, 1]
    await journal.aclose()
