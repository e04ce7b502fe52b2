"""States of sequences outside the KV cache: what lets a conversation go on at once.

Up to so many bytes they are held in memory; what is over that goes to disk (`state_files`), those
used longest ago first, as does everything at the end. So a conversation goes on after a restart,
too. A file that is not right is removed and was never there: this is a cache.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from node.inference.llama.kvtree import KvTree
from node.inference.llama.state_files import (
    SUFFIX,
    State,
    make_room,
    name_of,
    read_state,
    read_tokens,
    size_of,
    write_state,
)
from node.inference.models.files import KEEP_FREE_BYTES

_WAITING: Final = 2  # states that may wait to be written: each is held in memory


@dataclass(frozen=True)
class Saved:
    """A state that begins with `length` of the tokens asked for."""

    path: Path
    length: int
    tokens: int


class StateStore:
    """The states of one model in `folder`, which other models may share. Not thread-safe.

    Writing is done by a thread of its own, since hashing and writing a long context takes a good
    part of a second; `flush` waits for it.

    Args:
        folder: where they go that are not held in memory; None loses them.
        key: of the model and its settings; see `state_key`.
        max_bytes: the most that the folder may hold, whoever's.
        held_bytes: the most that is held in memory.
    """

    def __init__(
        self, folder: Path | None, key: bytes, *, max_bytes: int, held_bytes: int = 0
    ) -> None:
        self._folder = folder
        self._key = key
        self._max_bytes = max_bytes if folder is not None else 0
        self._most_held = held_bytes
        self._held: dict[Path, tuple[list[int], State]] = {}  # used longest ago first
        self._held_bytes = 0
        self._index = _Index()
        self._unwritten: dict[Path, State] = {}
        self._ending: dict[Path, None] = {}  # used last first
        self._queue: queue.Queue[tuple[Path, list[int], State] | None] = queue.Queue(_WAITING)
        if folder is not None:
            with contextlib.suppress(OSError):  # then none is there, and none can be written
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for path in folder.glob(f"*{SUFFIX}"):
                tokens = read_tokens(path, key)
                if tokens is not None:
                    self._index.add(path, tokens)
        self._thread = threading.Thread(target=self._write_all, daemon=True)
        self._thread.start()

    def __len__(self) -> int:
        return len(self._index)

    def best(self, tokens: list[int], *, whole: bool = False) -> Saved | None:
        """The state that begins most like `tokens`; with `whole`, of those that end within."""
        return self._index.best(tokens, whole=whole)

    def holds(self, tokens: list[int]) -> bool:
        """Whether a state has all of these tokens."""
        best = self.best(tokens)
        return best is not None and best.length == len(tokens)

    def save(self, tokens: Sequence[int], state: State, *, hold: bool = True) -> bool:
        """Keeps a state, in memory if `hold`; False where it is too large, or too many wait to be
        written.

        Without `hold` it is an end, and the latest used come first: none of them makes way for one
        after it.
        """
        kept, ending = list(tokens), not hold
        hold = hold and len(state) <= self._most_held
        if not hold and not self._writable(kept, state):
            return False
        name = name_of(self._key, kept)
        path = self._folder / name if self._folder is not None else Path(name)
        self._forget_removed()
        older: dict[Path, int] = {}  # what is new holds all that they have
        while (found := self.best(kept, whole=True)) is not None:
            older[found.path] = found.length
            self._index.remove(found.path)
        if hold and not self._make_way(len(state), older):
            for one, length in older.items():
                self._index.add(one, kept[:length])
            return False
        for one in older:
            self._forget(one)
        self._index.add(path, kept)
        if hold:
            self._held[path] = kept, state
            self._held_bytes += len(state)
        else:
            self._hand_over(path, kept, state, ending=ending)
        return True

    def load(self, saved: Saved) -> memoryview | None:
        """The state, verified; None where it is not as it was written, and then it is removed."""
        held = self._held.pop(saved.path, None)
        if held is not None:
            self._held[saved.path] = held  # used now
            return memoryview(held[1])
        unwritten = self._unwritten.get(saved.path)
        if unwritten is not None:  # nobody waits for the disk
            return memoryview(unwritten)
        state = read_state(saved.path, self._key, self._index.tokens(saved.path))
        if state is None:
            self._forget(saved.path)
            return None
        with contextlib.suppress(OSError):
            os.utime(saved.path)
        return state

    def flush(self) -> None:
        """Waits until all is written that is not held."""
        self._queue.join()

    def forget(self) -> None:
        """Forgets every state, also one that is being written."""
        for path in list(self._index):
            self._forget(path)
        self.flush()

    def close(self) -> None:
        """Writes what is held, the latest used first, and what waits; ends the thread."""
        for path, (tokens, state) in reversed(self._held.items()):
            if self._fits(tokens, state):
                self._hand_over(path, tokens, state, ending=True)
        self._held.clear()
        self._queue.put(None)
        self._thread.join()
        now = time.time_ns()
        for place, path in enumerate(self._ending):
            with contextlib.suppress(OSError):
                os.utime(path, ns=(now - place, now - place))

    def _fits(self, tokens: list[int], state: State) -> bool:
        return size_of(len(tokens), len(state)) <= self._max_bytes

    def _writable(self, tokens: list[int], state: State) -> bool:
        return self._fits(tokens, state) and not self._queue.full()

    def _make_way(self, size: int, going: Collection[Path]) -> bool:
        """Room in memory for so many bytes once those `going` are gone: what else must go is
        written, or lost where it cannot be. False while too many wait to be written."""
        size -= sum(len(self._held[path][1]) for path in going if path in self._held)
        while self._held_bytes + size > self._most_held:
            path, (tokens, state) = next(one for one in self._held.items() if one[0] not in going)
            if self._writable(tokens, state):
                self._let_go(path)
                self._hand_over(path, tokens, state)
            elif self._fits(tokens, state):
                return False
            else:
                self._forget(path)
        return True

    def _let_go(self, path: Path) -> None:
        self._held_bytes -= len(self._held.pop(path)[1])

    def _hand_over(
        self, path: Path, tokens: list[int], state: State, *, ending: bool = False
    ) -> None:
        """Has a state written."""
        if ending:
            self._ending[path] = None
        self._unwritten[path] = state
        self._queue.put((path, tokens, state))

    def _forget(self, path: Path) -> None:
        self._index.remove(path)
        self._unwritten.pop(path, None)
        if path in self._held:
            self._let_go(path)
        elif self._folder is not None:
            with contextlib.suppress(OSError):
                path.unlink()

    def _forget_removed(self) -> None:
        """Forgets what room was made of, here or by another model's runner."""
        # before the folder is read, since one of them may be written by then
        there = {*self._unwritten.copy(), *self._held}
        if self._folder is not None:
            with contextlib.suppress(OSError):
                there.update(self._folder.iterdir())
        for path in [path for path in self._index if path not in there]:
            self._index.remove(path)

    def _write_all(self) -> None:
        while (work := self._queue.get()) is not None:
            path, tokens, state = work
            if path in self._unwritten:
                with contextlib.suppress(OSError):  # a full disk: a state less
                    self._write(path, tokens, state)
                if self._unwritten.pop(path, None) is None:  # forgotten while it was written
                    with contextlib.suppress(OSError):
                        path.unlink()
            self._queue.task_done()
        self._queue.task_done()

    def _write(self, path: Path, tokens: list[int], state: State) -> None:
        size = size_of(len(tokens), len(state))
        free = size + KEEP_FREE_BYTES
        if make_room(path.parent, self._max_bytes - size, free=free, spare=self._ending):
            write_state(path, self._key, tokens, state)


class _Index:
    """Which states there are, by their tokens. What they begin with in common is held once."""

    def __init__(self) -> None:
        self._tree = KvTree()
        self._numbers: dict[Path, int] = {}
        self._paths: dict[int, Path] = {}
        self._next = 0

    def __len__(self) -> int:
        return len(self._numbers)

    def __iter__(self) -> Iterator[Path]:
        return iter(self._numbers)

    def add(self, path: Path, tokens: Sequence[int]) -> None:
        self.remove(path)
        number, self._next = self._next, self._next + 1
        self._numbers[path], self._paths[number] = number, path
        found = self._tree.match(tokens)
        if found is None:
            self._tree.add(number)
        else:
            self._tree.fork(found.sequence, number, found.length)
        if rest := tokens[self._tree.length(number) :]:
            self._tree.extend(number, rest)

    def remove(self, path: Path) -> None:
        number = self._numbers.pop(path, None)
        if number is not None:
            del self._paths[number]
            self._tree.remove(number)

    def tokens(self, path: Path) -> list[int]:
        number = self._numbers.get(path)
        return [] if number is None else self._tree.tokens(number)

    def best(self, tokens: Sequence[int], *, whole: bool) -> Saved | None:
        found = self._tree.match(tokens, whole=whole)
        if found is None:
            return None
        return Saved(self._paths[found.sequence], found.length, self._tree.length(found.sequence))
