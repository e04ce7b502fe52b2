"""One model's place in the engine: its runner, started when wanted, restarted when it died."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import fields
from typing import Any, Final

from node.errors import RunnerCrashedError
from node.inference import child
from node.inference.llama.limits import EngineLimits, default_threads
from node.inference.llama.process import RunnerProcess
from node.inference.llama.protocol import KEPT_SEQUENCES, PERSONS_MORE, Load
from node.inference.models.digests import CheckedFile
from node.inference.models.gguf_header import MAX_CONTEXT
from node.inference.models.memory import Room, fits, need
from node.inference.models.store import ModelStore
from node.inference.types import ModelStatus

SAVING_S: Final = 15.0
FIRST_DELAY_S: Final = 0.25
LONGEST_DELAY_S: Final = 30.0


class Slot:
    """One model's runner, started when it is needed."""

    checked: CheckedFile

    def __init__(
        self,
        name: str,
        store: ModelStore,
        limits: EngineLimits,
        *,
        make_room: Callable[[Slot, int], Awaitable[int]],
        make_way: Callable[[Slot, int, int], Awaitable[Room]],
        freed: Callable[[], None],
    ) -> None:
        self.users = 0
        self.used_at = 0.0
        self.wanted = ""  # the digest that the name is pinned to
        self._name = name
        self._make_room = make_room
        self._make_way = make_way
        self._freed = freed
        self._promised = 0  # bytes, while it is being loaded
        self._needed = 0  # bytes, of the model that was loaded last
        self.reserved = 0  # bytes of those found free, while it is being loaded
        self._crashes = self._crashes_in_a_row = 0
        self._store = store
        self._limits = limits
        self._runner: RunnerProcess | None = None
        self._starting: asyncio.Task[RunnerProcess] | None = None
        self._idle: asyncio.TimerHandle | None = None
        self._closing: asyncio.Task[None] | None = None
        self._ending = asyncio.Lock()

    @property
    def pid(self) -> int | None:
        return self._runner.pid if self._runner is not None and self._runner.alive else None

    @property
    def memory_bytes(self) -> int:
        """What the runner's process takes, the weights it has mapped included, or will take."""
        return self._promised if self.pid is None else child.resident_bytes(self.pid)

    @property
    def held_bytes(self) -> int:
        """As `memory_bytes`, but nothing while memory to load it in is still waited for."""
        return self.reserved if self.pid is None else self.memory_bytes

    @property
    def mapped_bytes(self) -> int:
        """What of it the kernel says is available all the same, though it is read again and again:
        the mapped weights, but for those that libllama has made copies of."""
        if self.pid is None:
            return 0
        mapped = child.mapped_bytes(self.pid)
        return max(0, min(mapped, self._needed - (self.memory_bytes - mapped)))

    @contextlib.contextmanager
    def using(self) -> Iterator[None]:
        """While this is held, the model is not unloaded for another one or for being idle."""
        self._stop_idle()
        self.users += 1
        try:
            yield
        finally:
            self.users -= 1
            self.used_at = time.monotonic()
            if not self.users:
                self._freed()
                self._count_idle()

    def succeeded(self) -> None:
        """Says that the runner has done its work: its next crash is a first one."""
        self._crashes_in_a_row = 0

    def status(self) -> ModelStatus | None:
        """The model at work; None where it is not loaded."""
        runner = self._runner
        if runner is None or not runner.alive:
            return None
        kinds = {field.name: field.type for field in fields(ModelStatus)}
        said: dict[str, Any] = {
            key: value if kinds[key] == "float" else int(value)
            for key, value in runner.stats.items()
            if key in kinds
        }
        known = {
            "model": self._name,
            "pid": runner.pid,
            "crashes": self._crashes,
            "rss_bytes": self.memory_bytes,
        }
        sizes = {"context_tokens": runner.context_tokens, "kv_tokens": runner.kv_tokens}
        return ModelStatus(**{**sizes, **said, **known})

    async def running(self) -> RunnerProcess:
        """The runner, started if there is none or the last one died; one start for all who wait.

        Where another model took the name it is ended, once nobody is in the middle of an answer.
        """
        if self._runner is not None and self._runner.alive:
            if self.users > 1 or self.checked.pin.sha256 == self.wanted:
                return self._runner
            await self._end()
        if self._starting is None or self._starting.done():
            self._starting = asyncio.create_task(self._start())
            self._starting.add_done_callback(_look_at)
        starting = self._starting
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            if not starting.cancelled():
                raise
            raise RunnerCrashedError(
                f"the model {self._name} was unloaded while it was being loaded",
                hint="Trying again is safe.",
            ) from None

    def _count_idle(self) -> None:
        if self._limits.idle_unload_s is not None:
            loop = asyncio.get_running_loop()
            self._idle = loop.call_later(self._limits.idle_unload_s, self.unload_idle)

    async def forget(self) -> None:
        """Has the runner drop what it keeps; waits for one that is writing it down to end."""
        async with self._ending:
            if self._runner is not None:
                with contextlib.suppress(RunnerCrashedError):  # then it keeps nothing
                    await self._runner.forget()

    async def aclose(self, *, idle: bool = False) -> None:
        """Ends the runner, or its start; where it is to be `idle`, unless somebody has begun to use
        it meanwhile."""
        if idle and self.users:
            return
        self._stop_idle()
        if self._starting is not None and not self._starting.done():
            self._starting.cancel()
            await asyncio.wait([self._starting])
        await self._end(idle=idle)

    async def _start(self) -> RunnerProcess:
        if self._runner is not None:
            self._crashed()
        await self._end()
        await asyncio.sleep(self._delay_s())
        self.checked = await asyncio.to_thread(self._store.check, self._name)
        self._promised = await self._make_room(self, self.checked.pin.size)
        try:
            return await self._load()
        finally:
            self._promised = self.reserved = 0
            self._freed()

    async def _load(self) -> RunnerProcess:
        kept = await self._check_fits()
        load = Load(
            path=str(self.checked.path),
            sha256=self.checked.pin.sha256,
            identity=self.checked.identity,
            context_tokens=self._limits.context_tokens,
            threads=self._limits.threads or default_threads(self.checked.pin.size),
            reuse=self._limits.reuse_prefix,
            max_running=self._limits.max_running,
            kept_sequences=kept,
            kv_tokens=self._limits.kv_tokens,
            state_folder=str(self._limits.state_folder or ""),
            state_bytes=self._limits.state_bytes,
        )
        try:
            self._runner = await RunnerProcess.start(
                load,
                name=self._name,
                max_waiting=self._limits.max_waiting,
                load_s=self._limits.load_s,
                silent_s=self._limits.silent_s,
            )
        except RunnerCrashedError:
            self._crashed()
            raise
        self._runner.at_end(self._freed)
        return self._runner

    async def _check_fits(self) -> int:
        """Refuses, with the numbers, what memory cannot hold once idle models have made way.

        Returns how many sequences may be kept beside those under way: recurrent models have a state
        of fixed size for each, which can be more than their weights.
        """
        header = await asyncio.to_thread(self._store.header, self._name)
        context = min(self._limits.context_tokens, header.context_tokens or MAX_CONTEXT)
        cells = self._limits.kv_tokens or context
        running = self._limits.max_running + PERSONS_MORE
        needs = [
            (kept, need(header, context_tokens=cells, sequences=running + kept).total)
            for kept in (KEPT_SEQUENCES, KEPT_SEQUENCES // 4, 0)
        ]
        have = await self._make_way(self, needs[0][1], needs[-1][1])
        least = fits(self._name, header, context_tokens=cells, sequences=running, have=have)
        self._needed = self.reserved = least.total
        return next((kept for kept, wanted in needs if wanted <= have.free), 0)

    def _crashed(self) -> None:
        self._crashes += 1
        self._crashes_in_a_row += 1

    def _delay_s(self) -> float:
        """Nothing after a first crash; then twice as long each time it dies without any work."""
        if self._crashes_in_a_row < 2:
            return 0.0
        return min(FIRST_DELAY_S * 2.0 ** (self._crashes_in_a_row - 2), LONGEST_DELAY_S)

    async def _end(self, *, idle: bool = False) -> None:
        async with self._ending:
            if self._runner is not None and not (idle and self.users):
                runner, self._runner = self._runner, None
                keeps = self._limits.state_folder is not None and runner.alive
                await runner.aclose(grace_s=SAVING_S if keeps else 0.0)

    def _stop_idle(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None

    def unload_idle(self) -> None:
        """Begins to end the runner, unless somebody uses it."""
        if self._runner is not None and not self.users:
            self._closing = asyncio.create_task(self.aclose(idle=True))


def _look_at(task: asyncio.Task[RunnerProcess]) -> None:
    """Takes the outcome, so that one nobody waits for any more is not reported as lost."""
    if not task.cancelled():
        task.exception()
