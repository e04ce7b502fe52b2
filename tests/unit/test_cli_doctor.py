"""`freehold doctor`: what it finds, what it mends, and what it leaves alone."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import socket
import stat
from pathlib import Path
from typing import Any

import pytest
from helpers.cli import error_of, made, run

from node.cli import doctor_checks
from node.home import Home
from node.identity import KeyStore
from node.inference.models.store import SHIPPED
from node.journal import Draft, Journal


def test_doctor_finds_and_fixes(home: Home) -> None:
    made(home)
    (home.keys / "api.secret").write_text(
        json.dumps(
            {"url": "https://a.example/*", "header": "A", "value": "top", "agents": ["clerk"]}
        )
    )
    (home.keys / "api.secret").chmod(0o644)
    home.agents.chmod(0o755)
    home.config.chmod(0o640)
    home.tools.rmdir()
    wrong = json.loads(run("doctor", "--json").stdout)
    assert {item["what"] for item in wrong if item["problem"]} == {
        "folders",
        "config",
        "keys",
        "daemon",
    }
    assert run("doctor").exit_code == 1
    run("doctor", "--fix")
    left = json.loads(run("doctor", "--fix", "--json").stdout)
    assert [item["what"] for item in left if item["problem"] and not item["fixed"]] == ["daemon"]
    assert stat.S_IMODE((home.keys / "api.secret").stat().st_mode) == 0o600
    assert stat.S_IMODE(home.agents.stat().st_mode) == 0o700
    assert home.tools.is_dir()
    KeyStore(home.keys).set("cut", b"{")
    found = json.loads(run("doctor", "--json").stdout)
    assert ["cut" in item["problem"] for item in found if item["what"] == "keys"] == [True]


def test_doctor_does_not_say_fixed_of_what_it_leaves_alone(home: Home) -> None:
    made(home)
    (home.keys / "api.secret").symlink_to("/etc/hostname")
    (home.keys / "wide.secret").write_text("x")
    (home.keys / "wide.secret").chmod(0o644)
    done = run("doctor", "--fix", "--json")
    found = {i["problem"]: i for i in json.loads(done.stdout) if i["what"] == "keys"}
    link, wide = sorted(found, key=lambda problem: "open to others" in problem)
    assert "is a symbolic link" in link
    assert (found[link]["fixed"], found[wide]["fixed"]) == (False, True)
    assert "Not repaired" in found[link]["hint"]


def test_doctor_tells_of_a_restore_that_was_cut_off(home: Home) -> None:
    made(home)
    (left := home.root.with_name(".h.restoring.0a0b0c0d")).mkdir()
    home.root.with_name(".i.restoring.0a0b0c0d").mkdir()
    notes = [item["note"] for item in json.loads(run("doctor", "--json").stdout)]
    assert [note for note in notes if "restoring" in note] == [
        f"{left} holds a node's secrets; delete it, unless a restore is under way"
    ]


def test_doctor_verifies_the_log(home: Home) -> None:
    made(home)
    log = Journal.open_sync(home.journal, origin="freehold/test-node")
    log.append_sync(Draft("node.started"))
    log.close()
    found = {item["what"]: item for item in json.loads(run("doctor", "--json").stdout)}
    assert found["log"]["problem"] == ""
    (segment,) = home.journal.glob("*.jsonl")
    segment.write_bytes(segment.read_bytes().replace(b"node.started", b"node.Started"))
    found = {item["what"]: item for item in json.loads(run("doctor", "--json").stdout)}
    assert "0" in found["log"]["problem"]
    assert "audit verify" in found["log"]["hint"]


def test_doctor_says_that_a_log_was_rolled_back_or_lost_content(home: Home) -> None:
    log = Journal.open_sync(made(home).journal, origin="freehold/test-node")
    ref = log.put_blob(b"hello", "prompt")
    log.append_sync(Draft("run.started", run="r-1", blobs=(ref,)))
    log.close()
    before = shutil.copytree(home.journal, home.root / "older")
    log = Journal.open_sync(home.journal, origin="freehold/test-node")
    log.append_sync(Draft("node.started"))
    log.close()
    assert logged(home)["problem"] == ""
    shutil.rmtree(home.journal)
    before.rename(home.journal)
    assert "kept head" in logged(home)["problem"]
    home.journal.with_name("journal.head").unlink()
    assert logged(home)["problem"] == ""
    for path in (home.journal / "blobs").rglob("*"):
        if path.is_file():
            path.unlink()
    assert "blob" in logged(home)["problem"]
    (home.journal / "log.vkey").unlink()
    assert logged(home)["problem"]


def test_doctor_says_what_keeps_a_sound_log_from_being_opened(home: Home) -> None:
    Journal.open_sync(made(home).journal, origin="freehold/another").close()
    assert "is 'freehold/another', not 'freehold/test-node'" in logged(home)["problem"]
    shutil.rmtree(home.journal)
    home.journal.with_name("journal.head").unlink()
    Journal.open_sync(home.journal, origin="freehold/test-node").close()
    assert logged(home)["problem"] == ""
    shutil.rmtree(home.journal / "keys")
    assert "secret" in logged(home)["problem"]
    assert "freehold audit relink" in logged(home)["hint"]
    (home.journal / "log.vkey").write_text("x\n")
    assert "log.vkey" in logged(home)["problem"], "the file is named"


def logged(home: Home) -> dict[str, Any]:
    """What doctor says of the log; the first thing."""
    items: list[dict[str, Any]] = json.loads(run("doctor", "--json").stdout)
    return next(item for item in items if item["what"] == "log")


def test_doctor_does_not_say_that_a_log_in_use_is_well(home: Home) -> None:
    log = Journal.open_sync(made(home).journal, origin="freehold/test-node")
    log.append_sync(Draft("node.started"))
    with home.hold():
        assert "not looked at" in logged(home)["note"]
    log.close()


def test_a_repair_that_fails_hides_nothing_else(home: Home) -> None:
    """The socket looks dead, and the daemon that is about to answer on it has the home."""
    made(home)
    home.agents.chmod(0o755)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(home.socket))
    with home.hold():
        done = run("doctor", "--fix", "--json")
    found = {item["what"]: item for item in json.loads(done.stdout) if item["problem"]}
    assert found["folders"]["fixed"] is True
    assert [item for item in json.loads(done.stdout) if "is left from" in item["problem"]] == [
        {
            "what": "daemon",
            "problem": f"{home.socket} is left from a daemon that died",
            "hint": f"Not repaired: a process (pid {os.getpid()}) already works on {home.root}",
            "fixed": False,
            "note": "",
        }
    ]
    assert done.exit_code == 1


def test_a_check_that_cannot_look_hides_nothing_else(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(home)

    def broken(path: Path) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))

    monkeypatch.setattr("shutil.disk_usage", broken)
    done = run("doctor", "--json")
    found = {item["what"]: item for item in json.loads(done.stdout)}
    assert [*found] == [what for what, _ in doctor_checks.CHECKS]
    assert "Input/output error" in found["disk"]["problem"]
    assert done.exit_code == 1


def test_a_home_that_cannot_be_written_is_named(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not the archive, or the daemon, that could not be made because of it."""
    made(home)
    home.lock.mkdir()  # root may write anywhere; this it cannot
    error = error_of(run("backup", str(tmp_path / "archive")))
    assert str(home.lock) in error.message
    assert "copy" in error.hint, "a disk that died is a time for a backup"
    assert not (tmp_path / "archive").exists()
    monkeypatch.setattr(os, "access", lambda path, mode: path != home.run)
    found = {item["problem"] for item in json.loads(run("doctor", "--json").stdout)}
    assert f"{home.run} cannot be written" in found


def test_doctor_says_what_is_wrong_with_files(home: Home) -> None:
    made(home)
    home.config.write_text("[daemon]\nx = 1\n")
    (home.agents / "bad.toml").write_text("name = 3\n")
    (home.agents / ".#clerk.toml").symlink_to("me@host.1:2")  # Emacs has it open
    found = {item["what"]: item for item in json.loads(run("doctor", "--json").stdout)}
    assert "daemon.x" in found["config"]["problem"]
    assert found["models"]["problem"] == ""
    assert "bad.toml" in found["agents"]["problem"]
    listed = {item["name"] for item in json.loads(run("agent", "list", "--json").stdout)}
    assert listed == {"bad", "clerk"}
    assert ".#clerk" not in run("doctor").stdout


def test_the_weights_that_an_archive_leaves_out_come_back_as_doctor_says(
    home: Home, tmp_path: Path
) -> None:
    made(home)
    file = tmp_path / "m.gguf"
    shutil.copyfile(SHIPPED / "default.gguf", file)
    assert run("model", "add", str(file), "--name", "m").exit_code == 0
    (home.models / "m.gguf").unlink()
    typed = re.findall(r"`freehold (model (?:remove|add) [^`]+)`", run("doctor").stdout)
    assert len(typed) == 2
    for line in typed:
        assert run(*line.replace("FILE", str(file)).split()).exit_code == 0, line
    assert "m.gguf is missing" not in run("doctor").stdout
