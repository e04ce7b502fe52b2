"""`freehold wallet` without a daemon: what each command asks for, says, and ends with."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock, call, create_autospec

import click
import pytest
from click.testing import CliRunner, Result

from node.cli import daemon, doctor_checks, wallet, wallet_keys, wallet_pay
from node.cli.init import create
from node.cli.main import root
from node.errors import FreeholdError, RequestError, WalletLockedError, WalletStateError
from node.home import Home
from node.money import WalletKey
from node.money import key as key_module
from node.wallet_client import WalletClient

URL = "https://mint.example"
BILL = {
    "kind": "invoice",
    "destination": "lightning:02ab",
    "amount_sat": 5,
    "most_fee_sat": 2,
    "description": "",
    "fee_bounded": True,
}
PAID = {"run": "r-1", "paid_sat": 5, "fee_sat": 1, "to": "x", "mint": URL, "operation": "r-1:1"}
GOT = {"received_sat": 4, "fee_sat": 1, "mint": URL, "memo": "", "verified": True}
MINT = {"url": URL, "name": "M", "spend": True, "accept": True, "balance_sat": 7}
SHOWN = {"state": "open", "balance_sat": 7, "pending": 0, "nwc": "", "problem": "", "hint": ""}
OPERATION = {"id": "in-1", "kind": "mint", "state": "done", "mint": URL, "unit": "sat"}
OPERATION |= {"amount": 5, "fee": 0, "at": 0, "updated": 0, "outbox": "", "error": "", "of": ""}
REPORT: dict[str, Any] = {"proofs": 3, "damage": [], "spent_elsewhere": 0, "back": 0}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What the daemon is asked; its replies are those above."""
    client: Any = MagicMock()
    for module in (wallet, wallet_keys, wallet_pay):
        monkeypatch.setattr(module, "connect", lambda: client)
    found = create_autospec(WalletClient, instance=True)
    client.__enter__.return_value.wallet = found
    client.__exit__.return_value = False
    found.show.return_value = {**SHOWN, "mints": [{**MINT, "over_cap": False}]}
    found.add_mint.return_value = MINT
    found.bill.return_value = BILL
    found.pay.return_value = PAID
    found.send.return_value = {**PAID, "token": "cashuB"}
    found.receive.return_value = {**GOT, "over_cap": False}
    found.invoice.return_value = {"operation": "in-1", "invoice": "lnbc1"}
    found.claim.return_value = found.reclaim.return_value = OPERATION
    found.history.return_value = found.settle.return_value = [OPERATION]
    found.request.return_value = {"request": "creqA"}
    found.restore.return_value = []
    found.unlock.return_value = SHOWN
    found.nwc.return_value = "nwc:02ab"
    return found


def run(typed: str, stdin: str = "") -> Result:
    return CliRunner().invoke(root, ["wallet", *typed.split()], input=stdin)


@pytest.mark.parametrize(
    ("typed", "stdin", "done"),
    [
        ("mints add U", "", call.add_mint("U", spend=True, accept=True)),
        ("mints add U --no-spend", "", call.add_mint("U", spend=False, accept=True)),
        ("mints add U --no-accept", "", call.add_mint("U", spend=True, accept=False)),
        ("mints remove U", "", call.remove_mint("U", force=False)),
        ("mints remove U --force", "", call.remove_mint("U", force=True)),
        ("invoice 5 --mint U", "", call.invoice(5, "U")),
        ("history -n 3", "", call.history(3)),
        ("request 5 --memo m", "", call.request(5, "m")),
        ("receive", " T \n", call.receive("T", allow_unverified=False)),
        ("receive - --allow-unverified", "T", call.receive("T", allow_unverified=True)),
        ("pay X 5 --memo m --mint nwc --yes", "", call.pay("X", 5, "m", "nwc", key="")),
        ("pay - --yes --key for-rent", " X\n", call.pay("X", None, "", "", key="for-rent")),
        ("send 5 --yes", "", call.send(5, "", "", "", include_fee=False, key="")),
        (
            "send 5 --to K --memo m --mint U --include-fee --key for-rent --yes",
            "",
            call.send(5, "K", "m", "U", include_fee=True, key="for-rent"),
        ),
        ("restore --words --mint A --mint B", "a  b\nc\n", call.restore("a b c", ("A", "B"))),
        ("restore", "a b c", call.restore("", ())),
        ("unlock", " p \r\n", call.unlock(" p ")),
        ("nwc connect", " uri\n", call.nwc("uri")),
        ("nwc disconnect", "", call.nwc("")),
    ],
)
def test_what_was_typed_is_what_is_asked_for(
    asked: Any, typed: str, stdin: str, done: object
) -> None:
    assert run(typed, stdin).exit_code == 0
    assert done in asked.mock_calls


@pytest.mark.parametrize(
    ("typed", "question"),
    [
        ("pay X", "Pay 5 sat to lightning:02ab, and at most 2 sat of fees?"),
        ("send 5", "Take 5 sat and at most 2 sat of fees out of the wallet, as a token?"),
        ("backup", "Show the seed here? Nobody else may see this screen"),
    ],
)
def test_a_person_is_asked_first_and_may_say_no(
    asked: Any, monkeypatch: pytest.MonkeyPatch, typed: str, question: str
) -> None:
    nobody = run(typed)
    assert isinstance(nobody.exception, RequestError)
    assert "--yes" in nobody.exception.hint
    said: list[str] = []

    def no(text: str, **_: object) -> None:
        said.append(text)
        raise click.Abort

    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    for module in (wallet_keys, wallet_pay):
        monkeypatch.setattr(module, "confirm", no)
    assert run(typed).exit_code == 1
    assert said == [question]
    for move in (asked.pay, asked.send, asked.words):
        move.assert_not_called()


def test_whose_fees_nobody_bounds_is_asked_as_that(
    asked: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(wallet_pay, "confirm", said.append)
    asked.bill.return_value = {**BILL, "fee_bounded": False, "description": "tea"}
    asked.pay.return_value = {**PAID, "proven": False}
    done = run("pay X")
    assert said == [
        'Pay 5 sat to lightning:02ab, which calls it "tea", and the fees that the connected wallet '
        "takes; only its own budget bounds them?"
    ]
    assert "no preimage was shown" in done.stderr


@pytest.mark.parametrize(
    ("state", "status", "said"),
    [
        ("done", 0, "received 5 sat"),
        ("prepared", 7, "it is not paid yet"),
        ("pending", 7, "it is pending: why"),
        ("failed", 1, "it is failed: why"),
    ],
)
def test_an_invoice_that_was_not_paid_is_no_success(
    asked: Any, state: str, status: int, said: str
) -> None:
    error = "" if state in ("done", "prepared") else "why"
    asked.claim.return_value = {**OPERATION, "state": state, "error": error}
    done = run("claim in-1")
    assert (done.exit_code, done.stderr) == (status, f"{said}\n")
    assert run("claim in-1 --json").exit_code == status
    if state != "prepared":
        assert run("invoice 5 --wait").exit_code == status


def test_an_invoice_is_waited_for_until_it_is_paid(asked: Any) -> None:
    for option, printed, shown in (("", "lnbc1", ""), (" --json", "{", "lnbc1")):
        asked.claim.side_effect = [{**OPERATION, "state": "prepared"}, OPERATION]
        done = run(f"invoice 5 --wait{option}")
        assert done.exit_code == 0
        assert asked.claim.mock_calls[-2:] == [call("in-1", 50)] * 2
        assert done.stdout.startswith(printed)
        assert done.stderr.startswith(shown)


def test_a_secret_of_blanks_is_none(asked: Any) -> None:
    for typed in ("unlock", "receive", "nwc connect"):
        assert isinstance(run(typed, " \n").exception, RequestError)
    assert asked.mock_calls == []


@pytest.mark.parametrize(
    ("report", "status", "said"),
    [
        ({}, 0, ["3 proofs looked at", "all is well"]),
        ({"unreachable": [URL]}, 0, [f"could not ask {URL}", "what was asked about is well"]),
        ({"back": 2}, 0, ["2 proofs that were set aside can be spent again"]),
        ({"spent_elsewhere": 2}, 1, ["2 proofs were spent elsewhere", "something needs you"]),
        ({"damage": ["\x1b[2J"]}, 1, [r"damaged: \x1b[2J", "something needs you"]),
    ],
)
def test_a_check_says_what_needs_a_person(
    asked: Any, report: dict[str, Any], status: int, said: list[str]
) -> None:
    found = {**REPORT, "unreachable": [], "ok": status == 0, **report}
    asked.check.return_value = found
    done = run("check")
    assert done.exit_code == status
    for each in said:
        assert each in done.stdout
    assert run("check --json").exit_code == status


def test_a_mint_that_could_not_be_asked_is_no_restore(asked: Any) -> None:
    asked.restore.return_value = [
        {"mint": URL, "found_sat": 9, "proofs": 2, "problem": ""},
        {"mint": "https://b", "found_sat": 0, "proofs": 0, "problem": "away"},
        {"mint": "https://c", "found_sat": 8, "proofs": 1, "problem": "there may be more"},
    ]
    asked.show.return_value |= {"state": "stale", "pending": 2, "nwc": "nwc:02ab"}
    asked.show.return_value["mints"][0]["over_cap"] = True
    done = run("restore")
    assert done.exit_code == 1
    assert done.stdout.splitlines() == [
        f"{URL}: 9 sat in 2 proofs",
        "https://b: away",
        "https://c: 8 sat in 1 proofs; there may be more",
    ]
    for said in (
        "out of an archive",
        "more than wallet.mint_cap_sats",
        "2 operations",
        "--mint nwc",
    ):
        assert said in done.stderr
    assert run("restore --json").exit_code == 1


def test_what_came_is_told_with_what_is_doubtful_of_it(asked: Any) -> None:
    asked.receive.return_value = {**GOT, "memo": "tea", "verified": False, "over_cap": True}
    said = run("receive", "T").stderr
    for part in (
        "received 4 sat: tea",
        "could be checked before",
        "more than wallet.mint_cap_sats",
    ):
        assert part in said


def test_a_part_is_told_from_the_whole_and_a_reclaim_is_none(asked: Any) -> None:
    asked.history.return_value = [
        {**OPERATION, "kind": "melt", "of": "r-1:1"},
        {**OPERATION, "kind": "reclaim", "of": "r-1:1"},
        {**OPERATION, "kind": "send", "outbox": "open"},
    ]
    lines = run("history").stdout.splitlines()[1:]
    assert [re.split(" {2,}", line)[1:3] for line in lines] == [
        ["part: melt", "done"],
        ["reclaim", "done"],
        ["send", "open"],
    ]


@pytest.mark.parametrize(
    ("state", "error"), [("locked", WalletLockedError), ("broken", WalletStateError)]
)
@pytest.mark.parametrize("typed", ["balance", "balance --json", "mints list"])
def test_a_wallet_that_cannot_be_looked_into_is_not_told_as_empty(
    asked: Any, state: str, error: type[FreeholdError], typed: str
) -> None:
    asked.show.return_value = {**SHOWN, "state": state, "problem": "why", "mints": []}
    done = run(typed)
    assert (type(done.exception), done.stdout) == (error, "")


def test_what_is_still_to_be_done_is_said(asked: Any) -> None:
    asked.add_mint.return_value = {**MINT, "more": True}
    assert "`freehold wallet restore` goes on" in run("mints add U").stderr
    asked.show.return_value["mints"] = []
    assert "`freehold wallet mints add URL`" in run("balance").stderr
    asked.bill.return_value = {**BILL, "kind": "peer"}
    assert "`freehold wallet token r-1:1`" in run("pay K 5 --yes").stderr


@pytest.mark.parametrize(
    ("state", "told", "line"),
    [
        ("open", [], "7 sat, 0 operations under way"),
        ("none", [], "none"),  # as where the making of one was cut off
        ("locked", [doctor_checks.Note("why; hint")], "locked: hint"),
        ("broken", [doctor_checks.Fault("why", "hint")], "broken: hint"),
        (
            "stale",
            ["the wallet came out of an archive"],
            "7 sat, 0 operations under way; out of an",
        ),
    ],
)
def test_doctor_and_status_say_what_a_person_should_know(
    state: str, told: list[object], line: str
) -> None:
    shown: Any = {**SHOWN, "state": state, "problem": "why", "hint": "hint", "mints": []}
    found = [*doctor_checks._money(shown)]
    assert [each.problem for each in found] == told if state == "stale" else found == told
    assert daemon._money(shown).startswith(line)
    mints = [{**MINT, "over_cap": True}, {**MINT, "over_cap": False}]
    assert [*doctor_checks._money({**shown, "mints": mints, "pending": 2})][len(found) :] == [
        doctor_checks.Note(f"{URL} holds 7 sat, more than wallet.mint_cap_sats"),
        doctor_checks.Note("2 operations are under way: `freehold wallet pending`"),
    ]


def test_a_passphrase_is_changed_by_who_knows_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_module, "COST", (2**4, 8, 1))
    monkeypatch.setenv("FREEHOLD_HOME", str(tmp_path / "h"))
    create(Home(tmp_path / "h"), "test-node")
    key = WalletKey(Home(tmp_path / "h").keys)
    secret = key.make()
    for option, stdin, why, opens in (
        ("", " first words\n", "", " first words"),
        ("", "wrong words\nother words\n", "not the wallet's passphrase", " first words"),
        ("", " first words\n", "standard input ended before: New", " first words"),
        ("", " first words\r\nother words", "", "other words"),
        ("--remove", "wrong words\n", "not the wallet's passphrase", "other words"),
        ("--remove", "other words\n", "", None),
    ):
        done = run(f"passphrase {option}", stdin)
        assert why in str(done.exception or ""), stdin
        assert (done.exception is None) == (not why)
        assert (key.open(opens), key.is_wrapped()) == (secret, bool(opens))
