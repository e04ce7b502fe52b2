"""`freehold audit`: verify, read and prove what is in the log.

Works on a journal's folder alone: no daemon, no config, no secret, and a home only where no folder
is named. Exit status of `verify` and of a proof check: 0 verified, 1 not, 2 it cannot be told.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import os
import sys
from pathlib import Path

import click

from node.cli._audit import (
    entries_of,
    entry_line,
    print_report,
    reason_json,
    reason_line,
    report_json,
    short,
    write_csv,
)
from node.cli._shared import (
    clean,
    json_option,
    leave,
    note,
    number,
    print_json,
    print_line,
    table,
)
from node.cli.audit_change import COMMANDS, dir_option, folder_of
from node.errors import JournalDamagedError, JournalError
from node.journal import (
    Filter,
    OfflineLog,
    Verdict,
    VerifierKey,
    check_proof,
    diff,
    entry_json,
    moment,
    spend,
    verify,
    why,
)

_EXIT = {Verdict.VERIFIED: 0, Verdict.FAILED: 1, Verdict.UNKNOWN: 2}


def _log(folder: Path | None) -> OfflineLog:
    return OfflineLog.open(folder_of(folder))


@click.group()
def audit() -> None:
    """Verify, read, prove and prune the log."""


for _command in COMMANDS:
    audit.add_command(_command)


@audit.command("verify")
@click.argument("folder", required=False, type=click.Path(path_type=Path))
@click.option("--vkey", help="The key to believe, or a file that holds it; of any epoch.")
@click.option(
    "--since",
    "points",
    multiple=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="A checkpoint kept elsewhere, as a file; the log must go on from it.",
)
@click.option("--head", type=click.Path(path_type=Path), help="The kept head, if not FOLDER.head.")
@click.option("--thorough", is_flag=True, help="Check every signature and parse every entry.")
@click.option("--no-blobs", is_flag=True, help="Leave out the content kept beside the log.")
@json_option
def verify_command(
    *,
    folder: Path | None,
    vkey: str | None,
    points: tuple[Path, ...],
    head: Path | None,
    thorough: bool,
    no_blobs: bool,
    as_json: bool,
) -> None:
    """Verify a log; exit status 0 verified, 1 not, 2 it cannot be told."""
    try:
        report = verify(
            folder_of(folder),
            vkey=None if vkey is None else _key(vkey),
            since=[(str(path), _read(path)) for path in points],
            head=head,
            blobs=not no_blobs,
            thorough=thorough,
        )
    except JournalError as error:
        note(f"cannot tell: {error.message}", lines=False)
        leave(_EXIT[Verdict.UNKNOWN])
    print_json(report_json(report)) if as_json else print_report(report)
    leave(_EXIT[report.verdict])


@audit.command("log")
@dir_option
@click.option("--run", help="Entries of this run: its id, its first characters, or last.")
@click.option("--agent", help="Entries of this agent.")
@click.option("--type", "types", multiple=True, help="Of this type, or beginning so: step.")
@click.option("--denied", is_flag=True, help="What policy, a person or a guard refused.")
@click.option("--since", help="From this date or time on; UTC if it names no zone.")
@json_option
def log_command(
    *,
    folder: Path | None,
    run: str | None,
    agent: str | None,
    types: tuple[str, ...],
    denied: bool,
    since: str | None,
    as_json: bool,
) -> None:
    """List entries."""
    log = _log(folder)
    run = None if run is None else log.find_run(run)
    wanted = Filter(run, agent, types, denied, moment(since) if since else None)
    for entry in filter(wanted.fits, entries_of(log, run)):
        if as_json:
            print_line(entry_json(entry))
        else:
            click.echo(entry_line(entry))


@audit.command("show")
@click.argument("entry", metavar="ENTRY")
@dir_option
@click.option("--blob", "role", help="Print the content of this role: prompt, value, ...")
def show_command(entry: str, folder: Path | None, role: str | None) -> None:
    """Show one entry, or content it refers to.

    ENTRY is an index, or RUN or RUN:STEP for the last entry of a run or of one of its steps.
    Content is written as it is into a pipe or a file; a terminal is shown its control characters.
    """
    log = _log(folder)
    found = log.find_entry(entry)
    if role is None:
        print_json(entry_json(found))
        return
    for ref in found.draft.blobs:
        if role in (ref.role, ref.id):
            _write(log.blobs.content(ref.id))
            return
    roles = ", ".join(ref.role for ref in found.draft.blobs) or "none"
    raise JournalError(f"entry {found.index} has no blob {role!r}", hint=f"It has: {roles}.")


def _write(content: bytes) -> None:
    if sys.stdout.isatty():
        click.echo(clean(content.decode(errors="replace")))
    else:
        sys.stdout.buffer.write(content)


@audit.command("why")
@click.argument("entry", metavar="ENTRY")
@dir_option
@json_option
def why_command(entry: str, folder: Path | None, as_json: bool) -> None:
    """Walk from an entry back to its prompt, policy, approval and principal.

    ENTRY is an index, or RUN or RUN:STEP for the last entry of a run or of one of its steps.
    """
    log = _log(folder)
    reasons = why(log.find_entry(entry).index, log.reader.entry, log.reader.run_entries)
    if as_json:
        print_json([reason_json(reason) for reason in reasons])
        return
    for reason in reasons:
        click.echo("  " * reason.depth + reason_line(log, reason))


@audit.command("diff")
@click.argument("left")
@click.argument("right")
@dir_option
@json_option
def diff_command(left: str, right: str, folder: Path | None, as_json: bool) -> None:
    """Compare two runs step by step."""
    log = _log(folder)
    left, right = log.find_run(left), log.find_run(right)
    found = diff(log.reader.run_entries(left), log.reader.run_entries(right), log.content)
    if as_json:
        print_json([dataclasses.asdict(one) for one in found])
    elif not found:
        click.echo("the runs took the same steps with the same outcomes")
    else:
        rows = [(d.path, d.what, short(d.left), short(d.right)) for d in found]
        table(("STEP", "WHAT", left, right), rows)


@audit.command("spend")
@click.option("--by", type=click.Choice(["agent", "tool", "peer"]), default="agent")
@click.option("--run", help="Of this run alone.")
@click.option("--since", help="From this date or time on; UTC if it names no zone.")
@dir_option
@json_option
def spend_command(
    *, by: str, run: str | None, since: str | None, folder: Path | None, as_json: bool
) -> None:
    """Add up what agents, tools or peers used."""
    log = _log(folder)
    run = None if run is None else log.find_run(run)
    wanted = Filter(run, types=("step",))
    entries = filter(wanted.fits, entries_of(log, run))
    found = spend(entries, by, since_ms=moment(since) if since else 0)
    if as_json:
        print_json([dataclasses.asdict(one) for one in found])
        return
    names = sorted({name for one in found for name in one.totals})
    rows = [
        (one.name, str(one.steps), str(one.failed), *(number(one.totals.get(n, 0)) for n in names))
        for one in found
    ]
    table((by.upper(), "STEPS", "FAILED", *(name.upper() for name in names)), rows)


@audit.command("prove")
@click.argument("index", type=click.IntRange(min=0), required=False)
@click.option("--from", "old", type=click.IntRange(min=0), help="Prove growth from this size.")
@click.option("--check", type=click.Path(path_type=Path), help="Check this proof instead.")
@click.option("--vkey", help="For --check: the log's key, or a file that holds it.")
@click.option("--out", type=click.Path(path_type=Path, writable=True), help="Write to a file.")
@dir_option
@json_option
def prove_command(
    *,
    index: int | None,
    old: int | None,
    check: Path | None,
    vkey: str | None,
    out: Path | None,
    folder: Path | None,
    as_json: bool,
) -> None:
    """Prove that an entry is in the log, or check such a proof (exit status as for verify)."""
    if check is not None:
        if (index, old, out, folder) != (None, None, None, None):
            raise click.UsageError("--check goes with --vkey and --json alone")
        _check(check, vkey, as_json)
        return
    if vkey is not None or as_json:
        raise click.UsageError("--vkey and --json go with --check: a proof has one form")
    if (index is None) == (old is None):
        raise click.UsageError("name an entry's index, or a size with --from")
    log = _log(folder)
    proof = log.prove(index) if index is not None else log.prove_consistency(old or 0)
    if out is None:
        sys.stdout.buffer.write(proof)
    else:
        out.write_bytes(proof)


@audit.command("checkpoint")
@dir_option
def checkpoint_command(folder: Path | None) -> None:
    """Print the last commit's checkpoint: keep it elsewhere, and verify --since it later."""
    sys.stdout.buffer.write(_log(folder).checkpoint().note)


@audit.command("export")
@click.option("--format", "form", type=click.Choice(["jsonl", "csv", "tiles"]), default="jsonl")
@click.option("--out", type=click.Path(path_type=Path), help="A file; for tiles, a folder.")
@dir_option
def export_command(form: str, out: Path | None, folder: Path | None) -> None:
    """Write the log out: entries as they are, a table, or C2SP tlog-tiles."""
    log = _log(folder)
    if form == "tiles":
        if out is None:
            raise click.UsageError("tiles need --out FOLDER")
        click.echo(clean(f"wrote {log.export(out)} files to {out}"))
        return
    with click.open_file(str(out or "-"), "wb") as file:
        if form == "jsonl":
            file.writelines(raw + b"\n" for raw in log.reader.lines(log.reader.start))
        else:  # UTF-8 wherever it is read
            text = io.TextIOWrapper(file, encoding="utf-8", newline="")
            write_csv(csv.writer(text), log)
            text.detach()


def _check(path: Path, vkey: str | None, as_json: bool) -> None:
    if vkey is None:
        raise click.UsageError("--check needs --vkey, the key of the log")
    try:
        key = _key(vkey)
        entry = check_proof(_read(path), key)
    except JournalDamagedError as error:
        note(f"not verified: {error.message}", lines=False)
        leave(_EXIT[Verdict.FAILED])
    except JournalError as error:
        note(f"cannot tell: {error.message}", lines=False)
        leave(_EXIT[Verdict.UNKNOWN])
    if as_json:
        print_json({"verified": True, "entry": entry_json(entry)})
    else:
        click.echo(f"verified: entry {entry.index} is in {clean(key.name)}\n{entry_line(entry)}")


def _key(text: str) -> VerifierKey:
    if "+" not in text or os.path.isfile(text):  # which a text too long for a path is not
        return VerifierKey.parse(_read(Path(text)).decode("ascii", "replace").strip())
    return VerifierKey.parse(text.strip())


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise JournalError(f"cannot read {path}: {error.strerror}") from error
