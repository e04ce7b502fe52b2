"""Waiting for something that must not be interrupted half-way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

T = TypeVar("T")


async def steadily(work: Coroutine[Any, Any, T]) -> T:
    """Sees `work` to its end. A cancellation that comes meanwhile strikes at the next wait."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        if task.cancelled():
            raise
    while not task.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait([task])
    _cancel_at_next_wait()
    return task.result()


@asynccontextmanager
async def within(limit: asyncio.Timeout) -> AsyncIterator[None]:
    """As the limit itself, of which nothing is left at the block's end.

    Up to Python 3.12 its cancellation, where it came while there was something to see to its end
    and then no wait, would strike after the block, and pass for one of the whole task.
    """
    try:
        async with limit:
            yield
    finally:
        if limit.expired():
            await _struck()


async def _struck() -> None:
    task = asyncio.current_task()
    try:
        await asyncio.sleep(0)
    except asyncio.CancelledError:
        if task is None or task.cancelling():
            raise


def _cancel_at_next_wait() -> None:
    current = asyncio.current_task()
    if current is not None:
        current.uncancel()
        current.cancel()
