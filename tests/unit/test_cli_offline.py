"""Commands that need no daemon, run in this process on a home of their own."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import importlib
import io
import json
import os
import plistlib
import re
import shutil
import socket
import stat
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import click
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from node.cli import doctor_checks, model_connect, secret, service, tool, wallet_pay
from node.cli._shared import ago, clean, print_json, print_line, size, span
from node.cli.main import COMMANDS, root
from node.cli.tool_check import Checked
from node.disk import write_private
from node.errors import ConfigError, FreeholdError, RequestError
from node.home import Home
from node.identity import HttpSecrets, KeyStore
from node.inference.models.store import SHIPPED
from node.journal import Draft, Journal
from node.money import WalletKey
from node.types import JsonObject

# `audit verify` and its like have exit codes of their own; these groups belong to other rooms
ELSEWHERE = {"audit", "tool", "model"}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("FREEHOLD_HOME", str(tmp_path / "h"))
    return Home(tmp_path / "h")


def run(*words: str, stdin: str | bytes | None = None) -> Result:
    return CliRunner().invoke(root, list(words), input=stdin, prog_name="freehold")


def made(home: Home) -> Home:
    assert run("init", "--name", "test-node").exit_code == 0
    return home


def error_of(result: Result) -> FreeholdError:
    assert isinstance(result.exception, FreeholdError), result.output
    return result.exception


def full_disk(_fd: int) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


# ── the command table ───────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", sorted(set(COMMANDS) - ELSEWHERE))
def test_the_table_says_what_the_command_says(name: str) -> None:
    module, attribute, text = COMMANDS[name]
    command = getattr(importlib.import_module(module), attribute)
    assert isinstance(command, click.Command)
    assert (command.help or "").split("\n\n")[0].startswith(text[:-1])


def test_help_imports_no_command() -> None:
    code = (
        "import sys; from node.cli.main import main\n"
        "sys.argv = ['freehold', '--help']\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'httpx', 'pydantic', 'starlette', 'rich', 'node.runs', 'node.cli.ask'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for name in COMMANDS:
        assert f"  {name} " in done.stdout


def test_ctrl_c_while_python_still_imports_is_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "click.py").write_text("raise KeyboardInterrupt")
    done = subprocess.run(
        [sys.executable, "-m", "node.cli", "status"],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{Path(__file__).parents[2]}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


# ── init ────────────────────────────────────────────────────────────────────────────────────


def test_init_makes_a_node_and_keeps_what_is_there(home: Home) -> None:
    made(home)
    assert tomllib.loads(home.config.read_text())["node"]["name"] == "test-node"
    assert stat.S_IMODE(home.config.stat().st_mode) == 0o600
    clerk = tomllib.loads((home.agents / "clerk.toml").read_text())
    assert [tool["name"] for tool in clerk["tools"]] == ["calc", "files", "text"]
    home.config.write_text(home.config.read_text() + "# mine\n")
    (home.agents / "clerk.toml").rename(home.agents / "mine.toml")
    run("init", "--name", "other")
    assert home.config.read_text().endswith("# mine\n")
    assert not (home.agents / "clerk.toml").exists()


def test_init_makes_no_node_of_a_folder_of_other_things(home: Home) -> None:
    """Each archive would hold all that is there."""
    home.root.mkdir()
    (home.root / "Documents").mkdir()
    error = error_of(run("init", "--name", "n"))
    assert str(home.root) in error.message
    assert "FREEHOLD_HOME" in error.hint
    assert [path.name for path in home.root.iterdir()] == ["Documents"]
    (home.root / "Documents").rename(home.root / "lost+found")  # a disk of the node's own
    (home.root / ".DS_Store").touch()
    made(home)


def test_init_names_nodes_apart(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    from node.cli.init import node_name

    monkeypatch.setattr("socket.gethostname", lambda: "Meine Büchse.local")
    assert node_name() != node_name()
    assert node_name().startswith("meine-b-chse-local-")


@pytest.mark.parametrize("name", ["Ä b", "", "\udcff", "x" * 65, "-"])
def test_init_refuses_a_name_that_cannot_be_and_makes_nothing(home: Home, name: str) -> None:
    error = error_of(run("init", "--name", name))
    assert "node.name" in error.message
    assert error.hint
    assert not home.root.exists()
    made(home)


def test_two_inits_at_once_make_one_node(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one writes each file between our look and our writing."""

    def late(path: Path, content: bytes, *, replace: bool = True) -> None:
        with contextlib.suppress(FileExistsError):
            write_private(path, content.replace(b"ours", b"theirs"), replace=False)
        write_private(path, content, replace=replace)

    monkeypatch.setattr("node.cli.init.write_private", late)
    done = run("init", "--name", "ours")
    assert done.exit_code == 0, done.exception
    assert 'name = "theirs"' in home.config.read_text()
    assert f"{home.config} was there already and keeps its name" in done.stderr


@pytest.mark.parametrize(
    "command",
    [
        ["up"],
        ["agent", "new", "x"],
        ["agent", "list"],
        ["service", "install"],
        ["tool", "add", "/dev/null"],
        ["model", "add", "/dev/null"],
        ["model", "connect", "big", "http://127.0.0.1:9/v1", "--unchecked"],
        ["model", "bench"],
        ["model", "remove", "--unfinished"],
        ["secret", "list"],
        ["runs", "list"],
        ["wallet", "balance"],
    ],
    ids=" ".join,
)
def test_without_a_node_the_way_is_shown_and_nothing_made(home: Home, command: list[str]) -> None:
    error = error_of(run(*command))
    assert "no node" in error.message
    assert "freehold init" in error.hint
    assert not home.root.exists()


def test_a_tool_is_tried_without_a_node_and_leaves_no_trace(home: Home) -> None:
    home.root.mkdir()  # somebody's folder that is no home
    assert run("tool", "test", "calc").exit_code == 0
    assert not [*home.root.iterdir()]


def test_without_a_daemon_status_is_3(home: Home) -> None:
    assert error_of(run("status")).exit_code == 3
    made(home)
    assert "freehold up" in error_of(run("status")).hint
    result = run("status", "--json")
    assert result.exit_code == 3
    assert json.loads(result.stdout) == {"running": False, "home": str(home.root)}


# ── agents ──────────────────────────────────────────────────────────────────────────────────


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


# ── secrets, doctor, completion ─────────────────────────────────────────────────────────────


def test_secrets_come_from_standard_input(home: Home) -> None:
    made(home)
    where = ("--url", "https://api.example.org/*", "--agent", "clerk")
    done = run("secret", "set", "api", *where, stdin=b"Bearer top\n")
    assert done.exit_code == 0, done.output
    assert "api.example.org" in run("secret", "list").stdout
    assert HttpSecrets(home.keys).headers("clerk") == {
        "https://api.example.org/*": {"Authorization": "Bearer top"}
    }
    listed = run("secret", "list", "--json").output
    assert ("top" in listed, json.loads(listed)[0]["agents"]) == (False, ["clerk"])
    assert (
        "pattern"
        in error_of(
            run("secret", "set", "x", "--url", "ftp://x", "--agent", "a", stdin=b"v")
        ).message
    )
    for bad in (b"", b"two\nlines", "ü".encode()):
        assert "value" in error_of(run("secret", "set", "x", *where, stdin=bad)).message
    run("secret", "remove", "api")
    assert json.loads(run("secret", "list", "--json").stdout) == []


@pytest.mark.parametrize("ask", [secret._value, model_connect._ask_key])
def test_what_a_terminal_cuts_off_is_not_kept(
    ask: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long key that is pasted ends at 4,095 bytes, and the service would say that it is wrong."""
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr(click, "prompt", lambda *_words, **_more: "k" * 4_095)
    with pytest.raises(RequestError, match="4095 bytes a line"):
        ask()


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


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_a_script_the_shell_takes(shell: str) -> None:
    script = run("completion", shell).stdout
    assert "_FREEHOLD_COMPLETE" in script
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=script, text=True, check=True)


# ── service ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not here")
@pytest.mark.parametrize("folder", ["h", 'with space %h $HOME "q" \\n'])
def test_systemd_accepts_the_unit(tmp_path: Path, folder: str) -> None:
    where = Home(tmp_path / folder)
    unit = tmp_path / "freehold.service"
    unit.write_text(service.unit(where, [sys.executable, "-m", "node.cli", "up"], 20))
    done = subprocess.run(
        ["systemd-analyze", "--user", "verify", str(unit)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    assert "freehold.service" not in done.stderr


def test_a_line_break_in_a_path_ends_no_line_of_the_unit(tmp_path: Path) -> None:
    unit = service.unit(Home(tmp_path / "a\nb"), ["up"], 20)
    assert f'Environment="FREEHOLD_HOME={tmp_path}/a\\nb"' in unit.splitlines()


def test_a_broken_unit_is_seen(tmp_path: Path) -> None:
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not here")
    unit = tmp_path / "freehold.service"
    text = service.unit(Home(tmp_path), ["/no/such/program"], 20)
    unit.write_text(text.replace("Type=notify", "Type=nonsense"))
    done = subprocess.run(
        ["systemd-analyze", "--user", "verify", str(unit)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
    )
    assert "nonsense" in done.stderr or done.returncode != 0


def test_the_property_list_is_one(tmp_path: Path) -> None:
    found = plistlib.loads(service.plist(Home(tmp_path / "h"), ["freehold", "up"], 120).encode())
    assert found["ProgramArguments"] == ["freehold", "up"]
    assert found["ExitTimeOut"] > 120  # runs get that long to finish
    assert found["ProcessType"] == "Interactive"  # else launchd throttles it
    assert found["KeepAlive"] is True
    assert found["EnvironmentVariables"] == {"FREEHOLD_HOME": str(tmp_path / "h")}


def test_a_user_without_a_home_has_no_service(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container that runs as a number."""
    made(home)
    for name in ("HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 2**31 - 2)
    assert "service" in {each["what"] for each in json.loads(run("doctor", "--json").stdout)}
    for word in ("status", "install", "remove"):
        assert isinstance(run("service", word).exception, ConfigError)


def test_service_files_go_where_the_manager_looks(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(home)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    tools = tmp_path / "bin"
    tools.mkdir()
    calls = tmp_path / "calls"
    for name in ("systemctl", "launchctl"):
        (tools / name).write_text(f'#!/bin/sh\necho "$@" >> {calls}\n')
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    monkeypatch.setattr("sys.platform", "linux")
    assert run("service", "status").exit_code == 1
    assert run("service", "install").exit_code == 0
    assert json.loads(run("service", "status", "--json").stdout)["current"] is True
    assert calls.read_text().splitlines() == [
        "--user daemon-reload",
        "--user enable freehold.service",
        "--user restart freehold.service",
    ]
    assert run("service", "remove").exit_code == 0
    assert "--user disable --now freehold.service" in calls.read_text()
    assert run("service", "status").exit_code == 1
    run("service", "install")
    with monkeypatch.context() as patched:
        patched.setattr(service, "definition", lambda _home: "x" * 10_000)
        patched.setattr("node.disk.sync", full_disk)
        assert run("service", "install").exit_code == 1
    assert json.loads(run("service", "status", "--json").stdout)["current"] is True
    (tools / "systemctl").write_text("#!/bin/sh\necho no bus >&2; exit 1\n")
    assert "no bus" in str(error_of(run("service", "remove")))
    assert run("service", "status").exit_code == 1


@pytest.mark.parametrize("platform", ["linux", "darwin"])
@pytest.mark.parametrize("name", ["h", "% & $"])
def test_the_service_of_another_home_is_not_this_homes(
    platform: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setattr("sys.platform", platform)
    where = Home(tmp_path / f"{name}-2")
    monkeypatch.setenv("FREEHOLD_HOME", str(where.root))
    path = Path(re.findall("no (.*)\\)", run("service", "status").stderr)[0])
    path.parent.mkdir(parents=True)
    path.write_text(service.definition(made(where)))
    assert service.installed(where)
    other = Home(tmp_path / name)
    assert not service.installed(other)
    monkeypatch.setenv("FREEHOLD_HOME", str(other.root))
    made(other)
    before = path.read_text()
    for words in (["install"], ["remove"]):
        assert "another home" in str(error_of(run("service", *words)))
        assert path.read_text() == before
    monkeypatch.setattr(service, "_manage", lambda _command: None)
    assert run("service", "install", "--replace").exit_code == 0
    assert service.installed(other)
    assert run("service", "remove").exit_code == 0


LAUNCHCTL = """#!/bin/sh
# as launchd: `bootout` returns at once, and the label is free again only some looks later
state={folder}/state
echo "$1" >>{folder}/calls
case "$1" in
  bootstrap) test ! -s $state || {{ echo "Bootstrap failed: 5" >&2; exit 5; }}; echo 9999 >$state ;;
  bootout) test -s $state || exit 3; echo 3 >$state; echo "now in progress" >&2; exit 36 ;;
  print)
    left=$(cat $state 2>/dev/null) && test -n "$left" || exit 113
    test "$left" = 9999 || {{ test "$left" = 1 && : >$state || echo $((left - 1)) >$state; }} ;;
esac
"""


def test_a_launch_agent_is_replaced_by_a_new_one(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(home)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(service, "_LOOK_S", 0.0, raising=False)
    tools, calls = tmp_path / "bin", tmp_path / "calls"
    tools.mkdir()
    (tools / "launchctl").write_text(LAUNCHCTL.format(folder=tmp_path))
    (tools / "launchctl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    monkeypatch.setattr("sys.platform", "darwin")
    path = tmp_path / "Library" / "LaunchAgents" / "org.freehold.node.plist"
    assert run("service", "install").exit_code == 0
    assert run("service", "install").exit_code == 0
    told = [call for call in calls.read_text().split() if call != "print"]
    assert told == ["bootstrap", "bootout", "bootstrap"]
    found = plistlib.loads(path.read_bytes())
    assert found["StandardErrorPath"] == str(home.log)
    # the types launchd.plist(5) wants; it ignores a key of another type
    kinds = {"RunAtLoad": bool, "KeepAlive": bool, "ExitTimeOut": int, "Umask": int, "Label": str}
    assert {key: type(found[key]) for key in kinds} == kinds
    assert found["Umask"] == 0o077
    assert run("service", "remove").exit_code == 0
    assert calls.read_text().split()[-1] == "print"
    assert not path.exists()


# ── the command as a whole ──────────────────────────────────────────────────────────────────


def test_files_that_cannot_be_written_are_an_error_and_no_traceback(home: Home) -> None:
    made(home)
    Journal.open_sync(home.journal, origin="t.example/log").close()
    command = [sys.executable, "-m", "node.cli", "audit"]
    for words in (["export", "--out", "/nonexistent/x"], ["export", "--out", str(home.root)]):
        done = subprocess.run([*command, *words], capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert done.stderr.startswith("error: ")
        assert "Traceback" not in done.stderr
    if Path("/dev/full").exists():
        with open("/dev/full", "w") as full:
            done = subprocess.run(
                [*command, "verify"], stdout=full, stderr=subprocess.PIPE, text=True, check=False
            )
        assert (done.returncode, "Traceback" in done.stderr) == (1, False)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize(
    ("line", "status", "said"),
    [
        ("--help >/dev/full", 1, "error: No space left on device: output\n"),
        ("audit checkpoint >/dev/full", 1, "error: No space left on device: output\n"),
        ("audit checkpoint | true", 0, ""),
        ("status 2>/dev/full", 3, ""),
        ("audit show 7 2>/dev/full", 1, ""),
        ("nonsense 2>/dev/full", 2, ""),
        ("agent remove nobody 2>/dev/full", 1, ""),
    ],
)
def test_output_that_cannot_be_written_is_told_and_changes_no_status(
    home: Home, line: str, status: int, said: str
) -> None:
    made(home)
    Journal.open_sync(home.journal, origin="t.example/log").close()
    shell = ["sh", "-c", f'unset PYTHONUNBUFFERED; "$0" -m node.cli {line}', sys.executable]
    done = subprocess.run(shell, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (status, said)


def test_an_archive_on_standard_output_is_refused(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(home)
    monkeypatch.chdir(tmp_path)
    assert "standard output" in error_of(run("backup", "-")).message
    assert not (tmp_path / "-").exists()


def test_an_archive_does_not_become_part_of_the_next(home: Home, tmp_path: Path) -> None:
    made(home)
    (tmp_path / "link").symlink_to(home.workspaces)
    for place in (home.root / "b", tmp_path / "link" / "b"):
        assert "in the home itself" in error_of(run("backup", str(place))).message
        assert not place.exists()
    assert run("backup", str(tmp_path / "b")).exit_code == 0


def test_a_second_daemon_is_refused_in_plain_words(home: Home) -> None:
    made(home)
    with home.hold():
        refused = error_of(run("up", "--detach"))
    assert f"pid {os.getpid()}" in refused.message
    home.config.write_text(home.config.read_text() + "\ncolour = 1\n")
    broken = error_of(run("up", "--detach"))
    assert "colour is not a known key" in broken.message
    assert broken.hint.startswith("Allowed here")


def test_init_says_that_a_name_came_too_late(home: Home) -> None:
    made(home)
    assert "keeps its name" in run("init", "--name", "other").stderr


# ── output ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "words",
    [
        ("agent", "new", "poet", "--about", "\udcff"),
        ("agent", "new", "\udcff"),
        ("model", "connect", "m", "http://127.0.0.1:1", "--unchecked", "--model", "\udcff"),
        ("model", "show", "default", "--context", "9" * 400),
        ("logs", "--daemon", "-n", "9" * 40),
        ("secret", "set", "a", "--url", "https://a.example/*", "--agent", ""),
        ("secret", "set", "a", "--url", "https://a.example/*", "--agent", "\udcff"),
    ],
)
def test_odd_arguments_are_refused_in_words(home: Home, words: tuple[str, ...]) -> None:
    made(home)
    before = sorted(home.root.rglob("*.*ml"))
    done = run(*words, stdin="value")
    assert done.exit_code != 0
    assert isinstance(done.exception, FreeholdError | SystemExit), done.exception
    assert sorted(home.root.rglob("*.*ml")) == before
    assert KeyStore(home.keys).names() == []


def test_a_terminal_that_cannot_show_a_letter_is_shown_its_number(home: Home) -> None:
    made(home)
    run("agent", "new", "poet", "--about", "größe 漢字")
    shown = subprocess.run(
        [sys.executable, "-m", "node.cli", "agent", "list"],
        env={**os.environ, "PYTHONIOENCODING": "iso-8859-1"},
        capture_output=True,
        check=False,
    )
    assert shown.returncode == 0, shown.stderr
    assert "größe \\u6f22\\u5b57".encode("iso-8859-1") in shown.stdout


def test_an_agents_file_is_utf_8_whatever_the_locale(home: Home) -> None:
    made(home)
    run("agent", "new", "poet", "--about", "größe 漢字")
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    shown = subprocess.run(
        [sys.executable, "-m", "node.cli", "agent", "show", "poet"],
        env={**os.environ, **plain, "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        check=True,
    )
    assert "größe 漢字" in shown.stdout.decode()


def test_text_from_outside_cannot_drive_the_terminal() -> None:
    assert clean("a\x1b[2Jb\u202ec\n\td") == "a\\x1b[2Jb\\u202ec\n\td"
    assert clean("a\nb", lines=False) == "a\\nb"
    assert clean("größe 漢字 🙂") == "größe 漢字 🙂"


@given(
    st.text(st.characters(exclude_categories=[]), max_size=30),
    st.sampled_from(["utf-8", "latin-1", "ascii"]),
)
def test_json_is_the_same_to_programs_and_no_order_to_terminals(text: str, encoding: str) -> None:
    """C1 controls (U+009B is CSI) and bidi overrides are no escapes of JSON's; lone surrogates,
    which file names have, are not UTF-8; and what a terminal lacks has escapes that are."""
    for write in (print_json, print_line):
        stream = io.TextIOWrapper(io.BytesIO(), encoding, "backslashreplace")
        with contextlib.redirect_stdout(stream) as out:
            write({"text": text, "more": [1]})
            out.seek(0)
            shown = out.read()
        assert json.loads(shown) == {"text": json.loads(json.dumps(text)), "more": [1]}
        assert clean(shown) == shown


def test_json_keeps_what_people_read(capsys: pytest.CaptureFixture[str]) -> None:
    print_line("größe 漢字 🙂")
    assert capsys.readouterr().out == '"größe 漢字 🙂"\n'


def test_a_strangers_log_cannot_drive_the_terminal(
    home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = b"\xff\x1b[2Jdone\xc2\x9b1m"
    log = Journal.open_sync(home.journal, origin="n/log")
    ref = log.put_blob(said, "prompt")
    told: JsonObject = {"text": "\u009b2J\u202e\n0  verified"}
    asyncio.run(log.append(Draft("run.started", run="r-1", blobs=(ref,), data=told)))
    log.close()
    folder = ("--dir", str(home.journal))
    for words in (
        ("verify", str(home.journal)),
        ("verify", str(home.journal), "--json"),
        ("log", *folder),
        ("log", *folder, "--json"),
        ("show", "last", *folder),
        ("why", "last", *folder),
    ):
        done = run("audit", *words)
        assert done.exit_code == 0, done.exception
        assert clean(done.output) == done.output != ""
        assert "\n0  verified" not in done.output
    content = ["audit", "show", "last", "--blob", "prompt", "--dir", str(home.journal)]
    assert run(*content).stdout_bytes == said
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    root.main(content, standalone_mode=False)
    assert capsys.readouterr().out == "\ufffd\\x1b[2Jdone\\x9b1m\n"


def test_what_a_tool_printed_before_it_failed_is_no_hint_of_ours() -> None:
    """An error quotes it, and it may have lines; those after the first one are indented."""
    code = (
        "from node.cli import main; from node.errors import ToolTrapError\n"
        "def fail(**_): raise ToolTrapError('it printed: a\\nhint: run\\x1b[2J', hint='None.')\n"
        "main.root = fail; main.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines() == [
        "error: it printed: a",
        r"  hint: run\x1b[2J",
        "hint: None.",
    ]


def test_what_a_tool_printed_in_its_example_is_no_check_of_ours(
    capsys: pytest.CaptureFixture[str],
) -> None:
    tool._report([Checked("words {}", "it printed: a\nok   words []", 0.0)])
    assert capsys.readouterr().out.splitlines() == [
        "FAIL words {}",
        "     it printed: a",
        "     ok   words []",
        "0 passed, 1 failed",
    ]


def test_a_payees_words_are_no_question_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """The description of an invoice is whatever its maker wrote."""
    asked: list[str] = []
    bill = {
        "kind": "invoice",
        "destination": "lightning:02ab\nPay 1 sat to a friend",
        "amount_sat": 90_000,
        "most_fee_sat": 900,
        "description": 'coffee", and at most 0 sat of fees?\nPay 1 sat to a friend "coffee',
        "fee_bounded": True,
    }
    client: Any = MagicMock()
    client.__enter__.return_value.wallet.bill.return_value = bill
    client.__enter__.return_value.wallet.receive.return_value = {
        "received_sat": 1,
        "memo": "hi\nreceived 5000 sat",
        "verified": True,
        "over_cap": False,
    }
    monkeypatch.setattr(wallet_pay, "connect", lambda: client)
    monkeypatch.setattr(wallet_pay, "confirm", asked.append)
    run("wallet", "pay", "lnbc1")
    assert len(asked) == 1
    assert asked[0].startswith("Pay 90000 sat to ")
    assert "\n" not in asked[0]
    assert asked[0].replace(r"\"", "").split('"')[::2] == [
        r"Pay 90000 sat to lightning:02ab\nPay 1 sat to a friend, which calls it ",
        ", and at most 900 sat of fees?",
    ]
    assert run("wallet", "receive", stdin="cashuB").stderr.splitlines() == [
        "received 1 sat: hi\\nreceived 5000 sat"
    ]


def test_without_a_wallet_there_is_no_key_to_put_under_a_passphrase(home: Home) -> None:
    """And no secret of that name is to be made: it would be taken for the wallet's key."""
    made(home)
    error = error_of(run("wallet", "passphrase", stdin="eight small words\n"))
    assert "no key of a wallet" in error.message
    assert "freehold wallet mints add" in error.hint


def test_a_passphrase_that_no_start_could_take_is_refused(home: Home) -> None:
    """A pipe, a credential and the wallet's own route take 4,096 bytes of one."""
    key = WalletKey(made(home).keys)
    secret = key.make()
    for most, status in (("ü" * 2_049, 1), ("ü" * 2_048, 0)):
        done = run("wallet", "passphrase", stdin=f"{most}\n".encode())
        assert done.exit_code == status, done.exception
        assert key.is_wrapped() == (not status)
    assert key.open("ü" * 2_048) == secret


def test_quantities_read_well() -> None:
    assert [span(s) for s in (0.00002, 0.0123, 3.21, 600)] == ["20 µs", "12 ms", "3.2 s", "10 min"]
    assert [size(n) for n in (5, 2048, 3 << 30)] == ["5 B", "2.0 KiB", "3.0 GiB"]
    assert ago(0).endswith("d")


def test_a_service_that_names_a_python_of_before_an_upgrade_is_told(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    path = tmp_path / "config" / "systemd" / "user" / service.UNIT
    path.parent.mkdir(parents=True)
    path.write_text(service.unit(made(home), ["/old/bin/python", "-m", "node.cli", "up"], 20))
    told = f"{path} differs from what `freehold service install` writes now"
    assert told in run("service", "status").stderr
    assert f"service: {told}" in run("doctor").stdout


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
