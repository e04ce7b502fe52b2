"""`freehold wallet` where something ends in the middle: person, run, daemon or stream."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest
from helpers.node import Node

from node.client import Client
from wallet.mint.testing import Outcome, ServedMint
from wallet.types import MintQuoteState

if TYPE_CHECKING:
    from wallet.types import TransportRequest

KEY = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"
LIMIT_S = 50


@pytest.fixture
def rich(node: Node, mint: ServedMint) -> Node:
    """A node that is up, holds some sat and waits long for payments."""
    node.env["FREEHOLD_WALLET__PAYMENT_WAIT_S"] = str(LIMIT_S)
    node.up()
    with asking(node) as client:
        client.wallet.add_mint(mint.url, spend=True, accept=True)
        made = client.wallet.invoice(500)
        mint.do(lambda: mint.mint.pay(made["invoice"]))
        assert client.wallet.claim(made["operation"], 30)["state"] == "done"
    return node


def asking(node: Node) -> Client:
    return Client.unix(node.root / "run" / "control.sock")


def invoice(mint: ServedMint, sats: int) -> str:
    return mint.do(lambda: mint.mint.lightning.invoice(sats * 1000))


@pytest.fixture
def hanging(
    rich: Node, mint: ServedMint, interruptible: Callable[..., subprocess.Popen[str]]
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A `pay` whose payment is at the mint and does not end, and its invoice."""
    asked = threading.Event()

    def hook(moment: str, request: TransportRequest) -> None:
        if moment == "after" and request.path == "/v1/melt/bolt11":
            asked.set()

    text = invoice(mint, 30)
    mint.mint.lightning.outcome, mint.mint.hook = Outcome.PENDING, hook
    process = interruptible("wallet", "pay", text, "--yes", env=rich.environment())
    assert asked.wait(LIMIT_S)
    yield process, text
    process.kill()
    process.communicate()


# ── a payment is under way ──────────────────────────────────────────────────────────────────


def test_ctrl_c_stops_the_waiting_only(
    rich: Node, mint: ServedMint, hanging: tuple[subprocess.Popen[str], str]
) -> None:
    process, text = hanging
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 130, said
    assert "not waiting; the node goes on with it" in said
    assert "`freehold wallet history`" in said
    mint.do(lambda: mint.mint.lightning.end(text, Outcome.PAID))
    with asking(rich) as client:
        client.wallet.settle()
        ended = client.wallet.history(1)[0]
    assert (ended["kind"], ended["state"], ended["amount"]) == ("melt", "done", 30)


@pytest.mark.parametrize("end", ["cancel", "estop"])
def test_a_payment_whose_run_is_stopped_is_not_said_to_have_failed(
    rich: Node, hanging: tuple[subprocess.Popen[str], str], end: str
) -> None:
    process, _ = hanging
    with asking(rich) as client:
        client.cancel("last", "enough") if end == "cancel" else client.estop()
    _, said = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 7, said
    assert "the payment is under way" in said
    assert "do not pay again" in said


def test_a_payment_that_is_cancelled_before_it_is_made_is_a_stopped_one(
    rich: Node, mint: ServedMint, interruptible: Callable[..., subprocess.Popen[str]]
) -> None:
    asked, cancelled = threading.Event(), threading.Event()

    def hook(moment: str, request: TransportRequest) -> None:
        if moment == "before" and request.path == "/v1/melt/quote/bolt11":
            asked.set()
            cancelled.wait(LIMIT_S)

    text = invoice(mint, 30)
    mint.mint.hook = hook
    process = interruptible("wallet", "pay", text, "--yes", env=rich.environment())
    assert asked.wait(LIMIT_S)
    with asking(rich) as client:
        client.cancel("last", "enough")
        cancelled.set()
    _, said = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 4, said
    assert "nothing was paid: enough" in said
    assert "freehold trace r-" in said
    assert not mint.mint.lightning.is_paid(text)


def test_a_daemon_that_dies_may_have_paid(
    rich: Node, hanging: tuple[subprocess.Popen[str], str]
) -> None:
    process, _ = hanging
    rich.end()
    _, said = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 7, said
    assert "whether the money moved nobody knows yet" in said
    assert rich.cli("wallet", "pay", KEY, "5", "--yes").returncode == 3  # nothing was asked


# ── what would pay, and say that it had not ─────────────────────────────────────────────────


def test_a_token_is_not_sent_to_who_is_paid_another_way(rich: Node, mint: ServedMint) -> None:
    text = invoice(mint, 5)
    done = rich.cli("wallet", "send", "5", "--to", text, "--yes")
    assert (done.returncode, "freehold wallet pay" in done.stderr) == (2, True)
    assert not mint.mint.lightning.is_paid(text)
    done = rich.cli("wallet", "pay", "bearer", "5", "--yes")
    assert (done.returncode, "freehold wallet send" in done.stderr) == (2, True)
    with asking(rich) as client:
        assert client.wallet.show()["balance_sat"] == 500
    done = rich.cli("wallet", "pay", KEY, "5", "--yes")
    assert done.returncode == 0
    assert "hand it over: `freehold wallet token r-" in done.stderr


def test_an_invoice_that_brings_nothing_is_no_success(
    rich: Node, mint: ServedMint, interruptible: Callable[..., subprocess.Popen[str]]
) -> None:
    words = ("wallet", "invoice", "5", "--wait", "--json")
    process = interruptible(*words, env=rich.environment())
    assert process.stderr is not None
    shown = process.stderr.readline().strip()
    assert shown.startswith("ln")

    def taken() -> None:
        (quote,) = (each for each in mint.mint.quotes.mints.values() if each.request == shown)
        quote.state = MintQuoteState.ISSUED

    mint.do(taken)
    printed, _ = process.communicate(timeout=LIMIT_S)
    found = json.loads(printed)
    assert (process.returncode, found["state"], found["invoice"]) == (1, "failed", shown)


# ── streams ─────────────────────────────────────────────────────────────────────────────────


def test_streams_that_are_closed_full_or_endless(rich: Node, mint: ServedMint) -> None:
    with asking(rich) as client:
        ours, back = client.wallet.send(5), client.wallet.send(5)
    for line, code, why in (
        ("receive <&-", 2, "nothing was given"),
        (f"receive {ours['token']} --json >/dev/full", 7, "it is done"),
        (f"reclaim {back['operation']} --json >/dev/full", 7, "it is done"),
        ("nwc connect <&-", 2, "nothing was given"),
        ("backup <&-", 2, "--yes"),
        ("pay - 5 --yes <&-", 2, "error:"),
        ("balance >&-", 0, ""),
        ("pay - 5 --yes </dev/zero", 2, "larger than"),
        ("receive </dev/zero", 2, "larger than"),
        ("send 5 --yes >/dev/full", 1, "freehold wallet reclaim r-"),
        ("send 5 --yes --json >/dev/full", 7, "it is done"),
        (f"pay {invoice(mint, 7)} --yes --json >/dev/full", 7, "it is done"),
        (f"pay {invoice(mint, 8)} --yes 2>/dev/full", 0, ""),
    ):
        shell = ["sh", "-c", f'exec "$0" -m node.cli wallet {line}', sys.executable]
        done = subprocess.run(
            shell, env=rich.environment(), capture_output=True, text=True, timeout=60, check=False
        )
        assert (done.returncode, why in done.stderr) == (code, True), (line, done.stderr)
        assert "Traceback" not in done.stderr


def test_what_is_repeated_of_an_argument_drives_no_terminal(rich: Node) -> None:
    done = rich.cli("wallet", "reclaim", "\x1b[2Jevil")
    assert (done.returncode, "\x1b" in done.stderr) == (1, False)


# ── a payment is asked for again ────────────────────────────────────────────────────────────


def test_with_its_key_a_payment_is_made_once_whenever_it_is_asked_for(
    rich: Node, mint: ServedMint
) -> None:
    text = invoice(mint, 30)
    pay = ("wallet", "pay", text, "--yes", "--json", "--key", "rent-2026-11")
    with asking(rich) as client:
        first = rich.cli(*pay)
        assert (first.returncode, json.loads(first.stdout)["paid_sat"]) == (0, 30), first.stderr
        left = client.wallet.show()["balance_sat"]
    rich.end()
    rich.up()
    again = rich.cli(*pay)
    assert (again.returncode, again.stdout) == (0, first.stdout), again.stderr
    assert rich.cli(*pay[:-1], "another-key").returncode == 1
    other = rich.cli("wallet", "send", "5", "--yes", "--key", "rent-2026-11")
    assert (other.returncode, "was asked something else" in other.stderr) == (2, True)
    with asking(rich) as client:
        assert client.wallet.show()["balance_sat"] == left


def test_with_its_key_a_token_is_made_once(rich: Node) -> None:
    send = ("wallet", "send", "8", "--yes", "--json", "--key", "for-the-baker")
    first, again = rich.cli(*send), rich.cli(*send)
    assert first.returncode == 0
    assert again.stdout == first.stdout
    with asking(rich) as client:
        assert len(client.wallet.pending()[1]) == 1


@pytest.mark.parametrize("key", ["short", "with a space", "naïve-key", "k" * 256, "two\nlines"])
def test_what_is_no_key_moves_nothing(rich: Node, key: str) -> None:
    done = rich.cli("wallet", "send", "8", "--yes", "--key", key)
    assert (done.returncode, "8 to 255 visible ASCII" in done.stderr) == (2, True)
    with asking(rich) as client:
        assert client.wallet.pending() == ([], [])
