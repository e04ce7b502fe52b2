"""`freehold wallet` as it is typed, against a real daemon and a mint on loopback."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.node import Node, make_node

from node.client import Client
from node.identity import KeyStore
from wallet.mint.testing import ServedMint
from wallet.protocol import requests

KEY = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"


@pytest.fixture(scope="module")
def mint() -> Iterator[ServedMint]:
    with ServedMint(fee_ppk=100) as served:
        yield served


@pytest.fixture(scope="module")
def rich(mint: ServedMint, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node that is up and holds some sat."""
    node = make_node(tmp_path_factory.mktemp("rich"))
    node.env["FREEHOLD_WALLET__PAYMENT_WAIT_S"] = "1"
    node.up()
    assert node.cli("wallet", "mints", "add", mint.url).returncode == 0
    fill(node, mint, 2_000)
    yield node
    node.end()


def asking(node: Node) -> Client:
    """The node's API, without the time that a command takes to start."""
    return Client.unix(node.root / "run" / "control.sock")


def fill(node: Node, mint: ServedMint, amount: int) -> None:
    with asking(node) as client:
        made = client.wallet.invoice(amount)
        mint.do(lambda: mint.mint.pay(made["invoice"]))
        assert client.wallet.claim(made["operation"], 30)["state"] == "done"


def out(node: Node, *words: str, stdin: bytes = b"") -> Any:
    """What a command of `wallet` prints as JSON."""
    done = node.cli("wallet", *words, "--json", stdin=stdin)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def balance(node: Node) -> int:
    with asking(node) as client:
        return client.wallet.show()["balance_sat"]


def token(node: Node, amount: int) -> str:
    with asking(node) as client:
        return client.wallet.send(amount)["token"]


def invoice(mint: ServedMint, sats: int) -> str:
    return mint.do(lambda: mint.mint.lightning.invoice(sats * 1000))


def events(node: Node, kind: str) -> list[dict[str, Any]]:
    """The log's entries whose type begins so."""
    with asking(node) as client:
        found = [event["data"] for event in client.events(follow=False)]
    return [each for each in found if str(each["type"]).startswith(kind)]


# ── without one, and the first mint ─────────────────────────────────────────────────────────


def test_without_a_wallet_each_command_says_what_to_do(node: Node, mint: ServedMint) -> None:
    assert node.cli("wallet", "balance").returncode == 3
    node.up()
    done = node.cli("wallet", "balance")
    assert (done.returncode, done.stdout) == (0, "0 sat\n")
    assert "freehold wallet mints add URL" in done.stderr
    assert "wallet     none" in node.cli("status").stdout
    for words in (("invoice", "5"), ("send", "5", "--yes"), ("pay", KEY, "5", "--yes"), ("check",)):
        done = node.cli("wallet", *words)
        assert (done.returncode, "Traceback" in done.stderr) == (1, False)
        assert "no wallet yet" in done.stderr
    assert not (node.root / "wallet.db").exists()
    assert node.cli("wallet", "mints", "add", "http://mint.example").returncode != 0
    assert node.cli("wallet", "mints", "add", mint.url).returncode == 0
    assert (node.root / "wallet.db").stat().st_mode & 0o077 == 0
    listed = out(node, "mints", "list")
    assert [(each["url"], each["balance_sat"]) for each in listed] == [(mint.url, 0)]
    assert node.cli("wallet", "mints", "remove", mint.url).returncode == 0
    assert out(node, "mints", "list") == []
    added, removed = events(node, "wallet")
    assert (added["type"], added["data"]["made"]) == ("wallet.mint_added", True)
    assert removed["type"] == "wallet.mint_removed"


# ── in ──────────────────────────────────────────────────────────────────────────────────────


def test_an_invoice_is_waited_for(rich: Node, mint: ServedMint) -> None:
    before = balance(rich)
    process = subprocess.Popen(
        [sys.executable, "-m", "node.cli", "wallet", "invoice", "64", "--wait"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=rich.environment(),
        text=True,
    )
    assert process.stdout is not None
    text = process.stdout.readline().strip()
    assert text.startswith("lnbc")
    mint.do(lambda: mint.mint.pay(text))
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "received 64 sat" in said
    assert balance(rich) == before + 64


def test_an_invoice_is_claimed_by_hand(rich: Node, mint: ServedMint) -> None:
    before, made = balance(rich), out(rich, "invoice", "32")
    done = rich.cli("wallet", "claim", made["operation"])
    assert (done.returncode, "it is not paid yet" in done.stderr) == (7, True)
    mint.do(lambda: mint.mint.pay(made["invoice"]))
    done = rich.cli("wallet", "claim", made["operation"])
    assert (done.returncode, "received 32 sat" in done.stderr) == (0, True)
    assert balance(rich) == before + 32


def test_an_operation_that_there_is_not_is_said_alike(rich: Node) -> None:
    for command in ("claim", "reclaim"):
        done = rich.cli("wallet", command, "in-1")
        assert (done.returncode, "no operation 'in-1'" in done.stderr) == (1, True)
        assert "hint: `freehold wallet history`" in done.stderr


def test_a_token_goes_out_and_comes_back(rich: Node) -> None:
    before = balance(rich)
    made = out(rich, "send", "10", "--memo", "for tea", "--yes")
    text = made["token"]
    assert text.startswith("cashuB")
    assert balance(rich) == before - 10 - made["fee_sat"]
    (open_,) = out(rich, "pending")["outbox"]
    assert (open_["id"], open_["outbox"]) == (made["operation"], "open")
    again = rich.cli("wallet", "token", made["operation"])
    assert again.stdout.strip() == text
    got = out(rich, "receive", stdin=text.encode())
    assert (got["memo"], got["verified"]) == ("for tea", True)
    assert got["received_sat"] + got["fee_sat"] == 10
    done = rich.cli("wallet", "receive", stdin=text.encode())
    assert (done.returncode, "error:" in done.stderr) == (1, True)
    assert text not in done.stderr
    assert out(rich, "pending")["outbox"] == []


def test_a_token_that_nobody_took_is_taken_back(rich: Node) -> None:
    before = balance(rich)
    made = out(rich, "send", "10", "--yes")
    done = rich.cli("wallet", "reclaim", made["operation"])
    assert done.returncode == 0
    assert "are back" in done.stderr
    assert before - 2 <= balance(rich) <= before
    assert rich.cli("wallet", "reclaim", made["operation"]).returncode == 1
    assert "no operation" in rich.cli("wallet", "reclaim", "nothing").stderr


def test_a_token_on_the_command_line_is_warned_about(rich: Node) -> None:
    done = rich.cli("wallet", "receive", token(rich, 4))
    assert done.returncode == 0
    assert "can be read by others" in done.stderr


def test_a_token_locked_to_a_key_is_not_anybodys(rich: Node) -> None:
    made = out(rich, "send", "6", "--to", KEY, "--yes")
    assert made["to"] == f"cashu:{KEY}"
    done = rich.cli("wallet", "receive", stdin=made["token"].encode())
    assert (done.returncode, "locked" in done.stderr) == (1, True)
    assert rich.cli("wallet", "send", "6", "--to", "02" + "ff" * 32, "--yes").returncode == 1


def test_a_request_says_who_is_to_be_paid(rich: Node, mint: ServedMint) -> None:
    text = rich.cli("wallet", "request", "9", "--memo", "eggs").stdout.strip()
    asked = requests.decode(text)
    assert (asked.amount, asked.unit, asked.description) == (9, "sat", "eggs")
    assert asked.mints == (mint.url,)
    assert requests.decode(out(rich, "request")["request"]).amount is None


# ── out ─────────────────────────────────────────────────────────────────────────────────────


def test_paying_is_asked_about_unless_yes_is_said(rich: Node, mint: ServedMint) -> None:
    text = invoice(mint, 21)
    done = rich.cli("wallet", "pay", text)
    assert (done.returncode, "--yes" in done.stderr) == (2, True)
    assert not mint.mint.lightning.is_paid(text)
    paid = out(rich, "pay", text, "--yes")
    assert mint.mint.lightning.is_paid(text)
    assert (paid["paid_sat"], paid["mint"]) == (21, mint.url)
    assert paid["to"].startswith("lightning:0")
    piped = invoice(mint, 3)
    assert out(rich, "pay", "-", "--yes", stdin=piped.encode())["paid_sat"] == 3


def test_at_a_terminal_a_no_pays_nothing(rich: Node, mint: ServedMint) -> None:
    text = invoice(mint, 21)
    for answer, code in ((b"n\n", 1), (b"y\n", 0)):
        said, status = typed(rich, [answer], "wallet", "pay", text)
        assert "Pay 21 sat to lightning:0" in said
        assert "and at most 5 sat of fees?" in said
        assert (status, mint.mint.lightning.is_paid(text)) == (code, code == 0)


def typed(node: Node, answers: list[bytes], *words: str) -> tuple[str, int]:
    """What a command says at a terminal where `answers` are typed, one at each question, and its
    exit status."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "node.cli", *words],
        stdin=follower,
        stdout=follower,
        stderr=follower,
        env=node.environment(),
    )
    os.close(follower)
    said = b""
    for answer in answers:
        asked = b""
        while not asked.rstrip().endswith(b":"):
            asked += os.read(leader, 4096)
        said += asked
        os.write(leader, answer)
    with contextlib.suppress(OSError):  # how a terminal that everybody has left ends
        while rest := os.read(leader, 4096):
            said += rest
    status = process.wait(60)
    os.close(leader)
    return said.decode(), status


def test_what_is_typed_unseen_is_text_and_whole(rich: Node) -> None:
    long = b"cashuB" + b"A" * 5_000
    for answer, why in ((b"\xff\xfe", "not UTF-8"), (long, "what came after them is lost")):
        said, status = typed(rich, [answer + b"\n"], "wallet", "receive")
        assert (status, why in said, "Traceback" in said) == (2, True, False), said
        assert "AAAA" not in said


def test_the_same_invoice_is_not_paid_twice(rich: Node, mint: ServedMint) -> None:
    text = invoice(mint, 12)
    out(rich, "pay", text, "--yes")
    before = balance(rich)
    done = rich.cli("wallet", "pay", text, "--yes")
    assert (done.returncode, balance(rich)) == (1, before)


def test_what_cannot_be_paid_says_why(rich: Node, mint: ServedMint) -> None:
    for words, code, why in (
        (("pay", "nonsense", "--yes"), 1, "nothing that can be paid"),
        (("pay", "lnbc1nonsense", "--yes"), 1, "error:"),
        (("pay", invoice(mint, 50_000), "--yes"), 1, "50000 sat"),
        (("pay", invoice(mint, 5), "6", "--yes"), 1, "asks for 5 sat, not 6"),
        (("pay", "cashuBo2F0", "--yes"), 2, "that is a secret"),
        (("send", "999999", "--yes"), 1, "error:"),
        (("send", "0", "--yes"), 2, "not in the range"),
        (("receive",), 2, "nothing was given"),
        (("nwc", "connect"), 2, "nothing was given"),
    ):
        done = rich.cli("wallet", *words)
        assert (done.returncode, why in done.stderr) == (code, True), (words, done.stderr)
        assert "Traceback" not in done.stderr


def test_an_owners_payment_is_a_run_on_the_log(rich: Node, mint: ServedMint) -> None:
    text = invoice(mint, 17)
    paid = out(rich, "pay", text, "--yes")
    shown = json.loads(rich.cli("runs", "show", paid["run"], "--json").stdout)
    assert (shown["agent"], shown["status"]) == ("node", "completed")
    assert shown["actor"] == f"uid:{os.getuid()}"
    assert shown["usage"]["msat"] == (17 + paid["fee_sat"]) * 1000
    steps = events(rich, "step")
    (result,) = [e for e in steps if e["run"] == paid["run"] and e["type"] == "step.result"]
    assert result["data"]["value"] == {
        "paid_sat": 17,
        "fee_sat": paid["fee_sat"],
        "to": paid["to"],
        "mint": mint.url,
        "operation": paid["operation"],
    }
    (line,) = [e for e in out(rich, "history") if e["id"] == paid["operation"]]
    assert (line["kind"], line["state"], line["amount"]) == ("melt", "done", 17)
    assert line["fee"] == paid["fee_sat"]
    assert rich.cli("replay", paid["run"]).returncode == 0
    assert "make it again" in rich.cli("replay", paid["run"], "--from", "1").stderr


def test_a_payment_that_hangs_ends_with_7_and_settles_later(rich: Node, mint: ServedMint) -> None:
    from wallet.mint.testing import Outcome

    text = invoice(mint, 30)
    mint.mint.lightning.outcome = Outcome.PENDING
    try:
        done = rich.cli("wallet", "pay", text, "--yes")
    finally:
        mint.mint.lightning.outcome = Outcome.PAID
    assert done.returncode == 7, done.stderr
    run = re.search(r"run (r-\w+)", done.stderr)
    assert run
    assert out(rich, "balance")["pending"] == 1
    assert "1 operations under way" in rich.cli("status").stdout
    mint.do(lambda: mint.mint.lightning.end(text, Outcome.PAID))
    out(rich, "settle")  # unless the node has found out by itself just now
    wait_for(rich, run[1])
    (ended,) = [each for each in out(rich, "history") if each["id"].startswith(run[1])]
    assert (ended["state"], ended["amount"]) == ("done", 30)
    assert out(rich, "balance")["pending"] == 0
    assert rich.cli("approvals", "list", "--json").stdout.strip() == "[]"
    (settled,) = [e for e in events(rich, "approval.settled") if e["run"] == run[1]]
    assert (settled["actor"], settled["data"]["verdict"]) == ("wallet", "happened")


def wait_for(node: Node, run: str) -> None:
    """Returns when a run has ended as completed."""
    with asking(node) as client:
        for _ in client.watch(run):
            pass
        assert client.run(run)["status"] == "completed"


# ── a passphrase ────────────────────────────────────────────────────────────────────────────


def test_a_broken_key_of_the_wallet_keeps_no_node_from_starting(node: Node) -> None:
    node.root.joinpath("wallet.db").write_bytes(b"")
    KeyStore(node.root / "keys" / "wallet").set("key", b"x")
    try:
        said, status = typed(node, [], "up", "--detach")
        assert status == 0, said
    finally:
        node.cli("down")


def test_up_asks_for_the_passphrase_at_a_terminal(node: Node, mint: ServedMint) -> None:
    node.up()
    with asking(node) as client:
        client.wallet.add_mint(mint.url, spend=True, accept=True)
    node.down()
    done = node.cli("wallet", "passphrase", stdin=b"short\n")
    assert (done.returncode, "at least 8" in done.stderr) == (1, True)
    assert node.cli("wallet", "passphrase", stdin=b" eight small words \n").returncode == 0
    try:
        answers = [b"wrong\n", b" eight small words \n"]
        said, status = typed(node, answers, "up", "--detach")
        assert status == 0, said
        with asking(node) as client:
            assert client.wallet.show()["state"] == "open"
            pid = client.status()["pid"]
        environment = Path(f"/proc/{pid}/environ")
        if environment.exists():
            assert b"eight small" not in environment.read_bytes()
        assert node.cli("down").returncode == 0
        done = node.cli("up", "--detach")
        assert (done.returncode, "wallet: locked" in done.stderr) == (0, True)
        done = node.cli("wallet", "unlock", stdin=b"wrong")
        assert (done.returncode, "not the wallet's passphrase" in done.stderr) == (8, True)
        assert node.cli("wallet", "unlock", stdin=b" eight small words \n").returncode == 0
    finally:
        node.cli("down")


# ── looking after it ────────────────────────────────────────────────────────────────────────


def test_check_and_settle_say_that_all_is_well(rich: Node) -> None:
    done = rich.cli("wallet", "check")
    assert (done.returncode, "all is well" in done.stdout) == (0, True)
    assert "nothing ended" in rich.cli("wallet", "settle").stderr
    doctor = json.loads(rich.cli("doctor", "--json").stdout)
    assert not [each for each in doctor if each["what"] == "wallet" and each["problem"]]


def test_the_seed_is_shown_to_who_asks_and_is_on_no_log(rich: Node) -> None:
    done = rich.cli("wallet", "backup")
    assert (done.returncode, done.stdout) == (2, "")
    words = rich.cli("wallet", "backup", "--yes").stdout.strip()
    assert len(words.split()) in (12, 24)
    kept = b"".join(
        path.read_bytes()
        for folder in ("journal", "run")
        for path in (rich.root / folder).rglob("*")
        if path.is_file()
    )
    assert words.encode() not in kept
    assert events(rich, "wallet.seed_shown")


def test_no_token_is_in_the_journal_or_the_nodes_own_log(rich: Node) -> None:
    made = token(rich, 5).encode()
    rich.cli("wallet", "receive", stdin=made)
    rich.cli("wallet", "receive", stdin=made)
    kept = [path for path in (rich.root / "run").rglob("*") if path.is_file()]
    kept += (rich.root / "journal").glob("*.jsonl")
    kept.append(rich.log)
    for path in kept:
        assert b"cashuB" not in path.read_bytes(), path
    assert "cashuB" not in rich.cli("trace", "last", "--full").stdout


def test_json_is_one_document_everywhere(rich: Node) -> None:
    for words in (("history",), ("pending",), ("balance",), ("check",), ("mints", "list")):
        done = rich.cli("wallet", *words, "--json")
        json.loads(done.stdout)
        assert done.stderr == ""
    table = rich.cli("wallet", "history").stdout.splitlines()
    assert table[0].split() == ["WHEN", "WHAT", "STATE", "AMOUNT", "FEE", "MINT", "OPERATION"]


def test_what_the_wallet_holds_is_what_its_mint_says(rich: Node, mint: ServedMint) -> None:
    """The last test of the file: every payment above, to the sat."""
    out(rich, "settle")
    open_ = sum(each["amount"] for each in out(rich, "pending")["outbox"])
    assert balance(rich) + open_ == mint.do(mint.mint.outstanding)
