"""The shipped tools in the real sandbox, for ordinary (not async) tests; a home, and its money."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import wasm_tools
from node.home import Home
from node.sandbox import Grant, Sandbox, ToolManifest, ToolResult, read_manifest
from node.sandbox.network import Network
from node.types import Json

if TYPE_CHECKING:
    from helpers.money import Money

SHIPPED = Path(wasm_tools.__file__).parent


@dataclass
class Shipped:
    """One sandbox and the tools in it; a call costs a fraction of a millisecond."""

    sandbox: Sandbox
    loop: asyncio.AbstractEventLoop
    cache: Path
    manifests: dict[str, ToolManifest] = field(default_factory=dict)

    def manifest(self, name: str) -> ToolManifest:
        if name not in self.manifests:
            self.manifests[name] = read_manifest(SHIPPED / name)
        return self.manifests[name]

    def call(self, function: str, arguments: dict[str, Json], grant: Grant | None = None) -> Json:
        """The value; `{"error": …}` where the tool failed."""
        return self.result(function, arguments, grant).value

    def result(
        self, function: str, arguments: dict[str, Json], grant: Grant | None = None
    ) -> ToolResult:
        """The value with what it took: `fuel` is the same on every machine."""
        manifest = self.manifest(function.split("_", maxsplit=1)[0])
        work = self.sandbox.call(manifest, function, arguments, grant or Grant())
        return self.loop.run_until_complete(work)


@contextmanager
def start_shipped(cache: Path, network: Network | None = None) -> Iterator[Shipped]:
    loop = asyncio.new_event_loop()

    async def begin() -> Sandbox:
        return Sandbox(cache, network=network)

    sandbox = loop.run_until_complete(begin())
    yield Shipped(sandbox, loop, cache)
    loop.run_until_complete(sandbox.aclose())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """The home that commands find; nothing is there yet."""
    monkeypatch.setenv("FREEHOLD_HOME", str(tmp_path / "h"))
    return Home(tmp_path / "h")


@pytest.fixture(scope="session")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shipped]:
    with start_shipped(tmp_path_factory.getbasetemp() / "shipped-cache") as started:
        yield started


@pytest.fixture(scope="session")
def make_shipped() -> Callable[..., AbstractContextManager[Shipped]]:
    """Starts another sandbox, with a network of the test's own."""
    return start_shipped


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Others' callbacks of the collector would be called with no stack left, and complain."""
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
async def money(tmp_path: Path) -> AsyncIterator[Money]:
    """A node's money with 500 sat at a mint in memory."""
    from helpers.money import Money

    found = Money(tmp_path)
    await found.fill()
    yield found
    await found.keeper.aclose()
