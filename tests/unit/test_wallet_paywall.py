"""HTTP 402 with ecash (NUT-24), against a server in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wallet.errors import (
    AlreadySpentError,
    InsufficientFundsError,
    OutcomeUnknownError,
    ParseError,
    RefusedError,
    UnsupportedError,
    UntrustedMintError,
    WalletError,
)
from wallet.mint.testing import Fault
from wallet.operations.paywall import HEADER, Toll, read_toll
from wallet.protocol import requests, tokens
from wallet.protocol.requests import PaymentRequest, Transport
from wallet.testing import World
from wallet.wallet import Wallet

URL = "https://api.example/weather?city=Ulm"


class Server:
    """A resource for 8 sat. What it does with the ecash is up to the test."""

    def __init__(self, wallet: Wallet) -> None:
        self.wallet = wallet
        self.tokens: list[str] = []
        self.takes = True
        self.status: int | None = None
        self.breaks = False

    async def toll(self, amount: int = 8, *, lock: bool = True) -> Toll:
        self.request = await self.wallet.make_request(amount, lock=lock)
        return read_toll(URL, requests.encode(self.request))

    async def get(self, token: str) -> int:
        self.tokens.append(token)
        if self.takes:
            try:
                await self.wallet.redeem(token, self.request)
            except WalletError:
                return 400
        if self.breaks:
            raise ConnectionError("the line went dead")
        return self.status or (200 if self.takes else 402)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path)
    await made.funded("ann", 100)
    await made.funded("bob", 0)
    yield made
    await made.close()


@pytest.fixture
def ann(world: World) -> Wallet:
    return world.wallets["ann"]


@pytest.fixture
def server(world: World) -> Server:
    return Server(world.wallets["bob"])


async def test_a_resource_is_paid_for(world: World, ann: Wallet, server: Server) -> None:
    paid = await ann.pay_402(await server.toll(), server.get, key="k", most=8)
    assert (paid.outcome, paid.status, paid.amount, paid.unit) == ("paid", 200, 8, "sat")
    assert (paid.url, paid.mint, paid.operation) == (URL, world.mint.url, "k")
    assert server.tokens[0].startswith("cashuB")
    assert server.tokens[0] not in str(asdict(paid))  # it goes into a journal
    assert (ann.balance(), server.wallet.balance()) == (92, 8)
    assert await world.missing() == 0


@pytest.mark.parametrize("status", [200, 204, 404, 500])
async def test_every_answer_but_a_refusal_is_one(ann: Wallet, server: Server, status: int) -> None:
    server.status = status
    paid = await ann.pay_402(await server.toll(), server.get, key="k")
    assert (paid.outcome, paid.status) == ("paid", status)
    assert len(server.tokens) == 1


async def test_one_key_pays_once(ann: Wallet, server: Server) -> None:
    server.breaks = True
    toll = await server.toll()
    with pytest.raises(ConnectionError):
        await ann.pay_402(toll, server.get, key="k")
    server.takes = False
    with pytest.raises(ConnectionError):
        await ann.pay_402(toll, server.get, key="k")
    assert server.tokens[0] == server.tokens[1]
    await ann.refresh_outbox()
    with pytest.raises(AlreadySpentError, match="paid before"):
        await ann.pay_402(toll, server.get, key="k")
    assert len(server.tokens) == 2
    assert ann.balance() == 92


@pytest.mark.parametrize("status", [400, 402])
async def test_what_is_not_taken_comes_back(
    world: World, ann: Wallet, server: Server, status: int
) -> None:
    server.takes, server.status = False, status
    paid = await ann.pay_402(await server.toll(lock=False), server.get, key="k")
    assert (paid.outcome, paid.status) == ("returned", status)
    assert ann.balance() == 100
    assert await world.missing() == 0
    with pytest.raises(RefusedError, match="taken back"):
        await ann.pay_402(await server.toll(lock=False), server.get, key="k")


async def test_what_a_server_kept_of_what_came_back_is_lost(ann: Wallet, server: Server) -> None:
    async def keep_the_largest(token: str) -> int:
        read = tokens.decode(token)
        largest = max(read.proofs, key=lambda proof: proof.amount)
        await server.wallet.receive(replace(read, proofs=(largest,)))
        return 402

    paid = await ann.pay_402(await server.toll(9, lock=False), keep_the_largest, key="k")
    assert (paid.outcome, paid.fee) == ("returned", 8)
    assert (ann.balance(), server.wallet.balance()) == (92, 8)


async def test_locked_ecash_does_not_come_back(ann: Wallet, server: Server) -> None:
    server.takes = False
    paid = await ann.pay_402(await server.toll(), server.get, key="k")
    assert (paid.outcome, paid.status) == ("refused", 402)
    assert ann.balance() == 92


async def test_a_server_that_takes_and_refuses(ann: Wallet, server: Server) -> None:
    server.status = 402
    paid = await ann.pay_402(await server.toll(lock=False), server.get, key="k")
    assert paid.outcome == "refused"
    assert (ann.balance(), server.wallet.balance()) == (92, 8)


@pytest.mark.parametrize("fault", [Fault.UNREACHABLE, Fault.LOST_REQUEST])
async def test_a_mint_that_is_silent_when_it_should_come_back(
    world: World, ann: Wallet, server: Server, fault: Fault
) -> None:
    async def refuse(token: str) -> int:
        for _ in range(9):
            world.mint.faults.add(fault, "/v1/swap")
            world.mint.faults.add(fault, "/v1/checkstate")
        return 402

    paid = await ann.pay_402(await server.toll(lock=False), refuse, key="k")
    assert paid.outcome == "refused"
    world.mint.faults.clear()
    await ann.recover()
    assert await world.missing() == 0


async def test_prices_that_are_too_high(ann: Wallet, server: Server) -> None:
    with pytest.raises(RefusedError, match="7 are allowed"):
        await ann.pay_402(await server.toll(), server.get, key="k", most=7)
    with pytest.raises(InsufficientFundsError):
        await ann.pay_402(await server.toll(101), server.get, key="k")
    assert server.tokens == []
    assert ann.operation("k") is None


async def test_mints_that_are_not_ours(ann: Wallet, server: Server) -> None:
    toll = await server.toll()
    other = replace(toll.request, mints=("https://other.example",))
    with pytest.raises(UntrustedMintError):
        await ann.pay_402(replace(toll, request=other), server.get, key="k")


@pytest.mark.parametrize("version", ["A", "B"])
def test_reading_a_header(version: str) -> None:
    asked = PaymentRequest(
        amount=5,
        unit="sat",
        mints=("https://m.example",),
        transports=(Transport("post", "https://elsewhere.example"),),
    )
    toll = read_toll(URL, requests.encode(asked, version))
    assert (toll.url, toll.amount, toll.unit, toll.mints) == (URL, 5, "sat", asked.mints)
    assert toll.request.transports == ()  # it is paid where it was asked for
    assert HEADER == "X-Cashu"


@pytest.mark.parametrize(
    ("asked", "error"),
    [
        (PaymentRequest(), ParseError),
        (PaymentRequest(unit="sat"), ParseError),
        (PaymentRequest(amount=0, unit="sat"), ParseError),
        (PaymentRequest(amount=1, unit="api"), UnsupportedError),
    ],
)
def test_headers_that_ask_for_nothing_payable(
    asked: PaymentRequest, error: type[WalletError]
) -> None:
    with pytest.raises(error):
        read_toll(URL, requests.encode(asked))


@given(st.text() | st.text().map("creqA".__add__) | st.text().map("creqb1".__add__))
def test_headers_of_anything(header: str) -> None:
    with pytest.raises((ParseError, UnsupportedError)):
        read_toll(URL, header)


async def test_an_attempt_whose_outcome_nobody_knows(ann: Wallet, server: Server) -> None:
    async def lost(token: str) -> int:
        raise OutcomeUnknownError("no answer")

    toll = await server.toll(lock=False)
    with pytest.raises(OutcomeUnknownError):
        await ann.pay_402(toll, lost, key="k")
    paid = await ann.pay_402(toll, server.get, key="k")  # the same ecash
    assert paid.outcome == "paid"
    assert ann.balance() == 92
