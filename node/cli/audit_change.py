"""`freehold audit prune` and `relink`: changes to a log that no daemon is writing."""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import click

from node.cli._shared import clean, home, note, yes_option
from node.journal import Journal, OfflineLog, moment, relink

_DAY_MS = 24 * 3600 * 1000

dir_option = click.option(
    "--dir",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="The journal's folder, if not that of this home.",
)


def folder_of(folder: Path | None) -> Path:
    """The folder that is meant, by its full name: this home's, if none was named."""
    if folder is not None:
        return Path(os.path.abspath(folder))  # a link is not followed: the head is beside it
    return home().journal


@click.command("prune")
@click.option(
    "--before",
    required=True,
    help="What is older than this date or time may go; UTC if it names no zone.",
)
@yes_option
@dir_option
def prune_command(before: str, yes: bool, folder: Path | None) -> None:
    """Delete old entries and their content for good; what is left still verifies.

    Whole segments go, of a week or 65,536 entries. What an unfinished run, an emergency stop or
    today's budgets need stays. The daemon must be down.
    """
    target, limit = folder_of(folder), min(moment(before), _today_ms())
    with closing(Journal.open_sync(target, origin=OfflineLog.open(target).genesis.name)) as log:
        end, held = _prunable(log, limit)
        if end == log.start:
            note(f"nothing to delete: {held}")
            return
        days = f"{_day(log, log.start)} to {_day(log, end - 1)}"
        told = f"entries {log.start} to {end - 1}, from {days}"
        if not yes:
            click.confirm(f"Delete {told}, with their content, for good?", abort=True)
        asyncio.run(log.prune(end, actor="cli"))
        click.echo(f"deleted {told}")


def _prunable(log: Journal, limit_ms: int) -> tuple[int, str]:
    """Where the log would begin, and what keeps it from beginning later."""
    from node.runs import needed_from

    young = (entry.index for entry in log.entries() if entry.ts >= limit_ms)
    needed, end = needed_from(log), next(young, log.size)  # times go back where a clock is set
    if needed >= end:
        return log.prunable(end), "no segment that has ended is all so old; one ends after a week"
    run = log.entry(needed).draft.run
    held = f"run {run} is not over: `freehold runs cancel {run}` ends it"
    return log.prunable(needed), held if run else "`freehold resume` lifts the emergency stop first"


def _today_ms() -> int:
    now = int(time.time() * 1000)
    return now - now % _DAY_MS


def _day(log: Journal, index: int) -> str:
    return datetime.fromtimestamp(log.entry(index).ts / 1000, UTC).date().isoformat()


@click.command("relink")
@click.option(
    "--origin", required=True, help="The new log's name, not the old one's; a node's new name."
)
@yes_option
@dir_option
def relink_command(origin: str, yes: bool, folder: Path | None) -> None:
    """Set a lost or rolled-back log aside and begin a new one that links it."""
    target, name = folder_of(folder), ""
    if folder is None:
        origin, name = _node_origin(origin)
    if not yes:
        click.confirm(f"Set {target} aside and begin a new log {origin!r}?", abort=True)
    journal = relink(target, origin=origin, actor="cli")
    journal.close()
    click.echo(f"new log {clean(str(journal.vkey))}")
    if name:
        note(
            f'Now set name = "{name}" under [node] in {home().config}: a log has its node\'s name.'
        )


def _node_origin(text: str) -> tuple[str, str]:
    """What the log of a node of this name is called, and the name. Raises ConfigError."""
    from node.config import check_name

    name = text.removeprefix("freehold/")
    return check_name(name).origin, name


COMMANDS = (prune_command, relink_command)
