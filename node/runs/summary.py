"""A run as people are shown it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from node.errors import JournalErasedError, JournalError, JournalReadError
from node.journal import Entry, Log
from node.runs.coding import usage_from
from node.runs.effect import Usage
from node.runs.finished import outcome_in, text_in
from node.runs.life import Life
from node.runs.lives import Lives
from node.runs.started import forked_in
from node.runs.survey import RunLog


@dataclass(frozen=True)
class RunSummary:
    """A run and how it stands. Times in seconds since 1970.

    `status` is that of the answer, or `running`, `waiting` (for a person) or `parked`. Of one that
    was `erased`, prompt and text are empty; what the log has `lost` of them (it is damaged) is
    empty as well.
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
    erased: bool = False
    lost: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Content:
    """A text of the log, which is empty where it is no longer there."""

    shown: str = ""
    erased: bool = False
    lost: bool = False


def summaries(log: RunLog, lives: Lives, agent: str | None) -> Iterator[RunSummary]:
    """All runs, of one agent if it is named, newest first; reads no further than it is asked."""
    ends: dict[str | None, Entry] = {}
    for entry in log.newest("run.started", "run.finished", agent=agent):
        run = entry.draft.run or ""
        if entry.type == "run.finished":
            ends[run] = entry
            continue
        end = ends.pop(run, None)
        yield _ended(log, entry, end) if end else summary_of(log, log.run_entries(run), lives)


def summary_of(log: Log, entries: list[Entry], lives: Lives) -> RunSummary:
    """A run from its entries, and its life if it has one in this process."""
    first, end = entries[0], finish_in(entries)
    if end is not None:
        return _ended(log, first, end)
    status, reason = _standing(entries, lives.get(first.draft.run or ""))
    return _summary(log, first, status=status, reason=reason, usage=_used(entries))


def finish_in(entries: list[Entry]) -> Entry | None:
    """The entry that ended the run, if it ended."""
    return next((entry for entry in reversed(entries) if entry.type == "run.finished"), None)


def _ended(log: Log, first: Entry, end: Entry) -> RunSummary:
    text = _content(log, end, "text")
    result = outcome_in(end, text.shown)
    return _summary(
        log,
        first,
        status=result.status,
        text=text,
        reason=result.reason,
        citations=result.citations,
        finished=end.ts / 1000,
        usage=result.usage,
    )


def _summary(
    log: Log,
    first: Entry,
    *,
    status: str,
    reason: str,
    usage: Usage,
    text: _Content = _Content(),
    citations: tuple[str, ...] = (),
    finished: float | None = None,
) -> RunSummary:
    prompt = _content(log, first, "prompt")
    is_cut = first.type != "run.started"  # what was before it was pruned
    return RunSummary(
        id=first.draft.run or "",
        agent=first.draft.agent or "",
        actor=first.draft.actor,
        status=status,
        prompt=prompt.shown,
        text=text.shown,
        reason=reason,
        citations=citations,
        started=first.ts / 1000,
        finished=finished,
        usage=usage,
        forked_from=forked_in(first),
        erased=prompt.erased or text.erased,
        lost=("prompt",) * (prompt.lost or is_cut) + ("text",) * text.lost,
    )


def _standing(entries: list[Entry], life: Life | None) -> tuple[str, str]:
    if life is not None and not life.over.is_set():
        return ("waiting", "") if life.waiting else ("running", "")
    parked = [entry for entry in entries if entry.type == "run.parked"]
    return "parked", str(parked[-1].data.get("reason", "")) if parked else ""


def _content(log: Log, entry: Entry, role: str) -> _Content:
    """Raises JournalReadError where it cannot be told."""
    try:
        return _Content(text_in(log, entry, role))
    except JournalErasedError:
        return _Content(erased=True)
    except JournalReadError:
        raise
    except JournalError:
        return _Content(lost=True)


def _used(entries: list[Entry]) -> Usage:
    results = (entry for entry in entries if entry.type == "step.result")
    return sum((usage_from(entry.data.get("usage")) for entry in results), Usage())
