"""NIP-47 against a wallet service in memory: what was paid, what is said, and what is unknown."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wallet.errors import (
    InsufficientFundsError,
    OutcomeUnknownError,
    ParseError,
    PaymentFailedError,
    RefusedError,
    RelayError,
    RelayLostError,
    UnsupportedError,
    WalletError,
)
from wallet.mint.testing import MemoryLightning, Outcome
from wallet.nwc import messages
from wallet.nwc.client import NwcClient
from wallet.nwc.connection import Connection
from wallet.nwc.events import Filter
from wallet.nwc.keys import SecretKey
from wallet.nwc.memory import MemoryRelay
from wallet.nwc.messages import NotFoundError, State
from wallet.nwc.source import NwcSource
from wallet.nwc.testing import Fault, MemoryService
from wallet.protocol import invoices
from wallet.types import CLOCK_S

NOW = 1_700_000_000
PREIMAGE = b"\5" * 32
HASH = sha256(PREIMAGE).digest()


class Clock:
    def __init__(self) -> None:
        self.now = float(NOW)

    def __call__(self) -> float:
        return self.now


class World:
    """A relay, a service, a client and a source, on one clock."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self.relay, self.clock = MemoryRelay(), Clock()
        self.lightning = MemoryLightning(now=self.clock)
        self.invoice = invoices.read(self.lightning.invoice(21_000))
        self.open = invoices.read(self.lightning.invoice(None))
        self.hash = self.invoice.payment_hash
        found = self.lightning.find(self.invoice.text)
        self.preimage = found.preimage if found else b""
        self._stack = stack

    async def start(self, **options: str) -> World:
        self.service = await self._stack.enter_async_context(
            MemoryService(self.relay, lightning=self.lightning, now=self.clock, **options)  # type: ignore[arg-type]
        )
        self.client = NwcClient(
            Connection.parse(self.service.text),
            dial=self.relay,
            now=self.clock,
            answer_s=5,
            payment_s=5,
        )
        self.source = NwcSource(self.client, now=self.clock)
        self._stack.push_async_callback(self.source.aclose)
        return self

    def hurry(self) -> None:
        """Answers are not waited for."""
        self.client.payment_s = 0.05

    def next(self, *faults: Fault) -> None:
        self.service.faults.extend(faults)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        yield await World(stack).start()


@pytest.fixture
async def make() -> AsyncIterator[Callable[[], World]]:
    async with AsyncExitStack() as stack:
        yield lambda: World(stack)


# ── what works ──────────────────────────────────────────────────────────────────────────────


async def test_paying_an_invoice(world: World) -> None:
    paid = await world.client.pay_invoice(world.invoice.text)
    assert paid == messages.Paid(world.preimage, 1_000)
    assert world.preimage.hex() not in repr(paid)
    assert world.service.paid == [world.hash]
    assert await world.client.balance_msat() == 1_000_000 - 22_000
    found = await world.client.lookup(world.hash)
    assert (found.state, found.amount_msat, found.fee_msat) == (State.SETTLED, 21_000, 1_000)
    assert not found.incoming


async def test_an_invoice_of_ones_own(world: World) -> None:
    made = await world.client.make_invoice(5_000, description="tea", expiry_s=60)
    invoice = invoices.read(made.invoice or "")
    assert (invoice.amount_msat, invoice.description) == (5_000, "tea")
    assert invoice.payment_hash == made.payment_hash
    assert invoice.expires == made.expires == NOW + 60
    assert made.incoming
    assert made.state is State.PENDING
    world.lightning.pay(invoice.text)
    assert (await world.client.lookup(invoice.payment_hash)).state is State.SETTLED
    assert await world.source.balance_msat() == 1_005_000
    assert (await world.source.make_invoice(1_000)).incoming


async def test_an_amount_of_the_payers(world: World) -> None:
    await world.source.pay_invoice(world.open, amount_msat=7_000)
    assert await world.source.balance_msat() == 1_000_000 - 8_000


@pytest.mark.parametrize(
    ("named", "amount_msat"), [(False, None), (False, 0), (False, -1), (True, 21_000)]
)
async def test_amounts_that_cannot_be(world: World, named: bool, amount_msat: int | None) -> None:
    invoice = world.invoice if named else world.open
    with pytest.raises(ParseError):
        await world.source.pay_invoice(invoice, amount_msat=amount_msat)
    assert world.service.asked == []


async def test_an_expired_invoice_is_not_even_asked_for(world: World) -> None:
    world.clock.now = world.invoice.expires + CLOCK_S
    with pytest.raises(RefusedError, match="expired"):
        await world.source.pay_invoice(world.invoice)
    assert world.service.asked == []


# ── negotiation ─────────────────────────────────────────────────────────────────────────────


async def test_info_is_asked_for_once(world: World) -> None:
    info = await world.client.info()
    assert info.encryptions == {"nip44_v2", "nip04"}
    assert "pay_invoice" in info.methods
    assert await world.client.info() is info
    assert await world.client.info(again=True) == info


@pytest.mark.parametrize("encryptions", ["nip04", "", "nip44_v3"])
async def test_a_service_without_nip44(make: Callable[[], World], encryptions: str) -> None:
    world = await make().start(encryptions=encryptions)
    with pytest.raises(UnsupportedError, match="NIP-04"):
        await world.client.pay_invoice(world.invoice.text)
    assert world.service.asked == []
    world.service._encryptions = "nip44_v2"
    world.clock.now += 1
    world.relay.take(world.service.info())
    await world.client.pay_invoice(world.invoice.text)  # it was updated, and is asked again


async def test_a_method_that_is_not_allowed(make: Callable[[], World]) -> None:
    world = await make().start(methods="get_balance")
    with pytest.raises(UnsupportedError, match="pay_invoice"):
        await world.client.pay_invoice(world.invoice.text)
    assert world.service.asked == []
    assert await world.client.balance_msat() == 1_000_000


async def test_a_service_nobody_heard_of(world: World) -> None:
    world.relay.stored.clear()
    with pytest.raises(UnsupportedError, match="not published"):
        await world.client.balance_msat()


async def test_no_relay_no_payment(world: World) -> None:
    world.relay.down = True
    world.relay.drop()
    with pytest.raises(PaymentFailedError, match="nothing was paid"):
        await world.source.pay_invoice(world.invoice)


async def test_a_relay_that_refuses_requests(world: World) -> None:
    await world.client.info()
    world.relay.refusal = "restricted: pay first"
    with pytest.raises(PaymentFailedError, match="pay first"):
        await world.source.pay_invoice(world.invoice)
    assert world.service.asked == []


async def test_one_relay_of_two_is_enough(make: Callable[[], World]) -> None:
    world = await make().start()
    dead, alive = MemoryRelay(), world.relay
    dead.down = True

    async def dial(url: str) -> object:
        return await (dead if "dead" in url else alive)(url)

    text = world.service.text + "&relay=wss://dead.example"
    client = NwcClient(Connection.parse(text), dial=dial, now=world.clock)  # type: ignore[arg-type]
    assert (await client.pay_invoice(world.invoice.text)).preimage == world.preimage
    alive.down = True
    alive.drop()
    with pytest.raises(RelayError):
        await client.balance_msat()
    await client.aclose()


# ── faults: never paid twice, never guessed ─────────────────────────────────────────────────

KNOWN = [Fault.LOST, Fault.GARBAGE, Fault.NOT_JSON, Fault.OTHER_METHOD, Fault.ERROR_AFTER]
KNOWN += [Fault.WRONG_PREIMAGE, Fault.DUPLICATE, Fault.WRONG_AUTHOR]


@pytest.mark.parametrize("fault", KNOWN, ids=lambda fault: fault.name)
async def test_an_answer_that_fails_is_looked_up(world: World, fault: Fault) -> None:
    world.hurry()
    world.relay.sloppy = True
    world.next(fault)
    paid = await world.source.pay_invoice(world.invoice)
    assert paid.preimage == world.preimage
    assert world.service.paid == [world.hash]
    assert world.service.asked.count("pay_invoice") == 1


async def test_old_answers_sent_again_say_nothing(world: World) -> None:
    world.relay.sloppy = True
    assert await world.client.balance_msat() == 1_000_000
    world.next(Fault.REPLAY)
    assert (await world.source.pay_invoice(world.invoice)).preimage == world.preimage
    world.next(Fault.REPLAY)
    assert await world.client.balance_msat() == 978_000


@pytest.mark.parametrize("fault", [Fault.SILENT, Fault.ERROR], ids=lambda fault: fault.name)
async def test_what_is_not_known_is_not_guessed(world: World, fault: Fault) -> None:
    world.hurry()
    world.next(fault)
    with pytest.raises(OutcomeUnknownError):
        await world.source.pay_invoice(world.invoice)
    assert world.service.paid == []
    assert world.service.asked.count("pay_invoice") == 1
    world.clock.now += 10**6
    with pytest.raises(OutcomeUnknownError):
        await world.source.settle(world.invoice, asked=NOW)


async def test_a_payment_under_way_that_arrives(world: World) -> None:
    world.hurry()
    world.lightning.outcome = Outcome.PENDING
    with pytest.raises(OutcomeUnknownError, match="pending"):
        await world.source.pay_invoice(world.invoice)
    world.lightning.end(world.invoice.text, Outcome.PAID)
    assert (await world.source.settle(world.invoice, asked=NOW)).preimage == world.preimage


async def test_a_payment_under_way_that_comes_back(world: World) -> None:
    world.hurry()
    world.lightning.outcome = Outcome.PENDING
    with pytest.raises(OutcomeUnknownError):
        await world.source.pay_invoice(world.invoice)
    world.lightning.end(world.invoice.text, Outcome.FAILED)
    with pytest.raises(PaymentFailedError):
        await world.source.settle(world.invoice, asked=NOW)


async def test_never_asked_and_expired_is_never_paid(world: World) -> None:
    await world.source.pay_invoice(world.open, amount_msat=1_000)
    lost = invoices.read(world.lightning.invoice(2_000))
    world.clock.now = NOW + 5 + CLOCK_S
    with pytest.raises(OutcomeUnknownError):  # the request may still be under way
        await world.source.settle(lost, asked=NOW, known=world.open.payment_hash)
    world.clock.now += 1
    with pytest.raises(OutcomeUnknownError):  # it may be a service that only finds invoices
        await world.source.settle(lost, asked=NOW)
    with pytest.raises(OutcomeUnknownError):
        await world.source.settle(lost, asked=NOW, known=b"\1" * 32)
    with pytest.raises(PaymentFailedError, match="never paid"):
        await world.source.settle(lost, asked=NOW, known=world.open.payment_hash)


async def test_a_service_that_answers_nobody_now_says_nothing_of_a_payment(world: World) -> None:
    await world.source.pay_invoice(world.open, amount_msat=1_000)
    world.clock.now += 10**6
    lost, known = invoices.read(world.lightning.invoice(2_000)), world.open.payment_hash
    world.service.error = {"code": "RATE_LIMITED", "message": "slow down"}
    world.next(Fault.DUPLICATE, Fault.ERROR)
    with pytest.raises(OutcomeUnknownError):
        await world.source.settle(lost, asked=NOW, known=known)
    with pytest.raises(PaymentFailedError, match="never paid"):
        await world.source.settle(lost, asked=NOW, known=known)


async def test_a_service_that_forgets(world: World) -> None:
    await world.source.pay_invoice(world.open, amount_msat=1_000)
    world.service.remembers = False
    world.clock.now += 10**6
    with pytest.raises(OutcomeUnknownError):
        await world.source.settle(world.invoice, asked=NOW, known=world.open.payment_hash)


async def test_settled_without_a_proof_is_paid_all_the_same(world: World) -> None:
    await world.source.pay_invoice(world.invoice)
    world.service.entries[world.hash].preimage = None
    paid = await world.source.settle(world.invoice, asked=NOW)
    assert paid.preimage is None
    assert paid.fee_msat == 1_000


async def test_an_invoice_is_not_its_payment(world: World) -> None:
    made = await world.source.make_invoice(1_000)
    with pytest.raises(OutcomeUnknownError, match="not of its payment"):
        await world.source.settle(invoices.read(made.invoice or ""), asked=NOW)


async def test_a_request_that_was_kept_too_long_is_not_acted_on(world: World) -> None:
    world.hurry()
    await world.client.info()
    world.relay.deaf = True
    asking = world.client._request(
        messages.request("pay_invoice", {"invoice": world.invoice.text}), 5
    )
    world.clock.now += 7
    world.relay.take(asking)
    assert await world.client.balance_msat() == 1_000_000
    assert world.service.paid == []


async def test_a_subscription_that_ends_leaves_the_outcome_open(world: World) -> None:
    await world.client.info()
    world.lightning.outcome = Outcome.PENDING
    paying = asyncio.create_task(world.client.pay_invoice(world.invoice.text))
    await world.service.was_asked("pay_invoice")
    world.relay.end("shutting down")
    with pytest.raises(RelayLostError, match="shutting down"):
        await paying


async def test_a_connection_that_breaks_while_waiting(world: World) -> None:
    """The answer comes over the next connection, from what the relay kept."""
    await world.client.info()
    for relay in world.client._relays:
        relay._sleep = lambda delay_s: asyncio.sleep(0)
    world.lightning.outcome = Outcome.PENDING
    paying = asyncio.create_task(world.client.pay_invoice(world.invoice.text))
    await world.service.was_asked("pay_invoice")
    request = await world.relay.holds(Filter(kinds=(messages.REQUEST_KIND,)))
    for session in tuple(world.relay._sessions):
        if session._wanted and "s2" in session._wanted:
            session.close()
    answer = {"result_type": "pay_invoice", "result": {"preimage": world.preimage.hex()}}
    await world.service._send(request, answer, None)
    assert (await paying).preimage == world.preimage


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("RATE_LIMITED", RefusedError),
        ("NOT_IMPLEMENTED", UnsupportedError),
        ("INSUFFICIENT_BALANCE", InsufficientFundsError),
        ("QUOTA_EXCEEDED", RefusedError),
        ("RESTRICTED", RefusedError),
        ("UNAUTHORIZED", RefusedError),
        ("UNSUPPORTED_ENCRYPTION", UnsupportedError),
        ("PAYMENT_FAILED", PaymentFailedError),
        ("NOT_FOUND", NotFoundError),
        ("INTERNAL", OutcomeUnknownError),
        ("OTHER", OutcomeUnknownError),
        ("SOMETHING_NEW", OutcomeUnknownError),
    ],
)
async def test_errors_of_the_service(world: World, code: str, kind: type[WalletError]) -> None:
    world.service.error = {"code": code, "message": "because\x1b\n"}
    world.next(Fault.ERROR)
    with pytest.raises(kind, match=f"{code}: because") as caught:
        await world.client.pay_invoice(world.invoice.text)
    assert type(caught.value) is kind
    assert str(caught.value).isprintable()


async def test_not_enough(world: World) -> None:
    world.service.balance_msat = 21_999
    with pytest.raises(InsufficientFundsError):
        await world.source.pay_invoice(world.invoice)
    with pytest.raises(NotFoundError):
        await world.client.lookup(world.hash)


async def test_no_route(world: World) -> None:
    world.lightning.outcome = Outcome.FAILED
    with pytest.raises(PaymentFailedError):
        await world.source.pay_invoice(world.invoice)
    with pytest.raises(PaymentFailedError):
        await world.source.settle(world.invoice, asked=NOW)


async def test_a_second_payment_of_one_invoice(world: World) -> None:
    await world.client.pay_invoice(world.invoice.text)
    with pytest.raises(OutcomeUnknownError, match="paid"):
        await world.client.pay_invoice(world.invoice.text)
    assert world.service.paid == [world.hash]


async def test_many_at_once(world: World) -> None:
    answers = await asyncio.gather(*(world.client.balance_msat() for _ in range(20)))
    assert answers == [1_000_000] * 20
    assert world.relay.connections == 2  # the service's and the client's


# ── answers that make no sense ──────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[" * 100_000,
        "[]",
        "{}",
        '{"result_type": "other", "result": {}}',
        '{"result_type": "m"}',
        '{"result_type": "m", "result": []}',
        '{"result_type": "m", "error": "no"}',
        '{"result_type": "m", "error": []}',
        '{"result_type": "m", "error": {}}',
        '{"result_type": "m", "error": {"code": ["PAYMENT_FAILED"], "message": {}}}',
    ],
)
def test_no_result(text: str) -> None:
    with pytest.raises(OutcomeUnknownError):
        messages.result(text, "m")


def fields(**changes: object) -> dict[str, object]:
    usual = {"type": "outgoing", "payment_hash": HASH.hex(), "amount": 1, "state": "settled"}
    return {**usual, **changes}


@pytest.mark.parametrize(
    "wrong",
    [
        {"type": None},
        {"payment_hash": "00"},
        {"payment_hash": 5},
        {"amount": -1},
        {"amount": 1.0},
        {"amount": True},
        {"amount": 2**63},
        {"amount": None},
        {"state": "paid"},
        {"state": []},
        {"preimage": "zz"},
        {"invoice": 5},
        {"created_at": "now"},
    ],
)
def test_no_transaction(wrong: dict[str, object]) -> None:
    with pytest.raises(OutcomeUnknownError):
        messages.transaction(fields(**wrong))


def test_transactions_of_older_services() -> None:
    assert messages.transaction(fields(state=None)).state is None
    assert messages.transaction(fields(state=None, settled_at=5)).state is State.SETTLED
    assert messages.transaction(fields(state="SETTLED")).state is State.SETTLED
    assert messages.transaction(fields(fees_paid=-1)).fee_msat is None
    assert messages.transaction(fields(payment_hash=HASH.hex().upper())).payment_hash == HASH
    assert messages.paid({"preimage": PREIMAGE.hex(), "fees_paid": 0.5}).fee_msat is None


@pytest.mark.parametrize(
    ("ask", "result"),
    [
        ("lookup", fields(payment_hash="00" * 32)),
        ("make", fields(type="incoming", amount=2, invoice="x")),
        ("make", fields(type="incoming", amount=1)),
        ("make", fields(amount=1, invoice="x")),
    ],
)
async def test_answers_about_something_else(
    world: World, ask: str, result: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(world.service, "_look_up", lambda *_: result)
    monkeypatch.setattr(world.service, "_make", lambda *_: result)
    with pytest.raises(OutcomeUnknownError):
        await (world.client.lookup(HASH) if ask == "lookup" else world.client.make_invoice(1))


ANYTHING = st.none() | st.integers() | st.floats() | st.text() | st.lists(st.integers(), max_size=2)


@given(
    st.text()
    | st.dictionaries(st.sampled_from(["result_type", "error", "result"]), ANYTHING).map(json.dumps)
)
def test_answers_of_anything(text: str) -> None:
    with pytest.raises(WalletError):
        messages.result(text, "m")


@given(st.sampled_from([*fields(), "fees_paid", "preimage", "created_at", "invoice"]), ANYTHING)
def test_transactions_of_anything(name: str, value: object) -> None:
    with contextlib.suppress(OutcomeUnknownError):
        made = messages.transaction(fields(**{name: value}))
        assert made.amount_msat >= 0
        assert len(made.payment_hash) == 32


# ── connection strings ──────────────────────────────────────────────────────────────────────

SERVICE, SECRET = SecretKey(bytes(31) + b"\3").public, "00" * 31 + "09"
TEXT = f"nostr+walletconnect://{SERVICE}?relay=wss%3A%2F%2Fr.example&secret={SECRET}"


def test_a_connection_string() -> None:
    found = Connection.parse(f" {TEXT}&relay=wss://s.example/x&lud16=me@x.example\n")
    assert found.service == SERVICE
    assert found.relays == ("wss://r.example", "wss://s.example/x")
    assert found.address == "me@x.example"
    assert found.key.public == SecretKey(bytes.fromhex(SECRET)).public
    assert SECRET not in repr(found)


@pytest.mark.parametrize(
    "text",
    [
        TEXT.replace("://", ":"),
        TEXT.replace("nostr+walletconnect", "NOSTR+WalletConnect"),
        TEXT.replace("nostr+walletconnect", "nostrwalletconnect"),
        TEXT.replace(SERVICE, SERVICE.upper()),
        TEXT.replace(SERVICE, SERVICE + "/"),
        TEXT + "&other=1",
    ],
)
def test_other_forms_of_it(text: str) -> None:
    assert Connection.parse(text).service == SERVICE


@pytest.mark.parametrize(
    "text",
    [
        "",
        "https://example.com",
        SERVICE,
        TEXT.replace(SERVICE, "f" * 64),
        TEXT.replace(SERVICE, SERVICE[:-1]),
        TEXT.replace("secret", "sekret"),
        TEXT + f"&secret={SECRET}",
        TEXT.replace(SECRET, SECRET[:-1]),
        TEXT.replace(SECRET, "00" * 32),
        TEXT.replace(SECRET, "ff" * 32),
        TEXT.replace("relay", "rely"),
        TEXT.replace("wss", "ws"),
        TEXT + "&x=%ff",
        TEXT + "&a=1" * 40,
        TEXT + "".join(f"&relay=wss://{n}.example" for n in range(9)),
        TEXT + "&x=" + "y" * 5_000,
        "nostr+walletconnect://[?relay=x&secret=y",
    ],
)
def test_no_connection_string(text: str) -> None:
    with pytest.raises(ParseError) as caught:
        Connection.parse(text)
    shown = f"{caught.value} {caught.value.hint} {caught.value.__cause__!r}"
    assert SECRET[:-1] not in shown
    assert caught.value.__cause__ is None


@given(st.text() | st.text().map(lambda text: TEXT[:100] + text) | st.text().map(TEXT.__add__))
def test_connection_strings_of_anything(text: str) -> None:
    with contextlib.suppress(ParseError):
        assert Connection.parse(text).service == SERVICE
