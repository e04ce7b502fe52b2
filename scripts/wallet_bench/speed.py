"""Payments of 1-5 sat by this wallet and by Nutshell's, at one mint, in turn, in one run.

Payer and payee of each side are processes of their own. Blocks of payments alternate between the
sides, so that all see the same machine and the same mint; each process measures its own time and
CPU. A payer's time ends when he has the token: whoever has it has been paid. The payee's, to redeem
it at the mint, is measured apart. Nutshell is measured twice: by its library's functions for a
payment (`cashu.wallet.helpers`), which ask for the mint's keys each time, and by the parts they are
made of, with the mint loaded once, which is as fast as it can be used.
"""

from __future__ import annotations

import contextlib
import os
import random
import resource
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
import psutil
from _peers import Peer

OURS, HELPERS, PARTS = "freehold", "nutshell", "nutshell, parts"
SIDES = (OURS, HELPERS, PARTS)
COMMANDS = {
    OURS: ("send_many", "receive_many"),
    HELPERS: ("helper_send_many", "helper_receive_many"),
    PARTS: ("send_many", "receive_many"),
}
BLOCKS = 5
AT_ONCE = 8
FUNDS = 2_000  # sat
WARM_UP = 5  # payments that are not counted
IMPORTS = 7  # times each
CODE = {
    OURS: "from wallet import Wallet",
    HELPERS: "from cashu.wallet.wallet import Wallet",
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
    def mean_ms(self) -> float:
        """Of one payment, those that need the mint among them."""
        return statistics.fmean(self.seconds) * 1e3

    @property
    def cpu_ms(self) -> float:
        """Of one payment, at the mean."""
        return self.cpu_s / len(self.seconds) * 1e3


def main(payments: int) -> int:
    """Exit status."""
    if _mint.missing():
        print(_mint.missing(), file=sys.stderr)
        return 1
    imports = {side: import_ms(side) for side in CODE}
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
        names = {side: side.partition(",")[0] for side in SIDES}
        payer = {side: stack.enter_context(Peer(names[side], url)) for side in SIDES}
        payee = {side: stack.enter_context(Peer(names[side], url)) for side in SIDES}
        for side in SIDES:
            send, receive = COMMANDS[side]
            payer[side].ask("fund", amount=FUNDS)
            warm = payer[side].ask(send, amounts=[1] * WARM_UP)
            payee[side].ask(receive, tokens=warm["results"])
        for amounts in blocks(payments):
            tokens = {}
            for side in SIDES:
                answer = payer[side].ask(COMMANDS[side][0], amounts=amounts)
                tokens[side] = sends[side].add(answer)
            for side in SIDES:
                before = payee[side].ask("balance")
                receives[side].add(payee[side].ask(COMMANDS[side][1], tokens=tokens[side]))
                assert payee[side].ask("balance") == before + sum(amounts)
    return sends, receives


def in_flight(mint: Any, payments: int) -> tuple[dict[str, Any], float]:
    """Our payments, made and redeemed, several at once; and the mint's CPU seconds meanwhile."""
    amounts = [amount for block in blocks(payments) for amount in block]
    with Peer(OURS, mint.url) as peer:
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


def import_ms(side: str) -> tuple[float, float]:
    """Time and CPU of fresh interpreters at the median, less what one takes to do nothing."""
    python = _mint.venv() / "bin" / "python" if side == HELPERS else Path(sys.executable)
    taken: dict[str, list[tuple[float, float]]] = {"pass": [], CODE[side]: []}
    for _ in range(IMPORTS):
        for code, times in taken.items():
            began, began_cpu = time.perf_counter(), children_cpu_s()
            subprocess.run(
                [str(python), "-c", code], cwd=_mint.ROOT, check=True, stderr=subprocess.DEVNULL
            )
            times.append((time.perf_counter() - began, children_cpu_s() - began_cpu))
    bare, whole = (
        [statistics.median(t) for t in zip(*times, strict=True)] for times in taken.values()
    )
    return (whole[0] - bare[0]) * 1e3, (whole[1] - bare[1]) * 1e3


def children_cpu_s() -> float:
    """CPU seconds of the processes that this one waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


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
    """CPU seconds of a process so far."""
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def tell(
    sends: dict[str, Measured],
    receives: dict[str, Measured],
    imports: dict[str, tuple[float, float]],
) -> None:
    """The table of payments in turn."""
    count = len(sends[OURS].seconds)
    print(f"{count} payments of 1-5 sat in turn, at one Nutshell mint without input fees\n")
    print(f"{'':<32}{'':>10}{'Nutshell,':>20}{'Nutshell,':>20}")
    print(f"{'':<32}{'ours':>10}{'its functions':>20}{'their parts':>20}   aim")
    row("send, median ms", {side: sends[side].median_ms for side in SIDES}, "2.5x")
    row("send, mean ms", {side: sends[side].mean_ms for side in SIDES})
    row("receive, median ms", {side: receives[side].median_ms for side in SIDES})
    row("receive, mean ms", {side: receives[side].mean_ms for side in SIDES})
    row("CPU of the payer, ms a payment", {side: sends[side].cpu_ms for side in SIDES})
    row("CPU of the payee, ms a payment", {side: receives[side].cpu_ms for side in SIDES})
    both = {side: sends[side].cpu_ms + receives[side].cpu_ms for side in SIDES}
    row("CPU of both, ms a payment", both, "8x")
    row("import, ms", {side: imports[side][0] for side in imports}, "ours < 300")
    row("import, CPU ms", {side: imports[side][1] for side in imports})
    floor = commit_ms()
    ratio = sends[OURS].median_ms / floor
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
    waiting = flight["at_mint_s"] / wall_s
    print(f"\nof {AT_ONCE} payments in flight, {waiting:.1f} are waiting for the mint at any time")


def row(name: str, taken: dict[str, float], aim: str = "") -> None:
    """One line; a ratio says how many times less ours is."""
    theirs = [f"{taken[s]:>12.2f}{taken[s] / taken[OURS]:>7.1f}x" for s in SIDES[1:] if s in taken]
    shown = "".join(theirs).ljust(40)
    print(f"{name:<32}{taken[OURS]:>10.2f}{shown}   {aim}".rstrip())
