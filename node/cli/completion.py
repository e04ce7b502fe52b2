"""`freehold completion SHELL`: the script a shell sources to complete our commands."""

from __future__ import annotations

import click


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print a shell completion script.

    \b
    bash:  eval "$(freehold completion bash)"          in ~/.bashrc
    zsh:   eval "$(freehold completion zsh)"           in ~/.zshrc
    fish:  freehold completion fish > ~/.config/fish/completions/freehold.fish
    """
    from click.shell_completion import get_completion_class

    from node.cli.main import root

    script = get_completion_class(shell)
    assert script is not None
    click.echo(script(root, {}, "freehold", "_FREEHOLD_COMPLETE").source())
