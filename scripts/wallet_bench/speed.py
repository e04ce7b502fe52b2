"""Payments of 1-5 sat by this wallet and by Nutshell's, at one mint, in turn, in one run.

Four processes: payer and payee of each side. Blocks of payments alternate between the sides, so
that both see the same machine and the same mint; each process measures its own time and CPU. A
payer's time ends when he has the token: whoever has it has been paid. The payee's, to redeem it at
the mint, is measured apart.
"""

from __future__ import annotations

import contextlib
import os
import random
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import _mint
from _peers import Peer

SIDES = ("freehold", "nutshell")
BLOCKS = 5
AT_ONCE = 8
FUNDS = 2_000  # sat
WARM_UP = 5  # payments that are not counted
IMPORTS = 7  # times each
CODE = {
    "freehold": "from wallet import Wallet",
    "nutshell": "from cashu.wallet.wallet import Wallet",
}


@dataclass
class Measured:
    """What one side took for one thing: seconds each, and CPU seconds for all."""

    seconds: list[float] = field(default_factory=list)
    cpu_s: float = 0.0

    def add(self, answer: dict[str, Any]) -> list[Any]:
        """Takes in a block; gives its results."""
        self.seconds += answer["seconds"]
        self.cpu_s += answer["cpu_s"]
        return list(answer["results"])

    @property
    def median_ms(self) -> float:
        """Of one payment."""
        return statistics.median(self.seconds) * 1e3

    @property
    def ninth_ms(self) -> float:
        """The ninth decile."""
        return statistics.quantiles(self.seconds, n=10)[-1] * 1e3

    @property
    def cpu_ms(self) -> float:
        """Of one payment, at the mean."""
        return self.cpu_s / len(self.seconds) * 1e3


def main(payments: int) -> int:
    """Exit status."""
    if _mint.missing():
        print(_mint.missing(), file=sys.stderr)
        return 1
    imports = {side: import_ms(side) for side in SIDES}
    with _mint.Nutshell(fee_ppk=0) as mint:
        sends, receives = in_turn(mint.url, payments)
        flight, mint_cpu_s = in_flight(mint, payments)
    tell(sends, receives, imports)
    tell_flight(flight, mint_cpu_s, payments)
    return 0


def in_turn(url: str, payments: int) -> tuple[dict[str, Measured], dict[str, Measured]]:
    """Each side sends and receives the same amounts, block by block."""
    sends = {side: Measured() for side in SIDES}
    receives = {side: Measured() for side in SIDES}
    with contextlib.ExitStack() as stack:
        payer = {side: stack.enter_context(Peer(side, url)) for side in SIDES}
        payee = {side: stack.enter_context(Peer(side, url)) for side in SIDES}
        for side in SIDES:
            payer[side].ask("fund", amount=FUNDS)
            warm = payer[side].ask("send_many", amounts=[1] * WARM_UP)
            payee[side].ask("receive_many", tokens=warm["results"])
        for amounts in blocks(payments):
            tokens = {}
            for side in SIDES:
                tokens[side] = sends[side].add(payer[side].ask("send_many", amounts=amounts))
            for side in SIDES:
                answer = payee[side].ask("receive_many", tokens=tokens[side])
                assert sum(receives[side].add(answer)) == sum(amounts)
    return sends, receives


def in_flight(mint: Any, payments: int) -> tuple[dict[str, Any], float]:
    """Our payments, made and redeemed, several at once; and the mint's CPU seconds meanwhile."""
    amounts = [amount for block in blocks(payments) for amount in block]
    with Peer("freehold", mint.url) as peer:
        peer.ask("fund", amount=FUNDS)
        peer.ask("pay_in_flight", amounts=[1] * WARM_UP, at_once=1)
        began = cpu_s(mint.process.pid)
        flight = peer.ask("pay_in_flight", amounts=amounts, at_once=AT_ONCE)
        mint_cpu_s = cpu_s(mint.process.pid) - began
    assert flight["received"] == sum(amounts)
    return dict(flight), mint_cpu_s


def blocks(payments: int) -> Iterator[list[int]]:
    """The same random amounts, for both sides and every run."""
    chance = random.Random(1)
    for _ in range(BLOCKS):
        yield [chance.randint(1, 5) for _ in range(payments // BLOCKS)]


def import_ms(side: str) -> float:
    """The median of fresh interpreters, less what one takes to do nothing."""
    python = _mint.venv() / "bin" / "python" if side == "nutshell" else Path(sys.executable)
    taken: dict[str, list[float]] = {"pass": [], CODE[side]: []}
    for _ in range(IMPORTS):
        for code, times in taken.items():
            began = time.perf_counter()
            subprocess.run(
                [str(python), "-c", code], cwd=_mint.ROOT, check=True, stderr=subprocess.DEVNULL
            )
            times.append(time.perf_counter() - began)
    bare, whole = (statistics.median(times) for times in taken.values())
    return (whole - bare) * 1e3


def commit_ms() -> float:
    """The floor of a payment that survives a power cut: one SQLite transaction, synced."""
    times = []
    with (
        tempfile.TemporaryDirectory() as folder,
        contextlib.closing(sqlite3.connect(Path(folder) / "floor.db")) as base,
    ):
        base.execute("PRAGMA journal_mode = WAL")
        base.execute("PRAGMA synchronous = FULL")
        base.execute("CREATE TABLE t (x BLOB)")
        for _ in range(50):
            began = time.perf_counter()
            with base:
                base.execute("INSERT INTO t VALUES (?)", (os.urandom(1000),))
            times.append(time.perf_counter() - began)
    return statistics.median(times) * 1e3


def cpu_s(pid: int) -> float:
    """CPU seconds of a process so far, by Linux's /proc."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def tell(
    sends: dict[str, Measured], receives: dict[str, Measured], imports: dict[str, float]
) -> None:
    """The table of payments in turn."""
    count = len(sends["freehold"].seconds)
    print(f"{count} payments of 1-5 sat in turn, at one Nutshell mint without input fees\n")
    print(f"{'':<36}{'ours':>10}{'Nutshell':>10}{'ratio':>8}   aim")
    row("send, median ms", {side: sends[side].median_ms for side in SIDES}, "2.5x")
    row("send, 9th decile ms", {side: sends[side].ninth_ms for side in SIDES})
    row("receive, median ms", {side: receives[side].median_ms for side in SIDES})
    row("receive, 9th decile ms", {side: receives[side].ninth_ms for side in SIDES})
    row("CPU of the payer, ms a payment", {side: sends[side].cpu_ms for side in SIDES})
    row("CPU of the payee, ms a payment", {side: receives[side].cpu_ms for side in SIDES})
    both = {side: sends[side].cpu_ms + receives[side].cpu_ms for side in SIDES}
    row("CPU of both, ms a payment", both, "8x")
    row("import, ms", imports, "ours < 300")
    floor = commit_ms()
    ratio = sends["freehold"].median_ms / floor
    print(f"\none synced SQLite transaction takes {floor:.2f} ms; our send is {ratio:.1f} of it")


def tell_flight(flight: dict[str, Any], mint_cpu_s: float, payments: int) -> None:
    """The table of payments in flight."""
    wall_s, ours_s = flight["wall_s"], flight["cpu_s"]
    print(f"\n{AT_ONCE} payments in flight, made and redeemed: {payments / wall_s:.1f} a second\n")
    print(f"{'':<36}{'ours':>10}{'the mint':>10}")
    print(
        f"{'CPU, ms a payment':<36}{ours_s / payments * 1e3:>10.1f}"
        f"{mint_cpu_s / payments * 1e3:>10.1f}"
    )
    print(f"{'share of one core':<36}{ours_s / wall_s:>10.0%}{mint_cpu_s / wall_s:>10.0%}")


def row(name: str, taken: dict[str, float], aim: str = "") -> None:
    """One line; the ratio says how many times less ours is."""
    ours, theirs = (taken[side] for side in SIDES)
    print(f"{name:<36}{ours:>10.2f}{theirs:>10.2f}{theirs / ours:>7.1f}x   {aim}".rstrip())
