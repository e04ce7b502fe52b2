"""A call of a tool, as its host functions see it, without the tool."""

from __future__ import annotations

import asyncio
import os

from node.clock import Clock, ManualClock
from node.sandbox import Grant, Limits
from node.sandbox.hostcall import HostCall
from node.sandbox.network import Network, SystemNetwork


def call_with(
    grant: Grant,
    *,
    tool: str = "tool",
    clock: Clock | None = None,
    network: Network | None = None,
    loop: asyncio.AbstractEventLoop | None = None,
    **limits: float,
) -> HostCall:
    """One that has 30 seconds; the clock moves only when told to, where none is given."""
    clock = clock or ManualClock()
    return HostCall(
        tool=tool,
        seed="",
        grant=grant,
        limits=Limits(**limits),  # type: ignore[arg-type]
        clock=clock,
        network=network or SystemNetwork(),
        entropy=os.urandom,
        deadline_s=clock.monotonic() + 30,
        loop=loop,
    )
