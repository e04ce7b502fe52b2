"""The agents of a node: the files in `agents/`, read again when asked.

A run keeps the manifest it started with, so a reload never changes work in progress. A file that
breaks takes only its own agent out: asking for that one says what is wrong with it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Literal, Protocol

from node.disk import listed
from node.errors import ManifestError
from node.runs.agent import AgentManifest
from node.runs.manifest import read_manifest


@dataclass(frozen=True)
class AgentChange:
    """What a reload found out about one agent. `digest` is empty where there is no manifest."""

    name: str
    change: Literal["added", "changed", "removed", "broken"]
    manifest: AgentManifest | None = None
    error: ManifestError | None = None

    @property
    def digest(self) -> str:
        return self.manifest.digest if self.manifest else ""


class Agents(Protocol):
    """Where manifests come from. `AgentRegistry` is the real one."""

    def get(self, name: str) -> AgentManifest:
        """The agent of that name, as of the last refresh. Raises ManifestError."""
        ...

    async def refresh(self) -> tuple[AgentChange, ...]:
        """Looks again; what changed since the last time. Raises ManifestError."""
        ...


class AgentRegistry:
    """Reads every `*.toml` in a folder; `check` may refuse a manifest that cannot work.

    Args:
        folder: `agents/` of the node's home; need not exist.
        check: raises ManifestError, for instance where a granted tool is not installed.
    """

    def __init__(
        self, folder: Path, *, check: Callable[[AgentManifest], None] | None = None
    ) -> None:
        self._folder = folder
        self._check = check
        self._agents: dict[str, AgentManifest] = {}
        self._broken: dict[str, ManifestError] = {}
        self._reading = asyncio.Lock()

    def get(self, name: str) -> AgentManifest:
        """The agent of that name, as of the last refresh.

        Raises:
            ManifestError: there is none, or its file is broken.
        """
        if name in self._agents:
            return self._agents[name]
        if name in self._broken:
            raise self._broken[name]
        known = sorted({*self._agents, *self._broken})
        near = get_close_matches(name, known, n=1)
        guess = f"Did you mean {near[0]}? " if near else ""
        raise ManifestError(
            f"there is no agent {name!r}",
            hint=f"{guess}Agents: {', '.join(known) or 'none'}. `freehold agent new` makes one.",
        )

    def list(self) -> tuple[AgentManifest, ...]:
        """The agents whose files are sound, by name."""
        return tuple(self._agents[name] for name in sorted(self._agents))

    def broken(self) -> Mapping[str, ManifestError]:
        """What is wrong with the others, by name."""
        return dict(sorted(self._broken.items()))

    async def refresh(self) -> tuple[AgentChange, ...]:
        """Reads the folder again and says what changed since the last time.

        Raises:
            ManifestError: the folder cannot be read; the agents stay what they were.
        """
        async with self._reading:  # who read before a file changed must not be done after
            agents, broken = await asyncio.to_thread(self._read_all)
            names = sorted({*agents, *broken, *self._agents, *self._broken})
            found = [self._change(name, agents.get(name), broken.get(name)) for name in names]
            self._agents, self._broken = agents, broken
        return tuple(change for change in found if change is not None)

    def _read_all(self) -> tuple[dict[str, AgentManifest], dict[str, ManifestError]]:
        agents: dict[str, AgentManifest] = {}
        broken: dict[str, ManifestError] = {}
        for path in self._paths():
            name = os.fsencode(path.stem).decode("utf-8", "backslashreplace")
            try:
                if name != path.stem:  # it could not be told in JSON, on the log for one
                    raise ManifestError(
                        f"the name of the file {name}.toml is not UTF-8", hint="Rename it."
                    )
                manifest = read_manifest(path)
                if self._check is not None:
                    self._check(manifest)
                agents[path.stem] = manifest
            except ManifestError as error:
                broken[name] = error
        return agents, broken

    def _paths(self) -> Sequence[Path]:
        try:
            return listed(self._folder, "[!.]*.toml")  # hidden ones are of editors
        except OSError as error:
            raise ManifestError(
                f"{self._folder} cannot be read: {error.strerror}",
                hint="Check who owns it, and how many files the node has open.",
            ) from error

    def _change(
        self, name: str, new: AgentManifest | None, error: ManifestError | None
    ) -> AgentChange | None:
        old = self._agents.get(name)
        was_broken = self._broken.get(name)
        if error is not None:
            same = was_broken is not None and was_broken.message == error.message
            return None if same else AgentChange(name, "broken", error=error)
        if new is None:
            return AgentChange(name, "removed")
        if old is None and was_broken is None:
            return AgentChange(name, "added", new)
        if old is None or old.digest != new.digest:
            return AgentChange(name, "changed", new)
        return None
