"""`freehold wallet`: its secrets. The seed, the passphrase, the connection to another wallet.

All are read from standard input or a hidden prompt, never from the command line, which every user
of the machine can read and a shell remembers.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator

import click

from node.cli._shared import (
    confirm,
    connect,
    hidden,
    home,
    json_option,
    note,
    print_json,
    secret,
    standard_input,
    yes_option,
)
from node.errors import FreeholdError, WalletMissingError


@click.command()
@yes_option
@json_option
def backup(yes: bool, as_json: bool) -> None:
    """Show the seed: the words from which all the money can be brought back.

    Whoever has them has the money. Write them on paper. `freehold backup FILE` keeps the file.
    """
    if not yes:
        confirm("Show the seed here? Nobody else may see this screen")
    with connect() as client:
        seed = client.wallet.words()
    print_json({"words": seed}) if as_json else click.echo(seed)


@click.command()
def unlock() -> None:
    """Open a wallet that is locked; asks for its passphrase, or reads it from standard input."""
    with connect() as client:
        state = client.wallet.unlock(secret("Passphrase"))
    note(f"the wallet is open: {state['balance_sat']} sat")


@click.command()
@click.option("--remove", "removed", is_flag=True, help="Keep the key without one.")
def passphrase(removed: bool) -> None:
    """Put the wallet's key under a passphrase, or under another one.

    From then on a start of the node asks for it (or takes it from FREEHOLD_PASSPHRASE or a systemd
    credential), and a stolen disk yields nothing. Lost, only the seed brings the money back.
    From standard input it reads the old one, if there is one, and the new one, each on a line.
    """
    from node.money import WalletKey

    home().require()
    key = WalletKey(home().keys)
    if not key.exists():
        raise WalletMissingError(
            f"there is no key of a wallet in {home().keys}",
            hint="`freehold wallet mints add URL` makes a wallet; `freehold doctor` tells of one "
            "that lost its key.",
        )
    lines = io.StringIO("" if sys.stdin.isatty() else standard_input())
    old = _asked("Passphrase it has now", lines) if key.is_wrapped() else None
    new = None if removed else _asked("New passphrase", lines, twice=True)
    key.set_passphrase(old, new)
    note("the wallet's key has no passphrase" if removed else "the wallet's key is wrapped")
    if not removed:
        note("Backups made before hold the key as it was: make a new one, and destroy those.")


def _asked(what: str, lines: Iterator[str], *, twice: bool = False) -> str:
    if sys.stdin.isatty():
        return hidden(what, twice=twice)
    line = next(lines, None)
    if line is None:
        raise FreeholdError(f"standard input ended before: {what}", hint="One on each line.")
    return line.rstrip("\r\n")


@click.group()
def nwc() -> None:
    """Pay invoices from a wallet of yours elsewhere, over Nostr Wallet Connect."""


@nwc.command("connect")
def nwc_connect() -> None:
    """Connect it; asks for the connection string, or reads it from standard input.

    Whoever has that string can spend what it allows: make one with a limit, for this node alone.
    """
    with connect() as client:
        name = client.wallet.nwc(secret("Connection (nostr+walletconnect://…)").strip())
    note(f"connected {name}; pay from it with --mint nwc")


@nwc.command("disconnect")
def nwc_disconnect() -> None:
    """Forget the connection. Revoke it in the other wallet, too."""
    with connect() as client:
        client.wallet.nwc("")
    note("disconnected")


COMMANDS = (backup, unlock, passphrase, nwc)
