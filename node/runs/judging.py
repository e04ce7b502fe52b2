"""Guards over content of a program's own: its prompt when it begins, its answer when it ends.

The verdicts are on the log as steps of their own. Where a guard escalates, a person is asked, so
what a program is told is pass, fail or rewrite.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from node.journal import Entry
from node.runs.approvals import Ask
from node.runs.checks import Checked, check, verdict_drafts
from node.runs.coding import content as stored
from node.runs.effect import PASS, GuardContext, GuardStage, GuardVerdict, StepKind, Verdict
from node.runs.record import diverged
from node.types import Json, JsonObject, canonical

if TYPE_CHECKING:
    from node.runs.run import Run


async def judge(run: Run, path: str, stage: GuardStage, content: Json) -> GuardVerdict:
    """The worst verdict, or a pass; from the record, or from the guards.

    Raises:
        DivergenceError: the record has a step here.
        RunStoppedError: the run was stopped.
    """
    if path in run.record.steps:
        raise diverged(path, "a step", f"the {stage} guards")
    checked = _recorded(run, path, stage) or await _look(run, path, stage, content)
    if checked.worst.verdict == "escalate":
        return await _ask(run, path, checked, content)
    return checked.worst


async def _look(run: Run, path: str, stage: GuardStage, content: Json) -> Checked:
    run.check_open()
    guards = run.door.guards.guards(run.agent, stage)
    checked = check(guards, stage, content, GuardContext("", run.results, run.prompt))
    raw = canonical(content) if checked.verdicts else b""
    drafts = verdict_drafts(run.scribe, path, checked, raw)
    if drafts:
        run.check_live(path)
        run.tip = (await run.commit(*drafts))[-1]
    return checked


def _recorded(run: Run, path: str, stage: GuardStage) -> Checked | None:
    steps = run.record.verdicts.get((path, stage))
    if not steps:
        return None
    content: Json = None
    verdicts: list[tuple[str, GuardVerdict]] = []
    for name, step in steps.items():
        verdict = _verdict(run, step.results[-1])
        content = verdict.value if verdict.verdict == "rewrite" else content
        verdicts.append((name, verdict))
        run.compared.append(step.path)
        run.tip = step.results[-1].index
    return Checked(stage, content, tuple(verdicts))


def _verdict(run: Run, result: Entry) -> GuardVerdict:
    told = cast("JsonObject", result.data.get("value") or {})
    kind = cast("Verdict", told.get("verdict", "fail"))
    value = stored(run.scribe.log, result, "rewritten") if kind == "rewrite" else None
    return GuardVerdict(kind, str(told.get("reason", "")), value)


async def _ask(run: Run, path: str, checked: Checked, content: Json) -> GuardVerdict:
    reason = checked.worst.reason
    ask = Ask(path, StepKind.GUARD, checked.by, content, "guard", checked.stage, reason, run.tip)
    answer = await run.ask(ask)
    run.tip = answer.index
    if answer.yes:
        return PASS
    return GuardVerdict("fail", f"{answer.verdict} by {answer.actor}: {reason}")
