"""config.toml and the home: strict keys, overrides, tokens, the lock, private files."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
import stat
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.config import Config, load, template
from node.disk import private_file, write_private
from node.errors import ConfigError, DaemonRunningError
from node.home import LEFT_AFTER_S, SOCKET_PATH_MAX, Home
from node.inference import EngineLimits
from node.runs.budget import NodeLimits

TOKEN = "t" * 32


def write(folder: Path, text: str) -> Path:
    path = folder / "config.toml"
    path.write_text(text)
    return path


def test_template_is_the_defaults(tmp_path: Path) -> None:
    config = load(write(tmp_path, template("my-node")), {})
    assert config.node.name == "my-node"
    assert config.model_dump(exclude={"node"}) == Config().model_dump(exclude={"node"})


def test_template_names_every_key_with_its_default() -> None:
    text = template("x")
    commented = "\n".join(
        line[1:] if line.startswith("#") and not line.startswith("# ") else line
        for line in text.splitlines()
    )
    tables = tomllib.loads(commented)
    for section, info in Config.model_fields.items():
        assert isinstance(info.annotation, type)
        fields = info.annotation.model_fields  # type: ignore[attr-defined]
        assert list(tables[section]) == list(fields)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("[daemon]\ndrain = 3\n", ["daemon.drain", "not a known key", "drain_s"]),
        ("[deamon]\n", ["deamon", "not a known key", "daemon"]),
        ("[daemon]\ndrain_s = -1\n", ["daemon.drain_s", "greater than or equal"]),
        ("[daemon]\ndrain_s = nan\n", ["daemon.drain_s", "finite"]),
        ("[daemon]\nlog_level = 'loud'\n", ["daemon.log_level", "debug"]),
        ("[wallet]\npayment_wait_s = 51\n", ["wallet.payment_wait_s", "equal to 50"]),
        ("[wallet]\nmax_fee_percent = 51\n", ["wallet.max_fee_percent", "equal to 50"]),
        ("[wallet]\nsats = 5\n", ["wallet.sats", "not a known key", "mint_cap_sats"]),
        ("[node]\nname = 'a b'\n", ["node.name"]),
        ("[control]\nbind = '127.0.0.1:7411'\n", ["control", "needs a token"]),
        ("[control]\nbind = '0.0.0.0:7411'\ntoken = 'short'\n", ["needs a token"]),
        (f"[control]\nbind = 'nowhere'\ntoken = '{TOKEN}'\n", ["not host:port"]),
        (f"[control]\nbind = '127.0.0.1:65536'\ntoken = '{TOKEN}'\n", ["not host:port"]),
        (f"[control]\nbind = '127.0.0.1:1'\ntoken = '{TOKEN} '\n", ["spaces"]),
        (f"[control]\nbind = '127.0.0.1:1'\ntoken = '{TOKEN}ü'\n", ["ASCII"]),
        ("x = " + "[" * 100_000, ["not TOML"]),
        ("= 3\n", ["not TOML"]),
        ("x = " + "1" * 5000, ["not TOML"]),
        ("daemon = 3\n", ["daemon"]),
    ],
)
def test_errors_name_file_key_and_what_is_allowed(
    tmp_path: Path, text: str, parts: list[str]
) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load(path, {})
    said = caught.value.diagnostics()
    assert str(path) in said
    assert caught.value.hint
    for part in parts:
        assert part in said


@pytest.mark.parametrize("variable", ["FREEHOLD_NOPE__X", "FREEHOLD_DAEMON__X"])
def test_a_variable_that_is_no_key_is_named_itself(tmp_path: Path, variable: str) -> None:
    with pytest.raises(ConfigError, match=f"^{variable} is not a known key"):
        load(write(tmp_path, ""), {variable: "1", "FREEHOLD_DAEMON__DRAIN_S": "3"})
    with pytest.raises(ConfigError, match=r"config\.toml: nope is not a known key"):
        load(write(tmp_path, "[nope]\nx = 1\n"), {"FREEHOLD_DAEMON__DRAIN_S": "3"})


def test_a_variable_that_does_not_go_with_other_keys_is_named_and_not_the_file(
    tmp_path: Path,
) -> None:
    with pytest.raises(ConfigError, match=r"^FREEHOLD_CONTROL__BIND: bind = .* needs a token"):
        load(write(tmp_path, ""), {"FREEHOLD_CONTROL__BIND": "127.0.0.1:7411"})


def test_a_token_is_never_in_an_error_or_a_repr(tmp_path: Path) -> None:
    secret = "hunter2hunter2"
    with pytest.raises(ConfigError) as caught:
        load(write(tmp_path, f"[control]\nbind='127.0.0.1:1'\ntoken='{secret}'\n"), {})
    assert secret not in caught.value.diagnostics()
    config = load(write(tmp_path, f"[control]\ntoken = '{secret}'\n"), {})
    assert secret not in repr(config)
    assert config.control.token.get_secret_value() == secret


def test_tcp_is_allowed_with_a_token(tmp_path: Path) -> None:
    config = load(write(tmp_path, f"[control]\nbind = '[::1]:7411'\ntoken = '{TOKEN}'\n"), {})
    assert config.control.address() == ("::1", 7411)


def test_limits_are_the_node_limits() -> None:
    assert Config().limits.model_dump() == dataclasses.asdict(NodeLimits())


def test_models_are_the_engines_limits() -> None:
    ours, theirs = Config().models, EngineLimits()
    assert (ours.context_tokens, ours.max_waiting) == (theirs.context_tokens, theirs.max_waiting)
    assert (ours.threads or None, ours.idle_unload_s or None) == (
        theirs.threads,
        theirs.idle_unload_s,
    )


def test_environment_overrides_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, "[daemon]\ndrain_s = 3\n")
    env = {
        "FREEHOLD_DAEMON__DRAIN_S": "7.5",
        "FREEHOLD_MODELS__PRELOAD": '["default"]',
        "FREEHOLD_NODE__NAME": "123",
        "FREEHOLD_CONTROL__TOKEN": "1" * 32,
        "FREEHOLD_HOME": "/nowhere",
        "FREEHOLD_OTHER": "ignored",
        "UNRELATED__X": "ignored",
    }
    config = load(path, env)
    assert config.daemon.drain_s == 7.5
    assert config.models.preload == ("default",)
    assert config.node.name == "123"
    assert config.control.token.get_secret_value() == "1" * 32


@pytest.mark.parametrize(
    "variable", ["FREEHOLD_DAEMON__DRAIN", "FREEHOLD_NOPE__X", "FREEHOLD_DAEMON__DRAIN_S"]
)
def test_a_wrong_variable_is_named(tmp_path: Path, variable: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(write(tmp_path, ""), {variable: "soon"})
    assert variable in caught.value.message or "nope" in caught.value.message


@settings(max_examples=60, deadline=None)
@given(text=st.text(max_size=80), key=st.text(max_size=20), value=st.text(max_size=20))
def test_nothing_but_our_errors_comes_out(
    tmp_path_factory: pytest.TempPathFactory, text: str, key: str, value: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.toml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with contextlib.suppress(ConfigError):
        config = load(path, {f"FREEHOLD_{key}__X": value, f"FREEHOLD_CONTROL__{key}": value})
        assert type(config) is Config
        assert config == Config()  # nothing this short names a key that there is


def test_home_is_made_private(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.create()
    for folder in home.folders:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700, folder
    home.create()


def test_home_from_the_environment(tmp_path: Path) -> None:
    assert Home.locate({"FREEHOLD_HOME": str(tmp_path)}).root == tmp_path
    assert Home.locate({}).root == Path.home() / ".freehold"
    with pytest.raises(ConfigError, match="no node"):
        Home(tmp_path).require()


@pytest.mark.parametrize("named", ["~nobody-of-this-name/h", "h"])
def test_a_home_that_nobody_can_find_is_told(
    named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(ConfigError, match="cannot tell where"):
        Home.locate({"FREEHOLD_HOME": named})


def test_a_user_without_a_home_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(os, "getuid", lambda: 2**31 - 2)
    with pytest.raises(ConfigError, match=r"cannot tell where ~/\.freehold is"):
        Home.locate({})


def test_a_home_is_where_it_is_whatever_folder_one_is_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "h")
    assert Home.locate({}).root == tmp_path / "h" / ".freehold"


def test_another_user_makes_nothing_in_a_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home(tmp_path)
    home.run.mkdir()
    monkeypatch.setattr(os, "geteuid", lambda: home.run.stat().st_uid + 1)
    with pytest.raises(ConfigError, match="is the home of user"):
        home.create()
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_home_too_deep_for_a_socket_is_refused(tmp_path: Path) -> None:
    root = tmp_path / ("x" * (SOCKET_PATH_MAX - len(f"{tmp_path}//run/control.sock")))
    Home(root).check_path()
    with pytest.raises(ConfigError, match="UNIX socket"):
        Home(root.with_name(root.name + "x")).create()


def test_a_home_that_no_answer_could_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not UTF-8"):
        Home(tmp_path / os.fsdecode(b"h\xff")).create()
    assert not [*tmp_path.iterdir()]


def test_a_disk_that_has_no_locks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = Home(tmp_path / "h")
    home.create()

    def flock(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", flock)
    home.lock.touch()
    with pytest.raises(ConfigError, match=r"daemon\.lock: No locks available"), home.hold():
        pytest.fail("held without a lock")
    with pytest.raises(ConfigError, match=r"daemon\.lock: No locks available"):
        home.held()


def test_one_holder_across_processes(tmp_path: Path) -> None:
    home = Home(tmp_path / "h")
    home.create()
    code = (
        "import sys; from pathlib import Path; from node.home import Home\n"
        "with Home(Path(sys.argv[1])).hold():\n"
        "    print('held', flush=True); sys.stdin.read()\n"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(home.root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        assert home.held()
        with pytest.raises(DaemonRunningError, match=str(holder.pid)), home.hold():
            pytest.fail("held twice")
        holder.kill()
        holder.wait()
    assert not home.held()
    home.lock.write_text("9" * 19)  # of a process of a machine that numbers them higher
    with home.hold():
        assert home.lock.read_text() == f"{os.getpid()}\n"


@pytest.mark.parametrize("code", [errno.EPERM, errno.ENOTSUP, errno.EIO])
def test_a_stick_without_links_and_modes_takes_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """FAT and exFAT: that is where backups go."""

    def refused(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    for name in ("link", "fchmod"):
        monkeypatch.setattr(os, name, refused)
    path = tmp_path / "backup"
    if code == errno.EIO:
        with pytest.raises(OSError, match="error") as told:
            write_private(path, b"one", replace=False)
        assert (told.value.filename, os.listdir(tmp_path)) == (str(path), [])
        return
    write_private(path, b"one", replace=False)
    assert (path.read_bytes(), os.listdir(tmp_path)) == (b"one", ["backup"])
    exists = Path.exists
    monkeypatch.setattr(Path, "exists", lambda *_: False)  # it came since we looked
    with pytest.raises(FileExistsError):
        write_private(path, b"two", replace=False)
    monkeypatch.setattr(Path, "exists", exists)
    assert path.read_bytes() == b"one"


def test_a_name_is_as_durable_as_what_it_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut takes both or none."""
    synced: list[object] = []
    monkeypatch.setattr("node.disk.sync", lambda fd: synced.append(os.fstat(fd).st_size))
    monkeypatch.setattr("node.disk.sync_folder", lambda path: synced.append(os.listdir(path)))
    write_private(tmp_path / "f", b"one")
    assert synced == [3, ["f"]]


def test_a_home_that_is_there_is_not_one_that_a_restore_left(tmp_path: Path) -> None:
    (tmp_path / "h.before-20260101").mkdir()
    for made, hint in ((False, "A restore was cut off: move"), (True, "Run `freehold init`")):
        if made:
            (tmp_path / "h").mkdir()
        with pytest.raises(ConfigError, match="there is no node") as caught:
            Home(tmp_path / "h").require()
        assert caught.value.hint.startswith(hint)


def test_private_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "f"
    write_private(path, b"one")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(ZeroDivisionError), private_file(path) as file:
        file.write(b"half" + bytes([1 // 0]))
    assert path.read_bytes() == b"one"
    assert os.listdir(tmp_path) == ["f"]
    with pytest.raises(FileExistsError):
        write_private(path, b"two", replace=False)
    assert path.read_bytes() == b"one"
    write_private(path, json.dumps({}).encode())
    assert path.read_bytes() == b"{}"


def test_what_killed_writers_left_is_swept_once_it_is_old(tmp_path: Path) -> None:
    home = Home(tmp_path / "h")
    home.create()
    (home.keys / "wallet").mkdir()
    old, young = (home.keys / "wallet" / f".key.{n * 16}.tmp" for n in "0f")
    kept = home.keys / ".mine.tmp"
    others = [folder / f".x.{'0' * 16}.tmp" for folder in (home.root, home.agents, home.models)]
    for path in (old, young, kept, *others):
        path.write_bytes(b"k")
    past = time.time() - LEFT_AFTER_S - 60
    for path in (old, kept, *others):
        os.utime(path, (past, past))
    home.sweep()
    assert (old.exists(), young.exists(), kept.exists()) == (False, True, True)
    assert not any(path.exists() for path in others)
