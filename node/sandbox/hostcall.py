"""One call of one tool, as the host's side of it sees it: what it may use and what it has used."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from node.clock import Clock
from node.errors import CapabilityError, FreeholdError, ToolLimitError
from node.sandbox.limits import Limits
from node.sandbox.network import Network
from node.sandbox.types import Capability, Grant

_T = TypeVar("_T")
_HINTS = {
    "stack_bytes": "Functions called each other, or data was nested, too deep: use a loop.",
}
READS_ONLY = "this function is one that only reads (read_only in its tool.toml)"


class RefusedError(Exception):
    """What the guest is told in place of an answer."""


class Closable(Protocol):
    """Something that must be closed."""

    def close(self) -> None:
        """Closes it."""
        ...


@dataclass
class Usage:
    """What a workspace holds: bytes, and names of files and folders; as of the change `stamp`."""

    size: int = 0
    files: int = 0
    stamp: int = 0


@dataclass
class HostCall:
    """The state behind the host functions of one call.

    `deadline_s` is on the clock's monotonic time; `fuel` is what the guest starts with. `entropy`
    gives that many unpredictable bytes. `loop` is where the grant's coroutines run; a call made
    outside of one has none. Whatever the call opened is on `resources` and closed with it.
    `payments` were asked for, `tokens` were paid with, and must not be told to anyone.
    `skipped_ns` and `chance` are the state of `wasi`'s virtual clock and virtual chance.
    """

    tool: str
    seed: str
    grant: Grant
    limits: Limits
    clock: Clock
    network: Network
    entropy: Callable[[int], bytes]
    deadline_s: float
    fuel: int = Limits.fuel
    loop: asyncio.AbstractEventLoop | None = None
    resources: ExitStack | None = None
    is_cancelled: bool = False
    error: FreeholdError | None = None
    host_calls: int = 0
    http_requests: int = 0
    payments: int = 0
    tokens: list[str] = field(default_factory=list, repr=False)
    egress_bytes: int = 0
    origins: dict[str, None] = field(default_factory=dict)
    usage: Usage | None = None
    database: sqlite3.Connection | None = None
    started_s: float = 0.0
    skipped_ns: int = 0
    chance: int = 0
    stdout: bytearray = field(default_factory=bytearray)

    def require(self, capability: Capability, held: _T | None) -> _T:
        """What the grant holds of a capability. Raises CapabilityError where that is nothing."""
        if not held:
            raise CapabilityError(f"tool {self.tool} was not granted {capability}")
        return held

    def remaining_s(self) -> float:
        """Seconds left, never negative."""
        return max(0.0, self.deadline_s - self.clock.monotonic())

    def stop(self, error: FreeholdError) -> FreeholdError:
        """Notes why the call ends; the first reason stays."""
        self.error = self.error or error
        return self.error

    def check(self) -> None:
        """Raises ToolLimitError where the call's time is over or nobody waits for it any more."""
        if self.is_cancelled:
            raise self.stop(ToolLimitError(f"the call of {self.tool} was cancelled"))
        if self.clock.monotonic() >= self.deadline_s:
            raise self.stop(self.over("seconds"))

    def count(self) -> None:
        """Counts a host call. Raises ToolLimitError past the limit."""
        self.host_calls += 1
        if self.host_calls > self.limits.host_calls:
            raise self.stop(self.over("host_calls"))

    def over(self, limit: str, value: float | None = None) -> ToolLimitError:
        """The error for a limit that was hit: the one of `Limits`, where no `value` is given."""
        value = getattr(self.limits, limit) if value is None else value
        return ToolLimitError(
            f"tool {self.tool} went over its limit {limit} = {_plain(value)} and was stopped",
            hint=_HINTS.get(limit, "Give it less to do in one call."),
        )

    def count_request(self) -> None:
        """Counts a request. Raises ToolLimitError past the limit."""
        self.http_requests += 1
        if self.http_requests > self.limits.http_requests:
            raise self.stop(self.over("http_requests"))

    def count_bytes(self, sent: int) -> None:
        """Counts what is about to be sent. Raises ToolLimitError past the limit, and nothing is to
        be sent then."""
        limit, granted = self.limits.egress_bytes, self.grant.egress_bytes
        most = limit if granted is None else min(limit, granted)
        if self.egress_bytes + sent > most:
            raise self.stop(self.over("egress_bytes", most))
        self.egress_bytes += sent

    def keep(self, resource: Closable) -> None:
        """Closes `resource` when the call ends."""
        self.resources = self.resources or ExitStack()
        self.resources.callback(resource.close)

    def close(self) -> None:
        """Closes whatever the call opened."""
        if self.resources is not None:
            self.resources.close()


def _plain(value: float) -> str:
    return str(int(value)) if value == int(value) else str(value)
