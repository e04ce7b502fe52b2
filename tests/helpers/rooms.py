"""A node's rooms, joined in this process as the daemon joins them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from node.clock import SystemClock
from node.config import load
from node.gateway import Control
from node.home import Home
from node.inference import Engine
from node.rooms import compose


@asynccontextmanager
async def opened(home: Home, engine: Engine | None = None) -> AsyncIterator[Control]:
    """The node of a home, with its own engine where none is given."""
    async with AsyncExitStack() as rooms:
        control = await compose(
            home,
            load(home.config, {}),
            rooms,
            clock=SystemClock(),
            engine=engine,
            storage=None,
            stop=lambda: None,
            ready=asyncio.Event(),
        )
        yield control
        await control.runs.drain(0)
