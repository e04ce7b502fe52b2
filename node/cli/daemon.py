"""`freehold up`, `down` and `status`."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from node.cli._shared import ago, connect, home, json_option, leave, note, print_json, size
from node.cli.service import installed
from node.diagnostics import KEEP_BYTES, OLDER
from node.errors import (
    ControlError,
    DaemonNotRunningError,
    FreeholdError,
    WalletLockedError,
)
from node.home import Home
from node.money.passphrase import PIPE, VARIABLE, is_given
from node.readiness import READY_FD

if TYPE_CHECKING:
    from node.gateway.replies import ModelReply
    from node.gateway.wallet_replies import WalletReply

ANEW = (
    "`freehold down`, then `freehold up`, has it run this one. A service may name another Python: "
    "`freehold service install` writes it anew."
)


@click.command()
@click.option("--detach", is_flag=True, help="Go to the background once the node is ready.")
def up(detach: bool) -> None:
    """Start the daemon.

    In the foreground until it is stopped with Ctrl-C or `freehold down`; a second Ctrl-C does not
    wait for runs to finish. Asks for the wallet's passphrase where it has one, at a terminal;
    without it the node runs with the wallet locked.
    """
    where = home()
    where.require()
    passphrase = _passphrase(where)
    if detach:
        command = [sys.executable, "-P", "-m", "node.cli", "up"]
        start_detached(where, command, passphrase=passphrase)
    else:
        from node.daemon import run

        if passphrase:
            os.environ[VARIABLE] = passphrase  # taken out again before anything else is done
        del passphrase
        run(where)


def _passphrase(where: Home) -> str:
    """The wallet's, from the person at the terminal; "" where it has none, or it is given."""
    if not where.wallet.exists() or is_given(os.environ) or not sys.stdin.isatty():
        return ""
    from node.money import WalletKey

    key, wrapped = WalletKey(where.keys), False
    with contextlib.suppress(FreeholdError):  # the node runs without its wallet, and says why
        wrapped = key.exists() and key.is_wrapped()
    if not wrapped:
        return ""
    text = "Wallet passphrase (empty leaves it locked)"
    while given := str(click.prompt(text, hide_input=True, default="", show_default=False)):
        try:
            key.open(given)
        except WalletLockedError as error:
            note(error.message)
        else:
            break
    return given


def start_detached(where: Home, command: list[str], *, passphrase: str = "") -> None:
    """Starts the daemon in a session of its own and returns when it is ready.

    `passphrase` goes through a pipe, which nobody else can look into.

    Raises:
        ControlError: it ended before it was; with the last lines of its log.
    """
    if where.held():
        raise where.taken()
    where.create()
    start = _cut(where.log)
    reading, writing = os.pipe()
    with open(where.log, "ab") as log, open(reading, "rb") as ready, _piped(passphrase) as secret:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            pass_fds=[writing, secret],
            env={**os.environ, READY_FD: str(writing), PIPE: str(secret)},
        )
        os.close(writing)
        if ready.readline() == b"ready\n":
            process.returncode = 0  # it outlives this command, which Python would warn of
            _greet(process.pid)
            return
    code = process.wait()
    said = where.log.read_bytes()[start:].decode(errors="replace").strip()
    raise _not_started(code, said or f"It said nothing; see {where.log}.")


@contextlib.contextmanager
def _piped(text: str) -> Iterator[int]:
    """The reading end of a pipe that holds a text, which is short."""
    reading, writing = os.pipe()
    try:
        with open(writing, "wb") as pipe:
            pipe.write(text.encode())
        yield reading
    finally:
        os.close(reading)


def _not_started(code: int, said: str) -> ControlError:
    """What kept the daemon from starting, in its own words where it had any."""
    lines = said.splitlines()
    errors = [n for n, line in enumerate(lines) if line.startswith("error: ")]
    if not errors:
        return ControlError(f"the daemon did not start (exit status {code})", hint=said)
    message = lines[errors[-1]].removeprefix("error: ")
    hint = "\n".join(lines[errors[-1] + 1 :]).removeprefix("hint: ")
    return ControlError(f"the daemon did not start: {message}", hint=hint)


def _greet(pid: int) -> None:
    with connect() as client:
        state = client.status()
    resumed, wallet = state["resumed"], state["wallet"]
    note(f"freehold is up (pid {pid})")
    if wallet["state"] in {"locked", "broken", "stale"}:
        note(f"wallet: {_money(wallet)}")
    if resumed:
        note(f"resumed {len(resumed)} unfinished runs: {', '.join(resumed)}")


def _cut(log: Path) -> int:
    """Keeps the log's last file when it has grown; where the next line will stand."""
    try:
        length = log.stat().st_size
    except FileNotFoundError:
        return 0
    if length <= KEEP_BYTES:
        return length
    log.replace(log.with_name(log.name + OLDER))
    return 0


@click.command()
def down() -> None:
    """Stop the daemon.

    Runs get a while (daemon.drain_s) to finish; what does not is parked and goes on at the next
    start.
    """
    where = home()
    with connect() as client:
        pid = client.status()["pid"]
        client.shutdown()
    where.wait_until_free()
    note(f"freehold is down (was pid {pid})")
    if installed(where):
        note("It is a service, which starts it again; `freehold service remove` ends that.")


@click.command()
@json_option
def status(as_json: bool) -> None:
    """Show how the node is.

    Exit status 3 if it is not running.
    """
    try:
        with connect() as client:
            state = client.status()
    except DaemonNotRunningError as error:
        if as_json:
            print_json({"running": False, "home": str(home().root)})
            leave(error.exit_code)
        raise
    if as_json:
        print_json({"running": True, **state})
        return
    click.echo(f"{state['name']} is up: version {state['version']}, pid {state['pid']}")
    if other := other_version(state["version"]):
        note(f"{other}. {ANEW}")
    click.echo(f"home       {state['home']}")
    click.echo(f"started    {ago(state['started'])} ago")
    click.echo(f"memory     {size(state['rss_bytes'])}")
    click.echo(f"log        {state['journal_size']} entries")
    click.echo(f"models     {', '.join(state['models']) or 'none loaded'}")
    for model in state["engine"]:
        click.echo(f"  {_at_work(model)}")
    click.echo(f"agents     {state['agents']}")
    click.echo(f"runs       {state['runs_active']} active")
    click.echo(f"approvals  {state['approvals_waiting']} waiting")
    click.echo(f"wallet     {_money(state['wallet'])}")
    if state["estop"]:
        click.echo("EMERGENCY STOP: no run moves until `freehold resume`")
    if state["stopping"]:
        click.echo("shutting down")


def other_version(running: str) -> str:
    """What to say of a daemon that an upgrade left running; empty where it is of our version."""
    from node.version import VERSION

    return "" if running == VERSION else f"it runs version {running}; this command is of {VERSION}"


def _money(wallet: WalletReply) -> str:
    """One line of the wallet: what there is and what is under way, or why that cannot be told."""
    if wallet["state"] == "none":
        return "none"
    if wallet["state"] not in {"open", "stale"}:
        return f"{wallet['state']}: {wallet['hint']}"
    line = f"{wallet['balance_sat']} sat, {wallet['pending']} operations under way"
    stale = wallet["state"] == "stale"
    return f"{line}; out of an archive: run `freehold wallet restore`" if stale else line


def _at_work(model: ModelReply) -> str:
    """One line of a loaded model: who asks, how fast, how full, how much was kept."""
    prompts = model["prompt_tokens"]
    kept = f"{100 * model['prompt_tokens_cached'] / prompts:.0f}%" if prompts else "none"
    line = (
        f"{model['model']}: {model['running']} running, {model['waiting']} waiting, "
        f"{model['tokens_per_s']:.0f} tokens/s (prompts {model['prompt_tokens_per_s']:.0f}), "
        f"context memory {model['kv_used']}/{model['kv_tokens']}, "
        f"{kept} of prompts kept, {size(model['rss_bytes'])}"
    )
    return f"{line}, {model['crashes']} crashes" if model["crashes"] else line
