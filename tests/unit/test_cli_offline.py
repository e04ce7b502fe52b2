"""Commands that need no daemon, run in this process on a home of their own."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import io
import json
import os
import shutil
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
from helpers.cli import error_of, made, run
from hypothesis import given
from hypothesis import strategies as st

from node.cli import model_connect, secret, tool, wallet_pay
from node.cli._shared import ago, clean, print_json, print_line, size, span
from node.cli.main import COMMANDS, root
from node.cli.tool_check import Checked
from node.disk import write_private
from node.errors import FreeholdError, RequestError
from node.home import Home
from node.identity import HttpSecrets, KeyStore
from node.journal import Draft, Journal
from node.money import WalletKey
from node.types import JsonObject

# `audit verify` and its like have exit codes of their own; these groups belong to other rooms
ELSEWHERE = {"audit", "tool", "model"}


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


# ── secrets, completion ─────────────────────────────────────────────────────────────────────


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


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_a_script_the_shell_takes(shell: str) -> None:
    script = run("completion", shell).stdout
    assert "_FREEHOLD_COMPLETE" in script
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=script, text=True, check=True)


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
