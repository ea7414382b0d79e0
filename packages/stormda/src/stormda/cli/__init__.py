"""The command line: `stormda COMMAND --help` alone is enough to use it.

Commands are named in one table and imported when they are called, so that `stormda --help` does
not wait for the numerical libraries. Wrong input ends in one line on stderr and exit code 2.
"""

from __future__ import annotations

import importlib
from types import MappingProxyType
from typing import Any, NamedTuple

import click


class Entry(NamedTuple):
    """One command: where it is, and what it does in one line."""

    target: str
    summary: str


COMMANDS: MappingProxyType[str, Entry] = MappingProxyType(
    {
        "demo": Entry("stormda.cli.demo:demo", "Run the twin experiment and write its report."),
        "train": Entry("stormda.cli.train:train", "Train a prior on fields from files."),
        "assimilate": Entry(
            "stormda.cli.assimilate:assimilate",
            "Turn a prior, a history and observations into an ensemble of analyses.",
        ),
        "downscale": Entry(
            "stormda.cli.downscale:downscale", "Sample fine fields from coarse ones."
        ),
        "evaluate": Entry(
            "stormda.cli.evaluate:evaluate", "Score analyses against a truth or observations."
        ),
        "plan": Entry("stormda.cli.plan:plan", "Predict memory, time and scaling of a training."),
        "inspect": Entry("stormda.cli.inspect:inspect", "Say what a file holds."),
    }
)
"""The commands by name, in the order of the help."""


class InputError(click.ClickException):
    """Something a user can mend; printed in one line."""

    exit_code = 2


class LazyGroup(click.Group):
    """A group that imports a command when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of the table."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command, or return None for a name that is not in the table."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name].target.partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.summary) for name, entry in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401
        """Run a command; what a user can mend becomes one line and exit code 2."""
        try:
            return super().invoke(ctx)
        except (ValueError, OSError) as error:
            raise InputError(" ".join(str(error).split())) from error


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="stormda")
def main() -> None:
    """STORM: one-stage generative data assimilation for Earth-system fields."""
