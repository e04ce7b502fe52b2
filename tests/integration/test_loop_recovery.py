"""A run of the real loop that dies at each entry of its log, and goes on in another process."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

from helpers.runs import DyingLog

from node.clock import ManualClock
from node.errors import ToolError
from node.inference import Call, Generation, Say, ScriptedEngine, ToolCall
from node.journal import MemoryLog
from node.runs import (
    AgentChange,
    AgentLoop,
    AgentManifest,
    GuardSet,
    Places,
    Runs,
    ToolGrant,
    Toolset,
    Workspaces,
)
from node.runs.agent import GuardNames
from node.sandbox import Grant, ToolManifest
from node.sandbox.testing import FunctionTool, MemorySandbox
from node.types import Json, JsonObject

STRIDE = int(os.environ.get("FREEHOLD_CRASH_STRIDE", "2"))
AGENT = AgentManifest(
    name="clerk",
    instructions="Be brief.",
    tools=(ToolGrant("look"), ToolGrant("pen", workspace="rw")),
    guards=GuardNames(answer=("citations",)),
    max_tokens=60,
    temperature=0.7,
    digest="0" * 64,
)


class Agents:
    def get(self, name: str) -> AgentManifest:
        return AGENT

    async def refresh(self) -> tuple[AgentChange, ...]:
        return ()


def script(request: Generation) -> Call | Say:
    """What to do next, by what is in the conversation: no position is kept anywhere."""
    if not request.tools:
        return Say("looked at three things")
    results = [message.content for message in request.messages if message.role == "tool"]
    last = request.messages[-1].content
    if not results and "cannot be used" not in last:
        return Say("<tool_call>not an answer", malformed="it is not JSON")
    if not results or "filler" in results[-1]:
        seen = int(results[-1].strip('"').split(":")[0]) if results else 9
        if seen < 12:
            return Call(ToolCall("look", {"n": seen + 1}))
        return Call(ToolCall("pen", {"path": "a.txt", "content": "it is 10 and 12"}))
    if "no tool result holds 99" not in last:
        return Say("They are 10 and 99.")
    return Say("They are 10 and 12.")


class Process:
    """Everything that a SIGKILL takes away, over a log and a folder that stay."""

    def __init__(self, home: Path, log: MemoryLog, clock: ManualClock) -> None:
        async def look(arguments: JsonObject, grant: Grant) -> Json:
            n = arguments["n"]
            return f"{n}: {n} " + "filler " * 60

        async def write(arguments: JsonObject, grant: Grant) -> Json:
            assert grant.workspace is not None
            assert grant.workspace.before_write is not None
            grant.workspace.before_write(str(arguments["path"]), ())
            (grant.workspace.root / str(arguments["path"])).write_text(str(arguments["content"]))
            return "14 bytes"

        text: JsonObject = {"type": "string"}
        both: JsonObject = {"type": "object", "properties": {"path": text, "content": text}}
        self.tools = {
            "look": FunctionTool("look", {"look": look}, read_only=True),
            "pen": FunctionTool(
                "pen", {"pen": write}, {"pen": both}, frozenset({"workspace"}), idempotent=True
            ),
        }
        sandbox = MemorySandbox(self.tools.values())
        places = Places(home / "workspaces", home / "stores")
        toolset = Toolset(tools=self, sandbox=sandbox, places=places)
        self.workspaces = Workspaces(places.workspaces, clock=clock)
        self.engine = ScriptedEngine(script, context_tokens=420)
        self.runs = Runs(
            log=log,
            program=AgentLoop(engine=self.engine, toolset=toolset, workspaces=self.workspaces),
            agents=Agents(),
            clock=clock,
            guards=GuardSet(checkers=toolset.checker),
        )

    def names(self) -> list[str]:
        return sorted(self.tools)

    def get(self, name: str) -> ToolManifest:
        if name not in self.tools:
            raise ToolError(f"there is no tool {name}")
        return self.tools[name].manifest()


def shape(log: MemoryLog, run_id: str) -> list[tuple[str, str]]:
    """Every step's path and digest of arguments."""
    entries = log.run_entries(run_id)
    intents = [entry for entry in entries if entry.type == "step.intent"]
    return [(str(each.draft.path), str(each.data["name"])) for each in intents]


async def test_a_run_ends_the_same_wherever_its_process_died(tmp_path: Path) -> None:
    clock = ManualClock()
    whole = MemoryLog(clock=clock)
    first = Process(tmp_path / "whole", whole, clock)
    run_id = await first.runs.start("clerk", "Look", actor="uid:1000")
    expected = await first.runs.wait(run_id)
    assert (expected.status, expected.text, expected.reason) == (
        "completed",
        "They are 10 and 12.",
        "",
    )
    kinds = Counter(name for _, name in shape(whole, run_id))
    assert kinds["summarise"] >= 1
    assert kinds["fit"] >= 1
    assert kinds["commit"] == 1

    deaths = 0
    for last in range(1, whole.size, STRIDE):
        home = tmp_path / str(last)
        log = DyingLog(clock=clock)
        log.last = last
        dying = Process(home, log, clock)
        run_id = await dying.runs.start("clerk", "Look", actor="uid:1000")
        await dying.runs.failed.wait()
        deaths += 1
        log.last = 10**6
        again = Process(home, log, clock)
        assert await again.runs.recover() == [run_id]
        result = await again.runs.wait(run_id)
        assert (result.status, result.text) == (expected.status, expected.text)
        assert (result.citations, result.reason) == (expected.citations, expected.reason)
        assert shape(log, run_id) == shape(whole, expected.run_id)
        (version,) = await again.workspaces.log("clerk")
        assert (version.run, version.changed) == (run_id, ("a.txt",))
    assert deaths > 10
