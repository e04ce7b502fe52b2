"""Performing one effect within its time, and finding out what became of one that did not end well.

An effect that says how it failed (an error of the node's tree) has failed. One that ran out of time
or broke in a way it does not know may have happened all the same: it is asked to settle.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

from node.clock import Clock
from node.errors import (
    BudgetExceededError,
    FreeholdError,
    JournalWriteError,
    OutcomeUnknownError,
    StepFailedError,
)
from node.runs.effect import Effect, Outcome
from node.runs.steady import within

logger = logging.getLogger(__name__)
Result = Outcome | FreeholdError


@dataclass(frozen=True)
class Performed:
    """What performing came to, in how many seconds. Not `sure`: it may have happened anyway."""

    result: Result
    seconds: float
    sure: bool = True


async def perform(effect: Effect, key: str, *, limit_s: float, clock: Clock) -> Performed:
    """Performs an effect once.

    Raises:
        JournalWriteError: the log under the effect failed; the node must stop.
    """
    started = clock.monotonic()
    result, sure = await _attempt(effect, key, limit_s)
    return Performed(result, clock.monotonic() - started, sure)


async def _attempt(effect: Effect, key: str, limit_s: float) -> tuple[Result, bool]:
    limit = asyncio.timeout(limit_s)
    try:
        async with within(limit):
            return await effect.perform(key), True
    except JournalWriteError:
        raise
    except OutcomeUnknownError as error:
        return error, False
    except FreeholdError as error:
        return error, True
    except Exception as error:
        if limit.expired():
            return _timed_out(effect, limit_s), False
        logger.exception("step %s broke", key)
        return _broken(effect, error), False


def _timed_out(effect: Effect, limit_s: float) -> BudgetExceededError:
    return BudgetExceededError(
        f"{effect.name} was stopped after {limit_s:.1f} s, all it had been given",
        hint="Raise the seconds limit of the agent's budget.",
        dimension="seconds",
        limit=limit_s,
        used=limit_s,
    )


def _broken(effect: Effect, error: Exception) -> StepFailedError:
    return StepFailedError(
        f"{effect.name} broke: {type(error).__name__}", hint="The daemon's log has the details."
    )
