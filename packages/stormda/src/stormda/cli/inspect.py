"""`stormda inspect`: what a file holds, how it would be read, and what is wrong with it."""

from __future__ import annotations

from pathlib import Path

import click

from stormda.cli.options import json_option
from stormda.cli.output import result
from stormda.storm.inspection import inspect_file


@click.command(
    epilog="\b\nExamples:\n  stormda inspect FIELDS.nc\n  stormda inspect OBS.csv --json"
)
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@click.option("--checksum", is_flag=True, help="Also print the SHA-256.")
@json_option
def inspect(file: Path, checksum: bool, as_json: bool) -> None:
    """Say what FILE holds: fields, observations, or a prior; and what is wrong with it.

    Problems that do not keep the file from being read are listed with what to do about each. A
    file that cannot be read ends in exit code 2 and the reason.
    """
    found = inspect_file(file, checksum=checksum)
    result(found.text, found.values, as_json=as_json)
