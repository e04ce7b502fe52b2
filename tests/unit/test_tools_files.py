"""files over a real workspace folder."""

from __future__ import annotations

import pytest

from node.sandbox import Grant, WorkspaceGrant


@pytest.fixture
def grant(tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "a.txt").write_text("hello\nThe Budget\r\n")
    (tmp_path / "notes" / "b.md").write_text("x" * 1000 + "é budget é" + "y" * 1000)
    (tmp_path / "notes" / ".hidden").write_text("budget")
    (tmp_path / "binary").write_bytes(b"\xff\xfebudget")
    return Grant(workspace=WorkspaceGrant(tmp_path, "rw"))


def test_list(shipped, grant):
    answer = shipped.call("files_list", {"path": "."}, grant)
    assert answer == {"entries": ["a.txt", "binary", "notes/"]}


def test_read_and_write(shipped, grant, tmp_path):
    written = shipped.call("files_write", {"path": "new/é.txt", "content": "žluť"}, grant)
    assert written == {"written": 6}
    assert (tmp_path / "new" / "é.txt").read_text() == "žluť"
    read = shipped.call("files_read", {"path": "new/é.txt"}, grant)
    assert read == {"content": "žluť"}


def test_an_empty_file_is_written_and_the_empty_path_is_the_top(shipped, grant, tmp_path):
    assert shipped.call("files_write", {"path": "a.txt", "content": ""}, grant) == {"written": 0}
    assert (tmp_path / "a.txt").read_bytes() == b""
    assert shipped.call("files_read", {"path": "a.txt"}, grant) == {"content": ""}
    assert "a.txt" in shipped.call("files_list", {"path": ""}, grant)["entries"]


@pytest.mark.parametrize("path", ["missing.txt", "../a.txt", "/etc/passwd", "notes", "binary"])
def test_what_cannot_be_read_is_said_in_words(shipped, grant, path):
    answer = shipped.call("files_read", {"path": path}, grant)
    assert set(answer) == {"error"}
    assert answer["error"]


def test_a_read_only_grant_stays_read_only(shipped, tmp_path):
    grant = Grant(workspace=WorkspaceGrant(tmp_path, "ro"))
    assert "error" in shipped.call("files_write", {"path": "a", "content": "x"}, grant)
    assert not (tmp_path / "a").exists()


def test_search_goes_through_folders(shipped, grant):
    matches = shipped.call("files_search", {"query": "budget"}, grant)["matches"]
    assert matches[0] == {"path": "a.txt", "line": 2, "text": "The Budget"}
    assert matches[1]["path"] == "notes/b.md"
    assert "é budget é" in matches[1]["text"]
    assert len(matches[1]["text"].encode()) <= 400
    assert len(matches) == 2


def test_search_names_what_it_could_not_look_into(shipped, grant, tmp_path):
    (tmp_path / "notes" / "long.log").write_text("budget\n" + "x" * (1 << 20))
    answer = shipped.call("files_search", {"query": "nowhere"}, grant)
    assert answer["matches"] == []
    binary, long = answer["unread"]
    assert binary == "binary: the file is not UTF-8 text"
    assert long.startswith("notes/long.log: the file is larger")
    for number in range(20):
        (tmp_path / f"{number}.png").write_bytes(b"\xff")
    assert len(shipped.call("files_search", {"query": "nowhere"}, grant)["unread"]) == 10


def test_an_upper_case_letter_makes_search_exact(shipped, grant):
    assert len(shipped.call("files_search", {"query": "Budget"}, grant)["matches"]) == 1
    answer = shipped.call("files_search", {"query": "bUdget"}, grant)
    assert answer == {"matches": [], "unread": ["binary: the file is not UTF-8 text"]}


def test_search_stops_at_its_limit_and_says_so(shipped, tmp_path):
    (tmp_path / "many").write_text("hit\n" * 500)
    grant = Grant(workspace=WorkspaceGrant(tmp_path))
    answer = shipped.call("files_search", {"query": "hit"}, grant)
    assert (len(answer["matches"]), answer["truncated"]) == (200, True)


def test_an_empty_query_is_refused(shipped, grant):
    assert shipped.call("files_search", {"query": ""}, grant) == {"error": "the query is empty"}
    assert "line end" in shipped.call("files_search", {"query": "hello\nThe"}, grant)["error"]
