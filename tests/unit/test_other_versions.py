"""What another version of Freehold wrote: refused or left alone in words, and never destroyed."""

from __future__ import annotations

import json

import pytest

from node.clock import ManualClock
from node.errors import ApprovalError, JournalVersionError
from node.journal import Draft, MemoryLog
from node.runs import AgentManifest, NoGuards, Runs
from node.runs.coding import outcome_of
from node.runs.started import Started
from node.runs.testing import MemoryAgents, PlainEffect, ScriptedProgram, agent
from node.types import JsonObject


def runs_of(log: MemoryLog, *effects: PlainEffect) -> Runs:
    return Runs(
        log=log,
        program=ScriptedProgram(lambda _: effects),
        agents=MemoryAgents(agent()),
        clock=ManualClock(),
        guards=NoGuards(),
    )


async def begun(change: JsonObject) -> MemoryLog:
    """A log with a run that was begun under a manifest with other keys."""
    log = MemoryLog(clock=ManualClock())
    first = Started("r-1", agent(), "go", "uid:1", bytes(32)).draft(log, oldest=None)
    prompt, manifest, salt = first.blobs
    told = {**json.loads(log.blob(manifest)), **change}
    kept = log.put_blob(json.dumps(told).encode(), "manifest")
    await log.append(
        Draft(
            "run.started", "r-1", None, (), "clerk", "uid:1", None, (prompt, kept, salt), first.data
        )
    )
    return log


# ── runs ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"never_after": "18:00"}, "never_after"),
        ({"tools": [{"name": "plain", "methods": ["GET"]}]}, "tools.0.methods"),
        ({"tools": [{"name": "plain", "approval": "ask_twice"}]}, "tools.0.approval"),
    ],
    ids=["key", "key-of-a-grant", "value"],
)
async def test_a_run_of_a_newer_version_waits_for_that_one(change: JsonObject, what: str) -> None:
    log = await begun(change)
    effect = PlainEffect()
    runs = runs_of(log, effect)
    assert await runs.recover() == []
    assert (runs.show("r-1").status, effect.performed) == ("parked", [])
    assert [entry.type for entry in log.entries()] == ["run.started"], "as that version left it"
    with pytest.raises(JournalVersionError, match=f"another version of Freehold.*: {what}"):
        await runs.replay("r-1")


async def test_a_run_of_a_newer_version_can_be_given_up() -> None:
    runs = runs_of(await begun({"never_after": "18:00"}))
    await runs.recover()
    await runs.cancel("r-1")
    assert runs.show("r-1").status == "failed"
    assert "never_after" in runs.show("r-1").reason


async def test_a_run_of_an_older_version_goes_on() -> None:
    older = {"name": "clerk", "instructions": "Be exact.", "tools": [{"name": "plain"}]}
    log = MemoryLog(clock=ManualClock())
    first = Started("r-1", AgentManifest(**{**older, "tools": ()}), "go", "uid:1", bytes(32))
    draft = first.draft(log, oldest=None)
    kept = log.put_blob(json.dumps(older).encode(), "manifest")
    prompt, _, salt = draft.blobs
    await log.append(
        Draft(
            "run.started", "r-1", None, (), "clerk", "uid:1", None, (prompt, kept, salt), draft.data
        )
    )
    runs = runs_of(log, PlainEffect(value=7))
    assert await runs.recover() == ["r-1"]
    assert (await runs.wait("r-1")).text == "[7]"


async def test_a_question_of_a_newer_version_is_no_crash() -> None:
    """It is not answered here, and one that this version asks takes its place."""
    effect, log = PlainEffect(), MemoryLog(clock=ManualClock())
    first = Started("r-1", agent(), "go", "uid:1", bytes(32)).draft(log, oldest=None)
    asked = Draft("approval.asked", "r-1", "1", (), "clerk", data={"kind": "two_persons"})
    await log.append(first, asked)
    runs = runs_of(log, effect)
    with pytest.raises(ApprovalError, match="two_persons"):
        await asked_and_answered(runs)
    assert (await runs.wait("r-1")).status == "completed"
    settled = [entry.data["verdict"] for entry in log.entries() if entry.type == "approval.settled"]
    assert settled == ["expired"]


async def asked_and_answered(runs: Runs) -> None:
    await runs.recover()
    await runs.approve("1", "uid:1")


async def test_a_label_of_a_newer_version_counts_as_all_that_are_known() -> None:
    log = MemoryLog(clock=ManualClock())
    data: JsonObject = {"ok": True, "value": 1, "usage": {}, "labels": ["embargoed"]}
    await log.append(Draft("step.result", "r-1", "1", data=data))
    assert outcome_of(log, log.entry(0)).labels == {"untrusted", "private"}
