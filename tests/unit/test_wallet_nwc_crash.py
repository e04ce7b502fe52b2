"""The process ends anywhere in a payment from a connected wallet, and it is paid once or never."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from wallet.errors import PaymentFailedError, RefusedError
from wallet.mint.testing import Outcome
from wallet.nwc import Connection, NwcClient, NwcSource
from wallet.nwc.memory import MemoryRelay
from wallet.nwc.testing import Fault, MemoryService
from wallet.store import State
from wallet.testing import Crash, World

POINTS = 6  # before, in and after each of the two transactions


class Away:
    """A user with a connected wallet."""

    def __init__(self, world: World) -> None:
        self.world, self.relay = world, MemoryRelay()
        self.service = MemoryService(
            self.relay, lightning=world.lightning, now=lambda: world.time_s
        )

    def source(self) -> NwcSource:
        client = NwcClient(
            Connection.parse(self.service.text),
            dial=self.relay,
            now=lambda: self.world.time_s,
            payment_s=0.2,
        )
        return NwcSource(client, now=lambda: self.world.time_s)


@pytest.fixture
async def away(tmp_path: Path) -> AsyncIterator[Away]:
    world = World(tmp_path)
    made = Away(world)
    async with made.service:
        yield made
    await world.close()


@pytest.mark.parametrize("at", range(POINTS))
@pytest.mark.parametrize("fault", [None, Fault.LOST], ids=["answered", "answer lost"])
async def test_it_ends_at_a_point(away: Away, at: int, fault: Fault | None) -> None:
    world, invoice = away.world, away.world.lightning.invoice(21_000)
    ann, source = await world.wallet(), away.source()
    away.service.faults.extend([fault] if fault else [])
    world.points.arm(at)
    with pytest.raises(Crash):
        await ann.pay_from(source, invoice, key="k")
    await source.aclose()
    await world.stop()
    away.service.faults.clear()

    ann, source = await world.wallet(), away.source()
    ann.use_source(source)
    await ann.recover()
    found = ann.operation("k")
    assert away.service.asked.count("pay_invoice") <= 1
    if found is None or not found.state.final:  # it was never asked for, and nobody can be sure
        assert away.service.paid == []
    else:
        assert found.state == State.DONE
        assert (found.amount, found.fee) == (21_000, 1_000)
        assert len(away.service.paid) == 1
    await source.aclose()


async def test_the_points_are_all_there_are(away: Away) -> None:
    world = away.world
    ann, source = await world.wallet(), away.source()
    world.points.arm(None)
    await ann.pay_from(source, world.lightning.invoice(21_000), key="k")
    assert len(world.points.seen) == POINTS
    await source.aclose()


async def test_what_was_never_asked_for_ends(away: Away) -> None:
    """Once the request must have expired, a wallet that finds its other payments never made it."""
    world = away.world
    ann, source = await world.wallet(), away.source()
    await ann.pay_from(source, world.lightning.invoice(5_000), key="before")
    world.points.arm(2)
    with contextlib.suppress(Crash):
        await ann.pay_from(source, world.lightning.invoice(21_000), key="k")
    await world.stop()
    ann = await world.wallet()
    ann.use_source(source)
    await ann.recover()
    assert [each.key for each in ann.pending()] == ["k"]
    world.time_s += 100_000
    await ann.recover()
    found = ann.operation("k")
    assert found is not None
    assert found.state == State.FAILED
    assert len(away.service.paid) == 1
    await source.aclose()


async def test_an_invoice_is_one_payment(away: Away) -> None:
    world, invoice = away.world, away.world.lightning.invoice(21_000)
    ann, source = await world.wallet(), away.source()
    first = await ann.pay_from(source, invoice, key="k")
    assert await ann.pay_from(source, invoice, key="k") == first
    with pytest.raises(RefusedError, match="'k'"):
        await ann.pay_from(source, invoice, key="l")
    assert ann.operation("l") is None
    assert len(away.service.paid) == 1
    await source.aclose()


async def test_an_invoice_that_failed_may_be_tried_again(away: Away) -> None:
    world, invoice = away.world, away.world.lightning.invoice(21_000)
    ann, source = await world.wallet(), away.source()
    world.lightning.outcome = Outcome.FAILED
    with pytest.raises(PaymentFailedError):
        await ann.pay_from(source, invoice, key="k")
    world.lightning.outcome = Outcome.PAID
    with pytest.raises(PaymentFailedError, match="failed before"):
        await ann.pay_from(source, invoice, key="k")
    assert (await ann.pay_from(source, invoice, key="l")).state == "paid"
    await source.aclose()


async def test_a_failure_of_before_is_not_that_of_a_payment_under_way(away: Away) -> None:
    """The second try is not at the service yet, which tells of the first when it is asked."""
    world, invoice = away.world, away.world.lightning.invoice(21_000)
    ann, source = await world.wallet(), away.source()
    world.lightning.outcome = Outcome.FAILED
    with pytest.raises(PaymentFailedError):
        await ann.pay_from(source, invoice, key="k")
    world.lightning.outcome = Outcome.PAID
    away.service.faults.append(Fault.SILENT)
    assert (await ann.pay_from(source, invoice, key="l")).state == "pending"
    await ann.recover()
    found = ann.operation("l")
    assert found is not None
    assert found.state == State.PENDING
    world.time_s += 601
    with pytest.raises(PaymentFailedError):
        await ann.pay_from(source, invoice, key="l")
    assert (await ann.pay_from(source, invoice, key="m")).state == "paid"
    assert len(away.service.paid) == 1
    await source.aclose()
