"""A real daemon process: start, ask, stop, die, start again."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import socket
import stat
import tempfile
from pathlib import Path

import pytest
from helpers.node import Node

from node.client import Client
from node.errors import (
    DaemonNotRunningError,
    FreeholdError,
    ManifestError,
    NotFoundError,
    StoppingError,
    UnknownRunError,
)
from node.home import Home


def client(node: Node) -> Client:
    return Client.unix(node.root / "run" / "control.sock")


def finish(control: Client, run: str) -> dict[str, object]:
    """Follows a run to its end."""
    for _ in control.watch(run):
        pass
    return dict(control.run(run))


def test_ask_answers_and_stop_leaves_nothing(node: Node) -> None:
    node.up()
    with client(node) as control:
        run = control.start("clerk", "calc 12*34")
        found = finish(control, run)
        assert found["status"] == "completed"
        assert "408" in str(found["text"])
        assert found["actor"] == f"uid:{os.getuid()}"
        assert control.status()["agents"] == 1
    assert node.down() == 0
    assert not (node.root / "run" / "control.sock").exists()
    with pytest.raises(DaemonNotRunningError, match="no daemon"):
        client(node)


def test_the_socket_is_private(node: Node) -> None:
    node.up()
    path = node.root / "run" / "control.sock"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")
def test_another_user_is_refused_by_the_kernel_s_word(node: Node) -> None:
    node.up()
    path = node.root / "run" / "control.sock"
    for folder in (path, *path.parents):  # as if somebody had opened every door on the way
        if folder.is_relative_to(tempfile.gettempdir()) and folder != Path(tempfile.gettempdir()):
            folder.chmod(0o777)
    child = os.fork()
    if child == 0:  # pragma: no cover - the child reports by its exit status
        try:
            os.setuid(65534)
            with socket.socket(socket.AF_UNIX) as peer:
                peer.connect(str(path))
                peer.sendall(b"GET /status HTTP/1.1\r\nhost: x\r\n\r\n")
                os._exit(0 if peer.recv(1) == b"" else 1)
        except ConnectionError:
            os._exit(0)
        except BaseException:
            os._exit(2)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    with client(node) as control:
        assert control.status()["name"] == "test-node"


def test_a_second_instance_is_refused(node: Node) -> None:
    first = node.up()
    process, ready = node.spawn()
    with ready:
        assert ready.readline() == b""
    assert process.wait(30) == 1
    said = json.loads(node.log.read_text().splitlines()[-1])
    assert str(first.pid) in said["error"]
    with client(node) as control:
        assert control.status()["pid"] == first.pid


def test_a_dead_socket_gives_way(node: Node) -> None:
    path = node.root / "run" / "control.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with pytest.raises(DaemonNotRunningError):
        client(node)
    node.up()
    with client(node) as control:
        assert control.status()["runs_active"] == 0


def test_something_else_in_the_sockets_place_is_kept(node: Node) -> None:
    path = node.root / "run" / "control.sock"
    path.write_text("mine")
    process, ready = node.spawn()
    with ready:
        assert ready.readline() == b""
    assert process.wait(30) == 1
    assert path.read_text() == "mine"


def test_sigkill_and_the_run_goes_on(node: Node) -> None:
    node.up()
    with client(node) as control:
        run = control.start("clerk", "wait done")
        for event in control.watch(run):
            if event["type"] == "step.result":
                break
    node.down(signal.SIGKILL)
    node.up()
    with client(node) as control:
        assert control.status()["resumed"] == [run]
        node.send(signal.SIGUSR1)
        found = finish(control, run)
    assert (found["status"], found["text"]) == ("completed", "done")
    assert f"resumed 1 unfinished runs: {run}" in node.log.read_text()


def test_sigterm_lets_a_run_finish(node: Node) -> None:
    with node.notices() as notices:
        node.up()
        assert notices.recv(100) == b"READY=1"
        with client(node) as control:
            run = control.start("clerk", "wait finished in time")
            node.send(signal.SIGTERM)
            assert notices.recv(100) == b"STOPPING=1"
            with pytest.raises(StoppingError, match="shutting down"):
                control.start("clerk", "say no")
            assert control.status()["stopping"]
            node.send(signal.SIGUSR1)
    assert node.process is not None
    assert node.process.wait(30) == 0
    node.up()
    with client(node) as control:
        assert control.status()["resumed"] == []
        assert control.run(run)["text"] == "finished in time"


def test_sigterm_parks_what_takes_longer(node: Node) -> None:
    node.env["FREEHOLD_DAEMON__DRAIN_S"] = "0.1"
    node.up()
    with client(node) as control:
        run = control.start("clerk", "wait later")
    assert node.down() == 0
    node.up()
    node.send(signal.SIGUSR1)
    with client(node) as control:
        assert control.status()["resumed"] == [run]
        assert finish(control, run)["text"] == "later"


def test_a_second_sigterm_does_not_wait(node: Node) -> None:
    node.env["FREEHOLD_DAEMON__DRAIN_S"] = "1000"
    with node.notices() as notices:
        process = node.up()
        assert notices.recv(100) == b"READY=1"
        with client(node) as control:
            run = control.start("clerk", "wait for ever")
        node.send(signal.SIGTERM)
        assert notices.recv(100) == b"STOPPING=1"
        assert node.down() == 1
    assert process.returncode == 1
    node.up()
    with client(node) as control:
        assert control.status()["resumed"] == [run]


def test_signals_are_heard_though_its_starter_blocked_them_and_nohup_is_heeded(node: Node) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    masked = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGHUP])
    try:
        process = node.up()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, masked)
        signal.signal(signal.SIGHUP, before)
    node.send(signal.SIGHUP)
    with client(node) as control:
        assert not control.status()["stopping"]
    assert node.down() == 0
    assert process.returncode == 0


def test_errors_cross_the_socket_as_what_they_were(node: Node) -> None:
    node.up()
    with client(node) as control:
        with pytest.raises(ManifestError, match="nobody") as caught:
            control.start("nobody", "say x")
        assert "clerk" in caught.value.hint
        with pytest.raises(UnknownRunError, match="r-none"):
            control.run("r-none")
        with pytest.raises(UnknownRunError):
            list(control.watch("r-none"))
        with pytest.raises(NotFoundError):
            list(control.watch("../status"))


def test_agents_reload_while_running(node: Node) -> None:
    node.up()
    path = node.root / "agents" / "clerk.toml"
    with client(node) as control:
        before = control.agents()[0]["digest"]
        path.write_text(path.read_text().replace("Help.", "Help well."))
        assert control.reload_agents() == {}
        assert control.agents()[0]["digest"] != before
        path.write_text("name = 1\n")
        assert "clerk" in control.reload_agents()
        changes = [e["data"]["data"] for e in control.events(follow=False)]
    assert sum(1 for data in changes if isinstance(data, dict) and "change" in data) == 3


def test_config_errors_are_said_and_nothing_is_left(node: Node) -> None:
    (node.root / "config.toml").write_text("[control]\nbind = '0.0.0.0:7411'\n")
    done = node.cli("up")
    assert done.returncode == 1
    assert "needs a token" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (node.root / "run" / "control.sock").exists()


def test_detach_returns_when_ready_and_down_when_gone(node: Node) -> None:
    done = node.cli("up", "--detach")
    assert done.returncode == 0, done.stderr
    with client(node) as control:
        pid = control.status()["pid"]
    assert f"pid {pid}" in done.stderr
    done = node.cli("down")
    assert done.returncode == 0, done.stderr
    with Home(node.root).hold():  # nobody works on it any more
        assert not Home(node.root).socket.exists()
    assert node.cli("down").returncode == 3


def test_detach_says_why_it_failed(node: Node) -> None:
    (node.root / "config.toml").write_text("[node]\nname = 'A B'\n")
    done = node.cli("up", "--detach")
    assert done.returncode == 1
    assert "node.name" in done.stderr


def test_a_log_that_cannot_be_written_stops_the_node(node: Node) -> None:
    node.env["FREEHOLD_JOURNAL_FAULT"] = "eio:after-write:6"
    process = node.up()
    with client(node) as control, contextlib.suppress(FreeholdError):
        for _ in range(10):
            finish(control, control.start("clerk", "say x"))
    assert process.wait(30) == 1
    assert "log" in json.loads(node.log.read_text().splitlines()[-1])["error"]
    del node.env["FREEHOLD_JOURNAL_FAULT"]
    node.up()
    with client(node) as control:
        assert finish(control, control.start("clerk", "say x"))["text"] == "x"


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="only Linux tells another's limits")
def test_a_crash_leaves_no_dump_of_the_daemons_memory(node: Node) -> None:
    here = resource.getrlimit(resource.RLIMIT_CORE)
    if not here[1]:
        pytest.skip("no process may leave a dump here, so none has to be told not to")
    resource.setrlimit(resource.RLIMIT_CORE, (here[1], here[1]))
    try:
        process = node.up()
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, here)
    assert resource.prlimit(process.pid, resource.RLIMIT_CORE)[0] == 0


def test_what_the_daemon_makes_is_private(node: Node) -> None:
    node.up()
    with client(node) as control:
        finish(control, control.start("clerk", "write note.txt hello"))
    node.down()
    for path in node.root.rglob("*"):
        wide = path.lstat().st_mode & 0o077
        assert not wide or path.name == "log.vkey", f"{path} {wide:o}"
