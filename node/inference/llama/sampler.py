"""Drawing a token from logits, with the grammar asked about the drawn token only.

Applying a grammar to a vocabulary of 150,000 costs 10-50 ms a token; asking it about one token
costs microseconds, and a model that wants to call a tool is right nearly always. So a token is
drawn first; one that the grammar refuses is crossed out and another drawn, and only after a few
refusals the whole vocabulary is masked. Greedy output is as if the mask had always come first.
Arithmetic is numpy's, so that a seed means the same on every machine with the same logits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from node.inference.types import Sampling

_TRIES = 8
_NEAR = 10.0
_BANS = -100.0
_BANNED = -1e30  # below all others, and above what the grammar does not allow
_FEW: Final = 16
_TOKENS: Final = 1 << 31
Logits = npt.NDArray[np.float32]
Places = slice | npt.NDArray[np.int_]


class Matcher(Protocol):
    """What a grammar is asked."""

    def allows(self, token: int) -> bool: ...
    def mask(self, logits: Logits) -> None: ...


class Sampler:
    """The draws of one generation.

    Tokens that a request's bias bans are drawn only where its grammar allows no other, as it then
    forces them.
    """

    def __init__(self, sampling: Sampling, grammar: Matcher | None) -> None:
        self._sampling = sampling
        self._grammar = grammar
        biases = [pair for pair in sampling.logit_bias if 0 <= pair[0] < _TOKENS]
        self._biased = np.array([token for token, _ in biases], dtype=np.int64)
        self._bias = np.array(
            [_BANNED if value <= _BANS else value for _, value in biases], np.float32
        )
        self._random = np.random.Generator(np.random.PCG64(sampling.seed & (2**64 - 1)))

    def draw(self, logits: Logits, best: int) -> int | None:
        """A token, or None where the grammar leaves none. Changes `logits`, of which `best` is the
        largest."""
        greedy = self._sampling.temperature <= 0
        pick: Callable[[Logits], int | None] = self._greedy if greedy else self._random_pick
        if len(self._biased):
            known = self._biased < len(logits)  # of a vocabulary that the caller has not seen
            np.add.at(logits, self._biased[known], self._bias[known])
        elif greedy:
            if self._allowed(logits, best):
                return best
            logits[best] = -np.inf
        for attempt in range(_TRIES):
            token = pick(logits)
            if token is None or self._grammar is None or self._grammar.allows(token):
                return token
            logits[token] = -np.inf
            if attempt == _TRIES - 2:
                self._grammar.mask(logits)
        return None

    def _allowed(self, logits: Logits, token: int) -> bool:
        possible = logits.item(token) > -math.inf
        return possible and (self._grammar is None or self._grammar.allows(token))

    @staticmethod
    def _greedy(logits: Logits) -> int | None:
        token = int(logits.argmax())
        return token if logits.item(token) > -math.inf else None

    def _random_pick(self, logits: Logits) -> int | None:
        settings = self._sampling
        count = min(settings.top_k, len(logits)) if settings.top_k > 0 else len(logits)
        best = top(logits, count)
        best = best[np.argsort(-logits[best], kind="stable")]
        best = best[logits[best] > -np.inf]
        if not len(best):
            return None
        scaled = logits[best].astype(np.float64) / settings.temperature
        weights = np.exp(scaled - scaled[0])
        weights /= weights.sum()
        kept = int(np.searchsorted(np.cumsum(weights), settings.top_p)) + 1
        weights = np.cumsum(weights[:kept])
        at = int(np.searchsorted(weights, self._random.random() * weights[-1], side="right"))
        return int(best[min(at, len(weights) - 1)])


def places(tokens: Iterable[int]) -> tuple[Places, ...]:
    """The tokens as stretches of the vocabulary, or as a list where those would be many.

    A list costs ten times what a stretch does, and control tokens mostly stand together.
    """
    found: list[slice] = []
    wanted = sorted(tokens)
    for token in wanted:
        start = found.pop().start if found and found[-1].stop == token else token
        found.append(slice(start, token + 1))
    return tuple(found) if len(found) <= _FEW else (np.array(wanted),)


def top(logits: Logits, count: int) -> npt.NDArray[np.intp]:
    """Indices of the `count` largest, in no order.

    Selecting among all of 150,000 takes a millisecond; so it is done among those near the largest,
    if there are enough of them to hold the result.
    """
    if count >= len(logits):
        return np.arange(len(logits))
    near = np.flatnonzero(logits > logits.max() - _NEAR)
    if len(near) <= count:
        return np.argpartition(logits, -count)[-count:]
    return near[np.argpartition(logits[near], -count)[-count:]]
