"""From wasmtime's words to the node's errors: a component's trap has a text and no code.

Before the cause stands a trace with the names that the guest gave its functions, which may be
anything: they are not looked at.
"""

from __future__ import annotations

import re

from node.errors import FreeholdError, ToolLimitError, ToolTrapError
from node.sandbox.hostcall import HostCall
from node.sandbox.limits import Limits

_TRAP = re.compile(r"wasm trap: ([^\n]+)")
_TRACE, _CAUSE = "wasm backtrace:", "Caused by:"
_LONGEST = 300
# What wasmtime lets a guest hand over in one host call, counted in the host's own, larger values:
# a list of bytes takes about thirty times its length. Its C API has no way to change it.
WASMTIME_COPIED_BYTES = 128 * 1024 * 1024
_SIZES = (
    (re.compile(r"minimum byte size|memory minimum size"), "memory_bytes"),
    (re.compile(r"minimum element size|table minimum size"), "table_elements"),
    (re.compile(r"memories|memory count"), "memories"),
    (re.compile(r"tables|table count"), "tables"),
    (re.compile(r"instances|instance count"), "instances"),
)


def translate(message: str, call: HostCall) -> FreeholdError:
    """The error for a call that ended with `message`; the host's own reason comes first."""
    if call.error is not None:
        return call.error
    if _TRACE in message:
        message = message.rpartition(_CAUSE)[2]
    trap = _TRAP.search(message)
    reason = trap[1][:_LONGEST] if trap else _last_line(message)
    if "all fuel consumed" in reason:
        return call.over("fuel")
    if "call stack exhausted" in reason:
        return call.over("stack_bytes")
    if "fuel allocated for hostcalls" in message:
        return call.over("copied_bytes", WASMTIME_COPIED_BYTES)
    if "handle limit exceeded" in message:
        return ToolLimitError(
            f"tool {call.tool} went over wasmtime's limit of handles and was stopped",
            hint="A tool must drop the resources that it makes.",
        )
    limit = static_limit(message)
    return call.over(limit) if limit else _trapped(reason, call)


def static_limit(message: str) -> str | None:
    """The name of the limit of size or number that a component was refused for, if it was."""
    if re.search(r"exceed|limit|too high|too large", message):
        for words, limit in _SIZES:
            if words.search(message):
                return limit
    return None


def _trapped(reason: str, call: HostCall) -> ToolTrapError:
    printed = bytes(call.stdout[-500:]).decode(errors="replace").strip()
    said = f"; it printed: {printed}" if printed else ""
    return ToolTrapError(
        f"tool {call.tool} trapped: {reason}{said}", hint=_hint(reason, call.limits)
    )


def _hint(reason: str, limits: Limits) -> str:
    if "unreachable" in reason:
        return (
            "A tool gives up so when it is refused more than "
            f"memory_bytes = {limits.memory_bytes} or table_elements = {limits.table_elements}."
        )
    return "The tool has a fault; its author can find it with `freehold tool test`."


def _last_line(message: str) -> str:
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    return lines[-1][:_LONGEST] if lines else "no reason given"
