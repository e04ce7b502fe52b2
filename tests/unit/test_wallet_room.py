"""What `config.toml` says of money is what the wallet and the purse keep to."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

from node.config import Config, WalletSection
from node.home import Home
from node.money import Payment, WalletKey
from node.wallet_room import wallet_keeper, wallet_purse
from wallet import Rules
from wallet.mint.testing import MemoryLightning

KEY = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"
MONEY = WalletSection(
    mint_cap_sats=7,
    swap_foreign=True,
    payment_wait_s=1.5,
    invoices_from="nwc",
    max_fee_sats=2,
    max_fee_percent=40,
)


async def test_what_is_configured_holds(tmp_path: Path) -> None:
    home, config = Home(tmp_path), Config(wallet=MONEY)
    keeper = wallet_keeper(home, config, None)
    rules = (await keeper.make()).rules
    assert rules == Rules(cap_sat=7, swap_foreign=True, max_fee_percent=40, max_fee_floor_sat=2)
    purse = wallet_purse(keeper, config)
    assert [purse.bill(Payment(KEY, sats)).most_fee_sat for sats in (1, 100)] == [2, 40]
    invoice = Payment(MemoryLightning(now=time.time).invoice(1_000))
    assert not purse.bill(invoice).fee_bounded, "the owner's other wallet is to pay it"
    assert purse.bill(replace(invoice, mint="https://mint.example")).fee_bounded, "a mint is"
    assert purse.bill(Payment(KEY, 1)).fee_bounded, "ecash is a mint's"
    assert purse._wait_s == 1.5
    await keeper.aclose()


async def test_a_passphrase_that_the_node_was_started_with_opens_it(tmp_path: Path) -> None:
    home = Home(tmp_path)
    for passphrase in (None, "correct horse"):
        keeper = wallet_keeper(home, Config(), passphrase)
        await keeper.start()
        await keeper.make()
        assert keeper.state == "open"
        await keeper.aclose()
        if passphrase is None:
            WalletKey(home.keys).set_passphrase(None, "correct horse")
