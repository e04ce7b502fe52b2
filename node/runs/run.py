"""A run as its program sees it: one door, one counter a branch, one share of the budget.

A step's path is the branch's prefix and the branch's next number. So parallel branches replay the
same whatever order they finished in, and what a program may do next depends on nothing but the
results it was given.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from node.errors import DivergenceError, RunError, RunStoppedError
from node.journal import Draft
from node.runs.agent import AgentManifest
from node.runs.approvals import Answered, Ask
from node.runs.budget import Hold, Pocket, amounts, part
from node.runs.coding import Scribe, content
from node.runs.door import Door
from node.runs.effect import (
    STAGES,
    Effect,
    GuardStage,
    GuardVerdict,
    Label,
    Outcome,
    Usage,
)
from node.runs.events import Stream, verdict_of
from node.runs.judging import judge
from node.runs.passage import Passage
from node.runs.program import RunEvent
from node.runs.record import Record
from node.runs.state import RunState
from node.types import Json


class Run:
    """One branch of a run; the first one is the run itself.

    Leaving a branch's `with` block joins it: what its share still holds goes back to the parent.
    """

    def __init__(
        self,
        door: Door,
        state: RunState,
        *,
        pocket: Pocket,
        tip: int,
        prefix: str = "",
        labels: frozenset[Label] = frozenset(),
        hold: Hold | None = None,
    ) -> None:
        self.door = door
        self.state = state
        self.pocket = pocket
        self.tip = tip
        self._prefix = prefix
        self._labels = labels
        self._hold = hold
        self._taken = 0
        self._branches: list[Run] = []
        self._joined = False

    # ── what a program uses ─────────────────────────────────────────────────────────────────

    @property
    def id(self) -> str:
        return self.state.id

    @property
    def agent(self) -> AgentManifest:
        """The manifest the run started with, whatever the file says now."""
        return self.state.agent

    @property
    def prompt(self) -> str:
        return self.state.prompt

    @property
    def labels(self) -> frozenset[Label]:
        """What the branch and all its branches have read, and what it began with."""
        return self._labels.union(*(branch.labels for branch in self._branches))

    def remaining(self) -> Usage:
        """What is left of this branch's budget. All tokens are counted as completion tokens."""
        left = self.pocket.left()
        return Usage(
            steps=int(left["steps"]),
            tool_calls=int(left["tool_calls"]),
            completion_tokens=int(left["tokens"]),
            seconds=float(left["seconds"]),
            egress_bytes=int(left["egress_bytes"]),
            msat=int(left["msat"]),
        )

    async def step(self, effect: Effect) -> Outcome:
        """Opens the door once.

        Raises:
            PolicyDeniedError: policy, a guard or the person asked refused it; on the log.
            BudgetExceededError: it does not fit; on the log.
            RunStoppedError: the run was stopped, or the whole node.
            DivergenceError: the log has another step here.
            FreeholdError: what the effect itself raised.
        """
        with self._taking():
            return await Passage(self, self._next(), effect).go()

    async def within(self, path: str, name: str, effect: Effect) -> Outcome:
        """A step at `PATH.NAME`, taken while the step at `path` is under way, as `step` does.

        Nobody is asked: what needs a person's word is refused.
        """
        under = self.state.flying.get(path)
        if under is None:
            raise RunError(f"step {path} of run {self.id} is not under way")
        with self._taking():
            return await Passage(self, f"{path}.{name}", effect, under=under).go()

    def taken_within(self, path: str) -> dict[str, Json]:
        """What an earlier process took within the step at `path`: arguments by `NAME`."""
        taken = self.record.within(path)
        start = len(path) + 1
        return {step.path[start:]: content(self.scribe.log, step.intent, "args") for step in taken}

    async def guard(self, stage: GuardStage, content: Json) -> GuardVerdict:
        """Runs a stage's guards over content of the program's own; the worst verdict, or a pass.

        Where a guard escalates a person is asked, so what comes back is pass, fail or rewrite.
        """
        path = self._next()
        with self._taking():
            return await judge(self, path, stage, content)

    def branch(self, name: str, *, share: float = 0.5) -> Run:
        """A child with its own step counter and `share` (0 to 1) of what is left of the budget."""
        if not 0 < share <= 1:
            raise ValueError(f"a branch's share is over 0 and at most 1, not {share}")
        if not name or "." in name or name in STAGES:  # else its paths would read as others'
            raise ValueError(f"a branch cannot be named {name!r}")
        prefix = f"{self._next()}.{name}"
        usage = part(self.remaining(), share)
        child = Run(
            self.door,
            self.state,
            pocket=Pocket(f"branch {prefix} of run {self.id}", amounts(usage)),
            tip=self.tip,
            prefix=f"{prefix}.",
            labels=self.labels,
            hold=Hold((self.pocket,), usage),
        )
        self._branches.append(child)
        return child

    def join(self) -> None:
        """Ends a branch: its unused share goes back, what it read stays known. Where a step of it
        was cancelled under way, the share is held until that is settled, at the run's end."""
        for branch in self._branches:
            branch.join()
        if self._hold is not None:
            self._joined = True
            if not any(path.startswith(self._prefix) for path in self.state.flying):
                self._hold.reconcile(self.pocket.used)

    @property
    def watched(self) -> bool:
        """Whether someone follows it right now."""
        return self.stream.watched

    def emit(self, event: RunEvent) -> None:
        """Shows something to whoever watches, at once and without journalling it."""
        self.stream.emit(event)

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        self.join()

    # ── what the door uses ──────────────────────────────────────────────────────────────────

    @property
    def scribe(self) -> Scribe:
        return self.state.scribe

    @property
    def record(self) -> Record:
        return self.state.record

    @property
    def stream(self) -> Stream:
        return self.state.stream

    @property
    def compared(self) -> list[str]:
        return self.state.compared

    @property
    def results(self) -> tuple[Json, ...]:
        return tuple(self.state.results)

    @property
    def private(self) -> bool:
        """Whether what the run writes must be erasable."""
        return "private" in self.labels

    @property
    def halted(self) -> bool:
        """Whether this run or the node was stopped."""
        return bool(self.state.stopped or self.door.shut)

    @property
    def parked(self) -> bool:
        """Whether it is left unfinished, to be resumed."""
        return bool(self.state.parked) or not self.state.stopped

    @property
    def ending(self) -> bool:
        """Whether it was cancelled, for good, by a node that goes on."""
        return not self.parked and not self.door.shut

    def check_open(self, *, undoing: bool = False) -> None:
        """Raises RunStoppedError if this run or the node was stopped; where it is `undoing` what it
        did, not if it was cancelled."""
        if self._joined:
            raise RunError(f"branch {self._prefix} of run {self.id} was joined already")
        if self.state.stopped and not (undoing and self.ending):
            raise RunStoppedError(self.state.stopped)
        if not self.state.replaying:
            self.door.check()

    def check_live(self, path: str) -> None:
        """Raises DivergenceError where a replay would have to act."""
        if self.state.replaying:
            raise DivergenceError(
                f"step {path} is not on record: the program went on where the record ends",
                hint="`freehold replay RUN --from STEP` goes on live.",
                path=path,
                recorded="nothing",
                taken="a step",
            )

    async def commit(self, *drafts: Draft) -> tuple[int, ...]:
        """Appends in one commit. A cancelled run is cancelled after the commit, not within it."""
        if self.state.ended:
            raise RunStoppedError(f"run {self.id} has ended")
        indices = await self.scribe.log.append(*drafts)
        for index, draft in zip(indices, drafts, strict=True):
            verdict = verdict_of(draft) if draft.type == "step.result" else None
            if verdict is not None:
                self.stream.emit(verdict, index=index)
        return indices

    def take_in(self, outcome: Outcome, *, remember: bool) -> None:
        """Takes an outcome's labels, and its value where guards may ask for it."""
        self._labels |= outcome.labels
        if remember:
            self.state.results.append(outcome.value)

    @contextmanager
    def in_flight(self, path: str, passage: Passage) -> Iterator[None]:
        """Marks a step as under way. One that was stopped stays marked, to be settled."""
        self.state.flying[path] = passage
        try:
            yield
        except (asyncio.CancelledError, RunStoppedError):
            raise
        except BaseException:
            self.state.flying.pop(path, None)
            raise
        self.state.flying.pop(path, None)

    async def ask(self, ask: Ask) -> Answered:
        """Asks a person, or reads what one answered an earlier process."""
        earlier = self.record.question(ask.path, ask.kind, partial(ask.is_what, self.scribe))
        answered = earlier is not None and earlier.settled is not None
        if not answered:
            if self.state.stopped:  # nobody waits for an answer any more
                raise RunStoppedError(self.state.stopped)
            self.check_live(ask.path)
        with self._waiting(ask.path):
            return await self.door.approvals.ask(self.scribe, ask, earlier=earlier)

    @contextmanager
    def _waiting(self, path: str) -> Iterator[None]:
        """Marks a step as waiting for a person."""
        self.state.waiting.add(path)
        try:
            yield
        finally:
            self.state.waiting.discard(path)

    # ── its parts ───────────────────────────────────────────────────────────────────────────

    @contextmanager
    def _taking(self) -> Iterator[None]:
        """Marks the task as one that takes a step; notes where a step left the record."""
        task = asyncio.current_task()
        assert task is not None
        self.state.taking.append(task)
        try:
            yield
        except DivergenceError as error:
            self.state.divergence = self.state.divergence or error
            raise
        finally:
            self.state.taking.remove(task)

    def _next(self) -> str:
        self._taken += 1
        return f"{self._prefix}{self._taken}"
