"""The seam of the one door: what an effect is, what it needs, what it came to."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

from node.sandbox.types import Capability
from node.types import Json

if TYPE_CHECKING:
    from node.runs.survey import RunLog

Label = Literal["untrusted", "private"]


class StepKind(StrEnum):
    """The kinds of effect there are; the trace and the policy call them by these names."""

    MODEL = "model"
    TOOL = "tool"
    RETRIEVAL = "retrieval"
    GUARD = "guard"
    PAYMENT = "payment"
    DELEGATION = "delegation"
    APPROVAL = "approval"
    MESSAGE = "message"
    WORKSPACE = "workspace"


@dataclass(frozen=True)
class Usage:
    """What was used, or is asked for. The dimensions a budget has."""

    steps: int = 0
    tool_calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0
    egress_bytes: int = 0
    msat: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.steps + other.steps,
            self.tool_calls + other.tool_calls,
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.seconds + other.seconds,
            self.egress_bytes + other.egress_bytes,
            self.msat + other.msat,
        )


@dataclass(frozen=True)
class Needs:
    """The most an effect may use (reserved before it runs), and what policy must know of it.

    `destinations` are where it can send data, as URL patterns, relays or peers; empty for an
    effect that cannot send. `traceless` effects leave nothing outside the node: their intent
    shares a commit with their result, and recovery may perform them again. `tool` is the installed
    tool a tool call belongs to: what a manifest's `[[tools]]` table names, where the effect's own
    name is the function's. What `undoes` what another step did is taken whatever the budget has
    left, and in a run that was cancelled, too.
    """

    usage: Usage = field(default_factory=Usage)
    capabilities: frozenset[Capability] = frozenset()
    destinations: tuple[str, ...] = ()
    traceless: bool = False
    tool: str = ""
    undoes: bool = False


@dataclass(frozen=True)
class Outcome:
    """What a step came to. `ok` False is an answer too (a tool's error), not an exception.

    `value` is recorded and returned again on replay; large values are kept as blobs by the door.
    `labels` are what the content carries into the run.
    """

    ok: bool
    value: Json
    usage: Usage = field(default_factory=Usage)
    labels: frozenset[Label] = frozenset()
    replayed: bool = False


class Effect(Protocol):
    """Whatever leaves the pure code of a run. Performed by `Run.step` and by nothing else."""

    @property
    def kind(self) -> StepKind: ...
    @property
    def name(self) -> str:
        """What policy and the trace call it; for a tool call the function, as the model sees it."""
        ...

    @property
    def args(self) -> Json:
        """What the digest is taken over: all that makes this effect this one."""
        ...

    @property
    def needs(self) -> Needs: ...

    async def perform(self, key: str) -> Outcome:
        """Does it. `key` is the step's idempotency key, `run id + path`."""
        ...

    async def settle(self, key: str) -> Outcome | None:
        """On recovery, for an intent without a result: the outcome if it happened, None if it
        surely did not.

        Raises:
            OutcomeUnknownError: neither can be known; a person must decide.
        """
        ...


@runtime_checkable
class Rewritable(Protocol):
    """An effect whose arguments a guard may rewrite; any other is refused instead."""

    def with_args(self, args: Json) -> Effect:
        """The same effect with other arguments."""
        ...


@runtime_checkable
class Bounded(Protocol):
    """An effect that keeps to fewer egress bytes than it asked for, where a budget has no more."""

    def bounded(self, held: Usage) -> Effect:
        """The same effect, which sends no more than `held.egress_bytes`."""
        ...


@runtime_checkable
class Spending(Protocol):
    """An effect that may have used something although it came to no outcome."""

    def spent(self) -> Usage:
        """The most that its attempt in this process used, as far as that went."""
        ...


@runtime_checkable
class Explained(Protocol):
    """An effect whose arguments alone do not tell a person what it would do."""

    @property
    def explanation(self) -> str:
        """What a person who is asked about it must know."""
        ...


@runtime_checkable
class Forgetful(Protocol):
    """An effect that asks a memory of its own what happened, which can be lost."""

    def forgot(self, log: RunLog, intent: int) -> str:
        """Why that may know nothing of a step whose intent has this index; empty if it does."""
        ...


class GuardStage(StrEnum):
    """Where a guard looks."""

    INPUT = "input"
    TOOL_ARGUMENTS = "tool_arguments"
    TOOL_RESULT = "tool_result"
    ANSWER = "answer"


STAGES: frozenset[str] = frozenset(GuardStage)
Verdict = Literal["pass", "fail", "rewrite", "escalate"]


@dataclass(frozen=True)
class GuardVerdict:
    """`pass`, `fail` (the step is refused), `rewrite` (`value` takes the content's place) or
    `escalate` (a person decides)."""

    verdict: Verdict
    reason: str = ""
    value: Json = None


PASS = GuardVerdict("pass")


@dataclass(frozen=True)
class GuardContext:
    """What a guard may know: the effect's name and tool, the tool results recorded so far, and
    what the run was asked."""

    name: str
    results: tuple[Json, ...] = ()
    prompt: str = ""
    tool: str = ""


class Guard(Protocol):
    """A pure check of content; the door runs it and journals each verdict as a step."""

    @property
    def name(self) -> str: ...

    def check(self, stage: GuardStage, content: Json, context: GuardContext) -> GuardVerdict:
        """Judges; never raises on any content."""
        ...
