"""Is one-stage analysis better than classical ones on turbulence? Several truths, one table.

    python bench/twin.py [--seed 200 201 202] [--cycles 30] [--network arctan-sparse] [--name twin]

Runs the demonstration's experiment for every seed (200-299, never used for training or tuning) and
writes bench/results/NAME.csv: a row for each seed and method, with machine, versions and commit.
"""

from __future__ import annotations

import argparse
import csv
from dataclasses import asdict
from pathlib import Path
from statistics import mean

from tqdm import tqdm

from stormda.assimilation.systems import SQGConfig
from stormda.storm.demo import FIRST_SEED, run_case
from stormda.storm.provenance import commit, machine, provenance
from stormda.storm.scores import Row
from stormda.storm.twin.case import NETWORKS, TwinConfig
from stormda.storm.twin.methods import METHODS, load_equipment

RESULTS = Path(__file__).parent / "results"


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
    if "storm" not in arguments.method:
        parser.error(f"--method: expected storm among the methods, got {arguments.method}")
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
            outcome = run_case(
                config, equipment, arguments.method, lambda what, done: bar.update(done)
            )
            rows += [(seed, row) for row in outcome.rows]
    write(RESULTS / f"{arguments.name}.csv", rows, arguments.cycles)
    print(table([row for _, row in rows]))


def write(path: Path, rows: list[tuple[int, Row]], cycles: int) -> None:
    """Write a row for each seed and method."""
    versions = " ".join(f"{k} {v}" for k, v in provenance()["versions"].items())
    record = {"machine": machine(), "versions": versions, "commit": commit()}
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        first = {"seed": rows[0][0], "cycles": cycles, **asdict(rows[0][1]), **record}
        writer = csv.DictWriter(file, list(first))
        writer.writeheader()
        for seed, row in rows:
            numbers = {
                k: f"{v:.4f}" if isinstance(v, float) else v for k, v in asdict(row).items()
            }
            writer.writerow({"seed": seed, "cycles": cycles, **numbers, **record})


def table(rows: list[Row]) -> str:
    """Return the means over the seeds, with the range of the RMSE, and ratios to STORM."""
    lines = [
        f"{'method':<14}{'rmse':>8}{'least':>8}{'most':>8}{'/ storm':>9}{'crps':>8}"
        f"{'spread/skill':>14}{'coverage90':>12}"
    ]
    own = mean(row.rmse for row in rows if row.method == "storm")
    for name in dict.fromkeys(row.method for row in rows):
        mine = [row for row in rows if row.method == name]
        errors = [row.rmse for row in mine]
        lines.append(
            f"{name:<14}{mean(errors):8.3f}{min(errors):8.3f}{max(errors):8.3f}"
            f"{mean(errors) / own:9.2f}{mean(row.crps for row in mine):8.3f}"
            f"{mean(row.spread_skill for row in mine):14.2f}"
            f"{mean(row.coverage90 for row in mine):12.2f}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
