"""A cut of a log that is written to, and whose keys change, is a log that opens."""

from __future__ import annotations

import io
import tarfile
import threading
from pathlib import Path

from node import backup
from node.home import Home
from node.journal import Draft, Journal, verify

CUTS = 12
ENTRIES = 4  # in a segment, so that keys change all the time
BURST = 60  # appends while one cut is made: on a fast disk the log would outgrow its copies


def test_every_cut_of_a_busy_log_opens(tmp_path: Path) -> None:
    home = Home(tmp_path / "h")
    home.create()
    log = Journal.open_sync(home.journal, origin="test/log", segment_entries=ENTRIES)
    done, permits = threading.Event(), threading.Semaphore(0)

    def busy() -> None:
        while permits.acquire() and not done.is_set():
            blob = log.put_blob(b"content", "value")
            log.append_sync(Draft("step.result", blobs=(blob,)), Draft("step.intent"))

    writer = threading.Thread(target=busy)
    writer.start()
    try:
        for number in range(CUTS):
            before = log.size
            permits.release(BURST)
            opened = unpack(home, tmp_path / f"cut{number}")
            copy = Journal.open_sync(opened, origin="test/log", segment_entries=ENTRIES)
            try:
                assert copy.size >= before
                for entry in copy.entries():
                    assert all(copy.blob(ref) == b"content" for ref in entry.draft.blobs)
                copy.append_sync(Draft("node.started"))
            finally:
                copy.close()
            assert verify(opened).problems == []
    finally:
        done.set()
        permits.release()
        writer.join()
        log.close()
    assert log.size > ENTRIES * 3


def unpack(home: Home, target: Path) -> Path:
    """The journal out of an archive made right now."""
    packed = io.BytesIO()
    backup.write(home, "test", 0, packed)
    packed.seek(0)
    with tarfile.open(fileobj=packed) as tar:
        tar.extractall(target, filter="data")
    return target / "journal"
