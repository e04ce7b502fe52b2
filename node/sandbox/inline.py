"""Which calls run on the event loop's own thread, and when a tool has lost that for a while.

A small guest runs for less time than it takes to wake a thread and be woken by it, so a call that
will surely be short is made where it is asked for. Surely means:

- The tool ships with the node. Fuel is charged for what bulk instructions move, but looked at only
  where the guest loops or calls, and here no ticker runs, so a hostile component could hold the
  loop for long. A program that a shipped interpreter runs cannot choose its instructions.
- It imports no capability. The virtual WASI does not block, and a call that reaches nothing
  outside can be made again, on a thread, if it turns out not to be short: a call here either
  answers or never happened.
- It has little fuel (`Limits.inline_fuel`, a fraction of a millisecond) and little time.
"""

from __future__ import annotations

import resource
import threading
from dataclasses import dataclass

from node.sandbox.limits import MIB, Limits
from node.sandbox.types import ToolResult

_MOST_WAITED = 256
_HOST_STACK_BYTES = 2 * MIB


def has_room(limits: Limits) -> bool:
    """Whether a guest may use its whole stack here: the main thread's is as large as is allowed,
    while that of another may be smaller than a guest's."""
    allowed, _ = resource.getrlimit(resource.RLIMIT_STACK)
    enough = limits.stack_bytes + _HOST_STACK_BYTES
    is_main = threading.current_thread() is threading.main_thread()
    return is_main and (allowed == resource.RLIM_INFINITY or allowed >= enough)


@dataclass
class Turns:
    """When a component may next run on the loop: after `waits` more short calls on a thread."""

    waits: int = 1
    penalty: int = 1

    def ended_on_thread(self, result: ToolResult, limits: Limits) -> None:
        """Counts a call that would have been short enough."""
        is_short = result.fuel <= limits.inline_fuel and result.seconds <= limits.inline_seconds
        if self.waits and is_short:
            self.waits -= 1

    def was_long(self) -> None:
        """A call on the loop did not end there: twice as many on a thread before the next."""
        self.penalty = min(2 * self.penalty, _MOST_WAITED)
        self.waits = self.penalty
