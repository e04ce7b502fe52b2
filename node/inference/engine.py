"""The local engine: a client of one runner process a model.

The first request for a model checks its file against its pin and starts its runner; a runner that
died is started afresh by the next request, later and later if it dies again and again. What runs on
one model is decoded together, in the runner. Where all models do not fit the memory they may have,
the one unused longest is unloaded for the one that is wanted.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import replace
from typing import Final

from node.errors import InferenceError, ModelError, RunnerCrashedError
from node.inference.llama.limits import EngineLimits
from node.inference.llama.slot import Slot
from node.inference.llama.state_files import clear
from node.inference.models.memory import Room, room
from node.inference.models.store import ModelStore
from node.inference.types import Generation, ModelInfo, ModelStatus, Token

_LOOK_AGAIN_S: Final = 2.0
RUNNER_BYTES: Final = 128 * 1024 * 1024  # besides the weights, for a small context


class LlamaEngine:
    """Runs GGUF models by llama.cpp. Implements `Engine`.

    Use `aclosing(engine.generate(...))` where the stream may be left early: a generator that is
    only dropped cancels when the event loop gets to it.

    Attributes:
        beside: say how many bytes other processes with models take now, under the same cap; whoever
            starts one calls `make_room` before (`LlamaEmbedder` does).
    """

    def __init__(self, store: ModelStore, *, limits: EngineLimits | None = None) -> None:
        self.beside: list[Callable[[], int]] = []
        self._store = store
        self._limits = limits or EngineLimits()
        self._slots: dict[str, Slot] = {}
        self._unloading = asyncio.Lock()
        self._freed = asyncio.Event()  # somebody left a model, or one is no more

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
        with slot.using():
            runner = await slot.running()
            async with aclosing(runner.generate(request)) as tokens:
                async for token in tokens:
                    if token.finish is not None:
                        slot.succeeded()
                    yield token

    async def count(self, request: Generation) -> int:
        """Prompt tokens of the request, exactly as `generate` would evaluate it.

        Where the process dies of what another generation does, they are counted once more.

        Raises:
            ModelError, TemplateError, RunnerCrashedError: as `generate`.
        """
        slot = self._slot(request.model)
        with slot.using():
            try:
                return await (await slot.running()).count(request)
            except RunnerCrashedError:
                return await (await slot.running()).count(request)

    async def info(self, model: str) -> ModelInfo:
        """The model's digest and real context length; loads it.

        Raises:
            ModelError, RunnerCrashedError: it cannot be loaded.
        """
        slot = self._slot(model)
        with slot.using():
            runner = await slot.running()
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

    async def forget(self) -> None:
        """Drops every context that is kept for later, in memory and on disk; work goes on.

        Raises:
            InferenceError: files of them could not be removed.
        """
        await asyncio.gather(*(slot.forget() for slot in self._slots.values()))
        folder = self._limits.state_folder
        if folder is None:
            return
        try:
            await asyncio.to_thread(clear, folder)
        except OSError as error:
            raise InferenceError(
                f"what models keep of conversations in {folder} cannot be removed: "
                f"{error.strerror}",
                hint="Remove the files in that folder; they are a cache.",
            ) from error

    def loaded(self) -> dict[str, int]:
        """Process id of each loaded model's runner."""
        return {name: slot.pid for name, slot in self._slots.items() if slot.pid is not None}

    def metrics(self) -> list[ModelStatus]:
        """Each loaded model at work, as its runner last said: at most half a second ago."""
        found = [slot.status() for slot in self._slots.values()]
        return [status for status in found if status is not None]

    async def aclose(self) -> None:
        """Ends all runners and gives their memory back."""
        await asyncio.gather(*(slot.aclose() for slot in self._slots.values()))

    def _slot(self, model: str) -> Slot:
        pins = {pin.name: pin for pin in self._store.list()}
        for name in self._slots.keys() - pins.keys():  # removed: memory and disk are to be free
            self._slots[name].unload_idle()
        pin = pins.get(model) or self._store.get(model)
        slot = self._slots.setdefault(
            model,
            Slot(
                model,
                self._store,
                self._limits,
                make_room=self._make_room,
                make_way=self._make_way,
                freed=self._freed.set,
            ),
        )
        slot.wanted = pin.sha256
        return slot

    async def make_room(self, size_bytes: int) -> int:
        """Unloads what is unused longest until another engine's model fits under the cap.

        Returns the bytes that `beside` is to count until the model is loaded.

        Raises:
            ModelError: it would not fit with nothing else loaded.
        """
        return await self._make_room(None, size_bytes)

    async def _make_room(self, slot: Slot | None, size_bytes: int) -> int:
        """Returns what the model counts until it is loaded, so that two see each other load."""
        cap = self._limits.memory_bytes
        wanted = size_bytes + RUNNER_BYTES
        while cap is not None:
            async with self._unloading:
                while self._lacks(slot, wanted, cap) and (idle := self._idle(slot)):
                    await _unused_longest(idle).aclose(idle=True)
            if not self._lacks(slot, wanted, cap):
                break
            self._freed.clear()
            await self._freed.wait()
        return wanted

    def _lacks(self, slot: Slot | None, wanted: int, cap: int) -> bool:
        """Whether a model does not fit beside those that are loaded."""
        beside = sum(taken() for taken in self.beside)
        if wanted + beside > cap:
            raise ModelError(
                f"a model of {wanted - RUNNER_BYTES:,} bytes needs about {wanted:,} bytes of "
                f"memory; models may take {cap:,} together"
                + (f", of which embedding models take {beside:,}" if beside else ""),
                hint="Raise models.memory_mb, or use a smaller model.",
            )
        others = (other.memory_bytes for other in self._slots.values() if other is not slot)
        return wanted + beside + sum(others) > cap

    async def _make_way(self, slot: Slot, wanted: int, least: int) -> Room:
        """Unloads idle models, unused longest first, while so many bytes are not free; one that is
        in use or being loaded is waited for while the least is not. Returns what is free then."""
        while True:
            async with self._unloading:
                while (have := await self._room(slot)).free < wanted and (idle := self._idle(slot)):
                    await _unused_longest(idle).aclose(idle=True)
            others = (other for other in self._slots.values() if other is not slot)
            taken = sum(other.held_bytes for other in others)
            if not have.free < least <= have.free + taken:
                return have
            with contextlib.suppress(TimeoutError):  # memory is freed by other programs, too
                self._freed.clear()
                async with asyncio.timeout(_LOOK_AGAIN_S):  # `wait_for` can swallow a cancel
                    await self._freed.wait()

    async def _room(self, slot: Slot) -> Room:
        """What is free beside the other models: those that are loaded, and those that will be."""
        others = [other for other in self._slots.values() if other is not slot]
        mapped = sum(other.mapped_bytes for other in others)
        have = await asyncio.to_thread(room, mapped=mapped)
        return replace(have, free=max(0, have.free - sum(other.reserved for other in others)))

    def _idle(self, spare: Slot | None) -> list[Slot]:
        loaded = [slot for slot in self._slots.values() if slot.memory_bytes and slot is not spare]
        return [slot for slot in loaded if not slot.users]


def _unused_longest(slots: list[Slot]) -> Slot:
    return min(slots, key=lambda slot: slot.used_at)
