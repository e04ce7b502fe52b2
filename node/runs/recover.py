"""Taking up what an earlier process left: reading the log, and bringing a run back from it.

A run is brought back by running its program again: steps with results return them, an intent
without one is settled, and where the record ends the run is live.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from node.errors import JournalDamagedError, JournalError, JournalReadError
from node.journal import Draft, Entry
from node.runs.budget import Pocket, run_limits
from node.runs.coding import Scribe
from node.runs.door import Door
from node.runs.events import Stream
from node.runs.record import Record
from node.runs.run import Run
from node.runs.started import Started, started_from
from node.runs.state import RunState
from node.runs.survey import RunLine, RunLog, Survey
from node.types import JsonObject

TURNS = (
    "run.started",
    "run.resumed",
    "run.parked",
    "run.finished",
    "node.estop",
    "node.resumed",
)
FRUITLESS = 3
NOT_OF_TODAY = 1000  # finished runs in a row
FIRST_PAUSE_S = 60.0
LONGEST_PAUSE_S = 86_400.0


def read_log(log: RunLog, survey: Survey, door: Door) -> None:
    """Rebuilds the index of runs, the day's ledger and the open questions from the log.

    Reads from the oldest run on that may be unfinished: how runs began and ended, the steps of
    those that did not end, and what those that ended today spent. Entries are not sorted by time,
    since a clock may be set: those of today end where many in a row are not.
    """
    _look_over(log, survey)
    for line in [*survey.runs.values()]:
        entries = log.run_entries(line.id)
        survey.recount(line, entries)
        _count(door, entries)
        for asked in _unanswered(entries):
            door.approvals.restore(asked)
    _count_finished(log, door)


def needed_from(log: RunLog) -> int:
    """Index of the first entry that a start goes back to, but for what ended today: the beginning
    of an unfinished run, or an emergency stop in force; the log's size where there is neither.
    """
    survey = Survey()
    _look_over(log, survey)
    ends = [line.index for line in survey.runs.values()]
    for entry in islice(log.newest("node.estop", "node.resumed"), 1):
        if entry.type == "node.estop":
            ends.append(entry.index)
    return min(ends, default=log.size)


def _look_over(log: RunLog, survey: Survey) -> None:
    for entry in log.entries(_horizon(log), types=TURNS):
        survey.add(entry)


def _horizon(log: RunLog) -> int:
    """Index before which every run has ended, as the last run to start found it."""
    for index in range(log.size - 1, -1, -1):
        try:
            entry = log.entry(index)
        except (JournalReadError, JournalDamagedError):
            raise
        except JournalError:  # pruned away: only ended runs are
            return index + 1
        if entry.type == "run.started":
            oldest = entry.data.get("oldest")
            return oldest if isinstance(oldest, int) else index
    return 0


def _unanswered(entries: list[Entry]) -> list[Entry]:
    """The questions of a run that are open: neither settled, nor needless since their step has its
    result, as where the process died while it ended the run."""
    settled = {i for each in entries if each.type == "approval.settled" for i in each.draft.cause}
    done = {each.draft.path: each.index for each in entries if each.type == "step.result"}
    asked = [each for each in entries if each.type == "approval.asked"]
    return [
        each
        for each in asked
        if each.index not in settled and each.index > done.get(each.draft.path, -1)
    ]


def _count(door: Door, entries: list[Entry]) -> None:
    for entry in entries:
        door.ledger.count(entry)


def _count_finished(log: RunLog, door: Door) -> None:
    others = 0
    finished = log.newest("run.finished")
    while others < NOT_OF_TODAY and (entry := _next(finished)) is not None:
        is_of_today = door.ledger.is_of_today(entry)
        others = 0 if is_of_today else others + 1
        if not door.ledger.count_finished(entry) and is_of_today:
            _count(door, log.run_entries(entry.draft.run or ""))


def _next(entries: Iterator[Entry]) -> Entry | None:
    try:
        return next(entries, None)
    except (JournalReadError, JournalDamagedError):
        raise
    except JournalError:  # pruned away, as all before it
        return None


def revive(door: Door, entries: list[Entry], *, replaying: bool = False) -> Run:
    """A run from its entries, about to take its first step again.

    Raises:
        JournalError: what it began with was erased.
    """
    started = started_from(door.log, entries[0])
    log, last = door.log, entries[-1].index
    state = RunState(
        id=started.id,
        agent=started.agent,
        prompt=started.prompt,
        scribe=Scribe(log, run=started.id, agent=started.agent.name, salt=started.salt),
        record=Record(entries),
        stream=Stream(lambda: log.run_entries(started.id), before=last),
        replaying=replaying,
    )
    return Run(door, state, pocket=run_pocket(door, started), tip=started.index)


def run_pocket(door: Door, started: Started) -> Pocket:
    """The budget of one run."""
    key = f"{{}} in [budget] of agent {started.agent.name}"
    return Pocket(f"run {started.id}", run_limits(started.agent, door.limits), key=key)


def pause_s(line: RunLine) -> float | None:
    """How long a run that keeps going down with the process is left alone; None: not at all."""
    if line.parked or line.fruitless < FRUITLESS:
        return None
    return min(FIRST_PAUSE_S * 2.0 ** (line.fruitless - FRUITLESS), LONGEST_PAUSE_S)


def crash_loop_draft(line: RunLine, until: float) -> Draft:
    """`run.parked` of a run that is left alone for a while."""
    reason = f"resumed {line.fruitless} times without getting any further"
    return _draft(line, "run.parked", {"reason": reason, "until": until, "in_order": False})


def left_draft(line: RunLine, error: JournalError) -> Draft:
    """`run.parked` of a run that waits for another version."""
    return _draft(line, "run.parked", {"reason": error.message, "in_order": True})


def resumed_draft(line: RunLine) -> Draft:
    """`run.resumed`."""
    return _draft(line, "run.resumed", {"attempt": line.fruitless + 1})


def unreadable_draft(line: RunLine, error: JournalError) -> Draft:
    """`run.finished` of a run whose beginning was erased."""
    data: JsonObject = {
        "status": "failed",
        "reason": f"it cannot be resumed: {error.message}",
        "citations": [],
        "usage": {},
    }
    return _draft(line, "run.finished", data)


def _draft(line: RunLine, kind: str, data: JsonObject) -> Draft:
    return Draft(kind, run=line.id, agent=line.agent, cause=(line.last,), data=data)
