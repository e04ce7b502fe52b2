"""Bounds on what a server may take, and the clock of one stream."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

from node.errors import RemoteError

NOT_AGAIN: Final = "The request is not sent again by itself, since it may have been worked on."


@dataclass(frozen=True)
class RemoteLimits:
    """Bounds on what a server may take. Seconds and bytes.

    Attributes:
        connect_s: to connect, TLS included.
        ask_s: for one small question (which models, how many tokens).
        first_token_s: from the request to the first piece of the answer.
        between_s: from one piece to the next; keep-alive comments do not count as pieces.
        after_s: from the end of an answer to the end of its stream.
        whole_s: for a whole generation, retries included.
        line_bytes: one line of a stream, or a small answer.
        token_bytes: of the stream for each token asked for, over `line_bytes`.
        whole_token_bytes: the same of a reply that is no stream, and so is read as one value.
        retries: further attempts where the server cannot have begun.
        retry_after_s: the longest wait before one that a server may ask for.
        facts_s: how long what a server said of itself is believed.
    """

    connect_s: float = 10.0
    ask_s: float = 20.0
    first_token_s: float = 300.0
    between_s: float = 60.0
    after_s: float = 5.0
    whole_s: float = 600.0
    line_bytes: int = 1024 * 1024
    token_bytes: int = 4096
    whole_token_bytes: int = 256
    retries: int = 3
    retry_after_s: float = 30.0
    facts_s: float = 60.0


class Deadline:
    """When a stream has taken too long: as a whole, or since it last brought something."""

    def __init__(self, limits: RemoteLimits) -> None:
        self._limits = limits
        self._time = asyncio.get_running_loop().time
        self._whole = self._time() + limits.whole_s
        self._next = self._time() + limits.first_token_s
        self._began = False

    def progress(self) -> None:
        """Something came: the next is due anew."""
        self._began = True
        self._next = self._time() + self._limits.between_s

    def last(self) -> None:
        """The answer is whole; what may follow it is due soon."""
        self._next = min(self._next, self._time() + self._limits.after_s)

    def left(self) -> float:
        """Seconds of the whole that are left."""
        return max(0.0, self._whole - self._time())

    @contextlib.asynccontextmanager
    async def hold(self, who: str) -> AsyncIterator[None]:
        """Ends the block, one wait for the server, when it has taken too long."""
        try:
            async with asyncio.timeout_at(min(self._whole, self._next)):
                yield
        except TimeoutError:
            raise RemoteError(f"{who} {self._why()}", hint=NOT_AGAIN) from None

    def _why(self) -> str:
        if self._time() >= self._whole:
            return f"took over {self._limits.whole_s:g} s for one answer"
        if self._began:
            return f"fell silent for {self._limits.between_s:g} s in the middle of its answer"
        return f"did not begin to answer within {self._limits.first_token_s:g} s"
