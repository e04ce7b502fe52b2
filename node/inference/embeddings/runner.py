"""The process that holds one embedding model: `python -m node.inference.embeddings.runner`.

Apart from the engine's runners, because its context is another one: every token is an output, and
texts are evaluated whole and forgotten. The same frames (`protocol`) on one socket: first what to
load, then `embed` and `rank`, each answered before the next is read. Texts are never logged.
"""

from __future__ import annotations

import base64
import os
import socket
from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

from node.errors import ContextOverflowError, InferenceError, ModelError
from node.inference import child
from node.inference.embeddings.load import EmbeddingLoad
from node.inference.embeddings.native import EmbeddingContext, Framing, normalised
from node.inference.llama import protocol
from node.inference.llama.native import unchanged_model
from node.inference.llama.protocol import Frame

_SEQUENCES: Final = 16


class EmbeddingRunner:
    """Takes frames from one socket and answers them until it ends."""

    def __init__(self, connection: socket.socket) -> None:
        self._stream = connection.makefile("rb")
        self._connection = connection

    def run(self) -> None:
        """Loads what the first frame says, then serves."""
        first = protocol.read(self._stream)
        if first is None:
            return
        load, number = first["load"], first["id"]
        try:
            facts = self._load(EmbeddingLoad(**{**load, "identity": tuple(load["identity"])}))
        except ModelError as error:
            self._send({**protocol.error_frame(number, error), "event": "failed"})
            return
        self._send({"event": "ready", "id": number, **facts})
        while (frame := protocol.read(self._stream)) is not None:
            try:
                self._send(self._answer(frame))
            except InferenceError as error:
                self._send(protocol.error_frame(frame["id"], error))

    def _load(self, load: EmbeddingLoad) -> Frame:
        model = unchanged_model(load.path, load.identity)
        self._framing = Framing(model)
        self._context = EmbeddingContext(
            model,
            tokens=min(load.context_tokens, model.context_train),
            sequences=_SEQUENCES,
            threads=load.threads,
            pooling=load.pooling,
        )
        return {
            "architecture": model.architecture,
            "pooling": self._context.pooling,
            "dimensions": 0 if self._context.pooling == "rank" else self._context.width,
            "context_tokens": self._context.tokens,
        }

    def _answer(self, frame: Frame) -> Frame:
        number, ranks = frame["id"], frame["op"] == "rank"
        if ranks != (self._context.pooling == "rank"):
            raise ModelError(
                "the model is a reranker and makes no vectors"
                if not ranks
                else "the model makes vectors and is no reranker",
                hint="Use a model made for this.",
            )
        if ranks:
            texts = [self._framing.pair(frame["query"], text) for text in frame["texts"]]
            batches = self._batches(texts, frame["start"])
            scores = [float(row[0]) for batch in batches for row in batch]
            return {"event": "ranked", "id": number, "scores": scores}
        texts = [self._framing.text(text) for text in frame["texts"]]
        rows = [normalised(batch).tobytes() for batch in self._batches(texts, frame["start"])]
        packed = base64.b64encode(b"".join(rows)).decode()
        return {"event": "embedded", "id": number, "vectors": packed}

    def _batches(self, texts: list[list[int]], before: int) -> Iterator[npt.NDArray[np.float32]]:
        """Rows of the texts in their order, as many texts at once as fit. Errors number the texts
        from the first of the whole request, `before` this part of it."""
        self._refuse_long(texts, before)
        start = 0
        while start < len(texts):
            end, tokens = start, 0
            while end < len(texts) and end - start < self._context.sequences:
                tokens += len(texts[end])
                if tokens > self._context.tokens:
                    break
                end += 1
            yield self._context.evaluate(texts[start:end])
            start = end

    def _refuse_long(self, texts: list[list[int]], before: int) -> None:
        for place, tokens in enumerate(texts, before + 1):
            if len(tokens) > self._context.tokens:
                raise ContextOverflowError(
                    f"text {place} has {len(tokens)} tokens; the model takes "
                    f"{self._context.tokens}",
                    hint="Split it into shorter texts.",
                )
            if not tokens:
                raise InferenceError(f"text {place} has no tokens", hint="Leave empty texts out.")

    def _send(self, frame: Frame) -> None:
        try:
            self._connection.sendall(protocol.encode(frame))
        except OSError:
            os._exit(0)


def main() -> None:
    """Entry point: the socket's descriptor and the parent's process id are the arguments."""
    EmbeddingRunner(child.settle_in()).run()
    child.end()


if __name__ == "__main__":
    main()
