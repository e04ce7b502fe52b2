"""How `freehold audit` shows entries, reasons and reports."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

import click

from node.cli._shared import clean
from node.errors import JournalError
from node.journal import (
    AuditReport,
    Entry,
    OfflineLog,
    Reason,
    Verdict,
    entry_json,
    is_denied,
)

_SHOWN = 200


def entries_of(log: OfflineLog, run: str | None = None) -> Iterator[Entry]:
    """All that were not pruned away, or those of a run; the others are not parsed."""
    return iter(log.reader.run_entries(run)) if run else log.reader.entries(log.reader.start)


def print_report(report: AuditReport) -> None:
    """What verifying a log found, for a person."""
    click.echo(f"log       {clean(report.origin)}: {report.size} entries, {report.epochs} epochs")
    if report.pruned:
        click.echo(f"pruned    entries before {report.pruned}, known only by their signed root")
    click.echo(f"root      {report.root}")
    click.echo(f"internal  {_consistent(report.internal)}")
    for one in report.against:
        text = f"{_consistent(one.verdict)} with {one.source} at {one.size}"
        told = f"outside   {text}{': ' + one.reason if one.reason else ''}"
        click.echo(clean(told, lines=False))
    if report.blobs.checked:
        counts = ", ".join(f"{count} {state}" for state, count in report.blobs.counts.items())
        click.echo(f"blobs     {counts}")
    for problem in [*report.problems, *report.blobs.problems]:
        click.echo(f"problem   {clean(problem, lines=False)}")
    if report.hint:
        click.echo(f"hint      {report.hint}")
    for text in report.notes:
        click.echo(f"note      {clean(text, lines=False)}")
    click.echo(f"verdict   {report.verdict}")


def _consistent(verdict: Verdict) -> str:
    words = {Verdict.VERIFIED: "consistent", Verdict.FAILED: "NOT consistent"}
    return words.get(verdict, "cannot be told")


def report_json(report: AuditReport) -> dict[str, Any]:
    """The same for a program."""
    return {**dataclasses.asdict(report), "verdict": str(report.verdict)}


def entry_line(entry: Entry) -> str:
    """An entry in one line."""
    draft = entry.draft
    policy = f" [{draft.policy.verdict}: {draft.policy.rule}]" if draft.policy else ""
    refused = " REFUSED" if is_denied(entry) else ""
    parts = [str(entry.index), draft.type, draft.run or "-", draft.path or "-", draft.actor]
    return clean("  ".join(parts) + policy + refused + "  " + _what(entry), lines=False)


def _what(entry: Entry) -> str:
    """An entry's data in a few words; `audit show` has all of it."""
    data = entry.data
    if entry.type == "step.intent":
        return " ".join(short(data[key]) for key in ("kind", "name", "args") if data.get(key))
    if entry.type == "step.result" and "ok" in data:
        found = data.get("value", data.get("error"))
        return ("ok" if data["ok"] else "failed") + (f" {short(found)}" if found else "")
    return short(data) if data else ""


def short(value: object) -> str:
    """The beginning of a text, or of a value as JSON."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def reason_line(log: OfflineLog, reason: Reason) -> str:
    """A cause in one line, with the prompt where it is that."""
    if reason.entry is None:
        return f"{reason.missing}  (pruned away)"
    return entry_line(reason.entry) + _prompt(log, reason.entry)


def _prompt(log: OfflineLog, entry: Entry) -> str:
    for ref in entry.draft.blobs:
        if ref.role == "prompt":
            try:
                text = log.blobs.content(ref.id).decode("utf-8", "replace")
            except JournalError as error:
                text = f"({error.message})"
            return clean(f"  prompt: {short(text)}", lines=False)
    return ""


def reason_json(reason: Reason) -> dict[str, Any]:
    """The same for a program."""
    entry = entry_json(reason.entry) if reason.entry else None
    return {"depth": reason.depth, "entry": entry, "missing": reason.missing}


def write_csv(out: Any, log: OfflineLog) -> None:
    """All entries as rows of a `csv.writer`."""
    out.writerow(["i", "ts", "type", "run", "path", "agent", "actor", "rule", "verdict", "data"])
    for entry in entries_of(log):
        draft, policy = entry.draft, entry.draft.policy
        rule, verdict = (policy.rule, policy.verdict) if policy else ("", "")
        data = json.dumps(draft.data, ensure_ascii=False)
        row = [draft.type, draft.run, draft.path, draft.agent, draft.actor, rule, verdict, data]
        out.writerow([entry.index, entry.ts, *row])
