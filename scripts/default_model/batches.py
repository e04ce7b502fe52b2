"""Batches made beside the training, in a process of their own, and never twice the same.

Texts over one beginning (the system's message with its functions) share it: half of all tokens are
such beginnings. A pool is sorted by length and cut into batches, so that little is padding; every
text starts at the position it will have at run time.
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
from data import Maker, Mix
from encode import FIRST, NAMED, Encoder
from model import Layout
from tokenizer import Tokenizer
from torch import Tensor

BRANCHES = 4  # texts over one beginning in a batch
GROUP = 40  # texts over one beginning that are made at once; alike ones in length share a batch
GROUPS = 24  # beginnings in a pool
LONGEST = 1200
BRIEF = 0.15  # the share of texts that end soon after the first decision
BRIEF_TARGETS = 9 + FIRST + NAMED
SECOND = 0.4  # of the others: where there is a second step, it alone is looked at


@dataclass(frozen=True)
class Batch:
    """Flat `ids` in their `layout`; `where` flat places whose next token is in `targets`."""

    ids: Tensor
    lengths: Tensor
    layout: Layout
    where: Tensor
    targets: Tensor


Marks = list[tuple[int, int]]


@dataclass(frozen=True)
class _Text:
    """Ids with the places among them that the assistant says, and what is known where."""

    ids: list[int]
    places: list[int]
    marks: Marks

    def after(self, cut: int) -> _Text:
        """The text from `cut` on."""
        return _Text(
            self.ids[cut:],
            [at - cut for at in self.places],
            [(at - cut, label) for at, label in self.marks if at >= cut],
        )

    def until(self, places: list[int]) -> _Text:
        """The text up to the last of `places`, which are those it keeps."""
        end = places[-1] + 1
        return _Text(self.ids[:end], places, [mark for mark in self.marks if mark[0] < end])


@dataclass(frozen=True)
class _Piece:
    """One beginning with its marks, and `BRANCHES` texts that go on from it."""

    beginning: list[int]
    marks: Marks
    texts: list[_Text]

    def length(self) -> int:
        return max(len(text.ids) for text in self.texts)


def _pieces(maker: Maker, encoder: Encoder) -> Iterator[_Piece]:
    made = maker.group(GROUP)
    encoded = [_Text(*encoder.marked(one.messages, one.tools)) for one in made]
    first = encoded[0]
    cut = encoder.beginning(first.ids) if made[0].begins_alike else 0
    marks = [mark for mark in first.marks if mark[0] < cut]
    if made[0].tasks:  # no exercises
        encoded = [_shortened(text, maker.rng.random()) for text in encoded]
    texts = [text.after(cut) for text in encoded]
    texts = sorted(
        (text for text in texts if len(text.ids) <= LONGEST), key=lambda text: len(text.ids)
    )
    for at in range(0, len(texts) - BRANCHES + 1, BRANCHES):
        yield _Piece(first.ids[:cut], marks, texts[at : at + BRANCHES])


def _shortened(text: _Text, roll: float) -> _Text:
    """The text up to what is called first (whether and what to call is harder than the rest), or
    up to the second step, or all of it.
    """
    places = text.places
    if roll < BRIEF:
        places = places[:BRIEF_TARGETS]
    elif roll < BRIEF + (1 - BRIEF) * SECOND:
        places = _second(places)
    return text.until(places)


def _second(places: list[int]) -> list[int]:
    """The places of the assistant's second turn; all where there is one turn only."""
    starts = [at for at in range(1, len(places)) if places[at] - places[at - 1] > 1]
    if not starts:
        return places
    return places[starts[0] : starts[1] if len(starts) > 1 else None]


def _round(size: int) -> int:
    return -(-size // 16) * 16


def _pack(group: list[_Piece]) -> tuple[np.ndarray, ...]:
    first = _round(max(len(piece.beginning) for piece in group))
    length = _round(max(piece.length() for piece in group))
    heads = np.zeros((len(group), first), dtype=np.int16)
    rows = np.zeros((len(group) * BRANCHES, length), dtype=np.int16)
    where: list[int] = []
    targets: list[int] = []
    for place, piece in enumerate(group):
        heads[place, : len(piece.beginning)] = piece.beginning
        where += [place * first + at for at, _ in piece.marks]
        targets += [label for _, label in piece.marks]
        for row, text in enumerate(piece.texts, place * BRANCHES):
            start = heads.size + row * length
            rows[row, : len(text.ids)] = text.ids
            where += [start + at - 1 for at in text.places] + [start + at for at, _ in text.marks]
            targets += [text.ids[at] for at in text.places] + [label for _, label in text.marks]
    lengths = np.array([len(piece.beginning) for piece in group])
    flat = np.concatenate((heads.ravel(), rows.ravel()))
    layout = np.array((len(group), first, BRANCHES, length))
    return flat, lengths, layout, np.array(where), np.array(targets)


def pooled(maker: Maker, encoder: Encoder, tokens: int) -> Iterator[tuple[np.ndarray, ...]]:
    """The batches of one pool, in random order, each of at most about `tokens` with padding."""
    pool = [piece for _ in range(GROUPS) for piece in _pieces(maker, encoder)]
    pool.sort(key=lambda piece: (_round(piece.length()), len(piece.beginning)))
    batches: list[list[_Piece]] = [[]]
    for piece in pool:
        group = [*batches[-1], piece]
        first = _round(max(len(one.beginning) for one in group))
        length = _round(max(one.length() for one in group))
        if batches[-1] and len(group) * (first + BRANCHES * length) > tokens:
            batches.append([piece])
        else:
            batches[-1] = group
    random.Random(maker.rng.random()).shuffle(batches)
    yield from map(_pack, batches)


def _work(queue: Queue, merges: Path, seed: int, tokens: int, mix: Mix) -> None:
    os.nice(1)
    tokenizer = Tokenizer.load(merges)
    encoder, maker = Encoder(tokenizer), Maker(seed, tokenizer.words(), mix, marked=True)
    while True:
        for batch in pooled(maker, encoder, tokens):
            queue.put(batch)


class Source:
    """Batches from the other process."""

    def __init__(self, merges: Path, seed: int, tokens: int, mix: Mix) -> None:
        context = multiprocessing.get_context("spawn")
        self._queue = context.Queue(maxsize=64)
        arguments = (self._queue, merges, seed, tokens, mix)
        self._process = context.Process(target=_work, args=arguments, daemon=True)
        self._process.start()

    def next(self) -> Batch:
        """Waits for the next batch."""
        parts = (torch.from_numpy(part.astype(np.int64)) for part in self._queue.get())
        ids, lengths, layout, where, targets = parts
        return Batch(ids, lengths, Layout(*layout.tolist()), where, targets)

    def close(self) -> None:
        """Ends the process."""
        self._process.terminate()
        self._process.join()
