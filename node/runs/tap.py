"""The log as runs write to it: what is appended is also told to whoever keeps count of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from node.clock import Clock
from node.errors import JournalWriteError
from node.journal import BlobRef, Draft, Entry
from node.runs.survey import RunLog


class Tap:
    """Implements `RunLog` on another one.

    Args:
        told: called with entries once they are durable, in order; of the steps in one commit
            (one step, and the verdicts on it) with the last.
        failed: called when the log could not be written.
    """

    def __init__(
        self,
        log: RunLog,
        clock: Clock,
        *,
        told: Callable[[Entry], None],
        failed: Callable[[JournalWriteError], None],
    ) -> None:
        self._log = log
        self._clock = clock
        self._told = told
        self._failed = failed

    async def append(self, *drafts: Draft) -> tuple[int, ...]:
        try:
            indices = await self._log.append(*drafts)
        except JournalWriteError as error:
            self._failed(error)
            raise
        now = int(self._clock.wall() * 1000)
        for index, draft in zip(indices, drafts, strict=True):
            if draft is drafts[-1] or not draft.type.startswith("step."):
                self._told(Entry(index, now, "", 0, draft))
        return indices

    async def erase(self, blob: BlobRef | str, *, actor: str = "node") -> None:
        try:
            await self._log.erase(blob, actor=actor)
        except JournalWriteError as error:
            self._failed(error)
            raise

    def put_blob(self, content: bytes, role: str) -> BlobRef:
        return self._log.put_blob(content, role)

    def blob(self, ref: BlobRef | str) -> bytes:
        return self._log.blob(ref)

    def run_entries(self, run: str) -> list[Entry]:
        return self._log.run_entries(run)

    @property
    def size(self) -> int:
        return self._log.size

    def entry(self, index: int) -> Entry:
        return self._log.entry(index)

    def entries(
        self, start: int = 0, end: int | None = None, *, types: tuple[str, ...] = ()
    ) -> Iterable[Entry]:
        return self._log.entries(start, end, types=types)

    def newest(
        self, *types: str, agent: str | None = None, run: str | None = None
    ) -> Iterator[Entry]:
        return self._log.newest(*types, agent=agent, run=run)
