"""`stormda completion`: what a shell needs to complete commands, options and file names."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

VARIABLE = "_STORMDA_COMPLETE"
"""The environment variable by which a shell asks click for completions."""


@click.command(
    epilog="\b\nExamples:\n"
    '  eval "$(stormda completion bash)"          in ~/.bashrc\n'
    '  eval "$(stormda completion zsh)"           in ~/.zshrc\n'
    "  stormda completion fish > ~/.config/fish/completions/stormda.fish"
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completions of SHELL, to be evaluated when it starts."""
    kind = get_completion_class(shell)
    assert kind is not None  # click has all three
    root = ctx.find_root()
    click.echo(kind(root.command, {}, "stormda", VARIABLE).source())
