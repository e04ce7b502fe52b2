"""What is told to be durable is so on macOS as well, where fsync alone does not do it."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from contextlib import nullcontext
from pathlib import Path

import pytest

from node import disk

FULL = 51  # F_FULLFSYNC of macOS


class MacOs:
    """Its fcntl and fsync, written down."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, error: int = 0) -> None:
        self.calls: list[str] = []
        self.error = error
        monkeypatch.setattr(disk, "_FULL", FULL)
        monkeypatch.setattr(fcntl, "fcntl", self._fcntl)
        monkeypatch.setattr(os, "fsync", lambda _fd: self.calls.append("fsync"))

    def _fcntl(self, _fd: int, command: int) -> int:
        assert command == FULL
        if self.error:
            raise OSError(self.error, os.strerror(self.error))
        self.calls.append("full")
        return 0


def test_the_drives_own_cache_is_emptied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mac = MacOs(monkeypatch)
    disk.sync_folder(tmp_path)
    assert mac.calls == ["full"]


def test_a_file_system_that_cannot_do_that_is_asked_for_what_it_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mac = MacOs(monkeypatch, errno.ENOTSUP)
    disk.sync_folder(tmp_path)
    assert mac.calls == ["fsync"]


def test_a_disk_that_fails_is_not_asked_until_it_says_yes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mac = MacOs(monkeypatch, errno.EIO)
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        disk.sync_folder(tmp_path)
    assert mac.calls == []


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP, errno.EIO])
def test_a_share_that_cannot_sync_a_folder_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def fails(_fd: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(disk, "_FULL", None)
    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(OSError, match="error") if code == errno.EIO else nullcontext():
        disk.sync_folder(tmp_path)
    with pytest.raises(OSError, match=os.strerror(code)):
        disk.sync(0)


def test_who_only_looks_keeps_nobody_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`freehold status`, `doctor` and `audit verify` look while a node may be starting."""
    path = tmp_path / "lock"
    with path.open("wb") as mine, path.open("rb") as looks:
        fcntl.flock(looks, fcntl.LOCK_SH)
        waits: list[float] = []

        def looked(seconds: float) -> None:
            waits.append(seconds)
            if len(waits) == 3:
                fcntl.flock(looks, fcntl.LOCK_UN)
                with path.open("rb") as other:  # who waits keeps nobody else out
                    fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)

        monkeypatch.setattr(time, "sleep", looked)
        assert disk.lock(mine.fileno())
        assert len(waits) == 3
        with path.open("rb") as second:
            assert not disk.lock(second.fileno())
        fcntl.flock(mine, fcntl.LOCK_SH)
        with path.open("rb") as second:
            assert not disk.lock(second.fileno()), "a look that does not end"
    assert len(waits) > 10


def test_a_folder_is_listed_in_order_and_what_is_none_holds_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    assert disk.listed(tmp_path / "none") == disk.listed(tmp_path / "file") == []
    monkeypatch.setattr(os, "listdir", lambda _: ["b.toml", "c", "a.toml"])
    assert disk.listed(tmp_path, "*.toml") == [tmp_path / "a.toml", tmp_path / "b.toml"]


def test_here_files_are_synced_too(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file:
        disk.sync(file.fileno())
        disk.sync_data(file.fileno())
    with pytest.raises(OSError, match="Bad file descriptor"):
        disk.sync(1 << 20)
