"""What the log says of each agent's manifest, so that only a real change is written again.

A daemon that starts finds all manifests new to it; the log remembers which of them it has seen.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from node.errors import ManifestError
from node.journal import Draft, Entry
from node.runs.registry import AgentChange, Agents
from node.runs.survey import RunLog
from node.types import JsonObject

CHANGED = "agent.changed"
_ERROR_CHARS = 500


@dataclass(frozen=True)
class _Known:
    """How an agent last was: its manifest's digest, what was wrong with it, or neither: gone."""

    digest: str = ""
    error: str = ""

    @property
    def gone(self) -> bool:
        return not (self.digest or self.error)


class AgentLog:
    """The agents as the log has them; `add` keeps it up to date."""

    def __init__(self, log: RunLog) -> None:
        self._log = log
        self._known: dict[str, _Known] | None = None

    def drafts(self, changes: Iterable[AgentChange], agents: Agents) -> list[Draft]:
        """`agent.changed` for what differs from the log; also what went while nobody looked."""
        found = {change.name: change for change in changes}
        if self._known is None:  # a first look: the registry does not know what there was before
            for name, known in self._read().items():
                if name not in found and not known.gone and _is_gone(agents, name):
                    found[name] = AgentChange(name, "removed")
        return [draft for _, change in sorted(found.items()) for draft in self._draft(change)]

    def add(self, entry: Entry) -> None:
        """Takes in an entry of the log, once it is durable."""
        if entry.type == CHANGED and self._known is not None:
            self._known[entry.draft.agent or ""] = _known(entry)

    def _draft(self, change: AgentChange) -> list[Draft]:
        now = _Known(change.digest, change.error.message[:_ERROR_CHARS] if change.error else "")
        before = self._read().get(change.name, _Known())
        if now == before:
            return []
        word = "changed" if change.change == "added" and not before.gone else change.change
        data: JsonObject = {"change": word, "digest": now.digest}
        if now.error:
            data["error"] = now.error
        return [Draft(CHANGED, agent=change.name, data=data)]

    def _read(self) -> dict[str, _Known]:
        if self._known is None:
            self._known = {}
            for entry in self._log.newest(CHANGED):
                self._known.setdefault(entry.draft.agent or "", _known(entry))
        return self._known


def _known(entry: Entry) -> _Known:
    return _Known(str(entry.data.get("digest") or ""), str(entry.data.get("error") or ""))


def _is_gone(agents: Agents, name: str) -> bool:
    try:
        agents.get(name)
    except ManifestError:
        return True
    return False
