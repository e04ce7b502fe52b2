"""Labels that files carry from the run that wrote them to the runs that read them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.clock import ManualClock
from node.runs.effect import Label
from node.runs.workspace import Workspaces
from node.runs.workspace_labels import FileLabels

UNTRUSTED: frozenset[Label] = frozenset({"untrusted"})
PRIVATE: frozenset[Label] = frozenset({"private"})
NONE: frozenset[Label] = frozenset()


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


def test_marks_that_cannot_be_kept_stop_the_write(tmp_path: Path) -> None:
    labels = FileLabels(tmp_path / "missing")
    labels.wrote("clerk", "a", NONE)
    with pytest.raises(OSError, match="missing"):
        labels.wrote("clerk", "a", UNTRUSTED)


@given(
    content=st.binary(max_size=40)
    | st.sampled_from(
        [b"", b"[]", b"{}", b'{"now":{},"ever":[]}', b'{"now":{"a":["x"]},"ever":{}}', b"[" * 9999]
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
    labels.wrote("clerk", "a", NONE)
    assert labels.of("clerk", "a") == UNTRUSTED | PRIVATE
