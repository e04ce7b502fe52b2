"""`freehold workspace`: an agent's files and their history."""

from __future__ import annotations

import click

from node.cli._shared import clean, connect, json_option, note, print_json, table


@click.group()
def workspace() -> None:
    """An agent's files and their history."""


@workspace.command()
@click.argument("agent")
@click.option("-n", "limit", default=50, show_default=True, help="How many commits.")
@json_option
def log(agent: str, limit: int, as_json: bool) -> None:
    """Show the commits, newest first: one for each run that changed something."""
    with connect() as client:
        commits = client.workspace_log(agent, limit)
    if as_json:
        print_json(commits)
        return
    rows = [[str(item.get(key) or "") for key in ("id", "when", "message")] for item in commits]
    table(("COMMIT", "WHEN", "WHAT"), rows)


@workspace.command()
@click.argument("agent")
@click.argument("commit", required=False)
def diff(agent: str, commit: str | None) -> None:
    """Show what a commit changed; the latest if none is named."""
    with connect() as client:
        click.echo(clean(client.workspace_diff(agent, commit)), nl=False)


@workspace.command()
@click.argument("agent")
@click.argument("commit")
@click.option("--yes", is_flag=True, help="Do not ask.")
def rollback(agent: str, commit: str, yes: bool) -> None:
    """Put the files back to what they were at a commit.

    History is kept: this is a new commit.
    """
    if not yes:
        click.confirm(f"Put {agent}'s files back to {commit}?", abort=True)
    with connect() as client:
        made = client.workspace_rollback(agent, commit)
    note(f"files are as in {commit}; commit {made}")
