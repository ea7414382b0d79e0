"""What does an analysis cost as the ensemble grows, and as the state grows? Lorenz-96, one thread.

    python bench/ensemble.py [--members 20 256 4096] [--points 1000000]

One problem for all: every second point of a ring observed with an error of 1 by members around the
truth with a spread of 1. `jfps` and `ensf` draw with a Gaussian, respectively the members' own
points, as the prior, so that the time is the method's and not a network's; `letkf` uses the 20
observations nearest to each point. A second table analyses a ring of many points with 20 members.

Prints seconds per member in units of those of the smallest ensemble (1 where cost is linear), and
writes bench/results/ensemble.csv, with machine, versions and commit.
"""

from __future__ import annotations

import argparse
import csv
import resource
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from stormda.assimilation import (
    DiagonalError,
    Neighbours,
    Observation,
    Spectral,
    assimilate,
    ensf,
    euler,
    jfps,
    letkf,
    select,
)
from stormda.assimilation.systems import Lorenz96
from stormda.storm.provenance import commit, machine, provenance

RESULTS = Path(__file__).parent / "results"
SEED = 200


class Ring:
    """A Gaussian prior on a ring, white: its denoiser costs one product."""

    dtype, device = torch.float32, torch.device("cpu")

    def __init__(self, mean: Tensor) -> None:
        self.mean, self.shape = mean, tuple(mean.shape)

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Return the denoised states."""
        return self.mean + (x - self.mean) / (1 + sigma**2)


def twin(points: int, members: int) -> tuple[Tensor, Tensor, Observation]:
    """Return a truth, members around it, and an observation of every second point."""
    g = torch.Generator().manual_seed(SEED)
    model = Lorenz96(points=points)
    truth = model.forecast(8 + torch.randn(points, generator=g), steps=100)
    centre = truth + torch.randn(points, generator=g)
    ensemble = centre + torch.randn(members, points, generator=g)
    cells = torch.arange(0, points, 2)
    y = truth[cells] + torch.randn(len(cells), generator=g)
    return truth, ensemble, Observation(y, select(cells), DiagonalError(1.0))


def run_letkf(ensemble: Tensor, seen: Observation) -> Tensor:
    """Analyse with the LETKF; each point is asked for its neighbours only."""
    points = ensemble.shape[1]
    nearby = torch.arange(-10, 10)

    def near(columns: slice) -> Neighbours:
        place = torch.arange(*columns.indices(points))
        index = (place[:, None] // 2 + nearby) % (points // 2)
        gap = (2 * index - place[:, None]).abs()
        return Neighbours(index, torch.minimum(gap, points - gap).float())

    analysis = letkf(
        ensemble[..., None],
        seen.operator(ensemble),
        seen.y,
        seen.error.variance,
        distance=near,
        radius=14.0,
    )
    return analysis[..., 0]


def run_jfps(ensemble: Tensor, seen: Observation) -> Tensor:
    """Draw with the fast guidance and a spectral climate."""
    prior = Ring(ensemble.mean(0))
    climate = Spectral(torch.ones(prior.shape[0] // 2 + 1))
    return assimilate(
        prior,
        seen,
        members=len(ensemble),
        generator=torch.Generator().manual_seed(SEED),
        guidance=jfps(climate=climate),
        sampler=euler(steps=20),
    )


def run_ensf(ensemble: Tensor, seen: Observation) -> Tensor:
    """Draw with the score filter's guidance from the members' own points."""

    class Points(Ring):
        def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
            return ensemble

    return assimilate(
        Points(ensemble[0]),
        seen,
        members=len(ensemble),
        generator=torch.Generator().manual_seed(SEED),
        guidance=ensf(),
        sampler=euler(steps=20, sigma_max=2.0, sigma_min=0.16),
    )


METHODS: dict[str, Callable[[Tensor, Observation], Tensor]] = {
    "letkf": run_letkf,
    "jfps": run_jfps,
    "ensf": run_ensf,
}


LIMITS = {"letkf": 256}
"""The most members: the LETKF solves a system as large as the ensemble, at a cubic cost."""


def measure(method: str, points: int, members: int) -> dict[str, object]:
    """Time one analysis, after a small one that warms up."""
    METHODS[method](*twin(64, 4)[1:])
    truth, ensemble, seen = twin(points, members)
    began = time.perf_counter()
    analysis = METHODS[method](ensemble, seen)
    seconds = time.perf_counter() - began
    before, after = (
        (x.mean(0) - truth).square().mean().sqrt().item() for x in (ensemble, analysis)
    )
    return {
        "method": method,
        "points": points,
        "members": members,
        "seconds": seconds,
        "seconds_per_member": seconds / members,
        "rmse_background": before,
        "rmse_analysis": after,
        "peak_memory_GB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
    }


def main() -> None:
    """Run, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--members", nargs="+", type=int, default=[20, 256, 4096])
    parser.add_argument("--points", type=int, default=1_000_000)
    parser.add_argument("--method", nargs="+", choices=METHODS, default=list(METHODS))
    arguments = parser.parse_args()
    cases = [
        (name, 40, m)
        for name in arguments.method
        for m in arguments.members
        if m <= LIMITS.get(name, m)
    ]
    cases += [(name, arguments.points, 20) for name in arguments.method]
    rows, base = [], {}
    print(f"{'method':<8}{'points':>9}{'members':>9}{'s':>9}{'relative':>10}{'rmse':>8}{'GB':>7}")
    for name, points, members in cases:
        row = measure(name, points, members)
        own = base.setdefault((name, points), row["seconds_per_member"])
        row["cost_per_member"] = row["seconds_per_member"] / own
        print(
            f"{name:<8}{points:9}{members:9}{row['seconds']:9.3f}{row['cost_per_member']:10.3f}"
            f"{row['rmse_analysis']:8.3f}{row['peak_memory_GB']:7.2f}",
            flush=True,
        )
        rows.append(row)
    write(RESULTS / "ensemble.csv", rows)


def write(path: Path, rows: list[dict[str, object]]) -> None:
    """Write the rows with machine, versions and commit."""
    versions = " ".join(f"{k} {v}" for k, v in provenance()["versions"].items())
    record = {"machine": machine(), "versions": versions, "commit": commit()}
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [*rows[0], *record])
        writer.writeheader()
        for row in rows:
            numbers = {k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()}
            writer.writerow(numbers | record)


if __name__ == "__main__":
    main()
