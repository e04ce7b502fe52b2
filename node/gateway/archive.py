"""The route that streams a backup: written in a thread, handed on as it is made.

It holds every key and the wallet's seed with them, so it is given where the seed is told: over the
UNIX socket only, which does not leave the machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from node import backup
from node.gateway.control import Control, control
from node.gateway.http import check_local

CHUNK_BYTES = 256 * 1024


async def download(request: Request) -> Response:
    check_local(
        request,
        "an archive holds the node's keys, and is given over its own socket only",
        hint="Run `freehold backup` on the machine itself.",
    )
    return StreamingResponse(_archive(control(request)), media_type="application/gzip")


async def _archive(node: Control) -> AsyncIterator[bytes]:
    """The archive's bytes. A failure half-way breaks the connection off, so it is not mistaken.

    The threads are its own: a client that stops reading holds up no other work of the node.
    """
    loop, threads = asyncio.get_running_loop(), ThreadPoolExecutor(2, thread_name_prefix="backup")
    reading, writing = os.pipe()
    entries = node.log.size

    def produce() -> None:
        with contextlib.suppress(BrokenPipeError), open(writing, "wb") as target:
            backup.write(node.home, node.config.node.name, entries, target)

    producer = loop.run_in_executor(threads, produce)
    try:
        while chunk := await loop.run_in_executor(threads, os.read, reading, CHUNK_BYTES):
            yield chunk
    finally:
        os.close(reading)  # a producer that still writes gets EPIPE
        await asyncio.wait({producer})
        threads.shutdown(wait=False)
    producer.result()


ROUTES = [Route("/backup", download, methods=["GET"])]
