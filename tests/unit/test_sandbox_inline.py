"""Calls on the event loop's own thread: which are, that they are fresh, and when they are not."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from node.clock import SystemClock
from node.errors import SandboxError, ToolLimitError, ToolTrapError
from node.sandbox import Grant, Limits, Sandbox, ToolManifest, ToolResult, WorkspaceGrant
from node.sandbox.inline import has_room
from node.sandbox.testing import component_wat, write_tool
from node.types import Json

ANSWER = """(call $answer (i32.const 0) (i32.sub (local.get $text) (i32.const 1))
  (i32.add (local.get $size) (i32.const 2)))"""
# A text of one letter is answered at once, one of two takes a million turns, a longer one traps.
WORK = component_wat(
    f"""(local $left i32)
    (if (i32.gt_u (local.get $size) (i32.const 2)) (then unreachable))
    (if (i32.eq (local.get $size) (i32.const 2)) (then
      (local.set $left (i32.const 1000000))
      (loop $again
        (local.set $left (i32.sub (local.get $left) (i32.const 1)))
        (br_if $again (local.get $left)))))
    {ANSWER}"""
)
FOREVER = component_wat(
    f"""(if (i32.gt_u (local.get $size) (i32.const 1)) (then (loop $again (br $again))))
    {ANSWER}"""
)
# Answers the letter that it was given the call before, or a space.
REMEMBERS = component_wat(
    """(local $found i32)
    (local.set $found (i32.load8_u (i32.const 60000)))
    (i32.store8 (i32.const 60000) (i32.load8_u (local.get $text)))
    (i32.store8 (i32.const 60011)
      (select (local.get $found) (i32.const 32) (local.get $found)))
    (i32.store8 (i32.const 60010) (i32.const 34))
    (i32.store8 (i32.const 60012) (i32.const 34))
    (call $answer (i32.const 0) (i32.const 60010) (i32.const 3))"""
)
READS = component_wat(
    """(call $workspace.read (local.get $text) (local.get $size) (i32.const 32))
       (call $quote (i32.const 32))""",
    imports=["workspace.read"],
)

SEARCHES = component_wat(
    f"""(call $knowledge.search (local.get $text) (local.get $size) (i32.const 3) (i32.const 32))
    {ANSWER}""",
    imports=["knowledge.search"],
)


@dataclass
class WatchedClock(SystemClock):
    """Notes the threads that ask it, as a call does where its guest runs."""

    asked_by: set[str] = field(default_factory=set)

    def monotonic(self) -> float:
        self.asked_by.add(threading.current_thread().name)
        return super().monotonic()


@dataclass
class Calls:
    """A sandbox with room for slow machines in what is short; tells where each call ended."""

    sandbox: Sandbox
    clock: WatchedClock

    async def make(self, tool: ToolManifest, text: str, grant: Grant | None = None) -> ToolResult:
        self.clock.asked_by.clear()
        return await self.sandbox.call(tool, "tool", {"v": text}, grant or Grant())

    async def are_inline(self, tool: ToolManifest, *texts: str) -> list[bool]:
        where = []
        for text in texts:
            assert (await self.make(tool, text)).value == text
            where.append(self.clock.asked_by == {"MainThread"})
        return where


@pytest.fixture
async def calls(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Calls]:
    cache = tmp_path_factory.getbasetemp() / "inline-cache"
    clock = WatchedClock()
    limits = Limits(seconds=5, inline_seconds=5)
    sandbox = Sandbox(cache, limits=limits, clock=clock)
    yield Calls(sandbox, clock)
    await sandbox.aclose()


def shipped(folder: Path, wat: str = WORK) -> ToolManifest:
    return replace(write_tool(folder, wat), is_shipped=True)


async def test_a_short_call_is_made_on_the_loop_after_one_was(calls: Calls, tmp_path: Path) -> None:
    tool = shipped(tmp_path)
    assert await calls.are_inline(tool, "a", "b", "c") == [False, True, True]


async def test_it_uses_and_answers_the_same(calls: Calls, tmp_path: Path) -> None:
    tool = shipped(tmp_path)
    first, second = await calls.make(tool, "a"), await calls.make(tool, "a")
    assert (first.value, first.fuel) == (second.value, second.fuel)
    assert 0 < second.fuel < Limits.inline_fuel


async def test_only_tools_that_ship_are(calls: Calls, tmp_path: Path) -> None:
    assert not any(await calls.are_inline(write_tool(tmp_path, WORK), "a", "b", "c"))


async def test_tools_with_a_capability_are_not(calls: Calls, tmp_path: Path) -> None:
    tool = replace(write_tool(tmp_path, READS, wants=["workspace"]), is_shipped=True)
    (tmp_path / "a").write_text("x")
    for _ in range(3):
        await calls.make(tool, "a", Grant(workspace=WorkspaceGrant(tmp_path)))
        assert calls.clock.asked_by != {"MainThread"}


async def test_a_long_call_is_made_again_on_a_thread_and_costs_the_tool_its_turn(
    calls: Calls, tmp_path: Path
) -> None:
    tool = shipped(tmp_path)
    assert await calls.are_inline(tool, "a", "b") == [False, True]
    assert (await calls.make(tool, "bb")).fuel > Limits.inline_fuel
    assert await calls.are_inline(tool, "c", "bb", "d", "e") == [False, False, False, True]
    await calls.make(tool, "bb")
    assert await calls.are_inline(tool, *"abcde") == [False] * 4 + [True]


async def test_a_trap_is_told_as_on_a_thread(calls: Calls, tmp_path: Path) -> None:
    tool = shipped(tmp_path)
    assert await calls.are_inline(tool, "a", "b") == [False, True]
    with pytest.raises(ToolTrapError, match="unreachable"):
        await calls.make(tool, "bbb")
    assert await calls.are_inline(tool, "a") == [False]


async def test_the_limits_of_a_call_are_those_of_a_thread(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    limits = Limits(seconds=0.2, inline_seconds=5)
    sandbox = Sandbox(tmp_path_factory.getbasetemp() / "inline-cache", limits=limits)
    calls = Calls(sandbox, WatchedClock())
    tool = shipped(tmp_path, FOREVER)
    for text in "ab":
        await calls.make(tool, text)
    with pytest.raises(ToolLimitError, match=r"seconds = 0\.2"):
        await calls.make(tool, "bb")
    await sandbox.aclose()


async def test_nothing_of_a_call_is_there_in_the_next(calls: Calls, tmp_path: Path) -> None:
    tool = shipped(tmp_path, REMEMBERS)
    for letter in "abcabc":
        assert (await calls.make(tool, letter)).value == " "
    assert calls.clock.asked_by == {"MainThread"}


async def test_calls_one_after_the_other_let_others_run(calls: Calls, tmp_path: Path) -> None:
    tool = shipped(tmp_path)
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    await calls.make(tool, "a")
    task = asyncio.create_task(other())
    assert all(await calls.are_inline(tool, *"abcdefgh"))
    task.cancel()
    assert turns >= len("abcdefgh")


async def test_a_call_has_room_here_while_every_thread_has_one(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    cache = tmp_path_factory.getbasetemp() / "inline-cache"
    sandbox = Sandbox(cache, limits=Limits(concurrency=1, inline_seconds=5))
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def search(query: str, limit: int) -> Json:
        asked.set()
        await go_on.wait()
        return []

    short, long = shipped(tmp_path), write_tool(tmp_path, SEARCHES, name="l", wants=["knowledge"])
    await sandbox.call(short, "tool", {"v": "a"}, Grant())
    held = asyncio.create_task(sandbox.call(long, "l", {"v": "x"}, Grant(knowledge=search)))
    await asyncio.wait_for(asked.wait(), 30)
    call = sandbox.call(short, "tool", {"v": "b"}, Grant())
    assert (await asyncio.wait_for(call, 30)).value == "b"
    go_on.set()
    await held
    await sandbox.aclose()


async def test_a_closed_sandbox_runs_nothing_here_either(calls: Calls, tmp_path: Path) -> None:
    tool = shipped(tmp_path)
    assert await calls.are_inline(tool, "a", "b") == [False, True]
    await calls.sandbox.aclose()
    with pytest.raises(SandboxError, match="closed"):
        await calls.make(tool, "c")


@pytest.mark.parametrize(
    ("stack_bytes", "expected"), [(8 << 20, True), (2 << 20, False), (-1, True)]
)
def test_a_stack_may_be_too_small(
    monkeypatch: pytest.MonkeyPatch, stack_bytes: int, expected: bool
) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda _: (stack_bytes, -1))
    assert has_room(Limits()) == expected
    with ThreadPoolExecutor(1) as pool:
        assert not pool.submit(has_room, Limits()).result()
