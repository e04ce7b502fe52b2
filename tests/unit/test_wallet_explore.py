"""Short histories of one wallet in a bad hour, by a seeded hand: what is asked for is asked for
again, by its caller and by recovery at once, while answers are lost, requests arrive late, keysets
and fees change, the process ends, and time passes or does not.

At the end all is calm, and the books of mints, Lightning network and wallets are held against each
other: nothing is missing or there twice, an invoice is paid if and only if its payment says so, and
a token that was locked opens for its payee.

`FREEHOLD_TEST_EXPLORE=1000` tries the first so many histories; `1000:700` those from 700 on.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random

import pytest

from wallet.errors import StoreError, WalletError
from wallet.mint.testing import Fault, MemoryMint, Outcome
from wallet.mint.testing.faults import Faults
from wallet.operations.copies import LIVES_S
from wallet.operations.results import Rules
from wallet.store import Hold, Kind, State
from wallet.testing import Crash, World, lowered
from wallet.types import TransportRequest
from wallet.wallet import Wallet

COUNT, _, FIRST = os.environ.get("FREEHOLD_TEST_EXPLORE", "30").partition(":")
RULES = Rules(change_pieces=1, cap_sat=100_000, swap_foreign=True)
ACTING = ("/v1/swap", "/v1/melt/bolt11", "/v1/mint/bolt11", "/v1/mint/bolt11/batch")
ANY = [*[Fault.LOST_REQUEST] * 6, *[Fault.LOST_REPLY] * 4, *[Fault.NOT_A_MINT] * 3]
ANY += [Fault.ERROR_500, Fault.ACTED_500, Fault.UNREACHABLE, Fault.GARBAGE]
ANY += [Fault.WRONG_SIGNATURES, Fault.FEWER]
MOODS = [(ANY, False), (ANY, True), ([Fault.LOST_REQUEST, Fault.NOT_A_MINT], True)]


class Chaos(Faults):
    """Each request, or each that acts, goes wrong with a chance; `calm`: none does."""

    def __init__(self, random: Random) -> None:
        super().__init__()
        self._random, self._chance = random, random.choice([0.1, 0.3, 0.5, 0.7])
        self._wrong, self._acting = random.choice(MOODS)
        self.calm = True

    def take(self, path: str) -> Fault | None:
        """See `Faults`."""
        if self.calm or (self._acting and path not in ACTING):
            return None
        wrong = self._random.random() < self._chance
        return self._random.choice(self._wrong) if wrong else None


Begin = Callable[[str, Wallet, Wallet], Awaitable[None]]


class History:
    """One of them."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.random = random = Random(seed)
        self.world = World(
            folder,
            mints=2,
            fee_ppk=random.choice([0, 0, 100, 1000]),
            version=random.choice([1, 2]),
            cached=random.random() < 0.2,
        )
        self.chaos = [Chaos(random) for _ in self.world.mints]
        for mint, chaos in zip(self.world.mints, self.chaos, strict=True):
            mint.faults = chaos
            hook = mint.hook
            mint.hook = self._beside(mint, hook)  # type: ignore[arg-type]
        self.bills: dict[str, str] = {}
        self.locked: list[str] = []
        self.acts: list[Callable[[], Awaitable[object]]] = []
        self.told: list[str] = []

    def _beside(
        self, mint: MemoryMint, hook: Callable[[str, TransportRequest], Awaitable[None]]
    ) -> Callable[[str, TransportRequest], Awaitable[None]]:
        async def both(moment: str, request: TransportRequest) -> None:
            await hook(moment, request)
            if self.random.random() < 0.1:
                self.arrive(mint)

        return both

    @property
    def ann(self) -> Wallet:
        return self.world.wallets["ann"]

    def arrive(self, mint: MemoryMint) -> None:
        """One of the requests that may still arrive."""
        mint.lost = [each for each in mint.lost if self.world.time_s - each[0] < LIVES_S]
        if mint.lost:
            number = self.random.randrange(len(mint.lost))
            self.told.append(f"arrives: {mint.url} {mint.lost[number][1].path}")
            mint.arrive(number)

    # ── what is asked for ───────────────────────────────────────────────────────────────────

    async def begin(self) -> None:
        world = self.world
        await world.funded("ann", 120, rules=RULES)
        await world.funded("ann", 90, mint=1)
        await world.funded("bob", 300, mint=self.random.randrange(2), rules=RULES)
        await world.wallet("cleo")
        other = await world.funded("cleo", 300, mint=1)
        bob = world.wallets["bob"]
        choices: list[Begin] = [
            self.send,
            self.locked_send,
            self.receive,
            self.pay,
            self.pay,
            self.big,
        ]
        choices += [self.claim, self.several, self.consolidate, self.reclaim, self.foreign]
        for number in range(self.random.randint(1, 3)):
            await self.random.choice(choices)(f"k{number}", bob, other)

    async def send(self, key: str, bob: Wallet, other: Wallet) -> None:
        amount = self.random.randint(1, 60)
        self.acts.append(lambda: self.ann.send(amount, key=key))

    async def locked_send(self, key: str, bob: Wallet, other: Wallet) -> None:
        amount, to = self.random.randint(1, 60), bob.address()
        self.locked.append(key)
        self.acts.append(lambda: self.ann.send(amount, to=to, key=key))

    async def receive(self, key: str, bob: Wallet, other: Wallet) -> None:
        token = (await bob.send(self.random.randint(8, 40))).token
        self.acts.append(lambda: self.ann.receive(token, key=key))

    async def foreign(self, key: str, bob: Wallet, other: Wallet) -> None:
        token = (await other.send(40)).token
        with contextlib.suppress(WalletError):  # it was removed before
            await self.ann.remove_mint(self.world.mints[1].url, force=True)
        self.acts.append(lambda: self.ann.receive(token, key=key))

    async def pay(self, key: str, bob: Wallet, other: Wallet) -> None:
        amount = self.random.randint(1, 60)
        bolt11 = self.world.lightning.invoice(amount * 1000)
        if self.random.random() < 0.3:
            bolt11 = (await bob.request_invoice(amount)).bolt11
        self.bills[key] = bolt11
        self.acts.append(lambda: self.ann.pay_invoice(bolt11, key=key))

    async def big(self, key: str, bob: Wallet, other: Wallet) -> None:
        """More than one mint can pay."""
        self.bills[key] = bolt11 = self.world.lightning.invoice(150_000)
        self.acts.append(lambda: self.ann.pay_invoice(bolt11, key=key))

    async def claim(self, key: str, bob: Wallet, other: Wallet) -> None:
        made = await self.ann.request_invoice(self.random.randint(1, 40))
        self.world.lightning.pay(made.bolt11)
        self.acts.append(lambda: self.ann.claim_invoice(made.operation))

    async def several(self, key: str, bob: Wallet, other: Wallet) -> None:
        for _ in range(3):
            made = await self.ann.request_invoice(
                self.random.randint(1, 40), mint=self.world.mint.url
            )
            self.world.lightning.pay(made.bolt11)
        self.acts.append(self.recover)

    async def consolidate(self, key: str, bob: Wallet, other: Wallet) -> None:
        await self.world.fill(self.ann, 3)
        self.acts.append(lambda: self.ann.consolidate(self.world.mint.url))

    async def reclaim(self, key: str, bob: Wallet, other: Wallet) -> None:
        sent = await self.ann.send(9)
        self.acts.append(lambda: self.ann.reclaim(sent.operation))
        if self.random.random() < 0.5:
            self.acts.append(lambda: self.ann.receive(sent.token))

    # ── what happens ────────────────────────────────────────────────────────────────────────

    async def go(self) -> None:
        """A bad hour."""
        counters = self.world.counters(self.ann)
        for chaos in self.chaos:
            chaos.calm = False
        steps = [self.all_at_once, self.once_more, self.recover, self.late, self.time, self.time]
        steps += [self.rotate, self.restart, self.die, self.network, self.look, self.readd]
        steps = [*self.random.sample(steps, 5), self.once_more, self.late, self.time]
        await self.all_at_once()
        for _ in range(self.random.randint(3, 12)):
            step = self.random.choice(steps)
            self.told.append(step.__name__)
            await step()
        assert lowered(counters, self.world.counters(self.ann)) == []

    async def tries(self, *acts: Callable[[], Awaitable[object]]) -> None:
        """What may be refused, or be left open, and must not break."""
        done = asyncio.gather(*(act() for act in acts), return_exceptions=True)
        async with asyncio.timeout(20):
            for each in await done:
                if isinstance(each, BaseException):
                    self.told.append(f"{type(each).__name__}: {each}")
                    assert isinstance(each, WalletError | Crash), each
                    assert not isinstance(each, StoreError), each

    async def all_at_once(self) -> None:
        recover = [self.ann.recover] if self.random.random() < 0.3 else []
        await self.tries(*self.acts, *recover)

    async def once_more(self) -> None:
        await self.tries(self.random.choice(self.acts), self.ann.recover)

    async def recover(self) -> None:
        await self.tries(self.ann.recover)

    async def look(self) -> None:
        mint = self.random.choice(self.world.mints).url
        looks = [self.ann.refresh_outbox, self.ann.check, lambda: self.ann.restore(mint)]
        await self.tries(self.random.choice(looks))

    async def late(self) -> None:
        for mint in self.world.mints:
            self.arrive(mint)

    async def time(self) -> None:
        self.world.time_s += self.random.choice([1, 30, 300, LIVES_S - 1, LIVES_S + 1, 5_000])

    async def rotate(self) -> None:
        self.random.choice(self.world.mints).rotate(fee_ppk=self.random.choice([0, 100, 1000]))

    async def restart(self) -> None:
        await self.world.stop()
        await self.world.wallet(rules=RULES)

    async def die(self) -> None:
        self.world.points.arm(self.random.randint(0, 20))
        await self.tries(self.random.choice([*self.acts, self.ann.recover]))
        await self.restart()

    async def network(self) -> None:
        lightning = self.world.lightning
        lightning.outcome = self.random.choice(list(Outcome))
        lightning.fee_msat = self.random.choice([0, 1_000, 50_000])
        for text in sorted({each.invoice.text for each in lightning._pending}):
            lightning.end(text, self.random.choice([Outcome.PAID, Outcome.FAILED]))

    async def readd(self) -> None:
        url = self.random.choice(self.world.mints).url
        with contextlib.suppress(WalletError):
            await self.ann.remove_mint(url, force=True)
        if self.random.random() < 0.7:
            await self.tries(lambda: self.ann.add_mint(url))

    # ── and what is left ────────────────────────────────────────────────────────────────────

    async def end(self) -> None:
        world = self.world
        for chaos in self.chaos:
            chaos.calm = True
        for mint in world.mints:
            self.arrive(mint)
        world.lightning.outcome = Outcome.PAID
        for text in sorted({each.invoice.text for each in world.lightning._pending}):
            world.lightning.end(text, self.random.choice([Outcome.PAID, Outcome.FAILED]))
        for mint in world.mints:
            mint.lost.clear()
            await self.ann.add_mint(mint.url)
        for seconds in (0, LIVES_S):
            world.time_s += seconds
            for _ in range(2):
                await self.ann.recover()
                for text in sorted({each.invoice.text for each in world.lightning._pending}):
                    world.lightning.end(text, Outcome.FAILED)  # a part whose others failed
                    world.lightning.outcome = Outcome.FAILED
        await self.ann.recover()
        bob = world.wallets["bob"]
        for mint in world.mints:
            await bob.add_mint(mint.url)
        for key in self.locked:
            token = self.ann.sent(key)
            if token is not None and token.token:
                with contextlib.suppress(WalletError):  # worth less than its fee
                    await bob.receive(token.token)
        await bob.recover()
        await self.judge()

    async def judge(self) -> None:
        world, told = self.world, self.told
        assert await world.missing() == 0, told
        assert Hold.RESERVED not in world.held(self.ann), (told, self.ann.pending())
        assert Hold.ASIDE not in world.held(self.ann), told
        assert (await self.ann.check()).ok, told
        for key, bolt11 in self.bills.items():
            operation = self.ann.operation(key)
            done = operation is not None and operation.state == State.DONE
            assert done == world.lightning.is_paid(bolt11), (key, operation, told)
        left = [each for each in self.ann.pending() if each.kind != Kind.MINT]
        assert left == [], told


@pytest.mark.timeout(36_000)
@pytest.mark.parametrize("tenth", range(10))
async def test_histories(tenth: int, tmp_path: Path) -> None:
    first = int(FIRST or 0)
    for seed in range(first + tenth, int(COUNT), 10):
        folder = tmp_path / str(seed)
        folder.mkdir()
        history = History(seed, folder)
        try:
            await history.begin()
            await history.go()
            await history.end()
        except BaseException as error:
            error.add_note(f"history {seed}: {history.told}")
            raise
        finally:
            await history.world.close()
