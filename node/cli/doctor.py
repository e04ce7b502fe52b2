"""`freehold doctor`: what is wrong with a node, and the repair where that is safe.

`--fix` only ever takes permissions away, makes missing folders and removes a dead socket; what
needs judgement is said, not done.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass

import click

from node.cli._shared import clean, home, json_option, leave, print_json
from node.cli.doctor_checks import CHECKS, Check, Fault, Note
from node.errors import FreeholdError


@dataclass(frozen=True)
class Finding:
    """One thing looked at. `problem` is empty where all is well; `note` is worth knowing."""

    what: str
    problem: str = ""
    hint: str = ""
    fixed: bool = False
    note: str = ""


@click.command()
@click.option("--fix", is_flag=True, help="Repair what is safe to repair.")
@json_option
def doctor(fix: bool, as_json: bool) -> None:
    """Check the node and say what to do about it.

    Exit status 1 if something is still wrong.
    """
    findings = [finding for what, check in CHECKS for finding in _examine(what, check, fix)]
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        for finding in findings:
            _show(finding)
    leave(1 if any(item.problem and not item.fixed for item in findings) else 0)


def _examine(what: str, check: Check, fix: bool) -> Iterator[Finding]:
    """Runs one check and repairs what it may. One that cannot look is a finding too."""
    sound = True
    try:
        for found in check(home()):
            sound = False
            if isinstance(found, Note):
                yield Finding(what, note=found.text)
            else:
                yield _treated(what, found) if fix else Finding(what, found.problem, found.hint)
    except FreeholdError as error:
        yield Finding(what, error.message, error.hint)
    except OSError as error:
        yield Finding(what, f"cannot look: {_said(error)}", "See to that file or disk first.")
    else:
        if sound:
            yield Finding(what)


def _treated(what: str, fault: Fault) -> Finding:
    """A fault after its repair, if it has one."""
    if fault.repair is None:
        return Finding(what, fault.problem, fault.hint)
    try:
        fault.repair()
    except FreeholdError as error:
        return Finding(what, fault.problem, f"Not repaired: {error.message}")
    except OSError as error:
        return Finding(what, fault.problem, f"Not repaired: {_said(error)}")
    return Finding(what, fault.problem, fault.hint, fixed=True)


def _said(error: OSError) -> str:
    said = error.strerror or str(error)
    return f"{said}: {error.filename}" if error.filename else said


def _show(finding: Finding) -> None:
    state = "ok" if not finding.problem else "fixed" if finding.fixed else "WRONG"
    said = finding.problem or finding.note
    click.echo(f"{state:5}  {finding.what}" + (f": {clean(said)}" * bool(said)))
    if finding.problem and not finding.fixed and finding.hint:
        click.echo(f"       {clean(finding.hint)}")
