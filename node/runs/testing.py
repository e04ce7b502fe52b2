"""Programs and effects for tests of whatever is built on the door. Never presented as a model.

`ScriptedProgram` takes the steps it is given and answers with what came of them. `CountingEffect`
leaves a trace that can be counted: a line in a file, with the key it was performed under.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from node.errors import FreeholdError, ManifestError, OutcomeUnknownError, RunStoppedError
from node.runs.agent import AgentManifest, ToolGrant
from node.runs.effect import Effect, Guard, GuardStage, Label, Needs, Outcome, StepKind, Usage
from node.runs.program import Answer, ProgramRun
from node.runs.registry import AgentChange
from node.sandbox.types import Capability
from node.types import Json, canonical

Performed = Callable[[str], Awaitable[Outcome]]


@dataclass(frozen=True)
class PlainEffect:
    """An effect without a trace outside, whose outcome is given; `performed` keeps the keys."""

    name: str = "plain.read"
    args: Json = None
    value: Json = None
    kind: StepKind = StepKind.TOOL
    usage: Usage = field(default_factory=Usage)
    needs_usage: Usage | None = None
    labels: frozenset[Label] = frozenset()
    ok: bool = True
    traceless: bool = True
    capabilities: frozenset[Capability] = frozenset()
    destinations: tuple[str, ...] = ()
    performed: list[str] = field(default_factory=list, compare=False)
    tool: str = ""

    @cached_property
    def needs(self) -> Needs:
        usage = self.usage if self.needs_usage is None else self.needs_usage
        tool = self.tool or self.name.partition(".")[0]
        return Needs(usage, self.capabilities, self.destinations, self.traceless, tool)

    async def perform(self, key: str) -> Outcome:
        self.performed.append(key)
        return Outcome(self.ok, self.value, self.usage, self.labels)

    async def settle(self, key: str) -> Outcome | None:
        return None


@dataclass(frozen=True)
class BoundedEffect(PlainEffect):
    """Sends up to `sends` bytes, and no more than it is given; `given` keeps what that was."""

    sends: int = 0
    most: int = 0
    given: list[int] = field(default_factory=list, compare=False)

    def bounded(self, held: Usage) -> BoundedEffect:
        """The same, with less to send."""
        return replace(self, most=held.egress_bytes)

    async def perform(self, key: str) -> Outcome:
        self.given.append(self.most)
        sent = min(self.sends, self.most)
        return Outcome(sent == self.sends, None, Usage(egress_bytes=sent))


@dataclass(frozen=True)
class WaitingEffect(PlainEffect):
    """Is performed until `release` is set; `begun` says that it is under way."""

    release: asyncio.Event = field(default_factory=asyncio.Event, compare=False)
    begun: asyncio.Event = field(default_factory=asyncio.Event, compare=False)

    async def perform(self, key: str) -> Outcome:
        self.begun.set()
        await self.release.wait()
        return await super().perform(key)


@dataclass(frozen=True)
class FailingEffect(PlainEffect):
    """Raises `error` when performed."""

    error: Exception = field(default_factory=lambda: FreeholdError("it failed"))

    async def perform(self, key: str) -> Outcome:
        self.performed.append(key)
        raise self.error


@dataclass(frozen=True)
class CountingEffect:
    """Appends its key and argument to a file: an effect whose every happening can be counted.

    `knows` False makes it one that cannot tell afterwards whether it happened.
    """

    file: Path
    number: int
    knows: bool = True

    kind = StepKind.TOOL
    name = "counter.add"

    @property
    def needs(self) -> Needs:
        return Needs(tool=self.name.partition(".")[0])

    @property
    def args(self) -> Json:
        return {"number": self.number}

    async def perform(self, key: str) -> Outcome:
        line = canonical({"key": key, "number": self.number}) + b"\n"
        handle = os.open(self.file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(handle, line)
            os.fsync(handle)
        finally:
            os.close(handle)
        return Outcome(ok=True, value={"added": self.number})

    async def settle(self, key: str) -> Outcome | None:
        if not self.knows:
            raise OutcomeUnknownError(f"the counter cannot say whether {self.number} was added.")
        if self.happened(key):
            return Outcome(ok=True, value={"added": self.number})
        return None

    def happened(self, key: str) -> int:
        """How often it happened under this key."""
        if not self.file.exists():
            return 0
        wanted = canonical({"key": key, "number": self.number})
        return self.file.read_bytes().splitlines().count(wanted)


@dataclass
class ScriptedProgram:
    """Takes each effect of a script through the door, in order; the answer lists what came of it.

    Args:
        script: makes the effects of a run from its prompt.
        judged: has the prompt and the answer judged by guards too.
    """

    script: Callable[[str], Sequence[Effect]]
    judged: bool = False

    async def __call__(self, run: ProgramRun) -> Answer:
        if self.judged:
            await run.guard(GuardStage.INPUT, run.prompt)
        told = [await told_of(run, effect) for effect in self.script(run.prompt)]
        text = canonical(told).decode()
        if self.judged:
            await run.guard(GuardStage.ANSWER, text)
        return Answer("completed", text)


async def told_of(run: ProgramRun, effect: Effect) -> Json:
    """What a step came to; an error by its class. A run that was stopped stays stopped."""
    try:
        outcome = await run.step(effect)
    except RunStoppedError:
        raise
    except FreeholdError as error:
        return {"error": type(error).__name__}
    return outcome.value


def agent(name: str = "clerk", *tools: str, **changes: object) -> AgentManifest:
    """A manifest with the tools granted, without capabilities."""
    grants = tuple(ToolGrant(tool) for tool in tools or ("plain", "counter"))
    fields: dict[str, object] = {"instructions": "Be exact.", "tools": grants, **changes}
    return AgentManifest(name=name, digest="0" * 64, **fields)  # type: ignore[arg-type]


class MemoryAgents:
    """The registry's double: manifests that are given, and change when told to."""

    def __init__(self, *agents: AgentManifest) -> None:
        self._agents = {item.name: item for item in agents}
        self._changes: list[AgentChange] = []

    def get(self, name: str) -> AgentManifest:
        if name not in self._agents:
            raise ManifestError(f"there is no agent {name!r}")
        return self._agents[name]

    def put(self, manifest: AgentManifest) -> None:
        """Changes a manifest; the next refresh says so."""
        self._agents[manifest.name] = manifest
        self._changes.append(AgentChange(manifest.name, "changed", manifest))

    async def refresh(self) -> tuple[AgentChange, ...]:
        changes, self._changes = tuple(self._changes), []
        return changes


@dataclass(frozen=True)
class FixedGuards:
    """The guard set's double: the guards of each stage, the same for all agents."""

    stages: Mapping[GuardStage, Sequence[Guard]] = field(default_factory=dict)

    def guards(self, agent: AgentManifest, stage: GuardStage) -> Sequence[Guard]:
        return self.stages.get(stage, ())
