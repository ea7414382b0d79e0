"""Is a one-stage analysis with a learned prior better than tuned classical filters? Lorenz-96.

    python bench/one_stage.py [--problem spantini2019 arctan] [--seed 200 201] [--cycles 150]

The one-stage filter draws members of p(present | mean and spread of its last analyses, observed)
with the prior of `lorenz96_prior.py` and the default guidance: no forecast, no update. Beside it,
on the same truths, observations and first ensemble,

- the LETKF with the true model, and with the prior's own learned model;
- the IEnKS with the true model (`spantini2019` only: it is what the table there is led by).

A bootstrap particle filter is left out: its weights collapse in so many dimensions (Snyder et al.,
2008, Mon. Wea. Rev. 136).
The settings are those of the published tables; `--tune` looks for better ones on seeds 100, 101.
Scores are means over time, after 20 cycles, of the RMSE of the mean, fair CRPS, spread over skill,
and coverage of 90 % intervals; a filter that lost the truth has none (nan). Writes
bench/results/one_stage.csv, with the seconds of an analysis, machine, versions and commit. The 70
cycles of `spantini2019` in the file took 43 seconds of one core.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from statistics import mean

import torch
from lorenz96_prior import HISTORY, Prior, load
from torch import Tensor
from twin96 import PROBLEMS, Problem, Twin, follow, follow_iteratively, letkf_update

from stormda.assimilation import (
    FilterDiverged,
    Observation,
    assimilate,
    coverage,
    crps_fair,
    dpmpp_2m,
    expected_coverage,
    grid_search,
    mmps,
    rmse,
    spread_skill,
)
from stormda.storm.provenance import commit, machine, provenance

RESULTS = Path(__file__).parent / "results"

SPIN_UP = 20
"""Cycles that are not scored."""

SAMPLER = dpmpp_2m(steps=12, sigma_min=0.02, sigma_max=20.0)
"""For departures of variance one."""

Settings = Mapping[str, float]
Run = Callable[[Problem, Twin, Prior, Settings], Iterator[Tensor]]
"""Yields the ensemble of each analysis."""


def one_stage(problem: Problem, twin: Twin, prior: Prior, settings: Settings) -> Iterator[Tensor]:
    """Draw each analysis from what the last ones say and what is observed."""
    g = torch.Generator().manual_seed(0)
    members = int(settings["members"])
    start = twin.start[:members].float()
    past = deque([(start.mean(0), start.std(0))] * HISTORY, maxlen=HISTORY)
    for seen in twin.observations:
        means, spreads = (torch.stack(column)[None] for column in zip(*past, strict=True))
        conditioned = prior.given(means, settings["error_factor"] * spreads)
        x = conditioned.to_state(
            assimilate(
                conditioned,
                Observation(seen.y.float(), seen.operator, seen.error),
                members=members,
                generator=g,
                guidance=mmps(max_iterations=10),
                sampler=SAMPLER,
                transform=conditioned.to_state,
            )
        )
        yield x
        past.append((x.mean(0), x.std(0)))


def letkf_true(problem: Problem, twin: Twin, prior: Prior, settings: Settings) -> Iterator[Tensor]:
    """Return the LETKF with the true model."""
    update, members = letkf_update(problem, settings), int(settings["members"])
    return follow(twin, update, problem.experiment.forecast, members)


def letkf_learned(
    problem: Problem, twin: Twin, prior: Prior, settings: Settings
) -> Iterator[Tensor]:
    """Return the LETKF with the prior's own model."""
    update, members = letkf_update(problem, settings), int(settings["members"])
    return follow(twin, update, prior.forecast, members)


def ienks(problem: Problem, twin: Twin, prior: Prior, settings: Settings) -> Iterator[Tensor]:
    """Return the IEnKS with the true model."""
    return follow_iteratively(twin, problem.experiment.forecast, settings)


METHODS: dict[str, Run] = {
    "one-stage": one_stage,
    "letkf": letkf_true,
    "letkf, learned model": letkf_learned,
    "ienks": ienks,
}

GRIDS: dict[str, dict[str, dict[str, list[float]]]] = {
    "spantini2019": {
        "one-stage": {"members": [40], "error_factor": [0.8, 1.0, 1.25]},
        "letkf": {
            "members": [40],
            "inflation": [1.0, 1.05, 1.1, 1.2],
            "radius": [2.0, 3.0, 4.0],
            "rtps": [0.0, 0.2],
        },
        "ienks": {"members": [40], "inflation": [1.05, 1.1, 1.2]},
    },
    "arctan": {
        "one-stage": {"members": [20], "error_factor": [0.8, 1.0, 1.25]},
        "letkf": {
            "members": [20],
            "inflation": [1.0, 1.02],
            "radius": [1.4, 2.1, 3.0],
            "rtps": [0.1, 0.2, 0.3],
        },
    },
}
"""What the tuner tries; the learned model's LETKF as that with the true one."""
for grids in GRIDS.values():
    grids["letkf, learned model"] = grids["letkf"]


def scores(
    problem: Problem, prior: Prior, run: Run, settings: Settings, cycles: int, seed: int
) -> dict[str, float]:
    """Return the scores of a run; they are not numbers where the truth was lost."""
    twin, rows = problem.twin(cycles, seed), []
    began = time.perf_counter()
    try:
        analyses = list(run(problem, twin, prior, settings))
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


def tune(name: str, prior: Prior, method: str, cycles: int) -> Settings:
    """Return the settings with the least CRPS on seeds 100 and 101, and print the trials."""
    problem = PROBLEMS[name]

    def loss(settings: Settings) -> float:
        run = METHODS[method]
        return (
            sum(scores(problem, prior, run, settings, cycles, s)["crps"] for s in (100, 101)) / 2
        )

    trials = grid_search(loss, GRIDS[name][method])
    for trial in trials:
        print(f"  {name} {method}: {trial}", flush=True)
    return trials[0].settings


TUNED: dict[str, dict[str, Settings]] = {
    "spantini2019": {
        "one-stage": {"members": 40, "error_factor": 1.0},
        "letkf": {"members": 40, "inflation": 1.1, "radius": 4.0, "rtps": 0.0},
        "letkf, learned model": {"members": 40, "inflation": 1.1, "radius": 4.0, "rtps": 0.0},
        "ienks": {"members": 40, "inflation": 1.1},
    },
    "arctan": {
        "one-stage": {"members": 20, "error_factor": 1.0},
        "letkf": {"members": 20, "inflation": 1.0, "radius": 3.0, "rtps": 0.2},
        "letkf, learned model": {"members": 20, "inflation": 1.0, "radius": 3.0, "rtps": 0.2},
    },
}
"""Of `published/spantini2019.py` and `published/ensf2024.py`; one-stage as it was trained."""


def main() -> None:
    """Run or tune, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--problem", nargs="+", choices=PROBLEMS, default=list(PROBLEMS))
    parser.add_argument("--seed", nargs="+", type=int, choices=range(200, 300), default=[200, 201])
    parser.add_argument("--cycles", type=int, default=150)
    parser.add_argument("--method", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--tune", action="store_true", help="find settings, and score nothing")
    arguments = parser.parse_args()
    rows = []
    print(
        f"{'problem':<14}{'method':<22}{'seed':>5}{'rmse':>8}{'crps':>8}{'ss':>7}{'cov90':>7}{'s':>8}"
    )
    for name in arguments.problem:
        prior = load(name)
        for method in (m for m in arguments.method if m in TUNED[name]):
            if arguments.tune:
                tune(name, prior, method, arguments.cycles)
                continue
            settings = TUNED[name][method]
            for seed in arguments.seed:
                found = scores(
                    PROBLEMS[name], prior, METHODS[method], settings, arguments.cycles, seed
                )
                numbers = "".join(f"{v:8.3f}" for v in found.values())
                print(f"{name:<14}{method:<22}{seed:5}{numbers}", flush=True)
                members = int(settings["members"])
                about = {"problem": name, "method": method, "members": members, "seed": seed}
                expected = {"cycles": arguments.cycles, "expected90": expected_coverage(members)}
                rows.append(about | expected | found)
    if rows:
        write(RESULTS / "one_stage.csv", rows)


def write(path: Path, rows: list[dict[str, object]]) -> None:
    """Write the rows with machine, versions and commit."""
    versions = " ".join(f"{k} {v}" for k, v in provenance()["versions"].items())
    record = {"machine": machine(), "versions": versions, "commit": commit()}
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [*rows[0], *record])
        writer.writeheader()
        for row in rows:
            numbers = {k: f"{v:.4f}" if isinstance(v, float) else v for k, v in row.items()}
            writer.writerow(numbers | record)


if __name__ == "__main__":
    main()
