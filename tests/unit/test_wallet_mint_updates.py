"""Updates by websocket, and what becomes of them where it is silent, broken, hostile or absent."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from typing import Any

import pytest

from wallet.errors import MintError, MintMisbehavedError
from wallet.mint import MintClient, Patience
from wallet.mint.limits import PATIENCE
from wallet.mint.testing import Fault, MemoryMint
from wallet.mint.testing.sockets import MemorySocket
from wallet.types import MintQuote, MintQuoteState, TransportRequest

PAID, UNPAID = MintQuoteState.PAID, MintQuoteState.UNPAID


class Waits:
    """A sleep that takes no time, and remembers how long it should have been."""

    def __init__(self) -> None:
        self.waited: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.waited.append(seconds)
        await asyncio.sleep(0)


async def start(
    mint: MemoryMint, patience: Patience = PATIENCE, *, info: bool = True
) -> tuple[MintClient, MintQuote, Waits]:
    waits = Waits()
    client = MintClient(mint.url, mint, patience=patience, sleep=waits)
    if info:
        await client.info()
    return client, await client.request_mint(4, "sat"), waits


async def states(client: MintClient, mint: MemoryMint, quote: MintQuote) -> list[MintQuoteState]:
    """The two states that a quote goes through, as they are told."""
    async with asyncio.timeout(20), aclosing(client.watch(quote.id)) as told:
        first = await anext(told)
        mint.pay(quote.request)
        return [first.state, (await anext(told)).state]


def asked(mint: MemoryMint) -> int:
    return sum("/v1/mint/quote/bolt11/" in request.path for request in mint.requests)


async def test_by_websocket_nothing_is_asked() -> None:
    mint = MemoryMint()
    client, quote, waits = await start(mint)
    assert await states(client, mint, quote) == [UNPAID, PAID]
    assert (asked(mint), waits.waited) == (0, [])


@pytest.mark.parametrize("why", ["not announced", "no info", "refused"])
async def test_without_a_websocket_states_are_asked_for(why: str) -> None:
    mint = MemoryMint()
    if why == "not announced":
        mint.without.add(17)
    if why == "refused":
        mint.faults.add(Fault.ERROR_500, "/v1/ws")
    client, quote, _ = await start(mint, info=why != "no info")
    assert await states(client, mint, quote) == [UNPAID, PAID]
    assert asked(mint) == 2
    assert mint.sockets == ()


async def test_a_mint_is_asked_less_and_less_often() -> None:
    mint = MemoryMint()
    mint.without.add(17)
    client, quote, waits = await start(mint)

    def pay(moment: str, request: TransportRequest) -> None:
        if moment == "before" and asked(mint) == 12:
            mint.pay(quote.request)

    mint.hook = pay
    async with aclosing(client.watch(quote.id)) as told:
        assert [(await anext(told)).state for _ in range(2)] == [UNPAID, PAID]
    assert waits.waited[0] == PATIENCE.poll_s
    assert waits.waited == sorted(waits.waited)
    assert waits.waited[-1] == PATIENCE.slowest_poll_s


async def test_while_a_mint_cannot_be_reached_it_is_asked_again() -> None:
    mint = MemoryMint()
    mint.without.add(17)
    client, quote, _ = await start(mint)
    mint.faults.add(Fault.UNREACHABLE, "/v1/mint/quote/*", times=2)
    mint.faults.add(Fault.ACTED_500, "/v1/mint/quote/*", times=1)
    assert await states(client, mint, quote) == [UNPAID, PAID]


async def test_what_a_mint_says_no_to_is_not_asked_for_ever() -> None:
    mint = MemoryMint()
    mint.without.add(17)
    client, quote, _ = await start(mint)
    async with aclosing(client.watch("none")) as told:
        with pytest.raises(MintError):
            await anext(told)
    mint.faults.add(Fault.GARBAGE, "/v1/mint/quote/*")
    async with aclosing(client.watch(quote.id)) as told:
        with pytest.raises(MintMisbehavedError):
            await anext(told)


async def test_a_websocket_that_is_silent_is_not_relied_on(monkeypatch: Any) -> None:
    mint = MemoryMint()
    client, quote, _ = await start(mint, Patience(silent_s=0.01, slowest_silent_s=0.02))
    monkeypatch.setattr(MemorySocket, "tell", lambda self: None)
    assert await states(client, mint, quote) == [UNPAID, PAID]
    assert asked(mint) >= 2


async def test_a_websocket_that_breaks_is_replaced_by_asking() -> None:
    mint = MemoryMint()
    client, quote, _ = await start(mint)
    async with aclosing(client.watch(quote.id)) as told:
        assert (await anext(told)).state == UNPAID
        mint.hang_up()
        mint.lightning.pay(quote.request)
        assert (await anext(told)).state == PAID
    assert asked(mint) == 1


def notice(subscription: str, payload: object) -> str:
    params = {"subId": subscription, "payload": payload}
    return json.dumps({"jsonrpc": "2.0", "method": "subscribe", "params": params})


@pytest.mark.parametrize(
    "message",
    [
        "not json",
        "[]",
        '{"params": 5}',
        '{"jsonrpc": "2.0", "error": {"code": -32601, "message": "no"}, "id": 0}',
        "SUBSCRIBED " + json.dumps({"quote": "x", "state": "PAID"}),
        "SUBSCRIBED " + json.dumps({"amount": -1}),
        '{"x": ' + "[" * 10_000,
    ],
)
async def test_a_websocket_that_says_nonsense_is_left_for_asking(
    message: str, monkeypatch: Any
) -> None:
    def tell(self: MemorySocket) -> None:
        (subscription,) = self._subscriptions
        head, _, payload = message.partition("SUBSCRIBED ")
        self.say(head or notice(subscription.id, json.loads(payload)))

    monkeypatch.setattr(MemorySocket, "tell", tell)
    mint = MemoryMint()
    client, quote, _ = await start(mint)
    async with aclosing(client.watch(quote.id)) as told:
        assert (await anext(told)).state == UNPAID
    assert asked(mint) == 1


async def test_what_others_are_told_is_not_ours(monkeypatch: Any) -> None:
    mint = MemoryMint()
    client, quote, _ = await start(mint)
    other = await client.request_mint(4, "sat")
    tell = MemorySocket.tell

    def confuse(self: MemorySocket) -> None:
        (subscription,) = self._subscriptions
        self.say(notice("another subscription", {"quote": "x"}))
        self.say(notice(subscription.id, self._state("bolt11_mint_quote", other.id)))
        tell(self)

    monkeypatch.setattr(MemorySocket, "tell", confuse)
    async with aclosing(client.watch(quote.id)) as told:
        assert (await anext(told)).id == quote.id
    assert asked(mint) == 0


async def test_a_flood_of_the_same_news_is_cut_off(monkeypatch: Any) -> None:
    mint = MemoryMint()
    client, quote, _ = await start(mint)
    monkeypatch.setattr("wallet.mint.updates._MOST_NEWS_WITHOUT_CHANGE", 50)

    def flood(self: MemorySocket) -> None:
        (subscription,) = self._subscriptions
        for _ in range(60):
            self.say(notice(subscription.id, self._state("bolt11_mint_quote", quote.id)))

    monkeypatch.setattr(MemorySocket, "tell", flood)
    async with asyncio.timeout(20), aclosing(client.watch(quote.id)) as told:
        assert (await anext(told)).state == UNPAID
        mint.lightning.pay(quote.request)
        assert (await anext(told)).state == PAID
    assert asked(mint) >= 1


async def test_a_subscription_can_be_given_up() -> None:
    mint = MemoryMint()
    async with mint.socket() as opened:
        command = {"jsonrpc": "2.0", "id": 0, "method": "subscribe"}
        params = {"kind": "proof_state", "subId": "a", "filters": ["02" + "11" * 32]}
        await opened.send(json.dumps({**command, "params": params}))
        answer, first = json.loads(await opened.recv()), json.loads(await opened.recv())
        assert answer["result"] == {"status": "OK", "subId": "a"}
        assert first["params"]["payload"]["state"] == "UNSPENT"
        gone = {**command, "method": "unsubscribe", "params": {"subId": "a"}}
        await opened.send(json.dumps(gone))
        assert json.loads(await opened.recv())["result"]["status"] == "OK"
        assert opened._subscriptions == []
