"""MintClient against Nutshell on loopback: each call, at each of the fees that matter."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from wallet.errors import MintError, MintUnreachableError
from wallet.mint import HttpTransport, MintClient, Patience, updates
from wallet.mint.testing import MemoryLightning, Purse
from wallet.protocol import htlc, quotes
from wallet.protocol.curve import public, random_scalar, y_of
from wallet.protocol.outputs import finish, finish_blank, output
from wallet.protocol.p2pk import Lock
from wallet.types import (
    MeltQuoteState,
    MintQuoteState,
    Proof,
    ProofState,
    TransportRequest,
    TransportResponse,
)

FEES = (0, 100, 1000)
KEY = b"\x11" * 32


@pytest.fixture(scope="module")
def mints(nutshells: Callable[..., Any]) -> dict[int, Any]:
    """All three, started side by side."""
    return {fee_ppk: nutshells(fee_ppk) for fee_ppk in FEES}


@contextlib.asynccontextmanager
async def at(mint: Any) -> AsyncIterator[tuple[MintClient, Purse]]:
    client = MintClient(mint.url, HttpTransport(mint.url))
    try:
        yield client, Purse(client)
    finally:
        await client.aclose()


def total(proofs: tuple[Proof, ...]) -> int:
    return sum(proof.amount for proof in proofs)


def fee(fee_ppk: int, proofs: tuple[Proof, ...]) -> int:
    return -(-fee_ppk * len(proofs) // 1000)


def invoice(amount_sat: int) -> str:
    """Somebody's on the network, whom the mint's fake backend pays."""
    return MemoryLightning(now=time.time).invoice(amount_sat * 1000)


@pytest.mark.parametrize("fee_ppk", FEES)
async def test_minting_swapping_and_paying(mints: dict[int, Any], fee_ppk: int) -> None:
    mint = mints[fee_ppk]
    async with at(mint) as (client, purse):
        before = mint.outstanding()
        info = await client.info()
        assert all(info.supports(nut) for nut in (7, 8, 9, 10, 11, 12, 14, 20))
        assert info.melt_method("sat") is not None
        assert updates.KIND in info.updates
        assert info.batch_size
        (listed,) = await client.keysets()
        assert (listed.unit, listed.active, listed.input_fee_ppk) == ("sat", True, fee_ppk)
        proofs = await purse.fill(127)
        assert mint.outstanding() == before + 127
        swapped = await purse.redeem(proofs)
        assert total(swapped) == 127 - fee(fee_ppk, proofs)
        assert mint.outstanding() == before + total(swapped)
        ys = [y_of(proof.secret) for proof in (*proofs[:1], *swapped[:1])]
        assert await client.check(ys) == (ProofState.SPENT, ProofState.UNSPENT)
        paid, change = await purse.melt(invoice(40), swapped)
        assert (paid.state, paid.amount) == (MeltQuoteState.PAID, 40)
        cost = 1  # what the fake backend says a payment costs
        assert total(change) == total(swapped) - 40 - cost - fee(fee_ppk, swapped)
        assert mint.outstanding() == before + total(change)


async def test_quotes_say_how_they_are(mints: dict[int, Any]) -> None:
    async with at(mints[0]) as (client, purse):
        await client.info()
        quote = await client.request_mint(8, "sat", pubkey=public(KEY), description="tea")
        assert (quote.amount, quote.unit, quote.pubkey) == (8, "sat", public(KEY))
        assert (await client.mint_quote(quote.id)).state == MintQuoteState.PAID
        made = await purse.outputs(8)
        messages = [each.message for each in made]
        with pytest.raises(MintError) as unsigned:
            await client.mint(quote.id, messages)
        assert unsigned.value.code == 20008
        signature = quotes.sign(quote.id, messages, KEY)
        signed = await client.mint(quote.id, messages, signature=signature)
        proofs = finish(made, signed, await purse.keyset(), require_dleq=True)
        assert (await client.mint_quote(quote.id)).state == MintQuoteState.ISSUED
        with pytest.raises(MintError) as again:
            await client.mint(quote.id, messages, signature=signature)
        assert again.value.code in (11003, 20002)
        melt = await client.request_melt(invoice(4), "sat")
        assert (melt.amount, melt.state) == (4, MeltQuoteState.UNPAID)
        paid = await client.melt(melt.id, proofs, ())
        assert await client.melt_quote(melt.id) == paid
        assert paid.preimage


async def test_quotes_are_minted_together(mints: dict[int, Any]) -> None:
    async with at(mints[0]) as (client, purse):
        locked = await client.request_mint(4, "sat", pubkey=public(KEY))
        plain = await client.request_mint(3, "sat")
        states = await client.mint_quotes([locked.id, plain.id])
        assert [each.id for each in states] == [locked.id, plain.id]
        for each in (locked, plain):
            assert (await client.mint_quote(each.id)).state == MintQuoteState.PAID
        made = await purse.outputs(7)
        messages = [each.message for each in made]
        signed = await client.mint_batch(
            {locked.id: 4, plain.id: 3},
            messages,
            signatures={locked.id: quotes.sign(locked.id, messages, KEY)},
        )
        assert total(finish(made, signed, await purse.keyset(), require_dleq=True)) == 7


async def test_what_was_signed_is_restored(mints: dict[int, Any]) -> None:
    async with at(mints[0]) as (client, purse):
        proofs = await purse.fill(11)
        made = (*await purse.outputs(11), *await purse.outputs(1))
        await client.swap(proofs, [each.message for each in made[:-1]])
        blank = [output(0, o.message.id, o.secret, o.r) for o in made]
        found = await client.restore([each.message for each in blank])
        assert len(found) == len(made) - 1
        keyset = await purse.keyset()
        restored = finish_blank(blank, [s for _, s in found], keyset, require_dleq=True)
        assert total(restored) == 11
        assert total(await purse.redeem(restored)) == 11


async def test_change_is_restored_from_blank_outputs_of_nothing(mints: dict[int, Any]) -> None:
    async with at(mints[0]) as (client, purse):
        proofs = await purse.fill(32)
        keyset = await purse.keyset()
        blanks = [output(0, keyset.id, f"{random_scalar().hex()}", random_scalar()) for _ in "123"]
        messages = [each.message for each in blanks]
        quote = await client.request_melt(invoice(20), "sat")
        paid = await client.melt(quote.id, proofs, messages)
        found = await client.restore(messages)
        assert [signature.amount for _, signature in found] == [c.amount for c in paid.change]
        assert {m.b for m, _ in found} <= {m.b for m in messages}
        assert (await client.melt_quote(quote.id)).change == paid.change


async def test_locks_open_to_who_they_are_for(mints: dict[int, Any]) -> None:
    preimage = bytes(range(32))
    async with at(mints[0]) as (_, purse):
        for sig_all in (False, True):
            locked = await purse.fill(5, lock=Lock((public(KEY),), sig_all=sig_all))
            with pytest.raises(MintError):
                await purse.redeem(locked)
            assert total(await purse.redeem(locked, keys=[KEY])) == 5
        hashed = await purse.fill(4, lock=Lock((public(KEY),), hash=htlc.hash_of(preimage)))
        with pytest.raises(MintError):
            await purse.redeem(hashed, keys=[KEY])
        assert total(await purse.redeem(hashed, keys=[KEY], preimage=preimage)) == 4


async def test_refusals_have_their_codes(mints: dict[int, Any]) -> None:
    async with at(mints[0]) as (client, purse):
        proofs = await purse.fill(8)
        made = [each.message for each in await purse.outputs(7)]
        with pytest.raises(MintError) as unbalanced:
            await client.swap(proofs, made)
        assert unbalanced.value.code == 11000  # Nutshell; the NUTs say 11005
        await purse.redeem(proofs)
        with pytest.raises(MintError) as spent:
            await purse.redeem(proofs)
        assert spent.value.code == 11001


class Listening(HttpTransport):
    """Remembers what was asked for."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.asked: list[str] = []

    async def send(self, request: TransportRequest) -> TransportResponse:
        self.asked.append(request.path)
        return await super().send(request)


async def test_changes_come_by_websocket(mints: dict[int, Any]) -> None:
    url = mints[0].url
    transport = Listening(url)
    client = MintClient(url, transport, patience=Patience(silent_s=3600))
    async with aclosing(client), asyncio.timeout(60):
        await client.info()
        quote = await client.request_mint(2, "sat")
        transport.asked.clear()
        async with aclosing(client.watch(quote.id)) as changes:
            async for state in changes:
                if state.state == MintQuoteState.PAID:
                    break
    assert transport.asked == []


async def test_a_payment_that_stays_pending(nutshells: Callable[..., Any]) -> None:
    mint = nutshells(0, payments="pending")
    async with at(mint) as (client, purse):
        proofs = await purse.fill(16)
        paid, change = await purse.melt(invoice(8), proofs)
        assert (paid.state, change) == (MeltQuoteState.PENDING, ())
        assert await client.check([y_of(proofs[0].secret)]) == (ProofState.PENDING,)
        with pytest.raises(MintError) as held:
            await purse.redeem(proofs)
        assert held.value.code == 11002


async def test_nobody_listens() -> None:
    free = "http://127.0.0.1:1"
    client = MintClient(free, HttpTransport(free))
    with pytest.raises(MintUnreachableError):
        await client.keysets()
    await client.aclose()


async def test_a_mint_that_is_started_again_knows_its_ecash(
    nutshells: Callable[..., Any], tmp_path: Path
) -> None:
    """scripts/mint keeps all of a mint in its folder, and ends cleanly."""
    make = type(nutshells(0))
    with make(fee_ppk=0, folder=tmp_path) as first:
        async with at(first) as (_, purse):
            proofs = await purse.fill(9)
    assert first.process.returncode == 0
    with make(fee_ppk=0, folder=tmp_path) as second:
        assert (second.issued(), second.redeemed()) == (9, 0)
        async with at(second) as (_, purse):
            assert total(await purse.redeem(proofs)) == 9


def test_a_mint_that_is_not_set_up_says_how_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FREEHOLD_TEST_MINT_VENV", "/nowhere/.venv-mint")
    assert "scripts/mint --setup-only" in sys.modules["_mint"].missing()


def test_setting_up_again_does_nothing(nutshell: Any) -> None:
    script = Path(sys.modules["_mint"].__file__ or "").with_name("mint")
    done = subprocess.run(
        [sys.executable, str(script), "--setup-only"], capture_output=True, check=True
    )
    assert (done.stdout, done.stderr) == (b"", b"")
