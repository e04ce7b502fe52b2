"""The `workspace` capability: what a path may reach, and what it may not."""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from helpers.sandbox import call_with
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from node.errors import ToolLimitError
from node.sandbox import Grant, WorkspaceGrant
from node.sandbox.abi import Err
from node.sandbox.capabilities.workspace import workspace_functions
from node.sandbox.hostcall import HostCall

PIECES = ["..", ".", "a", "link", "", "~", "%2e%2e", "\0"]


def host_call(root: Path, mode: str = "rw", **limits: int) -> HostCall:
    return call_with(Grant(workspace=WorkspaceGrant(root, mode)), **limits)


def do(call: HostCall, name: str, *arguments: str) -> object:
    functions = {each.name: each for each in workspace_functions(call.limits)}
    return functions[name].run(call, *arguments)


def refused(call: HostCall, name: str, *arguments: str) -> str:
    answer = do(call, name, *arguments)
    assert isinstance(answer, Err), answer
    return answer.value


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "workspace"
    folder.mkdir()
    (tmp_path / "secret").write_text("secret")
    return folder


def test_writes_reads_lists_and_removes(root: Path) -> None:
    call = host_call(root)
    assert do(call, "write", "notes/today.txt", "grüße") == 7
    assert do(call, "read", "./notes//today.txt") == "grüße"
    assert do(call, "list", ".") == "notes/"
    assert do(call, "list", "notes") == "today.txt"
    assert call.origins == {"workspace:notes/today.txt": None, "workspace:notes": None}
    assert do(call, "remove", "notes/today.txt") == "notes/today.txt"
    assert do(call, "remove", "notes") == "notes"
    assert list(root.iterdir()) == []


def test_names_are_content_too(root: Path) -> None:
    """Whoever wrote a file chose what it is called, and the folder that was made for it."""
    (root / "a" / "b").mkdir(parents=True)
    (root / "a" / "c.txt").write_text("x")
    call = host_call(root)
    assert do(call, "list", "a") == "b/\nc.txt"
    assert list(call.origins) == ["workspace:a/b", "workspace:a/c.txt"]
    top = host_call(root)
    do(top, "list", "")
    assert list(top.origins) == ["workspace:a"]


def test_replaces_a_file_whole_and_leaves_nothing_beside_it(root: Path) -> None:
    call = host_call(root)
    do(call, "write", "a", "long before")
    do(call, "write", "a", "now")
    assert (root / "a").read_text() == "now"
    assert [path.name for path in root.iterdir()] == ["a"]


@pytest.mark.parametrize(
    "path",
    [
        "../secret",
        "a/../../secret",
        "..",
        "/etc/passwd",
        "//etc/passwd",
        "a\0b",
        "..\\secret",
        "x" * 256,
        "/".join("a" * 33),
        "é" * 600,
        "a\nb",
    ],
)
@pytest.mark.parametrize("name", ["read", "list", "remove"])
def test_refuses_paths_that_lead_out_or_are_no_paths(root: Path, path: str, name: str) -> None:
    assert refused(host_call(root), name, path)
    assert refused(host_call(root), "write", path, "x")
    assert (root.parent / "secret").read_text() == "secret"


@pytest.mark.parametrize("target", ["../secret", "absolute", "inside"])
def test_follows_no_link_whoever_planted_it(root: Path, target: str) -> None:
    (root / "inside").write_text("inside")
    (root / "link").symlink_to(root.parent / "secret" if target == "absolute" else target)
    call = host_call(root)
    assert "link" in refused(call, "read", "link")
    assert refused(call, "write", "link", "x")
    assert (root.parent / "secret").read_text() == "secret"


def test_follows_no_linked_folder(root: Path) -> None:
    outside = root.parent / "outside"
    outside.mkdir()
    (outside / "file").write_text("secret")
    (root / "folder").symlink_to(outside)
    call = host_call(root)
    for arguments in (("read", "folder/file"), ("list", "folder"), ("write", "folder/new", "x")):
        assert "links are not followed" in refused(call, *arguments)
    assert refused(call, "remove", "folder/file")
    assert (outside / "file").exists()


def test_removing_a_link_leaves_what_it_names(root: Path) -> None:
    (root / "link").symlink_to(root.parent / "secret")
    assert do(host_call(root), "remove", "link") == "link"
    assert (root.parent / "secret").exists()


def test_refuses_hard_links(root: Path) -> None:
    os.link(root.parent / "secret", root / "link")
    call = host_call(root)
    assert "hard link" in refused(call, "read", "link")
    assert "hard link" in refused(call, "write", "link", "x")
    assert (root.parent / "secret").read_text() == "secret"


def test_refuses_what_is_no_file(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(root / "pipe")
    monkeypatch.chdir(root)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
        call = host_call(root)
        for name in ("pipe", "socket"):
            assert "regular file" in refused(call, "read", name)
            assert "regular file" in refused(call, "write", name, "x")


def test_writes_nothing_to_a_read_only_grant(root: Path) -> None:
    (root / "a").write_text("a")
    call = host_call(root, mode="ro")
    assert "read-only" in refused(call, "write", "a", "x")
    assert "read-only" in refused(call, "remove", "a")
    assert do(call, "read", "a") == "a"


def test_a_function_that_only_reads_is_held_to_its_word(root: Path) -> None:
    (root / "a").write_text("x")
    call = host_call(root)
    call.grant = replace(call.grant, read_only=True)
    assert do(call, "read", "a") == "x"
    assert "only reads" in refused(call, "write", "a", "y")
    assert "only reads" in refused(call, "write", "new/b", "y")
    assert "only reads" in refused(call, "remove", "a")
    assert [path.name for path in root.iterdir()] == ["a"]


def test_asks_before_it_writes(root: Path) -> None:
    asked: list[tuple[str, tuple[str, ...]]] = []

    def before_write(path: str, origins: tuple[str, ...]) -> None:
        asked.append((path, origins))
        if path == "no":
            raise OSError("the node cannot note it")

    call = host_call(root)
    call.grant = Grant(workspace=WorkspaceGrant(root, "rw", before_write))
    (root / "a").write_text("a")
    do(call, "read", "a")
    assert do(call, "write", "b/c", "x") == 1
    assert "could not" in refused(call, "write", "no", "x")
    assert asked == [("b/c", ("workspace:a",)), ("no", ("workspace:a",))]
    assert not (root / "no").exists()


def test_asks_before_it_removes(root: Path) -> None:
    asked: list[tuple[str, bool]] = []

    def before_write(path: str, _origins: tuple[str, ...]) -> None:
        asked.append((path, (root / path).exists()))
        if path == "no":
            raise OSError("the node cannot note it")

    call = host_call(root)
    call.grant = Grant(workspace=WorkspaceGrant(root, "rw", before_write))
    (root / "b").mkdir()
    for name in ("b/c", "no"):
        (root / name).write_text("x")
    assert "no such file" in refused(call, "remove", "a")
    assert do(call, "remove", "b/c") == "b/c"
    assert do(call, "remove", "b") == "b"
    assert "could not" in refused(call, "remove", "no")
    assert asked == [("b/c", True), ("b", True), ("no", True)]
    assert [path.name for path in root.iterdir()] == ["no"]


@pytest.mark.parametrize("function", ["write", "remove"])
def test_who_was_cancelled_while_it_waited_changes_nothing(root: Path, function: str) -> None:
    """It waits for a rollback, which must not be written over by a run that is over."""
    call = host_call(root)
    (root / "a").write_text("rolled back")

    def before_write(_path: str, _origins: tuple[str, ...]) -> None:
        call.is_cancelled = True

    call.grant = Grant(workspace=WorkspaceGrant(root, "rw", before_write))
    with pytest.raises(ToolLimitError, match="was cancelled"):
        do(call, function, "a", *(["x"] * (function == "write")))
    assert (root / "a").read_text() == "rolled back"


def test_a_folder_is_made_once_its_name_is_noted(root: Path) -> None:
    """A name is content too, and what should lie in the folder may not come to that."""
    asked: list[str] = []
    call = host_call(root, workspace_files=1)
    grant = WorkspaceGrant(root, "rw", lambda path, _origins: asked.append(path))
    call.grant = Grant(workspace=grant)
    assert "workspace_files" in refused(call, "write", "Send all to me/now", "x")
    assert (root / "Send all to me").is_dir()
    assert asked == ["Send all to me/now"]


def test_what_is_said_of_two_who_write_one_file_is_said_in_turn(root: Path) -> None:
    """Else what is noted last may be of the one whose text was replaced."""
    said: list[str] = []

    def writes(text: str, meanwhile: Callable[[], None] = lambda: None) -> None:
        def before(_path: str, _origins: tuple[str, ...]) -> None:
            said.append(f"before {text}")
            meanwhile()

        call = host_call(root)
        after = partial(lambda *_: said.append(f"after {text}"))
        call.grant = Grant(workspace=WorkspaceGrant(root, "rw", before, after))
        assert do(call, "write", "new/a", text) == 1

    other = threading.Thread(target=writes, args=("y",))

    def let_in() -> None:
        other.start()
        other.join(0.2)

    writes("x", let_in)
    other.join(5)
    assert said == ["before x", "after x", "before y", "after y"]
    assert (root / "new" / "a").read_text() == "y"


def test_what_is_read_has_the_marks_that_were_its_own(root: Path) -> None:
    """Whoever replaces the file meanwhile takes them off the file, and not from who read it."""
    marks = {"a": "untrusted"}
    (root / "a").write_text("theirs")
    writer, reader = host_call(root), host_call(root)
    clean = WorkspaceGrant(root, "rw", after_write=lambda *_: marks.clear())
    writer.grant = Grant(workspace=clean)
    other = threading.Thread(target=do, args=(writer, "write", "a", "ours"))

    def read_slowly(path: str) -> list[str]:
        other.start()
        other.join(0.2)
        return [marks[path]]

    reader.grant = Grant(workspace=WorkspaceGrant(root, marks=read_slowly))
    assert do(reader, "read", "a") == "theirs"
    other.join(5)
    assert (root / "a").read_text() == "ours"
    assert [*reader.origins] == ["mark:untrusted", "workspace:a"]
    assert marks == {}


def test_says_that_it_wrote_only_once_it_has(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    call = host_call(root)
    grant = WorkspaceGrant(
        root,
        "rw",
        before_write=lambda path, _origins: told.append(f"before {path}"),
        after_write=lambda path, _origins: told.append((root / path).read_text()),
    )
    call.grant = Grant(workspace=grant)
    assert do(call, "write", "a", "x") == 1

    def full(_fd: int, _data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    assert refused(call, "write", "a", "y")
    assert told == ["before a", "x", "before a"]
    assert os.listdir(root) == ["a"], "what was half written is gone"


@pytest.mark.parametrize(
    "name", [".git", ".GIT", ".git.", ".git ", ".g\u200cit", "．git", "Git~1", ".git::$DATA"]
)
def test_version_control_does_not_exist(root: Path, name: str) -> None:
    (root / ".git").mkdir()
    (root / ".git" / "config").write_text("x")
    call = host_call(root)
    assert "no such file" in refused(call, "read", f"{name}/config")
    assert "no such file" in refused(call, "write", f"{name}/hooks", "x")
    assert do(call, "list", ".") == ""


@pytest.mark.parametrize("name", [".freehold-notes", ".FREEHOLD-x", ".freehold-restoring-0"])
def test_what_no_version_keeps_does_not_exist(root: Path, name: str) -> None:
    """A history leaves these names out, so a rollback would leave them as they are."""
    (root / name).write_text("x")
    call = host_call(root)
    assert "no such file" in refused(call, "read", name)
    assert "no such file" in refused(call, "write", f"{name}.txt", "x")
    assert do(call, "list", ".") == ""


def test_keeps_quotas_within_one_call_and_between_calls(root: Path) -> None:
    call = host_call(root, workspace_bytes=10, workspace_files=3)
    assert do(call, "write", "a", "12345") == 5
    assert do(call, "write", "a", "1234567890") == 10
    assert "workspace_bytes = 10" in refused(call, "write", "b", "x")
    assert "workspace_files = 3" in refused(call, "write", "1/2/3/4", "")
    assert not (root / "1" / "2" / "3").exists()
    again = host_call(root, workspace_bytes=10, workspace_files=3)
    assert "workspace_bytes = 10" in refused(again, "write", "b", "x")
    assert do(again, "remove", "a") == "a"
    assert do(again, "write", "b", "1234567890") == 10
    assert do(again, "write", "b", "") == 0


def test_calls_at_once_share_a_quota(root: Path) -> None:
    one, other = (host_call(root, workspace_bytes=10, workspace_files=3) for _ in range(2))
    assert do(one, "write", "a", "1") == 1
    assert do(other, "write", "b", "12345678") == 8
    assert "workspace_bytes = 10" in refused(one, "write", "a", "12345678")
    assert do(other, "write", "c", "") == 0
    assert "workspace_files = 3" in refused(one, "write", "d", "")
    assert do(other, "remove", "b") == "b"
    assert do(one, "write", "a", "12345678") == 8


def test_a_file_can_get_smaller_where_there_is_too_much(root: Path) -> None:
    (root / "a").write_text("x" * 20)
    assert do(host_call(root, workspace_bytes=10), "write", "a", "x" * 15) == 15


def test_what_is_not_the_agents_counts_against_no_quota(root: Path) -> None:
    (root / "loop").symlink_to(root)
    (root / ".git").mkdir()
    for number in range(9):
        (root / ".git" / str(number)).write_text("x" * 99)
    assert do(host_call(root, workspace_bytes=99, workspace_files=2), "write", "a", "x") == 1


def test_a_file_that_is_replaced_keeps_its_permissions(root: Path) -> None:
    (root / "run.sh").write_text("1")
    (root / "run.sh").chmod(0o4750)
    for name in ("run.sh", "new"):
        assert do(host_call(root), "write", name, "2") == 1
    assert (root / "run.sh").stat().st_mode & 0o7777 == 0o750
    assert (root / "new").stat().st_mode & 0o7777 == 0o600


def test_a_folder_of_somebody_else_stops_no_write(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "sealed").mkdir()
    scandir = os.scandir

    def sealed(path: str) -> object:
        if path.endswith("sealed"):
            raise PermissionError(errno.EACCES, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", sealed)
    assert do(host_call(root, workspace_files=2), "write", "a", "x") == 1
    assert "workspace_files = 2" in refused(host_call(root, workspace_files=2), "write", "b", "x")


def test_what_goes_while_it_is_counted_hides_nothing_else(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        (root / name).write_text("x" * 9)
    (root / "c").mkdir()
    (root / "c" / "d").write_text("x" * 9)
    scandir = os.scandir

    def removing(path: str) -> object:
        with scandir(path) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
        (root / "a").unlink(missing_ok=True)
        return nullcontext(found)

    monkeypatch.setattr(os, "scandir", removing)
    call = host_call(root, workspace_bytes=20)
    assert "workspace_bytes = 20" in refused(call, "write", "e", "xxx")


def test_a_name_of_two_lines_is_not_listed_as_two_names(root: Path) -> None:
    (root / "a\nb").write_text("x")
    assert do(host_call(root), "list", ".") == ""


def test_a_list_has_an_end(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.sandbox.capabilities.workspace._LISTED", 2)
    for name in "ab":
        (root / name).touch()
    assert do(host_call(root), "list", ".") == "a\nb"
    (root / "c").touch()
    assert "more than 2 names" in refused(host_call(root), "list", ".")


def test_a_name_that_is_no_text_is_not_listed(root: Path) -> None:
    try:
        (root / os.fsdecode(b"a\xff")).write_text("x")
    except OSError as error:
        pytest.skip(f"this file system takes no such name: {error}")
    assert do(host_call(root), "list", ".") == ""


def test_a_file_whose_bytes_the_disk_does_not_keep_is_not_replaced(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "a").write_text("x")

    def fail(_fd: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("node.sandbox.capabilities.paths.sync", fail)
    assert refused(host_call(root), "write", "a", "y")
    assert (root / "a").read_text() == "x"
    assert os.listdir(root) == ["a"]


def test_names_the_limit_of_a_file(root: Path) -> None:
    (root / "big").write_text("x" * 11)
    call = host_call(root, file_bytes=10)
    assert "file_bytes = 10" in refused(call, "read", "big")
    assert "file_bytes = 10" in refused(call, "write", "big", "x" * 11)


def test_refuses_what_is_not_text(root: Path) -> None:
    (root / "binary").write_bytes(b"\xff\xfe")
    assert "UTF-8" in refused(host_call(root), "read", "binary")


@settings(
    max_examples=int(os.environ.get("FREEHOLD_FUZZ", "150")),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    deadline=None,
)
@given(
    path=st.one_of(
        st.text(max_size=40),
        st.lists(st.sampled_from(PIECES), max_size=6).map("/".join),
    )
)
def test_no_path_reaches_outside(root: Path, path: str) -> None:
    if not (root / "link").is_symlink():
        (root / "link").symlink_to("..")
    call = host_call(root)
    answer = do(call, "read", path)
    assert isinstance(answer, Err) or answer == "inside"
    assert isinstance(do(call, "write", path, "inside"), int | Err)
    assert (root.parent / "secret").read_text() == "secret"
    assert sorted(each.name for each in root.parent.iterdir()) == ["secret", "workspace"]
