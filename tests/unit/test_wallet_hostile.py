"""Strangers who mean harm: senders, payees, mints. Each test names what they would gain."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from wallet.errors import (
    FeeTooHighError,
    InsufficientFundsError,
    VerificationError,
    WalletError,
)
from wallet.mint.testing import Purse
from wallet.operations.results import Rules
from wallet.protocol import invoices, quotes, tokens
from wallet.protocol import outputs as making
from wallet.protocol.curve import public, random_scalar
from wallet.testing import World
from wallet.types import Token
from wallet.wallet import Wallet


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path)
    yield made
    await made.close()


@pytest.fixture
async def ann(world: World) -> Wallet:
    return await world.funded("ann", 100, rules=Rules(change_pieces=1))


async def with_secret(world: World, secret: str) -> Token:
    """A token of 1 sat whose secret a stranger chose."""
    purse = Purse(world.connect(world.mint.url), pay=world.lightning.pay)
    private, keyset = random_scalar(), await purse.keyset()
    quote = await purse.mint.request_mint(1, "sat", pubkey=public(private))
    await purse.pay(quote.request)
    made = [making.output(1, keyset.id, secret, random_scalar())]
    messages = [each.message for each in made]
    signature = quotes.sign(quote.id, messages, private)
    signed = await purse.mint.mint(quote.id, messages, signature=signature)
    return Token(world.mint.url, "sat", making.finish(made, signed, keyset, require_dleq=True))


# ── senders ─────────────────────────────────────────────────────────────────────────────────


async def test_a_secret_that_looks_like_a_note_of_ours(world: World, ann: Wallet) -> None:
    """It would make the wallet believe that it had paid an invoice, or been paid a request."""
    bolt11 = world.lightning.invoice(30_000)
    digest = invoices.read(bolt11).payment_hash.hex()
    request = await ann.make_request(5, single_use=True, lock=False)
    for secret in (f"invoice {digest}", f"request {request.id}", "seed", "keys handed out"):
        await ann.receive(await with_secret(world, secret))
    assert (await ann.pay_invoice(bolt11)).state == "paid"
    with pytest.raises(WalletError, match="paid"):
        await ann.pay_invoice(bolt11)
    bob = await world.funded("bob", 20)
    assert (await ann.redeem((await bob.send(5)).token, request)).amount == 5
    assert await world.missing() == 0


async def test_a_token_that_names_another_unit_than_its_ecash_has_is_refused(
    world: World, ann: Wallet
) -> None:
    """Else msat would be told as sat: a thousand times what they are worth."""
    world.mint.ledger.add_keyset("msat", version=2, fee_ppk=0)
    await ann.add_mint(world.mint.url)
    bob = await world.funded("bob", 0)
    token = tokens.decode((await ann.send(3)).token)
    with pytest.raises(VerificationError, match=r"is not one of mint .* for msat"):
        await bob.receive(replace(token, unit="msat"))
    assert (await bob.receive(token)).amount == 3


# ── mints ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("skew_s", [0, -80_000, 80_000])
async def test_ecash_that_expired_does_not_hold_up_the_rest(
    world: World, ann: Wallet, skew_s: int
) -> None:
    """The mint takes none of it; what the wallet's clock says of it may be wrong by a day."""
    world.skew_s = skew_s
    world.mint.rotate(final_expiry=int(world.time_s) + 100_000)
    await ann.add_mint(world.mint.url)
    await world.fill(ann, 64)
    world.mint.rotate()
    await ann.add_mint(world.mint.url)
    assert ann.balance() == 164
    world.time_s += 110_000
    if skew_s >= 0:
        assert ann.balance() == 100
    assert (await ann.send(33)).amount == 33
    assert (await ann.pay_invoice(world.lightning.invoice(20_000))).state == "paid"
    await ann.consolidate(world.mint.url)
    with pytest.raises(InsufficientFundsError):
        await ann.send(60)
    assert ann.pending() == ()


async def test_ecash_that_ends_within_a_day_is_not_handed_on(world: World, ann: Wallet) -> None:
    bob = await world.wallet("bob", rules=Rules(change_pieces=1))
    soon = world.mint.rotate(final_expiry=int(world.time_s) + 86_400 + 10)
    await world.funded("bob", 64)
    lasting = world.mint.rotate()
    await bob.add_mint(world.mint.url)
    for passed_s, keyset in ((10, soon), (1, lasting)):
        world.time_s += passed_s
        token = tokens.decode((await bob.send(4)).token, [soon, lasting])
        assert {proof.id for proof in token.proofs} == {keyset}


async def test_an_expiry_that_a_mint_names_later_does_not_hold_up_the_rest(
    world: World, ann: Wallet
) -> None:
    """The id of a keyset of version 1 does not name it: it may come when the keyset is old."""
    old = world.mint.rotate(version=1)
    await ann.add_mint(world.mint.url)
    await world.fill(ann, 64)
    world.mint.rotate()
    kept = world.mint.ledger.keysets[old]
    ending = replace(kept.info, final_expiry=int(world.time_s) + 1_000)
    world.mint.ledger.keysets[old] = replace(kept, info=ending)
    await ann.add_mint(world.mint.url)
    assert ann.balance() == 164
    world.time_s += 2_000
    assert ann.balance() == 100
    assert (await ann.send(33, to=ann.address())).amount == 33


async def test_a_mint_that_wants_a_fee_for_all_it_is_given(world: World, ann: Wallet) -> None:
    """Its fee went up beyond measure: a payment says so, and does not pay it."""
    world.mint.rotate(fee_ppk=15_000)
    await ann.add_mint(world.mint.url)
    await world.fill(ann, 128)
    before = ann.balance()
    sent = await ann.send(50, to=ann.address(), max_fee=0)  # from the keyset of before
    assert sent.fee == 0
    with pytest.raises(FeeTooHighError):
        await ann.send(60, to=ann.address(), max_fee=14)
    assert before - ann.balance() == 50
    assert await world.missing() == 0
