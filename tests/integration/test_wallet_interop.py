"""Tokens, requests and seeds between this wallet and others: Nutshell's own, and cashu-ts.

Each peer is a process of its own at the same mint (scripts/_peers.py). What is not set up is
skipped; `scripts/interop --setup-only` sets both up.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.scripts import script

from wallet.errors import AlreadySpentError, UnverifiedError, VerificationError
from wallet.protocol import requests, tokens
from wallet.protocol.conditions import Condition
from wallet.protocol.requests import PaymentRequest, Transport
from wallet.wallet import Wallet

NAMES = ("nutshell", "cashu-ts")
GENERATOR = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"
FEE = 1  # of up to ten inputs at this mint
NPROFILE = (
    "nprofile1qqsrhuxx8l9ex335q7he0f09aej04zpazpl0ne2cgukyawd24mayt8g"
    "pp4mhxue69uhhytnc9e3k7mgpz4mhxue69uhkg6nzv9ejuumpv34kytnrdaksjlyr9p"
)


@pytest.fixture(scope="module")
def started(nutshell: Any) -> Iterator[dict[str, Any]]:
    """Both peers, started side by side; those that are missing, by the reason why."""
    module = script("_peers")
    running = {name: module.missing(name) or module.Peer(name, nutshell.url) for name in NAMES}
    yield running
    for peer in running.values():
        if not isinstance(peer, str):
            peer.end()


@pytest.fixture(params=NAMES)
def peer(request: pytest.FixtureRequest, started: dict[str, Any]) -> Any:
    found = started[request.param]
    if isinstance(found, str):
        pytest.skip(found)
    return found


async def opened(folder: Path, mint: Any, *, funds: int = 0) -> Wallet:
    wallet = await Wallet.open(folder / "wallet.db", key=b"\x22" * 32)
    await wallet.add_mint(mint.url)
    if funds:
        invoice = await wallet.request_invoice(funds)
        await wallet.claim_invoice(invoice.operation, wait=30)
    return wallet


async def test_plain_tokens_go_both_ways(peer: Any, nutshell: Any, tmp_path: Path) -> None:
    before = nutshell.outstanding()
    async with await opened(tmp_path, nutshell, funds=100) as wallet:
        sent = await wallet.send(21, memo="tea & cake")
        read = peer.ask("decode", token=sent.token)
        assert (read["mint"], read["unit"], read["memo"]) == (nutshell.url, "sat", "tea & cake")
        assert sum(read["amounts"]) == 21
        assert read["verified"]
        assert peer.ask("receive", token=sent.token) == 21 - FEE
        assert [each.key for each in await wallet.refresh_outbox()] == [sent.operation]

        funded = peer.ask("fund", amount=64)
        token = peer.ask("send", amount=13, memo="gruß")
        got = await wallet.receive(token)
        assert (got.amount, got.fee, got.memo, got.verified) == (13 - FEE, FEE, "gruß", True)
        assert wallet.balance() == 100 - 21 - sent.fee + 13 - FEE
        with pytest.raises(AlreadySpentError):
            await wallet.receive(token, key="again")
        assert funded >= 64
        added = nutshell.outstanding() - before
        assert 0 <= 100 + 64 - added - sent.fee - 2 * FEE <= 2 * FEE  # what the peer's swap cost


@pytest.mark.parametrize("blind", [False, True], ids=["P2PK", "P2BK"])
async def test_locked_tokens_go_both_ways(
    peer: Any, blind: bool, nutshell: Any, tmp_path: Path
) -> None:
    async with (
        await opened(tmp_path / "ours", nutshell, funds=64) as wallet,
        await opened(tmp_path / "thief", nutshell) as thief,
    ):
        theirs = peer.ask("pubkey")
        sent = await wallet.send(21, to=bytes.fromhex(theirs), blind=blind)
        secrets = [proof.secret for proof in tokens.decode(sent.token).proofs]
        assert all((theirs[2:] in secret) is not blind for secret in secrets)
        with pytest.raises(VerificationError):
            await thief.receive(sent.token)
        assert peer.ask("decode", token=sent.token)["verified"]
        assert peer.ask("receive", token=sent.token) == 21 - FEE

        peer.ask("fund", amount=64)
        ours = wallet.address().hex()
        token = peer.ask("send", amount=13, to=ours, blind=blind)
        secrets = [proof.secret for proof in tokens.decode(token).proofs]
        assert all((ours[2:] in secret) is not blind for secret in secrets)
        with pytest.raises(VerificationError):
            await thief.receive(token)
        got = await wallet.receive(token)
        assert (got.amount, got.verified) == (13 - FEE, True)


async def test_version_3_is_read_from_nutshell(
    started: dict[str, Any], nutshell: Any, tmp_path: Path
) -> None:
    peer = started["nutshell"]
    peer.ask("fund", amount=32)
    token = peer.ask("send", amount=9, version=3, memo="old")
    assert token.startswith("cashuA")
    async with await opened(tmp_path, nutshell, funds=32) as wallet:
        got = await wallet.receive(token)
        assert (got.amount, got.memo, got.verified) == (9 - FEE, "old", True)
        ours = tokens.encode(tokens.decode((await wallet.send(7)).token), version=3)
        assert peer.ask("receive", token=ours) == 7 - FEE


async def test_a_token_without_dleq_needs_a_word(
    started: dict[str, Any], nutshell: Any, tmp_path: Path
) -> None:
    peer = started["nutshell"]
    peer.ask("fund", amount=32)
    token = peer.ask("send", amount=9, dleq=False)
    async with await opened(tmp_path, nutshell) as wallet:
        with pytest.raises(UnverifiedError):
            await wallet.receive(token)
        assert wallet.balance() == 0
        got = await wallet.receive(token, allow_unverified=True)
        assert (got.amount, got.verified) == (9 - FEE, False)


async def test_others_restore_what_our_seed_has(peer: Any, nutshell: Any, tmp_path: Path) -> None:
    async with await opened(tmp_path, nutshell, funds=64) as wallet:
        sent = await wallet.send(20, to=bytes.fromhex(peer.ask("pubkey")))
        assert wallet.balance() == 64 - 20 - sent.fee
        assert peer.ask("restore", words=wallet.words()) == wallet.balance()


REQUESTS = {
    "all": PaymentRequest(
        id="b7a90176",
        amount=21,
        unit="sat",
        single_use=True,
        mints=("https://mint.example.org", "https://other.example.org/cashu"),
        description="two cups of tea — grün",
        transports=(
            Transport("nostr", NPROFILE, (("n", "17"),)),
            Transport("post", "https://pay.example.org/7"),
        ),
        lock=Condition("P2PK", GENERATOR),
    ),
    "little": PaymentRequest(id="1", amount=1, unit="sat", mints=("https://mint.example.org",)),
}


@pytest.mark.parametrize("version", ["A", "B"])
@pytest.mark.parametrize("which", REQUESTS)
def test_payment_requests_are_read_both_ways(peer: Any, which: str, version: Any) -> None:
    ours = REQUESTS[which]
    text = requests.encode(ours, version)
    assert as_fields(ours) == normal(peer.ask("decode_request", text=text))
    theirs = peer.ask("encode_request", version=version, **as_fields(ours))
    assert theirs.lower().startswith(f"creq{version}".lower())
    assert as_fields(requests.decode(theirs)) == as_fields(ours)


def as_fields(request: PaymentRequest) -> dict[str, Any]:
    """A request in the words of scripts/peers."""
    return {
        "id": request.id,
        "amount": request.amount,
        "unit": request.unit,
        "single_use": bool(request.single_use),
        "mints": list(request.mints),
        "description": request.description,
        "transports": [
            {"kind": way.kind, "target": way.target, "tags": [list(tag) for tag in way.tags]}
            for way in request.transports
        ],
        "lock": request.lock
        and {
            "kind": request.lock.kind,
            "data": request.lock.data,
            "tags": [list(tag) for tag in request.lock.tags],
        },
    }


def normal(read: dict[str, Any]) -> dict[str, Any]:
    """What is absent is null, whatever a language calls it."""
    names = ("id", "amount", "unit", "description", "transports", "lock")
    fields = {name: read.get(name) for name in names}
    mints, once = list(read.get("mints") or ()), bool(read.get("single_use"))
    return {**fields, "mints": mints, "single_use": once}
