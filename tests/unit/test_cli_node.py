"""A node that is down: what kept it from starting, and what `doctor` sees to be wrong with it."""

from __future__ import annotations

import asyncio
import plistlib
import shutil
import threading
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace

import pytest

from node import version
from node.cli import daemon, doctor_checks, service
from node.cli.init import create
from node.daemon import make_threads
from node.home import Home
from node.inference import ModelStore
from node.inference.models.store import SHIPPED
from node.money import KEY_LOST, WalletKey


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("FREEHOLD_HOME", str(tmp_path / "h"))
    create(Home(tmp_path / "h"), "test-node")
    return Home(tmp_path / "h")


def test_what_kept_the_daemon_from_starting_is_told_in_its_last_words() -> None:
    said = "error: it was an older start's\nINFO: x\nerror: the disk is full\nhint: make room\nnow"
    told = daemon._not_started(1, said)
    assert told.diagnostics() == "the daemon did not start: the disk is full\nmake room\nnow"
    told = daemon._not_started(-9, "It said nothing.")
    assert told.diagnostics() == "the daemon did not start (exit status -9)\nIt said nothing."


def test_the_daemons_log_is_kept_aside_once_it_has_grown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, older = tmp_path / "daemon.log", tmp_path / "daemon.log.1"
    monkeypatch.setattr(daemon, "KEEP_BYTES", 10)
    assert daemon._cut(log) == 0
    log.write_bytes(b"x" * 10)
    assert (daemon._cut(log), older.exists()) == (10, False)
    log.write_bytes(b"x" * 11)
    assert (daemon._cut(log), older.read_bytes(), log.exists()) == (0, b"x" * 11, False)


def test_a_version_that_cannot_be_told_just_now_is_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def said(answer: object) -> str:
        def now(_: str) -> str:
            if isinstance(answer, Exception):
                raise answer
            return str(answer)

        monkeypatch.setattr(version, "version", now)
        return version.replaced()

    assert said("99.0").startswith("Freehold 99.0 was installed while this node, of ")
    for answer in (version.VERSION, PackageNotFoundError("freehold"), OSError(24, "files")):
        assert said(answer) == ""


async def test_without_any_thread_work_fails_and_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refused(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    make_threads()
    with monkeypatch.context() as short:
        short.setattr(threading.Thread, "start", refused)
        with pytest.raises(RuntimeError, match="new thread"):
            await asyncio.wait_for(asyncio.to_thread(sum, (1, 2)), 20)


def test_a_wallet_that_is_open_to_others_or_lost_its_key_is_a_fault(home: Home) -> None:
    home.wallet.write_bytes(b"")
    home.wallet.chmod(0o640)
    (opened, lost) = doctor_checks._wallet(home)
    assert isinstance(opened, doctor_checks.Fault)
    assert opened.repair is not None
    opened.repair()
    assert home.wallet.stat().st_mode & 0o777 == 0o600
    assert isinstance(lost, doctor_checks.Fault)
    assert (lost.hint, lost.repair) == (KEY_LOST, None)
    WalletKey(home.keys).make()
    (found,) = doctor_checks._wallet(home)
    assert isinstance(found, doctor_checks.Note)
    assert "`freehold wallet passphrase`" in found.text


def test_a_disk_that_is_almost_full_is_a_fault(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    for free, faults in ((doctor_checks.DISK_LOW_BYTES, 0), (doctor_checks.DISK_LOW_BYTES - 1, 1)):
        usage = SimpleNamespace(free=free)
        monkeypatch.setattr(shutil, "disk_usage", lambda _, usage=usage: usage)
        assert len([*doctor_checks._disk(home)]) == faults


def test_a_model_that_is_longer_than_its_pin_says_is_a_fault(home: Home) -> None:
    store = ModelStore(home.models)
    pin = store.add(SHIPPED / "default.gguf", "mine")
    assert [*doctor_checks._models(home)] == []
    with store.path(pin).open("ab") as file:
        file.write(b"x")
    (fault,) = doctor_checks._models(home)
    assert fault.problem.endswith(f"has {pin.size + 1} bytes, not {pin.size}")
    assert f"--sha256 {pin.sha256}" in fault.hint


def test_a_manager_waits_longer_than_runs_get_to_finish(home: Home) -> None:
    assert "TimeoutStopSec=75s\n" in service.unit(home, ["up"], 35.0)
    assert plistlib.loads(service.plist(home, ["up"], 35.0).encode())["ExitTimeOut"] == 75
