"""What the scheduler asks of whatever evaluates tokens: `native.Context`, or the double beside it.

The double's logits are a function of all that a sequence holds at its positions. So a cell lost,
shared by mistake, put at a wrong place or evaluated twice changes what comes out, and tests that
compare outputs see every error of bookkeeping.
"""

from __future__ import annotations

import zlib
from array import array
from typing import Protocol

import numpy as np

from node.errors import InferenceError
from node.inference.llama.batch import Batch
from node.inference.llama.kvcache import Memory
from node.inference.llama.sampler import Logits


class Aborted(InferenceError):
    """A decode was stopped from outside; the runner's own signal, never seen outside of it."""

    def __init__(self) -> None:
        super().__init__("aborted")


class NoRoomError(InferenceError):
    """The KV cache has no free cells, though by our count it should."""

    def __init__(self) -> None:
        super().__init__(
            "the model's context memory is full",
            hint="Try again; if it happens again, set a larger kv_tokens or run fewer agents.",
        )


class Backend(Memory, Protocol):
    """Evaluates batches."""

    def decode(self, batch: Batch) -> None:
        """Evaluates the rows; raises Aborted, NoRoomError or InferenceError."""
        ...

    def best(self) -> list[int]:
        """The likeliest token of each row that asked for logits, in their order."""
        ...

    def logits(self, output: int) -> Logits:
        """Logits of the row that was the `output`th to ask for them; may be changed."""
        ...


class ToyBackend:
    """A language of `vocabulary` tokens in which the next one depends on all before it."""

    def __init__(self, *, cells: int, vocabulary: int = 32, partial: bool = True) -> None:
        self.cells = cells
        self.partial = partial
        self.vocabulary = vocabulary
        self.evaluated = 0
        self.batches: list[int] = []
        self.failing: list[Exception] = []
        self._held: dict[int, list[tuple[int, int]]] = {}  # sequence -> (token, cell)
        self._outputs: list[Logits] = []
        self._next_cell = 0

    @property
    def used(self) -> int:
        """Cells that some sequence holds."""
        return len({cell for held in self._held.values() for _, cell in held})

    def tokens(self, sequence: int) -> list[int]:
        """What a sequence holds."""
        return [token for token, _ in self._held.get(sequence, [])]

    def copy(self, source: int, target: int, tokens: int) -> None:
        assert not self._held.get(target), "a copy onto a sequence that holds something"
        held = self._held.get(source, [])
        assert self.partial or tokens == len(held), "a copy of a part that cannot be"
        self._held[target] = held[:tokens]

    def share(self, source: int, target: int, tokens: int) -> None:
        assert self.partial, "a copy of a part that cannot be"
        held = self._held[target]
        assert [token for token, _ in held[:tokens]] == self.tokens(source)[:tokens]
        self._held[target] = self._held[source][:tokens] + held[tokens:]

    def cut(self, sequence: int, tokens: int) -> bool:
        held = self._held.get(sequence, [])
        if not self.partial and 0 < tokens < len(held):
            self._held[sequence] = []
            return False
        self._held[sequence] = held[:tokens]
        return True

    def save(self, sequence: int) -> bytes:
        return array("i", self.tokens(sequence)).tobytes()

    def load(self, sequence: int, state: bytes | memoryview) -> bool:
        assert not self._held.get(sequence), "a state onto a sequence that holds something"
        held = array("i", bytes(state)).tolist()
        self._held[sequence] = [(token, self._cell()) for token in held]
        assert self.used <= self.cells, "a state for which there is no room"
        return True

    def decode(self, batch: Batch) -> None:
        if self.failing:
            raise self.failing.pop(0)
        self._outputs = []
        for row in range(batch.size):
            held = self._held.setdefault(int(batch.sequences[row]), [])
            assert int(batch.positions[row]) == len(held), "a token at a wrong place"
            held.append((int(batch.tokens[row]), self._cell()))
            if batch.wants[row]:
                self._outputs.append(self.next_logits([token for token, _ in held]))
        assert self.used <= self.cells, "more tokens than cells"
        assert len(self._outputs) == batch.outputs
        self.evaluated += batch.size
        self.batches.append(batch.size)

    def best(self) -> list[int]:
        return [int(row.argmax()) for row in self._outputs]

    def logits(self, output: int) -> Logits:
        return self._outputs[output]

    def next_logits(self, tokens: list[int]) -> Logits:
        """What this language says comes after `tokens`."""
        seed = zlib.crc32(array("i", tokens).tobytes())
        return np.random.default_rng(seed).random(self.vocabulary, dtype=np.float32)

    def _cell(self) -> int:
        self._next_cell += 1
        return self._next_cell
