"""What a relay was asked for, and what of its events the reader has not taken yet (NIP-01)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Self

from wallet.errors import RelayError
from wallet.nwc.events import Event, Filter

QUEUED = 256  # events a subscription keeps for a reader who is behind
REMEMBERED = 4_096  # ids a subscription knows as seen


class Subscription:
    """Events of a relay that match, each once: first the stored ones, then new ones as they come.

    Used as `async with relay.subscribe(...) as events: async for event in events`. It lives
    through reconnections. Iteration raises RelayError where the relay ends it.
    """

    def __init__(self, name: str, filters: Sequence[Filter]) -> None:
        self.name, self.filters = name, tuple(filters)
        self._queue: asyncio.Queue[Event | RelayError | None] = asyncio.Queue()
        self._seen: dict[str, None] = {}
        self._is_stored = False

    @property
    def request(self) -> list[Any]:
        """The message that asks for it."""
        return ["REQ", self.name, *(filter_.to_json() for filter_ in self.filters)]

    def take(self, event: Event) -> bool:
        """Puts an event in the queue, unless it was seen or was not asked for; whether it did."""
        if event.id in self._seen or not any(wanted.matches(event) for wanted in self.filters):
            return False
        if self._queue.qsize() >= QUEUED:
            return False
        self._seen[event.id] = None
        if len(self._seen) > REMEMBERED:
            del self._seen[next(iter(self._seen))]
        self._queue.put_nowait(event)
        return True

    def end_of_stored(self) -> bool:
        """Marks that all stored events have come; whether that is news."""
        if self._is_stored:
            return False
        self._is_stored = True
        self._queue.put_nowait(None)
        return True

    def fail(self, error: RelayError) -> None:
        """Ends it with an error."""
        self._queue.put_nowait(error)

    async def stored(self) -> tuple[Event, ...]:
        """The events up to the end of the stored ones.

        Raises:
            RelayError: the relay ended it.
        """
        events = []
        while (event := await self._next()) is not None:
            events.append(event)
        return tuple(events)

    async def _next(self) -> Event | None:
        item = await self._queue.get()
        if isinstance(item, RelayError):
            raise item
        return item

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        while (event := await self._next()) is None:
            pass
        return event
