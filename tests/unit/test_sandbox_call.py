"""Calls of real components: what comes back, and what is refused before anything runs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from node.clock import ManualClock
from node.errors import CapabilityError, SandboxError, ToolError, ToolLimitError, ToolTrapError
from node.sandbox import Grant, Limits, Sandbox, WorkspaceGrant
from node.sandbox.engine import Ticker, build_engine
from node.sandbox.testing import component_wat, write_tool
from node.sandbox.threads import Threads
from node.types import Json

ECHO = component_wat(
    """(call $answer (i32.const 0) (i32.sub (local.get $text) (i32.const 1))
         (i32.add (local.get $size) (i32.const 2)))"""
)
FAIL = component_wat("(call $answer (i32.const 1) (local.get $text) (local.get $size))")
RAW = component_wat("(call $answer (i32.const 0) (local.get $text) (local.get $size))")
READ = component_wat(
    """(call $workspace.read (local.get $text) (local.get $size) (i32.const 32))
       (call $quote (i32.const 32))""",
    imports=["workspace.read"],
)


@pytest.fixture
async def sandbox(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Sandbox]:
    cache = tmp_path_factory.getbasetemp() / "sandbox-cache"
    sandbox = Sandbox(cache, limits=Limits(input_bytes=1000, output_bytes=100))
    yield sandbox
    await sandbox.aclose()


async def test_answers_what_the_component_answers(sandbox: Sandbox, tmp_path: Path) -> None:
    tool = write_tool(tmp_path, ECHO)
    result = await sandbox.call(tool, "tool", {"v": "grüße"}, Grant())
    assert (result.ok, result.value) == (True, "grüße")
    assert result.fuel > 0
    assert result.seconds > 0


async def test_a_tool_that_was_removed_is_called_no_more(sandbox: Sandbox, tmp_path: Path) -> None:
    tool = write_tool(tmp_path, ECHO)
    await sandbox.call(tool, "tool", {"v": "x"}, Grant())
    (tool.folder / tool.component).unlink()
    with pytest.raises(ToolError, match="was removed"):
        await sandbox.call(tool, "tool", {"v": "x"}, Grant())


async def test_an_error_of_the_tool_is_a_result(sandbox: Sandbox, tmp_path: Path) -> None:
    tool = write_tool(tmp_path, FAIL)
    result = await sandbox.call(tool, "tool", {"v": "no such thing"}, Grant())
    assert (result.ok, result.value) == (False, {"error": "no such thing"})


@pytest.mark.parametrize("text", ["x", "NaN", "[" * 99, "Infinity", "", "1e999", "-1e999"])
async def test_an_answer_that_is_not_json_is_refused(
    sandbox: Sandbox, tmp_path: Path, text: str
) -> None:
    tool = write_tool(tmp_path, RAW)
    with pytest.raises(ToolError, match="not JSON"):
        await sandbox.call(tool, "tool", {"v": text}, Grant())


async def test_an_answer_that_is_no_unicode_is_refused(sandbox: Sandbox, tmp_path: Path) -> None:
    text = '(data (i32.const 5000) "\\22\\5cuD800\\22")'
    answer = "(call $answer (i32.const 0) (i32.const 5000) (i32.const 8))"
    tool = write_tool(tmp_path, component_wat(answer, declarations=text))
    with pytest.raises(ToolError, match="not JSON"):
        await sandbox.call(tool, "tool", {}, Grant())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "\ud800"])
async def test_arguments_that_are_not_json_are_refused(
    sandbox: Sandbox, tmp_path: Path, value: str | float
) -> None:
    with pytest.raises(ToolError, match="arguments for tool are not JSON"):
        await sandbox.call(write_tool(tmp_path, ECHO), "tool", {"v": value}, Grant())


async def test_an_answer_that_is_nested_too_deep_is_refused(tmp_path: Path) -> None:
    brackets = "(memory.fill (i32.const {at}) (i32.const {code}) (i32.const 980))"
    body = brackets.format(at=4096, code=ord("[")) + brackets.format(at=5076, code=ord("]"))
    answer = "(call $answer (i32.const 0) (i32.const 4096) (i32.const 1960))"
    tool = write_tool(tmp_path, component_wat(body + answer))
    sandbox = Sandbox(tmp_path / "cache")
    with pytest.raises(ToolError, match="nested over 128 deep"):
        await sandbox.call(tool, "tool", {}, Grant())
    await sandbox.aclose()


async def test_sizes_are_limited_by_name(sandbox: Sandbox, tmp_path: Path) -> None:
    tool = write_tool(tmp_path, ECHO)
    with pytest.raises(ToolLimitError, match="input_bytes = 1000"):
        await sandbox.call(tool, "tool", {"v": "é" * 600}, Grant())
    with pytest.raises(ToolLimitError, match="output_bytes = 100"):
        await sandbox.call(tool, "tool", {"v": "x" * 200}, Grant())


async def test_an_import_that_was_not_granted_is_refused_by_name(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    tool = write_tool(tmp_path, READ, wants=["workspace"])
    with pytest.raises(CapabilityError, match="wants workspace, which it was not granted"):
        await sandbox.call(tool, "tool", {"v": "a"}, Grant(clock=True))


async def test_an_import_that_the_manifest_hides_is_refused(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    tool = write_tool(tmp_path, READ)
    with pytest.raises(CapabilityError, match=r"imports workspace, which its tool\.toml"):
        await sandbox.call(tool, "tool", {"v": "a"}, Grant(workspace=WorkspaceGrant(tmp_path)))


async def test_a_granted_import_works(sandbox: Sandbox, tmp_path: Path) -> None:
    tool = write_tool(tmp_path, READ, wants=["workspace"])
    (tmp_path / "a").write_text("content")
    grant = Grant(workspace=WorkspaceGrant(tmp_path))
    result = await sandbox.call(tool, "tool", {"v": "a"}, grant)
    assert result.value == "content"
    assert result.origins == ("workspace:a",)


async def test_nothing_of_a_call_is_there_in_the_next(sandbox: Sandbox, tmp_path: Path) -> None:
    counting = component_wat(
        """(i32.store8 (i32.const 2000)
             (i32.add (i32.const 1) (i32.load8_u (i32.const 2000))))
           (i32.store8 (i32.const 2001)
             (i32.add (i32.const 48) (i32.load8_u (i32.const 2000))))
           (call $answer (i32.const 0) (i32.const 2001) (i32.const 1))"""
    )
    tool = write_tool(tmp_path, counting)
    assert [(await sandbox.call(tool, "tool", {}, Grant())).value for _ in range(3)] == [1, 1, 1]


async def test_a_changed_component_is_refused(sandbox: Sandbox, tmp_path: Path) -> None:
    tool = write_tool(tmp_path, component_wat("(call $quote (i32.const 64)) (drop) (i32.const 3)"))
    path = tool.folder / tool.component
    path.write_bytes(path.read_bytes()[:-1] + b"\x07")
    with pytest.raises(ToolError, match="not the file its tool"):
        await sandbox.call(tool, "tool", {}, Grant())


async def test_describe_is_given_nothing(sandbox: Sandbox, tmp_path: Path) -> None:
    tool = write_tool(tmp_path, READ, wants=["workspace"])
    assert await sandbox.describe(tool) == {"name": "tool"}
    describe = '(func (export "describe") (result i32)'
    asks = "(call $workspace.read (i32.const 0) (i32.const 1) (i32.const 32))"
    tool = write_tool(tmp_path, READ.replace(describe, describe + asks), wants=["workspace"])
    with pytest.raises(ToolTrapError, match="freehold:tool/workspace"):
        await sandbox.describe(tool)


async def test_a_description_is_an_object(sandbox: Sandbox, tmp_path: Path) -> None:
    about = "{\\22name\\22: \\22tool\\22}"
    tool = write_tool(tmp_path, ECHO.replace(about, "[12345678901234]"))
    with pytest.raises(ToolError, match="no object"):
        await sandbox.describe(tool)


async def test_an_unknown_function_names_the_known_ones(sandbox: Sandbox, tmp_path: Path) -> None:
    tool = write_tool(tmp_path, ECHO)
    with pytest.raises(ToolError, match="no function other"):
        await sandbox.call(tool, "other", {}, Grant())


async def test_a_closed_sandbox_runs_nothing(tmp_path: Path) -> None:
    sandbox = Sandbox(tmp_path / "cache")
    tool = write_tool(tmp_path, ECHO)
    await sandbox.call(tool, "tool", {"v": "x"}, Grant())
    await sandbox.aclose()
    with pytest.raises(SandboxError, match="closed"):
        await sandbox.call(tool, "tool", {"v": "x"}, Grant())


async def test_calls_in_flight_are_waited_for(tmp_path: Path) -> None:
    sandbox = Sandbox(tmp_path / "cache")
    tool = write_tool(tmp_path, ECHO)
    await sandbox.prepare(tool)
    calls = [asyncio.create_task(sandbox.call(tool, "tool", {"v": i}, Grant())) for i in "abcdefgh"]
    await asyncio.sleep(0)
    await sandbox.aclose()
    assert [call.result().value for call in calls] == list("abcdefgh")


async def test_a_call_that_waits_for_a_compiler_is_told_that_the_sandbox_closed(
    tmp_path: Path,
) -> None:
    """Nobody cancelled it, so it must not look as if somebody had."""
    sandbox = Sandbox(tmp_path / "cache")
    call = asyncio.create_task(
        sandbox.call(write_tool(tmp_path, ECHO), "tool", {"v": "x"}, Grant())
    )
    await asyncio.sleep(0)
    await sandbox.aclose()
    with pytest.raises(SandboxError, match="closed"):
        await call
    assert not [*(tmp_path / "cache").glob("*.cwasm")], "it was not waited for"


async def test_who_gives_up_takes_the_compiler_from_nobody_else(tmp_path: Path) -> None:
    sandbox = Sandbox(tmp_path / "cache")
    tool = write_tool(tmp_path, ECHO)
    gone, stays = (asyncio.create_task(sandbox.prepare(tool)) for _ in range(2))
    await asyncio.sleep(0)
    gone.cancel()
    assert await stays == frozenset()
    await sandbox.aclose()


async def test_as_many_components_are_kept_loaded_as_may_be(tmp_path: Path) -> None:
    """The one that was used longest ago is loaded again: here it has to be compiled again."""
    cache = tmp_path / "cache"
    sandbox = Sandbox(cache, limits=Limits(kept_components=2))
    one, two, three = (
        write_tool(tmp_path, wat, name=name)
        for name, wat in zip("abc", (ECHO, FAIL, RAW), strict=True)
    )
    for tool in (one, two, one, three):
        await sandbox.prepare(tool)
    for code in cache.glob("*.cwasm"):
        code.unlink()
    for tool, compiled in ((one, 0), (three, 0), (two, 1)):
        await sandbox.prepare(tool)
        assert len([*cache.glob("*.cwasm")]) == compiled
    await sandbox.aclose()


SEARCH = component_wat(
    """(call $knowledge.search (local.get $text) (local.get $size) (i32.const 3) (i32.const 32))
       (call $answer (i32.const 0) (i32.sub (local.get $text) (i32.const 1))
         (i32.add (local.get $size) (i32.const 2)))""",
    imports=["knowledge.search"],
)


async def test_a_call_has_its_time_once_a_thread_takes_it(tmp_path: Path) -> None:
    clock, asked, go_on = ManualClock(), asyncio.Event(), asyncio.Event()
    sandbox = Sandbox(tmp_path / "cache", limits=Limits(concurrency=1), clock=clock)

    async def search(query: str, limit: int) -> Json:
        asked.set()
        await go_on.wait()
        return []

    first = write_tool(tmp_path, SEARCH, name="first", wants=["knowledge"])
    then = write_tool(tmp_path, ECHO, name="then")
    await sandbox.prepare(then)
    holds = asyncio.create_task(sandbox.call(first, "first", {"v": "x"}, Grant(knowledge=search)))
    await asyncio.wait_for(asked.wait(), 30)
    waits = asyncio.create_task(sandbox.call(then, "then", {"v": "x"}, Grant()))
    await asyncio.sleep(0)
    clock.advance(Limits.seconds + 1)
    go_on.set()
    assert (await waits).value == "x"
    await asyncio.gather(holds, return_exceptions=True)
    await sandbox.aclose()


async def test_a_component_is_compiled_once_for_all_who_wait(tmp_path: Path) -> None:
    sandbox = Sandbox(tmp_path / "cache")
    tool = write_tool(tmp_path, ECHO)
    results = await asyncio.gather(
        *(sandbox.call(tool, "tool", {"v": "x"}, Grant()) for _ in range(10))
    )
    assert {result.value for result in results} == {"x"}
    assert len(list((tmp_path / "cache").glob("*.cwasm"))) == 1
    await sandbox.aclose()


async def test_an_error_knows_whose_words_it_may_hold(sandbox: Sandbox, tmp_path: Path) -> None:
    """A guest that has read something can tell of it by how it ends."""
    reads_and_traps = component_wat(
        """(call $workspace.read (local.get $text) (local.get $size) (i32.const 32))
           unreachable""",
        imports=["workspace.read"],
    )
    tool = write_tool(tmp_path, reads_and_traps, wants=["workspace"])
    (tmp_path / "a").write_text("content")
    grant = Grant(workspace=WorkspaceGrant(tmp_path))
    with pytest.raises(ToolTrapError) as caught:
        await sandbox.call(tool, "tool", {"v": "a"}, grant)
    assert caught.value.origins == ("workspace:a",)


@pytest.mark.parametrize(
    "name",
    [
        "wasm trap: all fuel consumed",
        "A\\nCaused by:\\n wasm trap: stack",
        "wasm trap: " + "A" * 99_999,
    ],
)
async def test_a_guests_names_are_not_taken_for_the_reason_of_a_trap(
    sandbox: Sandbox, tmp_path: Path, name: str
) -> None:
    text = component_wat(f'(call $"{name}") unreachable')
    call = '(func (export "call")'
    text = text.replace(call, f'(func $"{name}" unreachable)\n{call}', 1)
    with pytest.raises(ToolTrapError, match=r"trapped: .*unreachable") as caught:
        await sandbox.call(write_tool(tmp_path, text), "tool", {"v": "x"}, Grant())
    assert len(caught.value.message) < 500


async def test_a_thread_that_the_system_does_not_start_takes_nobody_s_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refused(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    threads = Threads(2, "t")
    with monkeypatch.context() as short:
        short.setattr(threading.Thread, "start", refused)
        for _ in range(2):
            with pytest.raises(SandboxError, match="no thread"):
                threads.run(lambda: 7)
    assert await threads.run(lambda: 7) == 7
    threads.close()
    threads.join()


class Watched(threading.Condition):
    """Tells when somebody waits without an end."""

    def __init__(self) -> None:
        super().__init__()
        self.asleep = threading.Event()

    def wait(self, timeout: float | None = None) -> bool:
        if timeout is None:
            self.asleep.set()
        return super().wait(timeout)


async def test_nothing_ticks_where_nothing_runs(sandbox: Sandbox, tmp_path: Path) -> None:
    watched = Watched()
    sandbox._ticker._wake = watched
    for wat in (ECHO, component_wat("unreachable")):
        with suppress(ToolTrapError):
            await sandbox.call(write_tool(tmp_path, wat), "tool", {"v": "x"}, Grant())
        assert await asyncio.to_thread(watched.asleep.wait, 30)
        watched.asleep.clear()


def test_no_call_is_made_whose_time_nothing_would_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    ticker = Ticker(build_engine(Limits()))
    with monkeypatch.context() as short:
        short.setattr(threading.Thread, "start", refused)
        for _ in range(2):
            with pytest.raises(SandboxError, match="no thread"):
                ticker.enter()
    ticker.close()
