"""What does looking back buy where every point is observed, and what does it cost?

    python bench/lookback.py [--seed 202] [--cycle 8] [--members 8]

From the same analyses of the demonstration's dense network (those of a filter that does not look
back) one analysis is made by each of six filters: the state that is sampled lies 0, 1 or 2
intervals before the newest observation, and the observations act by the covariance that the
network's Jacobian implies or by that of the spectrum it was told. The table has the error and the
spread of the present, the largest residual that a solve was left with at noise levels from 0.1 on,
and seconds. One analysis of one truth: for orders of magnitude. Tables of whole runs are those of
`one_stage_sqg.py`.

Then the products with the Jacobian of one interval and with its transpose, in units of a forecast:
carried along a course that is kept (`stormda.storm.transport_tangent`), and by automatic
differentiation. Medians of nine, in turns.

Writes bench/results/lookback.csv and lookback_products.csv, with machine, versions and commit.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from statistics import median

import torch
from ablations import Row, finished, write
from torch import Tensor

from stormda.assimilation import assimilate, dpmpp_2m, observed_along, rmse
from stormda.assimilation.guidance.base import linearize_operator
from stormda.assimilation.systems import SQGConfig
from stormda.storm.demo import FIRST_SEED
from stormda.storm.filtering import given_pasts
from stormda.storm.lookback import LookbackFilter, LookbackSettings
from stormda.storm.transport import Spectral
from stormda.storm.transport_tangent import carried
from stormda.storm.twin.case import Case, TwinConfig, make_case
from stormda.storm.twin.methods import Equipment, generator_of, load_equipment

RESULTS = Path(__file__).parent / "results"
LAGS = (0, 1, 2)
LOW = 0.1
"""Residuals are told of noise levels from here on [standard deviations of an increment]."""


def analyses(case: Case, equipment: Equipment, settings: LookbackSettings) -> list[Tensor]:
    """Return the initial ensemble as often as a past is long, and the analyses after it."""
    here = replace(settings, lag=0)
    state = LookbackFilter(equipment.prior, case.initial, here, generator_of(case))
    made = list(state.analyses)
    for cycle in range(case.config.cycles - 1):
        made.append(state.step(case.observation(cycle)))
    return made


def analysis(
    case: Case, equipment: Equipment, made: list[Tensor], settings: LookbackSettings
) -> Row:
    """Make the last analysis of a case in one way, from the analyses before it."""
    last = case.config.cycles - 1
    start = last - settings.lag
    state = LookbackFilter(equipment.prior, case.initial, settings, generator_of(case))
    state.observations.extend(case.observation(cycle) for cycle in range(start, last + 1))
    past = torch.stack(made[start : start + equipment.prior.config.history], 1)
    now = given_pasts(equipment.prior, past, settings)
    residuals = [0.0]

    def watch(sigma: float, diagnostics: dict[str, Tensor]) -> None:
        if sigma >= LOW:
            residuals.append(diagnostics["residual"].max().item())

    began = time.perf_counter()
    departure = assimilate(
        now,
        observed_along(list(state.observations), state.course),
        members=len(past),
        generator=generator_of(case),
        guidance=settings.guidance(now),
        sampler=dpmpp_2m(
            steps=settings.steps, sigma_min=settings.sigma_min, sigma_max=settings.sigma_max
        ),
        transform=now.to_physical,
        monitor=watch,
    )
    present = state.course(now.to_physical(departure).detach())[-1]
    return {
        "lag": settings.lag,
        "covariance": settings.covariance,
        "rmse": rmse(present.mean(0), case.truth[-1]).item(),
        "spread": present.var(0).mean().sqrt().item(),
        "residual": max(residuals),
        "seconds": time.perf_counter() - began,
    }


def products(case: Case, equipment: Equipment) -> Iterator[Row]:
    """Yield the seconds of products with the law's Jacobian, in units of a forecast's."""
    law, n = equipment.prior.network.transport, equipment.prior.normalization
    assert law is not None
    z, acts = n.to_z(case.initial), Spectral.of(law.law, law.rows, law.cols)
    ways: dict[str, Callable[[Tensor], Tensor]] = {
        "carried": lambda x: carried(law, x, 1)[1].flatten(1),
        "automatic": lambda x: acts.advance(x, law.steps).flatten(1),
    }
    lines = {name: linearize_operator(way, z, None) for name, way in ways.items()}
    timed = {"forecast": lambda: acts.advance(z, law.steps)}
    for name, line in lines.items():
        timed[f"{name}, tangent"] = lambda line=line: line.tangent(z)
        timed[f"{name}, transpose"] = lambda line=line: line.adjoint(z.flatten(1))
    seconds: dict[str, list[float]] = {name: [] for name in timed}
    for _ in range(9):
        for name, product in timed.items():
            began = time.perf_counter()
            product()
            seconds[name].append(time.perf_counter() - began)
    for name, each in seconds.items():
        ratio = median(each) / median(seconds["forecast"])
        yield {"product": name, "members": len(z), "forecasts": ratio}


def main() -> None:
    """Run, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, choices=range(FIRST_SEED, 300), default=202)
    parser.add_argument("--cycle", type=int, default=8)
    parser.add_argument("--members", type=int, default=8)
    arguments = parser.parse_args()
    equipment = load_equipment(SQGConfig())
    config = TwinConfig(
        network="linear-dense",
        seed=arguments.seed,
        cycles=arguments.cycle,
        discarded=0,
        members=arguments.members,
    )
    case = make_case(config, equipment.model)
    settings = equipment.settings(case).storm
    made, rows = analyses(case, equipment, settings), []
    for lag in LAGS:
        for covariance in ("network", "told"):
            one = replace(settings, lag=lag, covariance=covariance)
            rows.append({"seed": arguments.seed, **analysis(case, equipment, made, one)})
            print(*rows[-1].values(), flush=True)
    write(RESULTS / "lookback.csv", [finished(row) for row in rows])
    write(RESULTS / "lookback_products.csv", [finished(r) for r in products(case, equipment)])


if __name__ == "__main__":
    main()
