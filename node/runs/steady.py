"""Waiting for something that must not be interrupted half-way."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
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


def _cancel_at_next_wait() -> None:
    current = asyncio.current_task()
    if current is not None:
        current.uncancel()
        current.cancel()
