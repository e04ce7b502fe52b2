"""A prompt's way through a KV cache, on memory that is a list."""

from __future__ import annotations

from node.inference.llama.backend import ToyBackend
from node.inference.llama.batch import Batch
from node.inference.llama.kvcache import KvCache


def evaluate(cache: KvCache, memory: ToyBackend, prompt: list[int], room: int = 4) -> int:
    """Takes a place for a prompt, evaluates what is new and leaves; how much was not."""
    opened = cache.open(prompt, room)
    assert opened is not None
    assert memory.tokens(opened.sequence) == prompt[: opened.length]
    batch = Batch(len(prompt))
    batch.add(opened.sequence, opened.length, prompt[opened.length :], wanted=True)
    memory.decode(batch)
    cache.extend(opened.sequence, prompt[opened.length :])
    cache.close(opened.sequence)
    assert memory.used == cache.used
    return opened.length
