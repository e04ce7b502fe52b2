"""What all branches of one run share."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from node.errors import DivergenceError
from node.runs.agent import AgentManifest
from node.runs.coding import Scribe
from node.runs.effect import Usage
from node.runs.events import Stream
from node.runs.record import Record
from node.types import Json

if TYPE_CHECKING:
    from node.runs.passage import Passage


@dataclass
class RunState:
    """The state of a run in this process.

    `replaying`: only the record may answer; nothing is performed and nothing written. `stopped`
    says why no further step may be taken, `parked` why the run is left, to go on later; `ended`:
    the log has the run's end, or is about to. `compared` are the paths answered from the record.
    `spent` is what the run used itself, by UTC day. `taking` are the tasks that take a step now.
    """

    id: str
    agent: AgentManifest
    prompt: str
    scribe: Scribe
    record: Record
    stream: Stream
    replaying: bool = False
    divergence: DivergenceError | None = None
    stopped: str = ""
    parked: str = ""
    ended: bool = False
    results: list[Json] = field(default_factory=list)
    flying: dict[str, Passage] = field(default_factory=dict)
    waiting: set[str] = field(default_factory=set)
    taking: list[asyncio.Task[Any]] = field(default_factory=list)
    compared: list[str] = field(default_factory=list)
    spent: dict[str, Usage] = field(default_factory=dict)

    def spend(self, day: str, usage: Usage) -> None:
        """Counts what a step used on a day."""
        self.spent[day] = self.spent.get(day, Usage()) + usage
