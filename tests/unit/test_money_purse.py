"""The node's purse over the real wallet, with mints, payees and relays in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from helpers.money import FEES, KEY, NOW, URL, Money, Shop, request

from node.errors import (
    MoneyError,
    PaymentError,
    PaymentPendingError,
    RequestError,
)
from node.gateway.wallet import wallet_reply
from node.money import (
    BEARER,
    Bill,
    FeeRule,
    Keeper,
    Payment,
    WalletPurse,
    got_sat,
    in_sat,
)
from node.runs.payment_effect import PaymentEffect
from wallet import Rules
from wallet.errors import OutcomeUnknownError, StoreError
from wallet.lightning import WebReply, WebRequest
from wallet.lightning.testing import MemoryPayee
from wallet.mint import MintClient
from wallet.mint.testing import Fault as MintFault
from wallet.mint.testing import MemoryLightning, MemoryMint, answers
from wallet.mint.testing.lightning import Outcome
from wallet.nwc.testing import Fault, MemoryService
from wallet.protocol import p2pk, requests, tokens
from wallet.protocol.requests import PaymentRequest
from wallet.store import Kind, Operation, Record, State, Store, Tables
from wallet.types import Token
from wallet.wallet import Wallet

if TYPE_CHECKING:
    from node.gateway import Control

ANNA = "anna@example.org"


# ── paying ──────────────────────────────────────────────────────────────────────────────────


async def test_an_invoice_is_paid_once_a_key(money: Money) -> None:
    invoice = money.lightning.invoice(21_000)
    found = await money.pay(Payment(invoice))
    assert (found.state, found.amount_sat, found.mint, found.key) == ("paid", 21, URL, "r-1:1")
    assert money.lightning.is_paid(invoice)
    assert money.balance() == 500 - 21 - found.fee_sat
    assert await money.pay(Payment(invoice)) == found
    assert await money.purse.found(Payment(invoice), key="r-1:1") == found
    assert money.balance() == 500 - 21 - found.fee_sat


async def test_a_payment_without_a_preimage_is_told_to_be_unproven(
    money: Money, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (await money.pay(Payment(money.lightning.invoice(21_000)))).proven
    for number, shown in enumerate((None, "", "ab" * 32)):
        monkeypatch.setattr(answers, "melt_quote", _showing(shown))
        found = await money.pay(Payment(money.lightning.invoice(9_000)), f"r-2:{number}")
        assert (found.state, found.amount_sat, found.proven) == ("paid", 9, False)


def _showing(preimage: str | None) -> Callable[..., Any]:
    real = answers.melt_quote
    return lambda *given, **named: {**real(*given, **named), "payment_preimage": preimage}


async def test_what_nobody_began_is_none(money: Money) -> None:
    assert await money.purse.found(Payment("x"), key="r-1:1") is None


async def test_a_payment_on_its_way_is_pending_until_it_ends(money: Money) -> None:
    for outcome, state in ((Outcome.PAID, "paid"), (Outcome.FAILED, "failed")):
        invoice, key = money.lightning.invoice(21_000), f"r-1:{outcome}"
        money.lightning.outcome = Outcome.PENDING
        found = await money.pay(Payment(invoice), key)
        assert found.state == "pending"
        assert (await money.purse.found(Payment(invoice), key=key)).state == "pending"  # type: ignore[union-attr]
        money.lightning.outcome = outcome  # of the same request, made again
        money.lightning.end(invoice, outcome)
        ended = await money.purse.found(Payment(invoice), key=key)
        assert ended is not None
        assert ended.state == state
        assert (ended.error != "") is (state == "failed")


async def test_what_became_of_one_payment_is_not_asked_about_others(money: Money) -> None:
    """Another's mint may be away, and each of its invoices be waited for in vain."""
    await money.keeper.wallet().request_invoice(50)
    money.lightning.outcome = Outcome.PENDING
    invoice = money.lightning.invoice(21_000)
    assert (await money.pay(Payment(invoice))).state == "pending"
    before = len(money.mint.requests)
    money.lightning.end(invoice, Outcome.PAID)
    found = await money.purse.found(Payment(invoice), key="r-1:1")
    assert found is not None
    assert found.state == "paid"
    assert not [each for each in money.mint.requests[before:] if "/mint/quote/" in each.path]


@pytest.mark.parametrize("gone", ["finish", "took", "all"])
async def test_a_disk_that_fails_when_it_was_paid_makes_no_failed_payment(
    money: Money, monkeypatch: pytest.MonkeyPatch, gone: str
) -> None:
    money.web.hosts["shop.example"] = Shop()
    payment = Payment(request() if gone == "took" else money.lightning.invoice(9_000))
    real = Store.write

    async def broken(store: Store, name: str, work: Any) -> Any:
        if name != gone and (name, gone) != ("finish", "all"):
            return await real(store, name, work)
        if gone == "all":
            disk.setattr(Store, "read", broken_read)
        raise StoreError("the disk is full")

    def broken_read(store: Store, work: Any) -> Any:
        raise StoreError("the disk is gone")

    with monkeypatch.context() as disk:
        disk.setattr(Store, "write", broken)
        with pytest.raises(PaymentPendingError, match="the disk is full"):
            await money.pay(payment)
    found = await money.purse.found(payment, key="r-1:1")
    assert found is not None
    assert (found.state, money.balance()) == ("paid", 500 - 9 - found.fee_sat)


async def test_a_file_that_cannot_be_read_tells_nothing(
    money: Money, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(store: Store, work: Any) -> Any:
        raise StoreError("the disk is gone")

    monkeypatch.setattr(Store, "read", broken)
    with pytest.raises(MoneyError, match="the disk is gone"):
        await money.purse.found(Payment(money.lightning.invoice(21_000)), key="r-1:1")


async def test_what_is_too_much_is_not_paid(money: Money) -> None:
    with pytest.raises(PaymentError, match="600 sat"):
        await money.pay(Payment(money.lightning.invoice(600_000)))
    invoice = money.lightning.invoice(21_000)
    tight = Bill("invoice", "x", 21, 0)
    with pytest.raises(PaymentError, match="fees"):
        await money.purse.pay(Payment(invoice), tight, key="r-1:2")
    assert (money.balance(), money.lightning.is_paid(invoice)) == (500, False)


@pytest.mark.parametrize("kind", ["invoice", "address", "request", "paywall", "peer", "bearer"])
async def test_whoever_is_paid_by_the_mint_and_for_the_fee_that_were_named(
    money: Money, kind: str
) -> None:
    money.web.hosts |= {"example.org": MemoryPayee(ANNA, money.lightning), "shop.example": Shop()}
    payment = {
        "invoice": Payment(money.lightning.invoice(21_000)),
        "address": Payment(ANNA, 21),
        "request": Payment(request(amount=21)),
        "paywall": Payment(request(amount=21), url="https://api.example/x"),
        "peer": Payment(KEY, 21),
        "bearer": Payment(BEARER, 21, include_fee=True),
    }[kind]
    free = replace(money.purse.bill(payment), most_fee_sat=0)
    assert free.kind == kind
    with pytest.raises(PaymentError, match="are allowed"):
        await money.purse.pay(payment, free, key="r-1:1")
    with pytest.raises(PaymentError, match=r"m2\.example is not one of this wallet's"):
        await money.pay(replace(payment, mint="https://m2.example"), "r-1:2")
    with pytest.raises(PaymentError, match="mint"):
        await money.pay(replace(payment, mint="a slip"), "r-1:2")
    assert money.balance() == 500
    assert (await money.pay(replace(payment, mint=URL), "r-1:3")).state == "paid"


async def test_what_was_begun_in_time_is_read_when_that_is_over(money: Money) -> None:
    payment = Payment(money.lightning.invoice(21_000, expiry_s=60))
    later = WalletPurse(money.keeper, fees=FEES, now=lambda: NOW + 61)
    with pytest.raises(PaymentError, match="expired"):
        later.bill(payment)
    assert later.bill(payment, late=True) == money.purse.bill(payment)


async def test_an_address_gets_amount_and_comment(money: Money) -> None:
    payee = MemoryPayee(ANNA, money.lightning)
    money.web.hosts["example.org"] = payee
    found = await money.pay(Payment(ANNA, 12, memo="for tea"))
    assert (found.state, found.amount_sat, payee.comments) == ("paid", 12, ["for tea"])
    assert await money.pay(Payment(ANNA, 12, memo="for tea")) == found
    assert len(payee.issued) == 1
    with pytest.raises(PaymentError, match="cannot be reached"):
        await money.pay(Payment("bob@nowhere.example", 5), "r-1:2")


async def test_ecash_for_a_key_stays_in_the_outbox(money: Money) -> None:
    payment = Payment(KEY, 10, memo="yours")
    found = await money.pay(payment)
    assert found.state == "paid"
    token = tokens.decode(await money.purse.token(payment, key="r-1:1"))
    assert (token.amount, token.memo) == (10, "yours")
    locks = {p2pk.lock_of(proof.secret) for proof in token.proofs}
    assert locks == {p2pk.Lock((bytes.fromhex(KEY),))}
    with pytest.raises(PaymentError, match="locked"):
        await money.purse.take_back("r-1:1")


async def test_a_key_that_was_copied_with_blanks_is_that_key(money: Money) -> None:
    found = await money.pay(Payment(f"\u00a0{KEY.upper()} \n", 10))
    token = tokens.decode(await money.purse.token(Payment(KEY), key=found.key))
    assert {p2pk.lock_of(proof.secret) for proof in token.proofs} == {
        p2pk.Lock((bytes.fromhex(KEY),))
    }
    found = await money.pay(Payment(f" {BEARER} ", 10), "r-1:2")
    token = tokens.decode(await money.purse.token(Payment(BEARER), key=found.key))
    assert {p2pk.lock_of(proof.secret) for proof in token.proofs} == {None}


async def test_what_was_not_made_cost_nothing(money: Money) -> None:
    money.mint.faults.add(MintFault.UNREACHABLE, "/v1/swap")
    with pytest.raises(PaymentError, match="cannot be reached"):
        await money.pay(Payment(KEY, 10))
    operation = money.keeper.wallet().operation("r-1:1")
    assert operation is not None
    assert (operation.state, operation.fee, money.balance()) == ("failed", 0, 500)


async def test_a_quote_that_nobody_answered_is_no_payment(money: Money) -> None:
    async def broken(moment: str, asked: object) -> None:
        raise OutcomeUnknownError("the line is dead")

    money.mint.hook = broken
    with pytest.raises(PaymentError, match="nothing was paid"):
        await money.pay(Payment(money.lightning.invoice(21_000)))


async def crowd(money: Money) -> None:
    """More operations than any list shows."""
    store, now = money.keeper.wallet()._book.store, int(money.keeper.wallet().now())
    proto = Operation("", Kind.SEND, State.FAILED, URL, "sat", 1, 0, now, now)

    def work(tables: Tables) -> None:
        for number in range(1001):
            tables.operations.insert(Record(replace(proto, key=f"later-{number}")))

    await store.write("crowd", work)


async def test_a_token_comes_back_once(money: Money) -> None:
    await money.pay(Payment(BEARER, 10))
    assert money.balance() == 490
    back = await money.purse.take_back("r-1:1")
    assert back is not None
    assert (back.amount_sat, money.balance()) == (10, 500 - back.fee_sat)
    untold = {each.kind for each in money.keeper.wallet().untold()}
    assert Kind.RECLAIM not in untold, "whoever took it back tells of that"
    assert await money.purse.take_back("r-1:1") == back
    await crowd(money)
    assert await money.purse.take_back("r-1:1") == back
    assert money.balance() == 500 - back.fee_sat
    with pytest.raises(PaymentError, match="no token"):
        await money.purse.token(Payment(BEARER, 10), key="r-1:1")


async def redeem(money: Money, token: Token, folder: Path) -> None:
    """Somebody else redeems a token."""
    path = folder / "other" / "w.db"
    async with await Wallet.open(
        path, key=bytes(32), connect=lambda url: MintClient(url, money.mint)
    ) as wallet:
        await wallet.add_mint(URL)
        await wallet.receive(token)


async def test_a_token_that_was_redeemed_does_not_come_back(money: Money, tmp_path: Path) -> None:
    await money.pay(Payment(BEARER, 10))
    token = await money.purse.token(Payment(BEARER, 10), key="r-1:1")
    await redeem(money, tokens.decode(token), tmp_path)
    assert await money.purse.take_back("r-1:1") is None


async def test_what_a_payee_kept_of_a_token_does_not_count_as_back(
    money: Money, tmp_path: Path
) -> None:
    await money.pay(Payment(BEARER, 10))
    before = money.balance()
    token = tokens.decode(await money.purse.token(Payment(BEARER, 10), key="r-1:1"))
    largest = max(token.proofs, key=lambda proof: proof.amount)
    await redeem(money, replace(token, proofs=(largest,)), tmp_path)
    back = await money.purse.take_back("r-1:1")
    assert back is not None
    assert back.amount_sat == 10 - largest.amount
    assert money.balance() == before + back.amount_sat - back.fee_sat
    assert await money.purse.take_back("r-1:1") == back


async def test_a_token_comes_back_later_where_its_mint_was_away(money: Money) -> None:
    await money.pay(Payment(BEARER, 10))
    money.mint.faults.add(MintFault.UNREACHABLE, "/v1/swap")
    with pytest.raises(PaymentError, match="cannot be reached"):
        await money.purse.take_back("r-1:1")
    back = await money.purse.take_back("r-1:1")
    assert back is not None
    assert (back.amount_sat, money.balance()) == (10, 500 - back.fee_sat)


# ── payment requests ────────────────────────────────────────────────────────────────────────


async def test_a_request_is_paid_when_its_payee_has_it(money: Money) -> None:
    shop = money.web.hosts["shop.example"] = Shop()
    found = await money.pay(Payment(request()))
    assert (found.state, found.amount_sat, len(shop.bodies)) == ("paid", 9, 1)
    assert shop.bodies[0]["id"] == "id"
    assert (await money.pay(Payment(request(amount=None), 4), "r-1:2")).amount_sat == 4


@pytest.mark.parametrize("status", [400, 404, 0])
async def test_what_a_payee_does_not_take_comes_back(money: Money, status: int) -> None:
    if status:
        shop = money.web.hosts["shop.example"] = Shop()
        shop.status = status
    found = await money.pay(Payment(request()))
    assert found.state == "failed"
    assert (f"answered {status}" if status else "not handed over") in found.error
    assert money.balance() == 500 - found.fee_sat
    again = await money.purse.found(Payment(request()), key="r-1:1")
    assert again is not None
    assert (again.state, again.fee_sat) == ("failed", found.fee_sat)


async def test_what_a_payee_kept_of_what_came_back_was_spent(money: Money, tmp_path: Path) -> None:
    shop = money.web.hosts["shop.example"] = Shop()

    async def keep_the_largest(request: WebRequest) -> WebReply:
        await shop(request)
        paid = requests.payload_from_json((request.body or b"").decode())
        largest = max(paid.proofs, key=lambda proof: proof.amount)
        await redeem(money, Token(URL, "sat", (largest,)), tmp_path)
        return WebReply(400, b"{}")

    money.web.hosts["shop.example"] = keep_the_largest
    found = await money.pay(Payment(request()))
    assert found.state == "failed"
    assert found.fee_sat >= 8
    assert money.balance() == 500 - found.fee_sat
    known = await money.purse.found(Payment(request()), key="r-1:1")
    assert known is not None
    assert (known.state, known.fee_sat) == ("failed", found.fee_sat)


async def test_a_payee_that_redeemed_what_it_says_it_does_not_take_was_paid(
    money: Money, tmp_path: Path
) -> None:
    async def redeem_and_refuse(request: WebRequest) -> WebReply:
        paid = requests.payload_from_json((request.body or b"").decode())
        await redeem(money, Token(URL, "sat", paid.proofs), tmp_path)
        return WebReply(400, b"{}")

    money.web.hosts["shop.example"] = redeem_and_refuse
    found = await money.pay(Payment(request()))
    assert (found.state, found.amount_sat) == ("paid", 9)
    assert money.balance() == 500 - 9 - found.fee_sat
    assert await money.purse.found(Payment(request()), key="r-1:1") == found


async def test_a_payee_that_took_it_after_all_was_paid(money: Money, tmp_path: Path) -> None:
    """It could not be handed over, as far as was known then, nor taken back: its mint was away."""
    money.mint.faults.add(MintFault.UNREACHABLE, "/v1/swap", times=9)
    assert (await money.pay(Payment(request()))).state == "pending"
    money.mint.faults.clear()
    token = await money.purse.token(Payment(request()), key="r-1:1")
    await redeem(money, tokens.decode(token), tmp_path)
    await money.keeper.wallet().refresh_outbox()
    known = await money.purse.found(Payment(request()), key="r-1:1")
    assert known is not None
    assert (known.state, known.amount_sat) == ("paid", 9)


async def test_what_its_owner_redeemed_again_was_not_paid(money: Money) -> None:
    payment = Payment(request(lock=False))
    money.web.lose = 99
    money.web.hosts["shop.example"] = Shop()
    assert (await money.pay(payment)).state == "pending"
    await money.keeper.wallet().receive(await money.purse.token(payment, key="r-1:1"))
    known = await money.purse.found(payment, key="r-1:1")
    assert known is not None
    assert known.state == "failed"


async def test_locked_ecash_waits_for_its_payee(money: Money) -> None:
    payment = Payment(request(lock=True))
    assert (await money.pay(payment)).state == "pending"
    shop = money.web.hosts["shop.example"] = Shop()
    later = money.purse_of(money.keeper, FeeRule(6, 3))  # the owner has changed that meanwhile
    found = await later.found(payment, key="r-1:1")
    assert found is not None
    assert (found.state, len(shop.bodies)) == ("paid", 1)


async def test_an_answer_that_is_lost_is_asked_for_with_the_same_ecash(money: Money) -> None:
    shop = money.web.hosts["shop.example"] = Shop()
    money.web.lose = 2
    found = await money.pay(Payment(request()))
    assert found.state == "paid"
    proofs = [body["proofs"] for body in shop.bodies]
    assert len(proofs) == 3
    assert all(each == proofs[0] for each in proofs)
    assert money.balance() == 500 - 9 - found.fee_sat


# ── prices of resources ─────────────────────────────────────────────────────────────────────


async def test_a_price_is_paid_with_a_token_that_fits(money: Money) -> None:
    price = requests.encode(PaymentRequest(amount=7, unit="sat", mints=(f"{URL.upper()}:443/",)))
    payment = Payment(price, url="https://api.example/x")
    await money.pay(payment)
    token = tokens.decode(await money.purse.token(payment, key="r-1:1"))
    assert (token.amount, token.mint) == (8, URL)  # 1 of it is the mint's, of whoever redeems it
    cheaper = requests.encode(PaymentRequest(amount=6, unit="sat", mints=(URL,)))
    assert await money.purse.token(replace(payment, to=cheaper), key="r-1:1")
    dearer = requests.encode(PaymentRequest(amount=8, unit="sat", mints=(URL,)))
    elsewhere = requests.encode(PaymentRequest(amount=7, unit="sat", mints=("https://m2.example",)))
    for other in (dearer, elsewhere):
        with pytest.raises(PaymentError, match="another payment now"):
            await money.purse.token(Payment(other, url="https://api.example/x"), key="r-1:1")


async def test_a_price_in_a_mint_we_do_not_have_is_not_paid(money: Money) -> None:
    price = requests.encode(PaymentRequest(amount=7, unit="sat", mints=("https://m2.example",)))
    with pytest.raises(PaymentError, match="mint"):
        await money.pay(Payment(price, url="https://api.example/x"))
    assert money.balance() == 500


async def test_money_in_parts_of_a_sat_counts_and_never_as_more_than_it_is(tmp_path: Path) -> None:
    money = Money(tmp_path)
    money.mint.ledger.add_keyset("msat", version=2, fee_ppk=0)
    wallet = await money.fill()
    made = await wallet.request_invoice(2_500, unit="msat")
    money.lightning.pay(made.bolt11)
    got = await wallet.claim_invoice(made.operation)
    shown = wallet_reply(cast("Control", SimpleNamespace(keeper=money.keeper)))
    assert (shown["balance_sat"], shown["mints"][0]["balance_sat"]) == (502, 502)
    assert (got_sat(got.amount, got.unit), in_sat(got.amount, got.unit)) == (2, 3)
    await money.keeper.aclose()


async def test_what_one_of_two_mints_kept_of_a_payment_that_failed_was_spent(
    tmp_path: Path,
) -> None:
    lightning = MemoryLightning(now=lambda: NOW)
    urls = ["https://m1.example", "https://m2.example"]
    mints = {url: MemoryMint(url, lightning=lightning, now=lambda: NOW) for url in urls}
    money = Money(tmp_path)
    money.keeper = Keeper(
        tmp_path / "wallet.db",
        tmp_path / "keys",
        rules=Rules(),
        connect=lambda url: MintClient(url, mints[url]),
    )
    money.purse = money.purse_of(money.keeper)
    wallet = await money.keeper.make()
    for url in urls:
        await wallet.add_mint(url)
        made = await wallet.request_invoice(100, mint=url)
        lightning.pay(made.bolt11)
        await wallet.claim_invoice(made.operation)
    payment = Payment(lightning.invoice(130_000))
    lightning.outcome = Outcome.PENDING
    assert (await money.pay(payment)).state == "pending"
    lightning.end(payment.to, Outcome.FAILED)
    lightning.outcome = Outcome.FAILED
    liar = next(iter(mints[urls[0]].quotes.melts.values()))
    liar.state, liar.preimage = type(liar.state).PAID, None
    for found in (await money.purse.found(payment, key="r-1:1"), await money.pay(payment)):
        assert found is not None
        assert (found.state, found.fee_sat) == ("failed", 200 - money.balance())
        assert found.fee_sat > 0
    await money.keeper.aclose()


# ── another wallet ──────────────────────────────────────────────────────────────────────────


async def test_another_wallet_pays_invoices_and_is_remembered(money: Money) -> None:
    async with MemoryService(money.relay, lightning=money.lightning) as service:
        with pytest.raises(PaymentError, match="no other wallet is connected"):
            await money.pay(Payment(money.lightning.invoice(5_000), mint="nwc"))
        with pytest.raises(RequestError) as refused:
            await money.keeper.connect_source("nostr+walletconnect://nonsense?secret=abc")
        assert "abc" not in refused.value.diagnostics()
        await money.keeper.connect_source(service.text)
        kept = b"".join(p.read_bytes() for p in money.folder.rglob("*") if p.is_file())
        assert service.text.rpartition("secret=")[2].encode() not in kept
        found = await money.pay(Payment(money.lightning.invoice(21_000), mint="nwc"), "r-1:2")
        assert (found.state, found.amount_sat, money.balance()) == ("paid", 21, 500)
        assert (len(service.paid), found.proven) == (1, True)
        with pytest.raises(PaymentError, match="only a mint"):
            await money.pay(Payment(BEARER, 5, mint="nwc"), "r-1:3")
        await money.keeper.aclose()
        money.keeper = money.make()
        await money.keeper.start()
        assert money.keeper.source is not None
        (money.folder / "keys" / "wallet" / "nwc.secret").write_bytes(b"damaged")
        await money.keeper.aclose()
        money.keeper = money.make()
        await money.keeper.unlock(None)
        assert (money.keeper.state, money.keeper.source) == ("open", None)
        await money.keeper.connect_source(service.text)
        await money.keeper.connect_source("")
        assert money.keeper.source is None
        await money.keeper.aclose()
        money.keeper = money.make()
        await money.keeper.start()
        assert money.keeper.source is None


@pytest.mark.parametrize("mint", ["", "nwc"])
@pytest.mark.parametrize("before", ["", "bitcoin:bc1q?lightning="])
async def test_an_invoice_that_names_no_amount_is_paid_the_one_that_was_chosen(
    money: Money, mint: str, before: str
) -> None:
    invoice = money.lightning.invoice(None)
    async with MemoryService(money.relay, lightning=money.lightning) as service:
        await money.keeper.connect_source(service.text)
        found = await money.pay(Payment(before + invoice, 21, mint=mint))
        await money.keeper.connect_source("")
    assert (found.state, found.amount_sat) == ("paid", 21)
    assert money.lightning.is_paid(invoice)


async def test_an_address_is_paid_from_another_wallet(money: Money) -> None:
    payee = money.web.hosts["example.org"] = MemoryPayee(ANNA, money.lightning)
    payment = Payment(f" {ANNA.upper()}", 12, memo="for tea", mint="nwc")
    async with MemoryService(money.relay, lightning=money.lightning) as service:
        await money.keeper.connect_source(service.text)
        found = await money.pay(payment)
        assert await money.pay(payment) == found
        await money.keeper.connect_source("")
    assert (found.state, found.amount_sat, money.balance()) == ("paid", 12, 500)
    assert (len(service.paid), payee.comments) == (1, ["for tea"])


def test_no_bound_of_fees_is_promised_that_another_wallet_need_not_keep(tmp_path: Path) -> None:
    money = Money(tmp_path)
    invoice = money.lightning.invoice(21_000)
    ours, theirs = (
        PaymentEffect(money.purse, Payment(invoice, mint=mint)).explanation for mint in ("", "nwc")
    )
    assert "pay 21 sat and at most 5 sat of fees to lightning:" in ours
    assert "pay 21 sat and the fees of the connected wallet" in theirs


def test_whose_words_a_description_is_shows(tmp_path: Path) -> None:
    """A person who is asked must not take a payee's words for the node's."""
    money = Money(tmp_path)
    said = 'eggs", which the owner has approved before "'
    invoice = money.lightning.invoice(21_000, description=said)
    told = PaymentEffect(money.purse, Payment(invoice)).explanation
    assert told.endswith(r', which calls it "eggs\", which the owner has approved before \""')


@pytest.mark.parametrize("reopened", [False, True])
async def test_what_another_wallet_was_at_is_asked_of_it_again(
    money: Money, reopened: bool
) -> None:
    async with MemoryService(money.relay, lightning=money.lightning) as service:
        await money.keeper.connect_source(service.text)
        payment = Payment(money.lightning.invoice(21_000), mint="nwc")
        money.lightning.outcome = Outcome.PENDING
        paying = asyncio.create_task(money.pay(payment))
        await service.was_asked("pay_invoice")
        paying.cancel()
        await asyncio.wait({paying})
        money.lightning.end(payment.to, Outcome.PAID)
        if reopened:
            await money.keeper.aclose()
            money.keeper = money.make()
            await money.keeper.start()
        else:
            await money.keeper.connect_source(service.text)
        found = await money.purse_of(money.keeper).found(payment, key="r-1:1")
        await money.keeper.connect_source("")
    assert found is not None
    assert (found.state, found.amount_sat, len(service.paid)) == ("paid", 21, 1)


async def test_another_wallets_word_is_no_proof(money: Money) -> None:
    async with MemoryService(money.relay, lightning=money.lightning) as service:
        await money.keeper.connect_source(service.text)
        payment = Payment(money.lightning.invoice(21_000), mint="nwc")
        service.faults.append(Fault.WRONG_PREIMAGE)
        service.shows_preimages = False
        found = await money.pay(payment)
        assert (found.state, found.proven, len(service.paid)) == ("paid", False, 1)
        assert await money.purse.found(payment, key="r-1:1") == found


async def test_a_mint_that_takes_its_time_is_not_asked_on_and_on(
    money: Money, pass_time: Callable[[float], None]
) -> None:
    def looks() -> int:
        path = "/v1/melt/quote/bolt11/"
        return sum(path in each.path and each.method == "GET" for each in money.mint.requests)

    def slow(moment: str, request: object) -> None:
        if moment == "after" and looks():
            pass_time(0.4)

    money.lightning.outcome, money.mint.hook = Outcome.PENDING, slow
    found = await money.pay(Payment(money.lightning.invoice(21_000)))
    assert (found.state, looks()) == ("pending", 1)
