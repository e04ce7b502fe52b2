"""A disk that is really full: before an operation, and after the mint acted on its request."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from wallet.errors import StoreError
from wallet.operations.results import Rules
from wallet.store import State
from wallet.testing import World
from wallet.types import TransportRequest
from wallet.wallet import Wallet

DISK_KIB = 2048
SWAPS_ALWAYS = Rules(change_pieces=0)


class Disk:
    """Fills the disk to the last byte, and frees it."""

    def __init__(self, folder: Path) -> None:
        self._filler = folder / "filler"

    def fill(self) -> None:
        with open(self._filler, "ab", buffering=0) as file:
            for size in (65_536, 1):
                try:
                    while file.write(b"\0" * size):
                        continue
                except OSError:
                    continue

    def free(self) -> None:
        self._filler.unlink(missing_ok=True)


async def token(world: World, _wallet: Wallet) -> dict[str, Any]:
    return {"token": (await world.wallets["bob"].send(21)).token}


async def paid_invoice(world: World, wallet: Wallet) -> dict[str, Any]:
    invoice = await wallet.request_invoice(33, key="k")
    world.lightning.pay(invoice.bolt11)
    return {}


async def bill(world: World, _wallet: Wallet) -> dict[str, Any]:
    return {"bolt11": world.lightning.invoice(30_000)}


async def nothing(_world: World, _wallet: Wallet) -> dict[str, Any]:
    return {}


Prepare = Callable[[World, Wallet], Awaitable[dict[str, Any]]]
Act = Callable[[Wallet, dict[str, Any]], Awaitable[Any]]
OPERATIONS: dict[str, tuple[str, Prepare, Act]] = {
    "send": ("/v1/swap", nothing, lambda wallet, _: wallet.send(5, key="k")),
    "receive": ("/v1/swap", token, lambda wallet, given: wallet.receive(given["token"], key="k")),
    "melt": ("/v1/melt/bolt11", bill, lambda w, given: w.pay_invoice(given["bolt11"], key="k")),
    "mint": ("/v1/mint/bolt11", paid_invoice, lambda wallet, _: wallet.claim_invoice("k")),
}


@pytest.mark.parametrize("name", OPERATIONS)
async def test_nothing_is_lost_on_a_full_disk(name: str, tiny_disk: Path) -> None:
    path, prepare, act = OPERATIONS[name]
    disk, world = Disk(tiny_disk), World(tiny_disk, fee_ppk=100)
    hook = world.mint.hook

    async def fills(moment: str, request: TransportRequest) -> None:
        if (moment, request.path) == ("after", path):
            disk.fill()

    try:
        wallet = await world.funded("ann", 200, rules=SWAPS_ALWAYS)
        await world.funded("bob", 100)
        given = await prepare(world, wallet)

        disk.fill()
        before = world.mint.outstanding()
        with pytest.raises(StoreError, match="full") as told:
            await act(wallet, given)
        assert "space" in told.value.hint
        assert world.mint.outstanding() == before  # nothing went out that was not written down
        assert await world.missing() == 0
        disk.free()

        world.mint.hook = fills
        with pytest.raises(StoreError, match="full"):
            await act(wallet, given)
        world.mint.hook = hook
        assert wallet.pending()
        disk.free()

        wallet = await world.again("ann", rules=SWAPS_ALWAYS)
        assert not wallet.pending()
        assert await world.missing() == 0
        operation = wallet.operation("k")
        assert operation is not None
        assert operation.state == State.DONE
        outstanding = world.mint.outstanding()
        await act(wallet, given)  # the same key is the same operation
        assert world.mint.outstanding() == outstanding
        assert (await wallet.check()).ok
    finally:
        disk.free()
        await world.close()
