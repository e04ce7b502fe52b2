"""Runs on a remote model, through the real loop and door: where the conversation goes is on the
log, counts as sent, is a matter for the taint rule, and is not paid for twice."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers.runs import Shelf

from node.clock import ManualClock
from node.errors import JournalWriteError
from node.inference import (
    RemoteEngine,
    RemoteModel,
    RemoteModels,
    RoutedEngine,
    Say,
    ScriptedEngine,
    ToolCall,
)
from node.inference.testing.server import (
    OLLAMA,
    Answer,
    ModelServer,
    call,
    chunk,
    refuse,
    say,
)
from node.journal import Draft, Entry, MemoryLog
from node.runs import AgentLoop, GuardSet, Places, Runs, Toolset, Workspaces
from node.runs.agent import BudgetLimits
from node.runs.coding import content
from node.runs.testing import MemoryAgents, agent
from node.sandbox import Grant, ToolManifest, ToolResult
from node.sandbox.testing import FunctionTool, MemorySandbox
from node.types import Json, JsonObject

BUDGET = BudgetLimits(tokens=20_000, steps=30, seconds=60)
CLERK = agent("clerk", "look", model="far", budget=BUDGET)


class Origins(MemorySandbox):
    """Says of what a tool returns that it came from where the call says."""

    async def call(
        self, manifest: ToolManifest, function: str, arguments: JsonObject, grant: Grant
    ) -> ToolResult:
        result = await super().call(manifest, function, arguments, grant)
        return replace(result, origins=(str(arguments["at"]),))


class DyingLog(MemoryLog):
    """Takes no result of a generation once `dies` is set, as if the process were gone."""

    dies = False

    async def append(self, *drafts: Draft) -> tuple[int, ...]:
        if self.dies and any("completion_tokens" in _usage(each) for each in drafts):
            raise JournalWriteError("the process died")
        return await super().append(*drafts)


def _usage(draft: Draft) -> str:
    return str(draft.data.get("usage")) if draft.type == "step.result" else ""


async def look(arguments: JsonObject, grant: Grant) -> Json:
    return f"something at {arguments['at']}"


class Node:
    """The real loop and door over a log in memory and an engine of two."""

    def __init__(self, home: Path, server: ModelServer, *agents: Any, **entry: Any) -> None:
        self.clock = ManualClock()
        self.log = DyingLog(clock=self.clock)
        self.home = home
        self.agents = agents or (CLERK,)
        models = RemoteModels(home)
        models.add(RemoteModel("far", server.url, **entry))
        self.local = ScriptedEngine([Say("From here.")])
        self.engine = RoutedEngine(self.local, RemoteEngine(models))
        self.begin()

    def begin(self) -> None:
        """As a process that starts over this log."""
        sandbox = Origins([FunctionTool("look", {"look": look}, read_only=True)])
        places = Places(self.home / "workspaces", self.home / "stores")
        toolset = Toolset(tools=Shelf(sandbox), sandbox=sandbox, places=places)
        workspaces = Workspaces(places.workspaces, clock=self.clock)
        self.runs = Runs(
            log=self.log,
            program=AgentLoop(engine=self.engine, toolset=toolset, workspaces=workspaces),
            agents=MemoryAgents(*self.agents),
            clock=self.clock,
            guards=GuardSet(checkers=toolset.checker),
        )

    async def start(self, prompt: str = "Look around") -> str:
        self.run_id = await self.runs.start("clerk", prompt, actor="uid:1000")
        return self.run_id

    def entries(self, kind: str, name: str) -> list[Entry]:
        """Intents, or results, of the steps of that name."""
        all_of = self.log.run_entries(self.run_id)
        paths = [
            each.draft.path
            for each in all_of
            if each.type == "step.intent" and each.data["name"] == name
        ]
        return [each for each in all_of if each.type == kind and each.draft.path in paths]

    async def question(self) -> Any:
        async for event in self.runs.watch(self.run_id):
            if event.type == "approval.asked":
                (found,) = self.runs.approvals()
                return found
        raise AssertionError("nobody was asked")


def value(node: Node, result: Entry) -> Any:
    """What a step came to; of a model's step it is kept as a blob."""
    return content(node.log, result, "value")


def looks(*places: str) -> list[Any]:
    return [call(ToolCall("look", {"at": place})) for place in places]


async def test_a_run_on_a_remote_model_says_so(tmp_path: Path) -> None:
    async with ModelServer([*looks("store:x"), say("I saw it.")]) as server:
        node = Node(tmp_path, server)
        result = await node.runs.wait(await node.start())
        await node.engine.aclose()
    assert (result.status, result.text) == ("completed", "I saw it.")
    for name in ("open", "generate"):
        for intent in node.entries("step.intent", name):
            assert intent.data["needs"]["destinations"] == [server.url]
            assert intent.data["needs"]["traceless"] is False
        for done in node.entries("step.result", name):
            assert done.data["remote"] == value(node, done)["remote"] == server.url
            assert done.data["usage"]["egress_bytes"] > 40
    assert result.usage.egress_bytes > 120
    assert value(node, node.entries("step.result", "generate")[0])["sha256"] == ""


async def test_a_run_on_a_local_model_does_not(tmp_path: Path) -> None:
    async with ModelServer() as server:
        node = Node(tmp_path, server, replace(CLERK, model="default"))
        result = await node.runs.wait(await node.start())
        await node.engine.aclose()
    assert (result.text, result.usage.egress_bytes, server.asked) == ("From here.", 0, [])
    (intent,) = node.entries("step.intent", "generate")
    assert (intent.data["needs"]["destinations"], intent.data["needs"]["traceless"]) == ([], True)
    (done,) = node.entries("step.result", "generate")
    assert "remote" not in done.data
    assert "remote" not in value(node, done)


async def test_the_intent_is_on_the_log_before_anything_is_sent(tmp_path: Path) -> None:
    node: Node

    def reply(_asked: Any) -> Any:
        seen.extend(node.entries("step.intent", "generate"))
        return say("Here.")

    seen: list[Entry] = []
    async with ModelServer([reply]) as server:
        node = Node(tmp_path, server)
        await node.runs.wait(await node.start())
        await node.engine.aclose()
    assert len(seen) == 1


@pytest.mark.parametrize("yes", [True, False])
async def test_private_data_of_a_tainted_run_leaves_only_if_a_person_says_so(
    tmp_path: Path, yes: bool
) -> None:
    places = ("https://stranger.example", "knowledge:diary")
    async with ModelServer([*looks(*places), say("Dear diary.")]) as server:
        node = Node(tmp_path, server)
        await node.start()
        question = await node.question()
        assert question.rule == "taint.send"
        assert len(server.generations) == 2, "the diary must not be sent before"
        told = "\n".join(str(each.body) for each in server.asked)
        assert "something at knowledge:diary" not in told
        answer = node.runs.approve if yes else node.runs.deny
        await answer(question.id, "uid:1000")
        result = await node.runs.wait(node.run_id)
        await node.engine.aclose()
    told = "\n".join(str(each.body) for each in server.asked)
    assert ("something at knowledge:diary" in told) is yes
    assert (result.text == "Dear diary.") is yes
    assert result.status == ("completed" if yes else "failed")


async def test_what_a_person_let_go_to_one_server_does_not_go_to_another(tmp_path: Path) -> None:
    """The model was connected to another address while the person thought about it."""
    places = ("https://stranger.example", "knowledge:diary")
    async with ModelServer([*looks(*places)]) as server, ModelServer([say("Aha!")]) as other:
        node = Node(tmp_path, server)
        await node.start()
        question = await node.question()
        RemoteModels(tmp_path).add(RemoteModel("far", other.url))
        await node.runs.approve(question.id, "uid:1000")
        result = await node.runs.wait(node.run_id)
        await node.engine.aclose()
    assert not any("diary" in str(each.body) for each in other.asked)
    assert (result.status, len(other.generations)) == ("failed", 0)


async def asked_again(node: Node, before: str) -> Any:
    async for event in node.runs.watch(node.run_id):
        new = [each for each in node.runs.approvals() if each.id != before]
        if event.type == "approval.asked" and new:
            return new[0]
    raise AssertionError("nobody was asked again")


@pytest.mark.parametrize("answered", [True, False])
async def test_a_person_is_asked_anew_where_the_model_moved_while_the_node_was_down(
    tmp_path: Path, answered: bool
) -> None:
    places = ("https://stranger.example", "knowledge:diary")
    async with ModelServer([*looks(*places)]) as server, ModelServer([say("Aha!")]) as other:
        node = Node(tmp_path, server)
        await node.start()
        question = await node.question()
        assert server.url in question.reason
        await node.runs.drain(0)
        if answered:
            await node.runs.approve(question.id, "uid:1000")
        RemoteModels(tmp_path).add(RemoteModel("far", other.url))
        node.begin()
        await node.runs.recover()
        again = await asyncio.wait_for(asked_again(node, question.id), 5)
        assert node.runs.approvals() == [again], "the old question is closed"
        assert (other.url in again.reason, len(other.generations)) == (True, 0)
        assert not any("diary" in str(each.body) for each in other.asked)
        await node.runs.approve(again.id, "uid:1000")
        assert (await node.runs.wait(node.run_id)).text == "Aha!"
        await node.engine.aclose()


async def test_what_was_let_go_to_one_server_is_not_taken_up_at_another(tmp_path: Path) -> None:
    """The node died in the answer, and the model was connected elsewhere before it came back."""
    places = ("https://stranger.example", "knowledge:diary")
    async with (
        ModelServer([*looks(*places), Answer(silence())]) as server,
        ModelServer([say("Aha!")]) as other,
    ):
        node = Node(tmp_path, server, replace(CLERK, send_to=(server.url,)))
        await node.start()
        await asyncio.wait_for(server.reached.wait(), 5)
        await node.runs.drain(0)
        RemoteModels(tmp_path).add(RemoteModel("far", other.url))
        node.begin()
        await node.runs.recover()
        result = await node.runs.wait(node.run_id)
        await node.engine.aclose()
    assert (result.status, other.asked) == ("failed", [])
    assert f"would send to {other.url}" in result.reason
    (*_, refused) = node.entries("step.result", "generate")
    assert "remote" not in refused.data


@pytest.mark.parametrize("places", [("https://a.example",), ("knowledge:diary",)])
async def test_either_label_alone_asks_nobody(tmp_path: Path, places: tuple[str, ...]) -> None:
    async with ModelServer([*looks(*places), say("Fine.")]) as server:
        node = Node(tmp_path, server)
        assert (await node.runs.wait(await node.start())).text == "Fine."
        await node.engine.aclose()


async def test_a_server_the_owner_listed_needs_no_question(tmp_path: Path) -> None:
    places = ("https://stranger.example", "knowledge:diary")
    async with ModelServer([*looks(*places), say("Dear diary.")]) as server:
        node = Node(tmp_path, server, replace(CLERK, send_to=(server.url,)))
        assert (await node.runs.wait(await node.start())).text == "Dear diary."
        await node.engine.aclose()


async def test_what_is_sent_is_within_the_budget(tmp_path: Path) -> None:
    async with ModelServer([say("Fine.")]) as server:
        budget = replace(BUDGET, egress_bytes=10)
        node = Node(tmp_path, server, replace(CLERK, budget=budget))
        result = await node.runs.wait(await node.start())
        await node.engine.aclose()
    assert result.status == "stopped"
    assert server.asked == []


async def test_what_a_server_is_not_sent_counts_for_nothing(tmp_path: Path) -> None:
    """To make a conversation fit it is counted dozens of times; Ollama is not asked to."""
    asks = [ToolCall("look", {"at": f"https://{at}.example/{'word ' * 200}"}) for at in "ab"]
    told = [call(asks[0], prompt=1500), call(asks[1], prompt=2500), say("Notes."), say("Done.")]
    async with ModelServer(told, facts=OLLAMA) as server:
        node = Node(tmp_path, server, replace(CLERK, max_tokens=64), context_tokens=3000)
        result = await node.runs.wait(await node.start())
        await node.engine.aclose()
    sent = sum(len(json.dumps(each.body)) for each in server.generations)
    assert (result.text, len(node.entries("step.result", "fit"))) == ("Done.", 1)
    assert 0 < result.usage.egress_bytes < sent


async def test_estimates_are_called_so(tmp_path: Path) -> None:
    answer = say("Fine.")
    answer.body = [part for part in answer.body if b"usage" not in part]  # type: ignore[union-attr]
    async with ModelServer([answer], facts=OLLAMA) as server:
        node = Node(tmp_path, server)
        result = await node.runs.wait(await node.start())
        await node.engine.aclose()
    (done,) = node.entries("step.result", "generate")
    assert value(node, done)["tokens_estimated"] is True
    assert result.usage.prompt_tokens > 500, "an estimate from above"


@pytest.mark.parametrize(
    ("refusal", "said"),
    [
        (refuse(500, "out of memory"), "out of memory"),
        (Answer(status=307, headers={"Location": "/v2"}), "redirects elsewhere"),
    ],
)
async def test_a_server_that_fails_fails_the_run_and_is_not_asked_again(
    tmp_path: Path, refusal: Answer, said: str
) -> None:
    async with ModelServer([refusal, say("Fine.")]) as server:
        node = Node(tmp_path, server)
        result = await node.runs.wait(await node.start())
        await node.engine.aclose()
    assert result.status == "failed"
    assert said in result.reason
    assert len(server.generations) == 1
    (usage,) = used(node)
    assert usage["egress_bytes"] > 0, "it was sent all the same"
    assert "completion_tokens" not in usage


def used(node: Node) -> list[Any]:
    """What the steps that ask the model used, by the log and by the day's ledger."""
    told = [each.data["usage"] for each in node.entries("step.result", "generate")]
    day = node.runs._door.ledger.pockets(CLERK)[1].used
    assert day.completion_tokens == sum(each.get("completion_tokens", 0) for each in told)
    return told


async def test_thoughts_that_were_shown_are_taken_back(tmp_path: Path) -> None:
    """Nobody saw them begin: the prompt had their opening mark."""
    async with ModelServer([say("So it is 4. </think> Four.")]) as server:
        node = Node(tmp_path, server)
        run_id = await node.start()
        events = [each async for each in node.runs.watch(run_id)]
        result = await node.runs.wait(run_id)
        await node.engine.aclose()
    assert result.text == "Four."
    (reset,) = [each for each in events if each.type == "token.reset"]
    assert reset.data["reason"] == "it was not all of it the answer"
    after = events[events.index(reset) :]
    assert "".join(str(each.data["text"]) for each in after if each.type == "token") == "Four."


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ([chunk({"content": "Well"})], "in the middle"),
        ([chunk({"tool_calls": [{"index": 0, "function": {"name": "look"}}]})], "in the middle"),
        ([], "in the middle"),
        ([b'data: {"error": "out of memory"}\n\n'], "out of memory"),
    ],
    ids=["in text", "in a call", "before anything", "by its own word"],
)
async def test_an_answer_that_breaks_off_counts_as_it_may_be_charged(
    tmp_path: Path, body: list[bytes], said: str
) -> None:
    async with ModelServer([Answer(body)]) as server:
        node = Node(tmp_path, server)
        result = await node.runs.wait(await node.start())
        await node.engine.aclose()
    assert said in result.reason
    (usage,) = used(node)
    assert usage["completion_tokens"] == CLERK.max_tokens
    assert usage["prompt_tokens"] > 0


async def killed(node: Node) -> None:
    """A run that dies when its first answer is there and not on the log; then a new process."""
    node.log.dies = True
    with pytest.raises(JournalWriteError):
        await node.runs.wait(await node.start())
    node.log.dies = False
    node.begin()
    await node.runs.recover()


async def test_an_answer_of_a_free_server_that_was_lost_is_asked_for_again(tmp_path: Path) -> None:
    async with ModelServer([say("Lost."), say("Fine.")]) as server:
        node = Node(tmp_path, server)
        await killed(node)
        assert (await node.runs.wait(node.run_id)).text == "Fine."
        await node.engine.aclose()


@pytest.mark.parametrize("yes", [True, False])
async def test_an_answer_that_may_have_been_paid_is_not_bought_again_unasked(
    tmp_path: Path, yes: bool
) -> None:
    async with ModelServer([say("Lost."), say("Fine.")]) as server:
        node = Node(tmp_path, server, key="far-key")
        await killed(node)
        question = await node.question()
        assert "may have charged" in question.reason
        assert len(server.generations) == 1
        await (node.runs.approve if yes else node.runs.deny)(question.id, "uid:1000")
        result = await node.runs.wait(node.run_id)
        await node.engine.aclose()
    assert len(server.generations) == (1 if yes else 2)
    assert result.text == ("" if yes else "Fine.")
    assert yes is ("was lost" in result.reason)


async def silence() -> AsyncIterator[bytes]:
    """A reply that has begun and does not go on."""
    yield chunk({"content": "Well"})
    await asyncio.Event().wait()


async def test_cancelling_a_run_closes_its_connection(tmp_path: Path) -> None:
    async with ModelServer([Answer(silence())]) as server:
        node = Node(tmp_path, server, key="far-key")
        await node.start()
        await asyncio.wait_for(server.reached.wait(), 5)
        await node.runs.cancel(node.run_id, actor="uid:1000")
        result = await node.runs.wait(node.run_id)
        await asyncio.wait_for(server.left.wait(), 5)
        await node.engine.aclose()
    assert result.status == "stopped"
    assert node.runs.approvals() == [], "nobody is asked about a run that was stopped"
    (usage,) = used(node)
    assert usage["completion_tokens"] == CLERK.max_tokens, "it may be charged for all the same"
    assert usage["egress_bytes"] > 0
    (done,) = node.entries("step.result", "generate")
    assert "under way" in done.data["error"]["message"]


async def test_a_run_that_was_parked_in_an_answer_asks_again(tmp_path: Path) -> None:
    async with ModelServer([Answer(silence()), say("Fine.")]) as server:
        node = Node(tmp_path, server)
        await node.start()
        await asyncio.wait_for(server.reached.wait(), 5)
        await node.runs.drain(0)
        await asyncio.wait_for(server.left.wait(), 5)
        node.begin()
        await node.runs.recover()
        assert (await node.runs.wait(node.run_id)).text == "Fine."
        await node.engine.aclose()


async def test_a_remote_run_replays_without_its_server(tmp_path: Path) -> None:
    async with ModelServer([*looks("store:x"), say("I saw it.")]) as server:
        node = Node(tmp_path, server)
        await node.runs.wait(await node.start())
    report = await node.runs.replay(node.run_id)
    assert not isinstance(report, str)
    assert report.ok
    await node.engine.aclose()
