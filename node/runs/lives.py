"""The runs that are alive in this process, and when the others come back to life."""

from __future__ import annotations

import asyncio
import logging

from node.errors import JournalError, JournalReadError, JournalVersionError
from node.journal import Entry
from node.runs.door import Door
from node.runs.events import event_of
from node.runs.life import Life
from node.runs.program import Program
from node.runs.recover import (
    LONGEST_PAUSE_S,
    crash_loop_draft,
    left_draft,
    pause_s,
    resumed_draft,
    revive,
    unreadable_draft,
)
from node.runs.survey import RunLine, RunLog, Survey

logger = logging.getLogger(__name__)
AGAIN_S = 60.0
ENDED_KEPT = 16


class Lives:
    """Starts and keeps the tasks of runs. The last few that ended stay to be watched."""

    def __init__(self, log: RunLog, door: Door, survey: Survey, program: Program) -> None:
        self._log = log
        self._door = door
        self._survey = survey
        self._program = program
        self._lives: dict[str, Life] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._tasks: set[asyncio.Task[bool]] = set()
        self.closed = False  # for good: nothing is begun or resumed any more

    def get(self, run_id: str) -> Life | None:
        """The run's life in this process, over or not."""
        return self._lives.get(run_id)

    def alive(self) -> list[Life]:
        """Those that are not over."""
        return [life for life in self._lives.values() if not life.over.is_set()]

    def forget(self, run_id: str) -> None:
        """Drops a run that is over, with the words that those who watch it later would see."""
        self._lives.pop(run_id, None)

    def take_up(self, run_id: str) -> Life:
        """A life, not begun, for a run on the log. Raises JournalError if that was erased."""
        run = revive(self._door, self._log.run_entries(run_id))
        life = self._lives[run_id] = Life(run, self._program)
        for old in [key for key, kept in self._lives.items() if kept.over.is_set()][:-ENDED_KEPT]:
            del self._lives[old]
        return life

    def begin(self, line: RunLine) -> None:
        """Begins a run that is on the log; in a while where that cannot be read just now."""
        try:
            self.take_up(line.id).begin()
        except JournalReadError as error:
            self._again(line, error)

    async def resume_all(self) -> list[str]:
        """Resumes the unfinished runs that may be; returns their ids."""
        return [line.id for line in [*self._survey.runs.values()] if await self.resume(line)]

    async def resume(self, line: RunLine) -> bool:
        """Resumes a run, or leaves it alone for a while if it keeps going down with the process.

        One that is alive goes on as it is: two tasks would take its steps twice. One that is being
        parked is resumed when it is. One of another version waits for that.
        """
        life = self._lives.get(line.id)
        if life is not None and life.parked:
            await life.over.wait()
        pause = pause_s(line) if self._may_begin(line) else None
        if pause is not None:
            until = self._door.clock.wall() + pause
            await self._log.append(crash_loop_draft(line, until))
        if not self._may_begin(line):
            return False
        left_s = (line.until or 0.0) - self._door.clock.wall()
        if 0 < left_s <= LONGEST_PAUSE_S:  # else the clock was set back
            self._later(line, left_s)
            return False
        try:
            self.take_up(line.id).begin(resumed_draft(line))
        except JournalReadError:
            raise
        except JournalVersionError as error:
            if line.reason != error.message:  # once, and not at every start
                await self._log.append(left_draft(line, error))
            return False
        except JournalError as error:
            await self.give_up(line, error)
            return False
        return True

    async def give_up(self, line: RunLine, error: JournalError) -> None:
        """Ends a run that cannot be taken up."""
        await self._log.append(unreadable_draft(line, error))

    def _may_begin(self, line: RunLine) -> bool:
        """Whether the run has neither an end nor a life, and the door is open."""
        life = self._lives.get(line.id)
        alive = life is not None and not life.over.is_set()
        return line.unfinished and not alive and not self._door.shut and not self.closed

    def close(self) -> None:
        """Resumes nothing from now on, and drops what was to be resumed later."""
        self.closed = True
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def show(self, entry: Entry) -> None:
        """Shows an entry to the run's watchers; steps show themselves."""
        life = self._lives.get(entry.draft.run or "")
        event = None if entry.type.startswith("step.") else event_of(entry)
        if life is not None and event is not None:
            life.run.stream.emit(event, index=entry.index)

    def _later(self, line: RunLine, seconds: float) -> None:
        loop, earlier = asyncio.get_running_loop(), self._timers.pop(line.id, None)
        if earlier is not None:
            earlier.cancel()
        self._timers[line.id] = loop.call_later(seconds, self._now, line)

    def _now(self, line: RunLine) -> None:
        self._timers.pop(line.id, None)
        line.until = None  # that time is over, whatever the clock says by now
        task = asyncio.ensure_future(self._resume_in_time(line))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _resume_in_time(self, line: RunLine) -> bool:
        """`resume`, and once more after a while where the log cannot be read just now."""
        try:
            return await self.resume(line)
        except JournalReadError as error:
            self._again(line, error)
            return False

    def _again(self, line: RunLine, error: JournalReadError) -> None:
        logger.warning("run %s: %s", line.id, error.message)
        if not self.closed:
            self._later(line, AGAIN_S)
