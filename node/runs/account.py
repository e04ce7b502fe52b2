"""What one step costs: what it may use, what of that is held for it, what it used in the end.

It is paid from the pockets of its branch, its agent's day and the node's. What is held is held
before anything happens, and turned into what was really used once the result is on the log.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from node.errors import FreeholdError, OutcomeUnknownError
from node.runs.admission import Admission
from node.runs.budget import Hold, Pocket, clamp, reserve
from node.runs.effect import Bounded, Effect, Outcome, Spending, StepKind, Usage
from node.runs.ledger import day_of
from node.runs.performing import Performed
from node.runs.record import StepRecord

if TYPE_CHECKING:
    from node.runs.run import Run


class Account:
    """Of one effect at one path. `begun`: it was, or may have been, performed by this process."""

    def __init__(self, run: Run, path: str, admission: Admission) -> None:
        self._run = run
        self._path = path
        self._admission = admission
        self._ledger = run.door.ledger
        self.day = ""  # the UTC day that it is booked on
        self.recorded: StepRecord | None = None  # where an earlier process meant to do it
        self.begun = False
        self.held: Hold  # from its intent on

    def count(self, recorded: StepRecord) -> None:
        """Books what a step on record used, as it was booked when it was taken."""
        run = self._run
        run.pocket.used += recorded.usage()
        if recorded.results and not recorded.copied:
            run.state.spend(day_of(recorded.results[-1]), recorded.usage())

    def reserve(self) -> Hold:
        """Holds what it may use. Raises BudgetExceededError where that is not there."""
        is_kept = self._effect.kind is StepKind.WORKSPACE  # what a run did until it was spent
        wanted = self._wanted()
        if is_kept or self._effect.needs.undoes:  # counted, but never refused
            return Hold(self._pockets(), wanted)
        return reserve(self._pockets(), wanted, bounded=self._is_bounded(wanted))

    def keep(self, hold: Hold) -> Hold:
        """Its intent is on the log: what it may use stays held until its result is there too."""
        self.held = hold
        self._ledger.keep(self._run.id, self._path, hold)
        return hold

    def take_up(self, recorded: StepRecord) -> None:
        """An earlier process meant to do it: what that left held is given back."""
        self.recorded = recorded
        self._ledger.take_over(self._run.id, self._path)

    def hold_again(self) -> Hold:
        """Holds, and keeps, what one that was taken up may use, or what is left of that."""
        wanted = self._wanted()
        usage = clamp(self._pockets(), wanted, bounded=self._is_bounded(wanted))
        return self.keep(Hold(self._pockets(), usage))

    def book(self, hold: Hold, usage: Usage) -> None:
        """Its result is on the log: what it used takes the place of what was held."""
        hold.reconcile(usage)
        self._ledger.take_over(self._run.id, self._path)
        self._run.state.spend(self.day, usage)

    def needed(self) -> Usage:
        """The most it may use: as it was let through, since a price or a time may be over now."""
        return self.recorded.needs if self.recorded else self._effect.needs.usage

    def used(self, done: Performed, hold: Hold) -> Usage:
        """What the step used. Where nobody knows whether it happened, all that it might have."""
        usage = done.result.usage if isinstance(done.result, Outcome) else self.spent()
        if isinstance(done.result, OutcomeUnknownError):
            usage = replace(self.needed(), egress_bytes=hold.usage.egress_bytes)
        elif isinstance(done.result, FreeholdError) and not done.sure:
            usage = replace(usage, egress_bytes=hold.usage.egress_bytes)
        return replace(self._counted(usage), seconds=round(done.seconds, 6))

    def spent(self) -> Usage:
        """What the effect used that came to no outcome."""
        return self._effect.spent() if isinstance(self._effect, Spending) else Usage()

    def may_have_sent(self) -> bool:
        """Whether an attempt at it, which cannot tell itself, may have sent something."""
        begun = self.begun or self.recorded is not None
        tells = isinstance(self._effect, Spending)
        return begun and not tells and self.needed().egress_bytes > 0

    @property
    def _effect(self) -> Effect:
        return self._admission.effect

    def _wanted(self) -> Usage:
        usage = self._counted(self.needed())
        return replace(usage, seconds=usage.seconds or self._run.door.limits.step_seconds)

    def _counted(self, usage: Usage) -> Usage:
        """As one step, and one call where it is a tool's."""
        calls = 1 if self._effect.kind is StepKind.TOOL else usage.tool_calls
        return replace(usage, steps=1, tool_calls=calls)

    def _is_bounded(self, wanted: Usage) -> bool:
        return bool(wanted.egress_bytes) and isinstance(self._effect, Bounded)

    def _pockets(self) -> tuple[Pocket, ...]:
        """What the step is paid from, to be held at once: it is booked on the day that is now."""
        pockets = (self._run.pocket, *self._ledger.pockets(self._run.agent))
        self.day = self._ledger.day
        return pockets
