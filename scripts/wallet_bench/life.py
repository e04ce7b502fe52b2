"""A process with two wallets that pay each other until it is killed; `kills.py` starts and ends it.

    python life.py            the plan comes on stdin, as JSON (`Plan`)

What it does and what it gave away is in `life.log`, one JSON line an event, written before anything
else happens: what a payee would have got is there, however the process ended.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import secrets
import signal
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from wallet.errors import (
    MintUnreachableError,
    OutcomeUnknownError,
    RefusedError,
    WalletError,
)
from wallet.mint import HttpTransport, MintClient
from wallet.operations.results import Rules
from wallet.types import TransportRequest, TransportResponse
from wallet.wallet import Wallet

KEY = bytes(range(32))
NAMES = ("ann", "bob")
RULES = {"ann": Rules(), "bob": Rules(change_pieces=1)}  # bob has to swap for nearly all he pays
OFTEN = {
    "mint": 1,
    "send": 4,
    "kept send": 1,
    "locked send": 3,
    "receive": 6,
    "melt": 2,
    "swap": 1,
    "reclaim": 1,
}
POOR = 250  # sat, below which a wallet mints


@dataclass
class Plan:
    """What one life is to do.

    Attributes:
        first: the operation to begin with.
        die_at: at which of its points to die; None: when the parent says so.
        workers: operations at the same time.
        tokens: what was sent and not redeemed: for whom, and the text.
        sends: sends whose token was given to nobody: whose, and the key.
        invoices: of strangers, to be paid.
    """

    folder: str
    mint: str
    seed: int
    first: str
    die_at: int | None
    workers: int
    tokens: list[tuple[str, str]] = field(default_factory=list)
    sends: list[tuple[str, str]] = field(default_factory=list)
    invoices: list[str] = field(default_factory=list)


class Reaper:
    """Counts the points of an operation, and ends the process at one."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._left: int | None = None
        self._counts = False
        self.passed = 0

    def arm(self, at: int | None) -> None:
        """The points of an operation begin; None: it passes them all."""
        self._left, self._counts, self.passed = at, True, 0

    def disarm(self) -> None:
        """What comes now is not counted."""
        self._left, self._counts, self.passed = None, False, 0

    def point(self, name: str) -> None:
        """Passes a point. Called from the store's thread too."""
        if self._passes():
            self.die(name)

    def soon(self, name: str) -> None:
        """A point that is a while: the answer is on its way."""
        if self._passes():
            delay_s = random.uniform(0, 0.03)
            asyncio.get_running_loop().call_later(delay_s, self.die, name)

    def _passes(self) -> bool:
        if not self._counts:
            return False
        self.passed += 1
        return self.passed == self._left

    def die(self, name: str) -> None:
        """SIGKILL, from the inside: nothing runs after it."""
        self._log("dies", at=name)
        os.kill(os.getpid(), signal.SIGKILL)


class Log:
    """One line an event, in the kernel's hands when it returns."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def __call__(self, event: str, **fields: Any) -> None:
        os.write(self._file, (json.dumps({"event": event, **fields}) + "\n").encode())


class Watched(HttpTransport):
    """HTTP with the points at which a request is given away and answered."""

    reaper: Reaper

    async def send(self, request: TransportRequest) -> TransportResponse:
        """See `wallet.types.Transport`."""
        path = "/".join(request.path.split("/")[:5]) if request.method == "POST" else "a question"
        self.reaper.point(f"before {path}")
        self.reaper.soon(f"during {path}")
        response = await super().send(request)
        self.reaper.point(f"after {path}")
        return response


class Life:
    """The two wallets and what they do."""

    def __init__(self, plan: Plan, wallets: dict[str, Wallet], log: Log, reaper: Reaper) -> None:
        self._plan, self._wallets, self._log, self._reaper = plan, wallets, log, reaper
        self._random = random.Random(plan.seed)
        self._tokens = list(plan.tokens)
        self._sends = list(plan.sends)
        self._invoices = list(plan.invoices)
        self._acts: dict[str, Callable[[str, str], Awaitable[None]]] = {
            "mint": self._mint,
            "send": self._send,
            "kept send": self._kept_send,
            "locked send": self._locked_send,
            "receive": self._receive,
            "melt": self._melt,
            "swap": self._swap,
            "reclaim": self._reclaim,
        }

    async def begin(self) -> None:
        """The first operation, armed; then any, until the end."""
        if self._plan.first in self._acts:
            await self._provide(self._plan.first)
            self._reaper.arm(self._plan.die_at)
            await self._do(self._plan.first)
            self._reaper.disarm()
            print("past", flush=True)
        await asyncio.gather(*(self._work() for _ in range(self._plan.workers)))

    async def _work(self) -> None:
        while True:
            name = self._random.choices(list(OFTEN), list(OFTEN.values()))[0]
            await self._provide(name)
            await self._do(name)

    async def _provide(self, name: str) -> None:
        """What an operation needs to be one."""
        for who, wallet in self._wallets.items():
            if wallet.balance() < POOR:
                await self._do("mint", who)
        if name == "receive" and not self._tokens:
            await self._do("send")
        if name == "reclaim" and not self._sends:
            await self._do("kept send")

    async def _do(self, name: str, who: str | None = None) -> None:
        key = secrets.token_hex(8)
        print("next", flush=True)
        try:
            await self._acts[name](who or self._random.choice(NAMES), key)
        except RefusedError as error:
            self._log("end", key=key, error=f"{type(error).__name__}: {error.message}")
        except (MintUnreachableError, OutcomeUnknownError) as error:
            self._log("doubt", key=key, error=f"{type(error).__name__}: {error.message}")
            await asyncio.sleep(0.1)  # the mint is dead too
        except WalletError as error:
            self._log("trouble", key=key, error=f"{type(error).__name__}: {error.message}")
        else:
            self._log("end", key=key, points=self._reaper.passed)

    def _begins(self, name: str, who: str, key: str, **fields: Any) -> None:
        self._log("begin", name=name, who=who, key=key, **fields)

    # ── the operations ──────────────────────────────────────────────────────────────────────

    async def _mint(self, who: str, key: str) -> None:
        amount = self._random.randint(100, 300)
        self._begins("mint", who, key, amount=amount)
        wallet = self._wallets[who]
        await wallet.request_invoice(amount, key=key)
        await wallet.claim_invoice(key, wait=20)

    async def _send(self, who: str, key: str) -> None:
        self._tokens.append((_other(who), await self._give("send", who, key, None)))

    async def _kept_send(self, who: str, key: str) -> None:
        await self._give("kept send", who, key, None)
        self._sends.append((who, key))

    async def _locked_send(self, who: str, key: str) -> None:
        to = self._wallets[_other(who)].address()
        self._tokens.append((_other(who), await self._give("locked send", who, key, to)))

    async def _give(self, name: str, who: str, key: str, to: bytes | None) -> str:
        amount = self._random.randint(2, 40)  # one sat is what redeeming costs
        self._begins(name, who, key, amount=amount, to=to.hex() if to else None)
        sent = await self._wallets[who].send(amount, to=to, key=key)
        self._log("gave", key=key, token=sent.token)
        return sent.token

    async def _receive(self, who: str, key: str) -> None:
        if self._tokens:
            who, token = self._tokens.pop(0)
            self._begins("receive", who, key, token=token)
            await self._wallets[who].receive(token, key=key)

    async def _melt(self, who: str, key: str) -> None:
        if self._invoices:
            invoice = self._invoices.pop()
            self._begins("melt", who, key, invoice=invoice)
            await self._wallets[who].pay_invoice(invoice, key=key)

    async def _swap(self, who: str, key: str) -> None:
        self._begins("swap", who, key)
        await self._wallets[who].consolidate(self._plan.mint)

    async def _reclaim(self, who: str, key: str) -> None:
        if self._sends:
            who, send = self._sends.pop(0)
            self._begins("reclaim", who, key, send=send)
            await self._wallets[who].reclaim(send)


def _other(who: str) -> str:
    return NAMES[1 - NAMES.index(who)]


async def live(plan: Plan) -> None:
    """Until it is killed."""
    folder = Path(plan.folder)
    log = Log(folder / "life.log")
    reaper = Watched.reaper = Reaper(log)
    recovering = plan.first == "recover"
    if recovering:
        reaper.arm(plan.die_at)
        for who in NAMES:
            log("begin", name="recover", who=who, key=f"recover {who}")
    wallets = {
        who: await Wallet.open(
            folder / f"{who}.db",
            key=KEY,
            rules=RULES[who],
            connect=lambda url: MintClient(url, Watched(url)),
            probe=reaper.point,
        )
        for who in NAMES
    }
    if recovering:
        print("ready", flush=True)
        for who, wallet in wallets.items():
            await wallet.recover()
            log("end", key=f"recover {who}", points=reaper.passed)
        print("past", flush=True)
    reaper.disarm()
    for wallet in wallets.values():
        if not wallet.mints():
            await wallet.add_mint(plan.mint)
    if not recovering:
        print("ready", flush=True)
    await Life(plan, wallets, log, reaper).begin()


if __name__ == "__main__":
    asyncio.run(live(Plan(**json.loads(sys.stdin.read()))))
