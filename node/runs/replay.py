"""Replay: the program again on what was recorded, and forks that go live from a step on.

A replay performs nothing and writes nothing; where the program leaves the record it diverged. A
fork is a new run whose log begins with copies of the steps it takes over: from there on it is an
unfinished run like any other, and is brought to its end the same way as one after a crash.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from node.errors import DivergenceError, RunError
from node.journal import Draft, Entry, Log
from node.runs.door import Door
from node.runs.effect import GuardStage, StepKind
from node.runs.finished import result_in
from node.runs.life import answer_for
from node.runs.program import Answer, Program
from node.runs.record import Record
from node.runs.recover import revive
from node.runs.run import Run
from node.runs.started import started_from
from node.runs.summary import finish_in
from node.types import Json, JsonObject, canonical


@dataclass(frozen=True)
class Divergence:
    """Where a replay left the record: what the log has there, and what the program did."""

    path: str
    recorded: str
    replayed: str


@dataclass(frozen=True)
class ReplayReport:
    """`ok`: every step was the recorded one and the answer the same. `steps` were compared."""

    run: str
    ok: bool
    steps: int
    divergence: Divergence | None = None


@dataclass(frozen=True)
class Edit:
    """What a fork changes: the prompt, or the recorded results of steps, by path."""

    prompt: str | None = None
    results: Mapping[str, Json] = field(default_factory=dict)

    @classmethod
    def of(cls, edit: Edit | str | None) -> Edit:
        """From text: a JSON object with `prompt` or `results`, or else a new prompt.

        Raises:
            RunError: it is a JSON object, but not one of an edit.
        """
        if isinstance(edit, Edit):
            return edit
        try:
            data = json.loads(edit) if edit else None
        except (ValueError, RecursionError):
            data = None
        return _edit_from(data) if isinstance(data, dict) else cls(prompt=edit or None)


async def replay(door: Door, program: Program, entries: list[Entry]) -> ReplayReport:
    """Runs the program on the run's record alone.

    Raises:
        JournalError: what the run began with was erased.
        RunError: content that the record needs was erased.
    """
    run = revive(door, entries, replaying=True)
    _check_whole(door.log, run)
    answer = await _rerun(program, run)
    divergence = _divergence(door.log, run, entries, answer)
    return ReplayReport(run.id, divergence is None, len(run.compared), divergence)


async def _rerun(program: Program, run: Run) -> Answer:
    try:
        return await program(run)
    except asyncio.CancelledError:
        raise
    except Exception as error:
        return answer_for(error)


def _divergence(log: Log, run: Run, entries: list[Entry], answer: Answer) -> Divergence | None:
    error = run.state.divergence
    end = finish_in(entries)
    recorded = result_in(log, end) if end else None
    if recorded is None or recorded.status == "stopped":
        # the record was cut off from outside: it may end anywhere
        return _as_divergence(error) if error and error.recorded != "nothing" else None
    if error is not None:
        return _as_divergence(error)
    compared = _compared(run)
    missed = next((path for path in run.record.steps if path not in compared), None)
    if missed is not None:
        kind = run.record.steps[missed].intent.data
        return Divergence(missed, f"{kind.get('kind')} {kind.get('name')}", "nothing: it ended")
    told = (recorded.status, recorded.text)
    if (answer.status, answer.text) != told:
        return Divergence("answer", recorded.status, f"{answer.status}, or another text")
    return None


def _compared(run: Run) -> set[str]:
    """The steps that were answered from the record, with all that was taken within them, and what
    guards said of these."""
    within = (step.path for path in run.compared for step in run.record.within(path))
    steps = {*run.compared, *within}
    judged = (verdicts for (path, _), verdicts in run.record.verdicts.items() if path in steps)
    return steps.union(step.path for verdicts in judged for step in verdicts.values())


def _as_divergence(error: DivergenceError) -> Divergence:
    return Divergence(error.path, error.recorded, error.taken)


def _check_whole(log: Log, run: Run) -> None:
    for path, step in run.record.steps.items():
        if step.results and step.outcome(log) is None and not step.is_verdict:
            raise RunError(
                f"run {run.id} cannot be replayed: content of step {path} was erased or is lost",
                hint="`freehold audit log --type blob.erased` says by whom it was; `freehold audit "
                "verify` tells of what is lost.",
            )


def fork(
    log: Log,
    entries: list[Entry],
    step: str,
    *,
    model: str | None,
    edit: Edit,
    actor: str,
    run_id: str,
    salt: bytes,
    oldest: int | None,
) -> tuple[Draft, ...]:
    """The beginning of a run that takes over all that was on the log before `step`.

    Its `salt` is its own: with the first run's, what is erased there could be guessed at here.

    Raises:
        JournalError: what the run began with was erased.
        RunError: there is no such step, or an edit names one that is not taken over, or has a value
            that cannot be kept.
    """
    origin = started_from(log, entries[0])
    taken = _before(entries, step)
    if edit.prompt is not None:  # it is judged itself
        taken = [e for e in taken if GuardStage.INPUT not in (e.draft.path or "").split(".")]
    _check_edit(edit, taken, step)
    _check_readable(log, taken, edit)
    started = replace(
        origin,
        id=run_id,
        actor=actor,
        salt=salt,
        prompt=origin.prompt if edit.prompt is None else edit.prompt,
        agent=replace(origin.agent, model=model or origin.agent.model),
        forked_from=(origin.id, step),
    )
    first = started.draft(log, oldest=oldest, cause=(origin.index,))
    copies = (_copy(log, entry, run_id, edit) for entry in taken)
    return (first, *copies)


def _before(entries: list[Entry], step: str) -> list[Entry]:
    """The step entries that were on the log before anything of `step` was; of a step that was under
    way none, nor any that was taken within it: that is taken anew, with what it takes."""
    own = [e.index for e in entries if _under(e.draft.path, step) and e.type == "step.intent"]
    if not own:
        raise RunError(f"the run has no step {step}", hint="`freehold trace RUN` shows its steps.")
    earlier = [e for e in entries if e.index < own[0] and e.type.startswith("step.")]
    done = {e.draft.path for e in earlier if e.type == "step.result"}
    begun = {path for e in earlier if (path := e.draft.path) and path not in done}
    return [e for e in earlier if not any(_under(e.draft.path, path) for path in begun)]


def _under(path: str | None, step: str) -> bool:
    return path is not None and (path == step or path.startswith(f"{step}."))


def _check_edit(edit: Edit, taken: list[Entry], step: str) -> None:
    known = {entry.draft.path for entry in taken}
    verdicts = {entry.draft.path for entry in taken if entry.data.get("kind") == StepKind.GUARD}
    for path, value in edit.results.items():
        _check_value(path, value)
        if path not in known:
            raise RunError(
                f"step {path!r} is not taken over by a fork from step {step}",
                hint="Only results of earlier steps can be edited; fork from a later step.",
            )
        if path in verdicts:
            raise RunError(
                f"step {path} is a guard's verdict, which cannot be edited",
                hint="Edit the prompt, or the result that the guard looked at.",
            )


def _check_value(path: str, value: Json) -> None:
    try:
        canonical(value)
    except ValueError as error:
        raise RunError(f"the new value of step {path!r} cannot be kept: {error}") from error


def _check_readable(log: Log, taken: list[Entry], edit: Edit) -> None:
    """What cannot be read any more would be done again under the fork's own key: a payment, say."""
    for path, step in Record(taken).steps.items():
        if not step.is_verdict and path not in edit.results and step.outcome(log) is None:
            raise RunError(
                f"the run cannot be forked: content of step {path} was erased or is lost",
                hint="Give the step a result with --edit, or fork from an earlier one.",
            )


def _copy(log: Log, entry: Entry, run_id: str, edit: Edit) -> Draft:
    data: JsonObject = {**entry.data, "copied_from": entry.index}
    draft = replace(entry.draft, run=run_id, data=data, cause=(entry.index,))
    path = entry.draft.path or ""
    if entry.type != "step.result" or path not in edit.results:
        return draft
    return _edited(log, draft, edit.results[path])


def _edited(log: Log, draft: Draft, value: Json) -> Draft:
    """The result with another value. A person wrote that, so it is erasable."""
    dropped = ("value", "error", "held")
    data: JsonObject = {key: item for key, item in draft.data.items() if key not in dropped}
    data |= {"ok": True, "edited": True}
    blobs = tuple(ref for ref in draft.blobs if ref.role != "value")
    return replace(draft, data=data, blobs=(*blobs, log.put_blob(canonical(value), "value")))


def _edit_from(data: dict[str, Json]) -> Edit:
    prompt, results = data.get("prompt"), data.get("results", {})
    known = set(data) <= {"prompt", "results"}
    if not known or not isinstance(prompt, str | None) or not isinstance(results, dict):
        raise RunError(
            "an edit is a new prompt, or a JSON object",
            hint='{"prompt": "text", "results": {"2": <the new value of step 2>}}',
        )
    return Edit(prompt, results)
