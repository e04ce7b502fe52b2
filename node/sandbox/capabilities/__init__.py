"""What a guest can reach: one module an interface, and the table of them all."""

from __future__ import annotations

from functools import cache

from node.sandbox.binding import HostFunction
from node.sandbox.capabilities.http import http_functions
from node.sandbox.capabilities.small import clock_functions, knowledge_functions, random_functions
from node.sandbox.capabilities.store import store_functions
from node.sandbox.capabilities.workspace import workspace_functions
from node.sandbox.limits import Limits

__all__ = ["host_interfaces"]


@cache
def host_interfaces(limits: Limits) -> dict[str, tuple[HostFunction, ...]]:
    """The host functions of each interface of `freehold:tool`, by the interface's name."""
    return {
        "workspace": workspace_functions(limits),
        "http": http_functions(limits),
        "knowledge": knowledge_functions(),
        "store": store_functions(limits),
        "clock": clock_functions(),
        "random": random_functions(),
    }
