"""A run as people are shown it."""

from __future__ import annotations

from dataclasses import dataclass

from node.errors import JournalError
from node.journal import Entry, Log
from node.runs.coding import usage_from
from node.runs.effect import Usage
from node.runs.finished import result_in
from node.runs.life import Life
from node.runs.program import RunResult


@dataclass(frozen=True)
class RunSummary:
    """A run and how it stands. Times in seconds since 1970.

    `status` is that of the answer, or `running`, `waiting` (for a person) or `parked`.
    """

    id: str
    agent: str
    actor: str
    status: str
    prompt: str
    text: str
    reason: str
    citations: tuple[str, ...]
    started: float
    finished: float | None
    usage: Usage
    forked_from: tuple[str, str] | None = None


def summary_of(log: Log, entries: list[Entry], alive: Life | None) -> RunSummary:
    """A run from its entries, and its life if it has one in this process."""
    first, last = entries[0], entries[-1]
    result = _result(log, entries)
    status, reason = (result.status, result.reason) if result else _standing(last, alive)
    forked = first.data.get("forked_from")
    return RunSummary(
        id=first.draft.run or "",
        agent=first.draft.agent or "",
        actor=first.draft.actor,
        status=status,
        prompt=_prompt(log, first),
        text=result.text if result else "",
        reason=reason,
        citations=result.citations if result else (),
        started=first.ts / 1000,
        finished=last.ts / 1000 if result else None,
        usage=result.usage if result else _used(entries),
        forked_from=(str(forked["run"]), str(forked["step"])) if isinstance(forked, dict) else None,
    )


def result_of(log: Log, entries: list[Entry]) -> RunResult | None:
    """How the run ended, if it did."""
    return _result(log, entries)


def _result(log: Log, entries: list[Entry]) -> RunResult | None:
    ends = (entry for entry in reversed(entries) if entry.type == "run.finished")
    return next((result_in(log, entry) for entry in ends), None)


def _standing(last: Entry, alive: Life | None) -> tuple[str, str]:
    if alive is not None and not alive.over.is_set():
        return ("waiting", "") if alive.waiting else ("running", "")
    return "parked", str(last.data.get("reason", "")) if last.type == "run.parked" else ""


def _prompt(log: Log, first: Entry) -> str:
    try:
        refs = [ref for ref in first.draft.blobs if ref.role == "prompt"]
        return log.blob(refs[0]).decode() if refs else ""
    except JournalError:
        return ""


def _used(entries: list[Entry]) -> Usage:
    results = (entry for entry in entries if entry.type == "step.result")
    return sum((usage_from(entry.data.get("usage")) for entry in results), Usage())
