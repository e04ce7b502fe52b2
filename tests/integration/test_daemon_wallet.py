"""Agents that pay, and nodes that are killed while they do: the real daemon, wallet and tools.

The mint is one in memory, served on loopback; what it issued and redeemed is what everything else
is held against.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any

import pytest
from helpers.node import Node

from node.client import Client
from node.errors import (
    FreeholdError,
    MoneyError,
    NotFoundError,
    RequestError,
    WalletLockedError,
    WalletMissingError,
)
from node.money import WalletKey
from wallet.mint.testing import MemoryLightning, Outcome, ServedMint
from wallet.nwc.memory import MemoryRelay, serve
from wallet.nwc.testing import MemoryService
from wallet.protocol import requests, tokens
from wallet.protocol.conditions import Condition
from wallet.protocol.requests import PaymentRequest
from wallet.types import TransportRequest

if TYPE_CHECKING:
    from pathlib import Path


KEY = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"
BUDGET = "[budget]\nsats = 200\nsats_per_day = 300\n"


def agent(node: Node, more: str) -> None:
    text = f'name = "clerk"\ninstructions = "Help."\n{more}'
    (node.root / "agents" / "clerk.toml").write_text(text)


def client(node: Node) -> Client:
    return Client.unix(node.root / "run" / "control.sock")


def fill(node: Node, mint: ServedMint, amount: int = 500) -> None:
    with client(node) as asked:
        asked.wallet.add_mint(mint.url, spend=True, accept=True)
        made = asked.wallet.invoice(amount)
        mint.do(lambda: mint.mint.pay(made["invoice"]))
        assert asked.wallet.claim(made["operation"], 30)["state"] == "done"


def run(node: Node, prompt: str) -> tuple[str, dict[str, Any]]:
    """The id of a run and how it ended."""
    with client(node) as asked:
        made = asked.start("clerk", prompt)
        for _ in asked.watch(made):
            pass
        return made, dict(asked.run(made))


def invoice(mint: ServedMint, sats: int) -> str:
    return mint.do(lambda: mint.mint.lightning.invoice(sats * 1000))


def spent_msat(node: Node, by: str) -> dict[str, float]:
    done = node.cli("audit", "spend", "--by", by, "--json")
    return {each["name"]: each["totals"].get("msat", 0) for each in json.loads(done.stdout)}


def check_sums(node: Node, mint: ServedMint) -> None:
    """What the wallet holds is what the mint has out; what is in the outbox has not been taken."""
    with client(node) as asked:
        asked.wallet.settle()
        state, (_, outbox) = asked.wallet.show(), asked.wallet.pending()
    held = state["balance_sat"] + sum(each["amount"] for each in outbox)
    assert held == mint.do(mint.mint.outstanding)


# ── an agent pays ───────────────────────────────────────────────────────────────────────────


def test_an_agent_pays_whom_its_manifest_lists(node: Node, mint: ServedMint) -> None:
    agent(node, f'{BUDGET}[payments]\nallow = ["lightning:*"]\napproval_over_sats = 60\n')
    node.env["FREEHOLD_DAEMON__LOG_LEVEL"] = "debug"
    node.up()
    fill(node, mint)
    text = invoice(mint, 40)
    _, ended = run(node, f"pay {text}")
    assert ended["status"] == "completed"
    assert '"paid_sat":40' in ended["text"]
    assert mint.mint.lightning.is_paid(text)
    _, refused = run(
        node, f"pay {'02' + '79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798'} 5"
    )
    assert "not allowed" in refused["text"]
    _, over = run(node, f"pay {invoice(mint, 195)}")
    assert (over["status"], "sats limit 200," in over["reason"]) == ("stopped", True)
    fee = ended["usage"]["msat"] - 40_000
    assert 0 <= fee <= 5_000
    assert spent_msat(node, "agent")["clerk"] == 40_000 + fee
    check_sums(node, mint)
    diagnostics = node.log.read_text()
    assert " is ready" in diagnostics
    assert "/v1/" not in diagnostics  # whom the node asks, and for what, is nobody's business


def test_above_the_node_s_limit_a_person_is_asked(node: Node, mint: ServedMint) -> None:
    (node.root / "config.toml").write_text("[wallet]\napproval_over_sats = 10\n")
    agent(node, f'{BUDGET}[payments]\nallow = ["lightning:*"]\n')
    node.up()
    fill(node, mint)
    text = invoice(mint, 40)
    with client(node) as asked:
        made = asked.start("clerk", f"pay {text}")
        for event in asked.watch(made):
            if event["type"] == "approval.asked":
                assert not mint.mint.lightning.is_paid(text)
                (question,) = asked.approvals()
                assert question["rule"] == "payments.approval_over_sats"
                asked.approve(question["id"])
        assert asked.run(made)["status"] == "completed"
    assert mint.mint.lightning.is_paid(text)


def test_without_a_grant_there_is_no_way_to_pay(node: Node, mint: ServedMint) -> None:
    agent(node, "")
    node.up()
    fill(node, mint)
    text = invoice(mint, 5)
    _, ended = run(node, f"pay {text}")
    assert ended["status"] == "failed"
    assert "there is no function pay" in ended["reason"]
    assert not mint.mint.lightning.is_paid(text)


# ── a tool pays for what it fetches ─────────────────────────────────────────────────────────


@dataclass
class Shop:
    """Sells a page for 7 sat; keeps the tokens it was given, and can refuse them. Where `locked`
    its price asks for ecash that is locked to it, which takes a swap to make."""

    mint: str
    refuses: bool = False
    locked: bool = False
    tokens: list[str] = field(default_factory=list)
    url: str = ""


@pytest.fixture
def shop(mint: ServedMint, listen: Callable[[type[BaseHTTPRequestHandler]], int]) -> Shop:
    told = Shop(mint.url)

    def price() -> str:
        lock = Condition("P2PK", KEY) if told.locked else None
        return requests.encode(PaymentRequest(amount=7, unit="sat", mints=(mint.url,), lock=lock))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            token = self.headers.get("X-Cashu")
            if token:
                told.tokens.append(token)
            if token and not told.refuses:
                self._reply(200, f"the page; thanks for {token}")
            else:
                self._reply(400 if token else 402, "pay first", price())

        def _reply(self, status: int, body: str, price: str = "") -> None:
            self.send_response(status)
            if price:
                self.send_header("X-Cashu", price)
            self.send_header("Content-Type", "text/plain")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    told.url = f"http://127.0.0.1:{listen(Handler)}/page"
    return told


def buyer(node: Node, shop: Shop) -> None:
    host = shop.url.removesuffix("page")
    grant = f'[[tools]]\nname = "web"\ngrant.http = ["{host}*"]\ngrant.pay = ["{host}*"]\n'
    agent(node, BUDGET + grant)


def test_a_page_is_paid_for_and_the_token_seen_nowhere(
    node: Node, mint: ServedMint, shop: Shop
) -> None:
    buyer(node, shop)
    node.up()
    fill(node, mint)
    made, ended = run(node, f"fetch {shop.url}")
    assert ended["status"] == "completed"
    assert "the page; thanks for [secret]" in ended["text"]
    (token,) = shop.tokens
    assert tokens.decode(token).amount == 8  # 1 of it is the mint's, of whoever redeems it
    assert ended["usage"]["msat"] >= 7_000
    steps = [each for each in journal(node, made) if (each["path"] or "").endswith(".402.1")]
    assert [each["type"] for each in steps] == ["step.intent", "step.result"]
    (intent, _) = (each["data"] for each in steps)
    assert intent["needs"]["destinations"] == [shop.url]
    assert "args" not in intent, "it can be erased"
    with client(node) as asked:
        (fetched,) = (each for each in asked.trace(made)["steps"] if each["name"] == "web_fetch")
    (payment,) = (each for each in fetched["steps"] if each["name"] == "pay_402")
    assert payment["args"]["url"] == shop.url
    value = payment["value"]
    assert (value["paid_sat"], value["to"], value["mint"]) == (7, shop.url, mint.url)
    assert spent_msat(node, "tool")["web_fetch"] == ended["usage"]["msat"]
    assert spent_msat(node, "peer")[shop.url] == ended["usage"]["msat"]
    kept = [path for path in node.root.rglob("*") if path.is_file()]
    for path in (*kept, node.log):
        assert token.encode() not in path.read_bytes(), path
    check_sums(node, mint)


def test_a_token_that_a_shop_refuses_comes_back(node: Node, mint: ServedMint, shop: Shop) -> None:
    buyer(node, shop)
    shop.refuses = True
    node.up()
    fill(node, mint)
    _, ended = run(node, f"fetch {shop.url}")
    assert ended["usage"]["msat"] <= 2_000  # what making and taking it back cost
    with client(node) as asked:
        assert asked.wallet.show()["balance_sat"] == 500 - ended["usage"]["msat"] // 1000
        assert asked.wallet.pending() == ([], [])
    check_sums(node, mint)


def journal(node: Node, made: str) -> list[dict[str, Any]]:
    with client(node) as asked:
        found = [event["data"] for event in asked.events(follow=False)]
    return [each for each in found if each["run"] == made]


async def test_invoices_are_paid_from_another_wallet(node: Node, mint: ServedMint) -> None:
    lightning = MemoryLightning(now=time.time)
    relay = MemoryRelay()
    node.up()
    async with serve(relay) as url, MemoryService(relay, url=url, lightning=lightning) as service:

        def type_at_it() -> tuple[str, str]:
            text = service.text.encode()
            connected = node.cli("wallet", "nwc", "connect", stdin=text)
            assert connected.returncode == 0, connected.stderr
            invoice = lightning.invoice(21_000)
            paid = node.cli("wallet", "pay", invoice, "--mint", "nwc", "--yes", "--json")
            assert paid.returncode == 0, paid.stderr
            with client(node) as asked:
                assert asked.wallet.show()["nwc"].startswith("nwc:")
                assert not asked.wallet.bill(invoice, mint="nwc")["fee_bounded"]
                assert asked.wallet.bill(invoice)["fee_bounded"]
            assert node.cli("wallet", "nwc", "disconnect").returncode == 0
            return invoice, paid.stdout

        invoice, paid = await asyncio.to_thread(type_at_it)
        assert lightning.is_paid(invoice)
        assert (json.loads(paid)["paid_sat"], len(service.paid)) == (21, 1)
        secret = service.text.rpartition("secret=")[2].encode()
    for path in (*node.root.rglob("*"), node.log):
        assert not path.is_file() or secret not in path.read_bytes(), path


def test_with_a_real_mint_everything_adds_up(node: Node, nutshell: Any) -> None:
    agent(node, f'{BUDGET}[payments]\nallow = ["lightning:*"]\n')
    node.up()
    with client(node) as asked:
        asked.wallet.add_mint(nutshell.url, spend=True, accept=True)
        before = nutshell.outstanding()
        made = asked.wallet.invoice(500)
        assert asked.wallet.claim(made["operation"], 50)["state"] == "done"
    text = MemoryLightning(now=time.time).invoice(40_000)
    _, ended = run(node, f"pay {text}")
    assert '"paid_sat":40' in ended["text"]
    with client(node) as asked:
        token = asked.wallet.send(17)["token"]
        asked.wallet.receive(token)
        newest, *others = asked.wallet.history()
        assert asked.wallet.history(before=newest["id"]) == others
        with pytest.raises(NotFoundError, match="no operation 'none'"):
            asked.wallet.history(before="none")
        with pytest.raises(NotFoundError, match="no operation 'none'"):
            asked.wallet.token("none")
        balance = asked.wallet.show()["balance_sat"]
        melts = [each for each in asked.wallet.history() if each["kind"] == "melt"]
        assert asked.wallet.check()["ok"]
    assert nutshell.outstanding() - before == balance
    assert ended["usage"]["msat"] == sum(each["amount"] + each["fee"] for each in melts) * 1000


# ── killed while it pays ────────────────────────────────────────────────────────────────────


def kill_at(node: Node, mint: ServedMint, moment: str, path: str) -> None:
    """Kills the daemon when a request comes to the mint, before it acts or after."""

    def hook(when: str, asked: TransportRequest) -> None:
        if (when, asked.path) == (moment, path):
            mint.mint.hook = None
            node.send(signal.SIGKILL)

    mint.do(lambda: setattr(mint.mint, "hook", hook))


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("path", ["/v1/melt/quote/bolt11", "/v1/melt/bolt11"])
def test_killed_while_it_pays_an_invoice(
    node: Node, mint: ServedMint, moment: str, path: str
) -> None:
    agent(node, f'{BUDGET}[payments]\nallow = ["lightning:*"]\napproval_over_sats = 200\n')
    node.up()
    fill(node, mint)
    text = invoice(mint, 40)
    kill_at(node, mint, moment, path)
    with client(node) as asked:
        made = asked.start("clerk", f"pay {text}")
    assert node.process is not None
    assert node.process.wait(60) == -signal.SIGKILL
    node.up()
    with client(node) as asked:
        for _ in asked.watch(made):
            pass
        ended = asked.run(made)
        assert (ended["status"], '"paid_sat":40' in ended["text"]) == ("completed", True)
        melts = [each for each in asked.wallet.history() if each["kind"] == "melt"]
        balance = asked.wallet.show()["balance_sat"]
    assert [(each["state"], each["amount"]) for each in melts] == [("done", 40)]
    assert ended["usage"]["msat"] == (40 + melts[0]["fee"]) * 1000
    assert balance == 500 - 40 - melts[0]["fee"]
    check_sums(node, mint)


@pytest.mark.parametrize("moment", ["before", "after"])
def test_killed_while_a_tool_pays(node: Node, mint: ServedMint, shop: Shop, moment: str) -> None:
    buyer(node, shop)
    shop.locked = True
    node.up()
    fill(node, mint)
    kill_at(node, mint, moment, "/v1/swap")
    with client(node) as asked:
        made = asked.start("clerk", f"fetch {shop.url}")
    assert node.process is not None
    assert node.process.wait(60) == -signal.SIGKILL
    assert shop.tokens == []
    node.up()
    with client(node) as asked:
        for _ in asked.watch(made):
            pass
        ended = asked.run(made)
        sends = [each for each in asked.wallet.history() if each["kind"] == "send"]
    assert (ended["status"], "the page" in ended["text"]) == ("completed", True)
    assert len(shop.tokens) == 1
    assert [each["amount"] for each in sends] == [8]  # with what redeeming it costs the shop
    assert ended["usage"]["msat"] == (8 + sends[0]["fee"]) * 1000
    check_sums(node, mint)


def test_a_payment_that_hangs_over_a_restart_is_settled(node: Node, mint: ServedMint) -> None:
    agent(node, f'{BUDGET}[payments]\nallow = ["lightning:*"]\n')
    node.env["FREEHOLD_WALLET__PAYMENT_WAIT_S"] = "0"
    node.up()
    fill(node, mint)
    text = invoice(mint, 40)
    mint.mint.lightning.outcome = Outcome.PENDING
    with client(node) as asked:
        made = asked.start("clerk", f"pay {text}")
        for event in asked.watch(made):
            if event["type"] == "approval.asked":
                break
    node.down(signal.SIGKILL)
    mint.mint.lightning.outcome = Outcome.PAID
    mint.do(lambda: mint.mint.lightning.end(text, Outcome.PAID))
    node.up()
    with client(node) as asked:
        for _ in asked.watch(made):
            pass
        assert asked.run(made)["status"] == "completed"
        assert asked.approvals() == []
        kinds = [event["data"]["type"] for event in asked.events(follow=False)]
    assert "wallet.settled" in kinds
    check_sums(node, mint)


def test_what_is_typed_wrong_makes_no_wallet_that_a_seed_then_cannot_replace(
    node: Node, mint: ServedMint
) -> None:
    node.up()
    with client(node) as asked:
        for url in ("htps://mint.example", "http://mint.example", "mint"):
            with pytest.raises(FreeholdError):
                asked.wallet.add_mint(url, spend=True, accept=True)
            with pytest.raises(FreeholdError):
                asked.wallet.restore("", [mint.url, url])
        with pytest.raises(MoneyError):  # nobody listens there
            asked.wallet.add_mint("http://127.0.0.1:1", spend=True, accept=True)
        with pytest.raises(RequestError):
            asked.wallet.nwc("nostr+walletconnect://slip")
        with pytest.raises(WalletMissingError) as caught:  # the seed was forgotten
            asked.wallet.restore("", [mint.url])
        assert "--words" in caught.value.hint
        assert asked.wallet.show()["state"] == "none"
    assert not (node.root / "wallet.db").exists()
    words = "abandon " * 11 + "about"
    with client(node) as asked:
        assert asked.wallet.restore(words, [mint.url])[0]["problem"] == ""
        assert asked.wallet.words() == words


# ── locked, backed up, restored ─────────────────────────────────────────────────────────────


def test_a_locked_wallet_keeps_the_node_going(node: Node, mint: ServedMint) -> None:
    node.up()
    fill(node, mint)
    done = node.cli("wallet", "passphrase", stdin=b"eight small words\n")
    assert done.returncode == 0, done.stderr
    assert WalletKey(node.root / "keys").is_wrapped()
    node.down()
    node.up()
    assert "locked" in node.log.read_text()
    assert "wallet     locked" in node.cli("status").stdout
    assert node.cli("wallet", "send", "5", "--yes").returncode == 8
    for words in (["balance"], ["balance", "--json"], ["mints", "list"]):
        done = node.cli("wallet", *words)
        assert (done.returncode, done.stdout) == (8, ""), "it is not told as empty"
    with client(node) as asked:
        with pytest.raises(WalletLockedError):
            asked.wallet.unlock("wrong")
        assert asked.wallet.unlock("eight small words")["balance_sat"] == 500
    node.down()
    node.env["FREEHOLD_PASSPHRASE"] = "eight small words"
    node.up()
    with client(node) as asked:
        assert asked.wallet.show()["state"] == "open"
    node.down()
    del node.env["FREEHOLD_PASSPHRASE"]
    done = node.cli("wallet", "passphrase", "--remove", stdin=b"eight small words\n")
    assert done.returncode == 0, done.stderr
    node.up()
    with client(node) as asked:
        assert asked.wallet.show()["state"] == "open"


def test_what_is_said_of_a_wallet_without_its_key_brings_the_money_back(
    node: Node, mint: ServedMint
) -> None:
    node.up()
    fill(node, mint)
    words = node.cli("wallet", "backup", "--yes").stdout.encode()
    node.down()
    shutil.rmtree(node.root / "keys" / "wallet")
    node.up()
    done = node.cli("wallet", "balance")
    assert (done.returncode, done.stdout) == (1, "")
    assert "move it and wallet.db* out of the home" in done.stderr
    for path in node.root.glob("wallet.db*"):
        path.rename(node.root.with_name(path.name))
    assert "`freehold wallet restore --words`" in done.stderr
    done = node.cli("wallet", "restore", "--words", "--mint", mint.url, stdin=words)
    assert done.returncode == 0, done.stderr
    assert node.cli("wallet", "balance").stdout.startswith("500 sat\n")


def test_an_older_wallet_asks_its_mints_before_it_pays(
    node: Node, mint: ServedMint, tmp_path: Path
) -> None:
    node.up()
    fill(node, mint)
    archive = tmp_path / "node.tar.gz"
    with client(node) as asked:
        asked.backup(archive)
        asked.wallet.pay(invoice(mint, 100))
        made = asked.wallet.send(50)
        balance = asked.wallet.show()["balance_sat"]
    node.down()
    outside = mint.do(mint.mint.outstanding)
    assert outside == balance + 50
    done = node.cli("restore", str(archive), "--force")
    assert done.returncode == 1, "its log is older than what this home acknowledged"
    other = type(node)(tmp_path / "o")
    assert other.cli("restore", str(archive)).returncode == 0
    assert (other.root / "wallet.db").stat().st_mode & 0o077 == 0
    with sqlite3.connect(other.root / "wallet.db") as copy:
        assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    copy.close()
    try:
        other.up()
        with client(other) as asked:
            assert asked.wallet.show()["state"] == "stale"
            with pytest.raises(MoneyError, match="not held against its mints"):
                asked.wallet.send(5)
            doctor = json.loads(other.cli("doctor", "--json").stdout)
            assert any(each["what"] == "wallet" and each["problem"] for each in doctor)
            asked.wallet.restore()
            state = asked.wallet.show()
            assert state["state"] == "open"
            assert state["balance_sat"] in (balance, balance + 50)
            paid = asked.wallet.pay(invoice(mint, 10))
            assert paid["paid_sat"] == 10
            report = asked.wallet.check()
        assert report["damage"] == []
        assert tokens.decode(made["token"]).amount == 50
    finally:
        other.end()


def test_the_seed_alone_brings_the_money_back(node: Node, mint: ServedMint, tmp_path: Path) -> None:
    node.up()
    fill(node, mint)
    with client(node) as asked:
        words = asked.wallet.words()
        asked.wallet.pay(invoice(mint, 100))
        balance = asked.wallet.show()["balance_sat"]
    node.down()
    other = type(node)(tmp_path / "o")
    assert other.cli("init").returncode == 0
    try:
        other.up()
        done = other.cli(
            "wallet", "restore", "--words", "--mint", mint.url, "--json", stdin=words.encode()
        )
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["mints"][0]["found_sat"] == balance
        with client(other) as asked:
            assert asked.wallet.show()["balance_sat"] == balance
    finally:
        other.end()
