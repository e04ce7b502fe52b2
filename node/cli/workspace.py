"""`freehold workspace`: an agent's files and their history."""

from __future__ import annotations

import click

from node.cli._shared import (
    ago,
    clean,
    connect,
    json_option,
    limit_option,
    note,
    print_json,
    table,
    yes_option,
)
from node.types import JsonObject


@click.group()
def workspace() -> None:
    """An agent's files and their history."""


@workspace.command()
@click.argument("agent")
@limit_option
@json_option
def log(agent: str, limit: int, as_json: bool) -> None:
    """Show the commits, newest first: one for each run that changed something."""
    with connect() as client:
        commits = client.workspace_log(agent, limit)
    if as_json:
        print_json(commits)
        return
    table(("COMMIT", "AGE", "RUN", "CHANGED"), map(_row, commits))


@workspace.command()
@click.argument("agent")
@click.argument("old", default="")
@click.argument("new", default="")
def diff(agent: str, old: str, new: str) -> None:
    """Show what changed between two commits.

    By default from the newest commit to the files as they are.
    """
    with connect() as client:
        click.echo(clean(client.workspace_diff(agent, old, new)), nl=False)


@workspace.command()
@click.argument("agent")
@click.argument("commit")
@yes_option
def rollback(agent: str, commit: str, yes: bool) -> None:
    """Put the files back to what they were at a commit.

    History is kept: this is a new commit.
    """
    if not yes:
        click.confirm(f"Put {agent}'s files back to {commit}?", abort=True)
    with connect() as client:
        made = client.workspace_rollback(agent, commit)
    note(f"files are as in {commit}; " + (f"commit {made}" if made else "nothing had changed"))


def _row(commit: JsonObject) -> tuple[str, ...]:
    changed, when = commit.get("changed"), commit.get("when")
    names = ", ".join(map(str, changed)) if isinstance(changed, list) else ""
    age = ago(when) if isinstance(when, int | float) else ""
    return str(commit.get("id"))[:12], age, str(commit.get("run") or "a person"), names
