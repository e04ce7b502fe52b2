"""Labels that files carry from the run that wrote them to the runs that read them."""

from __future__ import annotations

import errno
import os
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.clock import ManualClock
from node.errors import WorkspaceError
from node.runs import workspace, workspace_labels
from node.runs.effect import Label
from node.runs.workspace import Workspaces
from node.runs.workspace_files import restore_files
from node.runs.workspace_labels import FileLabels, folded

UNTRUSTED: frozenset[Label] = frozenset({"untrusted"})
PRIVATE: frozenset[Label] = frozenset({"private"})
NONE: frozenset[Label] = frozenset()
OLD = b'{"now":{"*":["private","untrusted"]},"ever":{}}'


def test_a_mark_lasts_until_a_run_without_labels_replaces_the_file(tmp_path: Path) -> None:
    labels = FileLabels(tmp_path)
    labels.wrote("clerk", "a", UNTRUSTED)
    assert FileLabels(tmp_path).of("clerk", "a") == UNTRUSTED
    assert labels.of("clerk", "b") == NONE
    assert labels.of("cook", "a") == NONE
    labels.wrote("clerk", "a", PRIVATE)
    assert labels.of("clerk", "a") == PRIVATE
    labels.wrote("clerk", "a", NONE)
    assert FileLabels(tmp_path).of("clerk", "a") == NONE


def test_the_name_of_a_folder_carries_what_the_files_in_it_do(tmp_path: Path) -> None:
    labels = FileLabels(tmp_path)
    labels.wrote("clerk", "Send all/to me/now", UNTRUSTED)
    labels.wrote("clerk", "diary", PRIVATE)
    read = labels.reader("clerk")
    assert read("Send all") == read("send all/to me") == UNTRUSTED
    assert read("diary") == PRIVATE
    assert read("Send") == read("notes") == NONE


def test_an_old_version_put_back_has_all_it_ever_carried(tmp_path: Path) -> None:
    labels = FileLabels(tmp_path)
    for carried in (UNTRUSTED, PRIVATE, NONE):
        labels.wrote("clerk", "a", carried)
    labels.put_back("clerk", ["a", "b"])
    assert labels.of("clerk", "a") == UNTRUSTED | PRIVATE
    assert labels.of("clerk", "b") == NONE


async def test_a_rollback_brings_the_marks_back(tmp_path: Path) -> None:
    workspaces = Workspaces(tmp_path, clock=ManualClock())
    labels = FileLabels(tmp_path)
    file = workspaces.root("clerk") / "a"
    versions = []
    for carried, text in ((UNTRUSTED, "theirs"), (NONE, "ours")):
        labels.wrote("clerk", "a", carried)
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
        versions.append(await workspaces.keep("clerk", run="r", key=f"r:{text}", note=""))
    assert labels.of("clerk", "a") == NONE
    assert versions[0] is not None
    await workspaces.rollback("clerk", versions[0].id)
    assert labels.of("clerk", "a") == UNTRUSTED


def test_what_was_not_replaced_after_all_keeps_its_marks(tmp_path: Path) -> None:
    """The write may fail, or the process die before it."""
    labels = FileLabels(tmp_path)
    labels.wrote("clerk", "a", UNTRUSTED)
    labels.writes("clerk", "a", PRIVATE)
    labels.writes("clerk", "b", PRIVATE)
    labels.writes("clerk", "c", NONE)
    assert FileLabels(tmp_path).of("clerk", "a") == UNTRUSTED | PRIVATE
    assert labels.of("clerk", "b") == PRIVATE
    labels.wrote("clerk", "a", PRIVATE)
    assert labels.of("clerk", "a") == PRIVATE


def test_what_is_put_back_has_the_marks_of_its_other_spellings(tmp_path: Path) -> None:
    labels = FileLabels(tmp_path)
    labels.wrote("clerk", "Notes", UNTRUSTED)
    labels.wrote("clerk", "Notes", NONE)
    labels.put_back("clerk", ["notes", "other"])
    assert (labels.of("clerk", "notes"), labels.of("clerk", "other")) == (UNTRUSTED, NONE)


def test_putting_many_files_back_spells_each_name_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once for each mark and file: a rollback of thousands of files must not take minutes."""
    labels = FileLabels(tmp_path)
    names = [f"f{number}" for number in range(30)]
    for name in names:
        labels.wrote("clerk", name, UNTRUSTED)
    spelt: list[str] = []

    def counted(path: str) -> str:
        spelt.append(path)
        return folded(path)

    monkeypatch.setattr(workspace_labels, "folded", counted)
    labels.put_back("clerk", names)
    assert sorted(spelt) == sorted([*names, *names])


def test_spellings_that_are_one_only_when_folded_twice_are_one() -> None:
    assert folded("\U0001d400") == folded("a")
    assert folded("\u0390") == folded("\u03aa\u0301")


@pytest.mark.parametrize("name", ["NOTES.TXT", "Cafe\u0301", "stra\u00dfe", "\ufb01le"])
def test_another_spelling_of_a_name_has_its_marks(tmp_path: Path, name: str) -> None:
    """macOS and others read `notes` where somebody wrote `NOTES`."""
    labels = FileLabels(tmp_path)
    labels.wrote("clerk", name, UNTRUSTED)
    others = [name, name.lower(), name.upper(), unicodedata.normalize("NFC", name)]
    assert all(labels.of("clerk", other) == UNTRUSTED for other in others)
    for other in others[1:]:
        if other != name:
            labels.wrote("clerk", other, NONE)
    assert labels.of("clerk", name) == UNTRUSTED, "elsewhere it is another file"


def test_marks_changed_within_a_tick_of_the_clock_are_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file may have the place, size and times of the one that was replaced."""
    labels, stat = FileLabels(tmp_path), Path.stat

    def same(path: Path, **more: bool) -> os.stat_result:
        facts = [*stat(path, **more)]
        return os.stat_result([*facts[:1], 7, *facts[2:6], 7, 7, 7, 7])

    monkeypatch.setattr(Path, "stat", same)
    for carried in (UNTRUSTED, PRIVATE, NONE, UNTRUSTED):
        labels.wrote("clerk", "a", carried)
        assert FileLabels(tmp_path).of("clerk", "a") == carried


def test_two_that_keep_marks_lose_none(tmp_path: Path) -> None:
    def mark(number: int) -> None:
        FileLabels(tmp_path).wrote("clerk", str(number), UNTRUSTED)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(mark, range(40)))
    labels = FileLabels(tmp_path)
    assert all(labels.of("clerk", str(number)) == UNTRUSTED for number in range(40))


async def test_a_rollback_that_dies_halfway_has_marked_what_it_put_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspaces, labels = Workspaces(tmp_path, clock=ManualClock()), FileLabels(tmp_path)
    file = workspaces.root("clerk") / "a"
    file.parent.mkdir()
    labels.wrote("clerk", "a", UNTRUSTED)
    file.write_text("theirs")
    first = await workspaces.keep("clerk", run="r", key="r:1", note="")
    assert first is not None
    labels.wrote("clerk", "a", NONE)
    file.write_text("ours")

    def dies(root: Path, wanted: dict[str, bytes]) -> None:
        restore_files(root, wanted)
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(workspace, "restore_files", dies)
    with pytest.raises(WorkspaceError):
        await workspaces.rollback("clerk", first.id)
    assert file.read_text() == "theirs"
    assert labels.of("clerk", "a") == UNTRUSTED


def test_marks_that_cannot_be_kept_stop_the_write(tmp_path: Path) -> None:
    labels = FileLabels(tmp_path / "missing")
    labels.wrote("clerk", "a", NONE)
    with pytest.raises(OSError, match="missing"):
        labels.wrote("clerk", "a", UNTRUSTED)


@given(
    content=st.binary(max_size=40)
    | st.sampled_from(
        [
            b"",
            b"[]",
            b"{}",
            OLD,
            b'{"now":{},"ever":[]}',
            b'{"now":{"a":["x"]},"ever":{}}',
            b"[" * 9999,
        ]
    )
)
@settings(max_examples=100, deadline=None)
def test_marks_that_cannot_be_read_label_everything(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    folder = tmp_path_factory.mktemp("marks")
    (folder / ".labels-clerk.json").write_bytes(content)
    labels = FileLabels(folder)
    assert labels.of("clerk", "a") == UNTRUSTED | PRIVATE
    for path, carried in (("a", NONE), ("*", UNTRUSTED), ("*", NONE)):
        labels.writes("clerk", path, carried)
        labels.wrote("clerk", path, carried)
        assert labels.of("clerk", "a") == UNTRUSTED | PRIVATE


def test_marks_that_cannot_be_read_just_now_are_not_written_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(_path: Path) -> bytes:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    labels = FileLabels(tmp_path)
    labels.wrote("clerk", "a", PRIVATE)
    workspace_labels._READ.clear()  # a new process
    with monkeypatch.context() as patched:
        patched.setattr(Path, "read_bytes", refused)
        assert labels.of("clerk", "b") == UNTRUSTED | PRIVATE
        with pytest.raises(OSError, match="open files"):
            labels.writes("clerk", "b", UNTRUSTED)
    assert (labels.of("clerk", "a"), labels.of("clerk", "b")) == (PRIVATE, NONE)


def test_a_file_of_any_name_has_its_own_marks_alone(tmp_path: Path) -> None:
    labels = FileLabels(tmp_path)
    labels.wrote("clerk", "*", UNTRUSTED)
    assert labels.of("clerk", "*") == UNTRUSTED
    assert labels.of("clerk", "a") == NONE
    labels.wrote("clerk", "*", NONE)
    assert labels.of("clerk", "*") == NONE
    labels.put_back("clerk", ["*"])
    assert labels.of("clerk", "*") == UNTRUSTED
    assert labels.of("clerk", "a") == NONE
