"""Agents' files under version control, and what they may not lead git to do."""

from __future__ import annotations

import asyncio
import errno
import os
import subprocess
import sys
import threading
import tracemalloc
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pygit2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.clock import ManualClock
from node.errors import WorkspaceError
from node.names import is_kept
from node.runs import workspace, workspace_files, workspace_history
from node.runs.workspace import Workspaces
from node.runs.workspace_files import MAX_FILE_BYTES, each_file, restore_files
from node.runs.workspace_history import Version


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "workspaces"


@pytest.fixture
def files(home: Path) -> Path:
    folder = home / "clerk"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def workspaces(home: Path) -> Workspaces:
    return Workspaces(home, clock=ManualClock())


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def plant_link(home: Path, elsewhere: Path) -> None:
    home.mkdir()
    elsewhere.mkdir()
    (elsewhere / "a").write_text("1")
    (home / "clerk").symlink_to(elsewhere)


async def keep(workspaces: Workspaces, run: str) -> str:
    version = await workspaces.keep("clerk", run=run, key=f"{run}:9", note="completed")
    assert version is not None
    return version.id


async def test_one_commit_for_what_changed_and_none_for_nothing(
    workspaces: Workspaces, files: Path
) -> None:
    (files / "sub").mkdir()
    (files / "sub" / "a.txt").write_text("1")
    first = await workspaces.keep("clerk", run="r1", key="r1:9", note="completed")
    assert first is not None
    assert (first.run, first.author, first.changed) == ("r1", "clerk", ("sub/a.txt",))
    assert await workspaces.keep("clerk", run="r2", key="r2:9", note="completed") is None
    assert [version.id for version in await workspaces.log("clerk")] == [first.id]


async def test_an_empty_workspace_has_no_history(workspaces: Workspaces) -> None:
    assert await workspaces.keep("clerk", run="r1", key="r1:9", note="completed") is None
    assert await workspaces.log("clerk") == ()
    assert await workspaces.diff("clerk") == ""


def test_the_history_is_synced_as_the_files_are(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """libgit2 leaves its objects to the system unless it is told."""
    told: list[bool] = []
    monkeypatch.setattr(type(pygit2.settings), "enable_fsync_gitdir", lambda _, on: told.append(on))
    Workspaces(home, clock=ManualClock())
    assert told == [True]


@pytest.mark.parametrize("packed", [False, True])
async def test_a_history_that_an_archive_took_without_its_empty_folders(
    workspaces: Workspaces, home: Path, files: Path, packed: bool
) -> None:
    """Archives hold files only: what is empty before a first commit, or once refs are packed."""
    git = home / ".git-clerk"
    if packed:
        (files / "a").write_text("1")
        await workspaces.keep("clerk", run="r0", key="k0", note="n")
        head = pygit2.Repository(str(git)).references["refs/heads/main"].target
        (git / "packed-refs").write_text(f"{head} refs/heads/main\n")
        (git / "refs" / "heads" / "main").unlink()
    else:
        assert await workspaces.keep("clerk", run="r0", key="k0", note="n") is None
    for folder in sorted((path for path in git.rglob("*") if path.is_dir()), reverse=True):
        if not any(folder.iterdir()):
            folder.rmdir()
    assert not (git / "refs").exists()

    restored = Workspaces(home, clock=ManualClock())
    (files / "b").write_text("2")
    kept = await restored.keep("clerk", run="r1", key="k1", note="n")
    assert kept is not None
    assert [each.run for each in await restored.log("clerk")] == ["r1", "r0"][: 1 + packed]


async def test_a_step_commits_once(workspaces: Workspaces, files: Path) -> None:
    (files / "a").write_text("1")
    first = await keep(workspaces, "r1")
    (files / "a").write_text("2")
    assert await keep(workspaces, "r1") == first
    assert len(await workspaces.log("clerk")) == 1


async def test_an_interrupted_commit_is_found_by_its_key(
    workspaces: Workspaces, files: Path
) -> None:
    (files / "a").write_text("1")
    effect = workspaces.commit("clerk", "r1", "completed")
    assert await effect.settle("r1:9") is None
    done = await effect.perform("r1:9")
    assert await effect.settle("r1:9") == done
    assert await effect.settle("r1:90") is None
    assert done.value == {
        "commit": (await workspaces.log("clerk"))[0].id,
        "changed": ["a"],
        "count": 1,
    }


async def test_the_newest_is_told_without_reading_a_long_history(
    workspaces: Workspaces, files: Path, home: Path
) -> None:
    """Each commit is a file of its own, and each run that wrote anything looks at the newest."""
    made = []
    for number in range(5):
        (files / "a").write_text(str(number))
        made.append(await keep(workspaces, f"r{number}"))
    oldest = home / ".git-clerk" / "objects" / made[0][:2] / made[0][2:]
    oldest.unlink()
    assert [version.id for version in await workspaces.log("clerk", 2)] == [made[4], made[3]]


async def test_diff_shows_what_is_not_kept_yet_and_between_versions(
    workspaces: Workspaces, files: Path
) -> None:
    (files / "a").write_text("one\n")
    first = await keep(workspaces, "r1")
    (files / "a").write_text("two\n")
    assert "-one\n+two\n" in await workspaces.diff("clerk")
    second = await keep(workspaces, "r2")
    assert await workspaces.diff("clerk") == ""
    assert "-one\n+two\n" in await workspaces.diff("clerk", first[:8], second)
    assert "-two\n+one\n" in await workspaces.diff("clerk", second, first)


async def test_rollback_is_a_new_commit_and_loses_nothing(
    workspaces: Workspaces, files: Path
) -> None:
    (files / "a").write_text("one")
    (files / "old").mkdir()
    (files / "old" / "b").write_text("b")
    first = await keep(workspaces, "r1")
    (files / "a").write_text("two")
    (files / "old" / "b").unlink()
    (files / "old").rmdir()
    (files / "new").mkdir()
    (files / "new" / "c").write_text("not kept yet")
    back = await workspaces.rollback("clerk", first)
    assert back is not None
    assert dict(each_file(files)) == {"a": b"one", "old/b": b"b"}
    assert not (files / "new").exists()
    log = await workspaces.log("clerk")
    assert [version.author for version in log] == ["owner", "owner", "clerk"]
    undone = await workspaces.rollback("clerk", log[1].id)
    assert undone is not None
    assert dict(each_file(files)) == {"a": b"two", "new/c": b"not kept yet"}


async def test_a_rollback_holds_a_file_in_memory_and_not_all(
    workspaces: Workspaces, files: Path
) -> None:
    for number in range(12):
        (files / f"{number}").write_bytes(os.urandom(1 << 20))
    first = await keep(workspaces, "r1")
    for number in range(0, 12, 2):
        (files / f"{number}").write_bytes(os.urandom(1 << 20))
    tracemalloc.start()
    try:
        assert await workspaces.rollback("clerk", first) is not None
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 16 << 20  # 8 MiB are asked for at a time


async def test_a_rollback_to_what_is_damaged_changes_nothing(
    home: Path, workspaces: Workspaces, files: Path
) -> None:
    for name in ("a", "b"):
        (files / name).write_text(f"{name}, as it was")
    first = await keep(workspaces, "r1")
    (files / "a").write_text("new")
    (files / "b").unlink()
    blob = str(pygit2.hash(b"b, as it was"))
    (home / ".git-clerk" / "objects" / blob[:2] / blob[2:]).unlink()
    with pytest.raises(WorkspaceError):
        await workspaces.rollback("clerk", first)
    assert dict(each_file(files)) == {"a": b"new"}


@pytest.mark.parametrize("version", ["", "HEAD", "zz", "main", "--all", "../x", "ffff"])
async def test_an_unknown_version_is_refused(
    workspaces: Workspaces, files: Path, version: str
) -> None:
    (files / "a").write_text("1")
    await keep(workspaces, "r1")
    with pytest.raises(WorkspaceError, match="no version"):
        await workspaces.rollback("clerk", version)


@pytest.mark.parametrize("agent", ["../x", "", ".git-clerk", "a/b", "A"])
async def test_what_is_no_agents_name_is_refused(workspaces: Workspaces, agent: str) -> None:
    with pytest.raises(WorkspaceError):
        await workspaces.log(agent)


async def test_the_history_is_out_of_the_agents_reach(
    workspaces: Workspaces, files: Path, home: Path
) -> None:
    (files / "a").write_text("1")
    await keep(workspaces, "r1")
    assert names(files) == ["a"]
    assert (home / ".git-clerk" / "HEAD").is_file()


def test_links_and_special_files_are_left_out_and_never_followed(
    files: Path, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "key").write_text("do not read")
    (files / "a").write_text("1")
    (files / "link").symlink_to(secret / "key")
    (files / "folder").symlink_to(secret)
    (files / "loop").symlink_to(files)
    os.link(secret / "key", files / "hard")
    os.mkfifo(files / "pipe")
    (files / ".git").mkdir()
    (files / ".git" / "config").write_text("[core]")
    (files / "big").write_bytes(b"x" * (MAX_FILE_BYTES + 1))
    (files / "line\nbreak").write_text("2")
    assert dict(each_file(files)) == {"a": b"1"}


def test_restoring_writes_through_no_link(files: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "a").write_text("safe")
    (files / "sub").symlink_to(outside)
    (files / "file").symlink_to(outside / "a")
    with pytest.raises((WorkspaceError, OSError)):
        restore_files(files, {"sub/a": b"evil"})
    restore_files(files, {"file": b"new"})
    assert (outside / "a").read_text() == "safe"
    assert (files / "file").read_bytes() == b"new"
    assert not (files / "file").is_symlink()


async def test_rolling_back_into_a_link_is_an_error_of_the_tree(
    workspaces: Workspaces, files: Path, tmp_path: Path
) -> None:
    (files / "sub").mkdir()
    (files / "sub" / "a").write_text("1")
    first = await keep(workspaces, "r1")
    (files / "sub" / "a").unlink()
    (files / "sub").rmdir()
    (files / "sub").symlink_to(tmp_path)
    with pytest.raises(WorkspaceError):
        await workspaces.rollback("clerk", first)
    assert not (tmp_path / "a").exists()


async def test_who_goes_away_leaves_nobody_beside_its_thread(
    workspaces: Workspaces, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread goes on when its caller is cancelled; the next one must still wait for it."""
    (files / "a").write_text("1")
    begun, goes_on, order = threading.Event(), threading.Event(), list[str]()
    keep_all = Workspaces._keep

    def slow(self: Workspaces, agent: str, run: str, *more: Any) -> Version | None:
        order.append(f"{run} begins")
        if run == "r1":
            begun.set()
            assert goes_on.wait(30)
        made = keep_all(self, agent, run, *more)
        order.append(f"{run} ends")
        return made

    monkeypatch.setattr(Workspaces, "_keep", slow)
    first = asyncio.ensure_future(keep(workspaces, "r1"))
    assert await asyncio.to_thread(begun.wait, 30)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    second = asyncio.ensure_future(workspaces.keep("clerk", run="r2", key="r2:9", note=""))
    for _ in range(20):
        await asyncio.sleep(0)
    goes_on.set()
    await second
    assert order == ["r1 begins", "r1 ends", "r2 begins", "r2 ends"]


async def test_a_rollback_is_refused_while_a_run_writes(
    workspaces: Workspaces, files: Path
) -> None:
    (files / "a").write_text("1")
    first = await keep(workspaces, "r1")
    workspaces.wrote("clerk", "r2", "b")
    (files / "b").write_text("2")
    with pytest.raises(WorkspaceError, match="clerk is at work on its files in run r2"):
        await workspaces.rollback("clerk", first)
    assert names(files) == ["a", "b"]


async def test_a_rollback_tells_who_wrote_what_was_not_kept(
    workspaces: Workspaces, files: Path
) -> None:
    workspaces.unfinished = lambda _run: False
    (files / "a").write_text("1")
    first = await keep(workspaces, "r1")
    workspaces.wrote("clerk", "r2", "a")
    (files / "a").write_text("of a run that was cancelled")
    (files / "b").write_text("a person's")
    await workspaces.rollback("clerk", first)
    assert (await history(workspaces))[1:] == [
        ("owner", "", ("b",)),
        ("clerk", "r2", ("a",)),
        ("owner", "", ("a", "b")),
    ]


async def test_a_run_that_begins_during_a_rollback_writes_after_it(
    workspaces: Workspaces, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (files / "a").write_text("1")
    first = await keep(workspaces, "r1")
    (files / "a").write_text("2")
    begins = threading.Event()

    def write() -> None:
        begins.set()
        workspaces.wrote("clerk", "r2", "a")
        (files / "a").write_text("3")

    writer = threading.Thread(target=write, daemon=True)

    def slow(*arguments: Any) -> None:
        writer.start()
        assert begins.wait(30)
        restore_files(*arguments)

    monkeypatch.setattr(workspace, "restore_files", slow)
    assert await workspaces.rollback("clerk", first)
    await asyncio.to_thread(writer.join, 30)
    assert (files / "a").read_text() == "3"
    assert (await workspaces.log("clerk"))[0].message.startswith("Back to")


@pytest.mark.parametrize("failing", ["file", "folder"])
def test_what_cannot_be_read_just_now_does_not_look_deleted(
    files: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    (files / "sub").mkdir()
    (files / "sub" / "a").write_text("1")
    real = os.open

    def full(path: Any, flags: int, *more: Any, **named: Any) -> int:
        if str(path) == {"file": "a", "folder": "sub"}[failing]:
            raise OSError(errno.EMFILE, "Too many open files")
        return real(path, flags, *more, **named)

    monkeypatch.setattr(os, "open", full)
    with pytest.raises(OSError, match="Too many"):
        dict(each_file(files))


@pytest.mark.parametrize("path", ["../a", "sub/../../a", "/a", "sub//a", "."])
def test_a_history_from_elsewhere_leads_nowhere(files: Path, path: str) -> None:
    (files / "sub").mkdir()
    with pytest.raises(WorkspaceError, match="no file of a workspace"):
        restore_files(files, {path: b"evil"})
    assert sorted(p.name for p in files.parent.rglob("*")) == ["clerk", "sub"]


async def test_a_diff_of_any_text_is_shown_and_cut(workspaces: Workspaces, files: Path) -> None:
    (files / "latin").write_bytes("caf\u00e9\n".encode("latin-1"))
    assert "latin" in await workspaces.diff("clerk")
    for name in "abc":
        (files / name).write_text("line\n" * 150_000)
    diff = await workspaces.diff("clerk")
    assert diff.endswith("[cut]\n")
    assert len(diff) < 1_100_000


def test_a_version_is_named_by_what_only_it_begins_with(monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest of several is not what a person meant who wants to go back."""
    commits = [SimpleNamespace(id=f"{start:0<40}") for start in ("abcd1", "abcd2", "0123")]
    monkeypatch.setattr(
        workspace_history, "newest_first", lambda _repository, _limit: iter(commits)
    )
    with pytest.raises(WorkspaceError, match="2 versions"):
        workspace_history.resolve(None, "clerk", "abcd")
    assert workspace_history.resolve(None, "clerk", "abcd2") is commits[1]
    with pytest.raises(WorkspaceError, match="no version"):
        workspace_history.resolve(None, "clerk", "ffff")


async def history(workspaces: Workspaces) -> list[tuple[str, str, tuple[str, ...]]]:
    return [(v.author, v.run, v.changed) for v in reversed(await workspaces.log("clerk"))]


async def test_a_run_keeps_what_it_wrote_and_no_more(workspaces: Workspaces, files: Path) -> None:
    def write(run: str, name: str, text: str) -> None:
        workspaces.wrote("clerk", run, name)
        (files / name).write_text(text)

    async def kept(run: str, step: int = 9) -> None:
        await workspaces.keep("clerk", run=run, key=f"{run}:{step}", note="", noted=True)

    (files / "old").write_text("a person's")
    (files / "gone").write_text("a person's")
    write("r1", "a", "1")
    write("r2", "b", "2")
    await kept("r1")
    assert await history(workspaces) == [("owner", "", ("gone", "old")), ("clerk", "r1", ("a",))]
    (files / "gone").unlink()
    (files / "a").write_text("changed by a person")
    write("r2", "old", "taken over")
    await kept("r2")
    assert (await history(workspaces))[2:] == [
        ("owner", "", ("a", "gone")),
        ("clerk", "r2", ("b", "old")),
    ]
    await kept("r2", 10)
    assert len(await history(workspaces)) == 4
    (files / "b").write_text("after the run")
    await kept("r3")
    assert (await history(workspaces))[4:] == [("owner", "", ("b",))]


async def test_what_a_run_wrote_that_ended_without_keeping_it_is_kept_as_its_own(
    workspaces: Workspaces, files: Path
) -> None:
    """A run that is cancelled takes no further step; nobody would keep its files."""
    for name, run in (("a", "r1"), ("b", "r2"), ("c", "r3")):
        workspaces.wrote("clerk", run, name)
        (files / name).write_text(run)
    (files / "d").write_text("a person")
    workspaces.unfinished = lambda run: run in {"r2", "r3"}
    await workspaces.keep("clerk", run="r3", key="r3:9", note="completed", noted=True)
    assert await history(workspaces) == [
        ("owner", "", ("d",)),
        ("clerk", "r1", ("a",)),
        ("clerk", "r3", ("c",)),
    ]
    assert workspaces._written["clerk"] == {"b": "r2"}
    await workspaces.keep("clerk", run="r2", key="r2:9", note="completed", noted=True)
    assert (await history(workspaces))[3:] == [("clerk", "r2", ("b",))]


async def test_what_a_person_left_is_kept_before_a_run_writes_over_it(
    workspaces: Workspaces, files: Path
) -> None:
    (files / "a").write_text("a person's")
    (files / "b").write_text("a person's, too")
    workspaces.wrote("clerk", "r1", "a")
    (files / "a").write_text("1")
    workspaces.wrote("clerk", "r1", "a")
    (files / "a").write_text("2")
    await workspaces.keep("clerk", run="r1", key="r1:9", note="", noted=True)
    assert await history(workspaces) == [
        ("owner", "", ("a",)),
        ("owner", "", ("b",)),
        ("clerk", "r1", ("a",)),
    ]
    (files / "b").write_text("a person's again")
    for path in ("a", "b", "c"):
        workspaces.wrote("clerk", "r2", path)
    (files / "b").unlink()
    await workspaces.keep("clerk", run="r2", key="r2:9", note="", noted=True)
    assert (await history(workspaces))[3:] == [("owner", "", ("b",)), ("clerk", "r2", ("b",))]
    first, *_ = reversed(await workspaces.log("clerk"))
    await workspaces.rollback("clerk", first.id)
    assert (files / "a").read_text() == "a person's"


@pytest.mark.parametrize("is_over", [False, True])
async def test_what_a_run_left_is_kept_before_another_writes_over_it(
    workspaces: Workspaces, files: Path, is_over: bool
) -> None:
    workspaces.wrote("clerk", "r1", "a")
    (files / "a").write_text("1")
    workspaces.unfinished = lambda run: run != "r1" or not is_over
    workspaces.wrote("clerk", "r2", "a")
    (files / "a").write_text("2")
    await workspaces.keep("clerk", run="r2", key="r2:9", note="", noted=True)
    assert await history(workspaces) == [("clerk", "r1", ("a",)), ("clerk", "r2", ("a",))]


async def test_what_a_person_put_in_the_place_of_a_folder_is_kept(
    workspaces: Workspaces, files: Path
) -> None:
    for path in ("x/y", "z"):
        (files / path).parent.mkdir(exist_ok=True)
        (files / path).write_text("1")
    await keep(workspaces, "r0")
    (files / "x" / "y").unlink()
    (files / "x").rmdir()
    (files / "x").write_text("2")
    (files / "z").unlink()
    (files / "z").mkdir()
    (files / "z" / "a").write_text("2")
    for path in ("x", "z/a"):
        workspaces.wrote("clerk", "r1", path)
        (files / path).write_text("3")
    await workspaces.keep("clerk", run="r1", key="r1:9", note="", noted=True)
    assert (await history(workspaces))[1:] == [
        ("owner", "", ("x", "x/y")),
        ("owner", "", ("z", "z/a")),
        ("clerk", "r1", ("x", "z/a")),
    ]


async def test_what_no_version_can_hold_is_written_over(
    workspaces: Workspaces, files: Path
) -> None:
    (files / "link").symlink_to("/etc/hostname")
    (files / "big").write_bytes(b"x" * (MAX_FILE_BYTES + 1))
    (files / ".git.").write_text("x")
    for path in ("link", "big", ".git.", "link/a", "none/a", "none"):
        workspaces.wrote("clerk", "r1", path)
    assert await history(workspaces) == []


async def test_what_cannot_be_kept_is_not_written_over(
    workspaces: Workspaces, files: Path, home: Path
) -> None:
    (files / "a").write_text("1")
    await keep(workspaces, "r1")
    (files / "b").write_text("a person's")
    (home / ".git-clerk" / "refs" / "heads" / "main").write_text("no commit")
    for _ in range(2):  # nor when it tries again
        with pytest.raises(OSError, match="the workspace of clerk"):
            workspaces.wrote("clerk", "r2", "b")
    workspaces.wrote("clerk", "r2", "new")


async def test_commits_and_writes_take_turns(workspaces: Workspaces, files: Path) -> None:
    for number in range(20):
        (files / f"{number}").write_text("a person's")
        workspaces.wrote("clerk", "r1", "a")
        (files / "a").write_text(f"{number}")
        await asyncio.gather(
            asyncio.to_thread(workspaces.wrote, "clerk", "r2", f"{number}"),
            workspaces.keep("clerk", run="r1", key=f"r1:{number}", note="", noted=True),
        )
    told = await history(workspaces)
    kept = sorted(int(path) for who, _, paths in told if who == "owner" for path in paths)
    assert kept == list(range(20))


async def test_what_another_run_wrote_is_not_compared_with_every_file(
    workspaces: Workspaces, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = 0

    class Name(str):
        def startswith(self, *given: Any) -> bool:
            nonlocal looked
            looked += 1
            return super().startswith(*given)

    found = workspace.each_file
    monkeypatch.setattr(
        workspace, "each_file", lambda root: ((Name(path), data) for path, data in found(root))
    )
    (files / "sub").mkdir()
    for number in range(100):
        workspaces.wrote("clerk", "r1", f"sub/{number}")
        (files / "sub" / str(number)).write_text("")
    workspaces.wrote("clerk", "r2", "a")
    (files / "a").write_text("1")
    await workspaces.keep("clerk", run="r2", key="r2:9", note="", noted=True)
    assert await history(workspaces) == [("clerk", "r2", ("a",))]
    assert looked <= 1000


async def test_what_another_run_removed_is_that_runs_and_not_the_owners(
    workspaces: Workspaces, files: Path
) -> None:
    for name in "abcx":
        (files / name).write_text("1")
    await keep(workspaces, "r0")
    for name, run in (("a", "r1"), ("b", "r2"), ("x", "r2")):
        workspaces.wrote("clerk", run, name)
        (files / name).unlink()
    (files / "c").unlink()
    workspaces.wrote("clerk", "r3", "x/y")
    (files / "x").mkdir()
    (files / "x" / "y").write_text("in the place of a file")
    workspaces.unfinished = lambda run: run in {"r2", "r3"}
    await workspaces.keep("clerk", run="r3", key="r3:9", note="", noted=True)
    await workspaces.keep("clerk", run="r2", key="r2:9", note="", noted=True)
    assert (await history(workspaces))[1:] == [
        ("owner", "", ("c", "x")),
        ("clerk", "r1", ("a",)),
        ("clerk", "r3", ("x/y",)),
        ("clerk", "r2", ("b",)),
    ]


async def test_a_run_of_an_earlier_process_keeps_all_but_what_others_wrote(
    workspaces: Workspaces, files: Path
) -> None:
    (files / "a").write_text("before the crash")
    workspaces.wrote("clerk", "r2", "b")
    (files / "b").write_text("of another run")
    assert await workspaces.keep("clerk", run="r1", key="r1:9", note="")
    assert await history(workspaces) == [("clerk", "r1", ("a",))]


async def test_a_file_in_the_place_of_a_folder_and_back(
    workspaces: Workspaces, files: Path
) -> None:
    (files / "x").mkdir()
    (files / "x" / "y").write_text("1")
    await workspaces.keep("clerk", run="r0", key="r0:9", note="", noted=True)
    (files / "x" / "y").unlink()
    (files / "x").rmdir()
    workspaces.wrote("clerk", "r1", "x")
    (files / "x").write_text("2")
    await workspaces.keep("clerk", run="r1", key="r1:9", note="", noted=True)
    (files / "x").unlink()
    (files / "x").mkdir()
    workspaces.wrote("clerk", "r2", "x/y")
    (files / "x" / "y").write_text("3")
    await workspaces.keep("clerk", run="r2", key="r2:9", note="", noted=True)
    assert (await history(workspaces))[1:] == [
        ("owner", "", ("x/y",)),
        ("clerk", "r1", ("x",)),
        ("owner", "", ("x",)),
        ("clerk", "r2", ("x/y",)),
    ]


@pytest.mark.parametrize("name", ["git~1", "GIT~1. ", ".git:x", ".git::$DATA", ".git.", ".git "])
async def test_a_name_that_git_does_not_take_stops_no_history(
    workspaces: Workspaces, files: Path, name: str
) -> None:
    (files / "a").write_text("1")
    (files / name).write_text("2")
    await keep(workspaces, "r1")
    assert [version.changed for version in await workspaces.log("clerk")] == [("a",)]


@pytest.mark.parametrize("name", ["a\xa0b", "9.41\u202fAM.png", "\u200b", "\x85", "\u202ea"])
async def test_a_name_that_shows_badly_is_kept_and_put_back(
    workspaces: Workspaces, files: Path, name: str
) -> None:
    (files / "a").write_text("1")
    before = await keep(workspaces, "r1")
    (files / name).write_text("2")
    after = await keep(workspaces, "r2")
    await workspaces.rollback("clerk", before)
    assert names(files) == ["a"]
    await workspaces.rollback("clerk", after)
    assert (files / name).read_text() == "2"


PIECES = [".git", "GIT~1", ".", " ", "~1", ":", "$", "x", "\\", "\u200c", "．", "\n", "\ud800"]


def test_git_takes_every_name_that_is_kept(tmp_path: Path) -> None:
    repository = pygit2.init_repository(str(tmp_path / "git"), bare=True)
    blob = repository.create_blob(b"")

    @given(st.lists(st.sampled_from(PIECES), min_size=1, max_size=4).map("".join) | st.text())
    def holds(name: str) -> None:
        if name not in {"", ".", ".."} and "/" not in name and is_kept(name):
            tree = repository.TreeBuilder()
            tree.insert(name, blob, pygit2.enums.FileMode.BLOB)
            assert [each.name for each in repository[tree.write()]] == [name]

    holds()


async def test_a_rollback_changes_no_permissions(workspaces: Workspaces, files: Path) -> None:
    (files / "run.sh").write_text("1")
    (files / "run.sh").chmod(0o750)
    first = await keep(workspaces, "r1")
    (files / "run.sh").write_text("2")
    await workspaces.rollback("clerk", first)
    assert (files / "run.sh").read_text() == "1"
    assert (files / "run.sh").stat().st_mode & 0o7777 == 0o750


async def test_a_rollback_takes_an_empty_folder_out_of_the_way(
    workspaces: Workspaces, files: Path
) -> None:
    (files / "a").write_text("1")
    first = await keep(workspaces, "r1")
    (files / "a").unlink()
    (files / "a" / "b" / "c").mkdir(parents=True)
    await workspaces.rollback("clerk", first)
    assert (files / "a").read_text() == "1"
    (files / "a").unlink()
    (files / "a" / "b" / "c").mkdir(parents=True)
    (files / "a" / "b" / "link").symlink_to("/")
    with pytest.raises(WorkspaceError, match="stands in the way"):
        await workspaces.rollback("clerk", first)
    assert (files / "a" / "b" / "link").is_symlink()


async def test_locks_left_by_a_killed_process_do_not_stop_it(
    workspaces: Workspaces, files: Path, home: Path
) -> None:
    (files / "a").write_text("1")
    await keep(workspaces, "r1")
    (home / ".git-clerk" / "refs" / "heads" / "main.lock").touch()
    (files / "a").write_text("2")
    with pytest.raises(WorkspaceError):
        await keep(workspaces, "r2")
    again = Workspaces(home, clock=ManualClock())
    assert (await again.keep("clerk", run="r2", key="r2:9", note="")) is not None


@pytest.mark.parametrize("name", ["config.lock", "HEAD.lock"])
async def test_a_history_whose_making_was_cut_off_is_made(
    name: str, workspaces: Workspaces, files: Path, home: Path
) -> None:
    (files / "a").write_text("1")
    (home / ".git-clerk" / "objects").mkdir(parents=True)
    (home / ".git-clerk" / name).touch()
    await keep(workspaces, "r1")
    assert [version.run for version in await workspaces.log("clerk")] == ["r1"]


async def test_what_killed_writers_left_goes_once_it_is_old(
    workspaces: Workspaces, home: Path, files: Path
) -> None:
    await workspaces.log("clerk")
    (files / "sub").mkdir()
    old, other = (
        files / "sub" / f".freehold-tmp-{'0' * 16}",
        files / f".freehold-restoring-{'a' * 16}",
    )
    young, mine = files / f".freehold-tmp-{'f' * 16}", files / ".freehold-notes"
    blob = home / ".git-clerk" / "objects" / "tmp_object_git2_a1"
    for path in (old, other, young, mine, blob):
        path.write_text("half")
    for path in (old, other, mine):
        os.utime(path, (0, 0))
    await Workspaces(home, clock=ManualClock()).log("clerk")
    assert [path.exists() for path in (old, other, blob, young, mine)] == [False] * 3 + [True] * 2


async def test_a_workspace_that_is_a_link_is_not_read(
    workspaces: Workspaces, home: Path, tmp_path: Path
) -> None:
    plant_link(home, tmp_path / "elsewhere")
    with pytest.raises(WorkspaceError):
        await workspaces.keep("clerk", run="r1", key="r1:9", note="")


async def test_what_a_trailer_says_cannot_be_forged_by_a_files_name(
    workspaces: Workspaces, files: Path
) -> None:
    (files / "Step: r7:1").write_text("Step: r7:1")
    await keep(workspaces, "r1")
    assert await workspaces.find("clerk", "r7:1") is None


def test_what_could_not_be_put_back_whole_leaves_nothing(
    files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_file: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    (files / "a").write_text("new")
    monkeypatch.setattr(workspace_files, "sync", full)
    with pytest.raises(OSError, match="No space"):
        restore_files(files, {"a": b"old"})
    assert names(files) == ["a"]
    assert (files / "a").read_text() == "new"


@pytest.mark.parametrize("file", ["/nonexistent", __file__], ids=["missing", "other"])
def test_certificates_that_are_none_keep_no_history_away(file: str) -> None:
    named = {**os.environ, "SSL_CERT_FILE": file, "SSL_CERT_DIR": "/nonexistent"}
    code = "import os, node.runs.workspace; print(os.environ['SSL_CERT_FILE'])"
    said = subprocess.check_output([sys.executable, "-c", code], env=named, text=True)
    assert said == f"{file}\n"
