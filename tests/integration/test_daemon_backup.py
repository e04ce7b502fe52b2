"""Backups made while the node works, and what may be restored from them."""

from __future__ import annotations

import errno
import gzip
import io
import json
import os
import shutil
import signal
import sqlite3
import stat
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner
from helpers.node import Node
from hypothesis import given, settings
from hypothesis import strategies as st

from node import backup, restore
from node.cli.main import root
from node.client import Client
from node.errors import (
    BackupError,
    ConfigError,
    DaemonRunningError,
    FreeholdError,
    JournalDamagedError,
    JournalRollbackError,
)
from node.home import SOCKET_PATH_MAX, Home
from node.journal import Draft, Journal
from node.runs.workspace_labels import FileLabels


def client(node: Node) -> Client:
    return Client.unix(node.root / "run" / "control.sock")


def ask(control: Client, prompt: str) -> str:
    run = control.start("clerk", prompt)
    for _ in control.watch(run):
        pass
    return run


@pytest.fixture(scope="module")
def archive(running: Node) -> Path:
    """An archive of a node that had answered, and had a run under way."""
    (running.root / "keys" / "api.secret").write_bytes(b"top")
    (running.root / "keys" / "api.secret").chmod(0o600)
    (running.root / "workspaces" / "link").symlink_to("/etc/passwd")
    with client(running) as control:
        ask(control, "write note.txt hello")
        run = control.start("clerk", "wait done")
        for event in control.watch(run):
            if event["type"] == "step.result":
                break
        file = running.root.with_name("backup.tar.gz")
        control.backup(file)
        control.cancel(run, "enough")
    return file


def test_the_archive_is_private_and_holds_one_node(archive: Path) -> None:
    assert stat.S_IMODE(archive.stat().st_mode) == 0o600
    with tarfile.open(archive) as tar:
        names = tar.getnames()
    assert names[0] == backup.MANIFEST
    assert names[1].startswith("journal/")
    assert {"config.toml", "agents/clerk.toml", "keys/api.secret"} <= set(names)
    assert "workspaces/clerk/note.txt" in names
    assert not [name for name in names if name.startswith(("run/", "cache/"))]
    assert "workspaces/link" not in names


def test_labels_are_taken_after_the_files_they_are_about(tmp_path: Path) -> None:
    """A file is written once it is marked: one that is written meanwhile has its mark, then."""
    home = Home(tmp_path / "h")
    home.create()
    labels = FileLabels(home.workspaces)
    labels.wrote("clerk", "old", frozenset({"untrusted"}))
    (home.workspaces / "clerk").mkdir()
    for name in ("old", "zzz"):
        (home.workspaces / "clerk" / name).write_text(name)
    packed = io.BytesIO()
    backup.write(home, "n", 0, packed)
    packed.seek(0)
    with tarfile.open(fileobj=packed) as tar:
        names = tar.getnames()
    assert names[-1] == "workspaces/.labels-clerk.json"


def test_a_file_has_the_labels_that_it_had_when_it_was_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run without labels that replaces it meanwhile takes them off the new one alone."""
    home = Home(tmp_path / "h")
    home.create()
    labels = FileLabels(home.workspaces)
    (home.workspaces / "clerk").mkdir()
    for name in ("diary", "other"):
        labels.wrote("clerk", name, frozenset({"private"}))
        (home.workspaces / "clerk" / name).write_text(name)
    add = backup._add

    def replaced(tar: tarfile.TarFile, home: Home, path: Path, **more: int) -> None:
        add(tar, home, path, **more)
        if path.name == "diary":
            labels.wrote("clerk", "diary", frozenset())
            labels.wrote("clerk", "other", frozenset({"untrusted"}))

    monkeypatch.setattr(backup, "_add", replaced)
    packed = io.BytesIO()
    backup.write(home, "n", 0, packed)
    packed.seek(0)
    with tarfile.open(fileobj=packed) as tar:
        tar.extract("workspaces/.labels-clerk.json", tmp_path, filter="data")
    restored = FileLabels(tmp_path / "workspaces")
    assert restored.of("clerk", "diary") == {"private"}
    assert restored.of("clerk", "other") == {"private", "untrusted"}
    assert labels.of("clerk", "diary") == frozenset()


def test_a_home_may_be_as_long_as_its_socket_may(archive: Path, tmp_path: Path) -> None:
    room = SOCKET_PATH_MAX - len(str(Home(tmp_path / "h").socket))
    restore.restore(archive, Home(tmp_path / ("h" + "h" * room)))
    with pytest.raises(ConfigError, match="longer than a UNIX socket"):
        restore.restore(archive, Home(tmp_path / ("i" + "i" * room + "i")))


def test_a_restored_node_goes_on(archive: Path, node: Node) -> None:
    shutil.rmtree(node.root)
    done = node.cli("restore", str(archive))
    assert done.returncode == 0, done.stderr
    assert (node.root / "keys" / "api.secret").read_bytes() == b"top"
    for path in node.root.rglob("*"):
        if not path.is_symlink():
            assert not path.stat().st_mode & 0o077, path
    node.up()
    with client(node) as control:
        assert len(control.status()["resumed"]) == 1
        assert control.workspace_log("clerk")[0]["changed"] == ["note.txt"]
        assert control.run(ask(control, "say again"))["text"] == "again"


def test_backup_without_a_daemon(node: Node, tmp_path: Path) -> None:
    node.up()
    with client(node) as control:
        run = ask(control, "say kept")
    node.down()
    assert node.cli("backup", str(tmp_path / "b")).returncode == 0
    assert node.cli("backup", str(tmp_path / "b")).returncode == 1
    shutil.rmtree(node.root)
    assert node.cli("restore", str(tmp_path / "b")).returncode == 0
    node.up()
    with client(node) as control:
        assert control.run(run)["text"] == "kept"


def test_a_home_that_is_there_is_kept(archive: Path, node: Node) -> None:
    with pytest.raises(BackupError, match="not empty"):
        restore.restore(archive, Home(node.root))
    (node.root / "mine").write_text("x")
    _, kept = restore.restore(archive, Home(node.root), force=True)
    assert kept is not None
    assert (kept / "mine").read_text() == "x"
    assert not (node.root / "mine").exists()
    assert (node.root / "workspaces" / "clerk" / "note.txt").exists()


def test_a_rollback_is_refused(node: Node, tmp_path: Path) -> None:
    node.up()
    old = tmp_path / "old"
    with client(node) as control:
        ask(control, "say one")
        control.backup(old)
        ask(control, "say two")
    with pytest.raises(DaemonRunningError):
        restore.restore(old, Home(node.root), force=True)
    node.down()
    before = sorted(node.root.rglob("*"))
    with pytest.raises(JournalRollbackError, match="older than the node that is here") as refused:
        restore.restore(old, Home(node.root), force=True)
    assert "relink" not in refused.value.hint, "nothing is lost here"
    assert sorted(node.root.rglob("*")) == before
    assert not list(node.root.parent.glob(".*restoring*"))
    new = tmp_path / "new"
    assert node.cli("backup", str(new)).returncode == 0
    restore.restore(new, Home(node.root), force=True)
    node.up()


def test_an_archive_whose_log_was_changed_is_refused(archive: Path, tmp_path: Path) -> None:
    def flip(name: str, content: bytes) -> bytes:
        return content.replace(b"run.started", b"run.Started", 1) if "jsonl" in name else content

    with pytest.raises(JournalDamagedError):
        restore.restore(rewritten(archive, tmp_path / "bad", flip), Home(tmp_path / "x"))
    assert not (tmp_path / "x").exists()


def test_an_archive_whose_log_was_changed_long_before_its_end_is_refused(tmp_path: Path) -> None:
    """A start reads the last segment alone; who restores is told before they start."""
    home, source = Home(tmp_path / "h"), tmp_path / "a"
    home.create()
    home.config.write_text('[node]\nname = "n"\n')
    with closing(Journal.open_sync(home.journal, origin="freehold/n")) as log:
        log.append_sync(Draft("a.old"))
        log._rotate()
        log.append_sync(Draft("a.new"))
    with source.open("wb") as target:
        backup.write(home, "n", 2, target)
    changed = rewritten(source, tmp_path / "b", lambda _, x: x.replace(b'"a.old"', b'"a.odd"'))
    with pytest.raises(JournalDamagedError, match="damaged at entry 0"):
        restore.restore(changed, Home(tmp_path / "x"))
    restore.restore(source, Home(tmp_path / "x"))


def rewritten(source: Path, target: Path, change: Callable[[str, bytes], bytes]) -> Path:
    """A copy of an archive with the content of its files changed."""
    with tarfile.open(source) as old, tarfile.open(target, "w:gz") as new:
        for member in old:
            file = old.extractfile(member)
            assert file is not None
            content = change(member.name, file.read())
            member.size = len(content)
            new.addfile(member, io.BytesIO(content))
    return target


# ── archives nobody should have made ────────────────────────────────────────────────────────


def hostile(path: Path, *members: tarfile.TarInfo, about: bytes | None = None) -> Path:
    head = tarfile.TarInfo(backup.MANIFEST)
    said = json.dumps({"format": 1, "name": "x"}).encode() if about is None else about
    head.size = len(said)
    with tarfile.open(path, "w:gz") as tar:
        tar.addfile(head, io.BytesIO(said))
        for member in members:
            tar.addfile(member, io.BytesIO(b"x" * member.size))
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, target
    made.size = 1 if kind == tarfile.REGTYPE else 0
    return made


@pytest.mark.parametrize(
    "bad",
    [
        member("../evil"),
        member("/tmp/evil"),
        member("agents/../../evil"),
        member("agents/x", tarfile.SYMTYPE, "/etc/passwd"),
        member("agents/x", tarfile.LNKTYPE, "config.toml"),
        member("agents/x", tarfile.FIFOTYPE),
        member("agents/x", tarfile.CHRTYPE),
        member("run/control.sock"),
        member("journal.head"),
        member("journal/index.db"),
        member("journal/lock"),
        member("wallet.db-journal"),
        member("Run/control.sock"),
        member("Journal.head"),
        member("journal/Index.db"),
        member("JOURNAL/loc\u212a"),
        member("Wallet.db-wal"),
        member(".home.restoring.1/config.toml"),
        member("."),
    ],
    ids=lambda bad: f"{bad.name}-{bad.type.decode()}",
)
def test_hostile_members_are_refused(tmp_path: Path, bad: tarfile.TarInfo) -> None:
    with pytest.raises(BackupError, match="no node writes"):
        restore.restore(hostile(tmp_path / "a", bad), Home(tmp_path / "h"))
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_file_twice_is_refused(tmp_path: Path) -> None:
    twice = hostile(tmp_path / "a", member("agents/x"), member("agents/x"))
    with pytest.raises(BackupError):
        restore.restore(twice, Home(tmp_path / "h"))
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("about", [b"", b"[]", b"{", b'{"format": 99}', b"\xff", b"[" * 10_000])
def test_a_head_that_says_nothing_is_refused(tmp_path: Path, about: bytes) -> None:
    with pytest.raises(BackupError):
        restore.restore(hostile(tmp_path / "a", about=about), Home(tmp_path / "h"))


def test_a_bomb_in_a_header_is_refused(tmp_path: Path) -> None:
    bomb = member("PaxHeader", tarfile.XHDTYPE)
    bomb.size = 8 * 1024 * 1024
    with pytest.raises(BackupError):
        restore.restore(hostile(tmp_path / "a", bomb), Home(tmp_path / "h"))


@pytest.mark.parametrize("bound", ["MEMBERS_MAX", "TOTAL_MAX_BYTES"])
def test_an_archive_that_would_fill_the_disk_is_refused(
    short: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    monkeypatch.setattr(restore, bound, 3)
    with pytest.raises(BackupError, match="larger than any node's"):
        restore.restore(written(tmp_path / "a", gzip.compress(short)), Home(tmp_path / "h"))
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_cut_archive_is_refused(archive: Path, tmp_path: Path) -> None:
    whole = archive.read_bytes()
    (tmp_path / "cut").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BackupError, match="whole"):
        restore.restore(tmp_path / "cut", Home(tmp_path / "h"))
    assert [path.name for path in tmp_path.iterdir()] == ["cut"]


# ── archives that were damaged on their way ─────────────────────────────────────────────────


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A small archive, not packed."""
    home = Home(tmp_path_factory.mktemp("short") / "h")
    home.create()
    with closing(Journal.open_sync(home.journal, origin="freehold/n")) as log:
        log.append_sync(Draft("node.started"))
    with closing(sqlite3.connect(home.wallet)) as wallet, wallet:
        wallet.execute("create table proof (secret text)")
    home.config.write_text('[node]\nname = "n"\n')
    home.stores.joinpath("a").write_bytes(b"kept")
    home.workspaces.joinpath("last.txt").write_bytes(b"x" * 600)
    packed = io.BytesIO()
    backup.write(home, "n", 1, packed)
    return gzip.decompress(packed.getvalue())


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_an_archive_that_was_cut_anywhere_is_refused(short: bytes, tmp_path: Path) -> None:
    """tarfile takes one that is cut between two files for whole: the rest would be gone, unsaid."""
    whole = written(tmp_path / "whole", gzip.compress(short))
    restore.restore(whole, Home(tmp_path / "good"))
    assert (tmp_path / "good" / "wallet.db").is_file()
    for at in range(512, len(short), 256):
        packer = zlib.compressobj(wbits=31)
        cut = packer.compress(short[:at]) + packer.flush(zlib.Z_SYNC_FLUSH)
        with pytest.raises((BackupError, JournalDamagedError)):
            restore.restore(written(tmp_path / "cut", cut), Home(tmp_path / "h"))
        assert not (tmp_path / "h").exists()


def test_a_bit_that_fell_over_is_refused(short: bytes, tmp_path: Path) -> None:
    """Most files say nothing of what they should hold: only the checksum at the end does."""
    for at in (*range(0, len(short), 2048), short.rindex(b"kept"), short.rindex(b"xxx")):
        packer = zlib.compressobj(level=0, wbits=31)
        stored = bytearray(packer.compress(short) + packer.flush())
        stored[min(15 + at, len(stored) - 1)] ^= 0x10
        with pytest.raises((BackupError, JournalDamagedError)):
            restore.restore(written(tmp_path / "bad", bytes(stored)), Home(tmp_path / "h"))


def test_a_header_that_cannot_be_read_is_not_the_end(short: bytes, tmp_path: Path) -> None:
    bad, at = bytearray(short), short.rindex(b"workspaces/last.txt")
    bad[at + 148 : at + 156] = b"\xff" * 8  # its checksum
    with pytest.raises(BackupError, match="whole"):
        restore.restore(written(tmp_path / "bad", gzip.compress(bad)), Home(tmp_path / "h"))


def about(short: bytes, folder: Path, said: str) -> Path:
    """The short archive, saying something else of itself."""

    def change(name: str, content: bytes) -> bytes:
        return said.encode() if name == backup.MANIFEST else content

    return rewritten(written(folder / "a", gzip.compress(short)), folder / "b", change)


@pytest.mark.parametrize("created", ["NaN", "1e300", "-1e300", "9" * 400, "true", "[]"])
def test_a_time_that_is_none_is_no_traceback(short: bytes, tmp_path: Path, created: str) -> None:
    source = about(short, tmp_path, f'{{"format": 1, "created": {created}}}')
    found, _ = restore.restore(source, Home(tmp_path / "h"))
    assert datetime.fromtimestamp(found.created, tz=UTC).year < 3001


def test_a_log_with_less_than_was_archived_is_refused(short: bytes, tmp_path: Path) -> None:
    source = about(short, tmp_path, '{"format": 1, "journal_entries": 2}')
    with pytest.raises(JournalDamagedError, match="there were 2"):
        restore.restore(source, Home(tmp_path / "h"))


def home_with(monkeypatch: pytest.MonkeyPatch, root: Path, instant: Callable[[], None]) -> Home:
    """A home, in whose place a restored one is put right after `instant`."""
    home, rename = Home(root), Path.rename
    home.create()
    home.config.write_text("mine")

    def renamed(path: Path, target: Path) -> Path:
        if ".restoring." in path.name:
            instant()
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", renamed)
    return home


@pytest.mark.parametrize("code", [errno.EIO, errno.EBUSY])
def test_what_cannot_be_put_in_place_leaves_the_old_home(
    short: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def breaks() -> None:
        raise OSError(code, os.strerror(code))

    source = written(tmp_path / "a", gzip.compress(short))
    home = home_with(monkeypatch, tmp_path / "h", breaks)
    with pytest.raises(BackupError, match="cannot restore") as told:
        restore.restore(source, home, force=True)
    assert ("mounted" in told.value.hint) is (code == errno.EBUSY)
    assert home.config.read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "h"]


def test_a_disk_that_fails_when_it_is_done_does_not_undo_it(
    short: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(_folder: Path) -> None:
        raise OSError(errno.EIO, "Input/output error")

    source = written(tmp_path / "a", gzip.compress(short))
    home = home_with(monkeypatch, tmp_path / "h", lambda: None)
    monkeypatch.setattr(restore, "sync_folder", breaks)
    with pytest.raises(BackupError, match="h was restored, but its disk failed") as caught:
        restore.restore(source, home, force=True)
    (kept,) = tmp_path.glob("h.before-*")
    assert str(kept) in caught.value.hint
    assert (kept / "config.toml").read_text() == "mine"


@pytest.mark.parametrize("moved", ["h", "restoring"])
def test_a_restore_that_is_ended_right_after_a_move_leaves_a_home(
    short: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moved: str
) -> None:
    source, rename = written(tmp_path / "a", gzip.compress(short)), Path.rename
    home = home_with(monkeypatch, tmp_path / "h", lambda: None)

    def ended(path: Path, target: Path) -> Path:
        rename(path, target)
        if path.name == moved or f".{moved}." in path.name:
            raise SystemExit(143)
        return target

    monkeypatch.setattr(Path, "rename", ended)
    with pytest.raises(SystemExit):
        restore.restore(source, home, force=True)
    kept = list(tmp_path.glob("h.before-*"))
    assert (home.config.read_text() == "mine", len(kept)) == (moved == "h", moved != "h")
    assert not list(tmp_path.glob(".*"))


def test_what_took_the_homes_place_meanwhile_is_told(
    short: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A start that had looked at the old home just before makes folders for a new one."""
    source = written(tmp_path / "a", gzip.compress(short))
    home = home_with(monkeypatch, tmp_path / "h", Home(tmp_path / "h").create)
    with pytest.raises(BackupError, match="something else is at") as caught:
        restore.restore(source, home, force=True)
    (kept,) = tmp_path.glob("h.before-*")
    assert str(kept) in caught.value.hint
    assert (kept / "config.toml").read_text() == "mine"


@pytest.fixture(params=[signal.SIGTERM, signal.SIGHUP])
def number(request: pytest.FixtureRequest) -> Iterator[signal.Signals]:
    """A signal that is heard, also where the tests were started by nohup, which ignores one."""
    before = signal.signal(request.param, signal.SIG_DFL)
    yield request.param
    signal.signal(request.param, before)


def test_a_restore_and_a_backup_that_are_told_to_end_leave_nothing(
    short: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    source, home = written(tmp_path / "a", gzip.compress(short)), Home(tmp_path / "h")
    home.create()
    home.config.write_text('[node]\nname = "mine"\n')
    monkeypatch.setenv("FREEHOLD_HOME", str(home.root))

    def told(*_: object) -> tuple[Path, ...]:
        os.kill(os.getpid(), number)
        return ()

    monkeypatch.setattr(restore, "_check", told)
    monkeypatch.setattr(backup, "_others", told)
    for command in (["restore", "--force", str(source)], ["backup", str(tmp_path / "b")]):
        ended = CliRunner().invoke(root, command)
        assert ended.exit_code == 128 + number
        assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "h"]
    assert "mine" in home.config.read_text()
    assert signal.getsignal(number) is signal.SIG_DFL


def test_a_restore_that_was_cut_off_is_told_at_the_next_start(tmp_path: Path) -> None:
    home = Home(tmp_path / "h[1]")
    for name in ("h[1].before-20260101-000000", "h[1].before-20260102-000000"):
        (tmp_path / name).mkdir()
    with pytest.raises(ConfigError) as caught:
        home.require()
    assert "h[1].before-20260102-000000 back" in caught.value.hint
    home.root.mkdir()
    with pytest.raises(ConfigError) as caught:
        home.require()
    assert "freehold init" in caught.value.hint


@settings(max_examples=60, deadline=None)
@given(content=st.binary(max_size=300), packed=st.booleans())
def test_anything_is_refused_in_words(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, packed: bool
) -> None:
    folder = tmp_path_factory.getbasetemp()
    file = folder / "fuzz.tar.gz"
    file.write_bytes(gzip.compress(content) if packed else content)
    with pytest.raises(FreeholdError) as caught:
        restore.restore(file, Home(folder / "never"))
    assert caught.value.hint
