"""Mints whose books go back or contradict themselves, and operations that meet each other.

What was paid stays paid, what is on its way is waited for, what the wallet holds is spendable, and
no two tasks that work on one token, invoice or payment undo or double what the other did.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Literal

import pytest
from helpers.wallet import nothing_lost, state

from wallet.errors import AlreadySpentError, OutcomeUnknownError
from wallet.mint.testing import Fault, Outcome
from wallet.mint.testing.refused import Refused
from wallet.operations.copies import LIVES_S
from wallet.operations.results import Rules, Sent
from wallet.store import Outbox, State
from wallet.testing import World
from wallet.types import MeltQuoteState, MintQuoteState, TransportRequest
from wallet.wallet import Wallet

RULES = Rules(change_pieces=0)  # each payment needs the mint
FOREIGN = Rules(change_pieces=1, swap_foreign=True)
MELT, SWAP, MINT = "/v1/melt/bolt11", "/v1/swap", "/v1/mint/bolt11"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path, mints=2)
    await made.funded("ann", 64, rules=RULES)
    yield made
    await made.close()


@pytest.fixture
def ann(world: World) -> Wallet:
    return world.wallets["ann"]


@pytest.fixture
def bill(world: World) -> str:
    return world.lightning.invoice(20_000)


Change = Callable[[str, TransportRequest], Awaitable[None] | None]


def beside(world: World, change: Change, *, place: int = 0) -> None:
    """What happens at each request to a mint, beside its passing its points."""
    mint = world.mints[place]
    hook = mint.hook

    async def both(moment: Literal["before", "after"], request: TransportRequest) -> None:
        for each in (hook, change):
            done = each(moment, request) if each is not None else None
            if done is not None:
                await done

    mint.hook = both


# ── tokens ──────────────────────────────────────────────────────────────────────────────────


async def test_a_token_that_is_being_received_is_not_taken_back_beside(
    world: World, ann: Wallet
) -> None:
    """It was asked for ever, without a pause."""
    sent = await ann.send(5)
    world.mint.faults.add(Fault.LOST_REPLY, SWAP)
    world.mint.faults.add(Fault.UNREACHABLE, times=99)
    with pytest.raises(OutcomeUnknownError):
        await ann.receive(sent.token)
    world.mint.faults.add(Fault.UNREACHABLE, times=99)
    with pytest.raises(AlreadySpentError, match="is receiving this token already"):
        await ann.receive(sent.token, key="another")
    async with asyncio.timeout(5):
        with pytest.raises(AlreadySpentError):
            await ann.reclaim(sent.operation)
    world.mint.faults.clear()
    await nothing_lost(world)
    assert ann.balance() == 64


async def test_a_reclaim_that_is_asked_for_while_it_recovers_is_done_once(
    world: World, ann: Wallet
) -> None:
    sent = await ann.send(5)
    world.mint.faults.add(Fault.LOST_REPLY, SWAP)
    world.mint.faults.add(Fault.UNREACHABLE, "/v1/checkstate")
    with pytest.raises(OutcomeUnknownError):
        await ann.reclaim(sent.operation)
    looking = asyncio.Event()
    looks = 0

    async def looked(moment: str, request: TransportRequest) -> None:
        nonlocal looks
        if request.path == "/v1/checkstate" and moment == "before":
            looks += 1
            looking.set()
            if looks == 2:  # it is done by now, and somebody spends what came of it
                await ann.send(64, to=ann.address())

    beside(world, looked)
    recovering = asyncio.create_task(ann.recover())
    await looking.wait()
    back = await ann.reclaim(sent.operation)
    await recovering
    assert back.state == State.DONE
    assert (await ann.check()).ok
    await nothing_lost(world)


async def test_a_reclaim_that_fails_while_it_recovers_is_begun_again(
    world: World, ann: Wallet
) -> None:
    sent = await ann.send(5)
    world.mint.faults.add(Fault.LOST_REQUEST, SWAP)
    world.mint.faults.add(Fault.UNREACHABLE, "/v1/checkstate")
    with pytest.raises(OutcomeUnknownError):
        await ann.reclaim(sent.operation)
    world.time_s += 600  # no copy of it can come any more
    world.mint.faults.add(Fault.NOT_A_MINT, SWAP)
    looking = asyncio.Event()
    beside(world, lambda _moment, _request: looking.set())
    recovering = asyncio.create_task(ann.recover())
    await looking.wait()
    back = await ann.reclaim(sent.operation)
    assert [each.state for each in await recovering] == [State.FAILED]
    assert (back.state, ann.balance()) == (State.DONE, 64)
    await nothing_lost(world)


async def test_a_token_that_is_being_taken_back_is_not_told_as_delivered(
    world: World, ann: Wallet
) -> None:
    sent = await ann.send(5)
    world.mint.faults.add(Fault.LOST_REPLY, SWAP)
    world.mint.faults.add(Fault.UNREACHABLE, "/v1/checkstate")
    with pytest.raises(OutcomeUnknownError):
        await ann.reclaim(sent.operation)
    assert await ann.refresh_outbox() == ()
    await nothing_lost(world)
    operation = ann.operation(sent.operation)
    assert operation is not None
    assert operation.outbox == Outbox.RECLAIMED


async def test_what_is_delivered_while_a_restore_looks_does_not_come_back(
    world: World, ann: Wallet
) -> None:
    bob = await world.funded("bob", 0)
    sent = await ann.send(5)
    tasks: list[asyncio.Task[object]] = []

    async def redeemed() -> None:
        await bob.receive(sent.token)
        await ann.refresh_outbox()

    def looked(moment: str, request: TransportRequest) -> None:
        if request.path == "/v1/checkstate" and moment == "after" and not tasks:
            tasks.append(asyncio.create_task(redeemed()))

    beside(world, looked)
    hold = ann._book.store.write

    async def slow(name: str, work: Callable[..., object]) -> object:
        if name == "restore":
            await asyncio.wait(tasks, timeout=0.2)
        return await hold(name, work)

    ann._book.store.write = slow  # type: ignore[assignment]
    await ann.restore(world.mint.url)
    await asyncio.gather(*tasks)
    assert ann.balance() == 59
    await nothing_lost(world)


# ── invoices of ours ────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("path", [SWAP, MELT, "/v1/mint/bolt11", "/v1/mint/bolt11/batch"])
async def test_a_restore_begins_once_what_is_at_work_has_ended(
    path: str, world: World, ann: Wallet
) -> None:
    """What it saw unspent would be here again after it was sent."""
    at_mint, go_on = asyncio.Event(), asyncio.Event()

    async def slow(moment: str, request: TransportRequest) -> None:
        if request.path == path and moment == "before":
            at_mint.set()
            await go_on.wait()

    async def work() -> None:
        if path == SWAP:
            await ann.send(5)
        elif path == MELT:
            await ann.pay_invoice(world.lightning.invoice(5_000))
        else:
            await ann.recover()

    for amount in {"/v1/mint/bolt11": (5,), "/v1/mint/bolt11/batch": (5, 6)}.get(path, ()):
        world.lightning.pay((await ann.request_invoice(amount)).bolt11)
    beside(world, slow)
    working = asyncio.create_task(work())
    await at_mint.wait()
    restoring = asyncio.create_task(ann.restore(world.mint.url))
    asked = len(world.mint.requests)
    for _ in range(50):
        await asyncio.sleep(0)
    assert len(world.mint.requests) == asked
    go_on.set()
    await asyncio.gather(working, restoring)
    await nothing_lost(world)


async def test_ecash_that_is_restored_in_part_is_not_given_up(world: World, ann: Wallet) -> None:
    invoice = await ann.request_invoice(11)
    world.lightning.pay(invoice.bolt11)
    world.mint.faults.add(Fault.LOST_REPLY, MINT)
    world.mint.faults.add(Fault.FEWER, "/v1/restore", times=2)
    world.time_s += 1_000
    with pytest.raises(OutcomeUnknownError, match=r"restores \d of \d"):
        await ann.claim_invoice(invoice.operation)
    await ann.recover()
    await nothing_lost(world)
    assert state(ann, invoice.operation) == State.DONE


async def claimed_in_vain(world: World, ann: Wallet) -> str:
    """An invoice that is paid, whose claims are all lost; its key."""
    invoice = await ann.request_invoice(11)
    world.lightning.pay(invoice.bolt11)
    world.mint.faults.add(Fault.LOST_REQUEST, MINT, times=3)
    with pytest.raises(OutcomeUnknownError):
        await ann.claim_invoice(invoice.operation)
    return invoice.operation


async def test_an_invoice_that_was_paid_once_is_not_told_as_expired(
    world: World, ann: Wallet
) -> None:
    key = await claimed_in_vain(world, ann)
    quote = list(world.mint.quotes.mints.values())[-1]
    quote.state = MintQuoteState.UNPAID
    world.time_s += 10 * 86_400
    await ann.recover()
    quote.state = MintQuoteState.PAID
    await nothing_lost(world)
    assert state(ann, key) == State.DONE


async def test_outputs_of_an_earlier_request_are_not_restored_while_it_is_open(
    world: World, ann: Wallet
) -> None:
    """Its first request arrived after all. Restored and spent, they would come back once more."""
    key = await claimed_in_vain(world, ann)
    await world.mint.send(world.mint.requests[-1])
    quote = list(world.mint.quotes.mints.values())[-1]
    quote.state = MintQuoteState.PAID  # as if not
    keyset = world.mint.rotate()

    def lost(moment: str, request: TransportRequest) -> None:
        if request.path == MINT and keyset.encode() in (request.body or b""):
            raise OutcomeUnknownError("lost on the way")

    beside(world, lost)
    with pytest.raises(OutcomeUnknownError):
        await ann.claim_invoice(key)
    quote.state = MintQuoteState.ISSUED
    await ann.restore(world.mint.url)
    await ann.send(ann.balance(), to=ann.address())
    await ann.recover()
    assert state(ann, key) == State.DONE
    assert (await ann.check()).ok
    await nothing_lost(world)


async def test_a_restore_takes_nothing_of_a_token_whose_making_is_not_settled(
    world: World, ann: Wallet
) -> None:
    """Spent as ours it would be worth nothing to its payee."""
    world.mint.faults.add(Fault.LOST_REPLY, SWAP)
    world.mint.faults.add(Fault.UNREACHABLE, "/v1/checkstate")
    with pytest.raises(OutcomeUnknownError):
        await ann.send(20, include_fee=True, key="k")
    before = ann.balance()
    assert (await ann.restore(world.mint.url)).proofs == 0
    assert ann.balance() == before
    await ann.recover()
    bob = await world.funded("bob", 0)
    assert (await bob.receive((await ann.send(20, include_fee=True, key="k")).token)).amount == 20
    await nothing_lost(world)


# ── payments ────────────────────────────────────────────────────────────────────────────────


async def test_change_of_exact_inputs_that_a_quote_does_not_repeat(
    world: World, ann: Wallet
) -> None:
    bolt11 = world.lightning.invoice(62_000)  # with a reserve of 2: all there is
    world.lightning.fee_msat = 0
    world.mint.faults.add(Fault.LOST_REPLY, MELT)

    def forgets(moment: str, request: TransportRequest) -> None:
        for quote in world.mint.quotes.melts.values():
            quote.change = ()

    beside(world, forgets)
    paid = await ann.pay_invoice(bolt11, key="k")
    assert (paid.state, paid.fee) == ("paid", 0)
    assert ann.balance() == 2
    await nothing_lost(world)


@pytest.mark.parametrize("restores", [True, False])
async def test_change_of_which_a_quote_repeats_a_part(
    restores: bool, world: World, ann: Wallet, bill: str
) -> None:
    """Where the rest cannot be asked for, there is the part."""
    if not restores:
        world.mint.without.add(9)
        await ann._book.info(world.mint.url, fresh=True)
    world.lightning.fee_msat = 0
    world.mint.faults.add(Fault.LOST_REPLY, MELT)

    def forgets(moment: str, request: TransportRequest) -> None:
        for quote in world.mint.quotes.melts.values():
            quote.change = quote.change[:1]

    beside(world, forgets)
    paid = await ann.pay_invoice(bill, key="k")
    kept = 0 if restores else 40
    assert (paid.state, paid.fee, ann.balance()) == ("paid", kept, 44 - kept)
    assert await world.missing() == kept


async def test_a_token_waits_for_the_change_of_a_payment(
    world: World, ann: Wallet, bill: str
) -> None:
    tasks: list[asyncio.Task[Sent]] = []

    async def slow(moment: str, request: TransportRequest) -> None:
        if request.path == MELT and moment == "before":
            tasks.append(asyncio.create_task(ann.send(43)))
            await asyncio.wait(tasks, timeout=0.2)

    beside(world, slow)
    assert (await ann.pay_invoice(bill)).fee == 1
    assert (await tasks[0]).amount == 43
    assert ann.balance() == 0


@pytest.mark.parametrize("inputs", ["unspent", "spent"])
async def test_a_payment_whose_change_is_owed_is_never_undone(
    inputs: str, world: World, ann: Wallet, bill: str
) -> None:
    """The mint's books go back to before: the invoice is paid all the same, and so it is told."""
    world.mint.faults.add(Fault.WRONG_SIGNATURES, MELT)
    world.mint.faults.add(Fault.WRONG_SIGNATURES, "/v1/restore", times=99)
    world.mint.faults.add(Fault.WRONG_SIGNATURES, "/v1/melt/quote/bolt11/*", times=99)
    assert (await ann.pay_invoice(bill, key="k")).state == "paid"
    assert state(ann) == State.PENDING
    world.mint.faults.clear()
    quote = next(iter(world.mint.quotes.melts.values()))
    spent = dict(world.mint.ledger.spent)
    quote.state = MeltQuoteState.UNPAID
    if inputs == "unspent":
        world.mint.ledger.spent.clear()
    requests = len(world.mint.requests)
    await ann.recover()
    assert state(ann) == State.PENDING
    assert MELT not in {each.path for each in world.mint.requests[requests:]}
    assert (await ann.pay_invoice(bill, key="k")).state == "paid"
    quote.state = MeltQuoteState.PAID
    world.mint.ledger.spent.update(spent)
    await nothing_lost(world)
    assert state(ann) == State.DONE


async def test_a_quote_that_its_mint_forgot_holds_no_ecash_for_good(
    world: World, ann: Wallet, bill: str
) -> None:
    """It never got the payment, and its books drop what was not paid in time."""
    world.mint.faults.add(Fault.LOST_REQUEST, MELT, times=9)
    with pytest.raises(OutcomeUnknownError):
        await ann.pay_invoice(bill, key="k")
    world.mint.quotes.melts.clear()
    await ann.recover()
    assert (state(ann), ann.balance()) == (State.PENDING, 0)  # a copy may be under way
    world.mint.faults.clear()
    world.time_s += 2 * LIVES_S
    await ann.recover()
    assert (state(ann), ann.balance()) == (State.FAILED, 64)
    await nothing_lost(world)


async def test_a_quote_that_its_mint_forgot_after_it_paid_stays_unknown(
    world: World, ann: Wallet, bill: str
) -> None:
    world.mint.faults.add(Fault.LOST_REPLY, MELT)
    world.mint.faults.add(Fault.LOST_REQUEST, "/v1/melt/quote/bolt11/*", times=9)
    with pytest.raises(OutcomeUnknownError):
        await ann.pay_invoice(bill, key="k")
    melts = dict(world.mint.quotes.melts)
    world.mint.quotes.melts.clear()
    world.mint.faults.clear()
    world.time_s += 2 * LIVES_S
    await ann.recover()
    assert state(ann) == State.PENDING
    world.mint.quotes.melts.update(melts)
    await ann.recover()
    assert state(ann) == State.DONE


async def test_more_change_than_was_given_is_not_believed(
    world: World, ann: Wallet, bill: str
) -> None:
    """A fee below nothing would be money to spend at another mint."""
    world.mint.faults.add(Fault.LOST_REPLY, MELT)

    def generous(moment: str, request: TransportRequest) -> None:
        if request.path == MELT and moment == "after":
            quote = next(iter(world.mint.quotes.melts.values()))
            ledger = world.mint.ledger
            for made in quote.outputs:
                ledger.signed.pop(made.b, None)
            quote.change = ledger.sign_change(quote.outputs, 1_000)

    beside(world, generous)
    paid = await ann.pay_invoice(bill, key="k")
    assert paid.state == "paid"
    assert paid.fee >= 0
    assert ann.balance() < 64


async def test_a_payment_in_parts_that_is_paid_but_for_change_is_told_as_paid(
    world: World, ann: Wallet
) -> None:
    await world.funded("ann", 64, mint=1)
    world.mint.faults.add(Fault.WRONG_SIGNATURES, MELT)
    world.mint.faults.add(Fault.WRONG_SIGNATURES, "/v1/melt/quote/*", times=9)
    world.mint.faults.add(Fault.WRONG_SIGNATURES, "/v1/restore", times=9)
    bolt11 = world.lightning.invoice(90_000)
    paid = await ann.pay_invoice(bolt11, key="k")
    assert world.lightning.is_paid(bolt11)
    assert paid.state == "paid"
    assert paid.preimage
    assert state(ann) == State.PENDING
    world.mint.faults.clear()
    await nothing_lost(world)
    assert state(ann) == State.DONE


async def test_a_mint_that_repeats_what_it_said_before_has_not_begun_again(tmp_path: Path) -> None:
    """It keeps replies (NUT-19), that a payment was pending too: meanwhile it has failed."""
    world = World(tmp_path, cached=True)
    ann = await world.funded("ann", 64, rules=RULES)
    bolt11 = world.lightning.invoice(20_000)
    world.lightning.outcome = Outcome.PENDING
    assert (await ann.pay_invoice(bolt11, key="k")).state == "pending"
    world.lightning.end(bolt11, Outcome.FAILED)
    await ann.recover()
    assert state(ann) == State.FAILED
    assert ann.balance() == 64
    await nothing_lost(world)
    await world.close()


# ── tokens of foreign mints ─────────────────────────────────────────────────────────────────


async def foreign(world: World) -> str:
    bob = await world.funded("bob", 60, mint=1)
    return (await bob.send(50)).token


@pytest.mark.parametrize("is_listed", [True, False])
async def test_a_key_means_the_same_whether_its_mint_is_listed_by_now_or_not(
    is_listed: bool, world: World
) -> None:
    ann = await world.again(rules=FOREIGN)
    token, url = await foreign(world), world.mints[1].url
    if is_listed:
        await ann.add_mint(url)
    first = await ann.receive(token, key="k")
    if is_listed:
        await ann.remove_mint(url, force=True)
    else:
        await ann.add_mint(url)
    assert await ann.receive(token, key="k") == first


FOR_NOW = {
    "an invoice is refused": (0, "/v1/mint/quote/bolt11"),
    "a quote is refused": (1, "/v1/melt/quote/bolt11"),
    "the ecash is refused": (0, MINT),
    "the invoice is not found": (0, "/v1/mint/quote/bolt11/*"),
}


@pytest.mark.parametrize("what", FOR_NOW)
async def test_a_proxy_that_refuses_does_not_end_a_swap_over_lightning(
    what: str, world: World
) -> None:
    ann = await world.again(rules=FOREIGN)
    token = await foreign(world)
    place, path = FOR_NOW[what]
    world.mints[place].faults.add(Fault.NOT_A_MINT, path)
    with pytest.raises(OutcomeUnknownError):
        await ann.receive(token, key="k")
    await ann.recover()
    assert state(ann) == State.DONE
    assert (await ann.receive(token, key="k")).amount > 40
    await nothing_lost(world)


async def test_a_mint_that_does_not_issue_now_has_been_paid_all_the_same(world: World) -> None:
    ann = await world.again(rules=FOREIGN)
    token = await foreign(world)
    answer = world.mint.desk.answer

    def closed(request: TransportRequest) -> object:
        if request.path == MINT:
            raise Refused(20003, "minting is disabled")
        return answer(request)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(world.mint.desk, "answer", closed)
        with pytest.raises(OutcomeUnknownError):
            await ann.receive(token, key="k")
        assert state(ann) == State.PENDING
    await nothing_lost(world)
    assert state(ann) == State.DONE


async def test_a_swap_over_lightning_goes_on_when_its_invoices_have_expired(world: World) -> None:
    """And when what was agreed on does not fit any more."""
    ann = await world.again(rules=FOREIGN)
    token = await foreign(world)
    world.mints[1].faults.add(Fault.UNREACHABLE, MELT.replace("bolt11", "quote/bolt11"))
    with pytest.raises(OutcomeUnknownError):
        await ann.receive(token, key="k")
    world.time_s += 2 * 86_400
    world.mints[1].quotes.reserve = lambda amount: 7
    await ann.recover()
    assert state(ann) == State.DONE
    await nothing_lost(world)
