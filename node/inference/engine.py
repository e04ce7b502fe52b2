"""The local engine: a client of one runner process a model.

The first request for a model checks its file against its pin and starts its runner; a runner that
died is started afresh by the next request, later and later if it dies again and again. What runs on
one model is decoded together, in the runner. Where all models do not fit the memory they may have,
the one unused longest is unloaded for the one that is wanted.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from node.errors import RunnerCrashedError
from node.inference.process import RunnerProcess
from node.inference.protocol import Load
from node.inference.store import CheckedFile, ModelStore
from node.inference.types import Generation, ModelInfo, Token

SMALL_MODEL_BYTES: Final = 64 * 1024 * 1024
SAVING_S: Final = 15.0


@dataclass(frozen=True)
class EngineLimits:
    """Bounds of the local engine.

    Attributes:
        context_tokens: the most context given to a model, whatever it was trained for.
        max_running: generations that one model decodes at once; a person's may be two more.
        max_waiting: generations that may wait for one model before it answers "busy".
        kv_tokens: cells of one model's KV cache, for all its sequences; 0 lets the runner choose:
            two contexts, less where memory is short, never under one.
        idle_unload_s: a model unused for this long is unloaded; None keeps it.
        threads: of one runner; None is one for small models and the physical cores for others.
        reuse_prefix: begin where another sequence has been; off only to show what it saves.
        state_folder: where sequences are kept when they must leave memory; None loses them.
        state_bytes: the most that folder may hold.
        memory_bytes: what all loaded models together may take; None is no cap.
    """

    context_tokens: int = 16_384
    max_running: int = 8
    max_waiting: int = 32
    idle_unload_s: float | None = None
    threads: int | None = None
    reuse_prefix: bool = True
    kv_tokens: int = 0
    state_folder: Path | None = None
    state_bytes: int = 2 * 1024**3
    memory_bytes: int | None = None


class LlamaEngine:
    """Runs GGUF models by llama.cpp. Implements `Engine`.

    Use `aclosing(engine.generate(...))` where the stream may be left early: a generator that is
    only dropped cancels when the event loop gets to it.
    """

    def __init__(self, store: ModelStore, *, limits: EngineLimits | None = None) -> None:
        self._store = store
        self._limits = limits or EngineLimits()
        self._slots: dict[str, _Slot] = {}

    async def generate(self, request: Generation) -> AsyncGenerator[Token, None]:
        """Streams tokens; closing the iterator cancels within 50 ms.

        Raises:
            ModelError: the model is unknown, changed or cannot be loaded.
            ContextOverflowError: the prompt does not fit, with the sizes.
            GrammarError: a tool's schema cannot be made into a grammar.
            TemplateError: the model's chat template refuses the conversation.
            EngineBusyError: too many generations wait for this model.
            RunnerCrashedError: the process died; the request may be tried again.
        """
        slot = self._slot(request.model)
        runner = await slot.running()
        try:
            async with aclosing(runner.generate(request)) as tokens:
                async for token in tokens:
                    yield token
        finally:
            slot.used()

    async def count(self, request: Generation) -> int:
        """Prompt tokens of the request, exactly as `generate` would evaluate it.

        Raises:
            ModelError, TemplateError, RunnerCrashedError: as `generate`.
        """
        slot = self._slot(request.model)
        try:
            return await (await slot.running()).count(request)
        finally:
            slot.used()

    async def info(self, model: str) -> ModelInfo:
        """The model's digest and real context length; loads it.

        Raises:
            ModelError, RunnerCrashedError: it cannot be loaded.
        """
        slot = self._slot(model)
        runner = await slot.running()
        slot.used()
        pin = slot.checked.pin
        return ModelInfo(
            name=model,
            sha256=pin.sha256,
            path=str(slot.checked.path),
            size_bytes=pin.size,
            context_tokens=runner.context_tokens,
            architecture=runner.architecture,
        )

    async def preload(self, model: str) -> None:
        """Loads a model before it is asked for.

        Raises:
            ModelError, RunnerCrashedError: it cannot be loaded.
        """
        await self.info(model)

    async def unload(self, model: str) -> None:
        """Ends a model's runner and gives its memory back; what runs on it fails as a crash."""
        if model in self._slots:
            await self._slots[model].aclose()

    def loaded(self) -> dict[str, int]:
        """Process id of each loaded model's runner."""
        return {name: slot.pid for name, slot in self._slots.items() if slot.pid is not None}

    async def aclose(self) -> None:
        """Ends all runners and gives their memory back."""
        await asyncio.gather(*(slot.aclose() for slot in self._slots.values()))

    def _slot(self, model: str) -> _Slot:
        self._store.get(model)
        return self._slots.setdefault(model, _Slot(model, self._store, self._limits))


class _Slot:
    """One model's runner, started when it is needed."""

    checked: CheckedFile

    def __init__(self, name: str, store: ModelStore, limits: EngineLimits) -> None:
        self._name = name
        self._store = store
        self._limits = limits
        self._runner: RunnerProcess | None = None
        self._starting: asyncio.Task[RunnerProcess] | None = None
        self._idle: asyncio.TimerHandle | None = None
        self._closing: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        return self._runner.pid if self._runner is not None and self._runner.alive else None

    async def running(self) -> RunnerProcess:
        """The runner, started if there is none or the last one died; one start for all who wait."""
        self._stop_idle()
        if self._runner is not None and self._runner.alive:
            return self._runner
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

    def used(self) -> None:
        """Starts counting idle time."""
        self._stop_idle()
        if self._limits.idle_unload_s is not None:
            loop = asyncio.get_running_loop()
            self._idle = loop.call_later(self._limits.idle_unload_s, self._unload_idle)

    async def aclose(self) -> None:
        self._stop_idle()
        if self._starting is not None and not self._starting.done():
            self._starting.cancel()
            await asyncio.wait([self._starting])
        await self._end()

    async def _start(self) -> RunnerProcess:
        await self._end()
        self.checked = await asyncio.to_thread(self._store.check, self._name)
        load = Load(
            path=str(self.checked.path),
            sha256=self.checked.pin.sha256,
            identity=self.checked.identity,
            context_tokens=self._limits.context_tokens,
            threads=self._limits.threads or default_threads(self.checked.pin.size),
            reuse=self._limits.reuse_prefix,
            max_running=self._limits.max_running,
            kv_tokens=self._limits.kv_tokens,
            state_folder=str(self._limits.state_folder or ""),
            state_bytes=self._limits.state_bytes,
        )
        self._runner = await RunnerProcess.start(
            load, name=self._name, max_waiting=self._limits.max_waiting
        )
        return self._runner

    async def _end(self) -> None:
        if self._runner is not None:
            runner, self._runner = self._runner, None
            keeps = self._limits.state_folder is not None and runner.alive
            await runner.aclose(grace_s=SAVING_S if keeps else 0.0)

    def _stop_idle(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None

    def _unload_idle(self) -> None:
        if self._runner is not None and not self._runner.pending:
            self._closing = asyncio.create_task(self.aclose())


def _look_at(task: asyncio.Task[RunnerProcess]) -> None:
    """Takes the outcome, so that one nobody waits for any more is not reported as lost."""
    if not task.cancelled():
        task.exception()


def default_threads(size_bytes: int) -> int:
    """Threads for a model of this size: one where the work a token is too small to share."""
    if size_bytes < SMALL_MODEL_BYTES:
        return 1
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    physical = psutil.cpu_count(logical=False) or 1
    return min(physical, allowed or physical)
