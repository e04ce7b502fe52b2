"""All runs of a node: starting, watching, stopping, asking people.

The log is the only memory. What this keeps besides is an index of it (`Survey`), the day's ledger
and the tasks of the runs that are alive; `Recovery` rebuilds all three from the log.
"""

from __future__ import annotations

import asyncio
import builtins
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, suppress
from itertools import islice

from node.clock import Clock
from node.errors import (
    ApprovalError,
    JournalVersionError,
    JournalWriteError,
    ManifestError,
    RunError,
    RunStoppedError,
    UnknownRunError,
)
from node.journal import LAST, Draft, Entry, find_run
from node.money import Payment
from node.runs.agent import NODE_AGENT, AgentManifest
from node.runs.agent_log import AgentLog
from node.runs.approvals import Approval, Approvals, QuestionKind
from node.runs.budget import NodeLimits
from node.runs.checks import Guards
from node.runs.door import Door
from node.runs.erasing import content_of, erase
from node.runs.events import event_of
from node.runs.finished import result_in
from node.runs.ledger import Ledger
from node.runs.life import all_over
from node.runs.lives import Lives
from node.runs.once import id_of, new_id, was_begun
from node.runs.owner import NODE_MANIFEST, command
from node.runs.policy import ManifestPolicy, Policy
from node.runs.program import Program, RunEvent, RunResult
from node.runs.recover import read_log
from node.runs.registry import AgentChange, Agents
from node.runs.replay import Edit, ReplayReport, fork, replay
from node.runs.started import Started
from node.runs.summary import RunSummary, finish_in, summaries, summary_of
from node.runs.survey import RunLog, Survey
from node.runs.tap import Tap
from node.types import JsonObject


class Runs:
    """The runs of one node.

    Args:
        log: the journal, or its double.
        program: what every run does; the agents' loop.
        agents: the manifests by name.
        clock: the source of time.
        guards: which guards look at what.
        limits: what the whole node may use.
        policy: who may do what; the manifests say, unless another is given.
        random: the source of run ids and salts.
    """

    def __init__(
        self,
        *,
        log: RunLog,
        program: Program,
        agents: Agents,
        clock: Clock,
        guards: Guards,
        limits: NodeLimits | None = None,
        policy: Policy | None = None,
        random: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._limits = limits or NodeLimits()
        self._log = Tap(log, clock, told=self._told, failed=self._fail)
        self._agents = agents
        self._agent_log = AgentLog(self._log)
        self._random = random
        self._survey = Survey()
        self._stops = 0
        self._starting = asyncio.Lock()  # what a run says of older ones must hold when it starts
        self.failure: JournalWriteError | None = None
        self.failed = asyncio.Event()
        timeout_s = self._limits.approval_seconds
        self._door = Door(
            log=self._log,
            clock=clock,
            policy=policy or ManifestPolicy(),
            guards=guards,
            approvals=Approvals(log=self._log, clock=clock, timeout_s=timeout_s),
            ledger=Ledger(limits=self._limits, clock=clock),
            limits=self._limits,
        )
        for entry in islice(self._log.newest("node.estop", "node.resumed"), 1):
            self._survey.add(entry)  # in force before anything is recovered
            self._shut_if_stopped()
        self._program = program
        self._lives = Lives(self._log, self._door, self._survey, program)

    # ── starting and following ──────────────────────────────────────────────────────────────

    async def start(self, agent: str, prompt: str, *, actor: str, key: str = "") -> str:
        """Starts a run; its first entry is durable before this returns.

        Args:
            key: whoever asks once more with it gets the run it began the first time.

        Raises:
            RequestError: the key began a run that was asked something else.
            ManifestError: there is no such agent, or its file is broken.
            RunStoppedError: the node is stopped or shutting down.
            RunError: the agent is paused, or too many runs are unfinished.
            JournalWriteError: the log cannot be written.
        """
        run_id = self._id(key, actor)
        if was_begun(self._log, run_id, agent, prompt):
            return run_id
        self._check_open()
        await self.refresh_agents()
        return await self._begin(run_id, self._startable(agent), prompt, actor)

    async def pay(self, payment: Payment, *, actor: str, key: str = "") -> str:
        """Starts the run that makes a payment of the owner's. As `start`."""
        run_id, prompt = self._id(key, actor), command(payment)
        if was_begun(self._log, run_id, NODE_AGENT, prompt):
            return run_id
        self._check_open()
        return await self._begin(run_id, NODE_MANIFEST, prompt, actor)

    async def _begin(self, run_id: str, manifest: AgentManifest, prompt: str, actor: str) -> str:
        started = Started(run_id, manifest, prompt, actor, self._random(32))
        async with self._starting:
            if was_begun(self._log, run_id, manifest.name, prompt):  # by the same, twice at once
                return run_id
            self._check_open()  # others may have begun meanwhile
            first = started.draft(self._log, oldest=self._survey.oldest())
            await self._log.append(first)
        self._bring_up(started.id)
        return started.id

    async def wait(self, run_id: str) -> RunResult:
        """The result of a run, when it has ended.

        Raises:
            UnknownRunError: the log has no such run.
            RunStoppedError: it was parked; it goes on when the node does.
            JournalWriteError: the log could not be written.
        """
        life = self._lives.get(run_id)
        if life is not None:
            return await life.wait()
        end = finish_in(self._entries(run_id))
        if end is None:
            raise RunStoppedError(f"run {run_id} is parked", hint="It is on the log, unfinished.")
        return result_in(self._log, end)

    async def watch(self, run_id: str, from_event: int = 0) -> AsyncIterator[RunEvent]:
        """A run's events with ids above `from_event`, live, until it ends or is parked.

        Raises:
            UnknownRunError: the log has no such run.
        """
        life = self._lives.get(run_id)
        if life is not None:
            async with aclosing(life.run.stream.watch(from_event)) as events:
                async for event in events:
                    yield event
            return
        for entry in self._entries(run_id):
            past = event_of(entry)
            if past is not None and past.id > from_event:
                yield past

    def find(self, name: str) -> str:
        """The id of the run a person means by `last`, an id or its first characters.

        Raises:
            UnknownRunError: no run, or more than one, is meant.
        """
        if name in self._survey.runs or self._log.run_entries(name):
            return name
        begins = None if name == LAST else name
        return find_run(name, self._log.newest("run.started", run=begins))

    def show(self, run_id: str) -> RunSummary:
        """A run and how it stands. Raises UnknownRunError."""
        return summary_of(self._log, self._entries(run_id), self._lives)

    def list(self, *, agent: str | None = None, limit: int = 50) -> list[RunSummary]:
        """The last runs, newest first."""
        return [*islice(summaries(self._log, self._lives, agent), limit)]

    def active(self) -> dict[str, str]:
        """The runs that are alive in this process, and whose agent's each is."""
        return {life.run.id: life.run.agent.name for life in self._lives.alive()}

    def begun(self, key: str, actor: str) -> bool:
        """Whether whoever asks began a run with the key."""
        return bool(key and self._log.run_entries(id_of(key, actor)))

    def is_unfinished(self, run_id: str) -> bool:
        """Whether a run has no end yet."""
        return run_id in self._survey.runs

    # ── stopping ────────────────────────────────────────────────────────────────────────────

    @property
    def stopped(self) -> bool:
        """Whether an emergency stop is in force."""
        return bool(self._survey.stopped)

    def check_not_stopped(self) -> None:
        """Raises RunStoppedError if one is, or the log cannot be written."""
        self._door.check()

    async def cancel(self, run_id: str, reason: str = "cancelled", *, actor: str = "node") -> None:
        """Ends a run as stopped; returns when that is on the log. No-op on a finished one.

        Raises:
            UnknownRunError: the log has no such run.
            JournalError: its end could not be written.
        """
        while (life := self._lives.get(run_id)) and life.parked and not life.over.is_set():
            await life.over.wait()
        why = reason if actor == "node" else f"{reason} ({actor})"
        if life is None or life.over.is_set():
            line = self._survey.runs.get(run_id)
            if line is None:
                self._entries(run_id)
                return
            try:
                life = self._lives.take_up(run_id)
            except JournalVersionError as error:
                await self._lives.give_up(line, error)
                return
            life.begin_stopped(why)
        else:
            life.cancel(why)
        await life.wait()

    async def estop(self, actor: str) -> None:
        """Stops all runs at the door, at once. In force across restarts, until `resume`.

        Raises:
            JournalWriteError: the door is shut all the same, but only in this process.
        """
        self._stops += 1
        self._door.shut = f"the node was stopped by {actor}"
        lives = self._lives.alive()
        parked = [life.run for life in lives if life.park("emergency stop", announced=True)]
        data: JsonObject = {"reason": "emergency stop", "in_order": True}
        drafts = [run.scribe.draft("run.parked", None, data, actor=actor) for run in parked]
        await self._log.append(Draft("node.estop", actor=actor), *drafts)
        await all_over(lives)

    async def resume(self, actor: str) -> builtins.list[str]:
        """Lifts the emergency stop and takes the unfinished runs up again; returns their ids.

        Without a stop there is nothing to lift; runs that are alive go on as they are.
        """
        if self.failure is not None:
            raise self.failure
        if self._door.shut or self.stopped:
            stops = self._stops
            await self._log.append(Draft("node.resumed", actor=actor))
            if stops != self._stops:  # somebody stopped it again meanwhile
                return []
            self._door.shut = ""
        return [] if self._lives.closed else await self._lives.resume_all()

    async def drain(self, seconds: float) -> None:
        """Takes no more runs; lets those under way finish for `seconds`, then parks them.

        A run that waits for a person is parked at once.
        """
        self._lives.close()
        lives = self._lives.alive()
        for life in lives:
            if life.waiting:
                life.park("shutdown")
        await all_over(lives, seconds)
        late = self._lives.alive()
        for life in late:
            if not life.park("shutdown"):  # it is ending: that takes no longer from now on
                life.cancel(life.run.state.stopped)
        await all_over(late)

    # ── people ──────────────────────────────────────────────────────────────────────────────

    def approvals(self, kind: QuestionKind | None = None) -> builtins.list[Approval]:
        """The questions people have not answered yet, of one kind or of all, oldest first."""
        return self._door.approvals.list(kind)

    @property
    def waiting(self) -> int:
        """How many questions people have not answered yet."""
        return len(self._door.approvals.open())

    async def approve(self, approval: str, actor: str) -> None:
        """Says yes; to "did it happen?", that it did. Raises ApprovalError."""
        await self._door.approvals.reply(approval, yes=True, actor=actor)

    async def deny(self, approval: str, actor: str, reason: str = "") -> None:
        """Says no; to "did it happen?", that it did not, so that it is done now."""
        await self._door.approvals.reply(approval, yes=False, actor=actor, reason=reason)

    async def found_out(self, key: str, *, happened: bool, reason: str) -> None:
        """Answers an open "did it happen?" about the step of this key, by what the wallet knows."""
        for question in self.approvals("outcome_unknown"):
            if f"{question.run}:{question.path}" == key:
                settle = self._door.approvals.reply
                with suppress(ApprovalError):  # somebody was faster
                    await settle(question.id, yes=happened, actor="wallet", reason=reason)

    # ── restarts, replay ────────────────────────────────────────────────────────────────────

    async def recover(self) -> builtins.list[str]:
        """Reads the log and takes up what an earlier process left; ids of the resumed runs.

        To be called once, before anything is started.
        """
        await asyncio.to_thread(read_log, self._log, self._survey, self._door)
        self._shut_if_stopped()
        return [] if self._door.shut else await self._lives.resume_all()

    async def replay(
        self,
        run_id: str,
        *,
        from_step: str | None = None,
        model: str | None = None,
        edit: Edit | str | None = None,
        actor: str = "node",
    ) -> str | ReplayReport:
        """Runs it again on its record and compares; with `from_step`, forks a run live from there.

        Raises:
            UnknownRunError: the log has no such run.
            RunError: there is no such step, or content it needs was erased.
        """
        entries = self._entries(run_id)
        if entries[0].type != "run.started":
            raise RunError(
                f"the beginning of run {run_id} was pruned away", hint="It cannot be run again."
            )
        if from_step is None:
            if model is not None or edit is not None:
                raise RunError("a replay changes nothing", hint="Say --from STEP to fork the run.")
            return await replay(self._door, self._program, entries)
        if entries[0].draft.agent == NODE_AGENT:
            raise RunError(
                f"run {run_id} is a payment of the owner's, and a fork would make it again",
                hint="`freehold wallet pay` pays.",
            )
        self._check_open()
        await self.refresh_agents()
        self._check_not_paused(entries[0].draft.agent or "")
        new, change = new_id(self._random), Edit.of(edit)
        async with self._starting:
            self._check_open()
            oldest = self._survey.oldest()
            drafts = fork(
                self._log, entries, from_step, model=model, edit=change, actor=actor, run_id=new,
                salt=self._random(32), oldest=oldest,
            )  # fmt: skip
            await self._log.append(*drafts)
        self._bring_up(new)
        return new

    async def erase(self, run_id: str, *, actor: str = "node") -> int:
        """Erases the content of a run that is over: its prompt, its answer, what its steps handled.

        What a fork took over is the same content, and goes too. What stands in the log's entries,
        as small arguments of tools, stays: they are signed.

        Returns:
            How many pieces of content were erased, not counting those that were before.

        Raises:
            UnknownRunError: the log has no such run.
            RunError: a run that is not over needs some of it.
        """
        async with self._starting:  # no fork begins meanwhile
            content = content_of(self._entries(run_id))
            for line in self._survey.runs.values():
                if line.id == run_id or content & content_of(self._log.run_entries(line.id)):
                    raise RunError(
                        f"run {line.id} is not over, and needs what would be erased",
                        hint=f"Wait for it, or `freehold runs cancel {line.id}`.",
                    )
            self._lives.forget(run_id)
            return await erase(self._log, content, actor)

    async def refresh_agents(self) -> tuple[AgentChange, ...]:
        """Reads the manifests again; what changed is journalled and used by the next run.

        Raises:
            ManifestError: their folder cannot be read.
            JournalWriteError: the log cannot be written.
        """
        changes = await self._agents.refresh()
        drafts = self._agent_log.drafts(changes, self._agents)
        if drafts:
            await self._log.append(*drafts)
        return changes

    # ── its parts ───────────────────────────────────────────────────────────────────────────

    def _check_open(self) -> None:
        if self.failure is not None:
            raise self.failure
        self._door.check()
        if self._lives.closed:
            raise RunStoppedError("the node is shutting down", hint="Start it again first.")
        unfinished = len(self._survey.runs)
        if unfinished >= self._limits.runs_at_once:
            raise RunError(
                f"{unfinished} runs are unfinished, the most this node keeps",
                hint="Wait for some to end, or cancel them: `freehold runs list`.",
            )

    def _shut_if_stopped(self) -> None:
        if self._survey.stopped:
            self._door.shut = f"the node was {self._survey.stopped}"

    def _bring_up(self, run_id: str) -> None:
        """Begins a run that is on the log; one that was stopped meanwhile is resumed later."""
        if not (self._door.shut or self._lives.closed):
            self._lives.begin(self._survey.runs[run_id])

    def _startable(self, agent: str) -> AgentManifest:
        self._check_not_paused(agent)
        return self._agents.get(agent)

    def _check_not_paused(self, agent: str) -> None:
        """Raises RunError for an agent that is; one that is gone is not."""
        with suppress(ManifestError):
            if self._agents.get(agent).paused:
                hint = f"`freehold agent pause {agent} --off` ends that."
                raise RunError(f"agent {agent} is paused", hint=hint)

    def _id(self, key: str, actor: str) -> str:
        return id_of(key, actor) if key else new_id(self._random)

    def _told(self, entry: Entry) -> None:
        self._survey.add(entry)
        self._agent_log.add(entry)
        self._lives.show(entry)
        if entry.type == "run.finished":
            self._door.approvals.drop(entry.draft.run or "")

    def _fail(self, error: JournalWriteError) -> None:
        """Without a log nothing may happen: shuts the door and ends all runs."""
        if self.failure is None:
            self.failure = error
            self._door.shut = f"the log cannot be written: {error.message}"
            self.failed.set()
            for life in self._lives.alive():
                life.abandon(error)

    def _entries(self, run_id: str) -> builtins.list[Entry]:
        entries = self._log.run_entries(run_id)
        if not entries:
            raise UnknownRunError(
                f"there is no run {run_id}", hint="`freehold runs list` shows the runs there are."
            )
        return entries
