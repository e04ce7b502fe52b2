"""Invoices: paid by one mint, by several, by another source; received, alone and in batches."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from wallet.errors import (
    BalanceCapError,
    FeeTooHighError,
    InsufficientFundsError,
    MintError,
    MintMisbehavedError,
    OutcomeUnknownError,
    ParseError,
    PaymentFailedError,
    RefusedError,
    StoreError,
    UnsupportedError,
    UntrustedMintError,
    UnverifiedError,
    VerificationError,
    WalletError,
)
from wallet.mint import MintClient
from wallet.mint.testing import Fault, Outcome, answers
from wallet.operations.results import Rules
from wallet.protocol import invoices, tokens
from wallet.protocol.invoices import Bolt11
from wallet.protocol.requests import PaymentRequest
from wallet.store import Hold, Kind, Record, State, Tables
from wallet.testing import World
from wallet.types import MintQuoteState
from wallet.wallet import Wallet

LITTLE = Rules(change_pieces=1)
FOREIGN = Rules(change_pieces=1, swap_foreign=True)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path, mints=3, fee_ppk=100)
    yield made
    await made.close()


@pytest.fixture
async def ann(world: World) -> Wallet:
    return await world.funded("ann", 100, rules=LITTLE)


def posts(world: World, path: str) -> int:
    return sum(request.path == path for mint in world.mints for request in mint.requests)


# ── paying ──────────────────────────────────────────────────────────────────────────────────


async def test_an_invoice_is_paid_once(world: World, ann: Wallet) -> None:
    bolt11 = world.lightning.invoice(30_000)
    paid = await ann.pay_invoice(bolt11, key="k")
    assert (paid.state, paid.amount) == ("paid", 30)
    assert paid.fee == 2, "one for Lightning, one for the inputs"
    assert paid.preimage is not None
    assert await ann.pay_invoice(bolt11, key="k") == paid == ann.payment("k")
    assert posts(world, "/v1/melt/bolt11") == 1
    assert ann.balance() == 68
    assert await world.missing() == 0


async def test_all_that_a_payment_did_not_cost_comes_back(tmp_path: Path) -> None:
    """However much larger than it the one coin is that there is."""
    world = World(tmp_path)
    ann = await world.funded("ann", 1_024, rules=Rules(change_pieces=0))
    assert (await ann.pay_invoice(world.lightning.invoice(20_000))).fee == 1
    assert ann.balance() == 1_024 - 21
    await world.close()


async def test_invoices_without_an_amount_and_of_parts_of_a_sat(world: World, ann: Wallet) -> None:
    open_one = world.lightning.invoice(None)
    with pytest.raises(ParseError, match="names no amount"):
        await ann.pay_invoice(open_one)
    assert (await ann.pay_invoice(open_one, amount_msat=7_000)).amount == 7
    with pytest.raises(ParseError, match="another one"):
        await ann.pay_invoice(world.lightning.invoice(2_000), amount_msat=3_000)
    assert (await ann.pay_invoice(world.lightning.invoice(1_001))).amount == 2
    with pytest.raises(ParseError):
        await ann.pay_invoice("lnbc1nothing")
    old = world.lightning.invoice(1_000)
    world.time_s += 200_000
    with pytest.raises(RefusedError, match="expired"):
        await ann.pay_invoice(old)


@pytest.mark.parametrize(
    "text", ["lno1qcp4256ypq", "bc1qar0srrr7xfkvy5l643", "BITCOIN:bc1q?amount=1"]
)
async def test_what_else_bitcoin_is_paid_by_is_not_supported(ann: Wallet, text: str) -> None:
    with pytest.raises(UnsupportedError, match="not supported"):
        await ann.pay_invoice(text)


async def test_an_invoice_is_not_paid_by_two_operations(world: World, ann: Wallet) -> None:
    await world.funded("ann", 90, mint=1)
    bolt11 = world.lightning.invoice(30_000)
    world.lightning.outcome = Outcome.PENDING
    await ann.pay_invoice(bolt11, key="k", mint=world.mint.url)
    with pytest.raises(RefusedError, match="being paid, by 'k'"):
        await ann.pay_invoice(bolt11, key="l", mint=world.mints[1].url)
    source = Source(world)
    with pytest.raises(RefusedError, match="being paid, by 'k'"):
        await ann.pay_from(source, bolt11, key="m")
    assert source.asked == []
    world.lightning.end(bolt11, Outcome.FAILED)
    world.lightning.outcome = Outcome.FAILED
    assert [each.state for each in await ann.recover()] == [State.FAILED]
    world.lightning.outcome = Outcome.PAID
    assert (await ann.pay_invoice(bolt11, key="l")).state == "paid"
    with pytest.raises(RefusedError, match="paid, by 'l'"):
        await ann.pay_from(source, bolt11, key="m")


async def test_an_invoice_that_a_file_of_before_is_paying_is_paid_by_nothing_else(
    world: World, ann: Wallet
) -> None:
    """Version 1 kept the names of invoices among the secrets of tokens."""
    world.lightning.outcome = Outcome.PENDING
    bolt11 = world.lightning.invoice(30_000)
    await ann.pay_invoice(bolt11, key="k")

    def work(tables: Tables) -> None:
        tables.operations.forget("k")
        tables.operations.see([f"invoice {invoices.read(bolt11).payment_hash.hex()}"], "k")

    await ann._book.store.write("before", work)
    with pytest.raises(RefusedError, match="being paid, by 'k'"):
        await ann.pay_invoice(bolt11)


async def test_a_payment_that_fails_costs_nothing(world: World, ann: Wallet) -> None:
    world.lightning.outcome = Outcome.FAILED
    bolt11 = world.lightning.invoice(30_000)
    with pytest.raises(PaymentFailedError):
        await ann.pay_invoice(bolt11, key="k")
    failed = ann.operation("k")
    assert failed is not None
    assert (failed.state, failed.fee) == (State.FAILED, 0)
    assert ann.balance() == 100
    world.lightning.outcome = Outcome.PAID
    with pytest.raises(PaymentFailedError, match="failed before"):
        await ann.pay_invoice(bolt11, key="k")
    assert (await ann.pay_invoice(bolt11, key="another")).state == "paid"


@pytest.mark.parametrize("end", [Outcome.PAID, Outcome.FAILED])
async def test_a_payment_that_is_pending_is_not_guessed(
    world: World, ann: Wallet, end: Outcome
) -> None:
    bolt11 = world.lightning.invoice(30_000)
    world.lightning.outcome = Outcome.PENDING
    paid = await ann.pay_invoice(bolt11, key="k")
    assert (paid.state, paid.preimage) == ("pending", None)
    assert paid.fee == 3, "the most it can be"
    assert await ann.recover() == ()
    assert (await ann.pay_invoice(bolt11, key="k")).state == "pending"
    assert ann.balance() < 70
    revived = await world.again(rules=LITTLE)
    assert revived.pending()[0].state == State.PENDING
    world.lightning.end(bolt11, end)
    if end is Outcome.FAILED:
        world.lightning.outcome = Outcome.FAILED  # nobody can pay it any more
    settled = await revived.recover()
    expected = {Outcome.PAID: State.DONE, Outcome.FAILED: State.FAILED}
    assert [each.state for each in settled] == [expected[end]]
    assert revived.balance() == {Outcome.PAID: 68, Outcome.FAILED: 100}[end]
    assert await world.missing() == 0


async def test_the_fee_has_a_bound(world: World, ann: Wallet) -> None:
    world.mint.quotes.reserve = lambda amount: 40
    with pytest.raises(FeeTooHighError, match="may need 40 sat"):
        await ann.pay_invoice(world.lightning.invoice(30_000))
    assert ann.balance() == 100
    assert (await ann.pay_invoice(world.lightning.invoice(30_000), max_fee=50)).state == "paid"


async def test_a_mint_that_asks_too_much_is_not_paid(world: World, ann: Wallet) -> None:
    world.mint.faults.add(Fault.WRONG_AMOUNTS, "/v1/melt/quote/bolt11")
    with pytest.raises(MintMisbehavedError, match="asks 60 sat to pay 30"):
        await ann.pay_invoice(world.lightning.invoice(30_000))
    assert posts(world, "/v1/melt/bolt11") == 0


async def test_another_mint_pays_where_one_does_not(world: World, ann: Wallet) -> None:
    await world.funded("ann", 60, mint=1)
    world.mint.faults.add(Fault.UNREACHABLE, "/v1/melt/quote/bolt11")
    paid = await ann.pay_invoice(world.lightning.invoice(30_000))
    assert paid.mint == world.mints[1].url
    with pytest.raises(InsufficientFundsError):
        await ann.pay_invoice(world.lightning.invoice(900_000))


async def test_no_other_mint_pays_what_one_was_asked_to_pay(world: World, ann: Wallet) -> None:
    await world.funded("ann", 90, mint=1)
    world.mint.faults.add(Fault.LOST_REQUEST, "/v1/melt/bolt11", times=9)
    world.mint.faults.add(Fault.UNREACHABLE, "/v1/melt/quote/*-*", times=9)
    with pytest.raises(OutcomeUnknownError):
        await ann.pay_invoice(world.lightning.invoice(30_000), key="k")
    world.mint.faults.clear()
    assert (await ann.recover())[0].mint == world.mint.url
    assert ann.mints()[1].balance == {"sat": 90}
    assert await world.missing() == 0


async def test_a_mint_that_is_not_for_spending_pays_nobody(world: World, ann: Wallet) -> None:
    await ann.add_mint(world.mint.url, spend=False)
    await world.funded("ann", 40, mint=1)
    asked = PaymentRequest(amount=60, unit="sat")
    for pay in (
        lambda: ann.send(60),
        lambda: ann.pay_invoice(world.lightning.invoice(60_000)),
        lambda: ann.token_for(asked),
    ):
        with pytest.raises(InsufficientFundsError):
            await pay()
    paid = await ann.pay_invoice(world.lightning.invoice(5_000))
    sent = await ann.send(5)
    asked = PaymentRequest(amount=5, unit="sat")
    assert {paid.mint, sent.mint, (await ann.token_for(asked)).mint} == {world.mints[1].url}


async def test_what_is_already_paid_is_not_paid_again(world: World, ann: Wallet) -> None:
    bolt11 = world.lightning.invoice(5_000)
    world.lightning.pay(bolt11)
    with pytest.raises(MintError, match="already paid"):
        await ann.pay_invoice(bolt11)
    assert ann.balance() == 100


async def test_a_quote_that_is_not_new_is_refused(world: World, ann: Wallet) -> None:
    bolt11 = world.lightning.invoice(5_000)
    make = world.mint.quotes.request_melt

    def known(*given: object, **named: object) -> object:
        quote = make(*given, **named)  # type: ignore[arg-type]
        quote.state = type(quote.state).PENDING
        return quote

    world.mint.quotes.request_melt = known  # type: ignore[assignment, method-assign]
    with pytest.raises(PaymentFailedError, match="knows this invoice"):
        await ann.pay_invoice(bolt11)


@pytest.mark.parametrize("invoice", ["31000 msat", "none"])
async def test_an_invoice_over_another_sum_is_not_handed_on(
    world: World, ann: Wallet, invoice: str
) -> None:
    make = world.mint.quotes.request_mint

    def other(*given: object, **named: object) -> object:
        quote = make(*given, **named)  # type: ignore[arg-type]
        quote.request = world.lightning.invoice(31_000) if "msat" in invoice else invoice
        return quote

    world.mint.quotes.request_mint = other  # type: ignore[assignment, method-assign]
    with pytest.raises(MintMisbehavedError, match="an invoice"):
        await ann.request_invoice(30, mint=world.mint.url)
    assert not ann.pending()


async def test_a_mint_without_change_is_paid_exactly(world: World) -> None:
    world.mint.without.add(8)
    world.mint.quotes.reserve = lambda amount: 1
    wallet = await world.funded("cleo", 37, rules=LITTLE)
    paid = await wallet.pay_invoice(world.lightning.invoice(5_000))
    assert (paid.state, paid.fee) == ("paid", 2)
    assert wallet.balance() == 30
    with pytest.raises(InsufficientFundsError):
        await wallet.pay_invoice(world.lightning.invoice(29_000))
    assert await world.missing() == 0


async def test_a_preimage_that_is_not_the_invoices_is_not_shown(world: World, ann: Wallet) -> None:
    bolt11 = world.lightning.invoice(5_000)
    invoice = world.lightning.find(bolt11)
    assert invoice is not None
    invoice.preimage = b"x" * 32
    paid = await ann.pay_invoice(bolt11)
    assert (paid.state, paid.preimage) == ("paid", None)


async def test_inputs_that_were_spent_elsewhere_fail_the_payment(world: World, ann: Wallet) -> None:
    from wallet.protocol.curve import y_of

    held = ann._book.store.read(lambda tables: tables.proofs.all_held(Hold.FREE))
    for _, each in held:
        world.mint.ledger.spent[y_of(each.proof.secret)] = None
    with pytest.raises(WalletError, match="spent elsewhere"):
        await ann.pay_invoice(world.lightning.invoice(30_000))
    assert ann.pending() == ()
    assert ann.balance() < 100, "those are set aside"


async def test_a_mint_that_contradicts_itself_is_asked_later(world: World, ann: Wallet) -> None:
    from wallet.protocol.curve import y_of

    world.mint.faults.add(Fault.LOST_REQUEST, "/v1/melt/bolt11", times=9)
    bolt11 = world.lightning.invoice(30_000)
    with pytest.raises(OutcomeUnknownError):
        await ann.pay_invoice(bolt11, key="k")
    held = ann._book.store.read(lambda tables: tables.proofs.held("k"))
    for each in held:
        world.mint.ledger.spent[y_of(each.proof.secret)] = None
    world.mint.faults.clear()
    assert await ann.recover() == ()
    assert "calls unpaid" in ann.pending()[0].error
    for each in held:
        del world.mint.ledger.spent[y_of(each.proof.secret)]
    assert [each.state for each in await ann.recover()] == [State.DONE]


async def test_a_quote_the_mint_forgot_stays_pending(world: World, ann: Wallet) -> None:
    bolt11 = world.lightning.invoice(30_000)
    world.lightning.outcome = Outcome.PENDING
    await ann.pay_invoice(bolt11, key="k")
    kept = dict(world.mint.quotes.melts)
    world.mint.quotes.melts.clear()
    assert await ann.recover() == ()
    assert "not found" in ann.pending()[0].error
    world.mint.quotes.melts.update(kept)
    world.lightning.end(bolt11, Outcome.PAID)
    assert len(await ann.recover()) == 1


# ── by several mints ────────────────────────────────────────────────────────────────────────


async def test_several_mints_pay_what_none_can_alone(world: World, ann: Wallet) -> None:
    await world.funded("ann", 60, mint=1)
    await world.funded("ann", 10, mint=2)
    bolt11 = world.lightning.invoice(130_000)
    paid = await ann.pay_invoice(bolt11, key="k")
    assert (paid.state, paid.amount) == ("paid", 130)
    assert paid.preimage
    assert world.lightning.is_paid(bolt11)
    parts = [each for each in ann.history() if each.parent == "k"]
    assert sorted(part.amount for part in parts) == sorted(part.amount for part in parts)
    assert sum(part.amount for part in parts) == 130
    assert sum(part.fee for part in parts) == paid.fee
    assert await ann.pay_invoice(bolt11, key="k") == paid
    assert await world.missing() == 0
    with pytest.raises(InsufficientFundsError):
        await ann.pay_invoice(world.lightning.invoice(500_000))


async def test_parts_that_are_pending_or_fail_do_so_together(world: World, ann: Wallet) -> None:
    await world.funded("ann", 60, mint=1)
    bolt11 = world.lightning.invoice(130_000)
    world.lightning.outcome = Outcome.PENDING
    assert (await ann.pay_invoice(bolt11, key="k")).state == "pending"
    assert (await ann.pay_invoice(bolt11, key="k")).state == "pending"
    world.lightning.end(bolt11, Outcome.FAILED)
    world.lightning.outcome = Outcome.FAILED
    revived = await world.again(rules=LITTLE)
    assert revived.balance() == 160
    assert revived.operation("k").state == State.FAILED  # type: ignore[union-attr]
    with pytest.raises(PaymentFailedError):
        await revived.pay_invoice(bolt11, key="k")
    world.lightning.outcome = Outcome.PAID
    assert (await revived.pay_invoice(bolt11, key="l")).state == "paid"


async def test_parts_that_disagree_are_told(world: World, ann: Wallet) -> None:
    await world.funded("ann", 60, mint=1)
    bolt11 = world.lightning.invoice(130_000)
    world.lightning.outcome = Outcome.PENDING
    await ann.pay_invoice(bolt11, key="k")
    world.lightning.end(bolt11, Outcome.FAILED)
    liar = next(iter(world.mints[1].quotes.melts.values()))
    liar.state, liar.preimage = type(liar.state).PAID, None
    world.lightning.outcome = Outcome.FAILED
    await ann.recover()
    operation = ann.operation("k")
    assert operation is not None
    assert operation.state == State.FAILED
    assert "another that it is not" in operation.error
    assert operation.fee == 160 - ann.balance() > 0  # what the liar keeps
    with pytest.raises(PaymentFailedError) as raised:
        await ann.pay_invoice(bolt11, key="k")
    assert "Nothing was paid" not in raised.value.hint


async def test_a_preimage_of_one_part_proves_the_whole(world: World, ann: Wallet) -> None:
    """Whatever another mint says of its own: a second payment would be lost."""
    await world.funded("ann", 60, mint=1)
    bolt11 = world.lightning.invoice(130_000)
    world.lightning.outcome = Outcome.PENDING
    await ann.pay_invoice(bolt11, key="k")
    world.lightning.end(bolt11, Outcome.FAILED)
    told = next(iter(world.mints[1].quotes.melts.values()))
    shown = world.lightning.pay(bolt11).hex()
    told.state, told.preimage = type(told.state).PAID, shown
    world.lightning.outcome = Outcome.FAILED
    await ann.recover()
    paid = await ann.pay_invoice(bolt11, key="k")
    assert (paid.state, paid.preimage) == ("paid", shown)


async def test_fees_of_all_parts_are_bounded_together(world: World, ann: Wallet) -> None:
    await world.funded("ann", 60, mint=1)
    for mint in world.mints:
        mint.quotes.reserve = lambda amount: 4
    with pytest.raises(FeeTooHighError):
        await ann.pay_invoice(world.lightning.invoice(130_000), max_fee=6)
    world.mints[1].without.add(15)
    with pytest.raises(InsufficientFundsError):
        await ann.pay_invoice(world.lightning.invoice(130_000))
    assert ann.balance() == 160


# ── receiving by invoice ────────────────────────────────────────────────────────────────────


async def test_an_invoice_is_locked_and_claimed_once(world: World, ann: Wallet) -> None:
    invoice = await ann.request_invoice(40, key="k")
    assert (await ann.request_invoice(40, key="k")) == invoice
    quote = world.mint.quotes.mints[next(reversed(world.mint.quotes.mints))]
    assert quote.pubkey is not None
    assert (await ann.claim_invoice("k")).state == State.PREPARED
    world.lightning.pay(invoice.bolt11)
    claims = await asyncio.gather(*(ann.claim_invoice("k") for _ in range(3)))
    assert [each.state for each in claims] == [State.DONE] * 3
    assert (await ann.claim_invoice("k")).state == State.DONE
    assert ann.balance() == 140
    sent = await ann.send(1)
    with pytest.raises(RefusedError, match="no invoice"):
        await ann.claim_invoice(sent.operation)


async def test_waiting_for_an_invoice(world: World, ann: Wallet) -> None:
    invoice = await ann.request_invoice(40)
    waiting = asyncio.create_task(ann.claim_invoice(invoice.operation, wait=30))
    await asyncio.sleep(0)
    world.mint.pay(invoice.bolt11)
    assert (await waiting).state == State.DONE
    other = await ann.request_invoice(4)
    assert (await ann.claim_invoice(other.operation, wait=0.01)).state == State.PREPARED


async def test_an_invoice_that_expired_is_given_up_and_taken_up_again(
    world: World, ann: Wallet
) -> None:
    invoice = await ann.request_invoice(40)
    world.time_s += 50_000
    assert (await ann.claim_invoice(invoice.operation)).state == State.PREPARED, "clocks differ"
    world.time_s += 86_400
    assert [each.state for each in await ann.recover()] == [State.FAILED]
    world.lightning.pay(invoice.bolt11)
    assert (await ann.claim_invoice(invoice.operation)).state == State.DONE
    assert ann.balance() == 140


@pytest.mark.parametrize("said", [None, 0])
async def test_an_invoice_whose_end_its_mint_does_not_tell_is_waited_for_a_week(
    said: int | None, world: World, ann: Wallet, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = answers.mint_quote
    monkeypatch.setattr(answers, "mint_quote", lambda quote: told(quote) | {"expiry": said})
    invoice = await ann.request_invoice(40)
    assert invoice.expires is None
    world.time_s += 7 * 86_400
    assert await ann.recover() == ()
    world.time_s += 1
    assert [each.state for each in await ann.recover()] == [State.FAILED]


async def test_invoices_are_of_a_mint_for_spending(world: World) -> None:
    wallet = await world.wallet("bob")
    for mint, spend in zip(world.mints, (False, True, True), strict=True):
        await wallet.add_mint(mint.url, spend=spend)
    assert (await wallet.request_invoice(5)).mint == world.mints[1].url
    await wallet.add_mint(world.mints[1].url, spend=False)
    assert (await wallet.request_invoice(5)).mint == world.mints[2].url


async def test_a_quote_that_was_taken_by_another_is_told(world: World, ann: Wallet) -> None:
    invoice = await ann.request_invoice(40)
    quote = world.mint.quotes.mints[next(reversed(world.mint.quotes.mints))]
    quote.state = MintQuoteState.ISSUED
    operation = await ann.claim_invoice(invoice.operation)
    assert (operation.state, operation.error) == (
        State.FAILED,
        "the mint gave its ecash to somebody else",
    )


async def test_a_mint_that_refuses_to_mint_keeps_its_debt(world: World, ann: Wallet) -> None:
    invoice = await ann.request_invoice(40)
    world.lightning.pay(invoice.bolt11)
    world.mint.faults.add(Fault.NOT_A_MINT, "/v1/mint/bolt11")
    with pytest.raises(MintError):
        await ann.claim_invoice(invoice.operation)
    assert (await ann.claim_invoice(invoice.operation)).state == State.DONE


async def test_paid_invoices_are_claimed_together(world: World, ann: Wallet) -> None:
    invoices = [await ann.request_invoice(amount) for amount in (5, 6, 7, 8)]
    for invoice in invoices[:3]:
        world.lightning.pay(invoice.bolt11)
    before = posts(world, "/v1/mint/bolt11")
    settled = await ann.recover()
    assert sorted(each.amount for each in settled) == [5, 6, 7]
    assert posts(world, "/v1/mint/bolt11/batch") == 1
    assert posts(world, "/v1/mint/bolt11") == before
    assert ann.balance() == 118
    assert len(ann.pending()) == 1
    assert sum(each.amount for each in ann.history() if each.kind == Kind.BATCH) == 0
    assert await world.missing() == 0


async def test_invoices_of_each_unit_are_claimed_together(tmp_path: Path) -> None:
    world = World(tmp_path, units=("sat", "msat"))
    ann = await world.funded("ann", 0, rules=LITTLE)
    for unit, amount in (("sat", 5), ("msat", 4_000), ("sat", 7), ("msat", 3_000)):
        world.lightning.pay((await ann.request_invoice(amount, unit=unit)).bolt11)  # type: ignore[arg-type]
    assert len(await ann.recover()) == 4
    assert posts(world, "/v1/mint/bolt11/batch") == 2
    assert (ann.balance(), ann.balance("msat"), ann.pending()) == (12, 7_000, ())
    await world.close()


@pytest.mark.parametrize("fault", [Fault.LOST_REPLY, Fault.LOST_REQUEST, Fault.ERROR_500])
async def test_a_batch_whose_answer_is_lost(world: World, ann: Wallet, fault: Fault) -> None:
    for amount in (5, 6, 7):
        world.lightning.pay((await ann.request_invoice(amount)).bolt11)
    world.mint.faults.add(fault, "/v1/mint/bolt11/batch")
    await ann.recover()
    await ann.recover()
    assert ann.balance() == 118
    assert ann.pending() == ()
    assert await world.missing() == 0


async def test_a_batch_that_is_refused_is_claimed_one_by_one(world: World, ann: Wallet) -> None:
    for amount in (5, 6):
        world.lightning.pay((await ann.request_invoice(amount)).bolt11)
    world.mint.faults.add(Fault.NOT_A_MINT, "/v1/mint/bolt11/batch")
    await ann.recover()
    assert ann.balance() == 111
    assert ann.pending() == ()


async def test_a_batch_stays_while_the_mint_is_silent(world: World, ann: Wallet) -> None:
    for amount in (5, 6):
        world.lightning.pay((await ann.request_invoice(amount)).bolt11)
    world.mint.faults.add(Fault.LOST_REPLY, "/v1/mint/bolt11/batch", times=9)
    world.mint.faults.add(Fault.UNREACHABLE, "/v1/mint/quote/bolt11/*-*", times=99)
    world.mint.faults.add(Fault.FEWER, "/v1/restore", times=1)
    assert await ann.recover() == ()
    world.mint.faults.clear()
    world.mint.faults.add(Fault.FEWER, "/v1/restore", times=1)
    await ann.recover()
    assert len(ann.pending()) == 3
    for operation in ann.pending():
        if operation.kind == Kind.MINT:
            assert (await ann.claim_invoice(operation.key)).state == State.PREPARED
    await ann.recover()
    assert (ann.balance(), ann.pending()) == (111, ())


@pytest.mark.parametrize("fault", [Fault.UNREACHABLE, Fault.LOST_REQUEST])
async def test_a_batch_of_which_nobody_knows_is_pending(
    world: World, ann: Wallet, fault: Fault
) -> None:
    for amount in (5, 6):
        world.lightning.pay((await ann.request_invoice(amount)).bolt11)
    world.mint.faults.add(Fault.LOST_REPLY, "/v1/mint/bolt11/batch")
    world.mint.faults.add(fault, "/v1/mint/quote/bolt11/*-*", times=99)
    assert await ann.recover() == ()
    (batch,) = (each for each in ann.pending() if each.kind == Kind.BATCH)
    assert batch.state == State.PENDING
    assert batch.error


# ── tokens of foreign mints ─────────────────────────────────────────────────────────────────


async def foreign(world: World, amount: int = 60) -> str:
    bob = await world.funded("bob", amount, mint=1, rules=LITTLE)
    return (await bob.send(amount - 5)).token


async def test_a_foreign_token_is_swapped_over_lightning(world: World) -> None:
    ann = await world.funded("ann", 100, rules=FOREIGN)
    token = await foreign(world)
    got = await ann.receive(token, key="k")
    assert got.mint == world.mint.url
    assert got.amount + got.fee <= 55
    assert ann.mints()[0].balance["sat"] == 100 + got.amount
    listed = ann.mints()[1]
    assert (listed.spend, listed.accept) == (False, False)
    assert 100 + got.amount + listed.balance.get("sat", 0) == ann.balance()
    assert got.amount + got.fee + listed.balance.get("sat", 0) == 55
    assert await ann.receive(token, key="k") == got
    with pytest.raises(WalletError, match="before"):
        await ann.receive(token)
    assert await world.missing() == 0


async def test_a_foreign_token_that_is_worth_its_fees_only(world: World) -> None:
    ann = await world.funded("ann", 0, rules=FOREIGN)
    bob = await world.funded("bob", 10, mint=1, rules=LITTLE)
    token = (await bob.send(3)).token
    with pytest.raises(FeeTooHighError, match="fees would take all") as told:
        await ann.receive(token, key="k")
    assert "yours now" in told.value.hint
    assert ann.operation("k").state == State.FAILED  # type: ignore[union-attr]
    assert ann.mints()[1].balance == {"sat": 2}
    assert await world.missing() == 0


async def test_a_mint_that_only_a_token_named_is_met_and_one_that_is_added_is_not(
    world: World,
) -> None:
    met: list[str] = []

    def meet(url: str) -> MintClient:
        met.append(url)
        return world.connect(url)

    ann = await world.wallet("ann", rules=FOREIGN, meet=meet)
    await ann.add_mint(world.mint.url)
    await ann.receive(await foreign(world))
    assert met == [world.mints[1].url]
    await world.stop("ann")
    ann = await world.wallet("ann", rules=FOREIGN, meet=meet)
    await ann.receive(await foreign(world))
    assert met == [world.mints[1].url] * 2, "it is known as a stranger after a restart"
    await ann.add_mint(world.mints[1].url)
    await ann.receive(await foreign(world))
    await world.stop("ann")
    ann = await world.wallet("ann", rules=FOREIGN, meet=meet)
    await ann.receive(await foreign(world))
    assert met == [world.mints[1].url] * 2


async def test_a_foreign_token_needs_a_mint_and_room(world: World, tmp_path: Path) -> None:
    token = await foreign(world)
    ann = await world.wallet("ann", rules=FOREIGN)
    with pytest.raises(RefusedError, match="no mint to swap to"):
        await ann.receive(token)
    await world.stop("ann")
    tight = await world.wallet("ann", rules=Rules(swap_foreign=True, cap_sat=20))
    await tight.add_mint(world.mint.url)
    with pytest.raises(BalanceCapError, match="would hold more"):
        await tight.receive(token)
    await world.stop("ann")
    strict = await world.wallet("ann")
    with pytest.raises(UntrustedMintError, match="does not accept"):
        await strict.receive(token)


@pytest.mark.parametrize("room", [55, 54])
async def test_a_foreign_token_goes_to_that_mint_of_ours_which_holds_least(
    tmp_path: Path, room: int
) -> None:
    """Of those that are for spending and for accepting."""
    world = World(tmp_path, mints=5, fee_ppk=100)
    token = await foreign(world)
    rules = Rules(change_pieces=1, swap_foreign=True, cap_sat=10 + room)
    ann = await world.funded("ann", 30, rules=rules)
    await world.funded("ann", 10, mint=2)
    await ann.add_mint(world.mints[3].url, spend=False)
    await ann.add_mint(world.mints[4].url, accept=False)
    if room < 55:
        with pytest.raises(BalanceCapError, match=world.mints[2].url):
            await ann.receive(token)
    else:
        assert (await ann.receive(token)).mint == world.mints[2].url
    await world.close()


async def test_a_foreign_payment_that_is_pending(world: World) -> None:
    ann = await world.funded("ann", 0, rules=FOREIGN)
    token = await foreign(world)
    world.lightning.outcome = Outcome.PENDING
    with pytest.raises(OutcomeUnknownError, match="under way"):
        await ann.receive(token, key="k")
    assert await ann.recover() == ()
    melt = next(each for each in ann.pending() if each.kind == Kind.MELT)
    bolt11 = ann._book.record("k").body["bolt11"]  # type: ignore[union-attr]
    world.lightning.end(bolt11, Outcome.PAID)
    await ann.recover()
    await ann.recover()
    assert melt.key == "k/pay"
    assert ann.operation("k").state == State.DONE  # type: ignore[union-attr]
    assert await world.missing() == 0


async def test_a_foreign_mint_that_finds_no_route_keeps_the_ecash(world: World) -> None:
    ann = await world.funded("ann", 0, rules=FOREIGN)
    token = await foreign(world)
    world.lightning.outcome = Outcome.FAILED
    with pytest.raises(PaymentFailedError):
        await ann.receive(token, key="k")
    assert ann.operation("k").state == State.FAILED  # type: ignore[union-attr]
    assert ann.mints()[1].balance == {"sat": 54}
    assert await world.missing() == 0


async def test_a_foreign_mint_that_owes_change_has_paid(world: World) -> None:
    ann = await world.funded("ann", 0, rules=FOREIGN)
    token = await foreign(world)
    for path in ("/v1/melt/*", "/v1/restore"):
        world.mints[1].faults.add(Fault.WRONG_DLEQ, path, times=99)
    got = await ann.receive(token, key="k")
    assert ann.balance() == got.amount
    assert "k/pay" in {each.key for each in ann.pending()}
    world.mints[1].faults.clear()
    assert [each.key for each in await ann.recover()] == ["k/pay"]
    assert await world.missing() == 0


async def test_a_foreign_mint_that_goes_away(world: World) -> None:
    ann = await world.funded("ann", 0, rules=FOREIGN)
    token = await foreign(world)
    world.mints[1].faults.add(Fault.UNREACHABLE, times=3)
    with pytest.raises(WalletError):
        await ann.receive(token, key="k1")
    world.mints[1].faults.clear()
    world.mints[1].faults.add(Fault.UNREACHABLE, "/v1/melt/quote/*", times=1)
    with pytest.raises(OutcomeUnknownError):
        await ann.receive(token, key="k2")
    await ann.recover()
    assert ann.operation("k2").state == State.DONE  # type: ignore[union-attr]
    assert await world.missing() == 0


async def test_a_foreign_mint_that_is_away_keeps_nothing_waiting_at_ours(world: World) -> None:
    ann = await world.funded("ann", 0, rules=FOREIGN)
    token = await foreign(world)
    world.mints[1].faults.add(Fault.UNREACHABLE, "/v1/melt/*", times=99)
    with pytest.raises(OutcomeUnknownError):
        await ann.receive(token, key="k")
    invoice = await ann.request_invoice(40, mint=world.mint.url)
    world.lightning.pay(invoice.bolt11)
    assert [each.key for each in await ann.recover()] == [invoice.operation]
    world.mints[1].faults.clear()
    await ann.recover()
    assert ann.operation("k").state == State.DONE  # type: ignore[union-attr]
    assert await world.missing() == 0


async def test_a_foreign_token_that_is_false(world: World) -> None:
    ann = await world.funded("ann", 0, rules=FOREIGN)
    token = tokens.decode(await foreign(world))
    forged = replace(token, proofs=tuple(replace(p, secret="0" * 64) for p in token.proofs[:1]))
    with pytest.raises(VerificationError):
        await ann.receive(forged, key="k")
    assert ann.operation("k").state == State.FAILED  # type: ignore[union-attr]
    bare = replace(token, proofs=tuple(replace(proof, dleq=None) for proof in token.proofs))
    with pytest.raises(UnverifiedError):
        await ann.receive(bare)
    assert not (await ann.receive(bare, allow_unverified=True)).verified


# ── another source ──────────────────────────────────────────────────────────────────────────


@dataclass
class Answer:
    """What the source below answers."""

    preimage: bytes | None
    fee_msat: int | None


@dataclass
class Source:
    """A funding source whose answers a test decides; it pays on the world's network."""

    world: World
    name: str = "nwc:somebody"
    lost: bool = False
    refuses: bool = False
    settles: bool = True
    asked: list[str] = field(default_factory=list)
    again: list[bool] = field(default_factory=list)
    known: list[bytes | None] = field(default_factory=list)

    async def pay_invoice(
        self, invoice: Bolt11, *, amount_msat: int | None = None, again: bool = False
    ) -> Answer:
        self.asked.append(invoice.text)
        self.again.append(again)
        if self.refuses:
            raise PaymentFailedError("no")
        preimage = self.world.lightning.pay(invoice.text)
        if self.lost:
            raise OutcomeUnknownError("no answer")
        return Answer(preimage, 1_500)

    async def settle(
        self, invoice: Bolt11, *, asked: float, known: bytes | None = None, again: bool = False
    ) -> Answer:
        self.known.append(known)
        if not self.settles:
            raise OutcomeUnknownError("still no answer")
        if self.refuses:
            raise PaymentFailedError("never paid")
        return Answer(None, None)


async def test_another_source_pays_once(world: World, ann: Wallet) -> None:
    source = Source(world)
    bolt11 = world.lightning.invoice(9_000)
    paid = await ann.pay_from(source, bolt11, key="k")
    assert (paid.state, paid.amount_msat, paid.fee_msat, paid.source) == (
        "paid",
        9_000,
        1_500,
        "nwc:somebody",
    )
    assert paid.preimage
    assert await ann.pay_from(source, bolt11, key="k") == paid
    assert len(source.asked) == 1
    assert ann.balance() == 100, "its money is elsewhere"
    assert ann.history()[0].kind == Kind.SOURCE


async def test_what_another_source_did_not_tell_is_asked_again(world: World, ann: Wallet) -> None:
    source = Source(world)
    await ann.pay_from(source, world.lightning.invoice(1_000), key="first")
    source.lost, source.settles = True, False
    bolt11 = world.lightning.invoice(9_000)
    assert (await ann.pay_from(source, bolt11, key="k")).state == "pending"
    assert (await ann.pay_from(source, bolt11, key="k")).state == "pending"
    assert await ann.recover() == ()
    assert source.known[-1] is not None, "a payment it surely made"
    revived = await world.again(rules=LITTLE)
    assert len(revived.pending()) == 1, "nobody to ask"
    source.settles = True
    revived.use_source(source)
    assert [each.state for each in await revived.recover()] == [State.DONE]
    assert len(source.asked) == 2


async def test_what_a_source_did_is_known_however_much_was_done_since(
    world: World, ann: Wallet
) -> None:
    """Else what it never got is pending for good, and an old failure is told as that of a new
    try, which may be under way."""
    source, first = Source(world), world.lightning.invoice(1_000)
    await ann.pay_from(source, first, key="first")
    source.refuses, refused = True, world.lightning.invoice(2_000)
    with pytest.raises(PaymentFailedError):
        await ann.pay_from(source, refused, key="refused")
    one, store = ann.history()[-1], ann._book.store
    many = [Record(replace(one, key=f"invoice {number}")) for number in range(250)]
    await store.write("x", lambda t: [t.operations.insert(each) for each in many])
    source.refuses, source.lost, source.settles = False, True, False
    assert (await ann.pay_from(source, refused, key="again")).state == "pending"
    assert source.again == [False, False, True]
    assert await ann.recover() == ()
    assert source.known == [invoices.read(first).payment_hash]


async def test_damage_says_nothing_of_a_payment_under_way(world: World, ann: Wallet) -> None:
    source = Source(world)
    await ann.pay_from(source, world.lightning.invoice(1_000), key="first")
    source.lost, bolt11 = True, world.lightning.invoice(9_000)
    await ann.pay_from(source, bolt11, key="k")
    damage = "UPDATE operations SET sealed = x'00' WHERE key = 'first'"
    await ann._book.store.write("x", lambda t: t.connection.execute(damage) and None)
    with pytest.raises(StoreError, match="damaged"):
        await ann.pay_from(source, bolt11, key="k")
    assert [each.state for each in ann.pending()] == [State.PENDING]


async def test_another_source_that_refuses(world: World, ann: Wallet) -> None:
    source = Source(world, refuses=True)
    bolt11 = world.lightning.invoice(9_000)
    with pytest.raises(PaymentFailedError):
        await ann.pay_from(source, bolt11, key="k")
    with pytest.raises(PaymentFailedError, match="failed before"):
        await ann.pay_from(source, bolt11, key="k")
    source.refuses, source.lost, source.settles = False, True, True
    lost = world.lightning.invoice(8_000)
    await ann.pay_from(source, lost, key="l")
    source.refuses = True
    with pytest.raises(PaymentFailedError, match="never paid"):
        await ann.pay_from(source, lost, key="l")
