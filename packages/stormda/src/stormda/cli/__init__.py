"""The command line: `stormda COMMAND --help` alone is enough to use it.

Commands are named in one table and imported when they are called, so that `stormda --help` does
not wait for the numerical libraries. Exit codes are for scripts:

| code | means |
|---|---|
| 0 | done |
| 1 | a fault of the program, with a traceback |
| 2 | wrong input, in one line on stderr that says what was expected |
| 3 | interrupted at a step boundary; the same command goes on from there |
| 128 + n | ended by signal n |
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import click

from stormda.cli.output import LOG, reporting

INTERRUPTED = 3
"""Exit code of a run that stopped at a step boundary and can go on."""


class Entry(NamedTuple):
    """One command: where it is, and what it does in one line."""

    target: str
    summary: str


COMMANDS: MappingProxyType[str, Entry] = MappingProxyType(
    {
        "demo": Entry("stormda.cli.demo:demo", "Run the twin experiment and write its report."),
        "train": Entry("stormda.cli.train:train", "Train a prior on fields from files."),
        "pretrain": Entry(
            "stormda.cli.pretrain:pretrain", "Train priors of several sources with one trunk."
        ),
        "assimilate": Entry(
            "stormda.cli.assimilate:assimilate",
            "Turn a prior, a history and observations into an ensemble of analyses.",
        ),
        "forecast": Entry("stormda.cli.forecast:forecast", "Forecast from the end of a history."),
        "follow": Entry(
            "stormda.cli.follow:follow_command", "Assimilate observation files as they come."
        ),
        "downscale": Entry(
            "stormda.cli.downscale:downscale", "Sample fine fields from coarse ones."
        ),
        "evaluate": Entry(
            "stormda.cli.evaluate:evaluate", "Score analyses against a truth or observations."
        ),
        "plan": Entry("stormda.cli.plan:plan", "Predict memory, time and scaling of a training."),
        "inspect": Entry(
            "stormda.cli.inspect:inspect", "Say what a file holds and what is wrong with it."
        ),
        "doctor": Entry(
            "stormda.cli.doctor:doctor", "Say what is installed, what works, what is missing."
        ),
        "completion": Entry(
            "stormda.cli.completion:completion", "Print the completions of a shell."
        ),
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

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; a mistyped one is refused with the nearest names."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            ctx.fail(f"No such command {args[0]!r}.{nearest(args[0], COMMANDS)}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.summary) for name, entry in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401
        """Run a command; what a user can mend becomes one line and exit code 2."""
        try:
            with reporting(
                quiet=ctx.params["quiet"],
                verbose=ctx.params["verbose"],
                file=ctx.params["log_file"],
            ):
                return self._logged(ctx)
        except (ValueError, OSError) as error:
            raise InputError(" ".join(str(error).split())) from error

    def _logged(self, ctx: click.Context) -> Any:  # noqa: ANN401
        try:
            return super().invoke(ctx)
        except (click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            LOG.debug("ended by %s", type(error).__name__, exc_info=True)
            raise


def nearest(name: str, known: Iterable[str]) -> str:
    """Return " Did you mean ...?" with the names that are most like a mistyped one, or "".

    Examples:
        >>> nearest("asimilate", ["assimilate", "evaluate"])
        " Did you mean 'assimilate'?"
        >>> nearest("fly", ["assimilate", "evaluate"])
        ''
    """
    near = difflib.get_close_matches(name, list(known), n=2)
    return f" Did you mean {' or '.join(map(repr, near))}?" if near else ""


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="\b\nExamples:\n"
    "  stormda demo                       see it work, in three to four minutes\n"
    "  stormda inspect FIELDS.nc          know what a file holds\n"
    "  stormda train FIELDS.nc --variables t2m --out PRIOR\n"
    "  stormda assimilate --prior PRIOR --history FIELDS.nc --observations OBS.csv --out AN.nc\n"
    "  stormda evaluate AN.nc --truth FIELDS.nc\n\n"
    "Exit codes: 0 done, 1 a fault of the program, 2 wrong input, 3 interrupted and "
    "ready to go on, 128 + n ended by signal n.",
)
@click.version_option(package_name="stormda")
@click.option("-q", "--quiet", is_flag=True, help="Print results and errors only.")
@click.option("-v", "--verbose", is_flag=True, help="Print details, and tracebacks of errors.")
@click.option(
    "--log-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Append everything that is said to this file, with times.",
)
def main(quiet: bool, verbose: bool, log_file: Path | None) -> None:
    """STORM: one-stage generative data assimilation for Earth-system fields."""
