"""What would an analysis of every point be worth at best, with the forecasts that the prior makes?

    python bench/forecast_floor.py [--seed 200] [--weights DIR]

The error of 12-hour forecasts, by the shipped prior or one in DIR, its law of motion alone, if it
has one, and the true model, from pasts of the demonstration's truth that are exact or wrong by
white noise, which the prior is told of. Of these errors follows the least error that an analysis
of all points, each observed with an error of 1 K, can have that knows them by their spectrum
e_k [K^2] alone:

    floor = sqrt( mean over waves of e_k r / (e_k + r) ),        r = 1 K^2.

Writes bench/results/forecast_floor.csv, with machine, versions and commit; lines of other models
and seeds stay in it.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import torch
from ablations import Row, finished, read, write
from torch import Tensor

from stormda.assimilation.systems import SQGConfig
from stormda.storm.demo import FIRST_SEED
from stormda.storm.twin.case import TwinConfig, make_case
from stormda.storm.twin.methods import load_equipment

PATH = Path(__file__).parent / "results" / "forecast_floor.csv"
PAST_ERRORS = (0.0, 0.3, 1.0)
KEY = ("model", "seed", "past_error")


def floor(error: Tensor, variance: float = 1.0) -> float:
    """Return the least error of an analysis of all points after forecasts with some errors [K]."""
    power = torch.fft.fft2(error, norm="ortho").abs().square().mean(0)
    return (power * variance / (power + variance)).mean().sqrt().item()


def rows(seed: int, weights: Path | None) -> Iterator[Row]:
    """Yield a line for each model and error of the past."""
    equipment = load_equipment(SQGConfig(), weights)
    case = make_case(TwinConfig(seed=seed, network="linear-dense"), equipment.model)
    truth, target = case.truth, case.truth[2:]
    for size in PAST_ERRORS:
        noise = torch.randn(truth.shape, generator=torch.Generator().manual_seed(seed))
        seen = truth + size * noise
        past = torch.stack([seen[:-2], seen[1:-1]], 1)
        now = equipment.prior.given(past, error=torch.full((2,), size))
        law = equipment.prior.network.transport
        forecasts = {
            "prior": now.to_physical(torch.zeros(len(past), *now.shape)),
            "true model": equipment.model.forecast(past[:, 1], hours=case.config.hours),
        }
        if law is not None:
            n = equipment.prior.normalization
            forecasts["its law of motion"] = n.to_x(law.next_frame(n.to_z(past[:, 1])))
        for model, forecast in forecasts.items():
            error = forecast - target
            rms = error.square().mean().sqrt().item()
            about: Row = {"model": model, "seed": seed, "past_error": size}
            yield about | {"forecast_error": rms, "analysis_floor": floor(error)}


def main() -> None:
    """Run, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    seeds = range(FIRST_SEED, 300)
    parser.add_argument("--seed", nargs="+", type=int, choices=seeds, default=[200])
    parser.add_argument("--weights", type=Path, help="as in `stormda demo`")
    arguments = parser.parse_args()
    table = [finished(row) for seed in arguments.seed for row in rows(seed, arguments.weights)]
    for row in table:
        print(*list(row.values())[:5])
    new = {tuple(row[k] for k in KEY) for row in table}
    write(PATH, [row for row in read(PATH) if tuple(row[k] for k in KEY) not in new] + table)


if __name__ == "__main__":
    main()
