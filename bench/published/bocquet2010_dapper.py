"""The methods of `bocquet2010` beside DAPPER's own, on the same truths and observations.

    python bench/published/bocquet2010_dapper.py [--seed 200 201 ...] [--cycles 1200]

Needs DAPPER (1.7.1, to be installed by hand, `pip install dapper`), which draws the truths. Writes
bench/results/published_bocquet2010_dapper.csv: the errors of each program after the spin-up, one
for each seed, their median, and how many runs lost the truth; with machine, versions and commit.
The two programs jitter copies of particles differently: ours leaves the first where it is.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import replace
from statistics import median
from typing import Any

import dapper as dpr
import dapper.da_methods as da
import numpy as np
import torch
from bocquet2010 import EXPERIMENT, METHODS
from dapper.mods.Lorenz96.bocquet2010 import HMM
from experiment import RESULTS, write

from stormda.assimilation import DiagonalError, Observation, select

OF_DAPPER: dict[str, Any] = {
    "EnKF-N N=8 xN=1.3": lambda: da.EnKF_N(N=8, rot=True, xN=1.3),
    "PF N=100": lambda: da.PartFilt(N=100, NER=0.2, reg=1.3),
    "PF N=800": lambda: da.PartFilt(N=800, NER=0.2, reg=0.8),
    "optimal PF N=800": lambda: da.OptPF(N=800, NER=0.2, reg=0.6, Qs=0.1),
}
"""DAPPER's methods, with the settings of its own file."""

LOST = 1.0
"""An error above this is of a run that has lost the truth: that of an observation is 1.2."""


def errors(truth: np.ndarray, seen: np.ndarray, seed: int) -> Iterator[tuple[str, str, Any]]:
    """Yield method, program and errors, for DAPPER's truth (cycles + 1, 10) and observations."""
    pick, error = select(EXPERIMENT.observed), DiagonalError(EXPERIMENT.std)
    true, y = torch.tensor(truth[1:]), torch.tensor(np.stack(list(seen)).astype(float))
    experiment = replace(EXPERIMENT, cycles=len(y))
    for method in METHODS:
        stream = (Observation(now, pick, error) for now in y)
        means = torch.stack(
            list(method.run(experiment, stream, torch.Generator().manual_seed(seed)))
        )
        yield method.name, "stormda", (means - true).square().mean(1).sqrt().numpy()
        theirs = OF_DAPPER[method.name]()
        theirs.assimilate(HMM, truth, seen)
        yield method.name, "DAPPER", np.array(theirs.stats.err.rms.a, float)


def summary(found: Mapping[tuple[str, str], list[float]], seeds: str) -> list[dict[str, object]]:
    """Return a row for each method and program."""
    return [
        {
            "method": method,
            "program": program,
            "seeds": seeds,
            "lost": sum(value > LOST for value in values),
            "median_rmse": f"{median(values):.3f}",
            "rmse": " ".join(f"{value:.3f}" for value in values),
        }
        for (method, program), values in found.items()
    ]


def main() -> None:
    """Run, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", nargs="+", type=int, default=list(range(200, 208)))
    parser.add_argument("--cycles", type=int, default=1200)
    arguments = parser.parse_args()
    dpr.rc.liveplotting = False
    HMM.tseq.Ko = arguments.cycles - 1
    found: dict[tuple[str, str], list[float]] = {}
    for seed in arguments.seed:
        dpr.set_seed(seed)
        truth, seen = HMM.simulate()
        for method, program, each in errors(truth, seen, seed):
            value = float(each[EXPERIMENT.spin_up :].mean())
            print(f"{seed} {method:<20}{program:<10}{value:8.4f}", flush=True)
            found.setdefault((method, program), []).append(value)
    seeds = f"{min(arguments.seed)}-{max(arguments.seed)}, {arguments.cycles} cycles"
    write(RESULTS / "published_bocquet2010_dapper.csv", summary(found, seeds))


if __name__ == "__main__":
    main()
