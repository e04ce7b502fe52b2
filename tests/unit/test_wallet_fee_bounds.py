"""What a payment may cost on top is bounded by its caller, mint and Lightning together."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from wallet import Rules, Wallet
from wallet.errors import FeeTooHighError
from wallet.mint import MintClient
from wallet.mint.testing import MemoryLightning, MemoryMint, Outcome
from wallet.operations import bills
from wallet.store import State
from wallet.testing import World
from wallet.types import TransportRequest

URL = "https://mint.example"
NOW = 1_800_000_000.0


@pytest.fixture
def lightning() -> MemoryLightning:
    return MemoryLightning(now=lambda: NOW)


@pytest.fixture
async def wallet(tmp_path: Path, lightning: MemoryLightning) -> AsyncIterator[Wallet]:
    """Over a mint that takes a sat for each proof."""
    mint = MemoryMint(URL, fee_ppk=1000, lightning=lightning, now=lambda: NOW)
    async with await Wallet.open(
        tmp_path / "wallet.db",
        key=bytes(32),
        connect=lambda url: MintClient(url, mint),
        now=lambda: NOW,
    ) as opened:
        await opened.add_mint(URL)
        invoice = await opened.request_invoice(200)
        lightning.pay(invoice.bolt11)
        await opened.claim_invoice(invoice.operation)
        yield opened


@pytest.mark.parametrize(
    ("amount_msat", "named_sat", "most_msat"),
    [(400_500, None, 12_015), (333_000, None, 10_000), (400_500, 7, 7_000)],
)
def test_the_most_that_lightning_may_take_is_rounded_down(
    lightning: MemoryLightning, amount_msat: int, named_sat: int | None, most_msat: int
) -> None:
    text = lightning.invoice(amount_msat)
    bill = bills.bill({"invoice": text, "amount_msat": None, "max_fee": named_sat}, NOW)
    assert bill.max_fee(Rules(), "msat") == most_msat
    assert bill.max_fee(Rules(), "sat") == most_msat // 1_000


async def test_a_token_that_costs_more_is_not_made(wallet: Wallet) -> None:
    with pytest.raises(FeeTooHighError, match="making the token costs 1 sat; 0 are allowed"):
        await wallet.send(3, to=wallet.address(), max_fee=0, key="k")
    assert (wallet.balance(), wallet.operation("k")) == (200, None)
    sent = await wallet.send(3, to=wallet.address(), max_fee=2, key="k")
    assert (sent.amount, sent.fee) == (3, 1)
    again = await wallet.send(3, to=wallet.address(), max_fee=2, key="k")
    assert again.token == sent.token


async def test_a_token_out_of_small_change_costs_nothing(wallet: Wallet) -> None:
    sent = await wallet.send(64, max_fee=0)
    assert (sent.amount, sent.fee) == (64, 0)


async def test_parts_whose_mints_charge_for_proofs_too_are_not_paid(tmp_path: Path) -> None:
    world = World(tmp_path, mints=2, fee_ppk=100)
    ann = await world.funded("ann", 100, rules=Rules(change_pieces=0))
    await world.funded("ann", 100, mint=1)
    for mint in world.mints:
        mint.quotes.reserve = lambda _amount: 2
    bolt11 = world.lightning.invoice(130_000)
    with pytest.raises(FeeTooHighError, match=r"may take .* sat; 4 sat are allowed"):
        await ann.pay_invoice(bolt11, max_fee=4, key="k")
    assert (ann.balance(), ann.operation("k")) == (200, None)
    paid = await ann.pay_invoice(bolt11, max_fee=20, key="k")
    assert (paid.state, ann.balance()) == ("paid", 200 - 130 - paid.fee)
    await world.close()


async def test_a_part_of_a_payment_costs_no_more_when_its_mint_takes_more(tmp_path: Path) -> None:
    world = World(tmp_path, mints=2, version=1)
    ann = await world.funded("ann", 100)
    await world.funded("ann", 100, mint=1)
    dear = world.mints[1]

    def raises(_moment: str, request: TransportRequest) -> None:
        if request.path == "/v1/melt/bolt11" and len(dear.ledger.keysets) == 1:
            (old,) = dear.ledger.keysets.values()
            info = replace(old.info, input_fee_ppk=1_000)
            dear.ledger.keysets[info.id] = replace(old, info=info)
            dear.rotate(fee_ppk=1_000)

    dear.hook = raises
    bolt11 = world.lightning.invoice(130_000)
    paid = await ann.pay_invoice(bolt11, max_fee=4, key="k")
    assert (paid.state, paid.fee <= 4) == ("pending", True)
    world.lightning.end(bolt11, Outcome.FAILED)
    world.lightning.outcome = Outcome.FAILED
    await ann.recover()
    assert (ann.operation("k").state, ann.balance()) == (State.FAILED, 200)  # type: ignore[union-attr]
    await world.close()


async def test_an_invoice_that_costs_more_is_not_paid(
    wallet: Wallet, lightning: MemoryLightning
) -> None:
    invoice = lightning.invoice(100_000)
    with pytest.raises(FeeTooHighError, match="Lightning and the mint may take 3 sat; 2 sat"):
        await wallet.pay_invoice(invoice, max_fee=2, key="k")
    assert (wallet.balance(), wallet.operation("k")) == (200, None)
    paid = await wallet.pay_invoice(invoice, max_fee=20, key="k")
    assert paid.state == "paid"
    assert paid.fee <= 20
    assert wallet.balance() == 200 - 100 - paid.fee
