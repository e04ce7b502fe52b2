"""A node as its owner has it: a home, its commands, and daemons as processes."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from node.cli.init import create
from node.home import Home

DAEMON = Path(__file__).parents[1] / "scripted_daemon.py"
LIMIT_S = 30.0


@dataclass
class Node:
    """A home, and daemons of it as processes. `up` returns when the daemon is ready."""

    root: Path
    process: subprocess.Popen[bytes] | None = None
    env: dict[str, str] = field(default_factory=dict)

    @property
    def log(self) -> Path:
        return self.root.with_name("stderr.log")

    def environment(self) -> dict[str, str]:
        return {**os.environ, "FREEHOLD_HOME": str(self.root), **self.env}

    def cli(self, *words: str, stdin: bytes = b"", **env: str) -> subprocess.CompletedProcess[str]:
        """Runs `freehold WORDS` to its end."""
        done = subprocess.run(
            [sys.executable, "-m", "node.cli", *words],
            input=stdin,
            capture_output=True,
            env={**self.environment(), **env},
            timeout=LIMIT_S,
            check=False,
        )
        return subprocess.CompletedProcess(
            done.args, done.returncode, done.stdout.decode(), done.stderr.decode()
        )

    def spawn(self) -> tuple[subprocess.Popen[bytes], IO[bytes]]:
        """Starts a daemon; the pipe gets a line when it is ready, and ends if it never will be."""
        reading, writing = os.pipe()
        with open(self.log, "ab") as log:
            process = subprocess.Popen(
                [sys.executable, str(DAEMON)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[writing],
                env={**self.environment(), "FREEHOLD_READY_FD": str(writing)},
            )
        os.close(writing)
        return process, open(reading, "rb")

    @contextlib.contextmanager
    def notices(self) -> Iterator[socket.socket]:
        """A socket that gets the daemon's sd_notify messages."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            path = self.root.with_name("notify")
            manager.bind(str(path))
            manager.settimeout(LIMIT_S)
            self.env["NOTIFY_SOCKET"] = str(path)
            yield manager

    def up(self) -> subprocess.Popen[bytes]:
        self.process, ready = self.spawn()
        with ready:
            assert ready.readline() == b"ready\n", self.log.read_text()
        return self.process

    def send(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def down(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ends the daemon with a signal; its exit status."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(LIMIT_S)

    def end(self) -> None:
        """No daemon is left behind."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(LIMIT_S)


def make_node(folder: Path) -> Node:
    """A node with one agent, `clerk`, that may calculate and write files."""
    create(Home(folder / "h"), "test-node")
    (folder / "h" / "agents" / "clerk.toml").write_text(
        'name = "clerk"\ninstructions = "Help."\n[[tools]]\nname = "calc"\n'
        '[[tools]]\nname = "files"\ngrant.workspace = "rw"\n'
    )
    return Node(folder / "h")
