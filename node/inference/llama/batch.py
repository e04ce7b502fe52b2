"""One step's tokens, in arrays that numpy owns and libllama reads.

They are made once: filling eight rows of them takes a few microseconds, where making a
`llama_batch` anew takes far longer. `llama_batch_free` must not be called on them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


class Batch:
    """Rows of (token, position, sequence), and which of them need logits.

    Attributes:
        size: rows in use.
        outputs: of them, rows that need logits; the logits come in the same order.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.tokens = np.zeros(capacity, np.int32)
        self.positions = np.zeros(capacity, np.int32)
        self.sequences = np.zeros(capacity, np.int32)
        self.wants = np.zeros(capacity, np.int8)
        self.clear()

    def clear(self) -> None:
        """Takes all rows out."""
        self.size = self.outputs = 0

    def add(self, sequence: int, position: int, tokens: Sequence[int], *, wanted: bool) -> None:
        """Puts a sequence's next tokens in; `wanted` asks for the logits after the last."""
        start, end = self.size, self.size + len(tokens)
        if len(tokens) == 1:
            self.tokens[start], self.positions[start] = tokens[0], position
            self.sequences[start], self.wants[start] = sequence, wanted
        else:
            self.tokens[start:end] = tokens
            self.positions[start:end] = range(position, position + len(tokens))
            self.sequences[start:end] = sequence
            self.wants[start:end] = 0
            self.wants[end - 1] = wanted
        self.size = end
        self.outputs += wanted
