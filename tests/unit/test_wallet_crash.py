"""The process ends at any point of any saga, and nothing is lost and nothing paid twice.

Every point of each saga is tried: before, in and after each transaction, before and after the mint
acts on each request. `killed`: nothing after it happens, and the wallet is opened again. `thrown`:
it is an exception that passes through the wallet, which lives on. `cancelled`: who asked is, in any
write, and asks again at once.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from wallet.errors import OutcomeUnknownError, WalletError
from wallet.mint.testing import Outcome
from wallet.operations.results import Rules
from wallet.store import Hold
from wallet.testing import Crash, World, lowered
from wallet.wallet import Wallet

pytestmark = pytest.mark.timeout(600)  # for a machine that does much else

LITTLE_CHANGE = Rules(change_pieces=1)  # few outputs, so that each world is made fast
NO_SMALL_CHANGE = Rules(change_pieces=0)
FOREIGN = Rules(change_pieces=1, swap_foreign=True)


@dataclass
class Saga:
    """One operation: what is there before it, and how it is asked for, always by one key."""

    name: str
    act: Callable[[World, Wallet, dict[str, Any]], Awaitable[Any]]
    prepare: Callable[[World, Wallet], Awaitable[dict[str, Any]]] | None = None
    rules: Rules = LITTLE_CHANGE
    world: dict[str, Any] = field(default_factory=dict)
    fund: int = 100
    parallel: bool = False  # its parts pass their points in no fixed order
    waits_s: int = 0  # until no copy of a request of it can arrive any more


async def send(_world: World, wallet: Wallet, _given: dict[str, Any]) -> int:
    return (await wallet.send(5, memo="for you", key="k")).amount


async def send_locked(_world: World, wallet: Wallet, given: dict[str, Any]) -> int:
    return (await wallet.send(5, to=given["to"], key="k")).amount


async def payee(world: World, _wallet: Wallet) -> dict[str, Any]:
    bob = await world.funded("bob", 0, rules=LITTLE_CHANGE)
    return {"to": bob.address()}


async def token(world: World, wallet: Wallet) -> dict[str, Any]:
    bob = await world.funded("bob", 40, rules=LITTLE_CHANGE)
    return {"token": (await bob.send(21, to=wallet.address())).token}


async def receive(_world: World, wallet: Wallet, given: dict[str, Any]) -> int:
    return (await wallet.receive(given["token"], key="k")).amount


async def foreign_token(world: World, _wallet: Wallet) -> dict[str, Any]:
    bob = await world.funded("bob", 60, mint=1, rules=LITTLE_CHANGE)
    return {"token": (await bob.send(50)).token}


async def paid_invoice(world: World, wallet: Wallet) -> dict[str, Any]:
    invoice = await wallet.request_invoice(33)
    world.lightning.pay(invoice.bolt11)
    return {"operation": invoice.operation}


async def claim(_world: World, wallet: Wallet, given: dict[str, Any]) -> str:
    return (await wallet.claim_invoice(given["operation"])).state


async def request(_world: World, wallet: Wallet, _given: dict[str, Any]) -> int:
    return (await wallet.request_invoice(12, key="k")).amount


async def paid_invoices(world: World, wallet: Wallet) -> dict[str, Any]:
    for amount in (7, 9, 11):
        invoice = await wallet.request_invoice(amount)
        world.lightning.pay(invoice.bolt11)
    return {}


async def recover(_world: World, wallet: Wallet, _given: dict[str, Any]) -> int:
    await wallet.recover()
    return len(wallet.pending())


async def bill(world: World, _wallet: Wallet) -> dict[str, Any]:
    return {"bolt11": world.lightning.invoice(30_000)}


async def failing_bill(world: World, wallet: Wallet) -> dict[str, Any]:
    world.lightning.outcome = Outcome.FAILED
    return await bill(world, wallet)


async def pay(_world: World, wallet: Wallet, given: dict[str, Any]) -> str:
    try:
        return (await wallet.pay_invoice(given["bolt11"], key="k")).state
    except OutcomeUnknownError:
        return "pending"
    except WalletError as error:
        return type(error).__name__


async def two_purses(world: World, _wallet: Wallet) -> dict[str, Any]:
    await world.funded("ann", 60, mint=1)
    return {"bolt11": world.lightning.invoice(100_000)}


async def sent(_world: World, wallet: Wallet) -> dict[str, Any]:
    return {"operation": (await wallet.send(9)).operation}


async def reclaim(_world: World, wallet: Wallet, given: dict[str, Any]) -> str:
    operation = wallet.operation(given["operation"])
    if operation is not None and operation.outbox == "open":
        await wallet.reclaim(given["operation"])
    operation = wallet.operation(given["operation"])
    return "" if operation is None else operation.outbox


async def crumbs(world: World, wallet: Wallet) -> dict[str, Any]:
    for _ in range(4):
        await world.fill(wallet, 3)
    world.mint.rotate()
    await wallet.add_mint(world.mint.url)
    return {}


async def consolidate(world: World, wallet: Wallet, _given: dict[str, Any]) -> int:
    await wallet.consolidate(world.mint.url)
    return len(wallet._book.store.read(lambda t: t.proofs.coins(world.mint.url, "sat")))


SAGAS = [
    Saga("send from small change", send),
    Saga("send by a swap", send, rules=NO_SMALL_CHANGE, world={"fee_ppk": 100}, fund=64),
    Saga("send locked", send_locked, payee, world={"fee_ppk": 100, "version": 1}),
    Saga("receive", receive, token, world={"fee_ppk": 100}),
    Saga("receive with replies kept", receive, token, world={"cached": True}),
    Saga("ask for an invoice", request),
    Saga("claim an invoice", claim, paid_invoice),
    Saga("claim several", recover, paid_invoices),
    Saga("pay", pay, bill, world={"fee_ppk": 100}),
    Saga("pay in vain", pay, failing_bill, waits_s=601),
    Saga("pay by two mints", pay, two_purses, world={"mints": 2}, fund=60, parallel=True),
    Saga("reclaim", reclaim, sent),
    Saga("consolidate", consolidate, crumbs, rules=NO_SMALL_CHANGE, fund=0),
    Saga("swap a foreign token", receive, foreign_token, rules=FOREIGN, world={"mints": 2}, fund=0),
]


@contextlib.asynccontextmanager
async def ready(saga: Saga, folder: Path) -> AsyncIterator[tuple[World, Wallet, dict[str, Any]]]:
    os.mkdir(folder)
    world = World(folder, **saga.world)
    try:
        wallet = await world.funded("ann", saga.fund, rules=saga.rules)
        yield world, wallet, await saga.prepare(world, wallet) if saga.prepare else {}
    finally:
        await world.close()


async def outcome(saga: Saga, world: World, given: dict[str, Any]) -> tuple[Any, ...]:
    """What is the same however often the process ended: the answer, and who has how much."""
    wallet = world.wallets["ann"]
    answer = await saga.act(world, wallet, given)
    assert await world.missing() == 0
    held = world.held(wallet)
    return answer, held, {name: each.balance() for name, each in world.wallets.items()}


async def no_copy_may_come(saga: Saga, world: World) -> None:
    """A payment that the mint refuses for now has failed once no other copy of it can arrive."""
    if saga.waits_s:
        world.time_s += saga.waits_s
        await world.wallets["ann"].recover()


async def settled(saga: Saga, folder: Path) -> tuple[list[str], tuple[Any, ...]]:
    """The points of a saga that nothing disturbs, and its outcome."""
    async with ready(saga, folder) as (world, wallet, given):
        world.points.arm(None)
        await saga.act(world, wallet, given)
        points = world.points.seen
        world.points.disarm()
        return points, await outcome(saga, world, given)


@pytest.mark.parametrize("saga", SAGAS, ids=lambda saga: saga.name)
async def test_killed_anywhere(saga: Saga, tmp_path: Path) -> None:
    points, expected = await settled(saga, tmp_path / "calm")
    assert points
    for number, point in enumerate(points):
        async with ready(saga, tmp_path / str(number)) as (world, wallet, given):
            before = world.counters(wallet)
            world.points.arm(number)
            with pytest.raises(Crash):
                await saga.act(world, wallet, given)
            assert saga.parallel or world.points.seen[-1] == point
            revived = await world.again(rules=saga.rules)
            await no_copy_may_come(saga, world)
            assert await world.missing() == 0, point
            assert Hold.RESERVED not in world.held(revived), point
            assert lowered(before, world.counters(revived)) == [], point
            assert await outcome(saga, world, given) == expected, point
            assert (await revived.check()).ok, point


@pytest.mark.parametrize("saga", SAGAS, ids=lambda saga: saga.name)
async def test_thrown_anywhere(saga: Saga, tmp_path: Path) -> None:
    points, expected = await settled(saga, tmp_path / "calm")
    for number, point in enumerate(points):
        async with ready(saga, tmp_path / str(number)) as (world, wallet, given):
            world.points.arm(number, lives_on=True)
            with contextlib.suppress(Crash, WalletError):
                await saga.act(world, wallet, given)
            world.points.disarm()
            await wallet.recover()
            await no_copy_may_come(saga, world)
            assert await world.missing() == 0, point
            assert Hold.RESERVED not in world.held(wallet), point
            assert await outcome(saga, world, given) == expected, point


@pytest.mark.parametrize("name", ["send by a swap", "receive", "ask for an invoice", "pay"])
async def test_cancelled_anywhere(
    name: str, tmp_path: Path, cancelled_at: Callable[..., Awaitable[bool]]
) -> None:
    saga = next(each for each in SAGAS if each.name == name)
    _, expected = await settled(saga, tmp_path / "calm")
    struck, number = True, 0
    while struck:
        async with ready(saga, tmp_path / str(number)) as (world, wallet, given):
            struck = await cancelled_at(number, saga.act(world, wallet, given))
            number += 1
            assert await outcome(saga, world, given) == expected
            assert Hold.RESERVED not in world.held(wallet)
    assert number > 1
