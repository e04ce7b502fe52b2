"""Work on files goes on while no name server answers, and where the system gives little."""

from __future__ import annotations

import asyncio
import resource
import socket
import threading
from typing import Any

import pytest

from node.daemon import make_threads, set_limits

NOFILE = resource.RLIMIT_NOFILE


async def test_names_that_are_looked_up_for_long_hold_up_no_work_on_files(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers = threading.Event()

    def look_up(*_args: Any, **_more: Any) -> list[Any]:
        answers.wait(30)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    make_threads()
    loop = asyncio.get_running_loop()
    names = [asyncio.ensure_future(loop.getaddrinfo("far.example", 443)) for _ in range(40)]
    try:
        assert await asyncio.wait_for(asyncio.to_thread(sum, (1, 2)), 5) == 3
    finally:
        answers.set()
        await asyncio.gather(*names)


async def test_what_the_system_starts_no_thread_for_is_done_by_those_there_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refused(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    make_threads()
    goes_on = threading.Event()
    first = asyncio.ensure_future(asyncio.to_thread(goes_on.wait, 30))
    await asyncio.sleep(0)
    with monkeypatch.context() as short:
        short.setattr(threading.Thread, "start", refused)
        second = asyncio.ensure_future(asyncio.to_thread(sum, (1, 2)))
        await asyncio.sleep(0)
    goes_on.set()
    assert (await first, await second) == (True, 3)


def test_the_daemon_may_open_more_files_than_a_process_begins_with() -> None:
    before, core = (resource.getrlimit(each) for each in (NOFILE, resource.RLIMIT_CORE))
    most = before[1]
    ample = 8192 if most == resource.RLIM_INFINITY else min(8192, most)
    try:
        for begins, has in ((256, min(4096, ample)), (ample, ample)):
            resource.setrlimit(NOFILE, (begins, most))
            set_limits()
            assert resource.getrlimit(NOFILE) == (has, most)
    finally:
        resource.setrlimit(NOFILE, before)
        resource.setrlimit(resource.RLIMIT_CORE, core)
