"""Fixtures that more than one folder of tests uses: a home, and a real daemon on a double."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from wallet.mint.testing import ServedMint

# how long an example takes is the machine's business: no test here asserts a time. A person's
# runs look for new examples; CI tries the same ones each time, so that it says what changed.
settings.register_profile("freehold", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("freehold")

TESTS = Path(__file__).parent
sys.path.append(str(TESTS))  # where `helpers` is
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
                [sys.executable, str(TESTS / "scripted_daemon.py")],
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
    from node.cli.init import create
    from node.home import Home

    create(Home(folder / "h"), "test-node")
    (folder / "h" / "agents" / "clerk.toml").write_text(
        'name = "clerk"\ninstructions = "Help."\n[[tools]]\nname = "calc"\n'
        '[[tools]]\nname = "files"\ngrant.workspace = "rw"\n'
    )
    return Node(folder / "h")


@pytest.fixture
def mint() -> Iterator[ServedMint]:
    """A mint in memory, served on loopback, for daemons and commands as processes."""
    from wallet.mint.testing import ServedMint

    with ServedMint(fee_ppk=100) as served:
        yield served


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    """A node of the test's own. Not started."""
    made = make_node(tmp_path)
    yield made
    made.end()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node that is up, for the tests of a file that leave it as it was."""
    made = make_node(tmp_path_factory.mktemp("running"))
    made.up()
    yield made
    made.end()


@pytest.fixture
async def pass_time(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """`pass_time(seconds)`: for the test's event loop they have passed; what was due comes next."""
    loop = asyncio.get_running_loop()
    clock, ahead_s = loop.time, 0.0

    def go_on(seconds: float) -> None:
        nonlocal ahead_s
        ahead_s += seconds

    monkeypatch.setattr(loop, "time", lambda: clock() + ahead_s)
    return go_on


@pytest.fixture
def deafen() -> Iterator[Callable[[str, int], None]]:
    """Makes an address of this machine never answer, as one of IPv6 where no network carries it."""
    with contextlib.ExitStack() as held:

        def make_deaf(host: str, port: int) -> None:
            deaf = held.enter_context(socket.socket())
            deaf.bind((host, port))
            deaf.listen(0)
            for _ in range(3):  # who comes when its queue is full hears nothing
                waiting = held.enter_context(socket.socket())
                waiting.setblocking(False)
                waiting.connect_ex((host, port))

        yield make_deaf


@pytest.fixture(scope="session")
def interruptible() -> Callable[..., subprocess.Popen[str]]:
    """Starts `freehold WORDS` with an `env`; Ctrl-C is heard as at a terminal.

    Tests run in the background of a shell have it ignored, and would hand that on.
    """
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from node.cli.main import main; main()"
    )

    def start(*words: str, env: dict[str, str]) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", code, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=env,
            text=True,
        )

    return start


@dataclass
class Cut:
    """Awaits `work`, whose task is cancelled at its wait number `at`, from 0. With `late`, only
    when what it waits for has come, which must not be lost then."""

    work: Coroutine[Any, Any, object]
    at: int
    late: bool = False
    waits: int = 0

    def __await__(self) -> Generator[Any, Any, object]:
        steps, raised = self.work.__await__(), None
        while True:
            try:
                awaited = steps.throw(raised) if raised else steps.send(None)
            except StopIteration as end:
                return end.value
            if self.waits == self.at:
                self._cancel_at(awaited)
            self.waits, raised = self.waits + 1, None
            try:
                yield awaited
            except BaseException as error:
                raised = error

    def _cancel_at(self, awaited: asyncio.Future[object] | None) -> None:
        task = asyncio.current_task()
        assert task is not None
        if self.late and awaited is not None:
            awaited.add_done_callback(lambda _: task.cancel())
        else:
            asyncio.get_running_loop().call_soon(task.cancel)


async def cancelled_at(
    number: int, work: Coroutine[Any, Any, object], *, late: bool = False
) -> bool:
    """Sees `work` to its end, cancelled at its wait of this number; False where it had fewer."""
    cut = Cut(work, number, late)

    async def live() -> object:
        return await cut

    task = asyncio.create_task(live())
    await asyncio.wait([task])
    if not task.cancelled():
        task.result()
    return cut.waits > number


@pytest.fixture(name="cancelled_at")
def cancelled_at_() -> Callable[..., Awaitable[bool]]:
    """See `cancelled_at`: `while await cancelled_at(number, work())` tries every wait."""
    return cancelled_at
