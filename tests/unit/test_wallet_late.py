"""Copies of requests that arrive when nobody waits for them any more.

A request that got no answer may still arrive, minutes after the wallet asked again. So no answer to
one copy settles an operation unless every other copy would be told the same; and until none can
come any more its proofs are nobody else's, and a payment is not told as failed.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.wallet import nothing_lost, state

from wallet.errors import MintError, OutcomeUnknownError, PaymentFailedError
from wallet.mint.testing import Fault, Outcome
from wallet.operations.results import Rules
from wallet.protocol.curve import y_of
from wallet.store import Hold, State
from wallet.testing import Crash, World
from wallet.types import MintQuoteState, TransportRequest, TransportResponse
from wallet.wallet import Wallet

RULES = Rules(change_pieces=0)  # each payment needs the mint
LIVES_S = 600  # how long a copy of a request may be under way
MELT, SWAP = "/v1/melt/bolt11", "/v1/swap"
MINT, BATCH = "/v1/mint/bolt11", "/v1/mint/bolt11/batch"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path)
    await made.funded("ann", 64, rules=RULES)
    await made.funded("bob", 0, rules=RULES)
    yield made
    await made.close()


@pytest.fixture
def ann(world: World) -> Wallet:
    return world.wallets["ann"]


@pytest.fixture
def bill(world: World) -> str:
    return world.lightning.invoice(20_000)


Act = Callable[[], Awaitable[object]]


@pytest.fixture(params=["send", "pay"])
def asked(request: pytest.FixtureRequest, world: World, ann: Wallet, bill: str) -> tuple[Act, str]:
    """What is asked for by the key `k`, and where its request goes."""
    if request.param == "pay":
        return lambda: ann.pay_invoice(bill, key="k"), MELT
    return lambda: ann.send(5, to=world.wallets["bob"].address(), key="k"), SWAP


def sent(world: World, path: str) -> list[TransportRequest]:
    return [each for each in world.mint.requests if each.path == path]


@contextlib.contextmanager
def refusing(world: World, path: str, code: int) -> Iterator[None]:
    """What does arrive at a path is refused with a code, and not acted on."""
    send = world.mint.send

    async def refused(request: TransportRequest) -> TransportResponse:
        if request.path == path and sent(world, path):
            body = json.dumps({"detail": "not now", "code": code}).encode()
            return TransportResponse(400, body)
        return await send(request)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(world.mint, "send", refused)
        yield


# ── copies of one request ───────────────────────────────────────────────────────────────────


async def test_a_copy_that_went_out_long_after_the_first_may_arrive_too(
    world: World, ann: Wallet, asked: tuple[Act, str]
) -> None:
    """Much later it is sent again, and lost again; then a proxy refuses the next."""
    act, path = asked
    world.mint.faults.add(Fault.LOST_REQUEST, path, times=3)
    with pytest.raises(OutcomeUnknownError):
        await act()
    world.time_s += 2 * LIVES_S
    world.mint.faults.add(Fault.LOST_REQUEST, path)
    world.mint.faults.add(Fault.NOT_A_MINT, path, times=9)
    await ann.recover()
    copy = sent(world, path)[3]
    for seconds in (0, LIVES_S - 1):
        world.time_s += seconds
        await ann.recover()
        assert state(ann) == State.PENDING
    world.mint.faults.clear()
    await world.mint.send(copy)  # here it is
    await nothing_lost(world)
    assert state(ann) == State.DONE


async def test_copies_that_were_answered_are_not_waited_for(
    world: World, ann: Wallet, asked: tuple[Act, str]
) -> None:
    act, path = asked
    world.mint.faults.add(Fault.LOST_REQUEST, path)
    world.mint.faults.add(Fault.NOT_A_MINT, path, times=99)
    with pytest.raises(OutcomeUnknownError):
        await act()
    for seconds in (LIVES_S - 1, 2):
        assert state(ann) == State.PENDING
        world.time_s += seconds
        await ann.recover()
    assert state(ann) == State.FAILED
    await nothing_lost(world)


async def test_a_copy_whose_process_died_may_arrive_too(
    world: World, ann: Wallet, asked: tuple[Act, str]
) -> None:
    act, path = asked
    world.mint.faults.add(Fault.LOST_REQUEST, path, times=3)
    with pytest.raises(OutcomeUnknownError):
        await act()
    world.time_s += 2 * LIVES_S
    world.points.arm(None)
    hook = world.mint.hook

    def dies(moment: str, request: TransportRequest) -> None:
        if request.path == path:
            world.points.dead = True
            raise Crash(path)

    world.mint.hook = dies
    with pytest.raises(Crash):
        await ann.recover()
    world.mint.hook = hook
    world.mint.faults.add(Fault.NOT_A_MINT, path, times=9)
    ann = await world.again(rules=RULES)
    assert state(ann) == State.PENDING
    world.mint.faults.clear()
    await nothing_lost(world)
    assert state(ann) == State.DONE


@pytest.mark.parametrize("code", [20004, 20005, 11002, 11004, 20003, 10000, 50000])
async def test_a_refusal_for_now_says_nothing_of_a_copy_under_way(
    code: int, world: World, ann: Wallet, asked: tuple[Act, str]
) -> None:
    """The first copy is lost, the second is refused; then the first arrives, and is not."""
    act, path = asked
    world.mint.faults.add(Fault.LOST_REQUEST, path)
    with refusing(world, path, code), pytest.raises(OutcomeUnknownError):
        await act()
    assert state(ann) == State.PENDING
    await world.mint.send(sent(world, path)[0])
    await nothing_lost(world)
    assert state(ann) == State.DONE


async def finds_no_route(world: World, ann: Wallet, bill: str) -> None:
    """Pays in vain: the first copy is lost, and the second fails."""
    world.mint.faults.add(Fault.LOST_REQUEST, MELT)
    world.lightning.outcome = Outcome.FAILED
    with pytest.raises(OutcomeUnknownError):
        await ann.pay_invoice(bill, key="k")


async def test_a_payment_that_found_no_route_may_find_one_by_a_copy(
    world: World, ann: Wallet, bill: str
) -> None:
    await finds_no_route(world, ann, bill)
    world.lightning.outcome = Outcome.PAID
    await world.mint.send(sent(world, MELT)[0])
    assert world.lightning.is_paid(bill)
    await nothing_lost(world)
    assert state(ann) == State.DONE


@pytest.mark.parametrize("skew_s", [-3_600, 0, 3_600])
async def test_a_payment_that_goes_on_failing_has_failed_in_the_end(
    skew_s: float, world: World, ann: Wallet, bill: str
) -> None:
    await finds_no_route(world, ann, bill)
    world.skew_s = skew_s  # the clock is set
    world.time_s += LIVES_S
    with pytest.raises(PaymentFailedError):
        await ann.pay_invoice(bill, key="k")
    world.lightning.outcome = Outcome.PAID
    assert (await ann.pay_invoice(bill, key="l")).state == "paid"
    await nothing_lost(world)


async def test_a_payment_that_arrived_and_failed_is_not_waited_for(
    world: World, ann: Wallet, bill: str
) -> None:
    """Its answer was lost, and the mint said that it was at it: so no copy is under way."""
    world.lightning.outcome = Outcome.PENDING
    world.mint.faults.add(Fault.LOST_REPLY, MELT)
    assert (await ann.pay_invoice(bill, key="k")).state == "pending"
    world.lightning.end(bill, Outcome.FAILED)
    world.lightning.outcome = Outcome.FAILED
    await ann.recover()
    assert state(ann) == State.FAILED
    await nothing_lost(world)


async def test_of_two_copies_one_that_arrived_and_failed_says_nothing_of_the_other(
    world: World, ann: Wallet, bill: str
) -> None:
    world.mint.faults.add(Fault.LOST_REQUEST, MELT)
    world.mint.faults.add(Fault.LOST_REPLY, MELT)
    world.lightning.outcome = Outcome.PENDING
    assert (await ann.pay_invoice(bill, key="k")).state == "pending"
    await ann.recover()  # it is at it still
    world.lightning.end(bill, Outcome.FAILED)
    world.lightning.outcome = Outcome.FAILED
    await ann.recover()
    assert state(ann) == State.PENDING
    world.lightning.outcome = Outcome.PAID
    await world.mint.send(sent(world, MELT)[0])  # the one that was lost at first
    await nothing_lost(world)
    assert (state(ann), world.lightning.is_paid(bill)) == (State.DONE, True)


@pytest.mark.parametrize("skew_s", [-3_600, 3_600])
async def test_a_clock_that_is_set_makes_no_copy_old(
    skew_s: float, world: World, ann: Wallet, asked: tuple[Act, str]
) -> None:
    """As that of a machine without one of its own is at its start."""
    act, path = asked
    world.mint.faults.add(Fault.LOST_REQUEST, path)
    world.mint.faults.add(Fault.NOT_A_MINT, path, times=9)
    with pytest.raises(OutcomeUnknownError):
        await act()
    world.skew_s = skew_s
    world.time_s += LIVES_S - 1
    await ann.recover()
    assert state(ann) == State.PENDING
    world.mint.faults.clear()
    await nothing_lost(world)
    assert state(ann) == State.DONE


async def test_proofs_that_their_mint_is_busy_with_are_not_let_go(
    world: World, ann: Wallet, asked: tuple[Act, str]
) -> None:
    """It refuses them because they are in a request under way, and nobody knows in which."""
    act, path = asked
    pending, hook = world.mint.ledger.pending, world.mint.hook

    def busy(moment: str, request: TransportRequest) -> None:
        if request.path == path and moment == "before":
            held = ann._book.store.read(lambda tables: tables.proofs.held("k"))
            pending.update({y_of(each.proof.secret): "another" for each in held})

    world.mint.hook = busy
    with pytest.raises(OutcomeUnknownError):
        await act()
    world.mint.hook = hook
    await ann.recover()
    assert (state(ann), world.held(ann)[Hold.RESERVED]) == (State.PENDING, 64)
    pending.clear()
    await nothing_lost(world)
    assert state(ann) == State.DONE


async def test_a_mint_that_signed_and_calls_the_inputs_unspent_is_waited_for(
    world: World, ann: Wallet
) -> None:
    """Its books are behind. The payee's secrets are in that request, and nowhere else."""
    world.mint.faults.add(Fault.LOST_REPLY, SWAP)
    hook, later = world.mint.hook, dict[bytes, str | None]()

    def behind(moment: str, request: TransportRequest) -> None:
        spent = world.mint.ledger.spent
        if moment == "before" and len(sent(world, SWAP)):
            later.update(spent)
            spent.clear()
        else:
            spent.update(later)

    world.mint.hook = behind
    with pytest.raises(OutcomeUnknownError):
        await ann.send(5, to=world.wallets["bob"].address(), key="k")
    world.mint.hook = hook
    await nothing_lost(world)
    token = (await ann.send(5, to=world.wallets["bob"].address(), key="k")).token
    assert (await world.wallets["bob"].receive(token)).amount == 5


async def test_a_mint_that_takes_inputs_before_it_signs_is_waited_for(
    world: World, ann: Wallet
) -> None:
    world.mint.faults.add(Fault.LOST_REPLY, SWAP)
    hook, signed, later = world.mint.hook, world.mint.ledger.signed, dict[bytes, Any]()

    def not_yet(moment: str, request: TransportRequest) -> None:
        if request.path == "/v1/restore" and moment == "before":
            later.update(signed)
            signed.clear()
        else:
            signed.update(later)

    world.mint.hook = not_yet
    with pytest.raises(OutcomeUnknownError, match="does not know for what"):
        await ann.send(5, to=world.wallets["bob"].address(), key="k")
    world.mint.hook = hook
    await nothing_lost(world)
    assert state(ann) == State.DONE


# ── several invoices at once ────────────────────────────────────────────────────────────────


async def invoices(world: World, wallet: Wallet, *amounts: int) -> list[str]:
    made = [await wallet.request_invoice(amount) for amount in amounts]
    for each in made:
        world.lightning.pay(each.bolt11)
    return [each.operation for each in made]


@pytest.mark.parametrize("said", [MintQuoteState.UNPAID, MintQuoteState.ISSUED])
async def test_a_batch_under_way_outlives_what_its_mint_says_of_one_invoice(
    said: MintQuoteState, world: World, ann: Wallet
) -> None:
    keys = await invoices(world, ann, 8, 16)
    promise = list(world.mint.quotes.mints.values())[-1]
    hook, path = world.mint.hook, f"/v1/mint/quote/bolt11/{promise.id}"

    def lies(moment: str, request: TransportRequest) -> None:
        if request.path == path:
            promise.state = said if moment == "before" else MintQuoteState.PAID

    world.mint.faults.add(Fault.LOST_REQUEST, BATCH, times=2)
    world.mint.hook = lies
    await ann.recover()
    world.mint.hook = hook
    await world.mint.send(sent(world, BATCH)[0])
    await nothing_lost(world)
    assert [state(ann, key) for key in keys] == [State.DONE] * 2
    assert ann.balance() == 88


async def test_a_batch_whose_mint_does_fewer_at_once_now_is_claimed_one_by_one(
    world: World, ann: Wallet
) -> None:
    keys = await invoices(world, ann, 8, 16)
    world.mint.faults.add(Fault.LOST_REQUEST, BATCH, times=2)
    await ann.recover()
    world.mint.without.add(29)
    await ann._book.info(world.mint.url, fresh=True)
    await ann.recover()
    assert {state(ann, key) for key in keys} == {State.PREPARED}, "a copy may be under way"
    world.time_s += LIVES_S
    for _ in range(2):
        await nothing_lost(world)
    assert [state(ann, key) for key in keys] == [State.DONE] * 2


# ── one invoice ─────────────────────────────────────────────────────────────────────────────


async def test_a_mint_that_issues_before_it_signs_is_waited_for(world: World, ann: Wallet) -> None:
    (key,) = await invoices(world, ann, 8)
    world.mint.faults.add(Fault.LOST_REPLY, MINT)
    signed = world.mint.ledger.signed
    hook, later = world.mint.hook, dict(signed)

    def not_yet(moment: str, request: TransportRequest) -> None:
        if request.path == "/v1/restore":
            if moment == "before":
                later.update(signed)
                signed.clear()
            else:
                signed.update(later)

    world.mint.hook = not_yet
    with pytest.raises(OutcomeUnknownError, match="does not know to whom"):
        await ann.claim_invoice(key)
    world.mint.hook = hook
    await nothing_lost(world)
    assert state(ann, key) == State.DONE


async def test_ecash_made_for_an_earlier_request_is_taken(world: World, ann: Wallet) -> None:
    """Its mint refused it as of an old keyset, and was asked with new ones; then it arrived."""
    (key,) = await invoices(world, ann, 8)
    world.mint.requests.clear()
    world.mint.faults.add(Fault.LOST_REQUEST, MINT)
    with refusing(world, MINT, 12001):
        for _ in range(2):
            with pytest.raises(MintError):
                await ann.claim_invoice(key)
    await world.mint.send(sent(world, MINT)[0])
    await nothing_lost(world)
    assert (state(ann, key), ann.balance()) == (State.DONE, 72)
