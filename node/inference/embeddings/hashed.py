"""The double of the embedder, for tests: no model and no process."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

import numpy as np

from node.errors import ContextOverflowError, InferenceError
from node.inference.embeddings.embedder import Pooling
from node.inference.types import EmbedderInfo, Vectors


class HashEmbedder:
    """Makes a text's vector of hashes of its words, so that texts which share words are near each
    other; ranks by the share of the query's words. Implements `Embedder`."""

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
