"""`stormda evaluate`: scores of analyses, as a table and as scores.csv."""

from __future__ import annotations

from pathlib import Path

import click

from stormda.cli.assimilate import parse_observed
from stormda.cli.options import overwrite_option, refuse_existing
from stormda.io import open_store, read_observations
from stormda.storm.evaluation import against_observations, against_truth
from stormda.storm.real_observations import match_variables
from stormda.storm.scores import format_table, write_scores


@click.command()
@click.argument("analysis", metavar="ANALYSIS")
@click.option("--truth", help="NetCDF file with the true fields.")
@click.option("--observations", help="CSV or NetCDF file of observations that were withheld.")
@click.option("--error", type=float, help="Standard deviation of observations that state none.")
@click.option(
    "--observed",
    multiple=True,
    metavar="VARIABLE=NAME",
    help="What a variable is called among the observations, if not the same.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="CSV file of the scores; scores.csv beside ANALYSIS by default.",
)
@overwrite_option
def evaluate(
    analysis: str,
    truth: str | None,
    observations: str | None,
    error: float | None,
    observed: tuple[str, ...],
    out: Path | None,
    overwrite: bool,
) -> None:
    """Score the ensemble in ANALYSIS against --truth or --observations.

    Prints a table and writes it to a CSV file. All variables that both sides have are scored.
    """
    if (truth is None) == (observations is None):
        raise ValueError("--truth, --observations: expected one of them, got both or none")
    path = Path(analysis).with_name("scores.csv") if out is None else out
    refuse_existing(path, overwrite=overwrite)
    store = open_store(analysis)
    if truth is not None:
        other = open_store(truth)
        common = [name for name in store.variables if name in other.variables]
        if not common:
            raise ValueError(
                f"{truth}: expected one of the variables {sorted(store.variables)}, "
                f"got {sorted(other.variables)}"
            )
        scored = [against_truth(store, other, name) for name in common]
    else:
        names = {name: name for name in store.variables} | parse_observed(observed)
        table = read_observations(str(observations), variable=list(names.values()), error=error)
        units = {name: meta.units for name, meta in store.variables.items()}
        matched = match_variables(table, names, units)
        scored = []
        for name in names:
            mine = matched.where(matched.variable == name, "other variable")
            result, used = against_observations(store, mine, name)
            click.echo(f"{name}: {used.summary}", err=True)
            scored.append(result)
    rows = [one.row for one in scored]
    click.echo(format_table(rows))
    for one in scored:
        click.echo(f"{one.row.network}: bias {one.bias:+.4f} over {one.count} values")
    write_scores(path, rows)
    click.echo(f"wrote {path}")
