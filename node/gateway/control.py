"""What the control API is given to work on: the daemon makes it, routes take it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import cast

from starlette.requests import Request

from node.clock import Clock
from node.config import Config
from node.errors import StoppingError
from node.home import Home
from node.inference import Engine, ModelStatus
from node.journal import Journal
from node.money import Keeper, Purse
from node.runs import AgentRegistry, Runs, Settling, Workspaces


@dataclass
class Control:
    """One node, as its control API may touch it.

    `stop` begins the shutdown. `streams_end` is set when the last entry that a follower of the
    journal should see has been written. `started` is wall time in seconds; `loaded` tells
    the process of each model that is loaded, `metrics` what it is doing.
    """

    home: Home
    config: Config
    clock: Clock
    log: Journal
    engine: Engine
    runs: Runs
    agents: AgentRegistry
    workspaces: Workspaces
    keeper: Keeper
    purse: Purse
    settling: Settling
    stop: Callable[[], None]
    started: float
    loaded: Callable[[], Mapping[str, int]] = dict
    metrics: Callable[[], list[ModelStatus]] = list
    resumed: tuple[str, ...] = ()
    stopping: bool = False
    streams_end: asyncio.Event = field(default_factory=asyncio.Event)

    def accept(self) -> None:
        """Raises StoppingError if no new work is taken any more."""
        if self.stopping:
            raise StoppingError(
                "the daemon is shutting down", hint="Start it again with `freehold up`."
            )


def control(request: Request) -> Control:
    """The node a request is about."""
    return cast(Control, request.app.state.control)
