"""How a run ended, as its last entry keeps it. The text of the answer is a blob."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from node.errors import JournalError, JournalReadError
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
    """The result a `run.finished` holds; an erased text reads as empty."""
    data = entry.data
    citations = data.get("citations")
    return RunResult(
        status=cast("Status", data.get("status")),
        text=_text(log, entry),
        citations=tuple(map(str, citations)) if isinstance(citations, list) else (),
        reason=str(data.get("reason", "")),
        run_id=entry.draft.run or "",
        usage=usage_from(data.get("usage")),
    )


def _text(log: Log, entry: Entry) -> str:
    try:
        refs = [ref for ref in entry.draft.blobs if ref.role == "text"]
        return log.blob(refs[0]).decode() if refs else ""
    except JournalReadError:  # it has a text, and no one may take it for an empty one
        raise
    except JournalError:
        return ""
