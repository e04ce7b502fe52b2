"""The door beside a model of it: whatever people, time and crashes do to runs, the log says only
what the model allows, and the node stands where the model does.

The model reads the log entry by entry, and knows besides what happened outside. From that follows
which step a run takes next, whether it is let through, what is held and counted for it, and what
its run has read. `FREEHOLD_TEST_DOOR=300` tries so many histories, each another time others.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from node.clock import ManualClock
from node.errors import FreeholdError, JournalWriteError, OutcomeUnknownError, RunStoppedError
from node.journal import Draft, Entry, MemoryLog
from node.runs import Answer, NodeLimits, NoGuards, Outcome, Runs, Usage
from node.runs.agent import BudgetLimits, ToolGrant
from node.runs.budget import amounts
from node.runs.coding import content, usage_from
from node.runs.testing import MemoryAgents, PlainEffect, agent
from node.types import canonical

HISTORIES = int(os.environ.get("FREEHOLD_TEST_DOOR", "0"))
NONE, ONE, LET = Usage(), Usage(steps=1, tool_calls=1), ("allow", "approved")
SENT, SENDS = Usage(egress_bytes=10), Usage(egress_bytes=50)
SAT, SATS = Usage(msat=1000), Usage(msat=2000)
UNTRUSTED, PRIVATE = frozenset({"untrusted"}), frozenset({"private"})


@dataclass(frozen=True)
class Op:
    """A tool. What it does happens at once, also where it `waits` to be released; `settles` is what
    it says of that when asked: "knows", "blind", or "again" where it may be made twice."""

    uses: Usage = NONE
    most: Usage = NONE
    labels: frozenset[Any] = frozenset()
    to: tuple[str, ...] = ()
    traceless: bool = False
    waits: bool = False
    settles: str = "knows"
    approval: Any = "allow"


OPS = {
    "diary": Op(labels=PRIVATE, traceless=True),
    "news": Op(SENT, SENDS, UNTRUSTED, settles="again"),
    "slow_news": Op(SENT, SENDS, UNTRUSTED, waits=True, settles="again"),
    "send": Op(SENT, SENDS, to=("https://x.org/",)),
    "ask": Op(SAT, SATS, approval="ask"),
    "deny": Op(approval="deny"),
    "slow": Op(SAT, SATS, waits=True),
    "slow_blind": Op(SAT, SATS, waits=True, settles="blind"),
}
SCRIPTS = st.lists(st.sampled_from(sorted(OPS)), min_size=1, max_size=5)
BUDGET = BudgetLimits(1000, 4, 50, 1e9, 120, sats=5, sats_per_day=8)
CLERK = agent(
    tools=tuple(ToolGrant(k, approval=op.approval) for k, op in OPS.items()), budget=BUDGET
)


@dataclass(frozen=True)
class Does(PlainEffect):
    """One effect of a run; `args` are what its program saw before it."""

    door: Any = field(default=None, compare=False, repr=False)

    async def perform(self, key: str) -> Outcome:
        self.door.happens(key, OPS[self.name])
        if OPS[self.name].waits:
            self.door.waiting[key] = asyncio.Event()
            await self.door.waiting[key].wait()
        return await super().perform(key)

    async def settle(self, key: str) -> Outcome | None:
        if OPS[self.name].settles == "blind":
            raise OutcomeUnknownError("nobody knows.")
        again = OPS[self.name].settles == "again" or not self.door.happened[key]
        return None if again else await super().perform(key)


class DyingLog(MemoryLog):
    """Takes entries up to a number, where its process dies."""

    last = 10**9

    def append_sync(self, *drafts: Draft) -> tuple[int, ...]:
        if self.size + len(drafts) > self.last:
            self.last = self.size
            raise JournalWriteError("the process died")
        return super().append_sync(*drafts)


def plain(data: Any) -> Usage:
    """What an entry says was used; time is not the model's."""
    return replace(usage_from(data), seconds=0.0)


@dataclass
class Known:
    """A run as the log tells it. `left`: an earlier life of it began the step that is open."""

    id: str
    script: list[str]
    intent: Entry | None = None  # of the step that is let through and under way
    results: list[Entry] = field(default_factory=list)
    said: str = ""  # by a person, of the next step
    alive: bool = True
    left: bool = False
    over: bool = False

    @property
    def used(self) -> Usage:
        return sum((plain(each.data["usage"]) for each in self.results), NONE)

    @property
    def name(self) -> str:
        """The tool of its next step; none after the last."""
        return [*self.script, ""][len(self.results)]

    @property
    def key(self) -> str:
        return f"{self.id}:{len(self.results) + 1}"

    @property
    def read(self) -> list[str]:
        return sorted({label for each in self.results for label in each.data["labels"]})


class Door(RuleBasedStateMachine):
    """The node of one agent, and the model of it."""

    def __init__(self) -> None:
        super().__init__()
        self.runner, self.clock, self.random = asyncio.Runner(), ManualClock(), Random(1)
        self.log = DyingLog(clock=self.clock)
        self.happened: Counter[str] = Counter()
        self.waiting: dict[str, asyncio.Event] = {}
        self.wrong: list[str] = []
        self.known: dict[str, Known] = {}
        self.fed, self.shut, self.crashes = 0, False, 0
        self.held: dict[str, tuple[str, Usage]] = {}  # by step: on which day, how much
        self.asked: dict[str, tuple[str, str]] = {}  # by id: which step, and the kind of question
        self.stopping: set[str] = set()
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr("node.runs.recover.FRUITLESS", 100)  # no run is left alone for crashing
        self.begin()

    # ── the real one ────────────────────────────────────────────────────────────────────────

    def begin(self) -> None:
        self.runs = Runs(
            log=self.log, program=self.program, agents=MemoryAgents(CLERK), clock=self.clock,
            guards=NoGuards(), limits=NodeLimits(approval_seconds=3600),
            random=self.random.randbytes,
        )  # fmt: skip
        self.go(self.runs.recover())

    async def program(self, run: Any) -> Answer:
        told: list[Any] = []
        for name in json.loads(run.prompt):
            op, left = OPS[name], amounts(replace(run.remaining(), seconds=0))
            effect = Does(
                name, [sorted(run.labels), left], usage=op.uses, needs_usage=op.most, door=self,
                labels=op.labels, traceless=op.traceless, destinations=op.to, tool=name,
            )  # fmt: skip
            try:
                told.append((await run.step(effect)).value)
            except RunStoppedError:
                raise
            except FreeholdError as error:
                told.append(type(error).__name__)
        return Answer("completed", canonical([told, sorted(run.labels)]).decode())

    def go(self, work: Any) -> Any:
        """What it came to, or its error. All that can go on has gone on then."""

        async def tried() -> Any:
            try:
                return await work
            except FreeholdError as error:
                return error
            finally:
                for _ in range(40):
                    await asyncio.sleep(0)

        return self.runner.run(tried())

    def happens(self, key: str, op: Op) -> None:
        """Notes what happens though the model does not let it."""
        self.feed()
        run = self.known[key.partition(":")[0]]
        let = self.decide(run)[1] in LET if op.traceless else run.intent
        again = self.happened[key] and not (op.traceless or op.settles == "again")
        if self.shut or key != run.key or not (run.alive and let) or again:
            self.wrong.append(f"{key} happens")
        self.happened[key] += 1

    # ── the model ───────────────────────────────────────────────────────────────────────────

    @property
    def today(self) -> str:
        return datetime.fromtimestamp(self.clock.wall(), UTC).date().isoformat()

    def books(self) -> tuple[Usage, Usage]:
        """What was used today, and what is held."""
        results = [each for run in self.known.values() for each in run.results]
        used = [plain(each.data["usage"]) for each in results if each.data.get("day") == self.today]
        held = [much for day, much in self.held.values() if day == self.today]
        return sum(used, NONE), sum(held, NONE)

    def left(self, run: Known) -> dict[str, float]:
        most, used = amounts(Usage(4, 50, 0, 1000, 0, 120, 5000)), amounts(run.used)
        return {name: most[name] - used[name] for name in most}

    def decide(self, run: Known) -> tuple[str, str]:
        """The rule for a run's next step, and its verdict."""
        op, rule = OPS[run.name], f"tools.{run.name}.approval"
        if op.approval == "deny":
            return rule, "deny"
        if run.key not in self.held:
            today = {"msat": 8000 - sum(self.books(), NONE).msat}
            for left in (self.left(run), today):
                for dimension, wanted in amounts(op.most + ONE).items():
                    if wanted > left.get(dimension, 10**9):
                        return f"budget.{dimension}", "deny"
        return ("taint.send", "ask") if op.to and len(run.read) == 2 else (rule, op.approval)

    def feed(self) -> None:
        while self.fed < self.log.size:
            entry = self.log.entry(self.fed)
            self.fed += 1
            run = self.known.get(entry.draft.run or "")
            if run is None:
                assert entry.type in ("run.started", "node.estop", "node.resumed")
                self.shut = entry.type == "node.estop"
                if entry.type == "run.started":
                    script = json.loads(self.log.blob(entry.draft.blobs[0]))
                    self.known[entry.draft.run] = Known(entry.draft.run, script)
            else:
                assert entry.draft.path in (None, run.key.partition(":")[2])
                getattr(self, entry.type.replace(".", "_"))(run, entry)

    def run_resumed(self, run: Known, _: Entry) -> None:
        assert (run.alive, run.over, self.shut) == (False, False, False)
        self.take_up(run)

    def take_up(self, run: Known) -> None:
        """What it left open is held anew, and so is what it goes on asking a person about."""
        run.alive = True
        asks = (run.key, "policy") in self.asked.values() and self.decide(run)[1] == "ask"
        if run.key in self.held or asks:
            self.held[run.key] = self.today, OPS[run.name].most + ONE

    def run_parked(self, run: Known, _: Entry) -> None:
        """It has no life any more: only what is under way is held on."""
        run.alive, run.left = False, run.intent is not None
        if not run.left:
            self.held.pop(run.key, None)

    def approval_asked(self, run: Known, entry: Entry) -> None:
        kind, asked = entry.data["kind"], [key for key, _ in self.asked.values()]
        assert (run.alive, self.shut, run.key in asked) == (True, False, False)
        if kind == "policy":
            assert self.decide(run) == (entry.data["rule"], "ask")
            self.held[run.key] = self.today, OPS[run.name].most + ONE
        else:
            assert (run.intent is None, OPS[run.name].settles) == (False, "blind")
        self.asked[str(entry.index)] = run.key, kind

    def approval_settled(self, run: Known, entry: Entry) -> None:
        del self.asked[entry.data["id"]]
        run.said = entry.data["verdict"]

    def step_again(self, run: Known, _: Entry) -> None:
        run.said = ""

    def step_intent(self, run: Known, entry: Entry) -> None:
        assert (run.alive, run.intent) == (True, None)
        assert run.key not in [key for key, _ in self.asked.values()]
        rule, verdict = self.decide(run)
        verdict = run.said.replace("denied", "deny") if verdict == "ask" else verdict
        policy = entry.draft.policy
        assert (policy.rule, policy.verdict) == (rule, verdict)
        assert content(self.log, entry, "args") == [run.read, self.left(run)]
        run.intent, run.said = entry, ""
        if verdict in LET:
            self.held.setdefault(run.key, (self.today, OPS[run.name].most + ONE))

    def step_result(self, run: Known, entry: Entry) -> None:
        """What a step came to follows from what happened, and from what a person said."""
        op, happened, policy = OPS[run.name], self.happened[run.key], run.intent.draft.policy
        error = (entry.data.get("error") or {}).get("type")
        day, _ = self.held.pop(run.key, (None, NONE))
        used, labels = op.most + ONE, []
        if policy.verdict not in LET:
            kind = "BudgetExceeded" if policy.rule.startswith("budget.") else "PolicyDenied"
            assert error == f"{kind}Error"
            used, day = NONE, entry.data.get("day")
        elif error == "OutcomeUnknownError":
            assert (run.id in self.stopping, op.settles) == (True, "blind")
        elif error:
            assert run.id in self.stopping
            assert op.settles == "again" or not happened
            used = used if op.settles == "again" and (happened or run.left) else ONE
        elif content(self.log, entry, "value") is None:
            assert happened
            used, labels = op.uses + ONE, sorted(op.labels)
        else:
            assert run.said == "happened"
        found = plain(entry.data["usage"]), entry.data["labels"], entry.data.get("day")
        assert found == (used, labels, day)
        self.asked = {k: v for k, v in self.asked.items() if v[0] != run.key}
        run.results.append(entry)
        run.intent, run.said, run.left = None, "", False

    def run_finished(self, run: Known, entry: Entry) -> None:
        stopped = entry.data["status"] == "stopped"
        assert run.id in self.stopping if stopped else entry.data["status"] == "completed"
        assert stopped or not run.name
        assert run.intent is None
        assert plain(entry.data["usage"]) == run.used
        self.run_parked(run, entry)
        run.over = True
        self.asked = {k: v for k, v in self.asked.items() if not v[0].startswith(run.id)}

    # ── side by side ────────────────────────────────────────────────────────────────────────

    def compare(self, *cuts: int) -> None:
        """Holds the node against the model. One that has died is followed by others, each dying
        after so many entries."""
        self.feed()
        assert not self.wrong
        if self.runs.failed.is_set():
            self.die(*cuts)
            return
        asked = [key for key, _ in self.asked.values()]
        for run in self.known.values():
            status = self.runs.show(run.id).status
            assert run.over or status in (("running", "waiting") if run.alive else ("parked",))
            assert not run.alive or run.key in asked or run.key in self.waiting
        assert {each.id for each in self.runs.approvals()} == set(self.asked)
        assert self.runs.stopped == self.shut
        for pocket in self.runs._door.ledger.pockets(CLERK):
            used, held = self.books()
            assert replace(pocket.used, seconds=0) == used
            assert replace(pocket.held(), seconds=0, tool_calls=held.tool_calls) == held

    def die(self, *cuts: int) -> None:
        self.log.last = self.log.size
        self.runs._fail(JournalWriteError("the process died"))
        self.go(asyncio.sleep(0))
        self.stopping.clear()
        for run in self.known.values():
            if run.alive:
                self.run_parked(run, self.log.entry(0))
            if any("RunStopped" in str(each.data.get("error")) for each in run.results):
                self.stopping.add(run.id)
        self.held = {key: (self.today, much) for key, (_, much) in self.held.items()}
        self.waiting.clear()
        self.log.last = self.log.size + cuts[0] if cuts else 10**9
        self.begin()
        self.compare(*cuts[1:])

    def unfinished(self) -> list[str]:
        return [run.id for run in self.known.values() if not run.over]

    @rule(script=SCRIPTS)
    def start(self, script: list[str]) -> None:
        self.go(self.runs.start("clerk", json.dumps(script), actor="uid:1"))
        self.compare()

    @precondition(lambda self: self.asked)
    @rule(data=st.data(), yes=st.booleans())
    def answer(self, data: Any, yes: bool) -> None:
        """By a person who knows what happened."""
        question = data.draw(st.sampled_from(sorted(self.asked)))
        key, kind = self.asked[question]
        yes = yes if kind == "policy" else self.happened[key] > 0
        self.go((self.runs.approve if yes else self.runs.deny)(question, "uid:1"))
        self.compare()

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def release(self, data: Any) -> None:
        self.waiting.pop(data.draw(st.sampled_from(sorted(self.waiting)))).set()
        self.go(asyncio.sleep(0))
        self.compare()

    @precondition(lambda self: self.crashes < 6 and self.unfinished())
    @rule(
        now=st.booleans(),
        seconds=st.sampled_from([0, 3601, 86_400]),
        cuts=st.lists(st.integers(0, 6), min_size=1, max_size=3),
    )
    def crash(self, now: bool, seconds: int, cuts: list[int]) -> None:
        """Now, or once so many entries more are on the log; time passes."""
        self.crashes += 1
        self.clock.advance(seconds)
        self.log.last = self.log.size + cuts[0]
        if now:
            self.die(*cuts[1:])

    @precondition(lambda self: self.unfinished())
    @rule(data=st.data())
    def cancel(self, data: Any) -> None:
        run = self.known[data.draw(st.sampled_from(self.unfinished()))]
        self.stopping.add(run.id)
        if not run.alive:
            self.take_up(run)
        self.waiting.pop(run.key, None)
        self.go(self.runs.cancel(run.id, actor="uid:1"))
        self.compare()

    @precondition(lambda self: self.unfinished() and not self.shut)
    @rule()
    def estop(self) -> None:
        self.waiting.clear()
        self.go(self.runs.estop("uid:1"))
        self.compare()

    @precondition(lambda self: self.shut)
    @rule()
    def resume(self) -> None:
        self.go(self.runs.resume("uid:1"))
        self.compare()

    def teardown(self) -> None:
        """Everything comes to an end, another process finds the same, and replays it."""
        self.log.last = 10**9
        self.go(self.runs.resume("uid:1"))
        while self.unfinished():
            for question, (key, _) in [*self.asked.items()]:
                yes = self.runs.approve if self.happened[key] else self.runs.deny
                self.go(yes(question, "uid:1"))
            for waiting in self.waiting.values():
                waiting.set()
            self.waiting.clear()
            self.go(asyncio.sleep(0))
            self.compare()
        assert not asyncio.all_tasks(self.runner.get_loop())
        self.begin()
        self.compare()
        assert all(self.go(self.runs.replay(run)).ok for run in self.known)
        self.runner.close()
        self.patch.undo()


Door.TestCase.settings = settings(
    max_examples=HISTORIES or 12,
    stateful_step_count=20,
    derandomize=not HISTORIES,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.timeout(7_200 if HISTORIES else 120)
class TestDoor(Door.TestCase):  # type: ignore[misc, name-defined]
    """The histories, as a test."""
