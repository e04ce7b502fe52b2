"""Tokens that hold the fee of redeeming them: who gets them has the sum that was meant."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wallet.errors import FeeTooHighError, RefusedError
from wallet.mint.testing import MemoryMint
from wallet.operations import paywall
from wallet.operations.results import Rules, Sent
from wallet.operations.sending import parts_for
from wallet.protocol import keysets, requests, tokens
from wallet.store import Outbox
from wallet.testing import World
from wallet.types import Keyset, KeysetInfo, TransportRequest

RULES = Rules(change_pieces=2)
FEES = [0, 100, 1000]
KEYS = {2**bit: b"" for bit in range(20)}

Make = Callable[[int], Awaitable[World]]


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[Make]:
    made: list[World] = []

    async def world(fee_ppk: int) -> World:
        made.append(World(tmp_path, fee_ppk=fee_ppk))
        await made[0].funded("ann", 500, rules=RULES)
        await made[0].funded("bob", 0, rules=RULES)
        return made[0]

    yield world
    await made[0].close()


async def check(world: World, sent: Sent, amount: int) -> int:
    """Has bob take it in; what he has of it beyond the amount."""
    bob, ann = world.wallets["bob"], world.wallets["ann"]
    face = sum(proof.amount for proof in tokens.decode(sent.token).proofs)
    assert (sent.amount, sent.included) == (amount, face - amount)
    operation = ann.operation(sent.operation)
    assert operation is not None
    assert (operation.amount, operation.fee) == (face, sent.fee)
    got = await bob.receive(sent.token)
    assert got.fee <= sent.included
    assert got.amount == face - got.fee >= amount
    return got.amount - amount


async def test_the_payee_has_the_sum_also_when_the_fee_of_a_keyset_has_changed(
    tmp_path: Path,
) -> None:
    """As it can where its id does not name it (version 1)."""
    world = World(tmp_path, fee_ppk=100, version=1)
    ann = await world.funded("ann", 500, rules=RULES)
    bob = await world.funded("bob", 0, rules=RULES)
    await ann.send(7, to=bob.address())  # its keys are in memory by then
    (old,) = world.mint.ledger.keysets.values()
    new = replace(old, info=replace(old.info, input_fee_ppk=1_000))
    world.mint.ledger.keysets[new.info.id] = new
    world.time_s += ann.rules.refresh_s
    sent = await ann.send(8, to=bob.address(), include_fee=True)
    await check(world, sent, 8)
    await world.close()


@pytest.mark.parametrize("lock", [False, True])
@pytest.mark.parametrize("fee_ppk", FEES)
async def test_the_payee_has_the_sum(make: Make, fee_ppk: int, lock: bool) -> None:
    world = await make(fee_ppk)
    ann, bob = world.wallets["ann"], world.wallets["bob"]
    before = ann.balance()
    spent = beyond = 0
    for amount in (1, 2, 3, 5, 7, 8, 10, 31):
        to = bob.address() if lock else None
        sent = await ann.send(amount, to=to, include_fee=True)
        spent += sent.amount + sent.included + sent.fee
        beyond += await check(world, sent, amount)
    assert before - ann.balance() == spent
    assert bob.balance() == 67 + beyond
    assert beyond <= 3
    assert (beyond, sent.included) == (0, 0) or fee_ppk
    assert await world.missing() == 0


@pytest.mark.parametrize("fees", [(1000, 0), (0, 1000), (100, 700), (1000, 100)])
async def test_coins_of_several_keysets(make: Make, fees: tuple[int, int]) -> None:
    world = await make(fees[0])
    ann = world.wallets["ann"]
    world.mint.rotate(fee_ppk=fees[1])
    await ann.add_mint(world.mint.url)
    await world.fill(ann, 400)
    for amount in (1, 4, 6, 9, 21, 33, 100):
        await check(world, await ann.send(amount, include_fee=True), amount)
    assert await world.missing() == 0


@given(amount=st.integers(1, 2**18), fee_ppk=st.integers(0, 10_000))
def test_it_holds_no_more_than_it_must(amount: int, fee_ppk: int) -> None:
    keyset = Keyset(KeysetInfo("00" * 8, "sat", input_fee_ppk=fee_ppk), KEYS)
    parts = parts_for(amount, keyset, includes_fee=True)

    def left(face: int) -> int:
        return face - keysets.fee([keyset.info] * len(keysets.split(face, tuple(KEYS))))

    assert left(sum(parts)) >= amount
    assert all(left(face) < amount for face in range(amount, sum(parts)))


@given(amount=st.integers(1, 2**40), fee_ppk=st.integers(0, 10**9))
def test_any_fee_can_be_included(amount: int, fee_ppk: int) -> None:
    info = KeysetInfo("00" * 8, "sat", input_fee_ppk=fee_ppk)
    parts = parts_for(amount, Keyset(info, {2**bit: b"" for bit in range(63)}), includes_fee=True)
    assert sum(parts) - keysets.fee([info] * len(parts)) >= amount


async def test_the_fee_counts_against_what_is_allowed(make: Make) -> None:
    world = await make(1000)
    ann = world.wallets["ann"]
    before = ann.history()
    with pytest.raises(FeeTooHighError):
        await ann.send(5, include_fee=True, max_fee=1)
    assert ann.history() == before
    sent = await ann.send(5, include_fee=True, max_fee=9)
    assert sent.fee + sent.included <= 9


async def test_a_key_is_one_wish(make: Make) -> None:
    world = await make(100)
    ann = world.wallets["ann"]
    first = await ann.send(5, include_fee=True, key="k")
    assert await ann.send(5, include_fee=True, key="k") == first
    with pytest.raises(RefusedError, match="another operation"):
        await ann.send(5, key="k")


async def test_it_comes_back_whole(make: Make) -> None:
    world = await make(1000)
    ann = world.wallets["ann"]
    sent = await ann.send(5, include_fee=True)
    back = await ann.reclaim(sent.operation)
    assert back.amount + back.fee == sent.amount + sent.included
    assert await world.missing() == 0


async def test_a_mint_that_changes_its_fee_meanwhile(make: Make) -> None:
    """The token was planned for the fee of before; the mint refuses, and it is planned anew."""
    world = await make(100)
    ann = world.wallets["ann"]
    world.mint.rotate(fee_ppk=1000)
    sent = await ann.send(200, include_fee=True)
    await check(world, sent, 200)


# ── what requests ask for ───────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("lock", [False, True])
@pytest.mark.parametrize("fee_ppk", FEES)
async def test_a_request_is_paid_whole(make: Make, fee_ppk: int, lock: bool) -> None:
    world = await make(fee_ppk)
    ann, bob = world.wallets["ann"], world.wallets["bob"]
    request = await bob.make_request(21, single_use=True, lock=lock)
    sent = await ann.token_for(request, key="k")
    got = await bob.redeem(sent.token, request)
    assert (sent.amount, got.amount >= 21) == (21, True)
    assert got.amount - 21 <= 1
    assert (await ann.token_for(request, key="k")).amount == 21


@pytest.mark.parametrize(("status", "outcome"), [(200, "paid"), (402, "returned")])
async def test_a_price_is_paid_whole(make: Make, status: int, outcome: str) -> None:
    world = await make(1000)
    ann, bob = world.wallets["ann"], world.wallets["bob"]
    request = await bob.make_request(21, lock=False)
    toll = paywall.read_toll("https://shop.example/page", requests.encode(request))
    had = ann.balance()

    async def attempt(token: str) -> int:
        if status == 200:
            assert (await bob.redeem(token, request)).amount >= 21
        return status

    paid = await ann.pay_402(toll, attempt, key="k")
    spent = had - ann.balance()
    assert (paid.outcome, paid.amount) == (outcome, 21)
    assert spent == paid.fee + (21 if outcome == "paid" else 0)
    assert await world.missing() == 0


async def test_a_payment_begun_before_goes_on_as_it_was(make: Make) -> None:
    """Its token was made without the fee, by a release that did not know of it."""
    world = await make(100)
    ann, bob = world.wallets["ann"], world.wallets["bob"]
    request = await bob.make_request(21, lock=False)
    before = await ann.send(21, mint=world.mint.url, key="k")
    assert (await ann.token_for(request, key="k")).token == before.token


async def test_a_mint_whose_plan_failed_is_not_followed_by_another(tmp_path: Path) -> None:
    world = World(tmp_path, mints=2)
    try:
        ann = await world.funded("ann", 64, mint=0, rules=Rules(change_pieces=0))
        await world.funded("ann", 32, mint=1)
        bob = await world.funded("bob", 0)
        await bob.add_mint(world.mints[1].url)
        request = await bob.make_request(20, lock=False)
        _refuse_once(world.mints[0])
        with pytest.raises(FeeTooHighError):
            await ann.token_for(request, key="k", max_fee=0)
        operation = ann.operation("k")
        assert operation is not None
        assert operation.outbox == Outbox.NONE
        assert await world.missing() == 0
    finally:
        await world.close()


def _refuse_once(mint: MemoryMint) -> None:
    """The mint rotates to a keyset with a fee just before the swap, so that it is planned anew."""
    done: list[str] = []

    def hook(moment: str, request: TransportRequest) -> None:
        if (moment, request.path, done) == ("before", "/v1/swap", []):
            done.append(mint.rotate(fee_ppk=1000))

    mint.hook = hook
