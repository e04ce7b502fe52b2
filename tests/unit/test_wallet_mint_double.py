"""The mint in memory: a real mint's arithmetic, against the client and by itself."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable
from contextlib import aclosing
from dataclasses import replace

import pytest

from wallet.errors import (
    MintError,
    MintMisbehavedError,
    MintUnreachableError,
    OutcomeUnknownError,
    VerificationError,
)
from wallet.mint import MintClient
from wallet.mint.testing import Fault, MemoryLightning, MemoryMint, Outcome, Purse
from wallet.protocol import dleq, htlc, quotes
from wallet.protocol.curve import public, random_scalar, y_of
from wallet.protocol.outputs import finish, finish_blank, output
from wallet.protocol.p2pk import Lock
from wallet.types import (
    BlindedMessage,
    MeltQuoteState,
    MintQuoteState,
    Proof,
    ProofState,
    TransportRequest,
)

KEY = b"\x11" * 32
OTHER = b"\x22" * 32


class Clock:
    """Time that tests move."""

    def __init__(self) -> None:
        self.time = 1_800_000_000.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def mint(clock: Clock) -> MemoryMint:
    return MemoryMint(now=clock)


@pytest.fixture
def client(mint: MemoryMint) -> MintClient:
    return MintClient(mint.url, mint)


@pytest.fixture
def purse(client: MintClient, mint: MemoryMint) -> Purse:
    return Purse(client, pay=mint.pay)


def total(proofs: tuple[Proof, ...]) -> int:
    return sum(proof.amount for proof in proofs)


async def code_of(work: Awaitable[object]) -> int:
    """The code that the mint refuses with."""
    with pytest.raises(MintError) as caught:
        await work
    return caught.value.code


# ── minting ─────────────────────────────────────────────────────────────────────────────────


async def test_ecash_comes_for_a_paid_quote_and_verifies(mint: MemoryMint, purse: Purse) -> None:
    proofs = await purse.fill(21)
    keyset = await purse.keyset()
    for proof in proofs:
        dleq.check(proof, keyset)
    assert (total(proofs), mint.issued(), mint.redeemed(), mint.outstanding()) == (21, 21, 0, 21)


async def test_a_quote_is_minted_once_and_not_before_it_is_paid(
    client: MintClient, mint: MemoryMint, purse: Purse
) -> None:
    quote = await client.request_mint(8, "sat", description="tea")
    made = [each.message for each in await purse.outputs(8)]
    assert quote.state == MintQuoteState.UNPAID
    assert await code_of(client.mint(quote.id, made)) == 20001
    mint.pay(quote.request)
    assert (await client.mint_quote(quote.id)).state == MintQuoteState.PAID
    wrong = [each.message for each in await purse.outputs(7)]
    assert await code_of(client.mint(quote.id, wrong)) == 11005
    await client.mint(quote.id, made)
    assert (await client.mint_quote(quote.id)).state == MintQuoteState.ISSUED
    again = [each.message for each in await purse.outputs(8)]
    assert await code_of(client.mint(quote.id, again)) == 20002
    assert mint.issued() == 8


async def test_a_locked_quote_needs_its_key(
    client: MintClient, mint: MemoryMint, purse: Purse
) -> None:
    quote = await client.request_mint(4, "sat", pubkey=public(KEY))
    assert quote.pubkey == public(KEY)
    mint.pay(quote.request)
    made = [each.message for each in await purse.outputs(4)]
    assert await code_of(client.mint(quote.id, made)) == 20008
    wrong = quotes.sign(quote.id, made, OTHER)
    assert await code_of(client.mint(quote.id, made, signature=wrong)) == 20008
    await client.mint(quote.id, made, signature=quotes.sign(quote.id, made, KEY))


async def test_quotes_are_minted_in_one_batch(
    client: MintClient, mint: MemoryMint, purse: Purse
) -> None:
    locked = await client.request_mint(4, "sat", pubkey=public(KEY))
    plain = await client.request_mint(3, "sat")
    wanted = {locked.id: 4, plain.id: 3}
    made = [each.message for each in await purse.outputs(7)]
    signed = {locked.id: quotes.sign(locked.id, made, KEY)}
    mint.pay(locked.request)
    assert await code_of(client.mint_batch(wanted, made, signatures=signed)) == 20001
    mint.pay(plain.request)
    states = [each.state for each in await client.mint_quotes([locked.id, plain.id])]
    assert states == [MintQuoteState.PAID] * 2
    assert await code_of(client.mint_batch(wanted, made)) == 20008
    assert await code_of(client.mint_batch({locked.id: 7}, made, signatures=signed)) == 11005
    assert len(await client.mint_batch(wanted, made, signatures=signed)) == len(made)
    assert mint.issued() == 7


async def test_batches_with_repeated_or_too_many_quotes_are_refused(
    mint: MemoryMint, client: MintClient
) -> None:
    quote = await client.request_mint(4, "sat")
    body = {"quotes": [quote.id, quote.id], "outputs": []}
    path = "/v1/mint/bolt11/batch"
    assert await raw(mint, path, body) == (400, 11016)
    many = {"quotes": [f"quote-{n}" for n in range(101)], "outputs": []}
    assert await raw(mint, path, many) == (400, 11017)


async def raw(mint: MemoryMint, path: str, body: object) -> tuple[int, int]:
    """Status and code of a request that no honest client makes."""
    response = await mint.send(TransportRequest("POST", path, json.dumps(body).encode()))
    return response.status, json.loads(response.body).get("code", 0)


# ── swapping ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(("fee_ppk", "left"), [(0, 31), (100, 30), (1000, 26)])
async def test_a_swap_costs_the_fee_of_its_inputs(version: int, fee_ppk: int, left: int) -> None:
    mint = MemoryMint(fee_ppk=fee_ppk, keyset_version=version)
    purse = Purse(MintClient(mint.url, mint), pay=mint.pay)
    proofs = await purse.fill(31)  # five proofs
    new = await purse.redeem(proofs)
    assert total(new) == left
    assert mint.outstanding() == left
    assert {len(proof.id) for proof in new} == {16 if version == 1 else 66}


async def test_what_does_not_balance_is_refused_and_nothing_is_spent(
    client: MintClient, mint: MemoryMint, purse: Purse
) -> None:
    proofs = await purse.fill(8)
    for amount in (7, 9):
        made = [each.message for each in await purse.outputs(amount)]
        assert await code_of(client.swap(proofs, made)) == 11005
    assert await client.check([y_of(p.secret) for p in proofs]) == (ProofState.UNSPENT,)
    assert mint.redeemed() == 0


async def test_a_proof_is_spent_once(client: MintClient, purse: Purse) -> None:
    proofs = await purse.fill(8)
    await purse.redeem(proofs)
    assert await client.check([y_of(p.secret) for p in proofs]) == (ProofState.SPENT,)
    assert await code_of(purse.redeem(proofs)) == 11001


async def test_inputs_that_are_no_ecash_are_refused(
    client: MintClient, mint: MemoryMint, purse: Purse
) -> None:
    (proof,) = await purse.fill(8)
    made = [each.message for each in await purse.outputs(8)]
    refused = {
        replace(proof, secret="another"): 10001,
        replace(proof, c=public(KEY)): 10001,
        replace(proof, amount=16): 10001,
        replace(proof, amount=7): 10001,
        replace(proof, id="00" + "ab" * 7): 12001,
        replace(proof, c=b"\x02" + b"\xff" * 32): 10001,
    }
    for forged, code in refused.items():
        assert await code_of(client.swap([forged], made)) == code
    assert await code_of(client.swap([proof, proof], made)) == 11007
    assert await raw(mint, "/v1/swap", {"inputs": [], "outputs": []}) == (400, 11000)


async def test_outputs_that_cannot_be_signed_are_refused(
    client: MintClient, mint: MemoryMint, purse: Purse
) -> None:
    mint.ledger.add_keyset("msat", version=2, fee_ppk=0)
    (proof,) = await purse.fill(8)
    first, second = [[each.message for each in await purse.outputs(8)] for _ in range(2)]
    old = (await purse.keyset()).id
    other = mint.ledger.active("msat").info.id
    one = first[0]
    refused: list[tuple[list[BlindedMessage], int]] = [
        ([one, one], 11008),
        ([replace(one, id=other)], 11010),
        ([replace(one, id="01" + "ab" * 32)], 12001),
        ([replace(one, b=b"\x02" + b"\xff" * 32)], 0),
        ([replace(one, amount=5), replace(second[0], amount=3)], 11006),
    ]
    for outputs, code in refused:
        assert await code_of(client.swap([proof], outputs)) == code
    mint.rotate()
    assert await code_of(client.swap([proof], first)) == 12002
    await purse.redeem([proof])
    assert (await purse.keyset()).id != old
    (again,) = await purse.fill(8)
    used = [*mint.ledger.signed.values()][-1]
    made = next(b for b, signature in mint.ledger.signed.items() if signature is used)
    assert await code_of(client.swap([again], [BlindedMessage(8, used.id, made)])) == 11003


async def test_old_keysets_are_redeemed_until_they_expire(
    mint: MemoryMint, purse: Purse, clock: Clock
) -> None:
    early = mint.rotate(final_expiry=int(clock.time) + 60)
    one, two = await purse.fill(4), await purse.fill(4)
    assert {proof.id for proof in (*one, *two)} == {early}
    late = mint.rotate(fee_ppk=1000)
    assert {proof.id for proof in await purse.redeem(one)} == {late}
    clock.time += 61
    assert await code_of(purse.redeem(two)) == 12003


async def test_units_do_not_mix(mint: MemoryMint, client: MintClient, purse: Purse) -> None:
    mint.ledger.add_keyset("msat", version=2, fee_ppk=0)
    small = Purse(client, unit="msat", pay=mint.pay)
    sats, msats = await purse.fill(4), await small.fill(4)
    made = [each.message for each in await purse.outputs(8)]
    assert await code_of(client.swap([*sats, *msats], made)) == 11009
    assert (mint.issued("sat"), mint.issued("msat")) == (4, 4)


# ── conditions ──────────────────────────────────────────────────────────────────────────────


async def test_locked_ecash_opens_to_its_key_only(purse: Purse) -> None:
    for sig_all in (False, True):
        locked = await purse.fill(5, lock=Lock((public(KEY),), sig_all=sig_all))
        assert await code_of(purse.redeem(locked)) == 10001
        assert await code_of(purse.redeem(locked, keys=[OTHER])) == 10001
        assert total(await purse.redeem(locked, keys=[KEY])) == 5


async def test_a_lock_that_ran_out_opens_to_its_refund_key(purse: Purse, clock: Clock) -> None:
    lock = Lock((public(KEY),), locktime=int(clock.time) + 10, refund=(public(OTHER),))
    locked = await purse.fill(4, lock=lock)
    assert await code_of(purse.redeem(locked, keys=[OTHER])) == 10001
    clock.time += 11
    assert total(await purse.redeem(locked, keys=[OTHER])) == 4


async def test_a_hash_lock_opens_to_its_preimage(client: MintClient, purse: Purse) -> None:
    preimage = bytes(range(32))
    lock = Lock((public(KEY),), hash=htlc.hash_of(preimage))
    locked = await purse.fill(4, lock=lock)
    assert await code_of(purse.redeem(locked, keys=[KEY])) == 10001
    assert await code_of(purse.redeem(locked, preimage=preimage)) == 10001
    assert total(await purse.redeem(locked, keys=[KEY], preimage=preimage)) == 4


# ── melting ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("fee_ppk", "change"), [(0, 35), (100, 34), (1000, 32)])
async def test_paying_an_invoice_gives_change(fee_ppk: int, change: int) -> None:
    mint = MemoryMint(fee_ppk=fee_ppk)
    purse = Purse(MintClient(mint.url, mint), pay=mint.pay)
    invoice = mint.lightning.invoice(60_000)
    proofs = await purse.fill(96)  # 64 + 32
    mint.lightning.fee_msat = 900  # a sat
    if fee_ppk == 1000:
        change += 1
    paid, back = await purse.melt(invoice, proofs)
    assert paid.state == MeltQuoteState.PAID
    assert mint.lightning.is_paid(invoice)
    assert total(back) == change
    assert mint.outstanding() == change
    assert paid.preimage == mint.lightning.pay(invoice).hex()


async def test_a_pending_payment_holds_its_inputs_until_it_ends(
    client: MintClient, mint: MemoryMint, purse: Purse
) -> None:
    mint.lightning.outcome = Outcome.PENDING
    for end, state in ((Outcome.FAILED, ProofState.UNSPENT), (Outcome.PAID, ProofState.SPENT)):
        invoice = mint.lightning.invoice(8_000)
        proofs = await purse.fill(16)
        ys = [y_of(p.secret) for p in proofs]
        blanks = [output(1, proofs[0].id, f"blank {end} {n}", random_scalar()) for n in range(3)]
        messages = [each.message for each in blanks]
        quote = await client.request_melt(invoice, "sat")
        paid = await client.melt(quote.id, proofs, messages)
        assert paid.state == MeltQuoteState.PENDING
        assert await client.check(ys) == (ProofState.PENDING,)
        assert await code_of(purse.redeem(proofs)) == 11002
        assert await code_of(client.melt(quote.id, proofs, messages)) == 20005
        others = await purse.fill(16)
        again = await client.request_melt(invoice, "sat")
        assert await code_of(client.melt(again.id, others, ())) == 20005
        assert await code_of(client.swap(others, messages)) == 11004
        mint.lightning.end(invoice, end)
        assert await client.check(ys) == (state,)
    ended = await client.melt_quote(quote.id)
    keyset = await purse.keyset()
    change = finish_blank(blanks, ended.change, keyset, require_dleq=True)
    assert (ended.state, total(change)) == (MeltQuoteState.PAID, 7)
    found = await client.restore(messages)
    assert [signature for _, signature in found] == list(ended.change)


async def test_a_failed_payment_leaves_the_inputs(mint: MemoryMint, purse: Purse) -> None:
    mint.lightning.outcome = Outcome.FAILED
    invoice, proofs = mint.lightning.invoice(8_000), await purse.fill(16)
    assert await code_of(purse.melt(invoice, proofs)) == 20004
    mint.lightning.outcome = Outcome.PAID
    paid, _ = await purse.melt(invoice, proofs)
    assert paid.state == MeltQuoteState.PAID
    assert await code_of(purse.melt(invoice, proofs)) == 20006


async def test_what_cannot_be_paid_is_refused(
    client: MintClient, mint: MemoryMint, purse: Purse, clock: Clock
) -> None:
    lightning, proofs = mint.lightning, await purse.fill(8)
    short = await client.request_melt(lightning.invoice(8_000), "sat")
    assert await code_of(client.melt(short.id, proofs, ())) == 11000
    late = await client.request_melt(lightning.invoice(1_000, expiry_s=9_999), "sat")
    nameless = lightning.invoice(None)
    named = lightning.invoice(5_000)
    assert await code_of(client.request_melt(nameless, "sat")) == 11011
    assert await code_of(client.request_melt(named, "sat", amount_msat=4_000)) == 11012
    assert await code_of(client.request_melt(named, "sat", mpp_msat=6_000)) == 11006
    assert await code_of(client.request_melt("lnbcrt1nobody", "sat")) == 20000
    assert await code_of(client.request_melt(named, "usd")) == 11013  # type: ignore[arg-type]
    assert await code_of(client.melt_quote("none")) == 0
    clock.time += 3601
    assert await code_of(client.melt(late.id, proofs, ())) == 20007
    assert await code_of(client.request_melt(named, "sat")) == 20007


async def test_an_invoice_without_an_amount_is_paid_as_asked(
    client: MintClient, mint: MemoryMint, purse: Purse
) -> None:
    await client.info()
    invoice = mint.lightning.invoice(None)
    quote = await client.request_melt(invoice, "sat", amount_msat=4_500)
    assert quote.amount == 5
    paid = await client.melt(quote.id, await purse.fill(8), ())
    assert (paid.state, paid.change) == (MeltQuoteState.PAID, ())


async def test_two_mints_pay_an_invoice_in_parts(clock: Clock) -> None:
    network = MemoryLightning(now=clock)
    mints = [MemoryMint(f"https://{n}.example", lightning=network, now=clock) for n in "ab"]
    clients = [MintClient(mint.url, mint) for mint in mints]
    purses = [Purse(c, pay=m.pay) for c, m in zip(clients, mints, strict=True)]
    invoice = network.invoice(20_000)
    quotes_ = [await c.request_melt(invoice, "sat", mpp_msat=10_000) for c in clients]
    first = await clients[0].melt(quotes_[0].id, await purses[0].fill(16), ())
    assert first.state == MeltQuoteState.PENDING
    second = await clients[1].melt(quotes_[1].id, await purses[1].fill(16), ())
    assert second.state == MeltQuoteState.PAID
    assert (await clients[0].melt_quote(first.id)).state == MeltQuoteState.PAID
    assert network.is_paid(invoice)


async def test_one_mint_pays_the_invoice_of_another(clock: Clock) -> None:
    network = MemoryLightning(now=clock)
    mints = [MemoryMint(f"https://{n}.example", lightning=network, now=clock) for n in "ab"]
    from_, to = (Purse(MintClient(m.url, m), pay=m.pay) for m in mints)
    quote = await to.mint.request_mint(8, "sat")
    await from_.melt(quote.request, await from_.fill(16))
    assert (await to.mint.mint_quote(quote.id)).state == MintQuoteState.PAID


# ── restore ─────────────────────────────────────────────────────────────────────────────────


async def test_what_was_signed_can_be_had_again(client: MintClient, purse: Purse) -> None:
    proofs = await purse.fill(3)
    made, never = await purse.outputs(3), await purse.outputs(1)
    messages = [each.message for each in made]
    signed = await client.swap(proofs, messages)
    blank = [replace(m, amount=0) for m in (*messages, never[0].message)]
    found = await client.restore(blank)
    assert [signature for _, signature in found] == list(signed)
    assert [message for message, _ in found] == blank[:2]
    keyset = await purse.keyset()
    assert finish_blank(made, [s for _, s in found], keyset, require_dleq=True) == finish(
        made, signed, keyset, require_dleq=True
    )


async def test_many_are_asked_for_in_parts(client: MintClient, mint: MemoryMint) -> None:
    ys = [y_of(str(number)) for number in range(401)]
    assert await client.check(ys) == (ProofState.UNSPENT,) * 401
    assert len(mint.requests) == 3
    assert await client.check([]) == ()


# ── replies that are kept, and faults ───────────────────────────────────────────────────────


async def test_a_lost_reply_is_had_again_where_the_mint_keeps_it() -> None:
    mint = MemoryMint(cached=True)
    client = MintClient(mint.url, mint)
    purse = Purse(client, pay=mint.pay)
    await client.info()
    proofs = await purse.fill(4)
    mint.faults.add(Fault.LOST_REPLY, "/v1/swap")
    assert total(await purse.redeem(proofs)) == 4
    assert mint.redeemed() == 4


async def test_a_lost_reply_stays_unknown_where_the_mint_does_not_keep_it(
    mint: MemoryMint, client: MintClient, purse: Purse
) -> None:
    await client.info()
    proofs = await purse.fill(4)
    mint.faults.add(Fault.LOST_REPLY, "/v1/swap")
    with pytest.raises(OutcomeUnknownError):
        await purse.redeem(proofs)
    assert await client.check([y_of(p.secret) for p in proofs]) == (ProofState.SPENT,)


async def test_a_mint_that_lies_about_keeping_replies_does_not_look_like_refusing() -> None:
    mint = MemoryMint(cached=True)
    client = MintClient(mint.url, mint)
    purse = Purse(client, pay=mint.pay)
    await client.info()
    mint.without.add(19)  # it said so, and does not
    proofs = await purse.fill(4)
    mint.faults.add(Fault.LOST_REPLY, "/v1/swap")
    with pytest.raises(OutcomeUnknownError):
        await purse.redeem(proofs)


BEFORE = {Fault.UNREACHABLE, Fault.LOST_REQUEST, Fault.ERROR_500, Fault.NOT_A_MINT}
RAISES: dict[Fault, type[Exception]] = {
    Fault.UNREACHABLE: MintUnreachableError,
    Fault.NOT_A_MINT: MintError,
    Fault.GARBAGE: MintMisbehavedError,
    Fault.CUT_OFF: MintMisbehavedError,
    Fault.WRONG_AMOUNTS: MintMisbehavedError,
    Fault.FEWER: MintMisbehavedError,
    Fault.NEGATIVE: MintMisbehavedError,
    Fault.FLOATS: MintMisbehavedError,
    Fault.WRONG_SIGNATURES: VerificationError,
    Fault.WRONG_DLEQ: VerificationError,
    Fault.NO_DLEQ: VerificationError,
}


@pytest.mark.parametrize("fault", sorted(set(Fault) - {Fault.NO_ANSWER}))
async def test_each_fault_is_told_from_the_others(
    fault: Fault, mint: MemoryMint, purse: Purse
) -> None:
    proofs = await purse.fill(6)
    mint.faults.add(fault, "/v1/swap")
    with pytest.raises(RAISES.get(fault, OutcomeUnknownError)):
        await purse.redeem(proofs)
    assert mint.redeemed() == (0 if fault in BEFORE else 6)
    mint.faults.clear()


async def test_a_mint_that_never_answers_can_be_given_up(mint: MemoryMint, purse: Purse) -> None:
    proofs = await purse.fill(4)
    mint.faults.add(Fault.NO_ANSWER, "/v1/swap")
    arrived = asyncio.Event()
    mint.hook = lambda moment, _: arrived.set() if moment == "after" else None
    work = asyncio.create_task(purse.redeem(proofs))
    await arrived.wait()
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work


async def test_the_hook_sees_each_request_twice_and_may_stop_it(
    mint: MemoryMint, purse: Purse
) -> None:
    proofs = await purse.fill(4)
    seen: list[str] = []

    async def hook(moment: str, request: TransportRequest) -> None:
        seen.append(f"{moment} {request.path}")
        if (moment, request.path) == ("before", "/v1/swap"):
            raise KeyboardInterrupt

    mint.hook = hook
    with pytest.raises(KeyboardInterrupt):
        await purse.redeem(proofs)
    assert seen[-1] == "before /v1/swap"
    assert "after /v1/keysets" in seen
    assert mint.redeemed() == 0


async def test_requests_that_are_none_are_refused(mint: MemoryMint) -> None:
    async def ask(path: str) -> int:
        return (await mint.send(TransportRequest("GET", path))).status

    assert await raw(mint, "/v1/swap", {"inputs": 1}) == (422, 0)
    assert await raw(mint, "/v1/nowhere", {}) == (404, 0)
    assert [await ask(path) for path in ("/v1/nowhere", "/v2/info")] == [404, 404]
    many = [{"amount": 1, "id": "00", "B_": "02" + "00" * 32}] * 1001
    assert await raw(mint, "/v1/restore", {"outputs": many}) == (400, 11015)
    proof = {"amount": 1, "id": "00", "secret": "s", "C": "02" + "00" * 32}
    assert await raw(mint, "/v1/swap", {"inputs": [proof] * 1001, "outputs": []}) == (400, 11014)
    assert await raw(mint, "/v1/checkstate", {"Ys": ["02" + "00" * 32] * 1001}) == (400, 11014)
    assert await raw(mint, "/v1/mint/quote/bolt11", {"amount": 0, "unit": "sat"}) == (400, 11006)
    assert await raw(mint, "/v1/mint/quote/bolt11", {"amount": 1, "unit": "eur"}) == (400, 11013)
    mint.without |= {9, 15, 29}
    assert await raw(mint, "/v1/restore", {"outputs": []}) == (404, 0)
    wish = {"request": "x", "unit": "sat", "options": {"mpp": {"amount": 1}}}
    assert await raw(mint, "/v1/melt/quote/bolt11", wish) == (400, 0)


# ── updates ─────────────────────────────────────────────────────────────────────────────────


async def test_changes_come_by_websocket(client: MintClient, mint: MemoryMint) -> None:
    await client.info()
    quote = await client.request_mint(4, "sat")
    async with aclosing(client.watch(quote.id)) as changes:
        assert (await anext(changes)).state == MintQuoteState.UNPAID
        mint.pay(quote.request)
        assert (await anext(changes)).state == MintQuoteState.PAID
        assert len(mint.sockets) == 1
    assert mint.sockets == ()
