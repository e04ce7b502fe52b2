"""`freehold service`: what it writes for the system's manager, and what it asks of it."""

from __future__ import annotations

import json
import os
import plistlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.cli import error_of, full_disk, made, run

from node.cli import service
from node.errors import ConfigError
from node.home import Home


def checked(unit: Path) -> subprocess.CompletedProcess[str]:
    """What systemd says of a unit's file."""
    return subprocess.run(
        ["systemd-analyze", "--user", "verify", str(unit)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "XDG_RUNTIME_DIR": str(unit.parent)},
    )


needs_systemd = pytest.mark.skipif(
    not shutil.which("systemd-analyze"), reason="systemd-analyze is not here"
)


@needs_systemd
@pytest.mark.parametrize("folder", ["h", 'with space %h $HOME "q" \\n'])
def test_systemd_accepts_the_unit(tmp_path: Path, folder: str) -> None:
    where = Home(tmp_path / folder)
    unit = tmp_path / "freehold.service"
    unit.write_text(service.unit(where, [sys.executable, "-m", "node.cli", "up"], 20))
    done = checked(unit)
    assert done.returncode == 0, done.stderr
    assert "freehold.service" not in done.stderr


def test_a_line_break_in_a_path_ends_no_line_of_the_unit(tmp_path: Path) -> None:
    unit = service.unit(Home(tmp_path / "a\nb"), ["up"], 20)
    assert f'Environment="FREEHOLD_HOME={tmp_path}/a\\nb"' in unit.splitlines()


@needs_systemd
def test_a_broken_unit_is_seen(tmp_path: Path) -> None:
    unit = tmp_path / "freehold.service"
    text = service.unit(Home(tmp_path), ["/no/such/program"], 20)
    unit.write_text(text.replace("Type=notify", "Type=nonsense"))
    done = checked(unit)
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
