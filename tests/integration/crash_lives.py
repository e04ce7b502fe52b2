"""Lives of a node, one process each: what the scripts beside it, which are to be killed, share.

Started once, a script imports what a run needs and then does as it is told on standard input, one
JSON command a line: forks a child that opens the home, takes up what an earlier child left, or
starts the run, and sees it to its end. Children have a fresh state but need not import again.
"""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import sys
import time
import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path

from node.journal import Boundary, Fault, FaultyStorage, FileStorage, Storage
from node.runs import RunResult, Runs

Live = Callable[[Path, Storage], Awaitable[None]]


def serve(live: Live) -> None:
    """Does what standard input says until it ends. `live` is one life, on that storage."""
    for line in sys.stdin:
        told = json.loads(line)
        found = _run(live, Path(told["home"]), told.get("fault"), told.get("kill_after_s"))
        sys.stdout.write(json.dumps(found) + "\n")
        sys.stdout.flush()


async def first_run(runs: Runs, prompt: str) -> str:
    """The run that an earlier life began, or a new one."""
    ids = await runs.recover() or [run.id for run in runs.list()]
    return ids[0] if ids else await runs.start("clerk", prompt, actor="uid:1")


def keep_answer(home: Path, result: RunResult, **more: object) -> None:
    """Writes down how the run ended."""
    answer = {"status": result.status, "text": result.text, "reason": result.reason, **more}
    (home / "answer").write_text(json.dumps(answer))


def _run(
    live: Live, home: Path, fault: list[str | int] | None, kill_after_s: float | None
) -> dict[str, float]:
    """Forks one life and says how it ended. It is killed after so long, if it lives then."""
    started = time.monotonic()
    over, held = os.pipe()  # the child holds one end: it reads as ended when the child has
    process = os.fork()
    if process == 0:
        _child(live, home, fault)
    os.close(held)
    ended, _, _ = select.select([over], [], [], kill_after_s)
    os.close(over)
    if not ended:
        os.kill(process, signal.SIGKILL)
    _, status = os.waitpid(process, 0)
    return {"status": os.waitstatus_to_exitcode(status), "seconds": time.monotonic() - started}


def _storage(fault: list[str | int] | None) -> Storage:
    if fault is None:
        return FileStorage()
    boundary, nth = fault
    return FaultyStorage(Fault.KILL, Boundary(boundary), int(nth))


def _child(live: Live, home: Path, fault: list[str | int] | None) -> None:
    """The forked process; never returns."""
    try:
        asyncio.run(live(home, _storage(fault)))
        os._exit(0)
    except BaseException:
        (home / "error").write_text(traceback.format_exc())
        os._exit(1)
