"""`stormda evaluate`: scores of analyses, as a table, as scores.csv and as a page."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from stormda.cli.assimilate import parse_observed
from stormda.cli.options import json_option, overwrite_option, refuse_existing
from stormda.cli.output import note, result
from stormda.io import Store, atomic_path, open_store, read_provenance
from stormda.storm.comparison import compare_fields, compare_points
from stormda.storm.evaluation import Scored, score_fields, score_observed
from stormda.storm.evaluation_report import NOTES, section_of_fields, section_of_points
from stormda.storm.level_fields import holds
from stormda.storm.real_observations import match_variables, read_matching
from stormda.storm.report import Report, Section, render
from stormda.storm.scores import format_table, write_scores


@click.command(
    epilog="\b\nExamples:\n"
    "  stormda evaluate AN.nc --truth FIELDS.nc\n"
    "  stormda evaluate AN.nc --truth FIELDS.nc --report report.html\n"
    "  stormda evaluate AN.nc --observations WITHHELD.csv --error 0.5 --observed t2m=temperature"
)
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
@click.option(
    "--report",
    "page",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Also write a page with maps, intervals, ranks and innovations.",
)
@overwrite_option
@json_option
def evaluate(
    analysis: str,
    truth: str | None,
    observations: str | None,
    error: float | None,
    observed: tuple[str, ...],
    out: Path | None,
    page: Path | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Score the ensemble in ANALYSIS against --truth or --observations.

    Prints a table and writes it to a CSV file. All variables that both sides have are scored.
    """
    if (truth is None) == (observations is None):
        raise ValueError("--truth, --observations: expected one of them, got both or none")
    path = Path(analysis).with_name("scores.csv") if out is None else out
    for target in filter(None, (path, page)):
        refuse_existing(target, overwrite=overwrite)
    store = open_store(analysis)
    if truth is not None:
        found = _against_truth(store, truth, drawn=page is not None)
    else:
        found = _against_observations(store, str(observations), error, observed, page is not None)
    scored = [one for one, _ in found]
    write_scores(path, [one.row for one in scored])
    if page is not None:
        _write_page(page, analysis, [section for _, section in found if section is not None])
    result(
        _text(scored, [path, *filter(None, (page,))]),
        {"scores": [_values(one) for one in scored], "out": path, "report": page},
        as_json=as_json,
    )


def _against_truth(
    store: Store, truth: str, *, drawn: bool
) -> list[tuple[Scored, Section | None]]:
    other = open_store(truth)
    common = [name for name in store.variables if holds(other, name)]
    if not common:
        raise ValueError(
            f"{truth}: expected one of the variables {sorted(store.variables)}, "
            f"got {sorted(other.variables)}"
        )
    found: list[tuple[Scored, Section | None]] = []
    for name in common:
        compared = compare_fields(store, other, name)
        scored = score_fields(compared, name)
        found.append((scored, section_of_fields(name, scored, compared) if drawn else None))
    return found


def _against_observations(
    store: Store, path: str, error: float | None, observed: tuple[str, ...], drawn: bool
) -> list[tuple[Scored, Section | None]]:
    names = {name: name for name in store.variables} | parse_observed(observed)
    table = read_matching(path, names, error=error)
    units = {name: meta.units for name, meta in store.variables.items()}
    matched = match_variables(table, names, units)
    found: list[tuple[Scored, Section | None]] = []
    for name in sorted(set(matched.variable.tolist())):
        mine = matched.where(matched.variable == name, "other variable")
        compared = compare_points(store, mine, name)
        scored = score_observed(compared, name)
        note(f"{name}: {compared.table.summary}")
        section = section_of_points(name, scored, compared, store.grid) if drawn else None
        found.append((scored, section))
    return found


def _write_page(page: Path, analysis: str, sections: list[Section]) -> None:
    report = Report(
        title=f"Evaluation of {Path(analysis).name}",
        lead="An ensemble of analyses beside what it is judged by.",
        sections=sections,
        notes=NOTES,
        provenance=read_provenance(analysis),
    )
    with atomic_path(page, overwrite=True) as temporary:
        temporary.write_text(render(report), "utf-8")


def _text(scored: list[Scored], written: list[Path]) -> str:
    lines = [format_table([one.row for one in scored])]
    lines += [f"{one.row.network}: bias {one.bias:+.4f} over {one.count} values" for one in scored]
    return "\n".join([*lines, *(f"wrote {path}" for path in written)])


def _values(scored: Scored) -> dict[str, object]:
    return asdict(scored.row) | {"bias": scored.bias, "count": scored.count}
