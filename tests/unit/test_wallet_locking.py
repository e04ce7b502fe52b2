"""Quotes locked to the wallet, at mints that take one form of signature, the other, or both."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from wallet.errors import MintError
from wallet.mint.testing import Fault
from wallet.mint.testing.quotes import Message
from wallet.operations.results import Rules
from wallet.protocol import quotes
from wallet.store import State
from wallet.testing import World
from wallet.types import TransportRequest
from wallet.wallet import Wallet

ONE = "/v1/mint/bolt11"
SEVERAL = "/v1/mint/bolt11/batch"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path)
    yield made
    await made.close()


@pytest.fixture
async def ann(world: World) -> Wallet:
    return await world.funded("ann", 0, rules=Rules(change_pieces=1))


def posts(world: World, path: str) -> int:
    return sum(request.path == path for request in world.mint.requests)


async def paid(world: World, wallet: Wallet, *amounts: int) -> list[str]:
    invoices = [await wallet.request_invoice(amount) for amount in amounts]
    for invoice in invoices:
        world.lightning.pay(invoice.bolt11)
    return [invoice.operation for invoice in invoices]


@pytest.mark.parametrize(
    ("message", "tries"), [(quotes.message, [1, 1]), (quotes.framed_message, [2, 1])]
)
async def test_either_form_is_signed_and_remembered(
    world: World, ann: Wallet, message: Message, tries: list[int]
) -> None:
    world.mint.quotes.messages = (message,)
    told = []
    for operation in await paid(world, ann, 5, 6):
        before = posts(world, ONE)
        assert (await ann.claim_invoice(operation)).state == State.DONE
        told.append(posts(world, ONE) - before)
    assert (ann.balance(), told) == (11, tries)
    assert await world.missing() == 0


async def test_a_mint_that_goes_back_to_the_old_form(world: World, ann: Wallet) -> None:
    for message in (quotes.framed_message, quotes.message, quotes.framed_message):
        world.mint.quotes.messages = (message,)
        (operation,) = await paid(world, ann, 7)
        await ann.claim_invoice(operation)
    assert ann.balance() == 21


async def test_a_batch_is_signed_in_the_other_form(world: World, ann: Wallet) -> None:
    world.mint.quotes.messages = (quotes.framed_message,)
    await paid(world, ann, 5, 6, 7)
    await ann.recover()
    assert (ann.balance(), ann.pending()) == (18, ())
    assert (posts(world, SEVERAL), posts(world, ONE)) == (2, 0)


@pytest.mark.parametrize("message", [quotes.message, quotes.framed_message])
async def test_a_mint_that_hides_that_it_locked_the_quote(
    world: World, ann: Wallet, message: Message
) -> None:
    world.mint.quotes.messages, world.mint.quotes.shows_keys = (message,), False
    first, *_ = await paid(world, ann, 5, 6, 7)
    assert (await ann.claim_invoice(first)).state == State.DONE
    await ann.recover()
    assert (ann.balance(), ann.pending()) == (18, ())


async def test_a_mint_that_takes_no_signature(world: World, ann: Wallet) -> None:
    """It is asked with each form once, and the quote stays, to be claimed when it does."""
    world.mint.quotes.messages = ()
    (operation,) = await paid(world, ann, 5)
    with pytest.raises(MintError, match="signature"):
        await ann.claim_invoice(operation)
    assert (posts(world, ONE), len(ann.pending())) == (2, 1)
    world.mint.quotes.messages = (quotes.framed_message,)
    await ann.recover()
    assert (ann.balance(), ann.pending()) == (5, ())


@pytest.mark.parametrize("path", [ONE, SEVERAL])
@pytest.mark.parametrize("fault", [Fault.LOST_REPLY, Fault.LOST_REQUEST, Fault.WRONG_SIGNATURES])
async def test_the_answer_to_the_second_form_is_lost(
    world: World, ann: Wallet, fault: Fault, path: str
) -> None:
    world.mint.quotes.messages = (quotes.framed_message,)
    await paid(world, ann, *((5,) if path == ONE else (2, 3)))

    def hook(moment: str, request: TransportRequest) -> None:
        if (moment, request.path, posts(world, path)) == ("after", path, 1):  # it was refused
            world.mint.faults.add(fault, path)

    world.mint.hook = hook
    await ann.recover()
    assert posts(world, path) >= 2
    world.mint.hook = None
    world.mint.faults.clear()
    await ann.recover()
    assert (ann.balance(), ann.pending()) == (5, ())
    assert await world.missing() == 0
