"""What the peers written in Python share: commands of one JSON line each, and the time they take.

Runs in a peer's own environment, so it imports nothing but the standard library.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any, TextIO


async def measured(act: Callable[[Any], Awaitable[Any]], items: list[Any]) -> dict[str, Any]:
    """Each item in turn: what came of it, seconds each, and this process's CPU seconds for all."""
    results, seconds = [], []
    began_cpu = time.process_time()
    for item in items:
        began = time.perf_counter()
        results.append(await act(item))
        seconds.append(time.perf_counter() - began)
    cpu = time.process_time() - began_cpu
    return {"results": results, "seconds": seconds, "cpu_s": cpu}


async def answer(commands: object, answers: TextIO) -> None:
    """Does what each line of standard input says, by the method `do` names, until there is none."""

    def tell(message: dict[str, Any]) -> None:
        print(json.dumps(message), file=answers, flush=True)

    tell({"answer": "ready"})
    while line := await asyncio.to_thread(sys.stdin.readline):
        given = json.loads(line)
        try:
            tell({"answer": await getattr(commands, given.pop("do"))(**given)})
        except Exception as error:
            tell({"error": f"{type(error).__name__}: {error}"})
