"""From wasmtime's words to the node's errors: a component's trap has a text and no code."""

from __future__ import annotations

import re

from node.errors import FreeholdError, ToolLimitError, ToolTrapError
from node.sandbox.hostcall import HostCall
from node.sandbox.limits import MIB

_TRAP = re.compile(r"wasm trap: ([^\n]+)")
_COUNTS = {
    "instance": "instances",
    "table": "tables",
    "memory count": "memories",
    "memories": "memories",
    "table elements": "table_elements",
    "table minimum": "table_elements",
    "memory minimum": "memory_bytes",
}


def translate(message: str, call: HostCall) -> FreeholdError:
    """The error for a call that ended with `message`; the host's own reason comes first."""
    if call.error is not None:
        return call.error
    trap = _TRAP.search(message)
    reason = trap[1] if trap else _last_line(message)
    if "all fuel consumed" in reason:
        return call.over("fuel", call.limits.fuel)
    if "call stack exhausted" in reason:
        return call.over("stack_bytes", call.limits.stack_bytes)
    return _static_limit(message, call) or _trapped(reason, call)


def _static_limit(message: str, call: HostCall) -> ToolLimitError | None:
    if not re.search(r"exceed|limit|too high|too large", message):
        return None
    for words, limit in sorted(_COUNTS.items(), key=lambda item: -len(item[0])):
        if words in message:
            return call.over(limit, getattr(call.limits, limit))
    return None


def _trapped(reason: str, call: HostCall) -> ToolTrapError:
    printed = bytes(call.stdout[-500:]).decode(errors="replace").strip()
    said = f"; it printed: {printed}" if printed else ""
    return ToolTrapError(
        f"tool {call.tool} trapped: {reason}{said}",
        hint=f"It may have needed more than memory_bytes = {call.limits.memory_bytes // MIB} MiB."
        if "unreachable" in reason
        else "The tool has a fault; its author can find it with `freehold tool test`.",
    )


def _last_line(message: str) -> str:
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "no reason given"
