"""What the log says about all runs, read once on start: who is unfinished, who waits, who crashes.

Kept up to date from then on, so that a list of runs never reads the log again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from node.journal import BlobRef, Entry, Log

KEPT = 1000


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
    """One run in one line. Times in ms since 1970.

    `status` is `running` or `parked` while the run is unfinished, then that of its answer.
    `fruitless` counts the times it was resumed without getting any further.
    """

    id: str
    agent: str
    actor: str
    started: int
    index: int
    status: str = "running"
    reason: str = ""
    finished: int | None = None
    until: float | None = None
    fruitless: int = 0
    last: int = 0
    forked_from: str | None = None

    @property
    def unfinished(self) -> bool:
        return self.finished is None


@dataclass
class Survey:
    """The runs by id, in the order they started; finished ones only up to `KEPT`."""

    runs: dict[str, RunLine] = field(default_factory=dict)
    questions: dict[int, Entry] = field(default_factory=dict)
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

    def unfinished(self) -> list[RunLine]:
        """The runs that have no end yet."""
        return [line for line in self.runs.values() if line.unfinished]

    def oldest(self) -> int | None:
        """Where the oldest unfinished run started."""
        return min((line.index for line in self.unfinished()), default=None)

    def recount(self, line: RunLine, entries: Iterable[Entry]) -> None:
        """Takes in all entries of one run again, its steps too."""
        line.fruitless = 0
        for entry in entries:
            self._advance(line, entry)

    def _start(self, entry: Entry) -> None:
        draft, forked = entry.draft, entry.data.get("forked_from")
        origin = str(forked.get("run")) if isinstance(forked, dict) else None
        run = draft.run or ""
        self.runs[run] = RunLine(
            run,
            draft.agent or "",
            draft.actor,
            entry.ts,
            entry.index,
            last=entry.index,
            forked_from=origin,
        )
        if len(self.runs) > KEPT * 2:
            self._forget()

    def _forget(self) -> None:
        old = [run for run, line in self.runs.items() if not line.unfinished][:-KEPT]
        for run in old:
            del self.runs[run]

    def _advance(self, line: RunLine, entry: Entry) -> None:
        line.last = entry.index
        match entry.type:
            case "step.result":
                line.fruitless = 0
            case "run.resumed":
                line.status, line.until = "running", None
                line.fruitless += 1
            case "run.parked":
                line.status, line.reason = "parked", str(entry.data.get("reason", ""))
                until = entry.data.get("until")
                line.until = float(until) if isinstance(until, int | float) else None
                if entry.data.get("in_order"):
                    line.fruitless = 0
            case "approval.asked":
                line.fruitless = 0
                self.questions[entry.index] = entry
            case "approval.settled":
                for index in entry.draft.cause:
                    self.questions.pop(index, None)
            case "run.finished":
                self._finish(line, entry)

    def _finish(self, line: RunLine, entry: Entry) -> None:
        line.finished = entry.ts
        line.status, line.reason = (str(entry.data.get(key, "")) for key in ("status", "reason"))
        for index in [i for i, q in self.questions.items() if q.draft.run == line.id]:
            del self.questions[index]
