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
import hashlib
import math
import os
import re
import signal
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Final, Literal

import numpy as np

from node.errors import ContextOverflowError, InferenceError, RunnerCrashedError
from node.inference import child
from node.inference.embeddings.load import EmbeddingLoad
from node.inference.engine import LlamaEngine
from node.inference.llama import protocol
from node.inference.llama.protocol import Frame
from node.inference.llama.slot import default_threads
from node.inference.llama.watch import Watch
from node.inference.models.store import CheckedFile, ModelStore
from node.inference.types import EmbedderInfo, Vectors

Pooling = Literal["", "mean", "cls", "last", "rank"]

_PART_TEXTS: Final = 32
_STDERR_LINES: Final = 20
_LAST_WORDS_S: Final = 5.0
_MOST_DIMENSIONS: Final = 1 << 20
_SILENT_S: Final = 600.0  # a part of a request takes a fraction of it, however slow the machine


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
        self._process: _Process | None = None
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

    async def _started(self) -> tuple[_Process, EmbedderInfo]:
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

    async def _start(self, checked: CheckedFile) -> tuple[_Process, EmbedderInfo]:
        process = await _Process.start(self._name)
        try:
            return process, await self._load(process, checked)
        except BaseException:
            await process.aclose()
            raise

    async def _load(self, process: _Process, checked: CheckedFile) -> EmbedderInfo:
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


class _Process:
    """A started `embedding_runner` and the socket to it."""

    def __init__(
        self,
        name: str,
        process: asyncio.subprocess.Process,
        streams: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        self._name = name
        self._process = process
        self._reader, self._writer = streams
        self._lines: deque[bytes] = deque(maxlen=_STDERR_LINES)
        self._stderr = asyncio.create_task(self._drain())
        self._asked: dict[int, asyncio.Future[Frame | None]] = {}
        self._count = 0
        self._watch = Watch(_SILENT_S, self._fell_silent)
        self._frames = asyncio.create_task(self._dispatch())
        self.pid = process.pid
        self.alive = True

    @classmethod
    async def start(cls, name: str) -> _Process:
        process, ours = await child.start("node.inference.embeddings.runner")
        return cls(name, process, await asyncio.open_connection(sock=ours))

    async def ask(self, frame: Frame) -> Frame:
        """The answer to a frame; one that is not waited for to the end is dropped when it comes.

        Raises:
            RunnerCrashedError: the process died instead.
        """
        self._count += 1
        number = self._count
        data = protocol.encode({**frame, "id": number})
        answer: asyncio.Future[Frame | None] = asyncio.get_running_loop().create_future()
        self._asked[number] = answer
        try:
            if not self.alive:
                raise await self._crash()
            self._writer.write(data)
            self._watch.asked()
            found = await answer
        finally:
            del self._asked[number]
        if found is None:
            raise await self._crash()
        return found

    async def aclose(self) -> None:
        """Kills the process and waits for its end."""
        self.alive = False
        self._watch.close()
        self._writer.close()
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
        await self._process.wait()
        await asyncio.wait([self._stderr], timeout=_LAST_WORDS_S)
        self._frames.cancel()
        await asyncio.gather(self._frames, return_exceptions=True)
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    async def _dispatch(self) -> None:
        """Gives each frame to who asked for it, until the process ends."""
        try:
            while (frame := await protocol.receive(self._reader)) is not None:
                answer = self._asked.get(protocol.field(frame, "id", int))
                if answer is not None and not answer.done():
                    answer.set_result(frame)
                self._watch.heard(owes=any(not one.done() for one in self._asked.values()))
        except protocol.ProtocolError as error:
            self._lines.append(error.message.encode())
        finally:
            self.alive = False
            self._watch.close()
            for answer in self._asked.values():
                if not answer.done():
                    answer.set_result(None)

    def _fell_silent(self) -> None:
        if self._process.returncode is not None:  # its number may be another's by now
            return
        self._lines.append(f"it said nothing for {_SILENT_S:g} s, and was ended".encode())
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    async def _crash(self) -> RunnerCrashedError:
        await self.aclose()
        last = b"\n".join(self._lines).decode(errors="replace")
        return RunnerCrashedError(
            f"the runner of {self._name} died (status {self._process.returncode})"
            + (f"; its last words:\n{last}" if last else ""),
            hint="Trying again is safe. If it dies again, use a smaller model or context.",
        )

    async def _drain(self) -> None:
        stream = self._process.stderr
        assert stream is not None
        pending = b""
        while chunk := await stream.read(4096):
            *lines, pending = (pending + chunk).split(b"\n")
            pending = pending[-500:]
            self._lines.extend(line[:500] for line in lines if line)


class HashEmbedder:
    """The double: a text's vector is made of hashes of its words, so that texts which share words
    are near each other. Ranks by the share of the query's words. For tests only."""

    def __init__(
        self, *, dimensions: int = 64, context_tokens: int = 512, pooling: Pooling = "mean"
    ) -> None:
        self._dimensions = dimensions
        self._context_tokens = context_tokens
        self._pooling = pooling

    async def embed(self, model: str, texts: Sequence[str]) -> Vectors:
        """As `LlamaEmbedder`, one token a word."""
        rows = np.zeros((len(texts), self._dimensions), np.float32)
        for row, text in enumerate(texts):
            for word in self._words(text):
                digest = hashlib.sha256(word.encode()).digest()
                rows[row, int.from_bytes(digest[:4], "big") % self._dimensions] += 1.0
        unit: Vectors = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        return unit

    async def rank(self, model: str, query: str, texts: Sequence[str]) -> list[float]:
        """As `LlamaEmbedder`."""
        asked = set(self._words(query))
        return [len(asked & set(self._words(text))) / len(asked) for text in texts]

    async def info(self, model: str) -> EmbedderInfo:
        """What it is: a digest of zeros."""
        return EmbedderInfo(
            model, "0" * 64, "hash", self._pooling, self._dimensions, self._context_tokens
        )

    async def aclose(self) -> None:
        """Nothing to end."""

    def _words(self, text: str) -> list[str]:
        words = re.findall(r"\w+", text.lower())
        if len(words) > self._context_tokens:
            raise ContextOverflowError(
                f"a text has {len(words)} tokens; the model takes {self._context_tokens}",
                hint="Split it into shorter texts.",
            )
        if not words:
            raise InferenceError("a text has no tokens", hint="Leave empty texts out.")
        return words
