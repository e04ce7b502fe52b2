"""The mint in memory over HTTP on loopback, for wallets in other processes.

    with ServedMint(fee_ppk=100) as served:
        served.url  # a wallet elsewhere adds this
        served.mint.pay(invoice)

It has no websocket: wallets poll. Connections have threads; the mint has one of its own, on which
it acts on one request after another.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeVar

from wallet.errors import WalletError
from wallet.mint.testing.mint import MemoryMint
from wallet.types import TransportRequest, TransportResponse

T = TypeVar("T")
_MOST_BODY = 4_000_000


class ServedMint:
    """A MemoryMint at `url`. `fields` are its own.

    Attributes:
        mint: to be looked at and told things; `do` does so on its own thread.
    """

    def __init__(self, **fields: Any) -> None:
        self._loop = asyncio.new_event_loop()
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self.mint = MemoryMint(self.url, **fields)
        self._threads = (
            threading.Thread(target=self._loop.run_forever, daemon=True),
            threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True),
        )

    def do(self, work: Callable[[], T]) -> T:
        """Does something with the mint on its own thread, between two requests."""

        async def done() -> T:
            return work()

        return asyncio.run_coroutine_threadsafe(done(), self._loop).result()

    def answer(self, request: TransportRequest) -> TransportResponse | None:
        """The mint's answer; None where it breaks off without one."""
        asked = asyncio.run_coroutine_threadsafe(self.mint.send(request), self._loop)
        try:
            return asked.result()
        except WalletError:
            return None

    def __enter__(self) -> ServedMint:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._loop.call_soon_threadsafe(self._loop.stop)
        for thread in self._threads:
            thread.join()
        self._loop.close()


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """A wallet that dies in the middle is nothing to tell of."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


def _handler(served: ServedMint) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._serve(TransportRequest("GET", self.path))

        def do_POST(self) -> None:
            size = min(int(self.headers.get("Content-Length") or 0), _MOST_BODY)
            self._serve(TransportRequest("POST", self.path, self.rfile.read(size)))

        def _serve(self, request: TransportRequest) -> None:
            reply = served.answer(request)
            if reply is None:
                self.close_connection = True
                return
            self.send_response(reply.status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(reply.body)))
            self.end_headers()
            self.wfile.write(reply.body)

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    return Handler
