"""Server-sent events (HTML Living Standard, 9.2), resumable by id.

Ids grow. `?after=ID` and the standard's `Last-Event-ID` header both ask for what follows an event,
so a client that lost its connection misses nothing and repeats nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import TypeVar

from starlette.requests import Request
from starlette.responses import StreamingResponse

from node.errors import FreeholdError
from node.gateway.http import error_reply, query_int, whole
from node.types import JsonObject

INDEX_MAX = 2**63 - 1

T = TypeVar("T")


def after(request: Request) -> int | None:
    """The id of the last event the client has seen; None if it says nothing."""
    last = whole(request.headers.get("last-event-id", ""))
    if last is not None:
        return last
    if "after" not in request.query_params:
        return None
    return query_int(request, "after", 0, INDEX_MAX)


def stream(events: AsyncIterator[bytes], end: asyncio.Event) -> StreamingResponse:
    """A response that lasts until `events` or the daemon ends, or the client goes away."""
    return StreamingResponse(
        _guarded(events, end),
        media_type="text/event-stream",
        headers={"cache-control": "no-store", "x-accel-buffering": "no"},
    )


def frame(identity: int, kind: str, data: JsonObject) -> bytes:
    """One event."""
    body = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return f"id: {identity}\nevent: {kind}\ndata: {body}\n\n".encode()


async def _guarded(events: AsyncIterator[bytes], end: asyncio.Event) -> AsyncIterator[bytes]:
    """A comment first, so that the client knows it is connected; errors become an event."""
    yield b": connected\n\n"
    try:
        async for event in until(end, events):
            yield event
    except FreeholdError as error:
        yield f"event: error\ndata: {json.dumps(error_reply(error))}\n\n".encode()


async def until(end: asyncio.Event, items: AsyncIterator[T]) -> AsyncIterator[T]:
    """The items, until there are no more or `end` is set; closes `items` either way."""
    ended = asyncio.ensure_future(end.wait())
    upcoming: asyncio.Future[T] | None = None
    try:
        while True:
            upcoming = asyncio.ensure_future(anext(items))
            await asyncio.wait({upcoming, ended}, return_when=asyncio.FIRST_COMPLETED)
            if not upcoming.done():
                return
            try:
                yield upcoming.result()
            except StopAsyncIteration:
                return
    finally:
        await _settle(ended, upcoming)
        if hasattr(items, "aclose"):
            await items.aclose()


async def _settle(*futures: asyncio.Future[T] | asyncio.Future[bool] | None) -> None:
    """Cancels what is still under way and waits for it to be gone."""
    for future in futures:
        if future is not None:
            future.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):  # who listened is gone
                await future
