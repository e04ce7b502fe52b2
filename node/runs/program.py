"""What a run's program is: it is given a run, performs effects through its door, and answers.

The agent's loop is such a program; a test or a later pattern (a team, a job for a peer) is another.
This file is the seam between the loop and the door, so that neither imports the other.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias

from node.runs.agent import AgentManifest
from node.runs.effect import Effect, GuardStage, GuardVerdict, Label, Outcome, Usage
from node.types import Json, JsonObject

Status = Literal["completed", "failed", "stopped", "could_not"]


@dataclass(frozen=True)
class Answer:
    """How a run ended.

    `completed`: `text` is the answer. `could_not`: the loop knows that it has no answer it may give
    (its guards refused it twice); `text` says so honestly. `stopped`: a limit or a person ended it
    (budget, no progress, repetition, cancelled). `failed`: something broke, or the model's output
    stayed malformed. For all but `completed`, `reason` says why in words. `citations` are the paths
    of the steps whose results the text rests on.
    """

    status: Status
    text: str = ""
    citations: tuple[str, ...] = ()
    reason: str = ""


@dataclass(frozen=True)
class RunResult(Answer):
    """An answer with the run it belongs to and what it used, all branches together."""

    run_id: str = ""
    usage: Usage = field(default_factory=Usage)


@dataclass(frozen=True)
class RunEvent:
    """Something to watch live: `type` is `token`, `step.intent`, `step.result`, `run.finished`…

    A `token` has data `{"path": …, "text": …}`; it is not journalled. `id` is given by the run
    when it is shown, grows, and lets a watcher go on where it left off.
    """

    type: str
    data: JsonObject = field(default_factory=dict)
    id: int = 0


class ProgramRun(Protocol):
    """What a program sees of its run. `node.runs.run.Run` is the real one."""

    @property
    def id(self) -> str: ...
    @property
    def agent(self) -> AgentManifest:
        """The manifest the run started with, whatever the file says now."""
        ...

    @property
    def prompt(self) -> str: ...
    @property
    def labels(self) -> frozenset[Label]: ...
    def remaining(self) -> Usage:
        """What is left of the budget."""
        ...

    async def step(self, effect: Effect) -> Outcome:
        """Opens the door once."""
        ...

    async def within(self, path: str, name: str, effect: Effect) -> Outcome:
        """Opens the door once more while the step at `path` is under way, at `PATH.NAME`."""
        ...

    def taken_within(self, path: str) -> dict[str, Json]:
        """What an earlier process took within the step at `path`: arguments by `NAME`."""
        ...

    async def guard(self, stage: GuardStage, content: Json) -> GuardVerdict:
        """Runs the input or answer guards and journals each verdict; the worst one, or a pass.

        A `rewrite` carries the content as all guards together left it.
        """
        ...

    @property
    def watched(self) -> bool:
        """Whether someone follows it right now."""
        ...

    def emit(self, event: RunEvent) -> None:
        """Shows something to whoever watches, at once and without journalling it."""
        ...


Program: TypeAlias = Callable[[ProgramRun], Awaitable[Answer]]
