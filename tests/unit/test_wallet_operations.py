"""What the wallet does when all goes well, and what it refuses."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from wallet.errors import (
    AlreadySpentError,
    BalanceCapError,
    FeeTooHighError,
    InsufficientFundsError,
    MintMisbehavedError,
    MintUnreachableError,
    OutcomeUnknownError,
    ParseError,
    PaymentFailedError,
    RefusedError,
    UnsupportedError,
    UntrustedMintError,
    UnverifiedError,
    VerificationError,
)
from wallet.mint.testing import Fault, Outcome, Purse
from wallet.operations import restoring
from wallet.operations.results import Report, Rules
from wallet.protocol import blindkeys, curve, p2pk, tokens
from wallet.protocol import outputs as making
from wallet.protocol.p2pk import Lock
from wallet.store import Hold, Outbox, State, Tables
from wallet.testing import World
from wallet.types import Proof, Token
from wallet.wallet import Wallet

LITTLE = Rules(change_pieces=1)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path, mints=2)
    yield made
    await made.close()


@pytest.fixture
async def ann(world: World) -> Wallet:
    return await world.funded("ann", 100, rules=LITTLE)


@pytest.fixture
async def bob(world: World) -> Wallet:
    return await world.funded("bob", 60, rules=LITTLE)


async def purse(world: World) -> Purse:
    """Somebody who holds ecash without a wallet of ours."""
    return Purse(world.connect(world.mint.url), pay=world.lightning.pay)


def posts(world: World, path: str) -> int:
    return sum(request.path == path for request in world.mint.requests)


def token_of(world: World, *proofs: Proof, unit: str = "sat") -> Token:
    return Token(world.mint.url, unit, proofs)


# ── sending and receiving ───────────────────────────────────────────────────────────────────


async def test_a_token_goes_from_one_wallet_to_another(
    world: World, ann: Wallet, bob: Wallet
) -> None:
    sent = await ann.send(21, memo="thanks")
    assert tokens.decode(sent.token).amount == 21
    assert (ann.balance(), bob.balance()) == (79, 60)
    got = await bob.receive(sent.token)
    assert (got.amount, got.fee, got.memo, got.verified) == (21, 0, "thanks", True)
    assert [each.key for each in await ann.refresh_outbox()] == [sent.operation]
    again = ann.sent(sent.operation)
    assert again is not None
    assert again.token == "", "it was redeemed"
    assert ann.operation(sent.operation).outbox == Outbox.DELIVERED  # type: ignore[union-attr]
    assert await world.missing() == 0


async def test_an_exact_amount_needs_no_mint(world: World, ann: Wallet) -> None:
    asked = len(world.mint.requests)
    sent = await ann.send(1 + 4)
    assert len(world.mint.requests) == asked
    assert sent.fee == 0


async def test_payments_of_a_few_sat_seldom_need_the_mint(world: World) -> None:
    wallet = await world.funded("cleo", 600)
    asked = len(world.mint.requests)
    for number in range(50):
        await wallet.send(1 + number % 5)
    assert len(world.mint.requests) - asked <= 5


async def test_one_key_is_one_send(world: World, ann: Wallet) -> None:
    first = await ann.send(30, key="k")
    assert await ann.send(30, key="k") == first
    assert ann.balance() == 70
    with pytest.raises(RefusedError, match="belongs to another"):
        await ann.send(31, key="k")
    with pytest.raises(RefusedError, match="belongs to another"):
        await ann.pay_invoice(world.lightning.invoice(1_000), key="k")


async def test_one_key_at_the_same_time_is_one_send(ann: Wallet) -> None:
    sends = await asyncio.gather(*(ann.send(33, key="k") for _ in range(8)))
    assert len({sent.token for sent in sends}) == 1
    assert ann.balance() == 67


async def test_two_hundred_sends_at_once_give_no_proof_twice(world: World) -> None:
    wallet = await world.funded("cleo", 900)
    amounts = [1 + number % 7 for number in range(200)]
    sends = await asyncio.gather(*(wallet.send(amount) for amount in amounts))
    secrets = Counter(p.secret for sent in sends for p in tokens.decode(sent.token).proofs)
    assert max(secrets.values()) == 1
    assert [tokens.decode(sent.token).amount for sent in sends] == amounts
    assert wallet.balance() == 900 - sum(amounts)
    assert await world.missing() == 0


async def test_recovery_leaves_alone_what_is_at_work(world: World) -> None:
    wallet = await world.funded("cleo", 700, rules=LITTLE)
    jobs = [wallet.send(3, to=wallet.address(), key=f"k{number}") for number in range(12)]
    await asyncio.gather(*jobs, *(wallet.recover() for _ in range(4)))
    assert posts(world, "/v1/swap") == 12, "no request was repeated"
    assert await world.missing() == 0


async def test_sends_wait_for_the_change_of_others(world: World) -> None:
    wallet = await world.funded("cleo", 512, rules=Rules(change_pieces=0))
    sends = await asyncio.gather(*(wallet.send(3, to=wallet.address()) for _ in range(9)))
    assert len(sends) == 9
    with pytest.raises(InsufficientFundsError):
        await wallet.send(500)
    assert await world.missing() == 0


@pytest.mark.parametrize("amount", [0, -1, 2**63, True, 1.5])
async def test_what_is_no_amount(ann: Wallet, amount: Any) -> None:
    with pytest.raises(RefusedError, match="is no amount"):
        await ann.send(amount)
    with pytest.raises(RefusedError, match="is no amount"):
        await ann.request_invoice(amount)


async def test_nothing_to_send_from(world: World) -> None:
    wallet = await world.wallet("cleo")
    with pytest.raises(InsufficientFundsError, match="no mint"):
        await wallet.send(1)
    with pytest.raises(RefusedError, match="no mint"):
        await wallet.request_invoice(1)
    with pytest.raises(UntrustedMintError, match="not one of"):
        await wallet.send(1, mint="https://else.example")
    await wallet.add_mint(world.mint.url, spend=False)
    with pytest.raises(RefusedError, match="not for spending"):
        await wallet.send(1, mint=world.mint.url)
    with pytest.raises(RefusedError, match="not for spending"):
        await wallet.pay_invoice(world.lightning.invoice(1_000), mint=world.mint.url)


async def test_the_mint_with_most_pays(world: World, ann: Wallet) -> None:
    await world.funded("ann", 200, mint=1)
    assert (await ann.send(150)).mint == world.mints[1].url
    assert (await ann.send(5, mint=world.mint.url + "/")).mint == world.mint.url


async def test_a_token_twice_is_refused(ann: Wallet, bob: Wallet) -> None:
    token = (await ann.send(9)).token
    first = await bob.receive(token, key="k")
    assert await bob.receive(token, key="k") == first
    with pytest.raises(AlreadySpentError, match="received this token before"):
        await bob.receive(token)
    with pytest.raises(AlreadySpentError, match="redeemed before"):
        await ann.receive(token)
    assert bob.balance() == 69


async def test_a_token_that_was_redeemed_elsewhere_can_be_tried_again(
    world: World, ann: Wallet, bob: Wallet
) -> None:
    token = (await ann.send(9)).token
    cleo = await world.funded("cleo", 0)
    await cleo.receive(token)
    for _ in range(2):
        with pytest.raises(AlreadySpentError, match="redeemed before"):
            await bob.receive(token)
    assert await world.missing() == 0


async def test_ones_own_money_is_no_token(world: World, ann: Wallet) -> None:
    held = ann._book.store.read(lambda tables: tables.proofs.all_held(Hold.FREE))
    with pytest.raises(RefusedError, match="own money"):
        await ann.receive(tokens.encode(token_of(world, held[0][1].proof)))


async def test_ones_own_token_comes_back(world: World, ann: Wallet) -> None:
    sent = await ann.send(7)
    await ann.receive(sent.token)
    assert ann.balance() == 100
    assert ann.operation(sent.operation).outbox == Outbox.RECLAIMED  # type: ignore[union-attr]
    assert await world.missing() == 0


async def test_a_token_may_name_keysets_shortly(world: World, ann: Wallet, bob: Wallet) -> None:
    token = tokens.decode((await ann.send(5)).token)
    short = replace(token, proofs=tuple(replace(p, id=p.id[:16]) for p in token.proofs))
    world.mint.rotate()
    assert (await bob.receive(tokens.encode(short))).amount == 5


async def test_tokens_that_are_not_worth_anything(world: World, ann: Wallet, bob: Wallet) -> None:
    proof = (await (await purse(world)).fill(8))[0]
    forged = replace(proof, secret="0" * 64)
    with pytest.raises(VerificationError, match="not signed by"):
        await bob.receive(token_of(world, forged))
    with pytest.raises(UnverifiedError, match="no DLEQ"):
        await bob.receive(token_of(world, replace(proof, dleq=None)))
    with pytest.raises(VerificationError):
        await bob.receive(token_of(world, replace(proof, amount=16)), allow_unverified=True)
    with pytest.raises(ParseError):
        await bob.receive(token_of(world, replace(proof, id="01" + "00" * 7)))
    with pytest.raises(VerificationError, match="not one of mint"):
        await bob.receive(token_of(world, replace(proof, id="01" + "00" * 32)))
    with pytest.raises(UnsupportedError, match="keeps no 'usd'"):
        await bob.receive(token_of(world, proof, unit="usd"))
    with pytest.raises(UnsupportedError, match="issues no msat"):
        await bob.receive(token_of(world, proof, unit="msat"))
    with pytest.raises(ParseError):
        await bob.receive("no token")
    forged = replace(proof, secret="1" * 64, dleq=None)
    with pytest.raises(Exception, match="refused"):
        await bob.receive(token_of(world, forged), allow_unverified=True)
    assert bob.balance() == 60
    assert bob.pending() == ()
    got = await bob.receive(token_of(world, replace(proof, dleq=None)), allow_unverified=True)
    assert (got.amount, got.verified) == (8, False)


async def test_many_proofs_are_checked_beside_the_loop(world: World, bob: Wallet) -> None:
    proofs: tuple[Proof, ...] = ()
    for _ in range(6):
        proofs += await (await purse(world)).fill(7)
    assert (await bob.receive(token_of(world, *proofs))).amount == 42


async def test_a_fee_that_takes_it_all(tmp_path: Path) -> None:
    world = World(tmp_path, fee_ppk=1000)
    bob = await world.funded("bob", 0)
    one = await (await purse(world)).fill(1)
    with pytest.raises(FeeTooHighError, match="all it is worth"):
        await bob.receive(token_of(world, *one))
    await world.close()


async def test_a_mint_that_is_not_accepted(world: World, ann: Wallet, bob: Wallet) -> None:
    token = (await ann.send(5)).token
    await bob.add_mint(world.mint.url, accept=False)
    with pytest.raises(UntrustedMintError, match="does not accept"):
        await bob.receive(token)


# ── locks ───────────────────────────────────────────────────────────────────────────────────


async def test_a_token_for_one_key(world: World, ann: Wallet, bob: Wallet) -> None:
    sent = await ann.send(12, to=bob.address())
    cleo = await world.funded("cleo", 0)
    with pytest.raises(VerificationError):
        await cleo.receive(sent.token)
    with pytest.raises(RefusedError, match="locked to its payee"):
        await ann.reclaim(sent.operation)
    assert (await bob.receive(sent.token)).amount == 12
    fresh = await bob.fresh_key()
    assert fresh != bob.address() != await bob.fresh_key()
    assert (await bob.receive((await ann.send(3, to=fresh)).token)).amount == 3
    assert await world.missing() == 0


async def test_a_lock_with_a_time_can_be_taken_back_after_it(
    world: World, ann: Wallet, bob: Wallet
) -> None:
    end = int(world.time_s) + 100_000
    sent = await ann.send(12, to=bob.address(), locktime=end)
    lock = p2pk.lock_of(tokens.decode(sent.token).proofs[0].secret)
    assert lock is not None
    assert (lock.locktime, lock.refund) == (end, (ann.address(),))
    world.time_s += 200_000
    operation = await ann.reclaim(sent.operation)
    assert (operation.state, operation.amount) == (State.DONE, 12)
    assert ann.balance() == 100
    with pytest.raises(AlreadySpentError, match="not in the outbox: reclaimed"):
        await ann.reclaim(sent.operation)
    with pytest.raises(RefusedError, match="no send"):
        await ann.reclaim("nothing")


async def test_locks_that_make_no_sense(ann: Wallet) -> None:
    with pytest.raises(RefusedError, match="locked to nobody"):
        await ann.send(1, locktime=5)
    with pytest.raises(ParseError):
        await ann.send(1, to=b"\5" * 33)
    assert ann.balance() == 100


async def test_a_mint_without_locks_gets_none(world: World) -> None:
    world.mint.without.add(11)
    wallet = await world.funded("cleo", 20)
    with pytest.raises(UnsupportedError, match="NUT-11"):
        await wallet.send(3, to=wallet.address())


async def test_hash_locks_and_locks_of_several(world: World, bob: Wallet) -> None:
    preimage, other = b"p" * 32, curve.random_scalar()
    lock = Lock(
        (bob.address(), curve.public(other)), n_sigs=2, hash=sha256(preimage).digest(), sig_all=True
    )
    proofs = await (await purse(world)).fill(10, lock=lock)
    token = token_of(world, *proofs)
    with pytest.raises(VerificationError):
        await bob.receive(token, preimage=preimage)
    with pytest.raises(VerificationError):
        await bob.receive(token, private_keys=[other])
    assert (await bob.receive(token, preimage=preimage, private_keys=[other])).amount == 10


async def test_blinded_keys(world: World, bob: Wallet) -> None:
    ephemeral = curve.random_scalar()
    lock = blindkeys.blind(Lock((await bob.fresh_key(),)), ephemeral)
    who = await purse(world)
    keyset = await who.keyset()
    made = making.output(8, keyset.id, p2pk.secret(lock), curve.random_scalar())
    signed = await who.mint.swap(await who.fill(8), [made.message])
    proof = making.finish([made], signed, keyset, require_dleq=True)[0]
    blinded = replace(proof, ephemeral=curve.public(ephemeral))
    assert (await bob.receive(tokens.encode(token_of(world, blinded)))).amount == 8


async def test_a_token_for_a_key_the_mint_does_not_learn(
    world: World, ann: Wallet, bob: Wallet
) -> None:
    end = int(world.time_s) + 100_000
    sent = await ann.send(13, to=bob.address(), blind=True, locktime=end)
    for proof in tokens.decode(sent.token).proofs:
        assert bob.address().hex()[2:] not in proof.secret
        assert ann.address().hex()[2:] not in proof.secret
        assert proof.ephemeral is not None
    assert (await bob.receive(sent.token)).amount == 13
    late = await ann.send(6, to=bob.address(), blind=True, locktime=end)
    world.time_s += 200_000
    assert (await ann.reclaim(late.operation)).amount == 6
    with pytest.raises(RefusedError, match="blinded key"):
        await ann.send(1, blind=True)
    assert await world.missing() == 0


async def test_a_list_of_keysets_that_was_empty_once(world: World, ann: Wallet) -> None:
    world.mint.faults.add(Fault.FEWER, "/v1/keysets")
    await ann._book.refresh(world.mint.url)
    assert (await ann.send(30, to=ann.address())).token


async def test_a_mint_has_its_own_keysets_only(world: World, ann: Wallet) -> None:
    await ann.add_mint(world.mints[1].url)
    theirs = world.mints[1].ledger.active("sat").info.id
    assert (await ann._book.keyset(world.mints[1].url, theirs)).info.id == theirs
    for keyset in (theirs, "00" + "ab" * 7):
        with pytest.raises(MintMisbehavedError, match="has no keyset"):
            await ann._book.keyset(world.mint.url, keyset)


async def test_new_ecash_is_of_the_cheapest_keyset_that_lasts(world: World, ann: Wallet) -> None:
    mint, now = world.mint, int(world.time_s)
    dear = mint.rotate(fee_ppk=200)
    soon = mint.rotate(fee_ppk=100, final_expiry=now + 1_000)
    cheap = mint.rotate(fee_ppk=50, final_expiry=now + 100)

    def offer(keyset: str, active: bool) -> None:
        kept = mint.ledger.keysets[keyset]
        mint.ledger.keysets[keyset] = replace(kept, info=replace(kept.info, active=active))

    async def chosen(ahead_s: int = 0) -> tuple[str, set[str]]:
        found = await ann._book.snapshot(mint.url, "sat", fresh=True, ahead_s=ahead_s)
        return found.active.id, set(found.expired)

    offer(dear, True)
    offer(soon, True)
    assert await chosen() == await chosen(99) == (cheap, set())
    assert await chosen(100) == (soon, {cheap})
    assert await chosen(1_000) == (dear, {cheap, soon})
    world.time_s += 100
    assert await chosen() == (soon, {cheap})
    offer(dear, False)
    assert await chosen(1_000) == (soon, {cheap, soon}), "sooner than none"
    world.time_s += 900
    with pytest.raises(UnsupportedError, match="issues no sat"):
        await ann.send(3)


# ── the outbox ──────────────────────────────────────────────────────────────────────────────


async def test_a_token_is_taken_back(world: World, ann: Wallet, bob: Wallet) -> None:
    sent = await ann.send(9)
    assert [each.key for each in ann.outbox()] == [sent.operation]
    assert (await ann.reclaim(sent.operation)).amount == 9
    assert (ann.balance(), ann.outbox()) == (100, ())
    with pytest.raises(AlreadySpentError):
        await bob.receive(sent.token)
    assert await world.missing() == 0


async def test_what_was_redeemed_is_not_taken_back(world: World, ann: Wallet, bob: Wallet) -> None:
    sent = await ann.send(9)
    await bob.receive(sent.token)
    with pytest.raises(AlreadySpentError):
        await ann.reclaim(sent.operation)
    assert ann.operation(sent.operation).outbox == Outbox.DELIVERED  # type: ignore[union-attr]
    assert ann.balance() == 91


async def test_the_half_that_is_left_is_taken_back(world: World, ann: Wallet, bob: Wallet) -> None:
    sent = await ann.send(5)
    one, four = sorted(tokens.decode(sent.token).proofs, key=lambda proof: proof.amount)
    await bob.receive(token_of(world, four))
    assert (await ann.reclaim(sent.operation)).amount == one.amount
    assert await world.missing() == 0


async def test_each_token_is_taken_back_by_an_operation_of_its_own(
    world: World, ann: Wallet
) -> None:
    one, two = await ann.send(9), await ann.send(10)
    for sent in (one, two):
        world.mint.faults.add(Fault.LOST_REPLY, "/v1/swap")
        world.mint.faults.add(Fault.UNREACHABLE, "/v1/checkstate")
        with pytest.raises(OutcomeUnknownError):
            await ann.reclaim(sent.operation)
    back = await ann.reclaim(two.operation)
    assert (back.amount, back.parent) == (10, two.operation)
    assert [each.parent for each in ann.pending()] == [one.operation]
    assert (await ann.reclaim(one.operation)).parent == one.operation
    assert (ann.balance(), ann.outbox(), ann.pending()) == (100, (), ())


async def test_an_operation_is_one_task_s_at_a_time(ann: Wallet) -> None:
    inside = list[int]()

    async def hold(rounds: int) -> None:
        async with ann._book.holding("k"):
            assert not inside
            inside.append(rounds)
            await _turns(rounds)
            inside.clear()

    tasks = [asyncio.create_task(hold(rounds)) for rounds in (5, 1, 3, 2)]
    await asyncio.sleep(0)
    tasks[1].cancel()
    await asyncio.wait(tasks)
    assert [task.cancelled() or task.exception() for task in tasks] == [None, True, None, None]
    assert ann._book._locks == {}, "nothing is kept of what is over"


async def test_a_restore_has_its_mint_to_itself(ann: Wallet) -> None:
    inside = list[str]()

    async def work(mint: str, start: int) -> None:
        await _turns(start)
        async with ann._book.at_work(mint):
            assert f"restore {mint}" not in inside
            inside.append(mint)
            await _turns(3)
            inside.remove(mint)

    async def restore(mint: str, start: int) -> None:
        await _turns(start)
        async with ann._book.alone(mint):
            assert mint not in inside
            assert f"restore {mint}" not in inside
            inside.append(f"restore {mint}")
            await _turns(6)
            inside.remove(f"restore {mint}")

    starts = {work: (0, 1, 3, 5, 12, 15, 18), restore: (2, 4, 13)}
    tasks = [do(mint, at) for do, times in starts.items() for at in times for mint in ("a", "b")]
    await asyncio.gather(*tasks)
    assert (ann._book._busy, ann._book._restoring) == (Counter(), set())


async def _turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_only_what_was_sent_is_taken_back(ann: Wallet) -> None:
    invoice = await ann.request_invoice(5)
    for key in (invoice.operation, "nothing"):
        with pytest.raises(RefusedError, match="no send of this wallet"):
            await ann.reclaim(key)


async def test_a_mint_that_is_silent_leaves_the_outbox_as_it_is(
    world: World, ann: Wallet, bob: Wallet
) -> None:
    sent = await ann.send(9)
    await bob.receive(sent.token)
    world.mint.faults.add(Fault.UNREACHABLE, "/v1/checkstate")
    assert await ann.refresh_outbox() == ()
    assert len(await ann.refresh_outbox()) == 1


async def test_what_check_finds_is_told_apart(world: World, ann: Wallet) -> None:
    await world.funded("ann", 7, mint=1)
    url = world.mints[1].url
    held = ann._book.store.read(lambda tables: tables.proofs.all_held(Hold.FREE))
    spent = next(each.proof for mint, each in held if mint == url)
    world.mints[1].ledger.spent[curve.y_of(spent.secret)] = None
    world.mint.faults.add(Fault.UNREACHABLE, "/v1/checkstate")
    report = await ann.check()
    assert report == Report(len(held), spent_elsewhere=1, unreachable=(world.mint.url,))
    assert await ann.check() == Report(len(held) - 1)

    def reserve(tables: Tables) -> None:
        tables.proofs.take(tables.proofs.coins(url, "sat"), "gone", hold=Hold.RESERVED)

    await ann._book.store.write("x", reserve)
    damage = ("proofs are held by operation gone, which is over",)
    assert (await ann.check()).damage == damage


# ── mints ───────────────────────────────────────────────────────────────────────────────────


async def test_mints_are_the_users(world: World, ann: Wallet) -> None:
    record = await ann.add_mint(world.mints[1].url + "/", spend=False)
    assert (record.spend, record.accept, record.units) == (False, True, ("sat",))
    assert [each.url for each in ann.mints()] == [mint.url for mint in world.mints]
    assert ann.mints()[0].balance == {"sat": 100}
    assert not ann.mints()[0].over_cap
    with pytest.raises(RefusedError, match="holds money"):
        await ann.remove_mint(world.mint.url)
    await ann.remove_mint(world.mints[1].url)
    await ann.add_mint(world.mints[1].url)
    await ann.request_invoice(5, mint=world.mints[1].url)
    with pytest.raises(RefusedError, match="an operation is open there"):
        await ann.remove_mint(world.mints[1].url)
    await ann.remove_mint(world.mints[1].url, force=True)
    await ann.remove_mint(world.mint.url, force=True)
    for _ in range(2):
        assert ann.mints() == ()
        assert ann.balance() == 0
        ann = await world.again()
    await ann.add_mint(world.mint.url)
    assert ann.balance() == 100


async def test_what_a_mint_says_of_itself_is_believed_for_a_while(
    world: World, ann: Wallet
) -> None:
    async def asked(wallet: Wallet) -> set[str]:
        world.mint.requests.clear()
        await wallet.request_invoice(1)
        paths = {request.path for request in world.mint.requests}
        return {path for path in paths if path.startswith(("/v1/info", "/v1/key"))}

    assert await asked(ann) == set()
    world.time_s += ann.rules.refresh_s - 1
    assert await asked(ann) == set()
    await world.stop()
    ann = await world.wallet(rules=LITTLE)
    assert await asked(ann) == {"/v1/info"}, "the rest is in the file"
    world.time_s += 1
    assert await asked(ann) == {"/v1/keysets"}
    world.skew_s = -1
    assert await asked(ann) == {"/v1/keysets"}, "the clock was set back"
    world.time_s += ann.rules.refresh_s
    assert await asked(ann) == {"/v1/info", "/v1/keysets"}
    assert await asked(ann) == set()
    await ann.add_mint(world.mint.url)
    assert posts(world, "/v1/info") == 1, "whoever adds it wants to know"


async def test_a_token_of_a_mint_that_was_removed_is_taken_back(world: World, ann: Wallet) -> None:
    sent = await ann.send(4)
    await ann.remove_mint(world.mint.url, force=True)
    assert (await ann.reclaim(sent.operation)).amount == 4
    await ann.add_mint(world.mint.url)
    assert ann.balance() == 100


@pytest.mark.parametrize("fault", [Fault.UNREACHABLE, Fault.LOST_REPLY])
async def test_a_mint_that_is_away_is_believed_as_it_was_last_heard(
    fault: Fault, world: World, ann: Wallet
) -> None:
    world.time_s += ann.rules.refresh_s
    world.mint.faults.add(fault, "/v1/keysets", times=9)
    assert (await ann.send(4)).token, "which needs no mint"
    with pytest.raises((MintUnreachableError, OutcomeUnknownError)):
        await ann.consolidate(world.mint.url)
    assert posts(world, "/v1/swap") == 0


async def test_mints_that_cannot_be_added(world: World, tmp_path: Path) -> None:
    wallet = await world.wallet("cleo")
    with pytest.raises(RefusedError, match="without encryption"):
        await wallet.add_mint("http://mint.example")
    world.mint.faults.add(Fault.UNREACHABLE, "/v1/keysets")
    with pytest.raises(Exception, match="reached"):
        await wallet.add_mint(world.mint.url)
    world.mint.faults.add(Fault.UNREACHABLE, "/v1/keys/*")
    with pytest.raises(Exception, match="reached"):
        await wallet.add_mint(world.mint.url)
    assert wallet.mints() == ()
    dollars = World(tmp_path / "x", units=("usd",))
    world.mints.append(dollars.mint)
    dollars.mint.url = "https://usd.example"
    with pytest.raises(UnsupportedError, match="neither sat nor msat"):
        await wallet.add_mint("https://usd.example")
    assert wallet.mints() == ()


async def test_a_cap_on_what_is_kept_at_one_mint(world: World) -> None:
    wallet = await world.funded("cleo", 90, rules=Rules(cap_sat=100))
    with pytest.raises(BalanceCapError, match="would hold more than 100 sat"):
        await wallet.request_invoice(11)
    assert (await wallet.request_invoice(10)).mint == world.mint.url
    ann = await world.funded("ann", 50)
    got = await wallet.receive((await ann.send(20)).token)
    assert got.over_cap
    assert wallet.mints()[0].over_cap
    await wallet.add_mint(world.mints[1].url)
    assert (await wallet.request_invoice(11)).mint == world.mints[1].url


async def test_a_part_of_a_sat_over_the_cap_is_over_it(tmp_path: Path) -> None:
    world = World(tmp_path, units=("sat", "msat"))
    ann = await world.funded("ann", 64, rules=Rules(cap_sat=64))
    bob = await world.funded("bob", 0)
    await world.fill(bob, 8_000, unit="msat")
    got = await ann.receive((await bob.send(500, unit="msat")).token)
    assert got.over_cap
    assert ann.mints()[0].over_cap
    await world.close()


async def test_millisats(tmp_path: Path) -> None:
    world = World(tmp_path, units=("sat", "msat"))
    wallet = await world.funded("ann", 10)
    await world.fill(wallet, 5_000, unit="msat")
    assert (wallet.balance(), wallet.balance("msat")) == (10, 5_000)
    most = wallet.rules.cap_sat * 1_000 - 5_000
    assert (await wallet.request_invoice(most, unit="msat")).amount == most
    with pytest.raises(BalanceCapError):
        await wallet.request_invoice(most + 1, unit="msat")
    sent = await wallet.send(1_500, unit="msat")
    assert (sent.unit, tokens.decode(sent.token).unit) == ("msat", "msat")
    bob = await world.funded("bob", 0)
    assert (await bob.receive(sent.token)).unit == "msat"
    paid = await bob.pay_invoice(world.lightning.invoice(400), max_fee=1)
    assert (paid.unit, paid.amount) == ("msat", 400)
    assert await world.missing("msat") == 0
    await wallet.consolidate(world.mint.url)
    await world.close()


# ── consolidate, restore ────────────────────────────────────────────────────────────────────


async def test_many_small_proofs_become_few(world: World) -> None:
    wallet = await world.funded("cleo", 0, rules=Rules(change_pieces=2))
    for _ in range(12):
        await world.fill(wallet, 7)
    before = await wallet.check()
    operation = await wallet.consolidate(world.mint.url)
    after = await wallet.check()
    assert operation.amount > 0
    assert after.proofs < before.proofs
    assert wallet.balance() == 84
    again = await wallet.consolidate(world.mint.url)
    assert (again.state, again.amount, again.fee) == (State.DONE, 0, 0)
    world.mint.rotate()
    assert (await wallet.consolidate(world.mint.url)).amount == 84
    assert await world.missing() == 0


async def test_the_end_of_restoring_is_a_mint_s_and_not_each_keyset_s(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    wallet = await world.funded("cleo", 0, rules=Rules(cap_sat=100_000))
    for _ in range(3):
        active = world.mint.rotate()
        for _ in range(18):
            await world.fill(wallet, 1023)
    monkeypatch.setattr(restoring, "MOST_NEW", 150)
    lost = await world.wallet("cleo", file="new home", rules=Rules(cap_sat=100_000))
    await lost.add_mint(world.mint.url)
    first = await lost.restore(world.mint.url)
    assert first.more
    assert first.proofs <= 150 + restoring.BATCH < (await wallet.check()).proofs
    assert world.counters(lost)[active] == world.counters(wallet)[active], "before the others"
    rounds = 1
    while (await lost.restore(world.mint.url)).more:
        rounds += 1
        assert rounds < 9
    assert lost.balance() == wallet.balance()


async def test_the_seed_alone_opens_what_was_locked_to_any_of_its_keys(world: World) -> None:
    """A request of before may be paid long after: only the file knew how many there were."""
    bob, ann = await world.funded("bob", 0), await world.funded("ann", 50)
    keys = [await bob.fresh_key() for _ in range(60)]
    lost = await world.wallet("bob", file="new home")
    await lost.add_mint(world.mint.url)
    assert (await lost.receive((await ann.send(12, to=keys[-1])).token)).amount == 12


@pytest.mark.parametrize("version", [1, 2])
async def test_the_seed_alone_brings_all_back(tmp_path: Path, version: int) -> None:
    world = World(tmp_path, fee_ppk=100, version=version)
    wallet = await world.funded("ann", 200)
    bob = await world.funded("bob", 0)
    await bob.receive((await wallet.send(30, to=bob.address())).token)
    await wallet.pay_invoice(world.lightning.invoice(20_000))
    world.mint.rotate()
    await wallet.receive((await bob.send(10)).token)
    await wallet.refresh_outbox()
    lost = await world.wallet("ann", file="new home")
    await lost.add_mint(world.mint.url)
    restored = await lost.restore(world.mint.url)
    assert restored.found["sat"] == wallet.balance() == lost.balance()
    assert restored.spent > 0
    assert (await lost.check()).ok
    assert (await lost.restore(world.mint.url)).proofs == 0, "again finds nothing new"
    await lost.send(7, to=bob.address())  # its counters are past those that were used
    await world.close()


async def test_restore_on_a_wallet_in_use(world: World, ann: Wallet) -> None:
    await ann.send(20)
    counters = world.counters(ann)
    restored, *sends = await asyncio.gather(
        ann.restore(world.mint.url), *(ann.send(3, to=ann.address()) for _ in range(4))
    )
    assert restored.proofs == 0
    assert all(world.counters(ann)[key] >= value for key, value in counters.items())
    assert len(sends) == 4
    assert await world.missing() == 0


async def test_restore_over_gaps(world: World, ann: Wallet) -> None:
    async def fill(amount: int, *, skip: int) -> None:
        def work(tables: Tables) -> None:
            for keyset in tables.keysets.infos(world.mint.url):
                tables.keysets.use(keyset, skip)

        await ann._book.store.write("skip", work)
        await world.fill(ann, amount)

    for amount in (44, 33):
        await fill(amount, skip=250)
    lost = await world.wallet("ann", file="new home")
    await lost.add_mint(world.mint.url)
    assert (await lost.restore(world.mint.url)).found == {"sat": 177}
    await fill(22, skip=450)
    store = ann._book.store
    await store.write("lose", lambda t: t.connection.execute("DELETE FROM proofs") and None)
    assert (await ann.restore(world.mint.url)).found == {"sat": 199}, "its file knows how far"


async def test_restore_leaves_what_is_being_paid_until_it_is_known(world: World) -> None:
    wallet = await world.funded("ann", 64, rules=Rules(change_pieces=0))
    bolt11 = world.lightning.invoice(20_000)
    world.lightning.outcome = Outcome.PENDING
    assert (await wallet.pay_invoice(bolt11)).state == "pending"
    lost = await world.wallet("ann", file="new home")
    await lost.add_mint(world.mint.url)
    assert (await lost.restore(world.mint.url)).found == {"sat": 0}
    world.lightning.end(bolt11, Outcome.FAILED)
    assert (await lost.check()).back == 1
    assert lost.balance() == 64


async def test_a_mint_that_does_not_restore(world: World) -> None:
    world.mint.without.add(9)
    wallet = await world.funded("cleo", 5)
    with pytest.raises(UnsupportedError, match="NUT-09"):
        await wallet.restore(world.mint.url)


# ── what can be asked at any time ───────────────────────────────────────────────────────────


async def test_history_tells_no_secrets(world: World, ann: Wallet, bob: Wallet) -> None:
    await ann.send(2, memo="a memo", key="first")
    world.lightning.outcome = Outcome.FAILED
    bolt11 = world.lightning.invoice(5_000)
    with pytest.raises(PaymentFailedError):
        await ann.pay_invoice(bolt11, key="second")
    kinds = [(each.key, each.kind, each.state) for each in ann.history(2)]
    assert kinds == [("second", "melt", "failed"), ("first", "send", "done")]
    assert ann.operation("second").fee == 0  # type: ignore[union-attr]
    assert "memo" not in repr(ann.history())
    assert ann.history(before="second")[0].key == "first"
    assert ann.operation("none") is None
    assert ann.sent("second") is None
    assert ann.payment("second") is None
    assert ann.payment("none") is None
    with pytest.raises(PaymentFailedError, match="failed before"):
        await ann.pay_invoice(bolt11, key="second")
