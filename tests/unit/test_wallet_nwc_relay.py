"""The relay's client against a relay in memory that misbehaves."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from wallet.errors import ParseError, RelayError, RelayLostError
from wallet.nwc import relay as relays
from wallet.nwc import subscription
from wallet.nwc.events import Event, Filter
from wallet.nwc.keys import SecretKey
from wallet.nwc.memory import MemoryRelay, Session
from wallet.nwc.relay import Relay
from wallet.nwc.websocket import check_url

KEY = SecretKey(bytes(31) + b"\7")
NOW = 1_700_000_000
ALL = Filter(authors=(KEY.public,))


class Waits:
    """Instead of sleeping: notes how long, and returns when the test says so."""

    def __init__(self) -> None:
        self.asked: asyncio.Queue[float] = asyncio.Queue()
        self.go = asyncio.Semaphore(0)

    async def __call__(self, delay_s: float) -> None:
        self.asked.put_nowait(delay_s)
        await self.go.acquire()


def note(text: str, key: SecretKey = KEY, at: int = NOW) -> Event:
    return Event.make(key, 1, text, now=at)


@pytest.fixture
def memory() -> MemoryRelay:
    return MemoryRelay()


@pytest.fixture
def waits() -> Waits:
    return Waits()


@pytest.fixture
async def relay(memory: MemoryRelay, waits: Waits) -> AsyncIterator[Relay]:
    made = Relay("ws://localhost", dial=memory, timeout_s=5, sleep=waits)
    yield made
    await made.aclose()


async def test_events_come_once_stored_then_new(memory: MemoryRelay, relay: Relay) -> None:
    first, second = note("1"), note("2", at=NOW + 1)
    await relay.publish(first)
    async with relay.subscribe(ALL) as events:
        assert await events.stored() == (first,)
        await relay.publish(second)
        assert await anext(events) == second
    assert await relay.query(ALL) == (second, first)
    assert await relay.query(Filter(authors=(KEY.public,), limit=1)) == (second,)
    assert await relay.query(Filter(kinds=(2,))) == ()
    assert memory.connections == 1


async def test_a_refusal_and_a_duplicate(memory: MemoryRelay, relay: Relay) -> None:
    await relay.publish(note("1"))
    await relay.publish(note("1"))
    memory.refusal = "blocked: \x1b[31m" + "x" * 1_000
    with pytest.raises(RelayError, match="blocked") as caught:
        await relay.publish(note("2"))
    assert "\x1b" not in str(caught.value)
    assert len(str(caught.value)) < 400
    assert note("2").id not in memory.stored


async def test_no_connection(memory: MemoryRelay, relay: Relay) -> None:
    memory.down = True
    with pytest.raises(RelayError):
        await relay.publish(note("1"))
    with pytest.raises(RelayError):
        await relay.query(ALL)
    memory.down = False
    await relay.publish(note("1"))


async def test_a_dial_that_hangs() -> None:
    async def dial(url: str) -> Session:
        await asyncio.Event().wait()
        raise AssertionError

    relay = Relay("ws://localhost", dial=dial, timeout_s=0.01)
    with pytest.raises(RelayError, match="in time"):
        await relay.publish(note("1"))
    await relay.aclose()


async def test_an_acknowledgement_that_never_comes(memory: MemoryRelay) -> None:
    memory.deaf = True
    relay = Relay("ws://localhost", dial=memory, timeout_s=0.01)
    with pytest.raises(RelayLostError):
        await relay.publish(note("1"))
    assert len(memory.stored) == 1
    await relay.aclose()


async def test_a_query_that_is_never_answered(memory: MemoryRelay) -> None:
    class Mute(Session):
        def end_of_stored(self) -> None: ...

        def put(self, frame: str) -> None:
            if "EOSE" not in frame:
                super().put(frame)

    async def dial(url: str) -> Session:
        return Mute(memory)

    relay = Relay("ws://localhost", dial=dial, timeout_s=0.01)
    with pytest.raises(RelayError, match="query"):
        await relay.query(ALL)
    await relay.aclose()


async def test_a_connection_that_breaks_is_made_again(
    memory: MemoryRelay, relay: Relay, waits: Waits
) -> None:
    async with relay.subscribe(ALL) as events:
        await events.stored()
        memory.down = True
        memory.drop()
        for expected in (*relays.DELAYS_S, relays.DELAYS_S[-1]):
            assert await waits.asked.get() == expected
            waits.go.release()
        memory.down = False
        memory.take(note("while it was away"))
        waits.go.release()
        assert (await anext(events)).content == "while it was away"
        memory.take(note("afterwards"))
        assert (await anext(events)).content == "afterwards"
    assert memory.connections == 2


async def test_nobody_listens_nobody_connects(
    memory: MemoryRelay, relay: Relay, waits: Waits
) -> None:
    async with relay.subscribe(ALL) as events:
        await events.stored()
        memory.drop()
        await waits.asked.get()
    waits.go.release()
    await asyncio.gather(*relay._tasks)
    assert memory.connections == 1
    assert await relay.query(ALL) == ()  # but whoever asks anew is connected anew
    assert memory.connections == 2


async def test_a_break_while_publishing(memory: MemoryRelay, relay: Relay) -> None:
    await relay.query(ALL)
    memory.deaf = True
    publishing = asyncio.create_task(relay.publish(note("1")))
    await memory.holds(ALL)
    memory.drop()
    with pytest.raises(RelayLostError, match="broke"):
        await publishing


async def test_what_was_not_asked_for_is_dropped(memory: MemoryRelay, relay: Relay) -> None:
    memory.sloppy = True
    stranger = note("stranger", SecretKey.new())
    async with relay.subscribe(ALL) as events:
        await events.stored()
        wrong = {**note("forged").to_json(), "content": "altered"}
        for frame in (
            "no json",
            "{}",
            "[]",
            "[1]",
            "[" * 100_000,
            '["EVENT"]',
            '["EVENT", {}]',
            '["EVENT", "s1"]',
            '["EVENT", "s1", 5]',
            '["EOSE", "other"]',
            '["NOTICE", "hello"]',
            '["OK"]',
            '["OK", 5, true]',
            f'["OK", "{note("mine").id}", "yes"]',
            json.dumps(["EVENT", "s1", wrong]),
            json.dumps(["EVENT", "s1", stranger.to_json()]),
        ):
            memory.tell(frame)
        memory.take(stranger)
        memory.take(note("mine"))
        memory.take(note("mine"))
        memory.take(note("last"))
        assert (await anext(events)).content == "mine"
        assert (await anext(events)).content == "last"


async def test_a_flood_is_bounded(memory: MemoryRelay, relay: Relay) -> None:
    async with relay.subscribe(ALL) as events:
        await events.stored()
        made = note("0")
        for number in range(subscription.QUEUED + 5):
            events.take(Event(f"{number:064x}", made.pubkey, NOW, 1, (), "", ""))
        assert events._queue.qsize() == subscription.QUEUED
        for _ in range(subscription.QUEUED):
            await anext(events)
        events._seen.update((f"{number}", None) for number in range(subscription.REMEMBERED))
        events.take(made)
        assert await anext(events) == made


@pytest.mark.parametrize("frame", ["[null]", '["EOSE", "s1"]', '["NOTICE", "hello"]'])
async def test_a_relay_that_only_talks_nonsense_is_hung_up_on(
    memory: MemoryRelay, relay: Relay, waits: Waits, frame: str
) -> None:
    async with relay.subscribe(ALL) as events:
        await events.stored()
        for number in range(2):  # what says something in between is no nonsense
            for _ in range(relays.PATIENCE - 1):
                memory.tell(frame)
            memory.take(note(f"{number}"))
            assert (await anext(events)).content == f"{number}"
        assert memory.connections == 1
        for _ in range(relays.PATIENCE):
            memory.tell(frame)
        assert await waits.asked.get() == relays.DELAYS_S[0]
        assert not memory._sessions
        waits.go.release()
        memory.take(note("later"))
        assert (await anext(events)).content == "later"
    assert memory.connections == 2


async def test_a_subscription_the_relay_ends(memory: MemoryRelay, relay: Relay) -> None:
    async with relay.subscribe(ALL) as events:
        await events.stored()
        memory.end("auth-required: who are you")
        with pytest.raises(RelayError, match="who are you"):
            await anext(events)


async def test_closing_ends_what_waits(memory: MemoryRelay) -> None:
    relay = Relay("ws://localhost", dial=memory)
    async with relay.subscribe(ALL) as events:
        await events.stored()
        await relay.aclose()
        with pytest.raises(RelayError, match="closed"):
            await anext(events)
    with pytest.raises(RelayError, match="closed"):
        await relay.publish(note("1"))
    assert not memory._sessions


async def test_a_connection_that_breaks_at_once(memory: MemoryRelay, waits: Waits) -> None:
    class Brittle(Session):
        async def send(self, text: str) -> None:
            self.close()
            raise RelayLostError("broke")

    made: list[Session] = []

    async def dial(url: str) -> Session:
        made.append((Brittle if len(made) < 2 else Session)(memory))
        memory._sessions.append(made[-1])
        return made[-1]

    relay = Relay("ws://localhost", dial=dial, sleep=waits)
    waits.go.release()
    waits.go.release()
    async with relay.subscribe(ALL) as events:
        assert await events.stored() == ()
    assert len(made) == 3
    await relay.aclose()


async def test_the_memory_relay_tells_what_it_cannot_read(memory: MemoryRelay) -> None:
    session = await memory("")
    for frame in (
        "x",
        '["EVENT"]',
        '["EVENT", {}]',
        '["REQ", "a", {"?": 1}]',
        '["HELLO"]',
        '["REQ", [], {}]',
    ):
        await session.send(frame)
        assert json.loads(await session.receive())[0] == "NOTICE"
    session.close()
    with pytest.raises(RelayLostError):
        await session.send("x")


@pytest.mark.parametrize(
    "url",
    [
        "wss://relay.example.com",
        "wss://relay.example.com:444/path?x=1",
        "ws://localhost:7777",
        "ws://127.0.0.1",
        "ws://[::1]:80",
        "ws://umbrel.local",
        "ws://192.168.1.2",
        "ws://abc.onion",
    ],
)
def test_addresses_of_relays(url: str) -> None:
    assert check_url(url) == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        "relay.example.com",
        "https://relay.example.com",
        "ws://relay.example.com",
        "ws://8.8.8.8",
        "wss://",
        "wss://a:0",
        "wss://a:99999",
        "wss://u:p@relay.example.com",
        "wss://a/#f",
        "wss://a b",
        "wss://[::1",
        "wss://ä.example",
        "wss://a\n",
    ],
)
def test_no_address_of_a_relay(url: str) -> None:
    with pytest.raises(ParseError):
        check_url(url)
