"""`freehold runs` and `freehold replay`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import click

from node.cli._shared import (
    ago,
    clean,
    connect,
    indented,
    json_option,
    leave,
    limit_option,
    note,
    print_json,
    span,
    standard_input,
    table,
)
from node.types import JsonObject

if TYPE_CHECKING:
    from node.gateway.replies import RunReply


@click.group()
def runs() -> None:
    """List, show, cancel and erase runs."""


@runs.command("list")
@click.option("--agent", help="Only this agent's.")
@limit_option
@json_option
def list_(agent: str | None, limit: int, as_json: bool) -> None:
    """Show runs, newest first."""
    with connect() as client:
        found = client.runs(agent=agent, limit=limit)
    if as_json:
        print_json(found)
        return
    rows = [
        (
            item["id"],
            ago(item["started"]),
            item["agent"],
            item["status"],
            _shown(item, "prompt")[:60],
        )
        for item in found
    ]
    table(("RUN", "AGE", "AGENT", "STATUS", "PROMPT"), rows)


@runs.command()
@click.argument("run")
@json_option
def show(run: str, as_json: bool) -> None:
    """Show how a run ended, or how far it is."""
    with connect() as client:
        found = client.run(run)
    if as_json:
        print_json(found)
        return
    usage = found["usage"]
    end = found["finished"]
    click.echo(f"run      {found['id']}")
    click.echo(f"agent    {found['agent']}")
    why = f" ({indented(found['reason'], 9)})" if found["reason"] else ""
    click.echo(f"status   {found['status']}{why}")
    click.echo(f"started  {ago(found['started'])} ago")
    if end is not None:
        click.echo(f"took     {span(end - found['started'])}")
    tokens = f"{usage['prompt_tokens']}+{usage['completion_tokens']} tokens"
    click.echo(f"used     {usage['steps']} steps, {usage['tool_calls']} tool calls, {tokens}")
    click.echo(f"prompt   {indented(_shown(found, 'prompt'), 9)}")
    click.echo(f"answer   {indented(_shown(found, 'text'), 9)}")


def _shown(run: RunReply, what: Literal["prompt", "text"]) -> str:
    if run["erased"]:
        return "(erased)"
    return "(lost: see `freehold audit verify`)" if what in run["lost"] else run[what]


@runs.command()
@click.argument("run")
@click.option("--reason", default="cancelled from the command line", help="The log keeps it.")
def cancel(run: str, reason: str) -> None:
    """Stop a run."""
    with connect() as client:
        found = client.run(run)
        if found["finished"] is None:
            client.cancel(found["id"], reason)
            found = client.run(found["id"])
            note(f"{found['id']} is {found['status']}")
        else:
            note(f"{found['id']} had ended already: {found['status']}")


@runs.command()
@click.argument("run")
@click.option("--yes", is_flag=True, help="Do not ask first.")
def erase(run: str, yes: bool) -> None:
    """Erase what a run that is over handled, for good.

    Its prompt, its answer, what models wrote, what its tools were given and gave back are gone from
    the log; it cannot be replayed any more. What a fork took over belongs to both runs and goes
    from both; what the other one handled itself stays, so erase that one as well. The log stays
    valid and says who erased it. Small arguments and results of steps that were not private are
    part of the signed entries and stay, as do backups and the agent's files.
    """
    with connect() as client:
        found = client.run(run)
        if not yes:
            forked = found["forked_from"]
            also = f", and what it took over from {forked[0]} there, too," if forked else ""
            whose = f"{found['id']} of {clean(found['agent'])}"
            click.confirm(f"Erase {whose}{also} for good?", abort=True)
        note(f"erased {client.erase(found['id'])} pieces of content of {found['id']}")


@click.command()
@click.argument("run")
@click.option("--from", "from_step", metavar="STEP", help="Fork a new run here, live from there.")
@click.option("--model", help="With --from: the model the new run uses.")
@click.option(
    "--edit",
    metavar="TEXT",
    help="With --from: the prompt of the new run (- for stdin), or JSON that gives earlier steps "
    'other results: {"prompt": TEXT, "results": {STEP: VALUE}}.',
)
@json_option
def replay(
    run: str, from_step: str | None, model: str | None, edit: str | None, as_json: bool
) -> None:
    """Run a run again from its record, or fork it at a step.

    Without --from nothing is performed: recorded results are given back, and the first step that
    differs is reported with exit status 1.
    """
    if from_step is None and (model or edit):
        raise click.UsageError("--model and --edit need --from STEP")
    if edit == "-":
        edit = standard_input()
    with connect() as client:
        found = client.replay(run, from_step=from_step, model=model, edit=edit)
    diverged = found.get("ok") is False
    if as_json:
        print_json(found)
    elif from_step is not None:
        click.echo(f"{found['run']}")
        note(f"`freehold trace {found['run']}` shows it")
    elif diverged:
        told = f"not the same after {found['steps']} steps: {_divergence(found)}"
        note(told, lines=False)
    else:
        click.echo(f"the same: {found['steps']} steps and the answer")
    leave(1 if diverged else 0)


def _divergence(report: JsonObject) -> str:
    found = report.get("divergence")
    if not isinstance(found, dict):
        return "it ended another way"
    return ", ".join(f"{key} {value}" for key, value in found.items())
