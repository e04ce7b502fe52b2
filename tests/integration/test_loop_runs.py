"""The loop through the real door, on the log in memory, with a scripted engine."""

from __future__ import annotations

import asyncio
import os
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.runs import Shelf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from node.clock import ManualClock
from node.errors import RunnerCrashedError, ToolError
from node.inference import Call, Fail, Generation, Say, ScriptedEngine, ToolCall, Wait
from node.journal import MemoryLog
from node.runs.agent import AgentManifest, BudgetLimits, GuardNames, ToolGrant
from node.runs.guards import GuardSet
from node.runs.loop import AgentLoop
from node.runs.program import RunResult
from node.runs.registry import AgentChange
from node.runs.replay import ReplayReport
from node.runs.service import Runs
from node.runs.toolset import Places, Toolset
from node.runs.workspace import Workspaces
from node.sandbox import Grant
from node.sandbox.testing import FunctionTool, MemorySandbox
from node.types import Json, JsonObject


class Agents:
    """Manifests without files."""

    def __init__(self, *agents: AgentManifest) -> None:
        self._agents = {agent.name: agent for agent in agents}

    def get(self, name: str) -> AgentManifest:
        return self._agents[name]

    async def refresh(self) -> tuple[AgentChange, ...]:
        return ()


def schema(**properties: str) -> JsonObject:
    return {
        "type": "object",
        "properties": {name: {"type": kind} for name, kind in properties.items()},
        "required": list(properties),
        "additionalProperties": False,
    }


async def add(arguments: JsonObject, grant: Grant) -> Json:
    return {"sum": arguments["a"] + arguments["b"]}  # type: ignore[operator]


async def read(arguments: JsonObject, grant: Grant) -> Json:
    assert grant.workspace is not None
    path = grant.workspace.root / str(arguments["path"])
    if not path.is_file():
        raise ToolError(f"there is no file {arguments['path']}")
    return path.read_text()


async def write(arguments: JsonObject, grant: Grant) -> Json:
    assert grant.workspace is not None
    path = grant.workspace.root / str(arguments["path"])
    assert grant.workspace.before_write is not None
    grant.workspace.before_write(str(arguments["path"]), ())
    path.write_text(str(arguments["content"]))
    return f"{len(str(arguments['content']))} bytes"


def tools() -> list[FunctionTool]:
    return [
        FunctionTool(
            "calc",
            {"calc_add": add},
            {"calc_add": schema(a="integer", b="integer")},
            read_only=True,
            idempotent=True,
        ),
        FunctionTool(
            "files",
            {"files_read": read},
            {"files_read": schema(path="string")},
            capabilities=frozenset({"workspace"}),
            read_only=True,
            idempotent=True,
        ),
        FunctionTool(
            "pen",
            {"pen_write": write},
            {"pen_write": schema(path="string", content="string")},
            capabilities=frozenset({"workspace"}),
            idempotent=True,
        ),
    ]


CLERK = AgentManifest(
    name="clerk",
    instructions="You are a helpful assistant.",
    budget=BudgetLimits(tokens=20_000, steps=30, seconds=60),
    tools=(
        ToolGrant("calc"),
        ToolGrant("files", workspace="ro"),
        ToolGrant("pen", workspace="rw"),
    ),
    digest="0" * 64,
)


class Node:
    """A node of doubles around the real loop and the real door."""

    def __init__(self, home: Path, engine: ScriptedEngine, agent: AgentManifest = CLERK) -> None:
        self.clock = ManualClock()
        self.log = MemoryLog(clock=self.clock)
        self.tools = {tool.name: tool for tool in tools()}
        self.sandbox = sandbox = MemorySandbox(self.tools.values())
        places = Places(home / "workspaces", home / "stores")
        self.toolset = Toolset(tools=Shelf(sandbox), sandbox=sandbox, places=places)
        self.workspaces = Workspaces(places.workspaces, clock=self.clock)
        self.engine = engine
        self.runs = Runs(
            log=self.log,
            program=AgentLoop(engine=engine, toolset=self.toolset, workspaces=self.workspaces),
            agents=Agents(agent),
            clock=self.clock,
            guards=GuardSet(checkers=self.toolset.checker),
        )

    async def ask(self, prompt: str) -> RunResult:
        self.run_id = await self.runs.start("clerk", prompt, actor="uid:1000")
        return await self.runs.wait(self.run_id)

    def steps(self) -> list[tuple[str, str]]:
        """Path and name of every step but guards'."""
        entries = self.log.run_entries(self.run_id)
        found = [entry for entry in entries if entry.type == "step.intent"]
        return [
            (str(each.draft.path), str(each.data["name"]))
            for each in found
            if each.data["kind"] != "guard"
        ]


def call(name: str, **arguments: Json) -> Call:
    return Call(ToolCall(name, arguments))


def script(*steps: Call | Say | Fail) -> ScriptedEngine:
    return ScriptedEngine(list(steps))


async def ask(home: Path, *steps: Call | Say | Fail, prompt: str = "What is 2 + 3?") -> RunResult:
    return await Node(home, script(*steps)).ask(prompt)


def messages(request: Generation) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in request.messages]


async def test_a_tool_is_called_and_its_result_answered(tmp_path: Path) -> None:
    node = Node(tmp_path, script(call("calc_add", a=2, b=3), Say("It is 5.")))
    result = await node.ask("What is 2 + 3?")
    assert (result.status, result.text) == ("completed", "It is 5.")
    assert node.steps() == [
        ("2", "open"),
        ("3", "generate"),
        ("4", "calc_add"),
        ("5", "generate"),
    ]
    assert result.citations == ("4",)
    assert messages(node.engine.requests[-1]) == [
        ("system", "You are a helpful assistant."),
        ("user", "What is 2 + 3?"),
        ("assistant", ""),
        ("tool", '{"sum":5}'),
    ]


async def test_without_tools_the_text_is_the_answer(tmp_path: Path) -> None:
    result = await ask(tmp_path, Say("Hello."), prompt="Hi")
    assert (result.status, result.text, result.citations) == ("completed", "Hello.", ())


async def test_tokens_are_streamed_with_the_path_of_their_step(tmp_path: Path) -> None:
    node = Node(tmp_path, script(Say("Hello to you.")))
    run_id = await node.runs.start("clerk", "Hi", actor="uid:1000")
    events = [event async for event in node.runs.watch(run_id)]
    tokens = [event.data for event in events if event.type == "token"]
    assert "".join(str(token["text"]) for token in tokens) == "Hello to you."
    assert {token["path"] for token in tokens} == {"3"}


async def test_a_tools_error_is_told_to_the_model(tmp_path: Path) -> None:
    node = Node(tmp_path, script(call("files_read", path="no.txt"), Say("There is no such file.")))
    result = await node.ask("Read no.txt")
    assert result.status == "completed"
    assert result.citations == ()
    assert messages(node.engine.requests[-1])[-1] == (
        "tool",
        '{"error":"there is no file no.txt"}',
    )


async def test_several_calls_in_one_reply_are_made_in_order(tmp_path: Path) -> None:
    both = Call(ToolCall("calc_add", {"a": 1, "b": 1}), ToolCall("calc_add", {"a": 2, "b": 2}))
    node = Node(tmp_path, script(both, Say("2 and 4.")))
    await node.ask("Add")
    assert [text for role, text in messages(node.engine.requests[-1]) if role == "tool"] == [
        '{"sum":2}',
        '{"sum":4}',
    ]


BAD = Say("<tool_call>{", malformed="the call is not JSON")


async def test_malformed_output_is_repaired_and_then_forgotten(tmp_path: Path) -> None:
    node = Node(tmp_path, script(BAD, BAD, call("calc_add", a=1, b=2), Say("3.")))
    result = await node.ask("Add")
    assert result.status == "completed"
    repair = messages(node.engine.requests[2])
    assert repair[-2:] == [
        ("assistant", "<tool_call>{"),
        ("user", "That cannot be used: the call is not JSON."),
    ]
    assert [role for role, _ in messages(node.engine.requests[3])] == [
        "system",
        "user",
        "assistant",
        "tool",
    ]


async def test_output_that_stays_malformed_fails_after_two_repairs(tmp_path: Path) -> None:
    node = Node(tmp_path, script(BAD, BAD, BAD, Say("too late")))
    result = await node.ask("Add")
    assert result.status == "failed"
    assert "3 times in a row" in result.reason
    assert "the call is not JSON" in result.reason
    assert len(node.engine.requests) == 3


KEY = "nsec1" + "q" * 58


async def test_a_reason_that_quotes_the_model_holds_no_secret(tmp_path: Path) -> None:
    bad = Call(ToolCall("calc_add", {"a": KEY, "b": 2}))
    node = Node(tmp_path, script(bad, bad, bad))
    run_id = await node.runs.start("clerk", "Add", actor="uid:1000")
    shown = [event async for event in node.runs.watch(run_id)]
    result = await node.runs.wait(run_id)
    assert "a: '[redacted nostr secret key]' is not of type 'integer'" in result.reason
    assert KEY not in str(shown)
    assert KEY not in str(list(node.log.entries()))


async def test_a_secret_in_arguments_that_are_refused_is_not_in_the_log(tmp_path: Path) -> None:
    node = Node(tmp_path, script(call("files_read", path=KEY), Say("I may not.")))
    result = await node.ask("Read it")
    assert (result.status, node.tools["files"].calls) == ("completed", {})
    assert "contains a secret" in messages(node.engine.requests[-1])[-1][1]
    assert KEY not in str(list(node.log.entries()))
    report = await node.runs.replay(node.run_id)
    assert isinstance(report, ReplayReport)
    assert report.ok


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (call("calc_add", a="one", b=2), "a: 'one' is not of type 'integer'"),
        (call("calc_add", a=1), "'b' is a required property"),
        (call("calc_add", a=1, b=2, c=3), "'c' was unexpected"),
        (call("rm", path="/"), "there is no function rm; there are: calc_add, files_read"),
        (Say("   "), "the answer was empty"),
        (Call(*[ToolCall("calc_add", {"a": n, "b": 0}) for n in range(9)]), "at most 8"),
    ],
)
async def test_the_model_is_told_what_was_wrong(tmp_path: Path, bad: Call | Say, said: str) -> None:
    node = Node(tmp_path, script(bad, Say("All right.")))
    result = await node.ask("Do it")
    assert (result.status, result.text) == ("completed", "All right.")
    assert said in messages(node.engine.requests[1])[-1][1]
    assert not any(tool.calls for tool in node.tools.values())


async def test_an_answer_that_is_cut_off_is_not_given_as_an_answer(tmp_path: Path) -> None:
    agent = replace(CLERK, max_tokens=20)
    node = Node(tmp_path, script(Say("word " * 40), Say("Short.")), agent)
    result = await node.ask("Tell me")
    assert (result.status, result.text) == ("completed", "Short.")
    assert "cut off" in messages(node.engine.requests[1])[-1][1]


async def test_the_same_call_again_stops_the_run(tmp_path: Path) -> None:
    again = call("calc_add", a=1, b=2)
    node = Node(tmp_path, script(again, again, Say("3")))
    result = await node.ask("Add")
    assert result.status == "stopped"
    assert "repeated the same call of calc_add" in result.reason
    assert node.tools["calc"].calls["calc_add"] == 1


async def test_reading_again_after_a_write_is_no_repetition(tmp_path: Path) -> None:
    read_it, write_it = call("files_read", path="a"), call("pen_write", path="a", content="x")
    node = Node(
        tmp_path,
        script(write_it, read_it, call("pen_write", path="a", content="y"), read_it, Say("y")),
    )
    result = await node.ask("Write and check")
    assert (result.status, result.text) == ("completed", "y")
    assert node.tools["files"].calls["files_read"] == 2


async def test_steps_that_bring_nothing_new_stop_the_run(tmp_path: Path) -> None:
    tries = [call("files_read", path=f"{n}.txt") for n in range(6)]
    node = Node(tmp_path, script(*tries))
    result = await node.ask("Find it")
    assert result.status == "stopped"
    assert "4 steps in a row brought nothing new" in result.reason
    assert node.tools["files"].calls["files_read"] == 4


async def test_calls_at_once_that_bring_nothing_are_seen_by_the_model(tmp_path: Path) -> None:
    at_once = Call(*(ToolCall("files_read", {"path": f"{n}.txt"}) for n in range(5)))
    node = Node(tmp_path, script(at_once, Say("There are none.")))
    result = await node.ask("Find them")
    assert (result.status, result.text) == ("completed", "There are none.")


async def test_a_crash_of_the_runner_is_tried_once_more(tmp_path: Path) -> None:
    crash = Fail(RunnerCrashedError("the runner died"), text="Hel")
    node = Node(tmp_path, script(crash, Say("Hello.")))
    run_id = await node.runs.start("clerk", "Hi", actor="uid:1000")
    events = [event async for event in node.runs.watch(run_id)]
    result = await node.runs.wait(run_id)
    assert (result.status, result.text) == ("completed", "Hello.")
    shown = ""
    for event in events:
        shown = "" if event.type == "token.reset" else shown
        shown += str(event.data["text"]) if event.type == "token" else ""
    assert shown == "Hello."


async def test_a_second_crash_fails_the_run_clearly(tmp_path: Path) -> None:
    crash = Fail(RunnerCrashedError("the runner died", hint="See the log."))
    result = await ask(tmp_path, crash, crash, Say("never"))
    assert result.status == "failed"
    assert "the runner died" in result.reason


async def test_a_prompt_that_cannot_fit_is_refused_before_any_work(tmp_path: Path) -> None:
    engine = ScriptedEngine([Say("never")], context_tokens=300)
    node = Node(tmp_path, engine, replace(CLERK, max_tokens=100))
    result = await node.ask("word " * 200)
    assert result.status == "failed"
    sizes = [int(word) for word in result.reason.replace(",", "").split() if word.isdigit()]
    assert sizes[1:] == [300, 75]
    assert sizes[0] > 300
    assert engine.requests == []
    assert node.steps() == [("2", "open")]


async def test_a_long_history_is_summarised_and_the_goal_and_last_result_stay(
    tmp_path: Path,
) -> None:
    workspace = tmp_path / "workspaces" / "clerk"
    workspace.mkdir(parents=True)
    for n in range(6):
        (workspace / f"{n}.txt").write_text(f"fact{n} " * 60)
    reads = [call("files_read", path=f"{n}.txt") for n in range(6)]

    def answer(request: Generation) -> Call | Say:
        if not request.tools:
            return Say("facts were read")
        return reads.pop(0) if reads else Say("All read.")

    engine = ScriptedEngine(answer, context_tokens=900)
    node = Node(tmp_path, engine, replace(CLERK, max_tokens=60))
    result = await node.ask("Read all files")
    assert (result.status, result.text) == ("completed", "All read.")
    names = [name for _, name in node.steps()]
    assert names.count("summarise") >= 1
    assert names.count("fit") == names.count("summarise")
    for request in engine.requests:
        assert await engine.count(request) < 900
        if request.tools:
            assert request.messages[1].content.startswith("Read all files")
    last = messages(engine.requests[-1])
    assert "Notes on what was done so far: facts were read" in last[1][1]
    assert "fact5" in last[-1][1]


async def test_a_complaint_that_does_not_fit_is_dropped_before_the_goal(tmp_path: Path) -> None:
    wordy = Say("x " * 300, malformed="it is not JSON")
    engine = ScriptedEngine([wordy, Say("Done.")], context_tokens=400)
    node = Node(tmp_path, engine, replace(CLERK, max_tokens=400))
    result = await node.ask("Do it")
    assert (result.status, result.text) == ("completed", "Done.")
    assert messages(engine.requests[1]) == messages(engine.requests[0])


async def test_what_is_reserved_is_never_less_than_what_is_used(tmp_path: Path) -> None:
    (tmp_path / "workspaces" / "clerk").mkdir(parents=True)
    (tmp_path / "workspaces" / "clerk" / "a").write_text("word " * 200)
    bad = Say("bad " * 50, malformed="it is not JSON")
    node = Node(tmp_path, script(bad, bad, call("files_read", path="a"), bad, Say("Done.")))
    await node.ask("Do it")
    entries = node.log.run_entries(node.run_id)
    needs = {e.draft.path: e.data["needs"] for e in entries if e.type == "step.intent"}
    generations = [e for e in entries if e.type == "step.result" and e.data["usage"]]
    checked = 0
    for entry in generations:
        needed, used = needs[entry.draft.path], entry.data["usage"]
        assert isinstance(needed, dict)
        assert isinstance(used, dict)
        usage = needed["usage"]
        for name in ("prompt_tokens", "completion_tokens"):
            if name in used:
                checked += 1
                assert used[name] <= usage[name]  # type: ignore[index, operator]
    assert checked == 10


async def test_a_result_that_is_too_long_is_cut_with_a_note(tmp_path: Path) -> None:
    workspace = tmp_path / "workspaces" / "clerk"
    workspace.mkdir(parents=True)
    (workspace / "big.txt").write_text("word " * 3000)
    engine = ScriptedEngine([call("files_read", path="big.txt"), Say("Long.")], context_tokens=800)
    node = Node(tmp_path, engine, replace(CLERK, max_tokens=60))
    result = await node.ask("Read big.txt")
    assert (result.status, result.text) == ("completed", "Long.")
    told = messages(engine.requests[-1])[-1][1]
    assert told.startswith('"word word')
    assert "of 15002 characters left out]" in told
    assert 500 < await engine.count(engine.requests[-1]) < 800


async def test_what_a_run_wrote_is_one_commit(tmp_path: Path) -> None:
    node = Node(
        tmp_path,
        script(
            call("pen_write", path="a.txt", content="1"),
            call("pen_write", path="b.txt", content="2"),
            Say("Written."),
        ),
    )
    result = await node.ask("Write")
    assert result.status == "completed"
    (version,) = await node.workspaces.log("clerk")
    assert (version.run, version.author) == (node.run_id, "clerk")
    assert version.changed == ("a.txt", "b.txt")
    assert node.steps()[-1][1] == "commit"


async def test_what_a_person_changed_is_not_the_agents_commit(tmp_path: Path) -> None:
    node = Node(tmp_path, script(call("pen_write", path="a.txt", content="2"), Say("Done.")))
    files = tmp_path / "workspaces" / "clerk"
    files.mkdir(parents=True)
    (files / "a.txt").write_text("1")
    (files / "mine.txt").write_text("a person's")
    await node.ask("Write")
    agents, persons, before = await node.workspaces.log("clerk")
    assert (agents.author, agents.run, agents.changed) == ("clerk", node.run_id, ("a.txt",))
    assert (persons.author, persons.run, persons.changed) == ("owner", "", ("mine.txt",))
    assert (before.author, before.run, before.changed) == ("owner", "", ("a.txt",))
    await node.workspaces.rollback("clerk", before.id)
    assert (files / "a.txt").read_text() == "1"


async def test_an_answer_is_given_even_if_its_files_cannot_be_committed(tmp_path: Path) -> None:
    (tmp_path / "workspaces").mkdir()
    (tmp_path / "workspaces" / ".git-clerk").write_text("in the way")
    node = Node(tmp_path, script(call("pen_write", path="a", content="1"), Say("Written.")))
    result = await node.ask("Write")
    assert (result.status, result.text) == ("completed", "Written.")
    assert result.reason.startswith("The files were not committed: workspace of clerk: ")


async def test_a_run_that_only_read_commits_nothing(tmp_path: Path) -> None:
    node = Node(tmp_path, script(call("calc_add", a=1, b=2), Say("3")))
    await node.ask("Add")
    assert "commit" not in [name for _, name in node.steps()]


async def test_a_run_out_of_budget_says_which_and_keeps_what_it_wrote(tmp_path: Path) -> None:
    agent = replace(CLERK, budget=BudgetLimits(tokens=20_000, steps=30, tool_calls=1))
    node = Node(
        tmp_path,
        script(
            call("pen_write", path="a", content="1"),
            call("pen_write", path="b", content="2"),
        ),
        agent,
    )
    result = await node.ask("Write")
    assert result.status == "stopped"
    assert "tool_calls" in result.reason or "tool calls" in result.reason
    (version,) = await node.workspaces.log("clerk")
    assert version.changed == ("a",)


@pytest.mark.parametrize("budget", [BudgetLimits(steps=3), BudgetLimits(tokens=700)])
async def test_a_spent_budget_still_keeps_what_was_written(
    tmp_path: Path, budget: BudgetLimits
) -> None:
    more = [call("pen_write", path=f"{n}", content="1") for n in range(9)]
    node = Node(tmp_path, script(*more), replace(CLERK, budget=budget, max_tokens=60))
    result = await node.ask("Write")
    assert result.status == "stopped"
    assert "done so far" in result.reason
    (version,) = await node.workspaces.log("clerk")
    assert version.changed[0] == "0"


async def test_what_a_call_wrote_that_was_stopped_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hangs(arguments: JsonObject, grant: Grant) -> Json:
        await write(arguments, grant)
        return await asyncio.Future()

    monkeypatch.setattr("node.runs.tool_effect._CALL_SECONDS", 0.05)
    node = Node(tmp_path, script(call("pen_write", path="a", content="1")))
    node.sandbox.tools["pen"] = replace(node.tools["pen"], functions={"pen_write": hangs})
    result = await node.ask("Write")
    assert (result.status, "was stopped after" in result.reason) == ("stopped", True)
    (version,) = await node.workspaces.log("clerk")
    assert (version.run, version.changed) == (node.run_id, ("a",))


async def test_a_denied_call_is_told_to_the_model(tmp_path: Path) -> None:
    agent = replace(CLERK, tools=(ToolGrant("calc", approval="deny"),))
    node = Node(tmp_path, script(call("calc_add", a=1, b=2), Say("I may not add.")), agent)
    result = await node.ask("Add")
    assert (result.status, result.text) == ("completed", "I may not add.")
    assert "not allowed" in messages(node.engine.requests[-1])[-1][1]
    assert not node.tools["calc"].calls


CAREFUL = replace(CLERK, guards=GuardNames(answer=("citations",)))


async def test_an_invented_figure_is_sent_back_once(tmp_path: Path) -> None:
    node = Node(
        tmp_path, script(call("calc_add", a=20, b=30), Say("It is 51."), Say("It is 50.")), CAREFUL
    )
    result = await node.ask("What is 20 + 30?")
    assert (result.status, result.text) == ("completed", "It is 50.")
    assert "no tool result holds 51" in messages(node.engine.requests[-1])[-1][1]


async def test_figures_invented_twice_end_as_an_honest_could_not(tmp_path: Path) -> None:
    node = Node(
        tmp_path, script(call("calc_add", a=20, b=30), Say("It is 51."), Say("It is 52.")), CAREFUL
    )
    result = await node.ask("What is 20 + 30?")
    assert result.status == "could_not"
    assert "52" not in result.text
    assert "no tool result holds 52" in result.reason


@pytest.mark.parametrize("agent", [CLERK, CAREFUL])
@pytest.mark.parametrize(
    "steps",
    [
        (Say("It is 51."),),
        (call("calc_add", a=20, b=30), Say("It is 51."), Say("It is 50.")),
        (call("calc_add", a=20, b=30), Say("It is 51."), Say("It is 52.")),
        (Say("go round " * 40), Say("Hello.")),
        (Say("One."), Say("Two.")),
        (Say("The key is nsec1" + "q" * 58),),
        (Fail(RunnerCrashedError("the runner died"), text="Hello to "), Say("It is late.")),
        (Say("a"), Fail(RunnerCrashedError("died"), text="b c "), Fail(RunnerCrashedError("x"))),
    ],
)
async def test_live_words_end_as_the_answer_or_not_at_all(
    tmp_path: Path, agent: AgentManifest, steps: tuple[Call | Say | Fail, ...]
) -> None:
    node = Node(tmp_path, script(*steps), agent)
    run_id = await node.runs.start("clerk", "What is it?", actor="uid:1000")
    shown: dict[str, str] = {}
    async for event in node.runs.watch(run_id):
        path = str(event.data.get("path"))
        if event.type == "token.reset":
            assert shown.pop(path)
            assert event.data["reason"]
        elif event.type == "token":
            shown[path] = shown.get(path, "") + str(event.data["text"])
    result = await node.runs.wait(run_id)
    assert [*shown.values()] == ([result.text] if result.status == "completed" else [])


async def test_words_are_held_until_the_figures_in_them_were_judged(tmp_path: Path) -> None:
    steps = (call("calc_add", a=20, b=30), Say("It is 51."), Say("It is 50."))
    node = Node(tmp_path, script(*steps), CAREFUL)
    run_id = await node.runs.start("clerk", "What is 20 + 30?", actor="uid:1000")
    events = [event async for event in node.runs.watch(run_id)]
    assert "51" not in str([e.data for e in events if e.type.startswith("token")])
    assert [e.data["text"] for e in events if e.type == "token"][-1] == "It is 50."


async def test_without_tools_figures_are_not_judged(tmp_path: Path) -> None:
    node = Node(tmp_path, script(Say("It is 50.")), CAREFUL)
    assert (await node.ask("What is 20 + 30?")).status == "completed"


async def test_secrets_do_not_get_in_or_out(tmp_path: Path) -> None:
    key = "nsec1" + "q" * 58
    workspace = tmp_path / "workspaces" / "clerk"
    workspace.mkdir(parents=True)
    (workspace / "key.txt").write_text(f"key {key}")
    node = Node(tmp_path, script(call("files_read", path="key.txt"), Say(f"It is {key}.")))
    run_id = await node.runs.start("clerk", f"My key is {key}. Read key.txt", actor="uid:1000")
    events = [event async for event in node.runs.watch(run_id)]
    assert key not in "".join(str(e.data.get("text")) for e in events if e.type == "token")
    result = await node.runs.wait(run_id)
    assert (result.status, result.text) == ("completed", "It is [redacted nostr secret key].")
    assert key not in str([messages(request) for request in node.engine.requests])


async def test_a_replay_takes_the_same_steps_with_no_engine(tmp_path: Path) -> None:
    node = Node(tmp_path, script(call("calc_add", a=2, b=3), BAD, Say("It is 5.")))
    await node.ask("What is 2 + 3?")
    asked = len(node.engine.requests)
    report = await node.runs.replay(node.run_id)
    assert isinstance(report, ReplayReport)
    assert (report.ok, report.divergence) == (True, None)
    assert len(node.engine.requests) == asked
    assert node.tools["calc"].calls["calc_add"] == 1


async def test_a_replay_needs_neither_the_tool_nor_the_model(tmp_path: Path) -> None:
    node = Node(tmp_path, script(call("calc_add", a=2, b=3), Say("It is 5.")))
    await node.ask("What is 2 + 3?")
    del node.tools["calc"]
    node.sandbox.tools.clear()
    report = await node.runs.replay(node.run_id)
    assert isinstance(report, ReplayReport)
    assert (report.ok, report.divergence) == (True, None)


async def test_a_fork_goes_on_live_with_another_model(tmp_path: Path) -> None:
    engine = ScriptedEngine(
        [call("calc_add", a=2, b=3), Say("It is 5."), Say("Five.")], models=("default", "other")
    )
    node = Node(tmp_path, engine, replace(CLERK, temperature=0.8))
    await node.ask("What is 2 + 3?")
    fork = await node.runs.replay(node.run_id, from_step="5", model="other")
    assert isinstance(fork, str)
    result = await node.runs.wait(fork)
    assert (result.status, result.text, result.citations) == ("completed", "Five.", ("4",))
    first, last = engine.requests[-2:]
    assert (first.model, last.model) == ("default", "other")
    assert (first.messages, first.sampling) == (last.messages, last.sampling)
    assert node.tools["calc"].calls["calc_add"] == 1


async def test_each_run_draws_with_a_seed_of_its_own(tmp_path: Path) -> None:
    node = Node(tmp_path, script(Say("One."), Say("Two.")), replace(CLERK, temperature=0.8))
    await node.ask("Hi")
    await node.ask("Hi")
    seeds = {request.sampling.seed for request in node.engine.requests}
    assert len(seeds) == 2


async def test_a_cancelled_run_ends_in_the_middle_of_a_word(tmp_path: Path) -> None:
    never, reached = asyncio.Event(), asyncio.Event()
    node = Node(tmp_path, ScriptedEngine([Wait(never, Say("Hello."), reached)]))
    run_id = await node.runs.start("clerk", "Hi", actor="uid:1000")
    await reached.wait()
    await node.runs.cancel(run_id, "enough")
    result = await node.runs.wait(run_id)
    assert (result.status, result.reason) == ("stopped", "enough")


ANY_CALL = st.builds(
    ToolCall,
    st.sampled_from(["calc_add", "files_read", "pen_write", "rm"]),
    st.dictionaries(
        st.sampled_from(["a", "b", "path", "content"]),
        st.integers(0, 3) | st.sampled_from(["x", "y", "\ud800", "nsec1" + "q" * 58]),
        max_size=3,
    ),
)
ANY_STEP = st.one_of(
    st.lists(ANY_CALL, min_size=1, max_size=3).map(lambda calls: Call(*calls)),
    st.text(max_size=30).map(Say),
    st.builds(Say, st.text(max_size=300), st.just("it is not JSON")),
    st.just(Fail(RunnerCrashedError("the runner died"))),
    st.sampled_from([call("calc_add", a=n, b=1) for n in range(5)]),
    st.sampled_from([call("pen_write", path=p, content="long " * 90) for p in "abc"]),
    st.sampled_from([call("files_read", path=p) for p in "abc"]),
)


@given(steps=st.lists(ANY_STEP, max_size=14), careful=st.booleans())
@settings(
    max_examples=int(os.environ.get("FREEHOLD_LOOP_EXAMPLES", "60")),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
async def test_whatever_a_model_does_the_run_ends_and_replays(
    tmp_path: Path, steps: list[Call | Say | Fail], careful: bool
) -> None:
    home = Path(tempfile.mkdtemp(dir=tmp_path))
    agent = replace(CAREFUL if careful else CLERK, max_tokens=60)
    engine = ScriptedEngine([*steps, Say("Done.")], context_tokens=500)
    node = Node(home, engine, agent)
    result = await node.ask("Do something")
    assert result.status in ("completed", "failed", "stopped", "could_not")
    assert bool(result.reason) == (result.status != "completed")
    assert bool(result.text.strip()) == (result.status in ("completed", "could_not"))
    assert "broke" not in result.reason
    assert "nsec1qqq" not in result.text
    for request in engine.requests:
        assert await engine.count(request) < 500
    report = await node.runs.replay(node.run_id)
    assert isinstance(report, ReplayReport)
    assert (report.ok, report.divergence) == (True, None)
