"""Is one-stage analysis better than classical ones on turbulence? Several truths, one table.

    python bench/twin.py [--seed 200 201 202] [--cycles 30] [--network arctan-sparse] [--name twin]

Runs the demonstration's experiment for every seed (200-299, never used for training or tuning) and
writes bench/results/NAME.csv: a row for each seed and method, with machine, versions and commit.
Rows of other seeds and methods stay in it.
"""

from __future__ import annotations

import argparse
import csv
import math
from dataclasses import asdict
from pathlib import Path
from statistics import mean

from ablations import read
from tqdm import tqdm

from stormda.assimilation.systems import SQGConfig
from stormda.io import atomic_path
from stormda.storm.demo import FIRST_SEED, run_method
from stormda.storm.provenance import commit, machine, provenance
from stormda.storm.scores import Row, score
from stormda.storm.twin.case import NETWORKS, TwinConfig, make_case
from stormda.storm.twin.methods import METHODS, load_equipment

RESULTS = Path(__file__).parent / "results"
KEY = ("seed", "cycles", "network", "method")


def main() -> None:
    """Run, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    seeds = range(FIRST_SEED, 300)
    parser.add_argument("--seed", nargs="+", type=int, choices=seeds, default=[200, 201, 202])
    parser.add_argument("--cycles", type=int, default=30)
    parser.add_argument("--members", type=int, default=16)
    parser.add_argument("--network", choices=NETWORKS, default="arctan-sparse")
    parser.add_argument("--method", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--name", default="twin")
    arguments = parser.parse_args()
    equipment = load_equipment(SQGConfig())
    rows: list[tuple[int, Row]] = []
    total = len(arguments.seed) * len(arguments.method) * arguments.cycles
    with tqdm(total=total, unit="analysis") as bar:
        for seed in arguments.seed:
            config = TwinConfig(
                network=arguments.network,
                seed=seed,
                cycles=arguments.cycles,
                members=arguments.members,
                discarded=min(10, arguments.cycles // 3),
            )
            case = make_case(config, equipment.model)
            for method in arguments.method:
                run, seconds = run_method(METHODS[method], case, equipment, bar.update)
                scored, truth = run.after(config.discarded), case.truth[1 + config.discarded :]
                about = {"network": config.network, "method": method, "seconds": seconds}
                rows.append((seed, score(scored, truth, **about)))
    print(table(write(RESULTS / f"{arguments.name}.csv", rows, arguments.cycles)))


def write(path: Path, rows: list[tuple[int, Row]], cycles: int) -> list[dict[str, str]]:
    """Write a row for each seed and method, in place of those of the same, and return all."""
    versions = " ".join(f"{k} {v}" for k, v in provenance()["versions"].items())
    record = {"machine": machine(), "versions": versions, "commit": commit()}
    new = [
        {"seed": str(seed), "cycles": str(cycles), **as_text(row), **record} for seed, row in rows
    ]
    known = {tuple(row[k] for k in KEY) for row in new}
    old = [row for row in read(path) if tuple(row[k] for k in KEY) not in known]
    methods = list(METHODS)
    every = sorted([*old, *new], key=lambda r: (r["seed"], methods.index(r["method"])))
    with atomic_path(path, overwrite=True) as partial, partial.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(every[0]))
        writer.writeheader()
        writer.writerows(every)
    return every


def as_text(row: Row) -> dict[str, str]:
    """Return the scores of a row as they are written."""
    return {k: f"{v:.4f}" if isinstance(v, float) else str(v) for k, v in asdict(row).items()}


def table(rows: list[dict[str, str]]) -> str:
    """Return the means over the seeds, with the range of the RMSE, and ratios to STORM."""
    lines = [
        f"{'method':<14}{'rmse':>8}{'least':>8}{'most':>8}{'/ storm':>9}{'crps':>8}"
        f"{'spread/skill':>14}{'coverage90':>12}"
    ]
    storm = [float(row["rmse"]) for row in rows if row["method"] == "storm"]
    own = mean(storm) if storm else math.nan
    for name in dict.fromkeys(row["method"] for row in rows):
        mine = [row for row in rows if row["method"] == name]
        errors = [float(row["rmse"]) for row in mine]
        crps, spread, coverage = (
            mean(float(row[k]) for row in mine) for k in ("crps", "spread_skill", "coverage90")
        )
        lines.append(
            f"{name:<14}{mean(errors):8.3f}{min(errors):8.3f}{max(errors):8.3f}"
            f"{mean(errors) / own:9.2f}{crps:8.3f}{spread:14.2f}{coverage:12.2f}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
