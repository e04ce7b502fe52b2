"""The wallet's file on a node: made, opened, locked, and come out of an archive."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest
from helpers.money import KEY, URL, Money, Shop, request

from node.errors import (
    MoneyError,
    RequestError,
    WalletLockedError,
    WalletMissingError,
    WalletStateError,
)
from node.gateway.wallet import _restored, reconciled
from node.gateway.wallet_replies import RestoredReply
from node.money import BEARER, Payment, WalletKey
from node.money import key as key_module
from wallet.errors import OutcomeUnknownError, StoreError
from wallet.mint.testing import Fault as MintFault
from wallet.mint.testing.lightning import Outcome
from wallet.protocol import tokens
from wallet.store import Store

if TYPE_CHECKING:
    from node.gateway import Control

WORDS = "legal winner thank year wave sausage worth useful legal winner thank yellow"


async def test_without_a_wallet_nothing_is_paid(tmp_path: Path) -> None:
    money = Money(tmp_path)
    await money.keeper.start()
    assert (money.keeper.state, money.keeper.path.exists()) == ("none", False)
    with pytest.raises(WalletMissingError, match="no wallet yet"):
        await money.pay(Payment(BEARER, 5))


async def test_a_wallet_is_made_once_and_opened_again(money: Money) -> None:
    words = money.keeper.wallet().words()
    assert await money.keeper.make() is money.keeper.wallet()
    assert (await money.keeper.make(words)).words() == words
    await money.keeper.aclose()
    money.keeper = money.make()
    await money.keeper.start()
    assert (money.keeper.state, money.balance()) == ("open", 500)
    assert money.keeper.path.stat().st_mode & 0o077 == 0


async def test_another_seed_is_not_put_into_a_home_that_has_one(money: Money) -> None:
    with pytest.raises(WalletStateError, match="of another seed"):
        await money.keeper.make(WORDS)


async def test_a_seed_makes_the_wallet_it_is_of(tmp_path: Path) -> None:
    money = Money(tmp_path)
    with pytest.raises(RequestError):
        await money.keeper.make("not a seed at all")
    assert not money.keeper.path.exists() or money.keeper.state == "none"
    assert (await money.keeper.make(f"  {WORDS.replace(' ', '  ')} ")).words() == WORDS
    await money.keeper.aclose()


@pytest.mark.parametrize("left", ["empty", "tables"])
async def test_a_making_that_was_cut_off_is_no_wallet_yet(left: str, tmp_path: Path) -> None:
    """Else the next start gives it a seed of its own, and the owner's is refused."""
    money = Money(tmp_path)
    key = WalletKey(tmp_path / "keys").make()
    if left == "empty":
        money.keeper.path.touch()
    else:
        await Store(money.keeper.path, key=key).aclose()
    await money.keeper.start()
    assert money.keeper.state == "none"
    with pytest.raises(WalletMissingError):
        await money.keeper.unlock(None)
    assert (await money.keeper.make(WORDS)).words() == WORDS
    await money.keeper.aclose()


async def test_a_full_disk_while_it_is_made_is_no_wallet_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(*_: object) -> bytes:
        raise StoreError("the wallet's file cannot be used: database or disk is full")

    money = Money(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(Store, "unlock", full)
        with pytest.raises(WalletStateError, match="full"):
            await money.keeper.make(WORDS)
    assert (await money.keeper.make(WORDS)).words() == WORDS
    assert money.keeper.state == "open"
    await money.keeper.aclose()


async def test_a_locked_wallet_opens_with_its_passphrase_alone(
    money: Money, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_module, "COST", (2**4, 8, 1))
    await money.keeper.aclose()
    WalletKey(money.folder / "keys").set_passphrase(None, "eight small words")
    money.keeper = money.make()
    money.purse = money.purse_of(money.keeper)
    await money.keeper.start()
    assert money.keeper.state == "locked"
    with pytest.raises(WalletLockedError, match="locked"):
        await money.pay(Payment(BEARER, 5))
    with pytest.raises(WalletLockedError, match="not the wallet's passphrase"):
        await money.keeper.unlock("wrong")
    assert money.keeper.state == "locked"
    await money.keeper.unlock("eight small words")
    assert (money.keeper.state, money.balance()) == ("open", 500)
    await money.keeper.aclose()
    money.keeper = money.make("eight small words")
    await money.keeper.start()
    assert money.keeper.state == "open"


async def test_what_lies_on_the_disk_of_a_locked_wallet_opens_nothing(
    money: Money, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_module, "COST", (2**4, 8, 1))
    await money.pay(Payment(BEARER, 10))
    wallet = money.keeper.wallet()
    secrets = [*wallet.words().split(), await money.purse.token(Payment(BEARER, 10), key="r-1:1")]
    proofs = tokens.decode(secrets[-1]).proofs
    raw_key = WalletKey(money.folder / "keys").open()
    WalletKey(money.folder / "keys").set_passphrase(None, "eight small words")
    await money.keeper.aclose()
    files = [path for path in money.folder.rglob("*") if path.is_file()]
    disk = b"".join(path.read_bytes() for path in files)
    assert " ".join(secrets[:12]).encode() not in disk
    for proof in proofs:
        assert proof.secret.encode() not in disk
        assert proof.c not in disk
    assert raw_key not in disk
    assert raw_key.hex().encode() not in disk


async def test_a_lost_or_foreign_key_is_said_so(money: Money) -> None:
    await money.keeper.aclose()
    file = money.folder / "keys" / "wallet" / "key.secret"
    content = file.read_bytes()
    file.unlink()
    money.keeper = money.make()
    await money.keeper.start()
    assert money.keeper.state == "broken"
    with pytest.raises(WalletStateError, match="its key cannot be read"):
        money.keeper.wallet()
    file.write_text(json.dumps({"format": 1, "key": bytes(32).hex()}))
    file.chmod(0o600)
    with pytest.raises(MoneyError):
        await money.keeper.unlock(None)
    assert money.keeper.state == "broken"
    file.write_bytes(content)
    await money.keeper.unlock(None)
    assert (money.keeper.state, money.balance()) == ("open", 500)
    assert money.keeper.problem is None


async def test_a_wallet_out_of_an_archive_waits_for_its_mints(money: Money) -> None:
    mark = money.keeper.path.with_name("wallet.db.restored")
    mark.touch()
    assert money.keeper.state == "stale"
    with pytest.raises(WalletStateError, match="not held against its mints"):
        await money.pay(Payment(BEARER, 5))
    with pytest.raises(WalletStateError):  # the node of then may have begun it after the archive
        await money.purse.found(Payment(BEARER, 5), key="r-1:1")
    with pytest.raises(WalletStateError):
        await money.purse.token(Payment(BEARER, 5), key="r-1:1")
    assert money.keeper.wallet(stale=True).balance() == 500
    money.keeper.reconciled()
    assert await money.purse.found(Payment(BEARER, 5), key="r-1:1") is None
    assert (await money.pay(Payment(BEARER, 5))).state == "paid"


async def test_a_wallet_out_of_an_archive_goes_on_with_no_payment(money: Money) -> None:
    """What became of it since then the wallet does not know."""
    money.lightning.outcome = Outcome.PENDING
    invoice, ask = Payment(money.lightning.invoice(21_000)), Payment(request(lock=True))
    for key, payment in (("r-1:1", invoice), ("r-1:2", ask)):
        assert (await money.pay(payment, key)).state == "pending"
    shop = money.web.hosts["shop.example"] = Shop()
    money.keeper.path.with_name("wallet.db.restored").touch()
    asked = len(money.mint.requests)
    found = await money.purse.found(invoice, key="r-1:1")
    assert found is not None
    assert found.state == "pending"
    with pytest.raises(WalletStateError, match="not held against its mints"):
        await money.purse.found(ask, key="r-1:2")
    assert (len(money.mint.requests), shop.bodies) == (asked, [])
    money.keeper.reconciled()
    found = await money.purse.found(ask, key="r-1:2")
    assert found is not None
    assert (found.state, len(shop.bodies)) == ("paid", 1)


async def test_a_wallet_out_of_an_archive_waits_for_what_is_spent_too(money: Money) -> None:
    money.keeper.path.with_name("wallet.db.restored").touch()
    found = [RestoredReply(mint=URL, found_sat=0, proofs=0, problem="")]
    money.mint.faults.add(MintFault.NOT_A_MINT, "/v1/checkstate", times=9)
    assert not await reconciled(money.keeper, found)
    assert (money.keeper.state, "restore again" in found[0]["problem"]) == ("stale", True)
    money.mint.faults.clear()
    found[0]["problem"] = ""
    assert await reconciled(money.keeper, found)
    assert (money.keeper.state, found[0]["problem"]) == ("open", "")


async def test_a_mint_that_does_not_restore_keeps_no_other_from_being_asked(money: Money) -> None:
    await money.keeper.aclose()
    money.mint.without.add(9)
    money.keeper = money.make()
    await money.keeper.start()
    node = cast("Control", SimpleNamespace(keeper=money.keeper))
    assert "NUT-09" in (await _restored(node, URL))["problem"]


async def test_two_at_once_open_it_once(tmp_path: Path) -> None:
    money = Money(tmp_path)
    first, second = await asyncio.gather(money.keeper.make(), money.keeper.make())
    assert first is second
    await money.keeper.aclose()


async def test_a_mint_that_breaks_off_leaves_it_pending(money: Money) -> None:
    async def broken(moment: str, asked: object) -> None:
        if moment == "after" and getattr(asked, "path", "") in ("/v1/swap", "/v1/checkstate"):
            raise OutcomeUnknownError("the line is dead")

    money.mint.hook = broken
    payment = Payment(KEY, 10)
    assert (await money.pay(payment)).state == "pending"
    for hook in (broken, None):
        money.mint.hook = hook
        found = await money.purse.found(payment, key="r-1:1")
        assert found is not None
        assert found.state == ("pending" if hook else "paid")
    assert (found.state, found.amount_sat) == ("paid", 10)
    assert money.balance() == 490 - found.fee_sat
