"""Running the guards of a stage over content, and their verdicts as journal entries.

A guard's verdict is a step of its own under the step it judged (`<step>.<stage>.<guard>`), written
in the same commit. A guard that raises counts as one that failed the content.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from node.journal import BlobRef, Draft, PolicyVerdict
from node.runs.agent import AgentManifest
from node.runs.coding import Scribe
from node.runs.effect import PASS, Guard, GuardContext, GuardStage, GuardVerdict, StepKind
from node.types import Json, JsonObject, canonical

_GUARDS_LOOK = PolicyVerdict("kind.guard", "allow")


class Guards(Protocol):
    """Which guards look at what, by agent. `GuardSet` is the real one."""

    def guards(self, agent: AgentManifest, stage: GuardStage) -> Sequence[Guard]: ...


class NoGuards:
    """For programs that bring no content of their own to check."""

    def guards(self, agent: AgentManifest, stage: GuardStage) -> Sequence[Guard]:
        return ()


@dataclass(frozen=True)
class Checked:
    """What the guards of one stage said, in order, and the content as they left it.

    `worst` is the first fail, else the first escalate, else a rewrite with the final content, else
    a pass; `by` names the guard that decided.
    """

    stage: GuardStage
    content: Json
    verdicts: tuple[tuple[str, GuardVerdict], ...]

    @property
    def worst(self) -> GuardVerdict:
        return self._decider()[1]

    @property
    def by(self) -> str:
        return self._decider()[0]

    def _decider(self) -> tuple[str, GuardVerdict]:
        for wanted in ("fail", "escalate", "rewrite"):
            for name, verdict in self.verdicts:
                if verdict.verdict == wanted:
                    value = self.content if wanted == "rewrite" else None
                    return name, GuardVerdict(verdict.verdict, verdict.reason, value)
        return "", PASS


def check(
    guards: Sequence[Guard], stage: GuardStage, content: Json, context: GuardContext
) -> Checked:
    """Runs a stage's guards in order, each on what the one before left; the first fail ends it."""
    verdicts: list[tuple[str, GuardVerdict]] = []
    for guard in guards:
        verdict = _ask(guard, stage, content, context)
        verdicts.append((guard.name, verdict))
        if verdict.verdict == "fail":
            break
        if verdict.verdict == "rewrite":
            content = verdict.value
    return Checked(stage, content, tuple(verdicts))


def _ask(guard: Guard, stage: GuardStage, content: Json, context: GuardContext) -> GuardVerdict:
    try:
        return guard.check(stage, content, context)
    except Exception as error:  # a broken guard must not let anything pass
        return GuardVerdict("fail", f"the guard broke ({type(error).__name__})")


def verdict_drafts(scribe: Scribe, path: str, checked: Checked, raw: bytes) -> list[Draft]:
    """Intent and result of every verdict. `raw` is what the first guard saw, in canonical form."""
    drafts: list[Draft] = []
    seen = scribe.digest(StepKind.GUARD, raw) if checked.verdicts else ""
    for name, verdict in checked.verdicts:
        at = f"{path}.{checked.stage}.{name}"
        intent: JsonObject = {"kind": "guard", "name": name, "digest": seen, "needs": {}}
        drafts.append(scribe.draft("step.intent", at, intent, policy=_GUARDS_LOOK))
        drafts.append(_verdict_result(scribe, at, verdict))
        if verdict.verdict == "rewrite":
            seen = scribe.digest(StepKind.GUARD, canonical(verdict.value))
    return drafts


def _verdict_result(scribe: Scribe, at: str, verdict: GuardVerdict) -> Draft:
    value: JsonObject = {"verdict": verdict.verdict, "reason": verdict.reason[:500]}
    ok = verdict.verdict != "fail"
    data: JsonObject = {"ok": ok, "value": value, "usage": {}, "labels": [], "seconds": 0}
    blobs: tuple[BlobRef, ...] = ()
    if verdict.verdict == "rewrite":
        blobs = (scribe.log.put_blob(canonical(verdict.value), "rewritten"),)
    return scribe.draft("step.result", at, data, blobs=blobs, cause=(-1,))
