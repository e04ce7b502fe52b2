"""A cut of a log that is written to, and whose keys change, is a log that opens."""

from __future__ import annotations

import asyncio
import io
import sqlite3
import tarfile
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from node import backup
from node.disk import write_private
from node.errors import BackupError
from node.home import Home
from node.journal import Draft, Journal, verify
from node.sandbox import ToolStore
from node.sandbox.capabilities.store import STORE_FILE
from node.sandbox.testing import write_tool

CUTS = 12
ENTRIES = 4  # in a segment, so that keys change all the time
BURST = 60  # appends while one cut is made: on a fast disk the log would outgrow its copies


def made(tmp_path: Path, **options: int) -> tuple[Home, Journal]:
    """A home, and its log, open."""
    home = Home(tmp_path / "h")
    home.create()
    return home, Journal.open_sync(home.journal, origin="test/log", **options)


def test_every_cut_of_a_busy_log_opens(tmp_path: Path) -> None:
    home, log = made(tmp_path, segment_entries=ENTRIES)
    done, begun, permits = threading.Event(), threading.Event(), threading.Semaphore(0)

    def busy() -> None:
        while permits.acquire() and not done.is_set():
            append(log)
            begun.set()

    writer = threading.Thread(target=busy)
    writer.start()
    try:
        for number in range(CUTS):
            before = log.size
            begun.clear()
            permits.release(BURST)
            assert begun.wait(60)
            check(unpack(home, tmp_path / f"cut{number}"), before)
    finally:
        done.set()
        permits.release()
        writer.join()
        log.close()
    assert log.size > ENTRIES * 3


@pytest.mark.parametrize("appends", [1, 2, 3, 5])
@pytest.mark.parametrize("moment", ["before the last commit is found", "before the keys are read"])
def test_a_log_that_goes_on_in_the_middle_of_a_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str, appends: int
) -> None:
    """Two appends fill a segment: its key is destroyed, and the next one made, within the cut."""
    home, log = made(tmp_path, segment_entries=ENTRIES)
    append(log)
    owner, name = (backup, "_last_commit") if "commit" in moment else (Path, "read_bytes")
    original, waiting = getattr(owner, name), [True]

    def first_goes_on(*given: Any) -> Any:
        if waiting and (owner is backup or given[0].suffix == ".key"):
            waiting.clear()
            for _ in range(appends):
                append(log)
        return original(*given)

    monkeypatch.setattr(owner, name, first_goes_on)
    opened = unpack(home, tmp_path / "cut")
    assert not waiting
    monkeypatch.undo()
    log.close()
    check(opened, 2)


@pytest.mark.parametrize("moment", ["announced", "written", "done"])
def test_a_log_that_is_pruned_in_the_middle_of_a_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    home, log = made(tmp_path, segment_entries=ENTRIES)
    for _ in range(8):
        append(log)
    original, waiting = backup._last_commit, [True]

    def first_prunes(path: Path, size: int) -> int:
        found = original(path, size)
        if waiting:
            waiting.clear()
            asyncio.run(log.prune(8))
        return found

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    if moment == "done":
        monkeypatch.setattr(backup, "_last_commit", first_prunes)
    else:
        name = "write_pruned" if moment == "announced" else "finish"
        monkeypatch.setattr(f"node.journal.prune.{name}", stop)
        with pytest.raises(KeyboardInterrupt):
            asyncio.run(log.prune(8))
    opened = unpack(home, tmp_path / "cut")
    log.close()
    check(opened, 16)
    assert verify(opened).pruned == (0 if moment == "announced" else 8)


def test_a_segment_that_is_gone_after_the_cut_ends_the_backup(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pruning needs no home: an archive that lacks what it says it has would be found out late."""
    home, log = made(tmp_path, segment_entries=ENTRIES)
    for _ in range(4):
        append(log)
    log.close()
    original = backup.cut

    def then_gone(folder: Path) -> backup.JournalCut:
        found = original(folder)
        found.segments[0][0].unlink()
        return found

    monkeypatch.setattr(backup, "cut", then_gone)
    with pytest.raises(BackupError, match="cannot back up"):
        backup.write(home, "test", 0, io.BytesIO())


@pytest.mark.parametrize("moment", ["_pruned", "_last_commit", "_add"])
def test_content_that_is_erased_in_the_middle_of_a_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """What is archived has the key if its log does not say that it was erased."""
    home, log = made(tmp_path)
    append(log)
    (ref,) = log.entry(log.size - 2).draft.blobs
    original, waiting = getattr(backup, moment), [True]

    def first_erases(*given: Any, **named: Any) -> Any:
        found = original(*given, **named)
        if waiting:
            waiting.clear()
            append(log)
            asyncio.run(log.erase(ref))
            append(log)
        return found

    monkeypatch.setattr(backup, moment, first_erases)
    opened = unpack(home, tmp_path / "cut")
    log.close()
    Journal.open_sync(opened, origin="test/log").close()
    assert verify(opened).blobs.problems == []


def test_a_store_that_is_written_to_is_taken_as_of_one_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file has some pages of a change, and what would undo them is gone a moment later."""
    home = Home(tmp_path / "h")
    home.create()
    file = home.stores / "clerk" / "notes" / STORE_FILE
    file.parent.mkdir(parents=True)
    begun, seen = threading.Event(), threading.Event()

    def write() -> None:
        with closing(sqlite3.connect(file, isolation_level=None)) as store:
            store.execute("PRAGMA cache_size = 1")
            store.execute("CREATE TABLE value (key INTEGER PRIMARY KEY, value TEXT)")
            rows = [(number, "old" * 300) for number in range(200)]
            store.execute("BEGIN")
            store.executemany("INSERT INTO value VALUES (?, ?)", rows)
            store.execute("COMMIT")
            store.execute("BEGIN")
            store.execute("UPDATE value SET value = ?", ("new" * 300,))
            begun.set()
            seen.wait(60)
            store.execute("COMMIT")

    connect, add = sqlite3.connect, tarfile.TarFile.addfile

    def connected(*given: Any, **named: Any) -> Any:
        seen.set()
        return connect(*given, **named)

    def added(tar: tarfile.TarFile, member: tarfile.TarInfo, content: Any = None) -> None:
        if member.name.endswith(STORE_FILE):
            seen.set()
            writer.join(60)
        add(tar, member, content)

    writer = threading.Thread(target=write)
    writer.start()
    assert begun.wait(60)
    assert file.with_name(f"{STORE_FILE}-journal").exists()
    monkeypatch.setattr(sqlite3, "connect", connected)
    monkeypatch.setattr(tarfile.TarFile, "addfile", added)
    restored = unpack(home, tmp_path / "cut").with_name("stores")
    writer.join(60)
    assert [path.name for path in restored.rglob("*") if path.is_file()] == [STORE_FILE]
    with closing(connect(restored / file.relative_to(home.stores))) as store:
        assert store.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert len(store.execute("SELECT DISTINCT value FROM value").fetchall()) == 1


def test_a_store_that_is_no_database_is_taken_as_it_is(tmp_path: Path) -> None:
    home = Home(tmp_path / "h")
    home.create()
    assert backup.STORE_FILE == STORE_FILE
    (home.stores / STORE_FILE).write_bytes(b"not a database" * 100)
    restored = unpack(home, tmp_path / "cut").with_name("stores")
    assert (restored / STORE_FILE).read_bytes() == b"not a database" * 100


def append(log: Journal) -> None:
    """Two entries, one with content."""
    blob = log.put_blob(b"content", "value")
    log.append_sync(Draft("step.result", blobs=(blob,)), Draft("step.intent"))


def check(folder: Path, least: int) -> None:
    """The log in a folder opens, has its content, goes on and verifies."""
    copy = Journal.open_sync(folder, origin="test/log", segment_entries=ENTRIES)
    try:
        assert copy.size >= least
        for entry in copy.entries():
            assert all(copy.blob(ref) == b"content" for ref in entry.draft.blobs)
        copy.append_sync(Draft("node.started"))
    finally:
        copy.close()
    assert verify(folder).problems == []


def test_a_key_whose_writer_was_killed_is_in_no_archive(tmp_path: Path) -> None:
    home = Home(tmp_path / "h")
    home.create()
    Journal.open_sync(home.journal, origin="test/log").close()
    (home.keys / "wallet").mkdir()
    write_private(home.keys / "wallet" / "key", b"sealed")
    (home.keys / "wallet" / f".key.{'0a' * 8}.tmp").write_bytes(b"plain")
    (home.workspaces / f".note.{'0a' * 8}.tmp").write_bytes(b"a file of an agent's")
    target = unpack(home, tmp_path / "out").parent
    assert [path.name for path in (target / "keys" / "wallet").iterdir()] == ["key"]
    assert len(list((target / "workspaces").iterdir())) == 1


def test_a_key_of_an_epoch_that_was_never_named_is_no_part_of_an_archive(tmp_path: Path) -> None:
    home, log = made(tmp_path)
    log.close()
    left = home.journal / "keys" / "00.key.new"
    left.write_bytes(bytes(range(32)))
    assert not (unpack(home, tmp_path / "out") / "keys" / left.name).exists()
    Journal.open_sync(home.journal, origin="test/log").close()
    assert not left.exists()


def test_what_the_owner_keeps_elsewhere_is_taken_along(tmp_path: Path) -> None:
    """The config and agents in a repository, workspaces on a larger disk: links of the owner's."""
    home, log = made(tmp_path)
    log.close()
    home.workspaces.rmdir()
    for place, text in (
        (home.config, "[node]"),
        (home.agents / "a.toml", "agent"),
        (home.workspaces / "a" / "note", "note"),
    ):
        kept = tmp_path / "elsewhere" / place.relative_to(home.root)
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(text)
        link = home.workspaces if home.workspaces in place.parents else place
        link.symlink_to(tmp_path / "elsewhere" / link.relative_to(home.root))
    (home.agents / "loop").symlink_to(home.root)
    (home.root / "films").symlink_to(tmp_path / "elsewhere")
    (home.root / "lost+found").mkdir()
    (home.root / "lost+found" / "roots").touch()
    (home.workspaces / "a" / "link").symlink_to(home.config)
    target = unpack(home, tmp_path / "out").parent
    assert (target / "config.toml").read_text() == "[node]"
    assert (target / "agents" / "a.toml").read_text() == "agent"
    assert (target / "workspaces" / "a" / "note").read_text() == "note"
    assert not (target / "workspaces" / "a" / "link").exists()
    assert not (target / "films").exists()
    assert not (target / "lost+found").exists()


def test_a_tool_that_is_replaced_meanwhile_is_archived_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, log = made(tmp_path)
    log.close()
    tools = ToolStore(tmp_path / "shipped", home.tools)
    tools.add(write_tool(tmp_path / "old", "(component)").folder)
    new = write_tool(tmp_path / "new", "(component (core module))").folder
    add, names = tarfile.TarFile.addfile, list[str]()

    def replacing(tar: tarfile.TarFile, member: tarfile.TarInfo, *content: Any) -> None:
        add(tar, member, *content)
        if member.name.startswith("tools/") and not names:
            tools.add(new)
        names.extend([member.name] * member.name.startswith("tools/"))

    monkeypatch.setattr(tarfile.TarFile, "addfile", replacing)
    target = unpack(home, tmp_path / "out").parent
    assert sorted(names) == ["tools/tool/tool.toml", "tools/tool/tool.wasm"]
    restored = ToolStore(tmp_path / "shipped", target / "tools").get("tool")
    assert restored.sha256 != tools.get("tool").sha256


def unpack(home: Home, target: Path) -> Path:
    """The journal out of an archive made right now."""
    packed = io.BytesIO()
    backup.write(home, "test", 0, packed)
    packed.seek(0)
    with tarfile.open(fileobj=packed) as tar:
        # Debian 12's Python 3.11.2 knows of no filters
        tar.extraction_filter = getattr(tarfile, "data_filter", None)
        tar.extractall(target)
    return target / "journal"
