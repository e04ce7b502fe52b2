"""The lines of the wallet's history, as the node's owner reads them."""

from __future__ import annotations

from pathlib import Path

import pytest

from node.cli.wallet import _show
from node.gateway.wallet import operation_json
from wallet import Rules
from wallet.testing import World
from wallet.wallet import Wallet


@pytest.fixture
async def world(tmp_path: Path):  # type: ignore[no-untyped-def]
    made = World(tmp_path, mints=2)
    yield made
    await made.close()


def told(wallet: Wallet, capsys: pytest.CaptureFixture[str]) -> tuple[list[str], int]:
    """What each line is about, and the sum of those that are no parts of others."""
    found = [operation_json(each) for each in wallet.history()]
    _show(found, False)
    lines = capsys.readouterr().out.splitlines()[1:]
    whole = sum(each["amount"] for each in found if not each["of"])
    return [" ".join(line.split("  ")[1].split()) for line in lines], whole


async def test_the_parts_of_a_payment_are_told_from_the_whole(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    ann = await world.funded("ann", 64)
    await world.funded("ann", 64, mint=1)
    await ann.pay_invoice(world.lightning.invoice(90_000), key="k")
    what, whole = told(ann, capsys)
    assert what == ["part: melt", "part: melt", "multipath", "mint", "mint"]
    assert whole == 64 + 64 + 90


async def test_the_parts_of_a_foreign_token_s_swap_are_told_from_it(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    bob = await world.funded("bob", 64, mint=1)
    ann = await world.wallet("ann", rules=Rules(swap_foreign=True))
    await ann.add_mint(world.mint.url)
    got = await ann.receive((await bob.send(50)).token)
    what, whole = told(ann, capsys)
    assert set(what) == {"part: receive", "part: mint", "part: melt", "exchange"}
    assert whole == got.amount


async def test_a_token_that_came_back_is_a_line_of_its_own(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    ann = await world.funded("ann", 64)
    await ann.reclaim((await ann.send(5)).operation)
    assert told(ann, capsys)[0] == ["reclaim", "send", "mint"]
