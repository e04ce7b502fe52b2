"""This project's wallet behind the commands of the other peers, for benches; see scripts/_peers.py.

.venv/bin/python freehold.py MINT_URL FOLDER
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from _commands import answer, measured

from wallet import Wallet
from wallet.mint import HttpTransport, MintClient
from wallet.types import TransportRequest, TransportResponse

KEY = b"\x33" * 32


class Timed(HttpTransport):
    """HTTP that adds up how long requests are at the mint, all of them together."""

    at_mint_s = 0.0

    async def send(self, request: TransportRequest) -> TransportResponse:
        """See `wallet.types.Transport`."""
        began = time.perf_counter()
        try:
            return await super().send(request)
        finally:
            Timed.at_mint_s += time.perf_counter() - began


class Commands:
    """What it can be told. `other` is a second wallet, a payee beside the payer."""

    def __init__(self, url: str, wallet: Wallet, other: Wallet) -> None:
        self._url, self._wallet, self._other = url, wallet, other

    async def fund(self, amount: int) -> int:
        invoice = await self._wallet.request_invoice(amount)
        await self._wallet.claim_invoice(invoice.operation, wait=60)
        return self._wallet.balance()

    async def balance(self) -> int:
        return self._wallet.balance()

    async def send_many(self, amounts: list[int]) -> dict[str, Any]:
        return await measured(self._send, amounts)

    async def receive_many(self, tokens: list[str]) -> dict[str, Any]:
        return await measured(self._receive, tokens)

    async def pay_in_flight(self, amounts: list[int], at_once: int) -> dict[str, Any]:
        """Whole payments, made and redeemed, so many at the same time."""
        left = list(amounts)

        async def pay() -> None:
            while left:
                sent = await self._wallet.send(left.pop())
                await self._other.receive(sent.token)

        before, Timed.at_mint_s = self._other.balance(), 0.0
        began, began_cpu = time.perf_counter(), time.process_time()
        await asyncio.gather(*(pay() for _ in range(at_once)))
        return {
            "wall_s": time.perf_counter() - began,
            "cpu_s": time.process_time() - began_cpu,
            "at_mint_s": Timed.at_mint_s,
            "received": self._other.balance() - before,
        }

    async def _send(self, amount: int) -> str:
        return (await self._wallet.send(amount)).token

    async def _receive(self, token: str) -> int:
        return (await self._wallet.receive(token)).amount


async def main(url: str, folder: Path) -> None:
    """Answers until its input ends."""
    files = (folder / "wallet.db", folder / "other.db")
    wallet, other = [
        await Wallet.open(file, key=KEY, connect=lambda url: MintClient(url, Timed(url)))
        for file in files
    ]
    async with wallet, other:
        await wallet.add_mint(url)
        await other.add_mint(url)
        await answer(Commands(url, wallet, other), sys.stdout)


asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
