"""The root command. Groups are imported when they are used, so that `--help` stays quick."""

from __future__ import annotations

import importlib
import sys

import click

from node.errors import FreeholdError

# command -> (module, attribute): the one place that says what there is
COMMANDS: dict[str, tuple[str, str]] = {
    "audit": ("node.cli.audit", "audit"),
    "model": ("node.cli.model", "model"),
    "tool": ("node.cli.tool", "tool"),
}


class LazyGroup(click.Group):
    """A group whose commands live in modules that are imported on first use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, attribute = COMMANDS[cmd_name]
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="freehold", prog_name="freehold")
def root() -> None:
    """Run agents on your own machine: local models, sandboxed tools, one signed log."""


def main() -> None:
    """Entry point: errors of the node become a message, a hint and an exit code."""
    try:
        root(prog_name="freehold")
    except FreeholdError as error:
        click.echo(f"error: {error.message}", err=True)
        if error.hint:
            click.echo(f"hint: {error.hint}", err=True)
        sys.exit(error.exit_code)
