"""`stormda inspect`: what a file holds and how it would be read."""

from __future__ import annotations

from pathlib import Path

import click

from stormda.storm.inspection import describe


@click.command()
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@click.option("--checksum", is_flag=True, help="Also print the SHA-256.")
def inspect(file: Path, checksum: bool) -> None:
    """Say what FILE holds: fields, observations, or a prior; and what would be refused in it."""
    click.echo(describe(file, checksum=checksum))
