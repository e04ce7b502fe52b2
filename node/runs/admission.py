"""Whether a step may happen: policy, guards on its arguments, and a person where one must say.

Nothing is performed here. A refusal is a value, not an exception: the passage journals it first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from node.errors import FreeholdError, GuardRefusedError, PolicyDeniedError
from node.journal import Draft, PolicyVerdict
from node.runs.agent import ASK, DENY
from node.runs.approvals import Answered, Ask, QuestionKind
from node.runs.checks import Checked, check, verdict_drafts
from node.runs.effect import (
    Effect,
    Explained,
    GuardContext,
    GuardStage,
    Rewritable,
    StepKind,
)
from node.runs.policy import WARNINGS
from node.types import Json

if TYPE_CHECKING:
    from node.runs.run import Run


@dataclass(frozen=True)
class Refused:
    """The step must not happen; `error` is what its program gets."""

    decision: PolicyVerdict
    error: FreeholdError
    judged: tuple[Draft, ...] = ()


@dataclass(frozen=True)
class Admitted:
    """The step may happen. `judged` are the guards' verdicts, not yet on the log."""

    decision: PolicyVerdict
    judged: tuple[Draft, ...] = ()
    cause: tuple[int, ...] = ()


def is_called(effect: Effect) -> bool:
    """Whether a model chose the effect's arguments: a tool's function, or the function `pay`."""
    if effect.kind is StepKind.PAYMENT:
        return not effect.needs.tool
    return effect.kind is StepKind.TOOL


class Admission:
    """Decides about one effect at one path. `raw` are its arguments in canonical form.

    With `asks` False nobody is asked: what a person would have to say is refused. `effect` is as it
    would be performed: guards may have rewritten its arguments.
    """

    def __init__(
        self, run: Run, path: str, effect: Effect, raw: bytes, *, asks: bool = True
    ) -> None:
        self._raw = raw
        self.asks = asks
        self._run = run
        self._path = path
        self.effect = effect

    def policy(self) -> PolicyVerdict | Refused:
        """What the policy says: allow or ask, or a refusal."""
        run = self._run
        decision = run.door.policy.decide(self.effect, run.agent, run.labels)
        if decision.verdict != DENY:
            return decision
        error = PolicyDeniedError(
            f"step {self._path} ({self.effect.name}) is not allowed: {decision.rule}",
            hint=f"The agent's manifest decides: `freehold agent show {run.agent.name}`.",
        )
        return Refused(decision, error)

    async def admit(self, decision: PolicyVerdict) -> Admitted | Refused:
        """Runs the guards and asks the person that policy or a guard wants asked."""
        checked = self.check(GuardStage.TOOL_ARGUMENTS, self.effect.args)
        judged = tuple(self._verdicts(checked))
        worst = checked.worst
        if worst.verdict == "fail":
            return self._guard_refusal(checked, judged)
        if worst.verdict == "rewrite" or checked.content != self.effect.args:
            if not self.rewrite(checked):
                return self._guard_refusal(checked, judged)
            again = self.policy()
            if isinstance(again, Refused):
                return Refused(again.decision, again.error, judged)
            decision = again
        if worst.verdict == "escalate":
            rule = PolicyVerdict(f"guard.{checked.by}", ASK)
            return await self._ask("guard", rule, worst.reason, judged)
        if decision.verdict == ASK:
            return await self._ask("policy", decision, self._why(decision.rule), judged)
        await self._run.door.approvals.withdraw(self._run.id, self._path)
        return Admitted(decision, judged)

    def check(self, stage: GuardStage, content: Json) -> Checked:
        """What the agent's guards of a stage say, of what a model called."""
        run = self._run
        looks = is_called(self.effect)
        guards = run.door.guards.guards(run.agent, stage) if looks else ()
        name, tool = self.effect.name, self.effect.needs.tool
        return check(guards, stage, content, GuardContext(name, run.results, run.prompt, tool))

    def rewrite(self, checked: Checked) -> bool:
        """Takes the content a guard left as the arguments, where the effect allows that."""
        if not isinstance(self.effect, Rewritable):
            return False
        self.effect = self.effect.with_args(checked.content)
        return True

    async def person(self, kind: QuestionKind, rule: str, reason: str) -> Answered:
        """Asks a person about this step with these arguments, or reads the answer on record."""
        run, effect = self._run, self.effect
        step, given = effect.kind, effect.args
        return await run.ask(Ask(self._path, step, effect.name, given, kind, rule, reason, run.tip))

    def _why(self, rule: str) -> str:
        """What a person who is asked must know besides the arguments."""
        if isinstance(self.effect, Explained):
            told = self.effect.explanation
        else:
            places = self.effect.needs.destinations
            told = f"it can send to {', '.join(places)}" if places else ""
        return "; ".join(filter(None, (WARNINGS.get(rule), told)))

    async def _ask(
        self, kind: QuestionKind, decision: PolicyVerdict, reason: str, judged: tuple[Draft, ...]
    ) -> Admitted | Refused:
        if not self.asks:
            return self._unasked(decision, judged)
        answer = await self.person(kind, decision.rule, reason)
        if answer.yes:
            approved = PolicyVerdict(decision.rule, "approved")
            return Admitted(approved, judged, (answer.index,))
        why = f" ({answer.reason})" if answer.reason else ""
        error = PolicyDeniedError(
            f"step {self._path} ({self.effect.name}) was {answer.verdict} by {answer.actor}{why}",
            hint="The person's answer is on the log.",
        )
        verdict = answer.verdict if answer.verdict == "expired" else DENY
        return Refused(PolicyVerdict(decision.rule, verdict), error, judged)

    def _unasked(self, decision: PolicyVerdict, judged: tuple[Draft, ...]) -> Refused:
        error = PolicyDeniedError(
            f"step {self._path} ({self.effect.name}) needs a person's word ({decision.rule}), and "
            "a call that is under way cannot wait for one",
            hint="A person can do it instead, or the manifest of agent "
            f"{self._run.agent.name} allow it.",
        )
        return Refused(PolicyVerdict(decision.rule, DENY), error, judged)

    def _guard_refusal(self, checked: Checked, judged: tuple[Draft, ...]) -> Refused:
        error = GuardRefusedError(
            f"guard {checked.by} refused {self.effect.name}: {checked.worst.reason}",
            hint="Call it again with arguments the guard accepts.",
        )
        return Refused(PolicyVerdict(f"guard.{checked.by}", DENY), error, judged)

    def _verdicts(self, checked: Checked) -> list[Draft]:
        return verdict_drafts(self._run.scribe, self._path, checked, self._raw)
