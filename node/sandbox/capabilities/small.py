"""The capabilities that are one function each: `clock`, `random` and `knowledge`."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import CancelledError

from node.errors import FreeholdError
from node.sandbox import abi
from node.sandbox.abi import Err
from node.sandbox.binding import HostFunction
from node.sandbox.hostcall import HostCall
from node.types import Json

_QUERY_BYTES = 4096


def _now(call: HostCall) -> int:
    call.require("clock", call.grant.clock)
    return int(call.clock.wall() * 1000)


def clock_functions() -> tuple[HostFunction, ...]:
    """The functions of `freehold:tool/clock`."""
    return (HostFunction("now", _now, result=abi.put_u64),)


def _bits(call: HostCall) -> int:
    call.require("random", call.grant.random)
    return int.from_bytes(call.entropy(8))


def random_functions() -> tuple[HostFunction, ...]:
    """The functions of `freehold:tool/random`."""
    return (HostFunction("bits", _bits, result=abi.put_u64),)


def _search(call: HostCall, query: str, limit: int) -> str | Err:
    search, loop = call.require("knowledge", call.grant.knowledge), call.loop
    if loop is None:
        return Err("knowledge cannot be searched outside of an event loop")

    async def ask() -> Json:
        return await search(query, min(limit, call.limits.knowledge_results))

    found = asyncio.run_coroutine_threadsafe(ask(), loop)
    try:
        text = json.dumps(found.result(call.remaining_s()), ensure_ascii=False)
    except (TimeoutError, CancelledError):
        found.cancel()
        return Err("the search took too long")
    except FreeholdError as error:
        return Err(error.message)
    call.origins["knowledge:"] = None
    return text


def knowledge_functions() -> tuple[HostFunction, ...]:
    """The functions of `freehold:tool/knowledge`."""
    return (
        HostFunction(
            "search",
            _search,
            params=(abi.text, abi.u32),
            result=abi.put_result(abi.put_text, abi.put_text),
            limit=_QUERY_BYTES,
            soft=True,
        ),
    )
