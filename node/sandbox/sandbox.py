"""Runs tools: each call in a fresh store, with what it was granted.

A component (see `components`) is instantiated anew for every call, so that nothing of one call is
there in the next. Guests run on a few threads of this process, where wasmtime lets go of the
interpreter's lock; only what is sure to be very short runs on the event loop's own (see `inline`).
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import re
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from typing import TypeVar

import wasmtime

from node.clock import Clock, SystemClock
from node.errors import SandboxError, ToolError
from node.sandbox.abi import Err, TooLongError
from node.sandbox.binding import Guest
from node.sandbox.components import Components, Prepared
from node.sandbox.engine import Ticker, build_engine
from node.sandbox.hostcall import HostCall
from node.sandbox.inline import has_room
from node.sandbox.limits import Limits
from node.sandbox.linking import check_grant, empty_linker
from node.sandbox.network import Network, SystemNetwork
from node.sandbox.threads import Threads
from node.sandbox.traps import translate
from node.sandbox.types import Capability, Grant, ToolManifest, ToolResult
from node.types import JSON_DEPTH, Json, JsonObject, canonical, deeper

_T = TypeVar("_T")
_ESCAPED_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


class Sandbox:
    """Runs the functions of tools.

    Args:
        cache: folder of compiled code; made, 0700, if it is not there.
        limits: of each call and of the sandbox.
        clock: time of deadlines and of the guests that were granted `clock`.
        entropy: unpredictable bytes, for the guests that were granted `random`.
        network: where requests of guests that were granted `http` go.
    """

    def __init__(
        self,
        cache: Path,
        *,
        limits: Limits | None = None,
        clock: Clock | None = None,
        entropy: Callable[[int], bytes] = os.urandom,
        network: Network | None = None,
    ) -> None:
        self._limits = limits or Limits()
        self._clock, self._entropy = clock or SystemClock(), entropy
        self._network = network or SystemNetwork()
        self._engine = build_engine(self._limits)
        self._ticker = Ticker(self._engine)
        self._components = Components(cache, self._engine, self._limits)
        self._threads = Threads(self._limits.concurrency, "sandbox")

    async def call(
        self, manifest: ToolManifest, function: str, arguments: JsonObject, grant: Grant
    ) -> ToolResult:
        """Calls one function of a tool with `arguments`, which fit its schema.

        Raises:
            ToolLimitError: time, fuel, memory, input or output went over its limit.
            ToolTrapError: the guest trapped.
            CapabilityError: the component wants what the grant does not hold.
            ToolError: no such function, a changed component, or an answer that is not JSON.
        """
        manifest.function(function)
        prepared = await self._components.get(manifest)
        check_grant(manifest.name, prepared.wants, grant)
        call = self._host_call(manifest, grant)
        text = _input(manifest.name, function, arguments)
        if len(text) > self._limits.input_bytes:
            raise call.over("input_bytes")
        if manifest.is_shipped and prepared.is_ready_inline and has_room(self._limits):
            await asyncio.sleep(0)  # calls one after the other let everything else have its turn
            result = self._run_inline(prepared, call, text)
            if result is not None:
                return result
            call = self._host_call(manifest, grant)
        try:
            result = await self._on_thread(call, lambda: self._run(prepared, call, text))
        except SandboxError as error:
            error.egress_bytes, error.origins = call.egress_bytes, tuple(call.origins)
            raise
        prepared.turns.ended_on_thread(result, self._limits)
        return result

    async def describe(self, manifest: ToolManifest) -> JsonObject:
        """What the component says of itself, as parsed JSON; it is given no capability.

        Raises: as `call`.
        """
        prepared = await self._components.get(manifest)
        call = self._host_call(manifest, Grant())
        return await self._on_thread(call, lambda: self._describe(prepared, call))

    async def prepare(self, manifest: ToolManifest) -> frozenset[Capability]:
        """Compiles a tool so that the next call is quick; answers the capabilities it wants.

        Raises: as `call`.
        """
        return (await self._components.get(manifest)).wants

    async def compile_ahead(self, manifests: Iterable[ToolManifest]) -> None:
        """Compiles what was never compiled here, one after the other, and keeps nothing loaded.

        A tool that cannot be compiled is left to the call that wants it, which can say so.
        """
        await self._components.compile_ahead(manifests)

    async def aclose(self) -> None:
        """Ends compilations, waits for calls in flight and ends the threads."""
        self._threads.close()
        await self._components.aclose()
        await asyncio.to_thread(self._threads.join)
        self._ticker.close()

    def _host_call(self, manifest: ToolManifest, grant: Grant) -> HostCall:
        return HostCall(
            tool=manifest.name,
            seed=manifest.sha256,
            grant=grant,
            limits=self._limits,
            clock=self._clock,
            network=self._network,
            entropy=self._entropy,
            deadline_s=self._clock.monotonic() + self._limits.seconds,
            fuel=self._limits.fuel,
            loop=asyncio.get_running_loop(),
        )

    async def _on_thread(self, call: HostCall, work: Callable[[], _T]) -> _T:
        """Runs `work` on a thread. Where the caller is cancelled, the guest stops at its tick."""
        try:
            return await self._threads.run(lambda: self._timed(call, work))
        except asyncio.CancelledError:
            call.is_cancelled = True
            raise

    def _timed(self, call: HostCall, work: Callable[[], _T]) -> _T:
        call.started_s = self._clock.monotonic()
        call.deadline_s = call.started_s + self._limits.seconds
        self._ticker.enter()
        try:
            call.check()
            return work()
        except wasmtime.WasmtimeError as error:
            raise translate(str(error), call) from None
        except TooLongError:
            raise call.over("output_bytes") from None
        finally:
            self._ticker.leave()
            call.close()

    def _run_inline(self, prepared: Prepared, call: HostCall, text: bytes) -> ToolResult | None:
        """The result, where the call was as short as it may be here; else it never happened."""
        self._threads.check_open()
        call.started_s = self._clock.monotonic()
        call.deadline_s = call.started_s + self._limits.inline_seconds
        call.fuel = self._limits.inline_fuel
        try:
            return self._run(prepared, call, text)
        except (wasmtime.WasmtimeError, TooLongError, ToolError):
            prepared.turns.was_long()
            return None
        finally:
            call.close()

    def _run(self, prepared: Prepared, call: HostCall, text: bytes) -> ToolResult:
        started = self._clock.monotonic()
        with closing(Guest(self._engine, prepared.linker, prepared.component, call)) as guest:
            answer = guest.call(prepared.call, text)
            fuel = guest.fuel_used()
        failed = isinstance(answer, Err)
        return ToolResult(
            ok=not failed,
            value={"error": answer.value} if isinstance(answer, Err) else _parse(answer, call.tool),
            seconds=self._clock.monotonic() - started,
            fuel=fuel,
            egress_bytes=call.egress_bytes,
            origins=tuple(call.origins),
        )

    def _describe(self, prepared: Prepared, call: HostCall) -> JsonObject:
        linker = empty_linker(self._engine, prepared.component, prepared.imports, self._limits)
        with closing(Guest(self._engine, linker, prepared.component, call)) as guest:
            told = _parse(guest.describe(prepared.describe), call.tool)
        if not isinstance(told, dict):
            raise ToolError(f"tool {call.tool} describes itself as something that is no object")
        return told


def _input(tool: str, function: str, arguments: JsonObject) -> bytes:
    """What `call` is given, in UTF-8. Raises ToolError where the arguments are not JSON."""
    given = {"function": function, "arguments": arguments}
    try:
        return json.dumps(given, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, TypeError, RecursionError) as error:
        raise ToolError(f"the arguments for {tool} are not JSON: {error}") from None


def _no_constant(name: str) -> Json:
    raise ValueError(f"{name} is not JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ValueError("a number is too large")
    return number


def _parse(text: str, tool: str) -> Json:
    """The JSON a tool answered. Raises ToolError."""
    try:
        value: Json = json.loads(text, parse_constant=_no_constant, parse_float=_finite)
        if deeper(text.encode(), JSON_DEPTH):
            raise ValueError(f"it is nested over {JSON_DEPTH} deep")
        if _ESCAPED_SURROGATE.search(text):
            canonical(value)
    except (ValueError, RecursionError) as error:
        raise ToolError(
            f"tool {tool} answered something that is not JSON: {str(error)[:200]}",
            hint="Its author can find it with `freehold tool test`.",
        ) from None
    return value
