"""What is asked of wallets after something went wrong."""

from __future__ import annotations

from wallet.store import Hold, State
from wallet.testing import World
from wallet.wallet import Wallet


def state(wallet: Wallet, key: str = "k") -> State:
    """That of the operation with a key."""
    operation = wallet.operation(key)
    assert operation is not None
    return operation.state


async def nothing_lost(world: World) -> None:
    """Every wallet comes to rest, with all its money."""
    for wallet in world.wallets.values():
        await wallet.recover()
    assert await world.missing() == 0
    for wallet in world.wallets.values():
        assert Hold.RESERVED not in world.held(wallet)
        assert (await wallet.check()).ok
