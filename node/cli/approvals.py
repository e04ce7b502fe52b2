"""`freehold approvals`, `estop` and `resume`: what a person decides."""

from __future__ import annotations

import json

import click

from node.cli._shared import ago, clean, connect, json_option, note, print_json, table


@click.group()
def approvals() -> None:
    """Questions that wait for a person."""


@approvals.command("list")
@json_option
def list_(as_json: bool) -> None:
    """Show what waits, oldest first."""
    with connect() as client:
        found = client.approvals()
    if as_json:
        print_json(found)
        return
    rows = [
        (
            item["id"],
            ago(item["asked"]),
            item["agent"],
            item["run"],
            f"did {item['name']} happen?" if item["kind"] == "outcome_unknown" else item["name"],
            item["reason"] or item["rule"],
            json.dumps(item["args"], ensure_ascii=False),
        )
        for item in found
    ]
    table(("ID", "ASKED", "AGENT", "RUN", "WHAT", "WHY", "ARGUMENTS"), rows)


@approvals.command()
@click.argument("approval")
def approve(approval: str) -> None:
    """Let it happen.

    Where the node cannot know whether a step happened before a crash, this says that it did.
    """
    with connect() as client:
        client.approve(approval)
    note(f"approved {clean(approval)}")


@approvals.command()
@click.argument("approval")
@click.option("--reason", default="", help="Why; the log keeps it.")
def deny(approval: str, reason: str) -> None:
    """Refuse it.

    Where the node cannot know whether a step happened before a crash, this says that it did not.
    """
    with connect() as client:
        client.deny(approval, reason)
    note(f"denied {clean(approval)}")


@click.command()
def estop() -> None:
    """Stop all runs at once, at the door; nothing moves until `freehold resume`."""
    with connect() as client:
        client.estop()
    note("emergency stop: no run moves until `freehold resume`")


@click.command()
def resume() -> None:
    """Lift the emergency stop."""
    with connect() as client:
        stopped = client.status()["estop"]
        if stopped:
            client.resume()
    note("runs move again" if stopped else "no emergency stop was in force")
