"""Fixtures that more than one folder of tests uses: a home, and a real daemon on a double."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from helpers.node import Node

    from wallet.mint.testing import ServedMint

# how long an example takes is the machine's business: no test here asserts a time. A person's
# runs look for new examples; CI tries the same ones each time, so that it says what changed.
settings.register_profile("freehold", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("freehold")

sys.path.append(str(Path(__file__).parent))  # where `helpers` is


@pytest.fixture
def mint() -> Iterator[ServedMint]:
    """A mint in memory, served on loopback, for daemons and commands as processes."""
    from wallet.mint.testing import ServedMint

    with ServedMint(fee_ppk=100) as served:
        yield served


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    """A node of the test's own. Not started."""
    from helpers.node import make_node

    made = make_node(tmp_path)
    yield made
    made.end()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node that is up, for the tests of a file that leave it as it was."""
    from helpers.node import make_node

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
