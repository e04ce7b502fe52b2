"""The wallet's routes over a real wallet and mints in memory: what is done, told and logged."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from node.errors import FreeholdError, JournalWriteError
from node.gateway import wallet as routes
from node.gateway import wallet_pay
from node.gateway.http import on_error
from node.journal import MemoryLog
from node.money import BEARER, Keeper, Payment, WalletPurse
from node.runs.telling import Telling
from wallet import Rules
from wallet.mint import MintClient
from wallet.mint.testing import Fault, MemoryLightning, MemoryMint, Purse
from wallet.operations.results import Restored
from wallet.protocol import tokens
from wallet.types import Token
from wallet.wallet import Wallet

NOW = 1_800_000_000.0
URL, OTHER = "https://mint.example", "https://other.example"
WORDS = "legal winner thank year wave sausage worth useful legal winner thank yellow"


class Node:
    """The routes of one node's wallet, and what they put on the log."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lightning = MemoryLightning(now=lambda: NOW)
        self.mints = {url: MemoryMint(url, lightning=self.lightning) for url in (URL, OTHER)}
        self.log = MemoryLog()
        self.keeper = Keeper(
            folder / "wallet.db", folder / "keys", rules=Rules(), connect=self.connect
        )
        purse = WalletPurse(self.keeper, now=lambda: NOW)
        app = Starlette(
            routes=[*routes.ROUTES, *wallet_pay.ROUTES],
            exception_handlers={FreeholdError: on_error},
        )
        settling = SimpleNamespace(telling=Telling(self.keeper, self.log))
        app.state.control = SimpleNamespace(
            keeper=self.keeper,
            purse=purse,
            log=self.log,
            settling=settling,
            runs=SimpleNamespace(stopped=True),
        )
        transport = httpx.ASGITransport(app, client=("uid:1000", 0))
        self.http = httpx.AsyncClient(transport=transport, base_url="http://node")

    def connect(self, url: str) -> MintClient:
        return MintClient(url, self.mints[url])

    async def ask(self, path: str, **body: object) -> Any:
        reply = await self.http.post(f"/wallet/{path}", json=body)
        return reply.json() | ({} if reply.is_success else {"status": reply.status_code})

    async def token(self, amount: int, url: str = URL) -> Token:
        purse = Purse(self.connect(url), pay=self.lightning.pay)
        return Token(url, "sat", await purse.fill(amount))

    def told(self) -> list[tuple[str, dict[str, Any]]]:
        """The entries since this was last asked for."""
        found = [(each.type, each.data) for each in self.log.entries(self.seen)]
        self.seen = self.log.size
        return found

    seen = 0


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    made = Node(tmp_path)
    yield made
    await made.http.aclose()
    await made.keeper.aclose()


async def test_a_mint_is_added_for_what_the_owner_said_and_no_more(node: Node) -> None:
    node.mints[URL].without.add(9)  # a new seed has nothing there to ask for
    added = await node.ask("mints", url=URL, spend=False)
    assert (added["spend"], added["accept"]) == (False, True)
    assert node.told() == [
        ("wallet.mint_added", {"mint": URL, "spend": False, "accept": True, "made": True})
    ]
    added = await node.ask("mints", url=URL, accept=False)
    assert (added["spend"], added["accept"]) == (True, False)
    ((_, told),) = node.told()
    assert not told["made"]
    given = tokens.encode(await node.token(8))
    assert (await node.ask("receive", token=given))["code"] == "PaymentError"
    assert [kind for kind, _ in node.told()] == []
    assert await node.ask("mints/remove", url=URL) == {}
    assert node.told() == [("wallet.mint_removed", {"mint": URL, "force": False})]


async def test_a_mint_that_is_added_later_brings_what_the_seed_has_there(
    node: Node, tmp_path: Path
) -> None:
    await node.keeper.make(WORDS)
    await node.ask("mints", url=URL)
    node.told()
    path = tmp_path / "older" / "wallet.db"
    async with await Wallet.open(path, key=bytes(32), words=WORDS, connect=node.connect) as older:
        await older.add_mint(OTHER)
        await older.receive(await node.token(64, OTHER))
    node.mints[OTHER].faults.add(Fault.UNREACHABLE, "/v1/restore", times=9)
    assert (await node.ask("mints", url=OTHER))["status"] == 400
    assert [each.url for each in node.keeper.wallet().mints()] == [URL]
    assert node.told() == []
    node.mints[OTHER].faults.clear()
    assert (await node.ask("mints", url=OTHER))["balance_sat"] == 64
    ((kind, told),) = node.told()
    assert (kind, told["found_sat"], told["made"]) == ("wallet.mint_added", 64, False)


async def test_a_mint_that_is_away_keeps_no_other_from_being_asked(
    node: Node, tmp_path: Path
) -> None:
    path = tmp_path / "older" / "wallet.db"
    async with await Wallet.open(path, key=bytes(32), words=WORDS, connect=node.connect) as older:
        await older.add_mint(OTHER)
        await older.receive(await node.token(64, OTHER))
    node.mints[URL].faults.add(Fault.UNREACHABLE, "/v1/info", times=9)
    found = await node.ask("restore", words=WORDS, mints=[URL, OTHER])
    said = {each["mint"]: (each["found_sat"], each["problem"]) for each in found["mints"]}
    assert said[OTHER] == (64, "")
    assert said[URL][0] == 0
    assert f"restore again with --mint {URL}" in said[URL][1]
    assert [each.url for each in node.keeper.wallet().mints()] == [OTHER]
    node.mints[URL].faults.clear()
    found = await node.ask("restore", mints=[URL])
    assert [each["problem"] for each in found["mints"]] == ["", ""]


async def test_where_there_may_be_more_is_said_and_no_part_of_a_sat_is_made_whole(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def some(_wallet: Wallet, url: str) -> Restored:
        return Restored(url, {"sat": 5, "msat": 2_900}, proofs=3, spent=0, more=True)

    monkeypatch.setattr(Wallet, "restore", some)
    assert "more" not in await node.ask("mints", url=URL)
    assert (await node.ask("mints", url=OTHER))["more"]
    assert node.told()[-1][1]["found_sat"] == 7
    node.keeper.path.with_name("wallet.db.restored").touch()
    found = await node.ask("restore")
    assert [(each["found_sat"], each["proofs"]) for each in found["mints"]] == [(7, 3), (7, 3)]
    assert all("restore again to go on" in each["problem"] for each in found["mints"])
    assert found["state"] == "stale"
    assert [kind for kind, _ in node.told()] == ["wallet.restoring", "wallet.restored"]


async def test_proofs_that_cannot_be_checked_are_taken_only_where_the_owner_says_so(
    node: Node,
) -> None:
    await node.ask("mints", url=URL)
    whole = await node.token(16)
    bare = replace(whole, proofs=tuple(replace(each, dleq=None) for each in whole.proofs))
    text = tokens.encode(bare)
    node.told()
    assert (await node.ask("receive", token=text))["code"] == "PaymentError"
    assert (node.keeper.wallet().balance(), node.told()) == (0, [])
    got = await node.ask("receive", token=text, allow_unverified=True)
    assert (got["verified"], got["received_sat"] + got["fee_sat"]) == (False, 16)
    ((kind, told),) = node.told()
    assert (kind, told["operation"], told["amount"]) == (
        "wallet.received", got["operation"], got["received_sat"],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("route", "to", "code"),
    [
        ("pay", BEARER, "RequestError"),
        ("pay", f" {BEARER}\n", "RequestError"),
        ("send", "  ", "PaymentError"),
        ("send", "anna@example.org", "RequestError"),
    ],
)
async def test_what_is_no_payee_gets_no_token(node: Node, route: str, to: str, code: str) -> None:
    await node.ask("mints", url=URL)
    await node.ask("receive", token=tokens.encode(await node.token(64)))
    node.told()
    assert (await node.ask(route, to=to, amount_sat=5))["code"] == code
    assert (node.keeper.wallet().outbox(), node.told()) == ((), [])


async def test_what_the_owner_has_done_is_on_the_log_once_it_is_done(node: Node) -> None:
    await node.ask("mints", url=URL)
    await node.ask("mints", url=OTHER)
    node.told()
    made = await node.ask("invoices", amount_sat=100, mint=OTHER)
    data = {"operation": made["operation"], "amount": 100, "mint": OTHER}
    assert node.told() == [("wallet.invoice", data)]
    claim = {"operation": made["operation"]}
    assert (await node.ask("invoices/claim", **claim))["state"] == "prepared"
    assert (await node.http.get("/wallet")).json()["pending"] == 0, "nobody has paid it yet"
    assert node.told() == []
    node.lightning.pay(made["invoice"])
    assert (await node.ask("invoices/claim", **claim))["state"] == "done"
    ((kind, told),) = node.told()
    assert (kind, told["operation"], told["mint"]) == ("wallet.received", made["operation"], OTHER)
    payment = Payment(BEARER, 10)
    purse = WalletPurse(node.keeper, now=lambda: NOW)
    await purse.pay(payment, purse.bill(payment), key="r-1:1")
    assert (await node.ask("token", operation="r-1:1"))["token"].startswith("cashuB")
    assert node.told() == [("wallet.token_shown", {"operation": "r-1:1"})]
    back = await node.ask("reclaim", operation="r-1:1")
    assert (back["kind"], back["of"]) == ("reclaim", "r-1:1")
    assert ("wallet.reclaimed", back["id"]) in [
        (kind, told.get("operation")) for kind, told in node.told()
    ]
    assert len((await node.ask("words"))["words"].split()) == 12
    assert (await node.ask("unlock", passphrase="whatever"))["state"] == "open"
    await node.ask("nwc", uri="")
    assert [kind for kind, _ in node.told()] == [
        "wallet.seed_shown", "wallet.unlocked", "wallet.settled", "wallet.nwc_ended",
    ]  # fmt: skip


async def test_what_came_and_cannot_be_logged_is_not_told_as_failed(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who sells something takes an invoice that failed for one that was not paid."""

    async def full(*_: object) -> None:
        raise JournalWriteError("the disk is full")

    await node.ask("mints", url=URL)
    made = await node.ask("invoices", amount_sat=100)
    node.lightning.pay(made["invoice"])
    node.told()
    with monkeypatch.context() as disk:
        disk.setattr(node.log, "append", full)
        done = await node.ask("invoices/claim", operation=made["operation"])
    assert (done["code"], done["status"]) == ("PaymentPendingError", 504)
    assert "the disk is full" in done["error"]
    assert node.keeper.wallet().balance() == 100
    assert (await node.ask("invoices/claim", operation=made["operation"]))["state"] == "done"
    assert [kind for kind, _ in node.told()] == ["wallet.received"]


async def test_what_another_wallet_of_this_seed_spent_is_told_and_set_aside(
    node: Node, tmp_path: Path
) -> None:
    await node.keeper.make(WORDS)
    await node.ask("mints", url=URL)
    await node.ask("receive", token=tokens.encode(await node.token(64)))
    node.told()
    assert (await node.ask("check"))["ok"]
    assert (await node.ask("mints/remove", url=URL))["code"] == "PaymentError", "it holds money"
    assert node.told() == []
    path = tmp_path / "other" / "wallet.db"
    async with await Wallet.open(path, key=bytes(32), words=WORDS, connect=node.connect) as other:
        await other.add_mint(URL)
        await other.restore(URL)
        await other.receive((await other.send(other.balance())).token)
    report = await node.ask("check")
    assert (report["ok"], report["spent_elsewhere"] > 0) == (False, True)
    data = {"spent_elsewhere": report["spent_elsewhere"], "back": 0}
    assert node.told() == [("wallet.checked", data)]
    assert (await node.http.get("/wallet")).json()["balance_sat"] == 0
