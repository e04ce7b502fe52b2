"""Batches made beside the training, in a process of their own, and never twice the same.

A pool of conversations is sorted by length and cut into batches of one padded length each, so that
little is padding, every conversation starts at position 0 as it will at run time, and the model is
compiled for a few lengths only.
"""

from __future__ import annotations

import multiprocessing
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.queues import Queue
from pathlib import Path

import numpy as np
import torch
from data import Maker
from encode import Encoder
from tokenizer import Tokenizer
from torch import Tensor

LENGTHS = (192, 288, 384, 480, 640, 896, 1408)
POOL = 768


@dataclass(frozen=True)
class Batch:
    """`ids` (rows, length); `where` flat places whose next token is in `targets`."""

    ids: Tensor
    where: Tensor
    targets: Tensor


def _pack(group: list[tuple[list[int], list[int]]], length: int) -> tuple[np.ndarray, ...]:
    ids = np.zeros((len(group), length), dtype=np.int16)
    where: list[int] = []
    targets: list[int] = []
    for row, (tokens, places) in enumerate(group):
        ids[row, : len(tokens)] = tokens
        where += [row * length + at - 1 for at in places]
        targets += [tokens[at] for at in places]
    return ids, np.array(where, dtype=np.int32), np.array(targets, dtype=np.int16)


def pooled(
    maker: Maker, encoder: Encoder, tokens: int, copying: bool
) -> Iterator[tuple[np.ndarray, ...]]:
    """The batches of one pool, in random order, each of about `tokens` ids with their padding."""
    make = maker.copying if copying else maker.conversation
    pool = [encoder.encode(c.messages, c.tools) for c in (make() for _ in range(POOL))]
    by_length: dict[int, list[tuple[list[int], list[int]]]] = {}
    lengths = LENGTHS[:1] if copying else LENGTHS
    for item in pool:
        fitting = next((length for length in lengths if len(item[0]) <= length), None)
        if fitting is not None:
            by_length.setdefault(fitting, []).append(item)
    batches = []
    for length, items in by_length.items():
        rows = max(1, tokens // length)
        whole = len(items) // rows * rows
        batches += [_pack(items[at : at + rows], length) for at in range(0, whole, rows)]
    random.Random(maker.rng.random()).shuffle(batches)
    yield from batches


def _work(queue: Queue, merges: Path, seed: int, tokens: int, copying: bool) -> None:
    os.nice(1)
    encoder, maker = Encoder(Tokenizer.load(merges)), Maker(seed)
    while True:
        for batch in pooled(maker, encoder, tokens, copying):
            queue.put(batch)


class Source:
    """Batches from the other process."""

    def __init__(self, merges: Path, seed: int, tokens: int, copying: bool) -> None:
        context = multiprocessing.get_context("spawn")
        self._queue = context.Queue(maxsize=64)
        arguments = (self._queue, merges, seed, tokens, copying)
        self._process = context.Process(target=_work, args=arguments, daemon=True)
        self._process.start()

    def next(self) -> Batch:
        """Waits for the next batch."""
        ids, where, targets = self._queue.get()
        return Batch(*(torch.from_numpy(part.astype(np.int64)) for part in (ids, where, targets)))

    def close(self) -> None:
        """Ends the process."""
        self._process.terminate()
        self._process.join()
