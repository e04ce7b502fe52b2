"""What an embedding runner is told first; apart, since its other modules load native code."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class EmbeddingLoad:
    """A file, as it was hashed, and how to use it. `pooling` "" is what the model says."""

    path: str
    identity: tuple[int, ...]
    context_tokens: int
    threads: int
    pooling: str = ""
