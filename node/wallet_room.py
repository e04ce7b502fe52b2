"""The wallet's part of the composition root: made from the configuration, opened, settled."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack
from importlib import import_module

from node.config import Config
from node.errors import FreeholdError
from node.gateway import Control
from node.home import Home
from node.money import FeeRule, Keeper, WalletPurse

SETTLE_S = 5.0
_LATER = ("wallet.wallet", "wallet.nwc.giftwrap", "wallet.lightning.guard")
log = logging.getLogger("freehold")


def wallet_keeper(home: Home, config: Config, passphrase: str | None) -> Keeper:
    """Keeps this home's wallet; nothing is opened yet."""
    from wallet import Rules

    wallet = config.wallet
    rules = Rules(
        cap_sat=wallet.mint_cap_sats,
        swap_foreign=wallet.swap_foreign,
        max_fee_percent=wallet.max_fee_percent,
        max_fee_floor_sat=wallet.max_fee_sats,
    )
    return Keeper(home.wallet, home.keys, rules=rules, passphrase=passphrase)


def wallet_purse(keeper: Keeper, config: Config) -> WalletPurse:
    """Pays from it, within what the configuration allows to be charged on top."""
    wallet = config.wallet
    return WalletPurse(
        keeper,
        fees=FeeRule(sats=wallet.max_fee_sats, percent=wallet.max_fee_percent),
        invoices_from=wallet.invoices_from,
        wait_s=wallet.payment_wait_s,
    )


async def open_wallet(control: Control, rooms: AsyncExitStack) -> None:
    """Opens the wallet, writes on the log what an interruption left out, and asks what became of
    what it left open.

    Mints may be slow or away: that is waited for a moment only, and gone on with meanwhile.
    """
    await control.keeper.start()
    if control.keeper.state in ("open", "stale"):
        await control.settling.telling.catch_up()
    first = asyncio.create_task(_settle(control))
    rooms.callback(asyncio.create_task(_go_on(control, first)).cancel)
    rooms.callback(first.cancel)
    await asyncio.wait({first}, timeout=SETTLE_S)


async def load_wallet(ready: asyncio.Event) -> None:
    """Imports, once the node is ready, what its rooms import of the wallet when they first use it:
    an upgrade may put code in its place that does not fit what this process runs."""
    await ready.wait()
    await asyncio.to_thread(lambda: [*map(import_module, _LATER)])


async def _settle(control: Control) -> None:
    """Settles once, and says what ended."""
    if control.keeper.state != "open":
        return
    try:
        for each in await control.settling.once():
            log.info("the wallet settled %s %s: %s", each.kind, each.key, each.state)
    except FreeholdError as error:
        log.warning("the wallet: %s", error.diagnostics())
    except Exception:
        log.exception("the wallet")


async def _go_on(control: Control, first: asyncio.Task[None]) -> None:
    await first
    await control.settling.forever()
