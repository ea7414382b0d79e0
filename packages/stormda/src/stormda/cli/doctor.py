"""`stormda doctor`: what is installed, which backends work, what would make it faster."""

from __future__ import annotations

import click

from stormda.cli.options import json_option
from stormda.cli.output import result
from stormda.storm.doctor import examine


@click.command(epilog="\b\nExamples:\n  stormda doctor\n  stormda doctor --json")
@json_option
def doctor(as_json: bool) -> None:
    """Say what is installed, which backends work here, and what would make it faster.

    Nothing is downloaded, built or changed. Run it on a compute node to see what a job will see.
    """
    found = examine()
    result(found.text, found.values, as_json=as_json)
