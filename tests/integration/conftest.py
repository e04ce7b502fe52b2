"""What several tests here need: real mints, HTTP servers, disks that fill up.

Mints: a test takes `nutshells` and calls it with a fee, `nutshells(100)`, or takes `nutshell`,
which is the one with Nutshell's own default of 100 ppk. Both are play money on loopback for the
whole session, and skip, saying why, where Nutshell is not set up.
"""

from __future__ import annotations

import contextlib
import subprocess
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from helpers.scripts import script

if TYPE_CHECKING:
    from node.inference import LlamaEngine, ModelStore


@pytest.fixture(scope="session")
def nutshells() -> Iterator[Callable[..., Any]]:
    """`nutshells(fee_ppk, payments="settled")`: the mint with that fee, started when first asked
    for."""
    module = script("_mint")
    if module.missing():
        pytest.skip(module.missing())
    started: dict[tuple[int, str], Any] = {}
    with contextlib.ExitStack() as stack:

        def at(fee_ppk: int = 100, payments: str = "settled") -> Any:
            if (fee_ppk, payments) not in started:
                mint = module.Nutshell(fee_ppk=fee_ppk, payments=payments)
                started[fee_ppk, payments] = stack.enter_context(mint)
            return started[fee_ppk, payments]

        yield at


@pytest.fixture(scope="session")
def nutshell(nutshells: Callable[..., Any]) -> Any:
    """The mint with Nutshell's default fee."""
    return nutshells(100)


@pytest.fixture
def listen() -> Iterator[Callable[[type[BaseHTTPRequestHandler]], int]]:
    """`listen(Handler)`: the port of an HTTP server on loopback, which ends with the test."""
    with contextlib.ExitStack() as stack:

        def at(handler: type[BaseHTTPRequestHandler]) -> int:
            server = stack.enter_context(ThreadingHTTPServer(("127.0.0.1", 0), handler))
            server.daemon_threads = True
            thread = threading.Thread(target=server.serve_forever, args=(0.01,))
            thread.start()
            stack.callback(thread.join)
            stack.callback(server.shutdown)
            return int(server.server_address[1])

        yield at


@pytest.fixture
async def engine(store: ModelStore) -> AsyncIterator[LlamaEngine]:
    """An engine on the module's `store`."""
    from node.inference import LlamaEngine

    made = LlamaEngine(store)
    yield made
    await made.aclose()


@pytest.fixture
def tiny_disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A tmpfs of the module's `DISK_KIB`."""
    target = tmp_path / "disk"
    target.mkdir()
    size = f"size={request.module.DISK_KIB}k"
    command = ["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(target)]
    try:
        done = subprocess.run(command, capture_output=True, check=False)
    except OSError as error:
        pytest.skip(f"there is no mount command: {error}")
    if done.returncode:
        pytest.skip(f"a tmpfs cannot be mounted here: {done.stderr.decode().strip()}")
    yield target
    subprocess.run(["umount", "--lazy", str(target)], check=True)
