"""`freehold wallet`: the commands that move money."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from node.cli._shared import (
    clean,
    confirm,
    connect,
    json_option,
    leave,
    note,
    print_json,
    secret,
    standard_input,
    yes_option,
)
from node.errors import PaymentPendingError, RequestError
from node.money.types import ALL_SATS

if TYPE_CHECKING:
    from node.gateway.wallet_replies import OperationReply

Amount = click.IntRange(1, ALL_SATS)
WAIT_S = 50

mint_option = click.option("--mint", default="", help="Of this mint.")
key_option = click.option(
    "--key", default="", help="Yours for this payment: with it again nothing more is paid."
)


@click.command()
@click.argument("amount", type=Amount)
@mint_option
@click.option("--wait", is_flag=True, help="Until it is paid, or Ctrl-C.")
@json_option
def invoice(amount: int, mint: str, wait: bool, as_json: bool) -> None:
    """Make a Lightning invoice of AMOUNT sat that pays this wallet.

    What is paid is taken by itself, also without --wait. With it the exit status is 0 only once the
    money is there; with --json, too, the invoice to be paid is shown on standard error meanwhile.
    """
    with connect() as client:
        made = client.wallet.invoice(amount, mint)
        if as_json and not wait:
            print_json(made)
            return
        click.echo(made["invoice"], err=as_json)
        if not wait:
            return
        note("waiting until it is paid; Ctrl-C stops waiting only")
        while (found := client.wallet.claim(made["operation"], WAIT_S))["state"] == "prepared":
            pass
    if as_json:
        print_json({**made, "state": found["state"]})
    _claimed(found, quiet=as_json)


@click.command()
@click.argument("operation")
@json_option
def claim(operation: str, as_json: bool) -> None:
    """Take what an invoice brought, though it was given up as not paid.

    An invoice that can still be paid is asked about by itself. Exit status as of invoice --wait.
    """
    with connect() as client:
        found = client.wallet.claim(operation)
    if as_json:
        print_json(found)
    _claimed(found, quiet=as_json)


def _claimed(found: OperationReply, *, quiet: bool) -> None:
    """Says how an invoice stands, and leaves with 0 only if the money is there."""
    if not quiet and found["state"] == "done":
        note(f"received {found['amount']} sat")
    elif not quiet:
        why = f": {found['error']}" if found["error"] else ""
        state = "not paid yet" if found["state"] == "prepared" else found["state"]
        note(f"it is {state}{why}", lines=False)
    if found["state"] != "done":
        leave(1 if found["state"] == "failed" else PaymentPendingError.exit_code)


@click.command()
@click.argument("to", metavar="INVOICE|ADDRESS|REQUEST|PUBKEY")
@click.argument("amount", type=Amount, required=False)
@click.option("--memo", default="", help="For the payee.")
@click.option("--mint", default="", help="Pay from this mint; `nwc`: from the connected wallet.")
@key_option
@yes_option
@json_option
def pay(
    *, to: str, amount: int | None, memo: str, mint: str, key: str, yes: bool, as_json: bool
) -> None:
    """Pay somebody; `-` reads whom from standard input.

    AMOUNT, in sat, where the payee does not name one. Exit status 7 if nobody knows yet whether it
    was paid: do not pay again before `freehold wallet pending` says, unless with the same --key,
    which tells what became of it.
    """
    whom = standard_input().strip() if to == "-" else to
    _refuse_token(whom)
    with connect() as client:
        bill = client.wallet.bill(whom, amount, memo, mint, key=key)
        if not yes:
            said = clean(json.dumps(bill["description"][:100], ensure_ascii=False))
            fees = f"at most {bill['most_fee_sat']} sat of fees"
            if not bill["fee_bounded"]:
                fees = "the fees that the connected wallet takes; only its own budget bounds them"
            payee = clean(bill["destination"], lines=False)
            about = f", which calls it {said}" if bill["description"] else ""
            confirm(f"Pay {bill['amount_sat']} sat to {payee}{about}, and {fees}?")
        with _under_way():
            paid = client.wallet.pay(whom, amount, memo, mint, key=key)
    if as_json:
        _print_moved(paid)
    else:
        spent = f"paid {paid['paid_sat']} sat and {paid['fee_sat']} sat of fees"
        note(f"{spent} to {paid['to']}", lines=False)
        if not paid.get("proven", True):
            note("no preimage was shown, so nothing proves it; usual for a mint's own invoices")
        if bill["kind"] == "peer":
            note(f"hand it over: `freehold wallet token {paid['operation']}` prints the token")
        note(f"run {paid['run']}, operation {paid['operation']}")


@click.command()
@click.argument("amount", type=Amount)
@click.option("--to", default="", metavar="PUBKEY", help="Only this key can redeem it.")
@click.option("--memo", default="", help="For the payee.")
@click.option("--include-fee", is_flag=True, help="So much more that AMOUNT is left of it.")
@mint_option
@key_option
@yes_option
@json_option
def send(
    *,
    amount: int,
    to: str,
    memo: str,
    include_fee: bool,
    mint: str,
    key: str,
    yes: bool,
    as_json: bool,
) -> None:
    """Make a token of AMOUNT sat and print it: whoever has it has the money.

    A mint may take a fee of whoever redeems it; --include-fee puts that on top.
    """
    with connect() as client:
        bill = client.wallet.bill(to or "bearer", amount, memo, mint)
        if not yes:
            fees = f"and at most {bill['most_fee_sat']} sat of fees"
            confirm(f"Take {amount} sat {fees} out of the wallet, as a token?")
        with _under_way():
            made = client.wallet.send(amount, to, memo, mint, include_fee=include_fee, key=key)
    if as_json:
        _print_moved(made)
        return
    note(f"until it is redeemed, `freehold wallet reclaim {made['operation']}` takes it back")
    click.echo(made["token"])  # last: where nobody can read it, it is told how to get it back


@click.command()
@click.argument("token", required=False)
@click.option(
    "--allow-unverified", is_flag=True, help="Also proofs whose mint's signature cannot be checked."
)
@json_option
def receive(token: str | None, allow_unverified: bool, as_json: bool) -> None:
    """Redeem a token; asked for, or read from standard input."""
    given = secret("Token") if token in {None, "-"} else str(token)
    if given == token:
        note("a token on the command line can be read by others before it is redeemed: use a pipe")
    with connect() as client, _under_way():
        got = client.wallet.receive(given.strip(), allow_unverified=allow_unverified)
    if as_json:
        _print_moved(got)
        return
    memo = f": {got['memo']}" if got["memo"] else ""
    note(f"received {got['received_sat']} sat{memo}", lines=False)
    if not got["verified"]:
        note("not all of its signatures could be checked before; its mint has taken them, though")
    if got["over_cap"]:
        note(f"{got['mint']} holds more than wallet.mint_cap_sats: move some elsewhere")


@click.command()
@click.argument("amount", type=Amount, required=False)
@click.option("--memo", default="", help="What it is for.")
@json_option
def request(amount: int | None, memo: str, as_json: bool) -> None:
    """Make a payment request (NUT-18) of AMOUNT sat, or of what the payer likes."""
    with connect() as client:
        made = client.wallet.request(amount, memo)
    print_json(made) if as_json else click.echo(made["request"])


@click.command()
@click.argument("operation")
@json_option
def token(operation: str, as_json: bool) -> None:
    """Print the token of a send that nobody redeemed yet."""
    with connect() as client:
        found = client.wallet.token(operation)
    print_json({"operation": operation, "token": found}) if as_json else click.echo(found)


@click.command()
@click.argument("operation")
@json_option
def reclaim(operation: str, as_json: bool) -> None:
    """Take back a token that nobody redeemed yet."""
    with connect() as client, _under_way():
        found = client.wallet.reclaim(operation)
    if as_json:
        _print_moved(found)
    else:
        note(f"{found['amount']} sat are back, after {found['fee']} sat of fees")


COMMANDS = (invoice, claim, pay, send, receive, request, token, reclaim)


@contextmanager
def _under_way() -> Iterator[None]:
    """Ctrl-C while the daemon moves money only stops the waiting, and that must be said."""
    try:
        yield
    except KeyboardInterrupt:
        note("\nnot waiting; the node goes on with it, and it may happen all the same")
        note("do not do it again before `freehold wallet history` says how it ended")
        raise


def _print_moved(result: object) -> None:
    """Prints what moved; output that cannot be written must not look like a failure."""
    try:
        print_json(result)
    except OSError as error:
        raise PaymentPendingError(
            f"it is done, and the output cannot be written: {error.strerror}",
            hint="Do not do it again: `freehold wallet history` has it.",
        ) from error


def _refuse_token(text: str) -> None:
    """A token given to `pay` by mistake would have been money in the open."""
    if text.lower().startswith(("cashua", "cashub", "nostr+walletconnect", "nsec1")):
        raise RequestError(
            "that is a secret, not a payee",
            hint="`freehold wallet receive` redeems a token, `nwc connect` connects a wallet; both "
            "read it from standard input.",
        )
