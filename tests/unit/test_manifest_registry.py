"""Reloading agents' files: what changed, and that one broken file takes out no other agent."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import tomllib
from pathlib import Path

import pytest

import wasm_tools
from node import schemas
from node.errors import ManifestError
from node.runs.agent import AgentManifest
from node.runs.grants import check_tools
from node.runs.manifest import parse_manifest as parse_agent
from node.runs.registry import AgentRegistry
from node.sandbox import ToolStore
from node.sandbox import parse_manifest as parse_tool
from node.schemas import checker
from node.types import canonical


def put(folder: Path, name: str, about: str = "", extra: str = "") -> None:
    text = f'name = "{name}"\nabout = "{about}"\ninstructions = "x"\n{extra}'
    (folder / f"{name}.toml").write_text(text)


def drop(folder: Path, name: str) -> None:
    (folder / f"{name}.toml").unlink()


async def refreshed(registry: AgentRegistry) -> list[tuple[str, str]]:
    return [(change.name, change.change) for change in await registry.refresh()]


async def test_who_reads_slowly_brings_nothing_old_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The agent was paused meanwhile, and whoever starts a run has looked since."""
    registry, has_read, go_on = AgentRegistry(tmp_path), threading.Event(), threading.Event()
    read_all, slow = registry._read_all, [True]

    def reads():  # type: ignore[no-untyped-def]
        found = read_all()
        if slow.pop():
            slow.append(False)
            has_read.set()
            go_on.wait(0.3)
        return found

    monkeypatch.setattr(registry, "_read_all", reads)
    put(tmp_path, "clerk")
    first = asyncio.create_task(registry.refresh())
    await asyncio.to_thread(has_read.wait, 5)
    put(tmp_path, "clerk", extra="paused = true\n")
    second = asyncio.create_task(registry.refresh())
    second.add_done_callback(lambda _: go_on.set())
    await asyncio.gather(first, second)
    assert registry.get("clerk").paused


async def test_a_life_of_changes(tmp_path: Path) -> None:
    registry = AgentRegistry(tmp_path)
    assert await refreshed(registry) == []
    put(tmp_path, "clerk")
    put(tmp_path, "cook")
    assert await refreshed(registry) == [("clerk", "added"), ("cook", "added")]
    assert await refreshed(registry) == []
    put(tmp_path, "clerk", about="new")
    assert await refreshed(registry) == [("clerk", "changed")]
    assert registry.get("clerk").about == "new"
    drop(tmp_path, "cook")
    assert await refreshed(registry) == [("cook", "removed")]
    assert [agent.name for agent in registry.list()] == ["clerk"]


async def test_a_broken_file_takes_out_only_its_own_agent(tmp_path: Path) -> None:
    registry = AgentRegistry(tmp_path)
    put(tmp_path, "clerk")
    put(tmp_path, "cook")
    await registry.refresh()
    before = registry.get("cook")
    put(tmp_path, "cook", extra="colour = 1")
    (change,) = await registry.refresh()
    assert (change.name, change.change, change.digest) == ("cook", "broken", "")
    assert await refreshed(registry) == []
    assert registry.get("clerk").name == "clerk"
    with pytest.raises(ManifestError, match="unknown key colour"):
        registry.get("cook")
    assert list(registry.broken()) == ["cook"]
    put(tmp_path, "cook")
    assert await refreshed(registry) == [("cook", "changed")]
    assert registry.get("cook") == before
    assert registry.broken() == {}


def put_unnamed(folder: Path) -> None:
    Path(os.fsdecode(os.fsencode(folder) + b"/\xff.toml")).write_text("name = 3")


@pytest.mark.skipif(sys.platform == "darwin", reason="its file systems take UTF-8 alone")
async def test_a_files_name_that_is_not_utf8_takes_out_only_itself(tmp_path: Path) -> None:
    """What cannot be told in JSON would end the start of the node, which logs every change."""
    registry = AgentRegistry(tmp_path)
    put(tmp_path, "clerk")
    put_unnamed(tmp_path)
    changes = await registry.refresh()
    assert [(each.name, each.change) for each in changes] == [
        ("\\xff", "broken"),
        ("clerk", "added"),
    ]
    assert changes[0].error is not None
    assert "not UTF-8" in changes[0].error.message
    canonical([each.name for each in changes] + [changes[0].error.diagnostics()])


async def test_a_broken_new_file_and_its_removal(tmp_path: Path) -> None:
    registry = AgentRegistry(tmp_path)
    put(tmp_path, "cook", extra="colour = 1")
    assert await refreshed(registry) == [("cook", "broken")]
    drop(tmp_path, "cook")
    assert await refreshed(registry) == [("cook", "removed")]


async def test_what_a_check_refuses_is_broken(tmp_path: Path) -> None:
    def check(agent: AgentManifest) -> None:
        if agent.about == "bad":
            raise ManifestError("there is no tool filez", hint="Did you mean files?")

    registry = AgentRegistry(tmp_path, check=check)
    put(tmp_path, "clerk", about="bad")
    assert await refreshed(registry) == [("clerk", "broken")]
    with pytest.raises(ManifestError, match="filez"):
        registry.get("clerk")


async def test_an_unknown_agent_is_answered_with_the_nearest(tmp_path: Path) -> None:
    registry = AgentRegistry(tmp_path / "missing")
    await registry.refresh()
    with pytest.raises(ManifestError) as none:
        registry.get("clerk")
    assert "Agents: none" in none.value.hint
    put(tmp_path, "clerk")
    registry = AgentRegistry(tmp_path)
    await registry.refresh()
    with pytest.raises(ManifestError) as near:
        registry.get("clrek")
    assert near.value.hint.startswith("Did you mean clerk? Agents: clerk.")


async def test_editors_temporary_files_are_no_agents(tmp_path: Path) -> None:
    (tmp_path / ".clerk.toml").write_text("half")
    (tmp_path / "clerk.toml~").write_text("half")
    registry = AgentRegistry(tmp_path)
    assert await refreshed(registry) == []


async def test_what_did_not_change_is_not_parsed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each run that starts looks at all agents, and at the tools that each of them is granted."""
    parsed: list[str] = []
    loads = tomllib.loads

    def counted(text: str) -> dict[str, object]:
        parsed.append(text.partition("\n")[0])
        return loads(text)

    shipped = Path(wasm_tools.__file__).parent
    tools = ToolStore(shipped, tmp_path / "installed")
    registry = AgentRegistry(tmp_path, check=lambda agent: check_tools(agent, tools))
    for number in range(5):
        put(tmp_path, f"clerk{number}", extra='[[tools]]\nname = "calc"\n[[tools]]\nname = "text"')
    await registry.refresh()
    monkeypatch.setattr(tomllib, "loads", counted)
    monkeypatch.setattr(tools, "names", lambda: pytest.fail("all tools were looked at"))
    put(tmp_path, "clerk3", about="new", extra='[[tools]]\nname = "calc"')
    assert await refreshed(registry) == [("clerk3", "changed")]
    assert parsed == ['name = "clerk3"']
    assert await refreshed(registry) == []
    assert len(parsed) == 1


def test_nor_where_there_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is read in the same order again and again is all gone from a memory that is too small
    for the last of it."""

    def read() -> None:
        for number in range(2000):
            name = f"clerk{number}"
            text = f'name = "{name}"\ninstructions = "x"\n'
            assert parse_agent(text.encode(), Path(f"/agents/{name}.toml")).name == name
        for number in range(300):
            name, folder = f"tool{number}", Path(f"/tools/tool{number}")
            functions = [function.format(number, each) for each in "abc"]
            text = f'name = "{name}"\n{tool}' + "".join(functions)
            assert parse_tool(text.encode(), folder / "tool.toml").name == name

    tool = 'version = "1.2.3"\nabout = "A tool"\nlanguage = "zig"\ncapabilities = []\n'
    function = (
        '[[functions]]\nname = "do_{1}"\ndescription = "x"\n'
        'parameters = {{type = "object", title = "{0} {1}"}}\n'
    )
    read()
    monkeypatch.setattr(tomllib, "loads", lambda _text: pytest.fail("it was parsed again"))
    read()
    checked = schemas._compiled.cache_info()
    checker({"type": "object", "title": "0 a"})
    assert schemas._compiled.cache_info().misses == checked.misses
