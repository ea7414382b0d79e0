"""`stormda demo`: the main job on an embedded default."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from itertools import groupby
from pathlib import Path
from types import FrameType

import click

from stormda.cli.options import (
    json_option,
    overwrite_option,
    parse_assignments,
    set_option,
    show_settings,
)
from stormda.cli.output import Steps, result
from stormda.storm.config import override
from stormda.storm.demo import DemoConfig, full, quick, run_demo
from stormda.storm.demo_report import verdict
from stormda.storm.scores import Row, format_table

UNSCORED = 10
"""Most first cycles that are left out of the scores."""


@click.command(
    "demo",
    epilog="\b\nExamples:\n"
    "  stormda demo\n"
    "  stormda demo --cycles 6 --out short       a look in half a minute\n"
    "  stormda demo --full --out full            three networks, several times as long\n"
    "  stormda demo --set case.hours=24",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("stormda-demo"),
    show_default=True,
    help="Folder for scores, files, figures and report; made if need be.",
)
@click.option(
    "--full", "complete", is_flag=True, help="Two more networks, more cycles and members."
)
@click.option("--cycles", type=int, metavar="N", help="Number of analyses.")
@click.option("--members", type=int, metavar="N", help="Size of the ensembles.")
@click.option("--seed", type=int, metavar="S", help="Seed of the experiment, 200 or above.")
@click.option(
    "--weights",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder with another prior.safetensors and climatology.safetensors than the shipped.",
)
@set_option
@overwrite_option
@json_option
def demo(
    out: Path,
    complete: bool,
    cycles: int | None,
    members: int | None,
    seed: int | None,
    weights: Path | None,
    assignments: tuple[str, ...],
    overwrite: bool,
    as_json: bool,
) -> None:
    """Run a twin experiment with STORM beside classical methods, and report on it.

    A truth of surface quasi-geostrophic turbulence is observed every 12 hours at 10 % of its
    points through a saturating instrument. STORM's shipped prior, the LETKF with the true model,
    the LETKF on STORM's forecasts and optimal interpolation analyse it from the same start. Three
    to four minutes on two cores; nothing is downloaded. The same seed gives the same table, on the
    same machine with as many threads.
    """
    config = full() if complete else quick()
    config = choose(config, cycles=cycles, members=members, seed=seed)
    config = override(config, parse_assignments(assignments))
    show_settings(config, as_json=as_json)
    with terminated_like_interrupted(), Steps(config.analyses, "analysis") as steps:

        def report(what: str, done: int) -> None:
            steps.to(steps.done + done, what)

        rows = run_demo(config, out, report, weights=weights, overwrite=overwrite)
    values = {"out": out, "report": out / "report.html", "scores": [asdict(row) for row in rows]}
    result(summary(rows, out), values, as_json=as_json)


def choose(
    config: DemoConfig, *, cycles: int | None, members: int | None, seed: int | None
) -> DemoConfig:
    """Return the settings with what the options say in place of the recipe.

    Of few cycles the first third is not scored, of many the first ten.

    Examples:
        >>> case = choose(quick(), cycles=6, members=None, seed=201).case
        >>> case.cycles, case.discarded, case.members, case.seed
        (6, 2, 16, 201)
    """
    case = config.case
    if cycles is not None:
        case = replace(case, cycles=cycles, discarded=min(UNSCORED, cycles // 3))
    if members is not None:
        case = replace(case, members=members)
    if seed is not None:
        case = replace(case, seed=seed)
    return replace(config, case=case)


def summary(rows: list[Row], out: Path) -> str:
    """Return what is printed at the end: the table, the verdicts, and where everything is."""
    verdicts = [verdict(list(mine)) for _, mine in groupby(rows, lambda row: row.network)]
    where = [f"{path}" for path in sorted(out.iterdir()) if path.name != "report.html"]
    return "\n".join(
        ["", format_table(rows), "", *verdicts, "", "written:", *where, f"{out / 'report.html'}"]
    )


@contextmanager
def terminated_like_interrupted() -> Iterator[None]:
    """Let SIGTERM end the block as an exit does, so that nothing half-written stays behind."""

    def leave(number: int, frame: FrameType | None) -> None:
        sys.exit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
