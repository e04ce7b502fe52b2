"""The root command. Groups are imported when they are used, so that `--help` stays quick."""

from __future__ import annotations

import importlib
import io
import os
import sys
from typing import Any

import click

from node.cli._shared import INTERRUPTED, clean, indented
from node.errors import FreeholdError, RequestError

# command -> (module, attribute, help): the one place that says what there is
COMMANDS: dict[str, tuple[str, str, str]] = {
    "agent": ("node.cli.agent", "agent", "Make, list, show, edit, pause and remove agents."),
    "approvals": ("node.cli.approvals", "approvals", "Questions that wait for a person."),
    "ask": ("node.cli.ask", "ask", "Ask an agent something and wait for its answer."),
    "audit": ("node.cli.audit", "audit", "Verify, read, prove and prune the log."),
    "backup": ("node.cli.backup", "backup", "Write the whole node into one archive."),
    "completion": ("node.cli.completion", "completion", "Print a shell completion script."),
    "doctor": ("node.cli.doctor", "doctor", "Check the node and say what to do about it."),
    "down": ("node.cli.daemon", "down", "Stop the daemon."),
    "estop": ("node.cli.approvals", "estop", "Stop all runs at once."),
    "init": ("node.cli.init", "init", "Make a new node: config, folders, a first agent."),
    "logs": ("node.cli.logs", "logs", "Show what the node did, as it does it."),
    "model": ("node.cli.model", "model", "List, show and verify models."),
    "replay": ("node.cli.runs", "replay", "Run a run again from its record, or fork it at a step."),
    "restore": ("node.cli.backup", "restore", "Make a node out of an archive."),
    "resume": ("node.cli.approvals", "resume", "Lift the emergency stop."),
    "runs": ("node.cli.runs", "runs", "List, show, cancel and erase runs."),
    "secret": ("node.cli.secret", "secret", "Keep secrets that tools use and never see."),
    "service": ("node.cli.service", "service", "Run the daemon as a service of your user."),
    "status": ("node.cli.daemon", "status", "Show how the node is."),
    "tool": ("node.cli.tool", "tool", "List, show, make, add and test tools."),
    "trace": ("node.cli.trace", "trace", "Show a run as a tree of its steps."),
    "up": ("node.cli.daemon", "up", "Start the daemon."),
    "wallet": ("node.cli.wallet", "wallet", "Hold, send and receive money."),
    "workspace": ("node.cli.workspace", "workspace", "An agent's files and their history."),
}


class LazyGroup(click.Group):
    """A group whose commands live in modules that are imported on first use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[cmd_name]
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """As any group, but Ctrl-C ends with the status a shell knows, at a question too."""
        try:
            return super().invoke(ctx)
        except (KeyboardInterrupt, click.Abort) as stop:
            if not any(isinstance(each, KeyboardInterrupt) for each in (stop, stop.__context__)):
                raise
            click.echo(err=True)  # ends the line of the terminal's ^C
            raise click.exceptions.Exit(INTERRUPTED) from None
        except UnicodeEncodeError as error:  # arguments that are not UTF-8 come as surrogates
            raise RequestError(
                "what was given is not UTF-8", hint="Check the terminal's encoding."
            ) from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name][2]) for name in sorted(COMMANDS)])


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="freehold", prog_name="freehold")
def root() -> None:
    """Run agents on your own machine: local models, sandboxed tools, one signed log."""


def main() -> None:
    """Entry point: errors of the node become a message, a hint and an exit code."""
    _open_streams()
    try:
        try:
            root(prog_name="freehold")
        except SystemExit:
            sys.stdout.flush()  # while it can be told that this is not possible
            raise
    except FreeholdError as error:
        click.echo(f"error: {indented(error.message)}", err=True)
        if error.hint:
            click.echo(f"hint: {indented(error.hint)}", err=True)
        status = error.exit_code
    except BrokenPipeError:  # who read the output wants no more of it
        status = FreeholdError.exit_code
    except OSError as error:  # of a file the person named, or of a full disk under the output
        told = f"error: {error.strerror or error}: {error.filename or 'output'}"
        click.echo(clean(told, lines=False), err=True)
        status = FreeholdError.exit_code
    _give_up_output()
    sys.exit(status)


class _Heedless(io.FileIO):
    """Standard error: where a disk or a pipe takes no more of it, a command goes on as it would,
    and its exit status is still that of what it did."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError:
            return memoryview(data).nbytes


def _give_up_output() -> None:
    """What cannot be written is dropped: Python's own try at the end changes the exit status."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _open_streams() -> None:
    """A standard stream that was closed before the start is empty, and not the next file opened.

    A letter that the terminal's encoding does not have is written as its number.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115 - until the process ends
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    if isinstance(sys.stderr, io.TextIOWrapper):
        raw = io.BufferedWriter(_Heedless(sys.stderr.fileno(), "w", closefd=False))
        encoding, errors = sys.stderr.encoding, "backslashreplace"
        sys.stderr = io.TextIOWrapper(raw, encoding, errors, line_buffering=True)
