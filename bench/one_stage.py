"""Is a one-stage analysis with a learned model better than tuned classical filters? Lorenz-96.

    python bench/one_stage.py [--problem spantini2019 arctan] [--seed 200 201] [--cycles 100]

The one-stage filter of `lorenz96_prior.py` draws members given their past and what is observed
with the learned model of `lorenz96_model.py` and the default guidance. Beside it, on the same
truths, observations and first ensemble,

- the LETKF with the true model, and with the learned one;
- the IEnKS with both (`spantini2019` only: it is what the table there is led by).

A bootstrap particle filter is left out: its weights collapse in so many dimensions (Snyder et al.,
2008, Mon. Wea. Rev. 136).

Seed 1 trained the model and 51 tested it. Seeds 100 and 101 found the settings: of the classical
filters by `--tune`, of the one-stage filter by a few runs of it. Seeds 200-299 are scored. Scores
are means over time, after 20 cycles, of the RMSE of the mean, fair CRPS, spread over skill, and
coverage of 90 % intervals; an LETKF that lost the truth (its innovations are four times what it
expects) has none (nan). Writes bench/results/one_stage.csv, with the seconds of an analysis,
machine, versions and commit.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from statistics import mean

from lorenz96_model import Model, load
from lorenz96_prior import one_stage
from torch import Tensor
from twin96 import PROBLEMS, Problem, Twin, follow, follow_iteratively, letkf_update

from stormda.assimilation import (
    FilterDiverged,
    coverage,
    crps_fair,
    expected_coverage,
    grid_search,
    rmse,
    spread_skill,
)
from stormda.storm.provenance import commit, machine, provenance

RESULTS = Path(__file__).parent / "results"

SPIN_UP = 20
"""Cycles that are not scored."""

Settings = Mapping[str, float]
Run = Callable[[Problem, Twin, Model, Settings], Iterator[Tensor]]
"""Yields the ensemble of each analysis."""


def sample(problem: Problem, twin: Twin, model: Model, settings: Settings) -> Iterator[Tensor]:
    """Return the one-stage filter."""
    return one_stage(twin, model, settings)


def letkf_true(problem: Problem, twin: Twin, model: Model, settings: Settings) -> Iterator[Tensor]:
    """Return the LETKF with the true model."""
    update, members = letkf_update(problem, settings), int(settings["members"])
    return follow(twin, update, problem.experiment.forecast, members)


def letkf_learned(
    problem: Problem, twin: Twin, model: Model, settings: Settings
) -> Iterator[Tensor]:
    """Return the LETKF with the learned model."""
    update, members = letkf_update(problem, settings), int(settings["members"])
    return follow(twin, update, model.forecast, members)


def ienks_true(problem: Problem, twin: Twin, model: Model, settings: Settings) -> Iterator[Tensor]:
    """Return the IEnKS with the true model."""
    return follow_iteratively(twin, problem.experiment.forecast, settings)


def ienks_learned(
    problem: Problem, twin: Twin, model: Model, settings: Settings
) -> Iterator[Tensor]:
    """Return the IEnKS with the learned model."""
    return follow_iteratively(twin, model.forecast, settings)


METHODS: dict[str, Run] = {
    "one-stage": sample,
    "letkf": letkf_true,
    "letkf, learned model": letkf_learned,
    "ienks": ienks_true,
    "ienks, learned model": ienks_learned,
}

GRIDS: dict[str, dict[str, dict[str, list[float]]]] = {
    "spantini2019": {
        "one-stage": {
            "members": [40],
            "radius": [28.0, 40.0],
            "inflation": [1.02, 1.05, 1.1],
            "linearizations": [5, 10],
            "window": [1, 2],
        },
        "letkf": {
            "members": [40],
            "inflation": [1.0, 1.05, 1.1, 1.2],
            "radius": [2.0, 3.0, 4.0],
            "rtps": [0.0, 0.2],
        },
        "ienks": {"members": [40], "inflation": [1.02, 1.05, 1.1, 1.2, 1.4]},
    },
    "arctan": {
        "one-stage": {
            "members": [20],
            "radius": [10.0, 14.0, 20.0, 28.0, 40.0],
            "inflation": [0.94, 0.95, 0.96, 0.97, 0.98, 1.0],
            "linearizations": [1, 2],
            "window": [1],
        },
        "letkf": {
            "members": [20],
            "inflation": [1.0, 1.02],
            "radius": [3.0, 4.0, 5.0, 6.0, 7.0, 8.0],
            "rtps": [0.05, 0.1, 0.15, 0.2],
        },
    },
}
"""What the tuner tries."""

TUNED: dict[str, dict[str, Settings]] = {
    "spantini2019": {
        "one-stage": {
            "members": 40,
            "radius": 40.0,
            "inflation": 1.05,
            "linearizations": 10,
            "window": 2,
        },
        "letkf": {"members": 40, "inflation": 1.1, "radius": 3.0, "rtps": 0.0},
        "ienks": {"members": 40, "inflation": 1.05},
    },
    "arctan": {
        "one-stage": {
            "members": 20,
            "radius": 28.0,
            "inflation": 0.96,
            "linearizations": 1,
            "window": 1,
        },
        "letkf": {"members": 20, "inflation": 1.0, "radius": 5.0, "rtps": 0.1},
    },
}
"""What was found; with the learned model, the settings found with the true one."""


def tuned(problem: str, method: str) -> Settings | None:
    """Return the settings of a method, None where it is not for the problem."""
    return TUNED[problem].get(method.removesuffix(", learned model"))


def scores(
    problem: Problem, model: Model, run: Run, settings: Settings, cycles: int, seed: int
) -> dict[str, float]:
    """Return the scores of a run; they are not numbers where the truth was lost."""
    twin, rows = problem.twin(cycles, seed), []
    began = time.perf_counter()
    try:
        analyses = list(run(problem, twin, model, settings))
    except FilterDiverged:
        analyses = []
    seconds = (time.perf_counter() - began) / max(1, len(analyses))
    for truth, x in zip(twin.truths[SPIN_UP:], analyses[SPIN_UP:], strict=False):
        x = x.double()
        rows.append(
            {
                "rmse": rmse(x.mean(0), truth).item(),
                "crps": crps_fair(x, truth).mean().item(),
                "spread_skill": spread_skill(x, truth).item(),
                "coverage90": coverage(x, truth).item(),
            }
        )
    names = ("rmse", "crps", "spread_skill", "coverage90")
    values = {k: mean(row[k] for row in rows) if rows else float("nan") for k in names}
    return values | {"seconds_per_analysis": seconds}


def tune(name: str, model: Model, method: str, cycles: int) -> None:
    """Print the trials on seeds 100 and 101, that of the least CRPS first."""
    problem = PROBLEMS[name]

    def loss(settings: Settings) -> float:
        run = METHODS[method]
        return (
            sum(scores(problem, model, run, settings, cycles, s)["crps"] for s in (100, 101)) / 2
        )

    for trial in grid_search(loss, GRIDS[name][method]):
        print(f"  {name} {method}: {trial}", flush=True)


def main() -> None:
    """Run or tune, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--problem", nargs="+", choices=PROBLEMS, default=list(PROBLEMS))
    parser.add_argument(
        "--seed", nargs="+", type=int, choices=range(200, 300), default=[200, 201, 202]
    )
    parser.add_argument("--cycles", type=int, default=100)
    parser.add_argument("--method", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--append", action="store_true", help="keep what the file holds")
    parser.add_argument("--tune", action="store_true", help="find settings, and score nothing")
    arguments = parser.parse_args()
    rows = []
    print(
        f"{'problem':<14}{'method':<22}{'seed':>5}{'rmse':>8}{'crps':>8}{'ss':>7}{'cov90':>7}{'s':>8}"
    )
    for name in arguments.problem:
        model = load(name)
        if arguments.tune:
            for method in set(GRIDS[name]) & set(arguments.method):
                tune(name, model, method, arguments.cycles)
            continue
        for method in (m for m in arguments.method if tuned(name, m)):
            settings = tuned(name, method)
            for seed in arguments.seed:
                found = scores(
                    PROBLEMS[name], model, METHODS[method], settings, arguments.cycles, seed
                )
                numbers = "".join(f"{v:8.3f}" for v in found.values())
                print(f"{name:<14}{method:<22}{seed:5}{numbers}", flush=True)
                members = int(settings["members"])
                about = {"problem": name, "method": method, "members": members, "seed": seed}
                expected = {"cycles": arguments.cycles, "expected90": expected_coverage(members)}
                rows.append(about | expected | found)
    if rows:
        write(RESULTS / "one_stage.csv", rows, append=arguments.append)


def write(path: Path, rows: list[dict[str, object]], *, append: bool) -> None:
    """Write the rows with machine, versions and commit."""
    versions = " ".join(f"{k} {v}" for k, v in provenance()["versions"].items())
    record = {"machine": machine(), "versions": versions, "commit": commit()}
    with path.open("a" if append else "w", newline="") as file:
        writer = csv.DictWriter(file, [*rows[0], *record])
        if not append:
            writer.writeheader()
        for row in rows:
            numbers = {k: f"{v:.4f}" if isinstance(v, float) else v for k, v in row.items()}
            writer.writerow(numbers | record)


if __name__ == "__main__":
    main()
