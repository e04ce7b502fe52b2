"""The queue before a model: persons before background work, each in the order they came.

So that background work is not held off for ever, one of it goes first after `PERSONS_IN_A_ROW`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Generic, Protocol, TypeVar

PERSONS_IN_A_ROW: Final = 4


class Waits(Protocol):
    """What can stand in the queue."""

    number: int
    person: bool


T = TypeVar("T", bound=Waits)


class Waiting(Generic[T]):
    """Generations that have no place yet."""

    def __init__(self) -> None:
        self._persons: dict[int, T] = {}
        self._background: dict[int, T] = {}
        self._in_a_row = 0

    def __len__(self) -> int:
        return len(self._persons) + len(self._background)

    def add(self, job: T) -> None:
        """Puts one at the end of its line."""
        (self._persons if job.person else self._background)[job.number] = job

    def remove(self, number: int) -> T | None:
        """Takes one out, wherever it stands."""
        return self._persons.pop(number, None) or self._background.pop(number, None)

    @property
    def owes_background(self) -> bool:
        """Whether so many persons went before background work that it is its turn."""
        return self._in_a_row >= PERSONS_IN_A_ROW

    def __iter__(self) -> Iterator[T]:
        """In the order in which they should get a place."""
        lines = (self._persons, self._background)
        if self.owes_background:
            yield from list(self._background.values())[:1]
        for line in lines:
            yield from list(line.values())

    def take(self, job: T) -> None:
        """Says that one has got its place."""
        overtakes = job.person and bool(self._background)
        self._in_a_row = self._in_a_row + 1 if overtakes else 0
        self.remove(job.number)
