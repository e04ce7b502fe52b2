"""Where no file can be opened just now, nothing that is there is taken for gone."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

import wasm_tools
from node.backup import cut
from node.disk import listed
from node.errors import (
    ConfigError,
    IdentityError,
    JournalReadError,
    ManifestError,
    ToolError,
)
from node.home import Home
from node.identity.keystore import KeyStore
from node.inference.llama.state_files import clear
from node.journal import Draft, Journal, Verdict, verify
from node.runs.registry import AgentRegistry
from node.sandbox import ToolStore

SHIPPED = Path(wasm_tools.__file__).parent
AGENT = 'name = "clerk"\ninstructions = "x"\n'


@contextmanager
def no_descriptor_left() -> Iterator[None]:
    limits, taken = resource.getrlimit(resource.RLIMIT_NOFILE), []
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, limits[1]))
    try:
        while True:
            try:
                taken.append(os.open(os.devnull, os.O_RDONLY))
            except OSError:
                break
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for descriptor in taken:
            os.close(descriptor)


def test_a_folder_that_cannot_be_read_is_not_an_empty_one(tmp_path: Path) -> None:
    for name in ("b.toml", "a.toml", ".c.toml", "d"):
        (tmp_path / name).touch()
    assert listed(tmp_path, "[!.]*.toml") == [tmp_path / "a.toml", tmp_path / "b.toml"]
    assert listed(tmp_path / "nowhere") == listed(tmp_path / "d") == []
    with no_descriptor_left(), pytest.raises(OSError, match="Too many open files"):
        listed(tmp_path)


def test_no_secret_and_no_tool_is_missed(tmp_path: Path) -> None:
    keys, tools = KeyStore(tmp_path / "keys"), ToolStore(SHIPPED, tmp_path)
    keys.set("wallet", b"secret")
    with no_descriptor_left():
        with pytest.raises(IdentityError, match=r"cannot read .*keys: Too many open files"):
            keys.names()
        with pytest.raises(ToolError, match=r"cannot read .*: Too many open files"):
            tools.names()
    assert (keys.names(), "calc" in tools.names()) == (["wallet"], True)


async def test_no_agent_is_missed(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.agents.mkdir()
    (home.agents / "clerk.toml").write_text(AGENT)
    registry = AgentRegistry(home.agents)
    assert [change.change for change in await registry.refresh()] == ["added"]
    with no_descriptor_left():
        with pytest.raises(ManifestError, match="agents cannot be read: Too many open files"):
            await registry.refresh()
        with pytest.raises(ConfigError, match="agents cannot be read: Too many open files"):
            _ = home.manifests
    assert registry.get("clerk").name == "clerk"
    assert await registry.refresh() == ()


def test_no_entry_and_no_content_is_missed(tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    with closing(Journal.open_sync(folder, origin="test.example/log")) as log:
        ref = log.put_blob(b"content", "x")
        log.append_sync(Draft("a.b", blobs=(ref,)))
        asked: tuple[Callable[[], object], ...] = (lambda: log.blob(ref), lambda: log.entry(0))
        for ask in asked:
            with no_descriptor_left(), pytest.raises(JournalReadError, match="Too many open"):
                ask()
        with no_descriptor_left(), pytest.raises(OSError, match="Too many open files"):
            cut(folder)
        assert log.blob(ref) == b"content"
    with no_descriptor_left():
        report = verify(folder)
    assert (report.verdict, verify(folder).verdict) == (Verdict.UNKNOWN, Verdict.VERIFIED)


def test_nothing_that_was_to_be_forgotten_is_missed(tmp_path: Path) -> None:
    (tmp_path / "a.state").write_bytes(b"what a model keeps of a conversation")
    with no_descriptor_left(), pytest.raises(OSError, match="Too many open files"):
        clear(tmp_path)
    clear(tmp_path)
    assert listed(tmp_path) == []
