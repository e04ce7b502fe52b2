"""The shipped tools as attackers would use them: interpreters and a regular expression engine."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from node.errors import ToolError, ToolLimitError
from node.rooms import compile_tools
from node.runs import AgentRegistry
from node.sandbox import Grant, Limits, Sandbox, ToolStore
from node.sandbox.testing import component_wat, write_tool
from node.types import JsonObject

ECHO = component_wat("(call $answer (i32.const 1) (local.get $text) (local.get $size))")
SHIPPED = Path(__file__).resolve().parents[2] / "wasm_tools"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
async def sandbox(cache: Path) -> AsyncIterator[Sandbox]:
    sandbox = Sandbox(cache, limits=Limits(seconds=0.5))
    yield sandbox
    await sandbox.aclose()


async def call(sandbox: Sandbox, function: str, arguments: JsonObject) -> object:
    name = function.partition("_")[0]
    try:
        tool = ToolStore(SHIPPED, Path("/nonexistent")).get(name)
    except ToolError as error:
        pytest.skip(error.message)
    result = await sandbox.call(tool, function, arguments, Grant())
    return result.value if result.ok else result


async def outcome_of(sandbox: Sandbox, function: str, arguments: JsonObject) -> str:
    try:
        return str(await call(sandbox, function, arguments))
    except ToolLimitError as error:
        return error.message


@pytest.mark.parametrize(
    ("function", "code"),
    [
        ("js_run", "for (;;) {}"),
        ("js_run", "for (;;) { try { for (;;) {} } catch (e) {} finally { continue; } }"),
        ("js_run", "const f = () => { try { f() } catch (e) { f() } }; f(); for (;;) {}"),
        ("js_run", "/(a*)*b/.test('a'.repeat(40)); for (;;) {}"),
        ("python_run", "while True: pass"),
        (
            "python_run",
            "while True:\n try:\n  while True: pass\n except BaseException:\n  continue",
        ),
    ],
)
async def test_a_loop_ends_whatever_catches_it(sandbox: Sandbox, function: str, code: str) -> None:
    with pytest.raises(ToolLimitError, match=r"seconds = 0\.5|stack_bytes"):
        await call(sandbox, function, {"code": code})
    name = function.partition("_")[0]
    assert await call(sandbox, f"{name}_run", {"code": "1 + 1" if name == "js" else "print(2)"})


@pytest.mark.parametrize(
    ("function", "code"),
    [
        ("js_run", "const a = []; for (;;) a.push(new Array(1e6).fill(1))"),
        ("js_run", "let s = 'x'; for (;;) s += s"),
        ("python_run", "a = [1]\nwhile True: a += a"),
    ],
)
async def test_memory_ends_within_the_limit(sandbox: Sandbox, function: str, code: str) -> None:
    outcome = await outcome_of(sandbox, function, {"code": code})
    # On a slow machine time is over before memory is.
    assert any(word in outcome for word in ("emory", "InternalError", "RangeError", "seconds ="))


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|aa)+$", "(a*)*b", "a?" * 30 + "a" * 30 + "c"])
async def test_no_pattern_takes_long(sandbox: Sandbox, pattern: str) -> None:
    arguments: JsonObject = {"pattern": pattern, "text": "a" * 5000 + "b"}
    outcome = await outcome_of(sandbox, "text_match", arguments)
    assert "matches" in outcome or "error" in outcome or "seconds = 0.5" in outcome


@pytest.mark.parametrize(
    "code",
    [
        "import socket; socket.socket()",
        "open('/etc/passwd').read()",
        "import os; os.listdir('/')",
        "import subprocess; subprocess.run(['id'])",
    ],
)
async def test_python_has_no_way_out(sandbox: Sandbox, code: str) -> None:
    answer = await call(sandbox, "python_run", {"code": code})
    assert "rror" in str(answer)


async def test_python_sees_no_environment(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "s3cr3t")
    answer = await call(sandbox, "python_run", {"code": "import os; print(dict(os.environ))"})
    assert "s3cr3t" not in str(answer)


AGENT = """
name = "clerk"
about = "Does sums"
instructions = "Answer."
[[tools]]
name = "calc"
"""


async def test_what_agents_were_granted_is_compiled_once_the_node_is_ready(tmp_path: Path) -> None:
    (tmp_path / "agents").mkdir()
    (tmp_path / "agents" / "clerk.toml").write_text(AGENT)
    agents, ready = AgentRegistry(tmp_path / "agents"), asyncio.Event()
    await agents.refresh()
    sandbox = Sandbox(tmp_path / "cache")
    tools = ToolStore(SHIPPED, tmp_path / "none")
    task = asyncio.create_task(compile_tools(sandbox, tools, agents, ready))
    ready.set()
    await task
    (code,) = (tmp_path / "cache").glob("*.cwasm")
    assert code.name.startswith(tools.get("calc").sha256)
    os.utime(code, (1, 1))
    await compile_tools(sandbox, tools, agents, ready)  # and not a second time, nor loaded
    assert [code] == list((tmp_path / "cache").glob("*.cwasm"))
    assert code.stat().st_mtime == 1
    await sandbox.aclose()


async def test_a_tool_that_cannot_be_compiled_does_not_stop_the_others(tmp_path: Path) -> None:
    broken, sound = write_tool(tmp_path, "(component)", name="a"), write_tool(tmp_path, ECHO)
    sandbox = Sandbox(tmp_path / "cache")
    await sandbox.compile_ahead([broken, sound])
    (code,) = (tmp_path / "cache").glob("*.cwasm")
    assert code.name.startswith(sound.sha256)
    await sandbox.aclose()
