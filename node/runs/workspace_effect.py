"""Keeping what a run changed in its agent's workspace, as an effect: one commit for one key."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from node.runs.effect import Needs, Outcome, StepKind, Usage
from node.runs.workspace_history import Version
from node.types import Json

if TYPE_CHECKING:
    from node.runs.workspace import Workspaces

_SHOWN_PATHS = 100


@dataclass(frozen=True)
class Commit:
    """Keeps what a run changed in its agent's workspace."""

    workspaces: Workspaces = field(repr=False)
    agent: str
    run: str
    note: str
    noted: bool = field(default=False, repr=False)

    kind = StepKind.WORKSPACE
    name = "commit"
    needs = Needs(usage=Usage(seconds=60.0))

    @property
    def args(self) -> Json:
        return {"agent": self.agent, "note": self.note}

    async def perform(self, key: str) -> Outcome:
        """Raises WorkspaceError where there is no keeping them."""
        keep = self.workspaces.keep
        return _outcome(
            await keep(self.agent, run=self.run, key=key, note=self.note, noted=self.noted)
        )

    async def settle(self, key: str) -> Outcome | None:
        found = await self.workspaces.find(self.agent, key)
        return _outcome(found) if found else None


def _outcome(version: Version | None) -> Outcome:
    if version is None:
        return Outcome(ok=True, value={"commit": None, "changed": [], "count": 0})
    paths: list[Json] = [*version.changed[:_SHOWN_PATHS]]
    return Outcome(
        ok=True, value={"commit": version.id, "changed": paths, "count": len(version.changed)}
    )
