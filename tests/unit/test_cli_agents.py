"""`freehold agent`: manifests that are made, shown, edited and removed."""

from __future__ import annotations

import errno
import json
import os
import tomllib
from pathlib import Path

import pytest
from helpers.cli import error_of, full_disk, made, run

from node.home import Home


def test_agent_new_list_show(home: Home) -> None:
    made(home)
    done = run("agent", "new", "poet", "--about", "Rhymes", "--tool", "text", "--tool", "calc")
    assert done.exit_code == 0, done.output
    listed = json.loads(run("agent", "list", "--json").stdout)
    assert [(item["name"], item["state"]) for item in listed] == [
        ("clerk", "ready"),
        ("poet", "ready"),
    ]
    shown = json.loads(run("agent", "show", "poet", "--json").stdout)
    assert [tool["name"] for tool in shown["tools"]] == ["text", "calc"]
    assert 'name = "poet"' in run("agent", "show", "poet").stdout
    assert "already" in error_of(run("agent", "new", "poet")).message


def test_tools_that_an_agent_cannot_have_are_told_without_a_daemon(home: Home) -> None:
    made(home)
    missing, ungranted = "there is no tool 'calk'", "tool files wants workspace"
    assert missing in run("agent", "new", "sums", "--tool", "calk").stderr
    assert ungranted in run("agent", "new", "filer", "--tool", "files").stderr
    listed = {item["name"]: item for item in json.loads(run("agent", "list", "--json").stdout)}
    assert [listed[name]["state"] for name in ("clerk", "filer", "sums")] == [
        "ready",
        "broken",
        "broken",
    ]
    assert missing in listed["sums"]["about"]
    told = run("doctor").stdout
    assert missing in told
    assert "Did you mean calc?" in told
    assert ungranted in told


def test_what_the_tools_of_a_new_agent_want_stands_in_its_file(home: Home) -> None:
    made(home)
    run("agent", "new", "filer", "--tool", "files", "--tool", "web", "--tool", "calk")
    path = home.agents / "filer.toml"
    tables = [{"name": "files"}, {"name": "web"}, {"name": "calk"}]
    assert tomllib.loads(path.read_text())["tools"] == tables
    path.write_text(path.read_text().replace("# grant", "grant").replace("calk", "calc"))
    listed = {item["name"]: item for item in json.loads(run("agent", "list", "--json").stdout)}
    assert listed["filer"]["state"] == "ready"


@pytest.mark.parametrize("name", ["../x", "", ".hidden", "a/b", "Ä", "x" * 50])
def test_agent_names_are_plain(home: Home, name: str) -> None:
    made(home)
    error = error_of(run("agent", "new", "--", name))
    assert error.hint
    assert sorted(path.name for path in home.root.rglob("*.toml")) == ["clerk.toml", "config.toml"]


def test_agent_pause_keeps_the_rest_of_the_file(home: Home) -> None:
    made(home)
    path = home.agents / "clerk.toml"
    before = path.read_text()
    assert run("agent", "pause", "clerk").exit_code == 0
    paused = tomllib.loads(path.read_text())
    assert paused["paused"] is True
    assert {**tomllib.loads(before), "paused": True} == paused
    assert before.splitlines()[0] in path.read_text()
    assert json.loads(run("agent", "list", "--json").stdout)[0]["state"] == "paused"
    run("agent", "pause", "clerk", "--off")
    assert tomllib.loads(path.read_text())["paused"] is False


def test_agent_edit_takes_only_what_is_valid(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(home)
    path = home.agents / "clerk.toml"
    before = path.read_bytes()
    editor = tmp_path / "editor"
    editor.write_text("#!/bin/sh\nprintf 'nonsense = 1\\n' >> \"$1\"\n")
    editor.chmod(0o755)
    monkeypatch.setenv("VISUAL", str(editor))
    error = error_of(run("agent", "edit", "clerk"))
    assert "nonsense" in error.message
    assert path.read_bytes() == before
    assert b"nonsense" in (home.agents / ".clerk.rejected").read_bytes()
    editor.write_text("#!/bin/sh\nsed -i 's/Does sums/Does many sums/' \"$1\"\n")
    assert run("agent", "edit", "clerk").exit_code == 0
    assert b"Does many sums" in path.read_bytes()


def test_agent_edit_on_a_full_disk_keeps_what_was_written(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = made(home).agents / "clerk.toml"
    before = path.read_bytes()
    editor = tmp_path / "editor"
    editor.write_text("#!/bin/sh\nsed -i 's/Does sums/Rhymes/' \"$1\"\n")
    editor.chmod(0o755)
    monkeypatch.setenv("VISUAL", str(editor))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    with monkeypatch.context() as patched:
        patched.setattr("node.disk.sync", full_disk)
        error = error_of(run("agent", "edit", "clerk"))
    assert (error.message, path.read_bytes()) == (
        f"cannot write {path}: {os.strerror(errno.ENOSPC)}",
        before,
    )
    text = Path(error.hint.removeprefix("Your text is in ").removesuffix("."))
    assert b"Rhymes" in text.read_bytes()
    text.unlink()
    assert run("agent", "edit", "clerk").exit_code == 0
    assert b"Rhymes" in path.read_bytes()
    assert list(tmp_path.glob("*.toml")) == []


@pytest.mark.parametrize("meanwhile", ["sed -i '1i paused = true'", "rm"])
def test_agent_edit_undoes_nothing_that_was_done_meanwhile(
    meanwhile: str, home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A person pauses, or removes, the agent whose file is open in another terminal's editor."""
    path = made(home).agents / "clerk.toml"
    editor = tmp_path / "editor"
    editor.write_text(f"#!/bin/sh\n{meanwhile} {path}\nsed -i 's/Does sums/Rhymes/' \"$1\"\n")
    editor.chmod(0o755)
    monkeypatch.setenv("VISUAL", str(editor))
    error = error_of(run("agent", "edit", "clerk"))
    assert "meanwhile" in error.message
    assert str(home.agents / ".clerk.rejected") in error.hint
    assert b"Rhymes" in (home.agents / ".clerk.rejected").read_bytes()
    if meanwhile == "rm":
        assert not path.exists()
    else:
        assert tomllib.loads(path.read_text())["paused"] is True
        assert "Does sums" in path.read_text()


def test_an_agent_that_is_kept_elsewhere_is_changed_there(home: Home, tmp_path: Path) -> None:
    made(home)
    path, kept = home.agents / "clerk.toml", tmp_path / "repository.toml"
    path.rename(kept)
    path.symlink_to(kept)
    assert run("agent", "pause", "clerk").exit_code == 0
    assert path.is_symlink()
    assert tomllib.loads(kept.read_text())["paused"] is True


def test_agent_pause_keeps_line_ends(home: Home) -> None:
    path = made(home).agents / "clerk.toml"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert run("agent", "pause", "clerk").exit_code == 0
    assert b'about = "Does sums, works on text and keeps files in its own folder"\r\n' in (
        path.read_bytes()
    )


def test_agent_remove_asks(home: Home) -> None:
    made(home)
    assert run("agent", "remove", "clerk", stdin="n\n").exit_code == 1
    assert (home.agents / "clerk.toml").exists()
    assert run("agent", "remove", "clerk", stdin="y\n").exit_code == 0
    assert not (home.agents / "clerk.toml").exists()
    assert "no agent" in error_of(run("agent", "show", "clerk")).message
