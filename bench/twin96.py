"""Twin experiments on Lorenz-96 that scores of ensembles are taken of: two nonlinear problems.

- `spantini2019`: every other of 40 points, every 0.4 time units (two days), with an error of 0.71;
- `arctan`: all of 100 points, every 0.1, seen through an arctan that saturates, error 0.05.

They are those of `published/`, but that every method starts from the same ensemble, one around the
truth with a standard deviation of 1, and that the truth has forgotten its start.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from stormda.assimilation import (
    Observation,
    Spread,
    Update,
    ienkf,
    letkf,
    periodic_distance,
    run_filter,
)
from stormda.assimilation.systems import nature_run

sys.path.insert(0, str(Path(__file__).parent / "published"))
import ensf2024
import spantini2019
from experiment import HALF_WIDTH, Experiment

LIMIT = 4.0
"""A filter whose innovations are this many times what it expects has lost the truth."""


@dataclass(frozen=True, eq=False)
class Twin:
    """A truth, its observations and the ensemble that everybody starts from."""

    truths: list[Tensor]
    observations: list[Observation]
    start: Tensor
    """Fifty members at the time before the first observation, `(50, points)`."""


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A problem by its name in the tables."""

    name: str
    experiment: Experiment

    @property
    def interval(self) -> float:
        """The time between observations."""
        return self.experiment.steps * self.experiment.system.dt

    def twin(self, cycles: int, seed: int) -> Twin:
        """Make a truth and observe it."""
        e = self.experiment
        g = torch.Generator().manual_seed(seed)
        first = e.truth(g)
        truths = list(islice(nature_run(e.system, first, steps=e.steps), cycles))
        noise = torch.randn(50, len(first), dtype=torch.float64, generator=g)
        return Twin(truths, list(e.observe(truths, g)), first + noise)


PROBLEMS = {
    problem.name: problem
    for problem in (
        Problem(name="spantini2019", experiment=replace(spantini2019.EXPERIMENT, warm_up=1000)),
        Problem(name="arctan", experiment=ensf2024.EXPERIMENT),
    )
}


def letkf_update(problem: Problem, settings: Mapping[str, float]) -> Update:
    """Return an analysis by the LETKF, its radius as in DAPPER."""
    e = problem.experiment
    n = len(e.start)
    place = torch.arange(n, dtype=torch.float64)[:, None]
    far = periodic_distance(place, place[e.observed], torch.tensor([float(n)]))
    spread = Spread(inflation=settings["inflation"], rtps=settings["rtps"])

    def update(ensemble: Tensor, predicted: Tensor, observation: Observation) -> Tensor:
        x = letkf(
            ensemble[..., None],
            predicted,
            observation.y,
            observation.error.variance,
            distance=far,
            radius=2 * HALF_WIDTH * settings["radius"],
        )
        return spread(x[..., 0], ensemble)

    return update


def follow(
    twin: Twin, update: Update, forecast: Callable[[Tensor], Tensor], members: int = 50
) -> Iterator[Tensor]:
    """Yield the analyses of an ensemble filter; it is stopped where it loses the truth."""
    cycles = run_filter(
        twin.start[:members], twin.observations, forecast=forecast, update=update, limit=LIMIT
    )
    return (cycle.analysis for cycle in cycles)


def follow_iteratively(
    twin: Twin, forecast: Callable[[Tensor], Tensor], settings: Mapping[str, float]
) -> Iterator[Tensor]:
    """Yield the analyses of the IEnKS with a window of two intervals, of which the last is new."""
    spread = Spread(inflation=settings["inflation"])
    x = twin.start[: int(settings["members"])]
    for number, seen in enumerate(twin.observations):
        window = 1 if number == 0 else 2

        def ahead(x: Tensor, window: int = window) -> Tensor:
            for _ in range(window):
                x = forecast(x)
            return x

        def predict(x: Tensor, seen: Observation = seen, ahead: Callable = ahead) -> Tensor:
            return seen.operator(ahead(x))

        before, x = x, ienkf(x, predict, seen.y, seen.error)
        yield ahead(x)
        x = spread(x, before)
        if window == 2:
            x = forecast(x)
