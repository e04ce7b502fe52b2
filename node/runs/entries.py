"""What one step writes on the log, and what its watchers see of that."""

from __future__ import annotations

from typing import TYPE_CHECKING

from node.errors import FreeholdError, PolicyDeniedError, StepFailedError
from node.journal import Draft, PolicyVerdict
from node.runs.checks import Checked
from node.runs.effect import Effect, StepKind, Usage
from node.runs.events import intent_shape, result_shape
from node.runs.performing import Result
from node.runs.program import RunEvent
from node.types import JsonObject, canonical

if TYPE_CHECKING:
    from node.runs.run import Run


class StepEntries:
    """The entries of one effect at one path. `raw` are its arguments in canonical form.

    Args:
        within: whether it is taken within another step: what that has read, and these arguments may
            hold, is not known yet, so they can be erased.

    Raises:
        StepFailedError: the effect's arguments are not JSON.
    """

    def __init__(self, run: Run, path: str, effect: Effect, *, within: bool = False) -> None:
        self._run = run
        self._within = within
        self._path = path
        self._effect = effect
        try:
            self.raw = canonical(effect.args)
        except (ValueError, RecursionError):
            raise StepFailedError(f"the arguments of {effect.name} are not JSON") from None

    def intent(
        self, decision: PolicyVerdict, cause: tuple[int, ...], *, private: bool = False
    ) -> Draft:
        """What is about to happen, as the program asked for it. Of a `private` one, as of a run
        that is, the arguments can be erased."""
        private = private or self._private
        return self._run.scribe.intent(
            self._path, self._effect, self.raw, decision, private=private, cause=cause
        )

    def result(
        self,
        result: Result,
        usage: Usage,
        checked: Checked,
        cause: tuple[int, ...],
        *,
        raw: bytes,
        day: str,
    ) -> Draft:
        """What it came to, its value in canonical form, and the UTC day it is booked on. `held`
        where a person must let the result into the run, `remote` where a model's server made it."""
        scribe, places = self._run.scribe, self._effect.needs.destinations
        more: JsonObject = {"day": day}
        refused = isinstance(result, PolicyDeniedError)
        if self._effect.kind is StepKind.MODEL and places and not refused:
            more["remote"] = places[0]
        if isinstance(result, FreeholdError):
            return scribe.failure(self._path, result, usage, cause=cause, more=more)
        if checked.worst.verdict == "escalate":
            more["held"] = True
        kind, private = self._effect.kind, self._private
        return scribe.result(self._path, kind, result, raw, private=private, cause=cause, more=more)

    @property
    def _private(self) -> bool:
        return self._within or self._run.private

    def show_intent(self, decision: PolicyVerdict, index: int | None = None) -> None:
        """Tells watchers, before the effect is performed."""
        effect = self._effect
        shape = intent_shape(self._path, str(effect.kind), effect.name, decision)
        self._run.stream.emit(RunEvent("step.intent", shape), index=index)

    def show_result(self, entry: Draft, index: int) -> None:
        """Tells watchers, once the result is durable."""
        self._run.stream.emit(RunEvent("step.result", result_shape(entry)), index=index)
