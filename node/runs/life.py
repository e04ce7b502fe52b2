"""One run in this process: from its start, or its resumption, to its end or to being parked.

A run ends once, on the log. Everything its program can raise becomes an answer, except a log that
cannot be written: then there is nothing left to say anywhere.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

from node.errors import (
    BudgetExceededError,
    FreeholdError,
    JournalWriteError,
    RunStoppedError,
)
from node.journal import Draft
from node.runs.finished import finished_draft
from node.runs.program import Answer, Program, RunResult
from node.runs.run import Run
from node.runs.steady import steadily
from node.types import JsonObject

logger = logging.getLogger(__name__)
SETTLE_S = 10.0


class Life:
    """Drives a run's program in a task of its own.

    The log says of a run that is parked that it is before the task ends, unless it was `announced`.
    """

    def __init__(self, run: Run, program: Program) -> None:
        self.run = run
        self.over = asyncio.Event()
        self.result: RunResult | FreeholdError | None = None
        self._program = program
        self._announced = False
        self._abandoned: JournalWriteError | None = None
        self._entered = False
        self._cancelled = False
        self._task: asyncio.Task[None] | None = None

    def begin(self, *first: Draft) -> None:
        """Starts the task; `first` goes on the log before the program runs."""
        self._task = asyncio.create_task(self._live(first), name=f"run {self.run.id}")

    def begin_stopped(self, reason: str) -> None:
        """Ends a run that an earlier process left: what it left open is settled, no more."""
        self._cancelled = True
        self.run.state.stopped = reason
        self.begin()

    @property
    def parked(self) -> bool:
        """Whether it is, or is about to be, left unfinished to be resumed."""
        return bool(self.run.state.parked)

    @property
    def waiting(self) -> bool:
        """Whether nothing happens until a person answers."""
        state = self.run.state
        return bool(state.waiting) and not state.flying.keys() - state.waiting

    def cancel(self, reason: str) -> None:
        """Ends the run as stopped; what is under way is cancelled and settled."""
        self._cancelled = True
        self._stop(reason)

    def park(self, reason: str, *, announced: bool = False) -> bool:
        """Leaves the run unfinished, to be resumed; what is under way is cancelled. False for one
        that was cancelled, or whose end is being written: it ends."""
        if self._cancelled or self.run.state.ended:
            return False
        self.run.state.parked, self._announced = reason, announced
        self._stop(reason)
        return True

    async def wait(self) -> RunResult:
        """The result. Raises what kept the run from having one."""
        await self.over.wait()
        if isinstance(self.result, RunResult):
            return self.result
        raise self.result or RunStoppedError(f"run {self.run.id} has no result")

    def abandon(self, error: JournalWriteError) -> None:
        """Ends the task without a word on the log, which cannot be written any more."""
        self._abandoned = error
        self._stop(error.message)

    def _stop(self, reason: str) -> None:
        self.run.state.stopped = reason
        if self._entered and self._task is not None:
            self._task.cancel()

    async def _live(self, first: tuple[Draft, ...]) -> None:
        self._entered = True
        try:
            await self._end(await self._answer(first))
        except FreeholdError as error:
            self.result = error
        finally:
            self.run.stream.close()
            self.over.set()

    async def _answer(self, first: tuple[Draft, ...]) -> Answer | None:
        """What the program says; None if it was cancelled."""
        try:
            if first:
                await self.run.commit(*first)
            return await self._program(self.run)
        except asyncio.CancelledError:
            return None
        except JournalWriteError:
            raise
        except Exception as error:
            if not isinstance(error, FreeholdError):
                logger.exception("the program of run %s broke", self.run.id)
            return answer_for(error)

    async def _end(self, answer: Answer | None) -> None:
        """Puts the end on the log, whatever else is cancelled meanwhile."""
        await steadily(self._put_end(answer))

    async def _put_end(self, answer: Answer | None) -> None:
        run = self.run
        if self._abandoned is not None:
            raise self._abandoned
        divergence = run.state.divergence
        if divergence is not None:
            answer = answer_for(divergence)
        run.state.stopped = run.state.stopped or ("the run has ended" if answer else "cancelled")
        await self._end_left()
        if run.state.parked:
            await self._put_parked()
            return
        await self._settle_flying()
        if answer is None or (self._cancelled and answer.status != "completed"):
            answer = Answer("stopped", "", reason=run.state.stopped)
        run.join()
        used, spent = run.pocket.used, run.state.spent
        draft = finished_draft(run.scribe, answer, used, spent=spent, cause=run.tip)
        run.state.ended = True  # whatever the program left running takes no more steps
        await run.scribe.log.append(draft)
        self.result = RunResult(
            answer.status, answer.text, answer.citations, answer.reason, run.id, used
        )

    async def _put_parked(self) -> None:
        reason = self.run.state.parked
        if not self._announced:
            data: JsonObject = {"reason": reason, "in_order": True}
            await self.run.commit(self.run.scribe.draft("run.parked", None, data, actor="node"))
        self.result = RunStoppedError(
            f"run {self.run.id} is parked: {reason}",
            hint="It goes on where it was when the node does.",
        )

    async def _end_left(self) -> None:
        """Cancels steps that the program left under way in tasks of their own. What one of them
        writes just now is written, and counted, before the run's end."""
        left = set(self.run.state.taking)
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=SETTLE_S)

    async def _settle_flying(self) -> None:
        for path, passage in list(self.run.state.flying.items()):
            try:
                await passage.close(SETTLE_S)
            except JournalWriteError:
                raise
            except Exception:
                logger.exception("step %s of run %s could not be settled", path, self.run.id)
        self.run.state.flying.clear()


def answer_for(error: Exception) -> Answer:
    """How a run ends whose program raised."""
    if isinstance(error, RunStoppedError):
        return Answer("stopped", "", reason=error.message)
    if isinstance(error, BudgetExceededError):
        return Answer("stopped", "", reason=error.diagnostics())
    if isinstance(error, FreeholdError):
        return Answer("failed", "", reason=error.diagnostics())
    return Answer("failed", "", reason=f"the program broke: {type(error).__name__}")


async def all_over(lives: Iterable[Life], limit_s: float | None = None) -> None:
    """Returns when all are over, or after `limit_s` seconds."""
    waits = [asyncio.ensure_future(life.over.wait()) for life in lives]
    if not waits:
        return
    _, late = await asyncio.wait(waits, timeout=limit_s)
    for wait in late:
        wait.cancel()
