"""A history of years in few files, of which none is missed, whatever happens on the way."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Any

import pygit2
import pytest

from node.clock import ManualClock
from node.disk import listed
from node.runs import workspace, workspace_packs
from node.runs.workspace import Workspaces


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "clerk").mkdir()
    return tmp_path


def objects(home: Path) -> Path:
    return home / ".git-clerk" / "objects"


def loose(home: Path) -> list[Path]:
    return list(workspace_packs._loose(objects(home)))


def packs(home: Path) -> list[Path]:
    return listed(objects(home) / "pack", "*.pack")


async def fill(workspaces: Workspaces, home: Path, *, runs: range) -> None:
    for run in runs:
        (home / "clerk" / f"{run % 3}.txt").write_text(f"of run {run}\n" * 20)
        assert await workspaces.keep("clerk", run=f"r{run}", key=f"r{run}:9", note="completed")


async def check(home: Path, runs: int) -> None:
    """Every version can be gone back to, by who opens the history anew."""
    workspaces = Workspaces(home, clock=ManualClock(), loose=10_000)
    log = await workspaces.log("clerk", limit=1000)
    assert [version.run for version in log] == [f"r{run}" for run in reversed(range(runs))]
    assert await workspaces.find("clerk", "r1:9") == log[-2]
    await workspaces.rollback("clerk", log[-1].id)
    kept = {path.name: path.read_text() for path in (home / "clerk").iterdir()}
    assert kept == {"0.txt": "of run 0\n" * 20}


async def test_many_loose_objects_become_a_pack(home: Path) -> None:
    workspaces = Workspaces(home, clock=ManualClock(), loose=30)
    await fill(workspaces, home, runs=range(9))  # a blob, a tree and a commit each, and no file
    assert (len(loose(home)), len(packs(home))) == (28, 0)
    await fill(workspaces, home, runs=range(9, 10))
    assert (len(loose(home)), len(packs(home))) == (0, 1)
    await fill(workspaces, home, runs=range(10, 21))
    assert (len(loose(home)), len(packs(home))) == (0, 2)
    await check(home, 21)


async def test_what_a_crash_leaves_twice_is_packed_once(home: Path) -> None:
    workspaces = Workspaces(home, clock=ManualClock(), loose=8)
    await fill(workspaces, home, runs=range(2))
    kept = {path: path.read_bytes() for path in loose(home)}
    await fill(workspaces, home, runs=range(2, 3))
    (only,) = packs(home)
    for path, content in kept.items():  # as where the process died before it removed them
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    workspaces = Workspaces(home, clock=ManualClock(), loose=8)
    await fill(workspaces, home, runs=range(3, 4))
    assert loose(home) == []
    assert only in packs(home)
    with_twice = pygit2.Odb()
    with_twice.add_backend(pygit2.OdbBackendPack(str(objects(home))), 1)
    assert len(list(with_twice)) == 13
    await check(home, 4)


async def test_what_a_crash_leaves_half_is_removed(home: Path) -> None:
    await fill(Workspaces(home, clock=ManualClock(), loose=2), home, runs=range(2))
    for name in ("pack_git2_a1b2c3", "pack-0123.idx.lock"):
        (objects(home) / "pack" / name).write_bytes(b"half")
    await check(home, 2)
    assert {path.suffix for path in listed(objects(home) / "pack")} == {".pack", ".idx"}


async def test_nothing_is_removed_that_its_pack_does_not_give_back(
    home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write = pygit2.PackBuilder.write

    def torn(builder: Any, path: str | None = None) -> None:
        write(builder, path)
        for pack in packs(home):
            pack.chmod(0o600)
            raw = bytearray(pack.read_bytes())
            raw[len(raw) // 2] ^= 1
            pack.write_bytes(raw)

    monkeypatch.setattr(pygit2.PackBuilder, "write", torn)
    workspaces = Workspaces(home, clock=ManualClock(), loose=8)
    with caplog.at_level(logging.WARNING):
        await fill(workspaces, home, runs=range(5))
    assert (len(loose(home)), packs(home)) == (16, [])
    assert caplog.text.count("the history of clerk's files stays in many files") == 1
    await check(home, 5)


async def test_a_damaged_object_keeps_no_run_from_ending(home: Path) -> None:
    workspaces = Workspaces(home, clock=ManualClock(), loose=14)
    await fill(workspaces, home, runs=range(4))
    replaced = str(pygit2.hash(b"of run 0\n" * 20))
    path = objects(home) / replaced[:2] / replaced[2:]
    path.chmod(0o600)
    path.write_bytes(b"")
    await fill(workspaces, home, runs=range(4, 7))
    assert (len(loose(home)), packs(home)) == (22, [])


async def test_what_could_not_be_packed_is_once_there_is_room_again(
    home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    workspaces = Workspaces(home, clock=ManualClock(), loose=9)
    await fill(workspaces, home, runs=range(1))
    (objects(home) / "pack").rmdir()
    (objects(home) / "pack").touch()
    with caplog.at_level(logging.WARNING):
        await fill(workspaces, home, runs=range(1, 4))
    assert "the history of clerk's files stays in many files" in caplog.text
    (objects(home) / "pack").unlink()
    (objects(home) / "pack").mkdir()
    await fill(workspaces, home, runs=range(4, 7))
    assert (len(loose(home)), len(packs(home))) == (0, 1)
    await check(home, 7)


async def test_objects_are_counted_when_there_can_be_many(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not at each commit: that lists 256 folders."""
    counted: list[int] = []
    pack = workspace.pack_loose

    def count(repository: Any, *, most: int) -> int:
        counted.append(pack(repository, most=most))
        return counted[-1]

    monkeypatch.setattr(workspace, "pack_loose", count)
    await fill(Workspaces(home, clock=ManualClock(), loose=25), home, runs=range(17))
    assert counted == [4, 0]


async def test_who_reads_meanwhile_misses_nothing(home: Path) -> None:
    workspaces = Workspaces(home, clock=ManualClock(), loose=100)
    await fill(workspaces, home, runs=range(30))
    reader = pygit2.Repository(str(home / ".git-clerk"))
    wanted = [path.parent.name + path.name for path in loose(home)]
    done, missed = threading.Event(), list[str]()

    def read() -> None:
        while not done.is_set():
            missed.extend(name for name in wanted if name not in reader)

    thread = threading.Thread(target=read)
    thread.start()
    try:
        left = workspace_packs.pack_loose(
            pygit2.Repository(str(home / ".git-clerk")), most=len(wanted) - 1
        )
    finally:
        done.set()
        thread.join()
    assert (left, loose(home), missed) == (0, [], [])
