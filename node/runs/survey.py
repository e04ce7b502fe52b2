"""What the log says about the runs that have not ended: read on start, kept up to date then."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from node.journal import BlobRef, Entry, Log


class RunLog(Log, Protocol):
    """A log that can be read from a place on, and of which content can be erased, as both `Journal`
    and `MemoryLog` can."""

    @property
    def size(self) -> int: ...

    def entry(self, index: int) -> Entry: ...

    def entries(
        self, start: int = 0, end: int | None = None, *, types: tuple[str, ...] = ()
    ) -> Iterable[Entry]: ...

    def newest(
        self, *types: str, agent: str | None = None, run: str | None = None
    ) -> Iterator[Entry]: ...

    async def erase(self, blob: BlobRef | str, *, actor: str = "node") -> None: ...


@dataclass
class RunLine:
    """One run in one line, from its first entry, at `index`, to its `last`.

    One that is `parked` was left for a `reason`, maybe `until` a time in seconds since 1970.
    `fruitless` counts the times it was resumed without getting any further.
    """

    id: str
    agent: str
    index: int
    last: int
    parked: bool = False
    reason: str = ""
    until: float | None = None
    fruitless: int = 0
    unfinished: bool = True


@dataclass
class Survey:
    """The runs that have no end yet, by id, in the order they started."""

    runs: dict[str, RunLine] = field(default_factory=dict)
    stopped: str = ""

    def add(self, entry: Entry) -> None:
        """Takes in the next entry of the log."""
        if entry.type == "node.estop":
            self.stopped = f"stopped by {entry.draft.actor}"
        elif entry.type == "node.resumed":
            self.stopped = ""
        elif entry.type == "run.started":
            self._start(entry)
        elif entry.draft.run in self.runs:
            self._advance(self.runs[entry.draft.run], entry)

    def oldest(self) -> int | None:
        """Where the oldest of them started."""
        return min((line.index for line in self.runs.values()), default=None)

    def recount(self, line: RunLine, entries: Iterable[Entry]) -> None:
        """Takes in all entries of one run again, its steps too."""
        line.fruitless = 0
        for entry in entries:
            self._advance(line, entry)

    def _start(self, entry: Entry) -> None:
        run = entry.draft.run or ""
        self.runs[run] = RunLine(run, entry.draft.agent or "", entry.index, last=entry.index)

    def _advance(self, line: RunLine, entry: Entry) -> None:
        line.last = entry.index
        match entry.type:
            case "step.result" | "approval.asked":
                line.fruitless = 0
            case "run.resumed":
                line.parked, line.until = False, None
                line.fruitless += 1
            case "run.parked":
                line.parked, line.reason = True, str(entry.data.get("reason", ""))
                until = entry.data.get("until")
                line.until = float(until) if isinstance(until, int | float) else None
                if entry.data.get("in_order"):
                    line.fruitless = 0
            case "run.finished":
                line.unfinished = False
                del self.runs[line.id]
