"""Who may have which part of the KV cache: reuse, room, eviction.

A generation is given a sequence that already holds as much of its prompt as any other does: taken
over from a kept one, copied from one at work, or read from disk. Room for all it may grow to is set
aside first, so that nothing can run out of cells on the way and no context is ever shifted.

What nobody works on is kept. But such cells cost something at every step: libllama asks of each,
for each token and head, whether it may be seen (some 3 ns; 10,000 of them took a third of the speed
of eight agents on a model of 0.5B). So what was unused for a while moves to the state store, from
which it is back in milliseconds; what must make room does, too.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from node.inference.llama.kvtree import Found, KvTree
from node.inference.llama.state_files import State
from node.inference.llama.states import Saved, StateStore

WORTH_SAVING_TOKENS: Final = 64
WORTH_LOADING_TOKENS: Final = 64
IDLE_S: Final = 3.0  # an agent's tool mostly takes less
IDLE_TOKENS: Final = 512
_TIDIED: Final = 2


class Memory(Protocol):
    """The KV cache itself. `partial` is False where a sequence cannot be cut (recurrent models)."""

    partial: bool

    def copy(self, source: int, target: int, tokens: int) -> None:
        """Lets `target` hold the first `tokens` cells of `source` too."""
        ...

    def share(self, source: int, target: int, tokens: int) -> None:
        """Lets `target`, which holds the same first `tokens`, hold those cells of `source`."""
        ...

    def cut(self, sequence: int, tokens: int) -> bool:
        """Forgets all but the first `tokens`; False where it cannot, and the sequence is empty."""
        ...

    def save(self, sequence: int) -> State:
        """The state of a sequence."""
        ...

    def load(self, sequence: int, state: State) -> bool:
        """Puts a saved state into an empty sequence; False where it does not fit."""
        ...


@dataclass(frozen=True)
class Opened:
    """A sequence for a generation: its first `length` tokens need not be evaluated."""

    sequence: int
    length: int


class KvCache:
    """The sequences of one context of `cells` cells.

    Args:
        sequences: how many there may be, at work and kept.
        reuse: off makes every prompt be evaluated whole.
        states: where evicted ones go; None where they are lost.
        monotonic: seconds.
    """

    def __init__(
        self,
        memory: Memory,
        *,
        cells: int,
        sequences: int,
        reuse: bool = True,
        states: StateStore | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.cells = cells
        self.saved = self.restored = 0
        self._memory = memory
        self._reuse = reuse
        self._states = states
        self._tree = KvTree()
        self._unused = list(range(sequences - 1, -1, -1))
        self._monotonic = monotonic
        self._kept: dict[int, float] = {}  # since when; used longest ago first
        self._reserved: dict[int, int] = {}

    @property
    def used(self) -> int:
        """Cells that hold a token."""
        return self._tree.cells

    @property
    def free(self) -> int:
        """Cells that hold nothing and that nobody was promised."""
        return self.cells - self._tree.cells - sum(self._reserved.values())

    @property
    def kept(self) -> int:
        """Tokens of the sequences that nobody works on; shared ones count for each."""
        return sum(self._tree.length(sequence) for sequence in self._kept)

    def length(self, sequence: int) -> int:
        """Tokens that a sequence holds."""
        return self._tree.length(sequence)

    def held(self, prompt: list[int]) -> int:
        """Tokens of the prompt that some sequence holds."""
        found = self._find(prompt)
        return found.length if found else 0

    def open(self, prompt: list[int], room: int) -> Opened | None:
        """A sequence for `prompt` that may grow by `room` tokens; None while there is no room."""
        opened = self._begin(prompt)
        if opened is None:
            return None
        wanted = len(prompt) - opened.length + room
        while self.free < wanted:
            if not self.evict():
                self.close(opened.sequence)
                return None
        self._reserved[opened.sequence] = wanted
        self._tidy()
        return opened

    def extend(self, sequence: int, tokens: Sequence[int]) -> None:
        """Says that these tokens were evaluated at a sequence's end."""
        self._tree.extend(sequence, tokens)
        self._reserved[sequence] -= len(tokens)

    def trim(self, sequence: int) -> bool:
        """Undoes in memory what was not said by `extend`; False where the sequence is lost."""
        if self._memory.cut(sequence, self._tree.length(sequence)):
            return True
        self._tree.cut(sequence, 0)
        return False

    def close(self, sequence: int) -> None:
        """Ends work on a sequence; it is kept for who may begin like it."""
        self._reserved.pop(sequence, None)
        if self._reuse and self._tree.length(sequence):
            self._touch(sequence)
        else:
            self._drop(sequence)

    def evict(self, spare: int = -1) -> bool:
        """Lets the sequence go that was used longest ago; False where none is kept."""
        sequence = next((kept for kept in self._kept if kept != spare), None)
        if sequence is None:
            return False
        del self._kept[sequence]
        self._save(sequence)
        self._drop(sequence)
        return True

    def save_all(self) -> None:
        """Writes every sequence, also those at work, as at a shutdown: the latest used first."""
        for sequence in [*self._reserved, *reversed(self._kept)]:
            if self._states is not None:
                self._states.flush()  # none is refused because others wait
            self._save(sequence, hold=False)

    def forget(self) -> None:
        """Drops all that nobody works on, and every state."""
        while self._kept:
            sequence, _ = self._kept.popitem()
            self._drop(sequence)
        if self._states is not None:
            self._states.forget()

    def _tidy(self) -> None:
        """Moves away what was not used for a while, if it is much and can be had again.

        Few at a time, since somebody waits for a first token. What shares most of its cells stays:
        a state has them all.
        """
        if self._states is None or not self._memory.partial:
            return
        since = self._monotonic() - IDLE_S
        unused = [sequence for sequence, used in self._kept.items() if used <= since]
        apart = [each for each in unused if 4 * self._tree.own(each) >= self._tree.length(each)]
        for sequence in apart[:_TIDIED]:
            if self._tree.cells - self._tree.cells_of(self._reserved) <= IDLE_TOKENS:
                return
            if not self._save(sequence):
                self._touch(sequence)  # not copied again at every open, only to be refused
                return
            del self._kept[sequence]
            self._drop(sequence)

    def _touch(self, sequence: int) -> None:
        """Keeps a sequence as the one used last."""
        self._kept.pop(sequence, None)
        self._kept[sequence] = self._monotonic()

    def _find(self, prompt: list[int]) -> Found | None:
        """Never all of the prompt: the logits of its last token are needed."""
        if not self._reuse:
            return None
        return self._tree.match(prompt[:-1], whole=not self._memory.partial)

    def _begin(self, prompt: list[int]) -> Opened | None:
        loaded = self._load(prompt, self.held(prompt))
        if loaded is not None:
            return loaded
        found = self._find(prompt)
        if found and found.sequence in self._kept:
            if found.length == self._tree.length(found.sequence):
                del self._kept[found.sequence]
                return Opened(found.sequence, found.length)
            self._touch(found.sequence)
        sequence = self._unused_sequence(found.sequence if found else -1)
        if sequence is None:
            return None
        if found is None:
            self._tree.add(sequence)
            return Opened(sequence, 0)
        self._memory.copy(found.sequence, sequence, found.length)
        self._tree.fork(found.sequence, sequence, found.length)
        return Opened(sequence, found.length)

    def _unused_sequence(self, spare: int = -1) -> int | None:
        if not self._unused:
            self.evict(spare)
        return self._unused.pop() if self._unused else None

    def _load(self, prompt: list[int], held: int) -> Opened | None:
        """From disk, where that saves evaluating a good part more than memory does."""
        if self._states is None or not self._reuse:
            return None
        saved = self._states.best(prompt[:-1], whole=not self._memory.partial)
        if saved is None or saved.length < held + WORTH_LOADING_TOKENS:
            return None
        sequence = self._unused_sequence()
        if sequence is None:
            return None
        self._tree.add(sequence)
        if self._restore(sequence, saved, prompt):
            self.restored += 1
            return Opened(sequence, saved.length)
        self._drop(sequence)
        return None

    def _restore(self, sequence: int, saved: Saved, prompt: list[int]) -> bool:
        assert self._states is not None
        while self.free < saved.tokens:
            if not self.evict():
                return False
        state = self._states.load(saved)
        if state is None or not self._memory.load(sequence, state):
            return False
        if saved.length < saved.tokens and not self._memory.cut(sequence, saved.length):
            return False
        self._take_in(sequence, prompt[: saved.length])
        return True

    def _take_in(self, sequence: int, tokens: list[int]) -> None:
        """Notes what a sequence came back with. What others hold, too, is there once: a team's
        system prompt, and not once for each of its agents."""
        found = self._tree.match(tokens) if self._memory.partial else None
        if found is not None:
            self._memory.share(found.sequence, sequence, found.length)
            self._tree.remove(sequence)
            self._tree.fork(found.sequence, sequence, found.length)
            tokens = tokens[found.length :]
        if tokens:
            self._tree.extend(sequence, tokens)

    def _save(self, sequence: int, *, hold: bool = True) -> bool:
        """Whether nothing would be lost with the sequence."""
        if self._tree.length(sequence) < WORTH_SAVING_TOKENS:
            return True
        if self._states is None:
            return False
        tokens = self._tree.tokens(sequence)
        if self._states.holds(tokens):
            return True
        with contextlib.suppress(MemoryError):  # then it is lost, and nothing else
            if self._states.save(tokens, self._memory.save(sequence), hold=hold):
                self.saved += 1
                return True
        return False

    def _drop(self, sequence: int) -> None:
        self._memory.cut(sequence, 0)
        self._tree.remove(sequence)
        self._unused.append(sequence)
