"""Mints that break off, lie or talk nonsense, a full disk and a clock that is wrong.

Whatever happens, what the mints issued and did not redeem is what wallets and outboxes hold, once
the wallet has recovered; and no counter goes down.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from wallet.errors import (
    AlreadySpentError,
    MintError,
    MintMisbehavedError,
    MintUnreachableError,
    OutcomeUnknownError,
    PaymentFailedError,
    StoreError,
    UnverifiedError,
    WalletError,
)
from wallet.mint.testing import Fault
from wallet.operations.results import Rules
from wallet.store import Hold, State
from wallet.testing import World, lowered
from wallet.types import MintQuoteState, TransportRequest
from wallet.wallet import Wallet

pytestmark = pytest.mark.timeout(600)

RULES = Rules(change_pieces=0)  # each payment needs the mint
Act = Callable[[World, Wallet, dict[str, Any], str], Awaitable[Any]]
FAULTS = [fault for fault in Fault if fault is not Fault.NO_ANSWER]


async def send(_world: World, wallet: Wallet, _given: dict[str, Any], key: str) -> None:
    await wallet.send(5, key=key)


async def send_locked(_world: World, wallet: Wallet, given: dict[str, Any], key: str) -> None:
    await wallet.send(5, to=given["to"], key=key)


async def receive(_world: World, wallet: Wallet, given: dict[str, Any], key: str) -> None:
    await wallet.receive(given["token"], key=key)


async def claim(_world: World, wallet: Wallet, given: dict[str, Any], _key: str) -> None:
    await wallet.claim_invoice(given["invoice"])


async def pay(_world: World, wallet: Wallet, given: dict[str, Any], key: str) -> None:
    await wallet.pay_invoice(given["bolt11"], key=key)


async def reclaim(_world: World, wallet: Wallet, given: dict[str, Any], _key: str) -> None:
    await wallet.reclaim(given["sent"])


ACTS: dict[str, tuple[Act, tuple[str, ...]]] = {
    "send": (send, ("/v1/swap",)),
    "send locked": (send_locked, ("/v1/swap", "/v1/info")),
    "receive": (receive, ("/v1/swap",)),
    "claim": (claim, ("/v1/mint/quote/bolt11/*", "/v1/mint/bolt11")),
    "pay": (pay, ("/v1/melt/quote/bolt11", "/v1/melt/bolt11")),
    "reclaim": (reclaim, ("/v1/swap",)),
}
ASKED_AFTERWARDS = ("/v1/checkstate", "/v1/restore", "/v1/melt/quote/bolt11/*")


@contextlib.asynccontextmanager
async def ready(
    folder: Path, **settings: Any
) -> AsyncIterator[tuple[World, Wallet, dict[str, Any]]]:
    os.makedirs(folder)
    world = World(folder, **settings)
    try:
        wallet = await world.funded("ann", 64, rules=RULES)
        bob = await world.funded("bob", 21, rules=RULES)
        invoice = await wallet.request_invoice(16)
        world.lightning.pay(invoice.bolt11)
        sent = await wallet.send(2)
        token = (await bob.send(21)).token
        bolt11 = world.lightning.invoice(20_000)
        given = {"to": bob.address(), "token": token, "invoice": invoice.operation}
        yield world, wallet, given | {"bolt11": bolt11, "sent": sent.operation}
    finally:
        await world.close()


async def nothing_lost(world: World, wallet: Wallet, told: object) -> None:
    await wallet.recover()
    assert await world.missing() == 0, told
    assert Hold.RESERVED not in world.held(wallet), told
    assert (await wallet.check()).ok, told


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name.lower())
async def test_one_request_goes_wrong(fault: Fault, tmp_path: Path) -> None:
    for name, (act, paths) in ACTS.items():
        for path in paths:
            told = (name, path)
            async with ready(tmp_path / f"{name} {path}".replace("/", "."), fee_ppk=100) as (
                world,
                wallet,
                given,
            ):
                before = world.counters(wallet)
                world.mint.faults.add(fault, path)
                with contextlib.suppress(WalletError):
                    await act(world, wallet, given, "k")
                await nothing_lost(world, wallet, told)
                assert lowered(before, world.counters(wallet)) == [], told
                with contextlib.suppress(WalletError):  # a failed operation stays failed
                    await act(world, wallet, given, "k")
                await nothing_lost(world, wallet, told)


@pytest.mark.parametrize("name", ACTS)
async def test_the_mint_acts_and_then_goes_silent_for_long(name: str, tmp_path: Path) -> None:
    act, paths = ACTS[name]
    async with ready(tmp_path / "w") as (world, wallet, given):
        world.mint.faults.add(Fault.LOST_REPLY, paths[-1] if name != "send locked" else "/v1/swap")
        for path in (*ASKED_AFTERWARDS, "/v1/swap", "/v1/mint*", "/v1/melt/*"):
            world.mint.faults.add(Fault.UNREACHABLE, path, times=1_000)
        with pytest.raises((OutcomeUnknownError, MintUnreachableError)):
            await act(world, wallet, given, "k")
        assert await wallet.recover() == ()
        assert len(wallet.pending()) >= 1
        world.mint.faults.clear()
        revived = await world.again(rules=RULES)
        assert revived.pending() == ()
        await nothing_lost(world, revived, name)


@pytest.mark.parametrize("name", ["send", "send locked", "receive", "claim", "pay"])
async def test_a_task_is_cancelled_while_the_mint_says_nothing(name: str, tmp_path: Path) -> None:
    act, paths = ACTS[name]
    path = paths[-1] if name != "send locked" else "/v1/swap"
    async with ready(tmp_path / "w") as (world, wallet, given):
        acted = asyncio.Event()

        def hook(moment: str, request: TransportRequest) -> None:
            if moment == "after" and request.path == path:
                acted.set()

        world.mint.hook = hook
        world.mint.faults.add(Fault.NO_ANSWER, path)
        task = asyncio.create_task(act(world, wallet, given, "k"))
        await acted.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await nothing_lost(world, wallet, name)
        await act(world, wallet, given, "k")
        await nothing_lost(world, wallet, name)


@pytest.mark.parametrize("name", ACTS)
async def test_the_keyset_rotates_and_its_fee_changes(name: str, tmp_path: Path) -> None:
    act, _ = ACTS[name]
    async with ready(tmp_path / "w", fee_ppk=100) as (world, wallet, given):
        old = {coin.keyset for coin in wallet._book.store.read(_coins)}
        world.mint.rotate(fee_ppk=600)
        await act(world, wallet, given, "k")
        await nothing_lost(world, wallet, name)
        new = {coin.keyset for coin in wallet._book.store.read(_coins)}
        assert new - old, "what was made is of the new keyset"


def _coins(tables: Any) -> Any:
    return tables.proofs.coins("https://mint0.example", "sat")


async def test_a_mint_that_signs_wrongly_for_long_is_never_believed(tmp_path: Path) -> None:
    for fault in (Fault.WRONG_SIGNATURES, Fault.WRONG_DLEQ, Fault.NO_DLEQ, Fault.WRONG_AMOUNTS):
        async with ready(tmp_path / fault.name) as (world, wallet, _given):
            before = wallet.balance()
            world.mint.faults.add(fault, "/v1/swap", times=100)
            world.mint.faults.add(fault, "/v1/restore", times=100)
            with pytest.raises(MintMisbehavedError):
                await wallet.send(5, key="k")
            operation = wallet.operation("k")
            assert operation is not None
            assert operation.state == State.PENDING
            assert wallet.balance() < before, "the inputs are not spendable meanwhile"
            world.mint.faults.clear()
            await nothing_lost(world, wallet, fault)
            assert (await wallet.send(5, key="k")).token


async def test_change_that_is_signed_wrongly_is_owed_and_comes_later(tmp_path: Path) -> None:
    async with ready(tmp_path / "w") as (world, wallet, given):
        world.mint.faults.add(Fault.WRONG_DLEQ, "/v1/melt/bolt11", times=10)
        world.mint.faults.add(Fault.WRONG_DLEQ, "/v1/restore", times=10)
        paid = await wallet.pay_invoice(given["bolt11"], key="k")
        assert paid.state == "paid"
        assert paid.preimage
        operation = wallet.operation("k")
        assert operation is not None
        assert "owes the change" in operation.error
        assert (await wallet.pay_invoice(given["bolt11"], key="k")).state == "paid"
        world.mint.faults.clear()
        await nothing_lost(world, wallet, "owed")
        assert wallet.operation("k") == wallet.history()[0]
        assert wallet.history()[0].state == State.DONE


@pytest.mark.parametrize("skew_s", [-86_400.0, 86_400.0])
async def test_a_clock_that_is_a_day_off(skew_s: float, tmp_path: Path) -> None:
    for name, (act, _) in ACTS.items():
        async with ready(tmp_path / name, fee_ppk=100) as (world, wallet, given):
            world.skew_s = skew_s
            await act(world, wallet, given, "k")
            await nothing_lost(world, wallet, name)


@pytest.mark.parametrize("name", ACTS)
async def test_the_disk_is_full(name: str, tmp_path: Path) -> None:
    act, _ = ACTS[name]
    full = sqlite3.OperationalError("database or disk is full")
    async with ready(tmp_path / "calm") as (world, wallet, given):
        world.points.arm(None)
        await act(world, wallet, given, "k")
        points = world.points.seen
    commits = [number for number, point in enumerate(points) if point.startswith("commit")]
    assert commits
    for number in commits:
        async with ready(tmp_path / str(number)) as (world, wallet, given):
            world.points.arm(number, lives_on=True, error=full)
            with pytest.raises(StoreError, match="full") as told:
                await act(world, wallet, given, "k")
            assert "space" in told.value.hint
            world.points.disarm()
            await nothing_lost(world, wallet, points[number])
            with contextlib.suppress(AlreadySpentError):  # recovery has taken it back
                await act(world, wallet, given, "k")
            await nothing_lost(world, wallet, points[number])


@pytest.mark.parametrize("fault", [None, Fault.LOST_REQUEST])
async def test_an_old_backup_never_gives_one_secret_to_two_proofs(
    fault: Fault | None, tmp_path: Path
) -> None:
    async with ready(tmp_path / "w") as (world, _wallet, given):
        await world.stop()
        shutil.copy(tmp_path / "w" / "ann.db", tmp_path / "w" / "old.db")
        later = await world.wallet(rules=RULES)
        await later.pay_invoice(given["bolt11"])
        await later.send(7)
        await world.fill(later, 20)
        counters = world.counters(later)
        await world.stop()
        shutil.copy(tmp_path / "w" / "old.db", tmp_path / "w" / "ann.db")
        old = await world.wallet(rules=RULES)
        assert lowered(counters, world.counters(old)), "it is an old file indeed"
        if fault is not None:
            world.mint.faults.add(fault, "/v1/mint/bolt11")
        await world.fill(old, 9)  # its outputs were signed in the file's later life
        assert lowered(counters, world.counters(old)) == []
        with contextlib.suppress(AlreadySpentError, PaymentFailedError):
            await old.send(40)
        await old.check()
        await old.restore(world.mint.url)
        assert await world.missing() == 0


@pytest.mark.parametrize(
    ("fault", "before", "spent"),
    [(None, 1, False), (Fault.LOST_REQUEST, 2, False), (Fault.LOST_REQUEST, 1, True)],
)
async def test_what_was_made_after_an_old_backup_is_no_answer_to_its_next_invoice(
    fault: Fault | None, before: int, spent: bool, tmp_path: Path
) -> None:
    """Though it is of the same counters, amounts and all."""
    world = World(tmp_path)
    await world.funded("ann", 64, rules=RULES)
    await world.stop()
    shutil.copy(tmp_path / "ann.db", tmp_path / "old.db")
    later = await world.wallet(rules=RULES)
    for _ in range(before):
        await world.fill(later, 16)
    if spent:
        bob = await world.funded("bob", 0)
        await bob.receive((await later.send(later.balance())).token)
    await world.stop()
    old = await world.wallet(file="old", rules=RULES)
    if fault is not None:
        world.mint.faults.add(fault, "/v1/mint/bolt11")
    await world.fill(old, 16)
    assert {quote.state for quote in world.mint.quotes.mints.values()} == {MintQuoteState.ISSUED}
    await old.restore(world.mint.url)
    await old.check()
    assert old.balance() == 16 + (0 if spent else 64 + 16 * before)
    await world.close()


async def test_an_old_backup_loses_no_proof_beside_one_that_was_spent(tmp_path: Path) -> None:
    """Its request would use counters again, whose outputs the mint signed for the one alone."""
    world = World(tmp_path)
    wallet = await world.funded("ann", 64, rules=RULES)
    await world.fill(wallet, 32)
    payee = (await world.wallet("bob")).address()
    await world.stop()
    shutil.copy(tmp_path / "ann.db", tmp_path / "old.db")
    later = await world.wallet(rules=RULES)
    await later.send(20, to=payee)
    await world.stop()
    old = await world.wallet(file="old", rules=RULES)
    with pytest.raises(AlreadySpentError):
        await old.send(84, to=payee)
    assert world.held(old) == {Hold.FREE: 64, Hold.ASIDE: 32}
    await world.close()


@pytest.mark.parametrize("invoices", [1, 2])
async def test_a_mint_that_forgets_that_it_issued_is_not_asked_for_more(
    invoices: int, tmp_path: Path
) -> None:
    """The answer is lost, and its quotes count as still to be issued: it signed all the same."""
    async with ready(tmp_path / "w") as (world, wallet, _given):
        hook, outstanding = world.mint.hook, world.mint.outstanding()

        async def forgets(moment: str, request: TransportRequest) -> None:
            assert hook is not None
            done = hook(moment, request)
            if done is not None:
                await done
            for quote in world.mint.quotes.mints.values():
                if quote.state == MintQuoteState.ISSUED:
                    quote.state = MintQuoteState.PAID

        world.mint.hook = forgets
        for _ in range(invoices - 1):  # beside the one that is there
            invoice = await wallet.request_invoice(16)
            world.lightning.pay(invoice.bolt11)
        path = "/v1/mint/bolt11/batch" if invoices > 1 else "/v1/mint/bolt11"
        world.mint.faults.add(Fault.LOST_REPLY, path)
        await wallet.recover()
        assert world.mint.outstanding() == outstanding + 16 * invoices
        await nothing_lost(world, wallet, path)


async def test_a_copy_of_the_wallet_that_spent_first_costs_nothing_twice(tmp_path: Path) -> None:
    async with ready(tmp_path / "w") as (world, _wallet, _given):
        await world.stop()
        shutil.copy(tmp_path / "w" / "ann.db", tmp_path / "w" / "copy.db")
        copy = await world.wallet(file="copy")
        await copy.send(60, to=copy.address())
        ours = await world.wallet(rules=RULES)
        with pytest.raises((AlreadySpentError, MintError)):
            await ours.send(31, to=copy.address())
        await ours.check()
        assert ours.balance() == 2, "what the copy did not spend"
        assert copy.balance() + 60 + 2 + 21 == world.mint.outstanding()


async def test_the_mint_says_spent_and_takes_it_back(tmp_path: Path) -> None:
    async with ready(tmp_path / "w") as (world, wallet, _given):
        before = wallet.balance()
        ledger = world.mint.ledger
        spent = dict(ledger.spent)
        coins = [
            held for _, held in wallet._book.store.read(lambda t: t.proofs.all_held(Hold.FREE))
        ]
        from wallet.protocol.curve import y_of

        for held in coins:
            ledger.spent[y_of(held.proof.secret)] = None
        report = await wallet.check()
        assert report.spent_elsewhere == len(coins)
        assert not report.ok
        assert wallet.balance() == 0
        ledger.spent.clear()
        ledger.spent.update(spent)
        assert (await wallet.check()).back == len(coins)
        assert wallet.balance() == before


async def test_without_the_network(tmp_path: Path) -> None:
    async with ready(tmp_path / "w") as (world, wallet, given):
        world.mint.faults.add(Fault.UNREACHABLE, times=1_000)
        with pytest.raises(MintUnreachableError, match="not received") as told:
            await wallet.receive(given["token"])
        assert "Try again" in told.value.hint
        exact = await wallet.send(_some(wallet))
        assert exact.token, "an exact amount needs no mint"
        assert wallet.pending()[1:] == ()
        world.mint.faults.clear()
        assert (await wallet.receive(given["token"])).amount == 21
        await nothing_lost(world, wallet, "offline")


def _some(wallet: Wallet) -> int:
    coins = wallet._book.store.read(_coins)
    return int(coins[0].amount)


async def test_dleq_is_required_where_the_mint_announces_it(tmp_path: Path) -> None:
    async with ready(tmp_path / "w") as (world, wallet, _given):
        world.mint.faults.add(Fault.NO_DLEQ, "/v1/swap")
        await wallet.send(5)  # its restore has them
        world.mint.without.add(12)
        world.mint.faults.add(Fault.NO_DLEQ, "/v1/swap", times=10)
        await wallet._book.info(world.mint.url, fresh=True)
        bob = world.wallets["bob"]
        sent = await wallet.send(3, to=bob.address())
        with pytest.raises(UnverifiedError):
            await bob.receive(sent.token)
        taken = await bob.receive(sent.token, allow_unverified=True)
        assert not taken.verified


@pytest.mark.parametrize("fault", [Fault.UNREACHABLE, Fault.NOT_A_MINT])
async def test_what_a_mint_signed_without_dleq_is_not_lost_with_its_info(
    fault: Fault, tmp_path: Path
) -> None:
    """Whether it has to prove its signatures could not be asked: the swap was done all the same."""
    async with ready(tmp_path / "w") as (world, _wallet, _given):
        await world.stop()
        wallet = await world.wallet(rules=RULES)  # what mints say of themselves is forgotten
        world.mint.without.add(12)
        world.mint.faults.add(fault, "/v1/info", times=2)
        world.mint.faults.add(Fault.NO_DLEQ, "*", times=10)
        with contextlib.suppress(OutcomeUnknownError):
            await wallet.send(5, key="k")
        world.mint.faults.clear()
        await nothing_lost(world, wallet, fault.value)
        operation = wallet.operation("k")
        assert operation is not None
        assert operation.state is State.DONE


@pytest.mark.parametrize("name", ["send locked", "receive", "pay"])
async def test_a_proxy_that_refuses_settles_nothing(name: str, tmp_path: Path) -> None:
    """The first copy of a request is lost on the way, the next is refused by what is in front of
    the mint: the first may arrive yet, so its inputs are not free."""
    act, _ = ACTS[name]
    path = "/v1/melt/bolt11" if name == "pay" else "/v1/swap"
    async with ready(tmp_path / "w") as (world, wallet, given):
        world.mint.faults.add(Fault.LOST_REQUEST, path)
        world.mint.faults.add(Fault.NOT_A_MINT, path, times=5)
        with pytest.raises(OutcomeUnknownError):
            await act(world, wallet, given, "k")
        first = [each for each in world.mint.requests if each.path == path][-3]
        assert "k" not in {each.key for each in await wallet.recover()}
        world.mint.faults.clear()
        await world.mint.send(first)  # here it is
        await nothing_lost(world, wallet, name)
        operation = wallet.operation("k")
        assert operation is not None
        assert operation.state == State.DONE


@pytest.mark.parametrize("fault", [Fault.NOT_A_MINT, Fault.UNREACHABLE])
async def test_what_cannot_be_said_again_of_several_invoices_settles_nothing(
    fault: Fault, tmp_path: Path
) -> None:
    path = "/v1/mint/bolt11/batch"
    async with ready(tmp_path / "w") as (world, wallet, given):
        other = await wallet.request_invoice(8)
        world.lightning.pay(other.bolt11)
        world.mint.faults.add(Fault.LOST_REQUEST, path)
        for each in (path, "/v1/mint/bolt11"):
            world.mint.faults.add(fault, each, times=9)
        for _ in range(2):
            await wallet.recover()
        world.mint.faults.clear()
        first = next(each for each in world.mint.requests if each.path == path)
        await world.mint.send(first)  # here it is
        await nothing_lost(world, wallet, path)
        for key in (given["invoice"], other.operation):
            operation = wallet.operation(key)
            assert operation is not None
            assert operation.state == State.DONE


async def test_a_refusal_without_a_code_counts_once_no_copy_can_arrive(tmp_path: Path) -> None:
    async with ready(tmp_path / "w") as (world, wallet, _given):
        world.mint.faults.add(Fault.LOST_REQUEST, "/v1/swap")
        world.mint.faults.add(Fault.NOT_A_MINT, "/v1/swap", times=99)
        with pytest.raises(OutcomeUnknownError):
            await wallet.send(5, key="k")
        world.time_s += 3_600
        await wallet.recover()
        operation = wallet.operation("k")
        assert operation is not None
        assert operation.state == State.FAILED
        await nothing_lost(world, wallet, "old")


@pytest.mark.parametrize("name", ["send locked", "receive", "pay"])
async def test_what_was_sent_stays_pending_while_it_cannot_be_sent_again(
    name: str, tmp_path: Path
) -> None:
    act, _ = ACTS[name]
    path = "/v1/melt/bolt11" if name == "pay" else "/v1/swap"
    async with ready(tmp_path / "w") as (world, wallet, given):
        world.mint.faults.add(Fault.LOST_REQUEST, path)
        world.mint.faults.add(Fault.UNREACHABLE, path, times=2)
        with pytest.raises(OutcomeUnknownError):
            await act(world, wallet, given, "k")
        await wallet.recover()
        operation = wallet.operation("k")
        assert operation is not None
        assert operation.state == State.PENDING
        await nothing_lost(world, wallet, name)


@pytest.mark.parametrize("name", ["send locked", "receive", "pay"])
async def test_a_mint_that_rotates_and_then_goes_away(name: str, tmp_path: Path) -> None:
    """It refused, so nothing is under way: the inputs are free though there is no new plan."""
    act, _ = ACTS[name]
    async with ready(tmp_path / "w") as (world, wallet, given):
        world.mint.rotate()
        world.mint.faults.add(Fault.UNREACHABLE, "/v1/keysets", times=9)
        with pytest.raises(MintUnreachableError):
            await act(world, wallet, given, "k")
        operation = wallet.operation("k")
        assert operation is not None
        assert operation.state == State.FAILED
        world.mint.faults.clear()
        await act(world, wallet, given, "l")
        await nothing_lost(world, wallet, name)


@pytest.mark.parametrize("fault", [Fault.LOST_REPLY, Fault.UNREACHABLE])
async def test_a_payment_whose_quote_cannot_be_asked_about(fault: Fault, tmp_path: Path) -> None:
    async with ready(tmp_path / "w") as (world, wallet, given):
        world.mint.faults.add(Fault.LOST_REPLY, "/v1/melt/bolt11")
        world.mint.faults.add(fault, "/v1/melt/quote/bolt11/*")
        with pytest.raises(OutcomeUnknownError):
            await pay(world, wallet, given, "k")
        await nothing_lost(world, wallet, fault)
        assert (await wallet.pay_invoice(given["bolt11"], key="k")).state == "paid"


async def test_a_payment_with_counters_of_an_old_backup(tmp_path: Path) -> None:
    async with ready(tmp_path / "w") as (world, _wallet, given):
        await world.stop()
        shutil.copy(tmp_path / "w" / "ann.db", tmp_path / "w" / "old.db")
        later = await world.wallet(rules=RULES)
        for _ in range(3):
            await world.fill(later, 7)
        await world.stop()
        shutil.copy(tmp_path / "w" / "old.db", tmp_path / "w" / "ann.db")
        old = await world.wallet(rules=RULES)
        assert (await old.pay_invoice(given["bolt11"])).state == "paid"
        await old.restore(world.mint.url)
        await nothing_lost(world, old, "backup")


async def test_a_mint_that_restores_part_of_a_swap(tmp_path: Path) -> None:
    async with ready(tmp_path / "w") as (world, wallet, given):
        world.mint.faults.add(Fault.LOST_REPLY, "/v1/swap")
        world.mint.faults.add(Fault.FEWER, "/v1/restore")
        with pytest.raises(MintMisbehavedError, match=r"restores \d of \d outputs"):
            await send_locked(world, wallet, given, "k")
        await nothing_lost(world, wallet, "part")


async def test_change_that_is_restored_out_of_order_is_owed(tmp_path: Path) -> None:
    async with ready(tmp_path / "w") as (world, wallet, given):
        world.mint.faults.add(Fault.LOST_REPLY, "/v1/melt/bolt11")
        answer = world.mint.desk.answer

        def odd(request: TransportRequest) -> Any:
            value = answer(request)
            if request.path == "/v1/restore":
                return {name: each[::-1] for name, each in value.items()}
            if request.method == "GET" and "/melt/quote/" in request.path:
                return {name: each for name, each in value.items() if name != "change"}
            return value

        world.mint.desk.answer = odd  # type: ignore[method-assign]
        assert (await wallet.pay_invoice(given["bolt11"], key="k")).state == "paid"
        assert "owes the change" in wallet.pending()[-1].error
        world.mint.desk.answer = answer  # type: ignore[method-assign]
        await nothing_lost(world, wallet, "restored without the quote's help")


async def test_a_mint_that_is_away_is_waited_for_once_a_round(tmp_path: Path) -> None:
    """It takes seconds to find that out, and there may be many invoices of it."""
    world = World(tmp_path)
    ann = await world.funded("ann", 64)
    for _ in range(3):
        await ann.request_invoice(8)
    for key in ("a", "b"):
        world.mint.faults.add(Fault.LOST_REQUEST, "/v1/swap")
        world.mint.faults.add(Fault.UNREACHABLE, "/v1/checkstate")
        with pytest.raises(OutcomeUnknownError):
            await ann.send(5, to=ann.address(), key=key)
    world.mint.faults.add(Fault.UNREACHABLE, times=99)
    assert await ann.recover() == ()
    assert world.mint.faults._switches[-1].left == 98
    world.mint.faults.clear()
    assert len(await ann.recover()) == 2
    await nothing_lost(world, ann, "it is back")
    await world.close()


async def test_an_error_of_one_operation_keeps_no_other_from_its_end(tmp_path: Path) -> None:
    world = World(tmp_path)
    ann = await world.funded("ann", 63, rules=RULES)
    await _lost_sends(world, ann, "a", "b")
    world.mint.faults.add(Fault.ERROR_500, "/v1/checkstate")
    assert [each.key for each in await ann.recover()] == ["b"]
    assert [each.key for each in ann.pending()] == ["a"]
    await nothing_lost(world, ann, "the mint says more of it")
    await world.close()


async def test_one_operation_is_recovered_alone_and_once(tmp_path: Path) -> None:
    world = World(tmp_path)
    ann = await world.funded("ann", 63, rules=RULES)
    await _lost_sends(world, ann, "a")
    world.mint.faults.add(Fault.LOST_REPLY, "/v1/melt/bolt11")
    world.mint.faults.add(Fault.UNREACHABLE, "/v1/melt/quote/bolt11/*")
    with pytest.raises(OutcomeUnknownError):
        await ann.pay_invoice(world.lightning.invoice(5_000), key="b")
    ended = await asyncio.gather(ann.recover("b"), ann.recover("b"), ann.recover("b"))
    assert [[(each.key, each.state) for each in told] for told in ended] == [
        [("b", State.DONE)]
    ] * 3
    assert [each.key for each in ann.pending()] == ["a"]
    await nothing_lost(world, ann, "the other, too")
    await world.close()


async def _lost_sends(world: World, wallet: Wallet, *keys: str) -> None:
    """Sends whose answer is lost."""
    for key in keys:
        world.mint.faults.add(Fault.LOST_REPLY, "/v1/swap")
        world.mint.faults.add(Fault.UNREACHABLE, "/v1/checkstate")
        with pytest.raises(OutcomeUnknownError):
            await wallet.send(5, to=wallet.address(), key=key)
