"""`freehold logs`: what the node did, a line an entry of its log."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

import click

from node import diagnostics
from node.cli._shared import clean, connect, home, json_option, print_line
from node.errors import FreeholdError
from node.types import Json, JsonObject

LOOK_EVERY_S = 0.25
COUNT_MAX = 1_000_000_000


@click.command()
@click.option("-f", "--follow", is_flag=True, help="Go on as new entries are written.")
@click.option(
    "-n",
    "count",
    type=click.IntRange(0, COUNT_MAX),
    default=20,
    show_default=True,
    help="How many of the latest.",
)
@click.option("--daemon", is_flag=True, help="The daemon's own diagnostics, from its file.")
@json_option
def logs(follow: bool, count: int, daemon: bool, as_json: bool) -> None:
    """Show what the node did, as it does it.

    `freehold audit log` searches the same log, with or without a daemon.
    """
    if daemon:
        if as_json:
            raise click.UsageError("--daemon does not go with --json: its lines are text")
        with _readable(home().log) as path, suppress(KeyboardInterrupt):
            _diagnostics(path, count, follow=follow)
        return
    with connect() as client, suppress(KeyboardInterrupt):
        start = max(0, client.status()["journal_size"] - count)
        for event in client.events(start, follow=follow):
            if as_json:
                print_line(event["data"])
            else:
                click.echo(line(event["data"]))


def line(entry: JsonObject) -> str:
    """An entry for a person."""
    ts = entry.get("ts")
    at = f"{datetime.fromtimestamp(ts / 1000).astimezone():%H:%M:%S}" if isinstance(ts, int) else ""
    who = " ".join(str(entry[key]) for key in ("run", "path") if entry.get(key))
    data = entry.get("data")
    said = " ".join(_said(data)) if isinstance(data, dict) else ""
    policy = entry.get("policy")
    verdict = ""
    if isinstance(policy, dict) and policy.get("verdict") != "allow":
        verdict = f"[{policy.get('verdict')}: {policy.get('rule')}]"
    parts = (str(entry.get("i", "")), at, str(entry.get("type")), who, said, verdict)
    return clean("  ".join(part for part in parts if part), lines=False)


def _said(data: dict[str, Json]) -> list[str]:
    """The short facts of an entry; what is long or nested is for `audit show`."""
    shown = []
    for key, value in data.items():
        if key in ("digest", "needs", "usage", "salt"):
            continue
        if isinstance(value, str | int | float | bool) and len(str(value)) <= 60:
            shown.append(f"{key}={value}")
    return shown


def _diagnostics(path: Path, count: int, *, follow: bool) -> None:
    for text in diagnostics.tail(path, count):
        click.echo(clean(text))
    if follow:
        for text in diagnostics.follow(path, lambda: time.sleep(LOOK_EVERY_S)):
            click.echo(clean(text), nl=False)


@contextmanager
def _readable(path: Path) -> Iterator[Path]:
    try:
        yield path
    except BrokenPipeError:
        raise
    except OSError as error:
        raise FreeholdError(
            f"cannot read {path}: {error.strerror}",
            hint="It is written by `freehold up --detach`; a service's is in its journal "
            "(`journalctl --user -u freehold`).",
        ) from error
