"""Payment requests from both sides, over a payee's server and relay in memory."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wallet.errors import (
    AlreadySpentError,
    FeeTooHighError,
    InsufficientFundsError,
    OutcomeUnknownError,
    ParseError,
    PayeeError,
    PaymentFailedError,
    RefusedError,
    UnreachableError,
    UnsupportedError,
    UntrustedMintError,
    UnverifiedError,
    VerificationError,
    WalletError,
)
from wallet.lightning import WebReply, WebRequest
from wallet.lightning.testing import MemoryPayee, MemoryWeb
from wallet.mint.testing import Fault, Outcome
from wallet.nwc import giftwrap
from wallet.nwc.client import NwcClient
from wallet.nwc.connection import Connection
from wallet.nwc.events import Filter
from wallet.nwc.keys import SecretKey
from wallet.nwc.memory import MemoryRelay
from wallet.nwc.source import NwcSource
from wallet.nwc.testing import Fault as NwcFault
from wallet.nwc.testing import MemoryService
from wallet.operations import requests as flows
from wallet.operations.requesting import RequestPaid
from wallet.operations.results import Rules
from wallet.protocol import curve, nip19, requests, tokens
from wallet.protocol.conditions import Condition
from wallet.protocol.p2pk import Lock
from wallet.protocol.requests import PaymentPayload, PaymentRequest, Transport
from wallet.store import State
from wallet.testing import World
from wallet.wallet import Wallet

POST = Transport("post", "https://shop.example/pay")


class Shop:
    """A payee's server: redeems what is posted to it, and says what a test wants it to say."""

    def __init__(self, wallet: Wallet) -> None:
        self.wallet = wallet
        self.request: PaymentRequest = PaymentRequest()
        self.status: int | None = None
        self.posted: list[PaymentPayload] = []

    async def __call__(self, request: WebRequest) -> WebReply:
        payload = requests.payload_from_json(request.body or b"")
        self.posted.append(payload)
        if self.status is not None:
            return WebReply(self.status, b"no \x1b[31mthanks")
        try:
            await self.wallet.redeem(payload, self.request)
        except WalletError as error:
            return WebReply(400, error.message.encode())
        return WebReply(200, b"{}")


class Town:
    """Ann pays, Bob is paid; between them a web and a relay."""

    def __init__(self, world: World, ann: Wallet, bob: Wallet) -> None:
        self.world, self.ann, self.bob = world, ann, bob
        self.web, self.relay, self.shop = MemoryWeb(), MemoryRelay(), Shop(bob)
        self.web.hosts["shop.example"] = self.shop

    async def ask(self, amount: int | None = 21, **fields: Any) -> PaymentRequest:
        asked = await self.bob.make_request(amount, **{"transports": (POST,), **fields})
        self.shop.request = asked
        return asked

    async def pay(self, request: PaymentRequest | str, **fields: Any) -> RequestPaid:
        return await self.ann.pay_request(request, web=self.web, dial=self.relay, **fields)


@pytest.fixture
async def town(tmp_path: Path) -> AsyncIterator[Town]:
    world = World(tmp_path, mints=2)
    ann, bob = await world.funded("ann", 100), await world.funded("bob", 0)
    yield Town(world, ann, bob)
    await world.close()


# ── the whole way ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("version", ["A", "B"])
async def test_a_request_is_paid_over_http(town: Town, version: Any) -> None:
    asked = await town.ask(description="tea")
    text = requests.encode(asked, version)
    paid = await town.pay(text, key="k")
    assert (paid.amount, paid.unit, paid.via, paid.mint) == (21, "sat", "post", town.world.mint.url)
    assert (town.ann.balance(), town.bob.balance()) == (79, 21)
    assert town.shop.posted[0].id == asked.id
    assert await town.world.missing() == 0


async def test_paying_again_with_the_key_pays_nothing(town: Town) -> None:
    asked = await town.ask()
    await town.pay(asked, key="k")
    await town.ann.refresh_outbox()
    again = await town.pay(asked, key="k")
    assert (again.amount, again.via) == (21, "")
    assert len(town.shop.posted) == 1
    assert town.ann.balance() == 79


async def test_what_its_payee_took_is_not_handed_over_again(town: Town) -> None:
    """To the same ecash, as to a second payment, it may say no."""
    asked = await town.ask(lock=False)
    town.shop.status = 200  # it redeems it later
    paid = await town.pay(asked, key="k")
    town.shop.status = 400
    assert await town.pay(asked, key="k") == paid
    assert len(town.shop.posted) == 1


async def test_a_request_is_paid_over_nostr(town: Town) -> None:
    reader = SecretKey.new()
    profile = str(nip19.Profile(bytes.fromhex(reader.public), ("wss://a.example",)))
    asked = await town.ask(transports=(Transport("nostr", profile, (("n", "17"),)),))
    paid = await town.pay(asked)
    assert paid.via == "nostr"
    wrap = await town.relay.holds(Filter(kinds=(giftwrap.WRAP,), tags={"p": (reader.public,)}))
    rumor = giftwrap.unwrap(reader, wrap)
    payload = requests.payload_from_json(rumor.content)
    assert (await town.bob.redeem(payload, asked)).amount == 21
    with pytest.raises(WalletError):
        giftwrap.unwrap(SecretKey.new(), wrap)


async def test_the_payer_chooses_an_amount(town: Town) -> None:
    asked = await town.ask(None)
    with pytest.raises(RefusedError, match="no amount"):
        await town.pay(asked)
    await town.pay(asked, amount=5)
    assert town.bob.balance() == 5
    with pytest.raises(RefusedError, match="not for 6"):
        await town.pay(await town.ask(5), amount=6)


async def test_a_request_in_band(town: Town) -> None:
    asked = await town.bob.make_request(8)
    with pytest.raises(UnsupportedError, match="the way it came"):
        await town.pay(asked)
    sent = await town.ann.token_for(asked, key="k")
    assert (await town.ann.token_for(asked, key="k")).token == sent.token
    assert (await town.bob.redeem(sent.token, asked)).amount == 8


# ── choosing a mint ─────────────────────────────────────────────────────────────────────────


async def test_the_fullest_mint_that_the_payee_takes(town: Town) -> None:
    one, two = (mint.url for mint in town.world.mints)
    await town.ann.add_mint(two)
    await town.world.fill(town.ann, 30, mint=1)
    await town.bob.add_mint(two)
    assert (await town.pay(await town.ask())).mint == one
    assert (await town.pay(await town.ask(mints=[two]))).mint == two
    assert (await town.pay(await town.ask(5), mint=two)).mint == two
    with pytest.raises(InsufficientFundsError, match="10 sat"):
        await town.pay(await town.ask(10, mints=[two]))


async def test_mints_that_do_not_meet(town: Town) -> None:
    other = town.world.mints[1].url
    asked = replace(await town.ask(), mints=(other, "https://x.example", "http://y.example"))
    with pytest.raises(UntrustedMintError, match="other mints") as caught:
        await town.pay(asked)
    assert "https://x.example" in caught.value.hint
    with pytest.raises(UntrustedMintError):
        await town.bob.make_request(5, mints=[other])
    await town.bob.remove_mint(town.world.mint.url)
    with pytest.raises(UntrustedMintError):
        await town.bob.make_request(5)


async def test_a_mint_whose_fees_are_too_much(tmp_path: Path) -> None:
    world = World(tmp_path, fee_ppk=1_000)
    ann, bob = await world.funded("ann", 20), await world.funded("bob", 0)
    with pytest.raises(InsufficientFundsError):
        await ann.token_for(await bob.make_request(20), key="k")
    assert ann.operation("k") is None
    assert (await ann.token_for(await bob.make_request(10), key="k")).amount == 10
    await world.close()


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"unit": "usd"}, UnsupportedError),
        ({"unit": "msat"}, InsufficientFundsError),
        ({"amount": 0}, RefusedError),
        ({"amount": 1_000}, InsufficientFundsError),
        ({"lock": Condition("SPELL", "x")}, UnsupportedError),
        ({"lock": Condition("P2PK", "02" + "ff" * 32)}, ParseError),
        ({"lock": Condition("HTLC", "00" * 32)}, UnsupportedError),
    ],
)
async def test_requests_that_are_not_paid(
    town: Town, changes: dict[str, Any], error: type[WalletError]
) -> None:
    asked = replace(await town.ask(), **changes)
    with pytest.raises(error):
        await town.pay(asked, key="k")
    assert town.ann.balance() == 100
    assert town.ann.operation("k") is None


async def test_locks_of_several_keys_are_not_made(town: Town) -> None:
    keys = (town.bob.address(), curve.public(b"\7" * 32))
    for lock in (Lock(keys), Lock(keys[:1], sig_all=True)):
        made = lock.condition()
        asked = replace(await town.ask(), lock=made)
        with pytest.raises(UnsupportedError, match="lock"):
            await town.pay(asked)


async def test_a_lock_with_a_time_and_refund(town: Town) -> None:
    made = Lock(
        (town.bob.address(),), locktime=2_000_000_000, refund=(town.ann.address(),)
    ).condition()
    asked = replace(await town.ask(), lock=made)
    sent = await town.ann.token_for(asked)
    flows.check(asked, tokens.decode(sent.token))
    assert (await town.bob.redeem(sent.token, asked)).amount == 21


# ── ways that fail ──────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("way", "error"),
    [
        (Transport("post", "http://shop.example/pay"), RefusedError),
        (Transport("post", "https://127.0.0.1/pay"), RefusedError),
        (Transport("post", "no url"), ParseError),
        (Transport("carrier pigeon", "x"), UnsupportedError),
        (Transport("nostr", "nprofile1x", (("n", "17"),)), ParseError),
        (Transport("nostr", "x", (("n", "4"),)), UnsupportedError),
        (
            Transport("nostr", str(nip19.Profile(bytes(31) + b"\1")), (("n", "17"),)),
            UnsupportedError,
        ),
        (
            Transport(
                "nostr", str(nip19.Profile(b"\xff" * 32, ("wss://a.example",))), (("n", "17"),)
            ),
            ParseError,
        ),
        (
            Transport(
                "nostr", str(nip19.Profile(bytes(31) + b"\1", ("ws://a.example",))), (("n", "17"),)
            ),
            ParseError,
        ),
    ],
)
async def test_ways_that_cannot_be_gone(
    town: Town, way: Transport, error: type[WalletError]
) -> None:
    with pytest.raises(error):
        await town.pay(await town.ask(transports=(way,)), key="k")
    assert town.ann.operation("k") is None  # no ecash was made for nothing
    await town.pay(await town.ask(transports=(way, POST)), key="k")
    assert town.bob.balance() == 21


async def test_a_server_that_is_not_there(town: Town) -> None:
    gone = Transport("post", "https://gone.example/pay")
    asked = await town.ask(transports=(gone,), lock=False)
    with pytest.raises(UnreachableError, match="not handed over"):
        await town.pay(asked, key="k")
    assert town.ann.balance() == 79
    town.web.hosts["gone.example"] = town.shop
    await town.pay(asked, key="k")  # the same ecash
    assert (town.ann.balance(), town.bob.balance()) == (79, 21)


async def test_what_is_not_taken_is_taken_back(town: Town) -> None:
    town.shop.status = 409
    asked = await town.ask(lock=False)
    with pytest.raises(PayeeError, match="409: no") as caught:
        await town.pay(asked, key="k")
    assert str(caught.value).isprintable()
    assert "reclaim" in caught.value.hint
    await town.ann.reclaim("k")
    assert town.ann.balance() == 100
    with pytest.raises(RefusedError, match="taken back"):
        await town.pay(asked, key="k")


@pytest.mark.parametrize("status", [500, 503, 100])
async def test_a_server_that_breaks(town: Town, status: int) -> None:
    town.shop.status = status
    with pytest.raises(OutcomeUnknownError, match=str(status)):
        await town.pay(await town.ask(), key="k")


async def test_a_redirect_is_not_followed(town: Town) -> None:
    town.shop.status = 307
    with pytest.raises(PayeeError, match="307"):
        await town.pay(await town.ask(), key="k")


async def test_an_answer_that_is_lost(town: Town) -> None:
    town.web.lose = 1
    asked = await town.ask()
    with pytest.raises(OutcomeUnknownError):
        await town.pay(asked, key="k")
    assert town.bob.balance() == 21
    await town.pay(asked, key="k")  # the payee says of the same ecash that it has it
    assert (town.ann.balance(), town.bob.balance()) == (79, 21)
    assert await town.world.missing() == 0


async def test_relays_that_refuse(town: Town) -> None:
    relays = ("wss://a.example", "wss://b.example")
    profile = str(nip19.Profile(bytes.fromhex(SecretKey.new().public), relays))
    asked = await town.ask(transports=(Transport("nostr", profile, (("n", "17"),)),))
    town.relay.refusal = "blocked: no"
    with pytest.raises(UnreachableError, match="blocked"):
        await town.pay(asked, key="k")
    town.relay.down = True
    with pytest.raises(UnreachableError):
        await town.pay(asked, key="k")
    town.relay.down, town.relay.refusal = False, ""
    await town.pay(asked, key="k")
    assert town.ann.balance() == 79


async def test_a_relay_that_breaks(town: Town) -> None:
    class Breaking(MemoryRelay):
        def take(self, event: object) -> None:
            self.drop()

    town.relay = Breaking()
    town.relay.deaf = True
    profile = str(nip19.Profile(bytes.fromhex(SecretKey.new().public), ("wss://a.example",)))
    asked = await town.ask(transports=(Transport("nostr", profile, (("n", "17"),)),))
    with pytest.raises(OutcomeUnknownError):
        await town.pay(asked, key="k")


# ── what a payee checks ─────────────────────────────────────────────────────────────────────


async def test_each_request_has_a_key_of_its_own(town: Town) -> None:
    one, two = await town.bob.make_request(5), await town.bob.make_request(5)
    assert one.id != two.id
    assert one.lock != two.lock
    assert one.mints == (town.world.mint.url,)
    token = (await town.ann.token_for(one)).token
    with pytest.raises(VerificationError, match="not locked"):
        await town.bob.redeem(token, two)
    await town.bob.redeem(token, one)


async def payment(town: Town, asked: PaymentRequest, **changes: Any) -> PaymentPayload:
    token = tokens.decode((await town.ann.token_for(asked, key="k")).token)
    made = PaymentPayload(token.mint, token.unit, token.proofs, id=asked.id)
    return replace(made, **changes)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"id": "other"}, RefusedError),
        ({"id": None}, RefusedError),
        ({"unit": "msat"}, RefusedError),
        ({"mint": "https://mint1.example"}, UntrustedMintError),
        ({"mint": "nonsense"}, UntrustedMintError),
    ],
)
async def test_payments_for_something_else(
    town: Town, changes: dict[str, Any], error: type[WalletError]
) -> None:
    asked = await town.ask()
    seen = len(town.world.mint.requests)
    paid = await payment(town, asked)
    with pytest.raises(error):
        await town.bob.redeem(replace(paid, **changes), asked)
    assert len(town.world.mint.requests) - seen <= 1  # the making of it; nobody was asked about it
    assert (await town.bob.redeem(paid, asked)).amount == 21


async def test_too_little_and_too_much(town: Town) -> None:
    asked = await town.bob.make_request(8, lock=False)
    for amount, fits in ((7, False), (8, True), (9, True)):
        token = (await town.ann.send(amount)).token
        if fits:
            assert (await town.bob.redeem(token, asked)).amount == amount
        else:
            with pytest.raises(RefusedError, match="7 sat, 8"):
                await town.bob.redeem(token, asked)


async def test_locks_that_are_not_the_requests(town: Town) -> None:
    asked = await town.bob.make_request(5)
    key = bytes.fromhex((asked.lock or Condition("", "")).data)
    thief = curve.public(b"\7" * 32)
    for lock in (
        {"to": None},
        {"to": thief},
        {"to": key, "locktime": 1_900_000_000, "refund": (thief,)},
    ):
        token = (await town.ann.send(5, **lock)).token
        with pytest.raises(VerificationError, match="not locked"):
            await town.bob.redeem(token, asked)
    token = (await town.ann.send(5, to=key)).token
    await town.bob.redeem(token, asked)


async def test_a_proof_without_dleq(town: Town) -> None:
    asked = await town.ask()
    paid = await payment(town, asked)
    bare = replace(paid, proofs=tuple(replace(proof, dleq=None) for proof in paid.proofs))
    with pytest.raises(UnverifiedError):
        await town.bob.redeem(bare, asked)


async def test_the_same_payment_is_redeemed_once(town: Town) -> None:
    asked = await town.ask()
    paid = await payment(town, asked)
    first = await town.bob.redeem(paid, asked)
    assert first.operation == flows.redemption_key(asked, paid)
    assert await town.bob.redeem(paid, asked) == first  # asked again after a crash, say
    with pytest.raises(AlreadySpentError):
        await town.bob.redeem(paid, asked, key="another")
    assert town.bob.balance() == 21


async def test_a_single_use_request(town: Town) -> None:
    asked = await town.bob.make_request(5, single_use=True, lock=False)
    forged = tokens.decode((await town.ann.send(5)).token)
    spent = (await town.ann.send(5, key="gone")).token
    await town.ann.reclaim("gone")
    with pytest.raises(AlreadySpentError):  # a payment that fails uses nothing up
        await town.bob.redeem(spent, asked)
    await town.bob.redeem(forged, asked)
    with pytest.raises(AlreadySpentError, match="paid already"):
        await town.bob.redeem((await town.ann.send(5)).token, asked)
    assert town.bob.balance() == 5


async def test_a_single_use_request_is_redeemed_once_whatever_the_keys(town: Town) -> None:
    asked = await town.bob.make_request(5, single_use=True, lock=False)
    paid = [(await town.ann.send(5)).token for _ in range(3)]
    told = await asyncio.gather(
        *(town.bob.redeem(each, asked, key=f"k{n}") for n, each in enumerate(paid)),
        return_exceptions=True,
    )
    assert sorted(type(each).__name__ for each in told) == ["AlreadySpentError"] * 2 + ["Received"]
    assert town.bob.balance() == 5
    assert len(town.bob.history()) == 1


async def test_a_single_use_request_paid_by_a_mint_that_is_not_ours(town: Town) -> None:
    world = town.world
    cleo = await world.wallet("cleo", rules=Rules(swap_foreign=True))
    await cleo.add_mint(world.mints[1].url)
    asked = PaymentRequest(id="r", amount=40, unit="sat", single_use=True)
    first, second = [(await town.ann.send(40, mint=world.mint.url)).token for _ in range(2)]
    world.mint.faults.add(Fault.UNREACHABLE, "/v1/swap")
    with pytest.raises(WalletError):  # it was not paid by this
        await cleo.redeem(second, asked, key="k")
    assert (await cleo.redeem(first, asked)).mint == world.mints[1].url
    with pytest.raises(AlreadySpentError, match="request r was paid"):
        await cleo.redeem(second, asked)


async def test_a_single_use_request_was_paid_though_fees_keep_it_at_another_mint(
    town: Town,
) -> None:
    cleo = await town.world.wallet("cleo", rules=Rules(swap_foreign=True))
    await cleo.add_mint(town.world.mints[1].url)
    asked = PaymentRequest(id="r", amount=2, unit="sat", single_use=True)
    first, second = [(await town.ann.send(2, mint=town.world.mint.url)).token for _ in range(2)]
    with pytest.raises(FeeTooHighError, match="fees would take all"):
        await cleo.redeem(first, asked)
    with pytest.raises(AlreadySpentError, match="request r was paid"):
        await cleo.redeem(second, asked)


@pytest.mark.parametrize("fault", [Fault.UNREACHABLE, Fault.LOST_REQUEST, Fault.LOST_REPLY])
async def test_redeeming_goes_on_when_the_mint_is_back(town: Town, fault: Fault) -> None:
    asked = await town.ask(single_use=True)
    paid = await payment(town, asked)
    faults = town.world.mint.faults
    for _ in range(2):
        faults.add(fault, "/v1/swap")
        faults.add(Fault.UNREACHABLE, times=9)
        with pytest.raises(WalletError, match="cannot be reached"):
            await town.bob.redeem(paid, asked)
        faults.clear()
    taken = await town.bob.redeem(paid, asked)
    assert taken.amount == town.bob.balance() == 21
    assert await town.bob.redeem(paid, asked) == taken


async def test_a_request_without_anything_takes_anything(town: Town) -> None:
    flows.check(PaymentRequest(), tokens.decode((await town.ann.send(3)).token), answers="x")


async def test_amounts_are_checked_when_a_request_is_made(town: Town) -> None:
    for amount in (0, -1, 2**63):
        with pytest.raises(RefusedError):
            await town.bob.make_request(amount)


@given(
    body=st.binary(max_size=50)
    | st.dictionaries(
        st.sampled_from(["id", "mint", "unit", "proofs", "memo"]),
        st.none() | st.integers() | st.text(max_size=5) | st.lists(st.none(), max_size=2),
    )
    .map(json.dumps)
    .map(str.encode)
)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_payloads_of_anything(body: bytes) -> None:
    with contextlib.suppress(ParseError):
        payload = requests.payload_from_json(body)
        with pytest.raises(WalletError):
            flows.check(PaymentRequest(id="x", amount=2**60), flows._read(payload)[0])


# ── Lightning addresses ─────────────────────────────────────────────────────────────────────


@pytest.fixture
def ada(town: Town) -> MemoryPayee:
    payee = MemoryPayee("ada@pay.example", town.world.lightning)
    town.web.hosts["pay.example"] = payee
    return payee


async def test_a_lightning_address_is_paid(town: Town, ada: MemoryPayee) -> None:
    paid = await town.ann.pay_address("Ada@pay.example", 21, comment="hi", key="k", web=town.web)
    assert (paid.state, paid.amount) == ("paid", 21)
    assert town.world.lightning.is_paid(ada.issued[0])
    assert ada.comments == ["hi"]
    again = await town.ann.pay_address("ada@pay.example", 21, key="k", web=town.web)
    assert again == paid
    assert len(ada.issued) == 1
    with pytest.raises(RefusedError, match="another amount"):
        await town.ann.pay_address("ada@pay.example", 22, key="k", web=town.web)


async def test_a_payment_to_an_address_that_waits(town: Town, ada: MemoryPayee) -> None:
    town.world.lightning.outcome = Outcome.PENDING
    paid = await town.ann.pay_address("ada@pay.example", 21, key="k", web=town.web)
    assert paid.state == "pending"
    town.world.lightning.end(ada.issued[0], Outcome.PAID)
    paid = await town.ann.pay_address("ada@pay.example", 21, key="k", web=town.web)
    assert paid.state == "paid"
    assert len(ada.issued) == 1


async def test_a_payment_to_an_address_that_failed(town: Town, ada: MemoryPayee) -> None:
    town.world.lightning.outcome = Outcome.FAILED
    for _ in range(2):
        with pytest.raises(PaymentFailedError):
            await town.ann.pay_address("ada@pay.example", 21, key="k", web=town.web)
    assert len(ada.issued) == 1
    assert town.ann.balance() == 100


async def test_an_address_that_is_none(town: Town) -> None:
    with pytest.raises(UnreachableError):
        await town.ann.pay_address("ada@gone.example", 21, key="k", web=town.web)
    with pytest.raises(RefusedError):
        await town.ann.pay_address("ada@gone.example", 0, web=town.web)
    with pytest.raises(RefusedError, match="this machine"):
        await town.ann.pay_address("ada@127.0.0.1", 1)
    assert town.ann.operation("k") is None


# ── another wallet pays ─────────────────────────────────────────────────────────────────────


async def test_a_connected_wallet_pays_an_address(town: Town, ada: MemoryPayee) -> None:
    relay = MemoryRelay()
    async with MemoryService(
        relay, lightning=town.world.lightning, now=lambda: town.world.time_s
    ) as service:
        client = NwcClient(
            Connection.parse(service.text), dial=relay, now=lambda: town.world.time_s
        )
        source = NwcSource(client, now=lambda: town.world.time_s)
        paid = await town.ann.pay_address_from(source, "ada@pay.example", 21, key="k", web=town.web)
        assert (paid.state, paid.amount_msat, paid.fee_msat) == ("paid", 21_000, 1_000)
        again = await town.ann.pay_address_from(
            source, "ada@pay.example", 21, key="k", web=town.web
        )
        assert again == paid
        assert len(service.paid) == len(ada.issued) == 1
        client.payment_s = 0.05
        service.faults.append(NwcFault.SILENT)
        paid = await town.ann.pay_address_from(source, "ada@pay.example", 7, key="l", web=town.web)
        assert paid.state == "pending"
        town.world.time_s += 100_000
        ended = await town.ann.recover()
        assert [(each.key, each.state) for each in ended] == [("l", State.FAILED)]
        assert len(service.paid) == 1
        assert town.ann.balance() == 100
        await source.aclose()
