"""One step's way through the door.

policy -> budget -> guards -> (a person) -> intent -> perform -> guards -> result -> reconcile. An
effect without a trace outside has all its entries in one commit after it was performed; any other
has its intent durable before. Where the log already knows the step, what it knows is returned, and
an intent without a result is settled, never blindly performed again.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import TYPE_CHECKING, NoReturn

from node.errors import (
    BudgetExceededError,
    FreeholdError,
    JournalWriteError,
    OutcomeUnknownError,
    PolicyDeniedError,
    RunStoppedError,
    StepFailedError,
)
from node.journal import Draft, PolicyVerdict
from node.runs.account import Account
from node.runs.admission import Admission, Admitted, Refused, is_called
from node.runs.agent import DENY
from node.runs.approvals import Answered
from node.runs.budget import Hold
from node.runs.checks import Checked, verdict_drafts
from node.runs.effect import (
    Bounded,
    Effect,
    Forgetful,
    GuardStage,
    Outcome,
    StepKind,
    Usage,
)
from node.runs.entries import StepEntries
from node.runs.performing import Performed, Result, perform
from node.runs.record import StepRecord, compare, diverged
from node.runs.steady import within
from node.types import canonical

if TYPE_CHECKING:
    from node.runs.run import Run

AGAIN = "step.again"
logger = logging.getLogger(__name__)


class Passage:
    """One effect of one run at one path. Used once.

    `under` is the step within which it is taken, if any: that one cannot wait for a person.
    """

    def __init__(
        self, run: Run, path: str, effect: Effect, *, under: Passage | None = None
    ) -> None:
        self._run = run
        self._door = run.door
        self._path = path
        self._asked = effect  # what the program asked for: what the record is compared with
        self._entries = StepEntries(run, path, effect, within=under is not None)
        self._admission = Admission(run, path, effect, self._entries.raw, asks=under is None)
        self._key = f"{run.id}:{path}"
        self._account = Account(run, path, self._admission)
        self._cause: tuple[int, ...] = under._cause if under else (run.tip,)

    async def go(self) -> Outcome:
        """The outcome, from the record or from the world."""
        run = self._run
        recorded = run.record.steps.get(self._path)
        if recorded is None:
            self._check_open()
            if run.record.judged(self._path):
                raise diverged(self._path, "a guard's verdict", self._asked.name)
            run.check_live(self._path)
            return await self._first()
        compare(run.scribe, recorded, self._asked)
        run.compared.append(self._path)
        known = recorded.outcome(run.scribe.log)
        if known is None:
            run.check_live(self._path)
            return await self._resume(recorded)
        return await self._known(recorded, known)

    # ── a step the log knows ────────────────────────────────────────────────────────────────

    async def _known(self, recorded: StepRecord, known: Result) -> Outcome:
        run, entry = self._run, recorded.results[-1]
        for each in (recorded, *run.record.within(self._path)):
            self._account.count(each)
        run.tip = entry.index
        if isinstance(known, FreeholdError):
            raise known
        if recorded.held:
            self._rewrite_again()
            known = await self._let_in(known, "")
        return self._take_in(known)

    async def _resume(self, recorded: StepRecord) -> Outcome:
        """An earlier process meant to do this, and no result is left of it."""
        self._cause = (recorded.intent.index,)
        self._account.take_up(recorded)
        self._rewrite_again()
        with self._run.in_flight(self._path, self):
            hold = self._account.hold_again()
            return await self._finish(await self._taken_up(recorded, hold), hold, before=())

    def _rewrite_again(self) -> None:
        """Has the guards, which are pure, leave the arguments as they left them before."""
        checked = self._admission.check(GuardStage.TOOL_ARGUMENTS, self._effect.args)
        if checked.content != self._effect.args:
            self._admission.rewrite(checked)

    async def _taken_up(self, recorded: StepRecord, hold: Hold) -> Performed:
        """What an interrupted effect came to; a run that was stopped only finds out."""
        if self._effect.needs.traceless:
            self._check_open()
            return await self._perform(hold)
        if self._is_halted():
            self._check_not_parked()
            return await self._found_out()
        settled = await self._settle(else_now=True)
        if settled:
            return Performed(settled, 0.0)
        self._check_open()
        if not recorded.lets(self._effect.needs):
            return Performed(self._moved(), 0.0)
        again = self._run.scribe.draft(AGAIN, self._path, {}, cause=self._cause)
        self._cause = await self._run.commit(again)
        return await self._perform_open(hold)

    # ── a step for the first time ───────────────────────────────────────────────────────────

    async def _first(self) -> Outcome:
        decision = self._admission.policy()
        if isinstance(decision, Refused):
            await self._refuse(decision)
        with await self._reserve() as hold:
            admitted = await self._admission.admit(decision)
            if isinstance(admitted, Refused):
                await self._refuse(admitted)
            self._cause = (*self._cause, *admitted.cause)
            if self._effect.needs.traceless:
                return await self._at_once(admitted, hold)
            return await self._in_two(admitted, hold)

    async def _at_once(self, admitted: Admitted, hold: Hold) -> Outcome:
        self._entries.show_intent(admitted.decision)
        done = await self._perform(hold)
        before = (self._entries.intent(admitted.decision, self._cause), *admitted.judged)
        return await self._finish(done, hold, before=before)

    async def _in_two(self, admitted: Admitted, hold: Hold) -> Outcome:
        with self._run.in_flight(self._path, self):
            intent = self._entries.intent(admitted.decision, self._cause)
            self._cause = (await self._run.commit(intent, *admitted.judged))[:1]
            self._account.keep(hold)
            self._entries.show_intent(admitted.decision, self._cause[0])
            done = await self._perform_open(hold)
            return await self._finish(done, hold, before=())

    async def close(self, limit_s: float) -> None:
        """Finds out what became of a step whose run was cancelled while it was under way. What
        cannot be found out in `limit_s` seconds is unknown, and counts as used."""
        try:
            async with within(asyncio.timeout(limit_s)):
                done = await self._found_out()
        except JournalWriteError:
            raise
        except Exception as error:
            if not isinstance(error, TimeoutError):
                logger.exception("step %s could not be settled", self._key)
            why = "that could not be found out before the run ended"
            done = Performed(self._unknown(why), 0.0)
        await self._write(done, self._account.held, before=())

    # ── its parts ───────────────────────────────────────────────────────────────────────────

    async def _reserve(self) -> Hold:
        try:
            return self._account.reserve()
        except BudgetExceededError as error:
            refused = Refused(PolicyVerdict(f"budget.{error.dimension}", DENY), error)
        return await self._refuse(refused)

    async def _perform_open(self, hold: Hold) -> Performed:
        """Performs it, unless the run was stopped while it was written that it would be."""
        if not self._is_halted():
            return await self._perform(hold)
        self._check_not_parked()
        return Performed(self._stopped(), 0.0)

    def _is_halted(self) -> bool:
        """Whether the run, or the node, was stopped, and this is not to be done all the same."""
        return self._run.halted and not (self._effect.needs.undoes and self._run.ending)

    def _check_open(self) -> None:
        self._run.check_open(undoing=self._effect.needs.undoes)

    def _check_not_parked(self) -> None:
        """Raises RunStoppedError for a run that goes on later: the log gets no result, so that the
        step is taken up again then."""
        if self._run.parked:
            raise self._stopped()

    def _moved(self) -> PolicyDeniedError:
        places = ", ".join(self._effect.needs.destinations)
        return PolicyDeniedError(
            f"step {self._path} ({self._effect.name}) was let through to send elsewhere, and would "
            f"send to {places} now",
            hint="Ask again: the new run is held to where its model is now.",
        )

    def _unknown(self, why: str, hint: str = "") -> OutcomeUnknownError:
        name = self._effect.name
        return OutcomeUnknownError(
            f"step {self._path} ({name}) may or may not have happened: {why}", hint=hint
        )

    def _stopped(self) -> RunStoppedError:
        under_way = self._account.spent() != Usage() or self._account.may_have_sent()
        what = "was stopped under way" if under_way else "did not happen: the run was stopped"
        return RunStoppedError(f"step {self._path} {what}")

    async def _perform(self, hold: Hold) -> Performed:
        self._account.begun = True
        limit_s, clock, effect = hold.usage.seconds, self._door.clock, self._effect
        if effect.needs.usage.egress_bytes and isinstance(effect, Bounded):
            effect = effect.bounded(hold.usage)
        done = await perform(effect, self._key, limit_s=limit_s, clock=clock)
        if done.sure or self._effect.needs.traceless:
            return done
        settled = await self._settle()
        return replace(done, result=settled) if settled else done

    async def _settle(self, *, else_now: bool = False) -> Result | None:
        """What became of the effect; a person is asked where nothing else can tell, and told
        whether it is done now (`else_now`) if it was not."""
        try:
            return await self._known_by_now()
        except OutcomeUnknownError as error:
            if not self._admission.asks:
                return error
            question = f"{error.message} Did it happen?"
            question += " If not, it is done now." if else_now else ""
            answer = await self._admission.person("outcome_unknown", "settle", question)
        return await self._as_told(answer)

    async def _known_by_now(self) -> Outcome | None:
        """As the effect settles. What had its intent before a memory was lost is not known by it.

        Raises:
            OutcomeUnknownError: nothing tells whether it happened.
        """
        known, why = await self._effect.settle(self._key), ""
        recorded = self._account.recorded
        if known is None and recorded and isinstance(self._effect, Forgetful):
            why = self._effect.forgot(self._door.log, recorded.intent.index)
        if why:
            raise self._unknown(f"{why}.", "Look at what the payee has, and at the mint.")
        return known

    async def _as_told(self, answer: Answered) -> Outcome | None:
        """What the effect itself knows by now; where it still does not, what the person said."""
        try:
            return await self._known_by_now()
        except OutcomeUnknownError:
            told = {"settled_by": answer.actor, "reason": answer.reason}
            usage = self._account.needed()
            return Outcome(ok=True, value={**told}, usage=usage) if answer.yes else None

    async def _found_out(self) -> Performed:
        """What became of the effect of a stopped run, as far as it can tell by itself. A payment
        that its mint never got would be made by asking: no mint is, while the door is shut."""
        if self._door.shut and self._effect.kind is StepKind.PAYMENT:
            return Performed(self._unknown("no mint is asked in an emergency stop"), 0.0)
        try:
            settled = await self._known_by_now()
        except OutcomeUnknownError as unknown:
            return Performed(unknown, 0.0)
        return Performed(settled or self._stopped(), 0.0, sure=not self._account.may_have_sent())

    async def _finish(self, done: Performed, hold: Hold, *, before: tuple[Draft, ...]) -> Outcome:
        result, checked = await self._write(done, hold, before=before)
        if isinstance(result, FreeholdError):
            raise result
        if checked.worst.verdict == "escalate":
            result = await self._let_in(result, checked.worst.reason)
        return self._take_in(result)

    async def _write(
        self, done: Performed, hold: Hold, *, before: tuple[Draft, ...]
    ) -> tuple[Result, Checked]:
        """Judges the result, makes it durable, and settles the budget."""
        usage, (given, raw) = self._account.used(done, hold), _as_json(done.result)
        checked = Checked(GuardStage.TOOL_RESULT, None, ())
        if isinstance(given, Outcome):
            checked = self._admission.check(GuardStage.TOOL_RESULT, given.value)
        result = _judged(given, checked, usage)
        after = (*before, *verdict_drafts(self._run.scribe, self._path, checked, raw))
        if isinstance(result, Outcome) and isinstance(given, Outcome):
            raw = raw if result.value is given.value else canonical(result.value)
        cause = (-len(after),) if before else self._cause
        entry = self._entries.result(result, usage, checked, cause, raw=raw, day=self._account.day)
        indices = await self._run.commit(*after, entry)
        self._account.book(hold, usage)
        self._run.state.flying.pop(self._path, None)
        self._run.tip = indices[-1]
        self._entries.show_result(entry, indices[-1])
        return result, checked

    async def _let_in(self, outcome: Outcome, reason: str) -> Outcome:
        """A result a guard escalated goes on into the run only if a person says so."""
        answer = await self._admission.person("result", "guard.tool_result", reason)
        if answer.yes:
            return outcome
        held = {"error": f"the result was withheld: {answer.verdict} by {answer.actor}"}
        return replace(outcome, ok=False, value={**held})

    def _take_in(self, outcome: Outcome) -> Outcome:
        retrieved = self._asked.kind is StepKind.RETRIEVAL
        self._run.take_in(outcome, remember=retrieved or is_called(self._asked))
        return outcome

    async def _refuse(self, refused: Refused) -> NoReturn:
        """Puts the refusal on the log, in one commit, and raises it. What was asked for may hold
        anything, a secret that a guard saw or that none had looked for yet, so it is erasable."""
        await self._door.approvals.withdraw(self._run.id, self._path)  # no answer changes it
        intent = self._entries.intent(refused.decision, self._cause, private=True)
        after = (intent, *refused.judged)
        cause = (-len(after),)
        result = self._run.scribe.failure(self._path, refused.error, Usage(), cause=cause)
        indices = await self._run.commit(*after, result)
        self._run.tip = indices[-1]
        self._entries.show_intent(refused.decision, indices[0])
        self._entries.show_result(result, indices[-1])
        raise refused.error

    # ── small things ────────────────────────────────────────────────────────────────────────

    @property
    def _effect(self) -> Effect:
        """What is performed: guards may have rewritten its arguments."""
        return self._admission.effect


def _as_json(result: Result) -> tuple[Result, bytes]:
    """The result and its value's canonical form, or an error where that is not JSON."""
    if isinstance(result, FreeholdError):
        return result, b""
    try:
        return result, canonical(result.value)
    except (ValueError, RecursionError):
        return StepFailedError("the effect's result is not JSON"), b""


def _judged(given: Result, checked: Checked, usage: Usage) -> Result:
    """The result as the guards leave it; one that failed them is withheld from log and run."""
    if isinstance(given, FreeholdError):
        return given
    worst = checked.worst
    if worst.verdict == "fail":
        told = {"error": f"the result was withheld by guard {checked.by}: {worst.reason}"}
        return replace(given, ok=False, value={**told}, usage=usage)
    return replace(given, value=checked.content, usage=usage)
