"""What watchers see of a run while it goes on: its entries, and the tokens in between.

A watcher reads from a bounded ring at its own pace and never holds a run up. What fell out of the
ring, or happened before this process started, is read from the log again; only tokens are lost.
Ids grow: an event that has an entry is `(index + 1) << 20`, one that has none follows the last.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace

from node.journal import Draft, Entry, PolicyVerdict
from node.runs.effect import STAGES
from node.runs.program import RunEvent
from node.types import Json, JsonObject

RING = 1024
SHIFT = 20
Entries = Callable[[], list[Entry]]


class Stream:
    """The events of one run.

    Args:
        entries: reads the run's part of the log.
        before: the index of the run's last entry before this process, or -1.
        size: how many events are kept in memory.
    """

    def __init__(self, entries: Entries, *, before: int = -1, size: int = RING) -> None:
        self._entries = entries
        self._ring: deque[RunEvent] = deque(maxlen=size)
        self._last = self._dropped = event_id(before)
        self._news = asyncio.Event()
        self._closed = False
        self._watchers = 0

    @property
    def watched(self) -> bool:
        """Whether someone watches right now."""
        return self._watchers > 0

    def emit(self, event: RunEvent, *, index: int | None = None) -> None:
        """Shows an event to all watchers. `index` is that of its entry, if it has one."""
        following = self._last + 1
        self._last = following if index is None else max(event_id(index), following)
        if len(self._ring) == self._ring.maxlen:
            self._dropped = self._ring[0].id
        self._ring.append(RunEvent(event.type, event.data, self._last))
        self._wake()

    def close(self) -> None:
        """Ends every watch once it has seen what there is."""
        self._closed = True
        self._wake()

    async def watch(self, after: int = 0) -> AsyncGenerator[RunEvent, None]:
        """All events with an id above `after`, until the run ends or is parked."""
        self._watchers += 1
        try:
            while True:
                news = self._news
                for event in self._above(after):
                    after = event.id
                    yield event
                if self._closed and self._last <= after:
                    return
                if news is self._news:
                    await news.wait()
        finally:
            self._watchers -= 1

    def _above(self, after: int) -> list[RunEvent]:
        ring = [event for event in self._ring if event.id > after]
        return self._read_again(after) + ring if after < self._dropped else ring

    def _read_again(self, after: int) -> list[RunEvent]:
        events = (event_of(entry) for entry in self._entries())
        return [event for event in events if event and after < event.id <= self._dropped]

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()


def event_id(index: int) -> int:
    """The id of the event that shows entry `index`."""
    return (index + 1) << SHIFT


def event_of(entry: Entry) -> RunEvent | None:
    """An entry as watchers see it; None for what they are not shown."""
    verdict = verdict_of(entry.draft)
    if verdict is not None:
        return replace(verdict, id=event_id(entry.index))
    shape = None if _is_verdict(entry.draft) else _SHOWN.get(entry.type)
    return RunEvent(entry.type, shape(entry), event_id(entry.index)) if shape else None


def verdict_of(draft: Draft) -> RunEvent | None:
    """A guard's verdict as watchers see it; a plain pass is not shown."""
    value = draft.data.get("value")
    if not isinstance(value, dict) or value.get("verdict") in (None, "pass"):
        return None
    if draft.type != "step.result" or not _is_verdict(draft):
        return None
    step, stage, guard = (draft.path or "").rsplit(".", 2)
    data: JsonObject = {"path": step, "stage": stage, "guard": guard, **value}
    return RunEvent("guard", data)


def _is_verdict(draft: Draft) -> bool:
    """Whether it is a step under a step, by the stage in its path."""
    parts = (draft.path or "").rsplit(".", 2)
    return draft.type.startswith("step.") and len(parts) == 3 and parts[1] in STAGES


def _started(entry: Entry) -> JsonObject:
    return {"run": entry.draft.run, "agent": entry.draft.agent}


def intent_shape(
    path: str | None, kind: Json, name: Json, policy: PolicyVerdict | None
) -> JsonObject:
    """A `step.intent` as watchers see it."""
    return {
        "path": path,
        "kind": kind,
        "name": name,
        "rule": policy.rule if policy else None,
        "verdict": policy.verdict if policy else None,
    }


def _intent(entry: Entry) -> JsonObject:
    draft, data = entry.draft, entry.data
    return intent_shape(draft.path, data.get("kind"), data.get("name"), draft.policy)


def result_shape(result: Draft) -> JsonObject:
    """A `step.result` as watchers see it."""
    seconds, error = result.data.get("seconds"), result.data.get("error")
    return {
        "path": result.path,
        "ok": result.data.get("ok"),
        "ms": round(float(seconds) * 1000, 3) if isinstance(seconds, int | float) else None,
        "usage": result.data.get("usage"),
        "error": error.get("message") if isinstance(error, dict) else None,
    }


def _plain(entry: Entry) -> JsonObject:
    return dict(entry.data)


_SHOWN: dict[str, Callable[[Entry], JsonObject]] = {
    "run.started": _started,
    "run.resumed": _plain,
    "run.parked": _plain,
    "run.finished": _plain,
    "step.intent": _intent,
    "step.result": lambda entry: result_shape(entry.draft),
    "approval.asked": _plain,
    "approval.settled": _plain,
}
