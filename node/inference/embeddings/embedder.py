"""Vectors of texts, and ranks: a client of one runner process an embedding model.

For retrieval. Beside the engine and not in it, because nothing is shared but the file store: texts
are evaluated whole, in order, and forgotten. A request is sent in parts, so that one who waits or
gives up waits for a part and not for a library; a process that died is started afresh by the next.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Final, Literal

import numpy as np

from node.inference import child
from node.inference.embeddings.load import EmbeddingLoad
from node.inference.embeddings.process import EmbeddingProcess
from node.inference.engine import LlamaEngine
from node.inference.llama import protocol
from node.inference.llama.limits import default_threads
from node.inference.llama.protocol import Frame
from node.inference.models.digests import CheckedFile
from node.inference.models.store import ModelStore
from node.inference.types import EmbedderInfo, Vectors

Pooling = Literal["", "mean", "cls", "last", "rank"]

_PART_TEXTS: Final = 32
_MOST_DIMENSIONS: Final = 1 << 20


@dataclass(frozen=True)
class EmbedderLimits:
    """Bounds of the local embedder.

    Attributes:
        context_tokens: the longest text, whatever the model was trained for.
        threads: of one runner; None as the engine chooses.
        pooling: for models that do not say it; "" takes only those that do.
    """

    context_tokens: int = 2048
    threads: int | None = None
    pooling: Pooling = ""


class LlamaEmbedder:
    """Runs GGUF embedding models and rerankers by llama.cpp. Implements `Embedder`.

    Args:
        beside: an engine whose cap on memory holds for these models too.
    """

    def __init__(
        self,
        store: ModelStore,
        *,
        limits: EmbedderLimits | None = None,
        beside: LlamaEngine | None = None,
    ) -> None:
        self._store = store
        self._limits = limits or EmbedderLimits()
        self._beside = beside
        if beside is not None:
            beside.beside.append(self.memory_bytes)
        self._runners: dict[str, _Runner] = {}

    async def embed(self, model: str, texts: Sequence[str]) -> Vectors:
        """A row for each text, of length 1.

        Raises:
            ModelError: the model is unknown, changed, cannot be loaded, or is a reranker.
            ContextOverflowError: a text is too long; none is cut.
            RunnerCrashedError: the process died; the request may be tried again.
        """
        with self._runner(model).using() as runner:
            width = (await runner.info()).dimensions
            parts = [
                await runner.embed(texts[start : start + _PART_TEXTS], start)
                for start in range(0, len(texts), _PART_TEXTS)
            ]
        return np.concatenate(parts) if parts else np.empty((0, width), np.float32)

    async def rank(self, model: str, query: str, texts: Sequence[str]) -> list[float]:
        """How well each text answers the query, higher is better.

        Raises:
            ModelError, ContextOverflowError, RunnerCrashedError: as `embed`; ModelError if the
                model is no reranker.
        """
        scores = []
        with self._runner(model).using() as runner:
            await runner.info()
            for start in range(0, len(texts), _PART_TEXTS):
                scores += await runner.rank(query, texts[start : start + _PART_TEXTS], start)
        return scores

    async def info(self, model: str) -> EmbedderInfo:
        """What the model is; loads it. Raises as `embed`."""
        with self._runner(model).using() as runner:
            return await runner.info()

    def loaded(self) -> dict[str, int]:
        """Process id of each loaded model's runner."""
        return {name: runner.pid for name, runner in self._runners.items() if runner.pid}

    def memory_bytes(self) -> int:
        """What the processes take, the weights they have mapped included, or will take."""
        return sum(runner.memory_bytes for runner in self._runners.values())

    async def aclose(self) -> None:
        """Ends all runners and gives their memory back."""
        await asyncio.gather(*(runner.aclose() for runner in self._runners.values()))

    def _runner(self, model: str) -> _Runner:
        pin = self._store.get(model)
        runner = self._runners.setdefault(
            model, _Runner(model, self._store, self._limits, self._beside)
        )
        runner.wanted = pin.sha256
        return runner


class _Runner:
    """One model's process, started when it is wanted; asked one thing at a time."""

    def __init__(
        self,
        name: str,
        store: ModelStore,
        limits: EmbedderLimits,
        beside: LlamaEngine | None,
    ) -> None:
        self.wanted = ""  # the digest that the name is pinned to
        self._users = 0
        self._beside = beside
        self._name = name
        self._store = store
        self._limits = limits
        self._turn = asyncio.Lock()
        self._process: EmbeddingProcess | None = None
        self._info: EmbedderInfo | None = None
        self._promised = 0  # bytes, while it is being loaded

    @property
    def pid(self) -> int:
        """The process's id; 0 where there is none."""
        return self._process.pid if self._process is not None else 0

    @property
    def memory_bytes(self) -> int:
        """What the process takes, or will take."""
        return child.resident_bytes(self.pid) if self.pid else self._promised

    @contextlib.contextmanager
    def using(self) -> Iterator[_Runner]:
        """While this is held, a request's other parts are made by the same weights."""
        self._users += 1
        try:
            yield self
        finally:
            self._users -= 1

    async def info(self) -> EmbedderInfo:
        """What the model is; of other weights, where the name is another's now, unless somebody is
        in the middle of a request."""
        async with self._turn:
            if self._info is not None and self._info.sha256 != self.wanted and self._users == 1:
                await self._end()
            return (await self._started())[1]

    async def embed(self, texts: Sequence[str], start: int) -> Vectors:
        frame, info = await self._ask({"op": "embed", "texts": list(texts), "start": start})
        try:
            raw = base64.b64decode(protocol.field(frame, "vectors", str), validate=True)
        except binascii.Error as error:
            raise protocol.ProtocolError("vectors that are not base64") from error
        if len(raw) != 4 * info.dimensions * len(texts):
            raise protocol.ProtocolError(f"{len(raw)} bytes of vectors for {len(texts)} texts")
        rows = np.frombuffer(raw, np.float32).reshape(len(texts), info.dimensions)
        if not np.isfinite(rows).all():
            raise protocol.ProtocolError("vectors that are not of numbers")
        return rows

    async def rank(self, query: str, texts: Sequence[str], start: int) -> list[float]:
        ask: Frame = {"op": "rank", "query": query, "texts": list(texts), "start": start}
        frame, _ = await self._ask(ask)
        scores = protocol.field(frame, "scores", list)
        if len(scores) != len(texts) or not all(
            type(score) is float and math.isfinite(score) for score in scores
        ):
            raise protocol.ProtocolError(f"{len(scores)} scores for {len(texts)} texts")
        return scores

    async def aclose(self) -> None:
        if self._process is not None:
            await self._process.aclose()  # who waits for its answer need not be waited for
        async with self._turn:
            await self._end()

    async def _ask(self, frame: Frame) -> tuple[Frame, EmbedderInfo]:
        async with self._turn:
            process, info = await self._started()
            answer = await process.ask(frame)
        if answer.get("event") == "error":
            raise protocol.to_error(answer)
        return answer, info

    async def _started(self) -> tuple[EmbeddingProcess, EmbedderInfo]:
        if self._process is not None and self._info is not None and self._process.alive:
            return self._process, self._info
        await self._end()
        checked = await asyncio.to_thread(self._store.check, self._name)
        if self._beside is not None:
            self._promised = await self._beside.make_room(checked.pin.size)
        try:
            self._process, self._info = await self._start(checked)
        finally:
            self._promised = 0
        return self._process, self._info

    async def _start(self, checked: CheckedFile) -> tuple[EmbeddingProcess, EmbedderInfo]:
        process = await EmbeddingProcess.start(self._name)
        try:
            return process, await self._load(process, checked)
        except BaseException:
            await process.aclose()
            raise

    async def _load(self, process: EmbeddingProcess, checked: CheckedFile) -> EmbedderInfo:
        load = EmbeddingLoad(
            path=str(checked.path),
            identity=checked.identity,
            context_tokens=self._limits.context_tokens,
            threads=self._limits.threads or default_threads(checked.pin.size),
            pooling=self._limits.pooling,
        )
        frame = await process.ask({"op": "load", "load": asdict(load)})
        if frame.get("event") == "failed":
            raise protocol.to_error(frame)
        return EmbedderInfo(
            name=self._name,
            sha256=checked.pin.sha256,
            architecture=protocol.field(frame, "architecture", str),
            pooling=protocol.field(frame, "pooling", str),
            dimensions=protocol.natural(frame, "dimensions", most=_MOST_DIMENSIONS),
            context_tokens=protocol.natural(frame, "context_tokens"),
        )

    async def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            await process.aclose()
