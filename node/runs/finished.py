"""How a run ended, as its last entry keeps it. The text of the answer is a blob."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from node.errors import JournalErasedError
from node.journal import Draft, Entry, Log
from node.runs.coding import Scribe, usage_from, usage_json
from node.runs.effect import Usage
from node.runs.program import Answer, RunResult, Status
from node.types import Json, JsonObject

REASON_CHARS = 2000
CITATIONS = 100


def finished_draft(
    scribe: Scribe, answer: Answer, usage: Usage, *, spent: Mapping[str, Usage], cause: int
) -> Draft:
    """`run.finished`. `spent` is what the run used itself, by UTC day: a fork's copies are free."""
    data: JsonObject = {
        "status": answer.status,
        "reason": answer.reason[:REASON_CHARS],
        "citations": cast("list[Json]", [item[:100] for item in answer.citations[:CITATIONS]]),
        "usage": usage_json(usage),
        "spent": {day: usage_json(amount) for day, amount in spent.items()},
    }
    blobs = (scribe.log.put_blob(answer.text.encode("utf-8", "replace"), "text"),)
    return scribe.draft("run.finished", None, data, blobs=blobs, cause=(cause,))


def result_in(log: Log, entry: Entry) -> RunResult:
    """The result a `run.finished` holds; an erased text reads as empty.

    Raises:
        JournalError: its text is lost, and no one may take that for an empty one.
    """
    try:
        text = text_in(log, entry, "text")
    except JournalErasedError:
        text = ""
    return outcome_in(entry, text)


def outcome_in(entry: Entry, text: str) -> RunResult:
    """The result a `run.finished` holds, whose text is known."""
    data = entry.data
    citations = data.get("citations")
    return RunResult(
        status=cast("Status", str(data.get("status", ""))),
        text=text,
        citations=tuple(map(str, citations)) if isinstance(citations, list) else (),
        reason=str(data.get("reason", "")),
        run_id=entry.draft.run or "",
        usage=usage_from(data.get("usage")),
    )


def text_in(log: Log, entry: Entry, role: str) -> str:
    """The text of an entry's blob; empty where it has none. Raises as `Log.blob`."""
    refs = [ref for ref in entry.draft.blobs if ref.role == role]
    return log.blob(refs[0]).decode("utf-8", "replace") if refs else ""
