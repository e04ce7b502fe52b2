"""`store`, `knowledge`, `clock` and `random`, through components that import them."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing, nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.sandbox import call_with

from node.clock import ManualClock
from node.errors import CapabilityError
from node.sandbox import Capability, Grant, Limits, Sandbox, WorkspaceGrant
from node.sandbox.abi import Err
from node.sandbox.capabilities.http import http_functions
from node.sandbox.capabilities.small import (
    clock_functions,
    knowledge_functions,
    random_functions,
)
from node.sandbox.capabilities.store import STORE_FILE, store_functions
from node.sandbox.capabilities.workspace import workspace_functions
from node.sandbox.hostcall import HostCall
from node.sandbox.linking import check_grant
from node.sandbox.manifest import all_capabilities
from node.sandbox.testing import FunctionTool, MemorySandbox, component_wat, write_tool
from node.types import Json, JsonObject

# Answers the sixty-four bits as a decimal number.
NUMBER = """(local $n i64) (local $at i32)
  (local.set $n (call ${function}))
  (local.set $at (i32.const 3000))
  (loop $digit
    (local.set $at (i32.sub (local.get $at) (i32.const 1)))
    (i32.store8 (local.get $at)
      (i32.add (i32.const 48) (i32.wrap_i64 (i64.rem_u (local.get $n) (i64.const 10)))))
    (local.set $n (i64.div_u (local.get $n) (i64.const 10)))
    (br_if $digit (i64.ne (local.get $n) (i64.const 0))))
  (call $answer (i32.const 0) (local.get $at) (i32.sub (i32.const 3000) (local.get $at)))"""
SEARCH = component_wat(
    """(call $knowledge.search (local.get $text) (local.get $size) (i32.const 3) (i32.const 32))
       (i32.const 32)""",
    imports=["knowledge.search"],
)


async def _nothing(query: str, limit: int) -> Json:
    return []


def number(function: str) -> str:
    return component_wat(NUMBER.replace("{function}", function), imports=[function])


@pytest.fixture
async def sandbox(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Sandbox]:
    cache = tmp_path_factory.getbasetemp() / "sandbox-cache"
    sandbox = Sandbox(
        cache, clock=ManualClock(wall_s=12.5), entropy=lambda n: b"\0" * (n - 1) + b"\7"
    )
    yield sandbox
    await sandbox.aclose()


def test_a_store_that_cannot_be_used_is_not_kept_open(tmp_path: Path) -> None:
    (tmp_path / STORE_FILE).write_bytes(b"no database" * 100)
    call = call_with(Grant(store=tmp_path))
    for _ in range(3):
        assert isinstance(store_functions(call.limits)[0].run(call, "key"), Err)
    assert call.resources is None


async def test_the_clock_is_the_nodes(sandbox: Sandbox, tmp_path: Path) -> None:
    tool = write_tool(tmp_path, number("clock.now"), wants=["clock"])
    result = await sandbox.call(tool, "tool", {}, Grant(clock=True))
    assert result.value == 12500


async def test_random_bits_are_the_nodes(sandbox: Sandbox, tmp_path: Path) -> None:
    tool = write_tool(tmp_path, number("random.bits"), wants=["random"])
    assert (await sandbox.call(tool, "tool", {}, Grant(random=True))).value == 7
    with pytest.raises(CapabilityError, match="random"):
        await sandbox.call(tool, "tool", {}, Grant(clock=True))


async def test_knowledge_is_asked_on_the_loop(sandbox: Sandbox, tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    asked: list[tuple[str, int]] = []

    async def search(query: str, limit: int) -> Json:
        assert asyncio.get_running_loop() is loop
        asked.append((query, limit))
        return [{"source": "note", "text": "grün", "score": 1}]

    tool = write_tool(tmp_path, SEARCH, wants=["knowledge"])
    result = await sandbox.call(tool, "tool", {"v": "color"}, Grant(knowledge=search))
    assert result.value == [{"source": "note", "text": "grün", "score": 1}]
    assert result.origins == ("knowledge:",)
    all_of_it = SEARCH.replace("(i32.const 3) (i32.const 32)", "(i32.const -1) (i32.const 32)")
    tool = write_tool(tmp_path, all_of_it, wants=["knowledge"])
    await sandbox.call(tool, "tool", {"v": "all"}, Grant(knowledge=search))
    assert asked == [("color", 3), ("all", Limits.knowledge_results)]


def host_call(store: Path | None, tool: str = "tool", **limits: int) -> HostCall:
    return call_with(Grant(store=store), tool=tool, **limits)


def do(call: HostCall, name: str, *arguments: str) -> object:
    functions = {each.name: each for each in store_functions(call.limits)}
    return functions[name].run(call, *arguments)


def test_values_outlive_a_call_and_belong_to_a_tool(tmp_path: Path) -> None:
    first = host_call(tmp_path / "agent")
    assert do(first, "get", "key") is None
    assert do(first, "set", "key", "grün") == "key"
    assert do(first, "set", "key", "blau") == "key"
    assert do(first, "set", "a", "") == "a"
    first.close()
    second = host_call(tmp_path / "agent")
    assert do(second, "get", "key") == "blau"
    assert do(second, "keys") == "a\nkey"
    other = host_call(tmp_path / "agent", tool="other")
    assert do(other, "get", "key") is None
    assert do(other, "delete", "key") == "key"
    assert do(other, "set", "theirs", "x") == "theirs"
    assert do(other, "keys") == "theirs"
    assert do(second, "keys") == "a\nkey"
    assert do(second, "get", "key") == "blau"
    assert do(second, "delete", "key") == "key"
    assert do(second, "keys") == "a"
    second.close()
    other.close()
    assert (tmp_path / "agent").stat().st_mode & 0o777 == 0o700


def test_a_function_that_only_reads_changes_no_value(tmp_path: Path) -> None:
    call = host_call(tmp_path)
    assert do(call, "set", "a", "1") == "a"
    call.grant = replace(call.grant, read_only=True)
    for answer in (do(call, "set", "a", "2"), do(call, "set", "b", "2"), do(call, "delete", "a")):
        assert isinstance(answer, Err)
        assert "only reads" in answer.value
    assert (do(call, "get", "a"), do(call, "keys")) == ("1", "a")
    call.close()


def test_a_store_has_room_for_so_much(tmp_path: Path) -> None:
    call = host_call(tmp_path, store_keys=2, store_bytes=10)
    assert do(call, "set", "a", "12345678") == "a"
    assert do(call, "set", "b", "xyz") == Err("the store is full: store_bytes = 10")
    assert do(call, "set", "b", "x") == "b"
    assert do(call, "set", "c", "") == Err("the store is full: store_keys = 2")
    assert do(call, "set", "a", "") == "a"
    assert do(call, "keys") == "a\nb"
    assert do(call, "set", "a", "\u00fc" * 5) == Err("the store is full: store_bytes = 10")
    other = host_call(tmp_path, "other", store_keys=2, store_bytes=10)
    assert do(other, "set", "a", "1234567890") == "a", "another tool's room is its own"
    other.close()
    call.close()


@pytest.mark.parametrize("key", ["", "x" * 257, "\u00fc" * 129, "a\nb"])
def test_a_key_is_a_line(tmp_path: Path, key: str) -> None:
    call = host_call(tmp_path)
    assert isinstance(do(call, "set", key, "x"), Err)
    call.close()


def test_a_spoiled_store_is_an_error_of_the_call(tmp_path: Path) -> None:
    (tmp_path / STORE_FILE).write_bytes(b"not a database" * 100)
    call = host_call(tmp_path)
    assert do(call, "get", "a") == Err("the store cannot be used: DatabaseError")
    call.close()


def test_nothing_is_served_without_its_grant() -> None:
    call = host_call(None)
    for function in (*store_functions(call.limits)[3:], *clock_functions(), *random_functions()):
        with pytest.raises(CapabilityError, match="was not granted"):
            function.run(call)
    for function in (*workspace_functions(call.limits), *http_functions(call.limits)):
        with pytest.raises(CapabilityError, match="was not granted"):
            function.run(call, *["{}"] * len(function.params))
    with pytest.raises(CapabilityError, match="knowledge"):
        knowledge_functions()[0].run(call, "query", 3)


GRANTS = {
    "workspace": Grant(workspace=WorkspaceGrant(Path("/w"))),
    "http": Grant(http=("https://a.example/*",)),
    "knowledge": Grant(knowledge=_nothing),
    "store": Grant(store=Path("/s")),
    "clock": Grant(clock=True),
    "random": Grant(random=True),
}


@pytest.mark.parametrize("wanted", all_capabilities())
def test_a_tool_is_not_begun_without_what_it_wants(wanted: Capability) -> None:
    for held, grant in GRANTS.items():
        refused = nullcontext() if held == wanted else pytest.raises(CapabilityError, match=wanted)
        with refused:
            check_grant("tool", frozenset({wanted}), grant)


async def test_the_double_behaves_as_the_sandbox_does() -> None:
    async def greet(arguments: JsonObject, grant: Grant) -> Json:
        return {"hello": arguments["name"]}

    tool = FunctionTool("double", {"greet": greet}, capabilities=frozenset({"clock"}))
    sandbox = MemorySandbox([tool])
    manifest = tool.manifest()
    assert await sandbox.prepare(manifest) == {"clock"}
    result = await sandbox.call(manifest, "greet", {"name": "x"}, Grant(clock=True))
    assert (result.ok, result.value, tool.calls["greet"]) == (True, {"hello": "x"}, 1)
    with pytest.raises(CapabilityError, match="clock"):
        await sandbox.call(manifest, "greet", {"name": "x"}, Grant())
    await sandbox.aclose()


def marking(store: Path, *marks: str) -> HostCall:
    """A call of a run that carries `marks`; a value stored also gets what the call has read."""
    call = host_call(store)
    call.grant = replace(call.grant, store_marks=lambda read: tuple({*marks, *map(_mark, read)}))
    return call


def _mark(origin: str) -> str:
    return origin.removeprefix("store:")


def test_what_a_run_carries_follows_the_values_it_stores(tmp_path: Path) -> None:
    writer = marking(tmp_path, "untrusted", "private")
    do(writer, "set", "marked", "x")
    writer.close()
    clean = marking(tmp_path)
    do(clean, "set", "clean", "y")
    assert do(clean, "get", "clean") == "y"
    assert not clean.origins
    assert do(clean, "get", "marked") == "x"
    assert set(clean.origins) == {"store:private", "store:untrusted"}
    do(clean, "set", "copied", "x")
    clean.close()
    for name, key in (("get", "copied"), ("keys", "")):
        reader = marking(tmp_path)
        do(reader, name, *([key] if key else []))
        assert set(reader.origins) == {"store:private", "store:untrusted"}
        reader.close()


def test_a_value_that_is_replaced_loses_its_marks(tmp_path: Path) -> None:
    call = marking(tmp_path, "untrusted")
    do(call, "set", "key", "x")
    call.close()
    for expected in ({"store:untrusted"}, set()):
        call = marking(tmp_path)
        if not expected:
            do(call, "set", "key", "y")
        do(call, "get", "key")
        assert set(call.origins) == expected
        call.close()


def test_a_store_of_before_there_were_marks_is_used_on(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / STORE_FILE)) as old:
        old.execute(
            "CREATE TABLE value (tool TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, "
            "PRIMARY KEY (tool, key)) WITHOUT ROWID"
        )
        old.execute("INSERT INTO value VALUES ('tool', 'key', 'old')")
        old.commit()
    call = marking(tmp_path, "private")
    assert do(call, "get", "key") == "old"
    assert do(call, "set", "new", "x") == "new"
    assert do(call, "keys") == "key\nnew"
    assert set(call.origins) == {"store:private"}
    call.close()
