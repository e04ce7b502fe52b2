"""Kills a process with two wallets again and again, and after each death counts the money.

A life (`life.py`) ends by SIGKILL: at a random moment, at a point of one operation that was chosen
before (around each write, each request, and while an answer is on its way), or in the middle of the
recovery from the death before. Then both files are opened and recovered (`audit.py`), and what ann
and bob hold, what is in their outboxes and was not redeemed, and what cleo, a payee who never dies,
received must be what the mint issued and did not redeem: by the mint's own books, to the sat.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from wallet_bench.audit import Audit
from wallet_bench.life import OFTEN, Plan
from wallet_bench.mints import Place, place
from wallet_bench.tally import Begun, Tally, tell

LIFE = Path(__file__).with_name("life.py")
LONGEST_S = 120.0  # for a life to begin, or to come to its point, on a busy machine
MOST_OPERATIONS = 25  # that begin before a random moment
LATEST_S = 0.2  # after that
UNKNOWN = 12  # points of an operation that nobody has seen whole yet


class Trial:
    """Lives and deaths, in one folder, at one mint."""

    def __init__(self, folder: Path, mint: Place, *, seed: int) -> None:
        self.tally = Tally()
        self._folder, self._mint = folder, mint
        self._random = random.Random(seed)
        self._audit = Audit(folder, mint.url, mint.books, self._random, self.tally)
        self._begun: dict[str, Begun] = {}  # what is not accounted for yet
        self._points: dict[str, int] = {}  # of an operation, as last seen whole

    async def run(self, deaths: int, *, mint_kills: int = 0, told: int = 0) -> Tally:
        """So many deaths; in `mint_kills` of them the mint dies too. Says so each `told`."""
        with_mint = set(self._random.sample(range(deaths), mint_kills))
        recovering = False
        for number in range(deaths):
            await self._live(recovering=recovering, kill_mint=number in with_mint)
            last = number == deaths - 1
            recovering = not last and self._random.random() < 0.15
            if not recovering:
                await self._audit.after(self._begun.values())
                self._begun.clear()
            if told and (number + 1) % told == 0:
                print(f"  {number + 1} of {deaths}", file=sys.stderr, flush=True)
        await self._audit.at_last()
        return self.tally

    async def _live(self, *, recovering: bool, kill_mint: bool) -> None:
        plan = self._plan(recovering=recovering, at_random=kill_mint)
        log = self._folder / "life.log"
        log.unlink(missing_ok=True)
        process = await self._born()
        try:
            moment = await self._watch(process, plan, kill_mint=kill_mint)
        except BaseException:
            _kill(process.pid)
            raise
        finally:
            status = await process.wait()
        self.tally.deaths += 1
        if status != -signal.SIGKILL:
            said = (self._folder / "life.err").read_text()[-2000:]
            self.tally.problems.append(f"a life ended by itself, with {status}:\n{said}")
        self.tally.moments[moment] += 1
        self._read(log.read_bytes() if log.exists() else b"")

    def _plan(self, *, recovering: bool, at_random: bool) -> Plan:
        first = "recover" if recovering else self._random.choice(list(OFTEN))
        at_point = self._random.random() < (0.8 if recovering else 0.6) and not at_random
        points = self._points.get(first, UNKNOWN)
        tokens, sends = self._audit.given_out()
        amounts = [self._random.randint(1, 40) for _ in range(20)]
        return Plan(
            folder=str(self._folder),
            mint=self._mint.url,
            seed=self._random.getrandbits(32),
            first=first,
            die_at=self._random.randint(1, points) if at_point else None,
            workers=self._random.randint(1, 4),
            tokens=tokens,
            sends=sends,
            invoices=[self._mint.books.invoice(amount) for amount in amounts],
        )

    async def _born(self) -> asyncio.subprocess.Process:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        errors = os.open(self._folder / "life.err", flags, 0o600)
        try:
            return await asyncio.create_subprocess_exec(
                sys.executable,
                str(LIFE),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
            )
        finally:
            os.close(errors)

    async def _watch(
        self, process: asyncio.subprocess.Process, plan: Plan, *, kill_mint: bool
    ) -> str:
        """Gives it its plan and kills it, unless it dies at its point. How it was chosen."""
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(asdict(plan)).encode())
        process.stdin.close()
        async with asyncio.timeout(LONGEST_S):
            told = await _until(process.stdout, b"ready")
            if told and plan.die_at is not None:
                told = await _until(process.stdout, b"past")
        if not told:
            return "at a point of an operation"
        await self._some_time(process.stdout)
        if kill_mint and self._mint.kill is not None:
            await self._mint.kill(True)
            self.tally.mint_kills += 1
            await self._some_time(process.stdout)
        _kill(process.pid)
        return "at a random moment"

    async def _some_time(self, said: asyncio.StreamReader) -> None:
        """Until a random number of operations began, and a random part of a second more."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LONGEST_S / 4):
                for _ in range(self._random.randint(0, MOST_OPERATIONS)):
                    if not await _until(said, b"next"):
                        return
        await asyncio.sleep(self._random.uniform(0, LATEST_S))

    def _read(self, log: bytes) -> None:
        """What the dead wrote down."""
        begun: dict[str, Begun] = {}
        for event in map(json.loads, log.splitlines()):
            kind, key = event.pop("event"), event.pop("key", "")
            if kind == "begin":
                begun[key] = Begun(event.pop("name"), event.pop("who"), key, event)
            elif kind == "gave":
                begun[key].given["token"] = event["token"]
            elif kind == "dies":
                self.tally.points[event["at"]] += 1
            elif key in begun:
                self._ended(begun[key], kind, event)
        under_way = {each.name for each in begun.values() if not (each.ended or each.doubted)}
        self.tally.killed.update(under_way or {"nothing"})
        self._begun.update(begun)

    def _ended(self, begun: Begun, kind: str, event: dict[str, Any]) -> None:
        begun.ended, begun.doubted = kind == "end", kind == "doubt"
        begun.refused = "error" in event
        if kind == "trouble":
            self.tally.problems.append(f"{begun.name}: {event['error']}")
        elif begun.ended and not begun.refused:
            self.tally.finished[begun.name] += 1
            if event["points"]:
                self._points[begun.name] = event["points"]


async def main(deaths: int, seed: int) -> int:
    """The trial of `scripts/bench_wallet --kill`; a tenth as often, the mint dies too."""
    with tempfile.TemporaryDirectory(prefix="wallet-kills-") as name:
        folder = Path(name)
        async with place(folder / "mint") as mint:
            if mint.kill is None:
                print("Nutshell is not set up (scripts/mint --setup-only): a mint in memory")
            trial = Trial(folder, mint, seed=seed)
            began = time.monotonic()
            tally = await trial.run(deaths, mint_kills=deaths // 10 if mint.kill else 0, told=20)
            print(f"seed {seed}, {time.monotonic() - began:.0f} s\n")
    tell(tally)
    return 1 if tally.problems else 0


async def _until(said: asyncio.StreamReader, word: bytes) -> bool:
    """Whether a life said this, and not nothing more for ever."""
    while line := await said.readline():
        if line.strip() == word:
            return True
    return False


def _kill(pid: int) -> None:
    """Our own child; asyncio's `kill` would reap it, and then not know how it ended."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
