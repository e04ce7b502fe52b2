"""A run as a tree of steps: a projection of its entries, with nothing of its own to store.

A step's path says where it belongs: `3.researcher.1` is the first step of the branch `researcher`
that step 3 opened, `2.answer.citation` the verdict of a guard on step 2.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import cast

from node.errors import JournalError
from node.journal import Entry, Log
from node.types import Json, JsonObject

TEXT_MAX = 4_000
_JSON = frozenset({"args", "value"})


def trace(log: Log, run_id: str) -> JsonObject:
    """The run's tree; `{}` if the log has no such run. Content that was erased is null."""
    entries = log.run_entries(run_id)
    if not entries:
        return {}
    steps = _steps(log, entries)
    top: JsonObject = {
        "run": run_id,
        "agent": entries[0].draft.agent,
        "prompt": _content(log, entries[0], "prompt"),
        "status": "unfinished",
        "started": entries[0].ts / 1000,
        "seconds": (entries[-1].ts - entries[0].ts) / 1000,
        "entries": len(entries),
        "events": cast("Json", [_event(entry) for entry in entries if _is_event(entry)]),
        "steps": cast("Json", _nest(steps)),
    }
    for entry in entries:
        if entry.type == "run.finished":
            top |= {"status": entry.data.get("status"), "reason": entry.data.get("reason")}
            top |= {"text": _content(log, entry, "text"), "usage": entry.data.get("usage")}
    return top


def _steps(log: Log, entries: Iterable[Entry]) -> dict[str, JsonObject]:
    """One node a step, in the order of their intents."""
    steps: dict[str, JsonObject] = {}
    for entry in entries:
        path = entry.draft.path
        if path is None:
            continue
        if entry.type == "step.intent":
            steps.setdefault(path, _intent(log, entry))
        elif entry.type == "step.result" and path in steps:
            steps[path] |= _result(log, entry)
    return steps


def _intent(log: Log, entry: Entry) -> JsonObject:
    policy = entry.draft.policy
    return {
        "path": entry.draft.path,
        "kind": entry.data.get("kind"),
        "name": entry.data.get("name"),
        "index": entry.index,
        "started": entry.ts / 1000,
        "policy": None if policy is None else {"rule": policy.rule, "verdict": policy.verdict},
        "args": _content(log, entry, "args"),
        "ok": None,
    }


def _result(log: Log, entry: Entry) -> JsonObject:
    """What the step came to. The time is the effect's own where it said one."""
    return {
        "ok": entry.data.get("ok"),
        "seconds": entry.data.get("seconds"),
        "usage": entry.data.get("usage"),
        "labels": entry.data.get("labels") or [],
        "error": entry.data.get("error"),
        "value": _content(log, entry, "value"),
    }


def _nest(steps: dict[str, JsonObject]) -> list[JsonObject]:
    """Puts each step under the nearest step that its path begins with."""
    top: list[JsonObject] = []
    for path, step in steps.items():
        above = _above(path, steps)
        if above is None:
            top.append(step)
        else:
            cast("list[JsonObject]", above.setdefault("steps", [])).append(step)
    return top


def _above(path: str, steps: dict[str, JsonObject]) -> JsonObject | None:
    while "." in path:
        path = path.rpartition(".")[0]
        if path in steps:
            return steps[path]
    return None


def _is_event(entry: Entry) -> bool:
    return entry.type.startswith(("approval.", "run.")) and entry.type != "run.finished"


def _event(entry: Entry) -> JsonObject:
    return {
        "index": entry.index,
        "type": entry.type,
        "path": entry.draft.path,
        "actor": entry.draft.actor,
        "at": entry.ts / 1000,
        "data": entry.data,
    }


def _content(log: Log, entry: Entry, role: str) -> Json:
    """What the entry holds as `role`, inline or as a blob; null if it was erased or never was.

    Text over 4,000 characters is cut: a trace is read by people, `audit show --blob` has it all.
    """
    if role in entry.data:
        return entry.data[role]
    for ref in entry.draft.blobs:
        if ref.role == role:
            try:
                return _shown(log.blob(ref), is_json=role in _JSON)
            except JournalError:
                return None
    return None


def _shown(raw: bytes, *, is_json: bool) -> Json:
    """Text as it is, and JSON as what it says where it can be said."""
    text = raw.decode(errors="replace")
    if len(text) > TEXT_MAX:
        return text[:TEXT_MAX] + f"… ({len(text)} characters)"
    try:
        value = json.loads(text) if is_json else text
        json.dumps(value, allow_nan=False)
    except (ValueError, RecursionError):
        return text
    return cast("Json", value)
