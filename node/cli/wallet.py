"""`freehold wallet`: what there is, its mints, and looking after it.

The daemon holds the file; all these commands ask it.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import click

from node.cli import wallet_keys, wallet_pay
from node.cli._shared import (
    clean,
    connect,
    json_option,
    leave,
    note,
    print_json,
    secret,
    table,
)
from node.errors import WalletLockedError, WalletStateError

if TYPE_CHECKING:
    from node.gateway.wallet_replies import OperationReply, WalletReply


@click.group()
def wallet() -> None:
    """Hold, send and receive money: Cashu ecash and Lightning."""


for _command in (*wallet_pay.COMMANDS, *wallet_keys.COMMANDS):
    wallet.add_command(_command)


# ── how it is ───────────────────────────────────────────────────────────────────────────────


@wallet.command()
@json_option
def balance(as_json: bool) -> None:
    """Show what there is, by mint."""
    with connect() as client:
        state = _seen(client.wallet.show())
    if as_json:
        print_json(state)
        return
    click.echo(f"{state['balance_sat']} sat")
    for mint in state["mints"]:
        click.echo(f"  {clean(mint['url'])}  {mint['balance_sat']} sat")
    _told(state)


def _seen(state: WalletReply) -> WalletReply:
    """The same. Raises MoneyError of a wallet that cannot be looked into: it may hold any sum."""
    if state["state"] == "locked":
        raise WalletLockedError(state["problem"], hint=state["hint"])
    if state["state"] == "broken":
        raise WalletStateError(state["problem"], hint=state["hint"])
    return state


def _told(state: WalletReply) -> None:
    """Says what a person should know of the wallet's state, and does not see from its balance."""
    if state["state"] == "stale":
        note("the wallet came out of an archive")
        note("`freehold wallet restore` asks the mints what is true.")
    if state["state"] == "none" or not state["mints"]:
        note("no mint yet: `freehold wallet mints add URL` adds one you trust")
    for mint in state["mints"]:
        if mint["over_cap"]:
            note(f"{mint['url']} holds more than wallet.mint_cap_sats: move some elsewhere")
    if state["pending"]:
        note(f"{state['pending']} operations are under way: `freehold wallet pending`")
    if state["nwc"]:
        note(f"invoices can be paid from {state['nwc']} too: --mint nwc")


@wallet.command()
@click.option(
    "-n",
    "limit",
    type=click.IntRange(1, 10_000),
    default=20,
    show_default=True,
    help="How many of the newest.",
)
@json_option
def history(limit: int, as_json: bool) -> None:
    """Show what came in and went out, newest first.

    What stands there as a part of something is in that line's sums already.
    """
    with connect() as client:
        found = client.wallet.history(limit)
    _show(found, as_json)


@wallet.command()
@json_option
def pending(as_json: bool) -> None:
    """Show what is open: payments under way, invoices not paid, tokens not redeemed."""
    with connect() as client:
        operations, outbox = client.wallet.pending()
    if as_json:
        print_json({"operations": operations, "outbox": outbox})
        return
    _show([*operations, *outbox], False)


def _show(operations: list[OperationReply], as_json: bool) -> None:
    if as_json:
        print_json(operations)
        return
    rows = [
        (
            f"{datetime.fromtimestamp(each['at']).astimezone():%Y-%m-%d %H:%M}",
            _what(each),
            each["outbox"] or each["state"],
            f"{each['amount']} {each['unit']}",
            str(each["fee"]),
            each["mint"],
            each["id"],
        )
        for each in operations
    ]
    table(("WHEN", "WHAT", "STATE", "AMOUNT", "FEE", "MINT", "OPERATION"), rows)


def _what(operation: OperationReply) -> str:
    """What a line is about; what is a part is in the sums of another line, too."""
    is_part = operation["of"] and operation["kind"] != "reclaim"
    return f"part: {operation['kind']}" if is_part else operation["kind"]


# ── mints ───────────────────────────────────────────────────────────────────────────────────


@wallet.group()
def mints() -> None:
    """The mints that hold your money: you trust each with what is there."""


@mints.command("add")
@click.argument("url")
@click.option("--no-spend", is_flag=True, help="Pay nothing from it, and ask it for no invoices.")
@click.option("--no-accept", is_flag=True, help="Take no tokens of it.")
@json_option
def add(url: str, no_spend: bool, no_accept: bool, as_json: bool) -> None:
    """Add a mint, or change what an added one may be used for.

    A mint can take what you hold there: choose one you have a reason to trust, and keep little.
    """
    with connect() as client:
        mint = client.wallet.add_mint(url, spend=not no_spend, accept=not no_accept)
    if as_json:
        print_json(mint)
    else:
        note(f"added {mint['url']}" + (f" ({mint['name']})" if mint["name"] else ""))
        if mint.get("more"):
            note("it may have more of this seed's ecash: `freehold wallet restore` goes on")


@mints.command("list")
@json_option
def list_(as_json: bool) -> None:
    """Show them, and what they hold."""
    with connect() as client:
        found = _seen(client.wallet.show())["mints"]
    if as_json:
        print_json(found)
        return
    rows = [
        (
            each["url"],
            each["name"],
            f"{each['balance_sat']} sat" + (" (over the cap)" if each["over_cap"] else ""),
            "yes" if each["spend"] else "no",
            "yes" if each["accept"] else "no",
        )
        for each in found
    ]
    table(("URL", "NAME", "BALANCE", "SPEND", "ACCEPT"), rows)


@mints.command("remove")
@click.argument("url")
@click.option("--force", is_flag=True, help="Even while it holds money; that is back with it.")
def remove(url: str, force: bool) -> None:
    """Take a mint off the list."""
    with connect() as client:
        client.wallet.remove_mint(url, force=force)
    note(f"removed {clean(url)}")


# ── looking after it ────────────────────────────────────────────────────────────────────────


@wallet.command()
@json_option
def check(as_json: bool) -> None:
    """Compare the wallet's file with what its mints say.

    Exit status 1 if something needs you.
    """
    with connect() as client:
        report = client.wallet.check()
    if as_json:
        print_json(report)
    else:
        click.echo(f"{report['proofs']} proofs looked at")
        for line in report["damage"]:
            click.echo(f"damaged: {clean(line)}")
        if report["spent_elsewhere"]:
            click.echo(
                f"{report['spent_elsewhere']} proofs were spent elsewhere and are set aside: does "
                "another wallet have this seed?"
            )
        if report["back"]:
            click.echo(f"{report['back']} proofs that were set aside can be spent again")
        for mint in report["unreachable"]:
            click.echo(f"could not ask {clean(mint)}")
        well = "what was asked about is well" if report["unreachable"] else "all is well"
        click.echo(well if report["ok"] else "something needs you; see docs/wallet.md")
    leave(0 if report["ok"] else 1)


@wallet.command()
@json_option
def settle(as_json: bool) -> None:
    """Ask now what became of all that is open; the node does so by itself, too."""
    with connect() as client:
        ended = client.wallet.settle()
    if as_json:
        print_json(ended)
    elif ended:
        _show(ended, False)
    else:
        note("nothing ended")


@wallet.command()
@click.option("--words", is_flag=True, help="Into a home without a wallet: asks for the seed.")
@click.option("--mint", "urls", multiple=True, help="Add this mint first; may repeat.")
@json_option
def restore(words: bool, urls: tuple[str, ...], as_json: bool) -> None:
    """Bring back what the seed has at the mints.

    Also what a wallet needs that came out of an archive: until every mint was asked it neither pays
    nor takes anything. Exit status 1 if a mint could not be asked.
    """
    seed = secret("Seed (12 or more words)") if words else ""
    with connect() as client:
        found = client.wallet.restore(" ".join(seed.split()), urls)
        state = client.wallet.show()
    if as_json:
        print_json({"mints": found, "state": state["state"]})
    else:
        for each in found:
            said = [each["problem"]] if each["problem"] else []
            if each["proofs"] or not said:
                said.insert(0, f"{each['found_sat']} sat in {each['proofs']} proofs")
            click.echo(f"{clean(each['mint'])}: {clean('; '.join(said))}")
        _told(state)
    leave(1 if any(each["problem"] for each in found) else 0)
