"""Strangers who mean harm: senders, payees, mints. Each test names what they would gain."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from wallet.errors import WalletError
from wallet.mint.testing import Purse
from wallet.operations.results import Rules
from wallet.protocol import invoices, quotes
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
