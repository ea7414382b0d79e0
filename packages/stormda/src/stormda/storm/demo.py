"""The demonstration: one twin experiment, every method on it, and all that is to be seen of it.

    truth -> observations -> analyses by every method -> scores, files, figures, report

Everything is computed first and written last, so that an interrupted run leaves nothing behind.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from stormda.assimilation.systems import SQGConfig
from stormda.storm.demo_report import OWN, draw, intervals, make_report, residuals
from stormda.storm.provenance import provenance
from stormda.storm.report import Picture, Table, render
from stormda.storm.scores import Analyses, EnsembleRun, Row, collect, score, write_scores
from stormda.storm.staging import refuse_existing, staged
from stormda.storm.twin.case import Case, TwinConfig, make_case
from stormda.storm.twin.files import CaseFiles
from stormda.storm.twin.methods import METHODS, Equipment, Method, load_equipment

FIRST_SEED = 200
"""Lower seeds are for training (1-99) and tuning (100-199)."""

Progress = Callable[[str, int], None]
"""Called with what is being done and the number of analyses finished since the last call."""


@dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """What is set up and what is compared."""

    case: TwinConfig = field(default_factory=TwinConfig)
    """The experiment."""

    also: tuple[str, ...] = ()
    """Further networks that observe the same truth."""

    methods: tuple[str, ...] = tuple(METHODS)
    """What to run; names in `METHODS`, with "storm" among them."""

    model: SQGConfig = field(default_factory=SQGConfig)
    """The flow."""

    def __post_init__(self) -> None:
        """Refuse what cannot be run."""
        unknown = sorted(set(self.methods) - set(METHODS))
        if unknown or OWN not in self.methods:
            raise ValueError(
                f"methods: expected {OWN!r} and others of {sorted(METHODS)}, got {self.methods}"
            )
        if self.case.seed < FIRST_SEED:
            raise ValueError(
                f"case.seed: expected at least {FIRST_SEED} "
                f"(lower ones are for training and tuning), got {self.case.seed}"
            )
        if len({case.network for case in self.cases}) < len(self.cases):
            raise ValueError(
                f"also: expected networks other than {self.case.network!r}, each once, "
                f"got {self.also}"
            )

    @property
    def cases(self) -> tuple[TwinConfig, ...]:
        """Return the experiments, one a network."""
        return (self.case, *(replace(self.case, network=name) for name in self.also))

    @property
    def analyses(self) -> int:
        """Return how many analyses all methods make together."""
        return len(self.cases) * len(self.methods) * self.case.cycles


def quick() -> DemoConfig:
    """Return the short experiment: 10 % of the points, saturating observations."""
    return DemoConfig()


def full() -> DemoConfig:
    """Return the long experiment: two more networks, more cycles and members."""
    return DemoConfig(
        case=TwinConfig(cycles=32, members=18), also=("arctan-sparser", "linear-dense")
    )


@dataclass(frozen=True)
class Outcome:
    """What one experiment gave.

    Args:
        case: The experiment.
        analyses: STORM's, (members, cycles, 2, rows, cols) [K].
        rows: Scores, a row for each method.
        pictures: Figures, by the name of their file.
        tables: Intervals of the scores, residuals.
    """

    case: Case
    analyses: Tensor
    rows: tuple[Row, ...]
    pictures: Mapping[str, Picture]
    tables: tuple[Table, ...] = ()


def run_demo(
    config: DemoConfig,
    out: Path,
    progress: Progress = lambda what, done: None,
    *,
    weights: Path | None = None,
    overwrite: bool = False,
) -> list[Row]:
    """Run the demonstration and write what it gave.

    Args:
        config: The settings.
        out: A folder. It gets scores.csv, report.html and, for the first network, truth.nc,
            observations.nc, initial_ensemble.nc, analysis.nc and figures; those of further
            networks go to sub-folders with their names.
        progress: Told of every analysis.
        weights: A folder with another prior than the one that is shipped.
        overwrite: Whether files in `out` may be replaced.

    Returns:
        The score table.

    Raises:
        FileExistsError: Where `out` holds anything and may not be overwritten.
        FileNotFoundError: Where `weights` lacks a file.
        ValueError: Where the prior does not fit the model.
    """
    refuse_existing(out, overwrite=overwrite)
    equipment = load_equipment(config.model, weights)
    outcomes = [run_case(case, equipment, config.methods, progress) for case in config.cases]
    record = _record(config, equipment)
    progress("files", 0)
    rows = [row for outcome in outcomes for row in outcome.rows]
    with staged(out, overwrite=overwrite) as folder:
        for outcome in outcomes:
            network = outcome.case.config.network
            place = folder if outcome is outcomes[0] else folder / network
            _write_outcome(place, outcome, config.model, record)
        write_scores(folder / "scores.csv", rows)
        pictures = {o.case.config.network: tuple(o.pictures.values()) for o in outcomes}
        tables = {o.case.config.network: o.tables for o in outcomes}
        page = render(make_report(config.case, rows, pictures, record, tables))
        (folder / "report.html").write_text(page, "utf-8")
    return rows


def run_case(
    config: TwinConfig, equipment: Equipment, methods: Iterable[str], progress: Progress
) -> Outcome:
    """Make an experiment, run the methods on it, score and draw them."""
    progress(f"{config.network}: truth", 0)
    case = make_case(config, equipment.model)
    truth = case.truth[1 + config.discarded :]
    runs: dict[str, Analyses] = {}
    rows = []
    for name in methods:
        report = partial(progress, f"{config.network}: {name}")
        runs[name], seconds = run_method(METHODS[name], case, equipment, report)
        scored = runs[name].after(config.discarded)
        rows.append(score(scored, truth, network=config.network, method=name, seconds=seconds))
    own = runs[OWN]
    assert isinstance(own, EnsembleRun)
    scored_runs = {name: run.after(config.discarded) for name, run in runs.items()}
    tables = (intervals(scored_runs, truth), residuals(case, runs))
    pictures = draw(case, runs, equipment.model.config)
    return Outcome(case, own.ensemble, tuple(rows), pictures, tables)


def run_method(
    method: Method, case: Case, equipment: Equipment, progress: Callable[[int], None]
) -> tuple[Analyses, float]:
    """Run a method through all cycles; return its analyses and how long it took [s]."""
    progress(0)
    begun = time.perf_counter()
    analyses = []
    for analysis in method(case, equipment):
        analyses.append(analysis)
        progress(1)
    return collect(analyses), time.perf_counter() - begun


def _write_outcome(
    folder: Path, outcome: Outcome, model: SQGConfig, record: Mapping[str, Any]
) -> None:
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    network = outcome.case.config.network
    files = CaseFiles(folder, outcome.case, model, {**record, "network": network})
    files.write_case()
    files.write_analysis(outcome.analyses, OWN)
    for name, picture in outcome.pictures.items():
        (folder / "figures" / f"{name}.png").write_bytes(picture.png)


def _record(config: DemoConfig, equipment: Equipment) -> dict[str, Any]:
    networks = [case.network for case in config.cases]
    return provenance(
        config,
        tuned={network: asdict(equipment.tuned[network]) for network in networks},
        inputs=dict(equipment.inputs),
        prior=dict(equipment.prior.provenance),
    )
