"""`freehold backup` and `freehold restore`."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from types import FrameType

import click

from node.cli._shared import connect, home, json_option, node_home, note, print_json, size
from node.disk import private_file
from node.errors import BackupError, DaemonNotRunningError


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@json_option
def backup(file: Path, as_json: bool) -> None:
    """Write the whole node into one archive.

    Config, agents, tools, keys, log, wallet and workspaces as of one moment, whether or not the
    daemon runs; model weights are left out. The archive holds secrets: it is made 0600, keep it so.
    """
    _check_place(file)
    try:
        with _tidy():
            _write(file)
    except FileExistsError:
        raise BackupError(
            f"{file} exists", hint="Choose another name; nothing is replaced."
        ) from None
    except OSError as error:
        raise BackupError(
            f"cannot write {file}: {error.strerror}", hint="Nothing was kept."
        ) from error
    length = file.stat().st_size
    if as_json:
        print_json({"file": str(file), "bytes": length})
    else:
        note(f"wrote {file} ({size(length)})")


def _check_place(file: Path) -> None:
    """Raises BackupError where no archive belongs."""
    if str(file) == "-":
        raise BackupError(
            "an archive is not written to standard output, which may end before it does",
            hint="Name a file, and copy that.",
        )
    if Path(os.path.realpath(file)).is_relative_to(os.path.realpath(home().root)):
        raise BackupError(
            f"{file} is in the home itself: it would be lost with it, and be in the next archive",
            hint="Name a place outside of it; best is another disk.",
        )


@contextlib.contextmanager
def _tidy() -> Iterator[None]:
    """SIGTERM, and the terminal's end, leave nothing half made behind: it would hold secrets."""

    def end(number: int, _: FrameType | None) -> None:
        raise SystemExit(128 + number)

    numbers = (signal.SIGTERM, signal.SIGHUP)
    taken = [each for each in numbers if signal.getsignal(each) is signal.SIG_DFL]
    for number in taken:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


def _write(file: Path) -> None:
    try:
        with connect() as client:
            client.backup(file)
    except DaemonNotRunningError:
        _offline(file)


def _offline(file: Path) -> None:
    """Makes the archive in this process; no daemon can start meanwhile."""
    from node.backup import write
    from node.config import load

    where = node_home()
    with where.hold(), private_file(file, replace=False) as target:
        write(where, load(where.config, {}).node.name, 0, target)


@click.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--force", is_flag=True, help="Even if there is a node; it is kept beside.")
@json_option
def restore(file: Path, force: bool, as_json: bool) -> None:
    """Make a node out of an archive.

    The home must be empty. With --force the node that is there is moved aside, and an archive whose
    log is older than what that node has acknowledged is refused all the same.
    """
    from node.restore import restore as restore_archive
    from node.version import VERSION

    with _tidy():
        about, kept = restore_archive(file, home(), force=force)
    if as_json:
        print_json({"name": about.name, "created": about.created, "kept": str(kept or "") or None})
        return
    made = datetime.fromtimestamp(about.created).astimezone()
    note(f"restored {about.name} as of {made:%Y-%m-%d %H:%M} into {home().root}", lines=False)
    if about.version != VERSION:
        other = f"Freehold {about.version[:20]} wrote it, and this is {VERSION}"
        note(f"{other}: see docs/upgrades.md", lines=False)
    if kept:
        note(f"the node that was there is in {kept}")
    if home().wallet.exists():
        note(
            "Start it and run `freehold wallet restore`: its wallet must hear from its mints first"
        )
    if sys.stderr.isatty():
        note("Do not start the node it was made from again: two nodes with one log do not agree.")
