"""Work that a cancellation does not tear apart."""

from __future__ import annotations

import asyncio

import pytest

from node.runs.steady import steadily


async def test_the_work_is_done_and_the_cancellation_comes_after() -> None:
    begun, go, done = asyncio.Event(), asyncio.Event(), []

    async def work() -> int:
        begun.set()
        await go.wait()
        done.append("work")
        return 7

    async def caller() -> None:
        done.append(await steadily(work()))
        await asyncio.sleep(0)
        done.append("never")

    task = asyncio.create_task(caller())
    await begun.wait()
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert done == ["work", 7]


async def test_what_the_work_raises_is_raised() -> None:
    async def work() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await steadily(work())
