"""A shop on loopback that sells one page for ecash (HTTP 402, NUT-24), with a wallet of its own.

What answers a 402 is held against the very request that named the price, and redeemed before the
page is given: so the shop's wallet is what it earned.
"""

from __future__ import annotations

import asyncio
import tempfile
import threading
from collections.abc import Coroutine
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeVar

from wallet import Wallet
from wallet.errors import WalletError
from wallet.protocol import p2pk, requests, tokens
from wallet.protocol.requests import PaymentRequest

T = TypeVar("T")


class Shop:
    """Sells `page` at `url` for `price_sat` of the mint's ecash. Used as a context manager."""

    def __init__(self, mint: str, *, price_sat: int, page: str) -> None:
        self.page = page
        self._mint, self._price_sat = mint, price_sat
        self._folder = tempfile.TemporaryDirectory(prefix="shop-")
        self._asked: dict[str, PaymentRequest] = {}
        self._loop = asyncio.new_event_loop()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/page"
        self._threads = [
            threading.Thread(target=self._loop.run_forever, daemon=True),
            threading.Thread(target=self._server.serve_forever, daemon=True),
        ]

    def __enter__(self) -> Shop:
        for thread in self._threads:
            thread.start()
        self._wallet = self._do(self._open())
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._do(self._wallet.aclose())
        self._loop.call_soon_threadsafe(self._loop.stop)
        for thread in self._threads:
            thread.join()
        self._folder.cleanup()

    @property
    def earned_sat(self) -> int:
        """What its wallet holds."""
        return self._wallet.balance()

    def ask(self) -> str:
        """A price, locked to a key of its own."""
        made = self._do(self._wallet.make_request(self._price_sat, single_use=True))
        assert made.lock is not None
        self._asked[made.lock.data] = made
        return requests.encode(made)

    def take(self, token: str) -> bool:
        """Whether a token pays for the page; it is redeemed then."""
        return self._do(self._redeem(token))

    async def _open(self) -> Wallet:
        opened = await Wallet.open(Path(self._folder.name) / "wallet.db", key=bytes(32))
        await opened.add_mint(self._mint)
        return opened

    async def _redeem(self, token: str) -> bool:
        try:
            for key in locks(token) & self._asked.keys():
                await self._wallet.redeem(token, self._asked[key])
                return True
        except WalletError:
            return False
        return False

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


def locks(token: str) -> set[str]:
    """The keys that a token's proofs are locked to. Raises WalletError where it is no token."""
    found = (p2pk.lock_of(proof.secret) for proof in tokens.decode(token).proofs)
    return {key.hex() for lock in found if lock for key in lock.keys}


def _handler(shop: Shop) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            token = self.headers.get("X-Cashu")
            if token is None:
                self._reply(402, "This page is sold.", shop.ask())
            elif shop.take(token):
                self._reply(200, shop.page)
            else:
                self._reply(400, "That does not pay for it.")

        def _reply(self, status: int, body: str, price: str = "") -> None:
            self.send_response(status)
            if price:
                self.send_header("X-Cashu", price)
            self.send_header("Content-Type", "text/plain; charset=utf-8")
            self.send_header("Content-Length", str(len(body.encode())))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    return Handler
