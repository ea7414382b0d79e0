"""A learned model of Lorenz-96: a rate of change with the same quadratic form at every point.

    dx_i / dt = f(x_{i-2}, ..., x_{i+2}),      f(w) = c . (a w) * (b w) + ...

integrated by Runge and Kutta's fourth-order steps. It learns from pairs of states one step apart
and is judged on whole intervals between observations. Classical filters can run on it, so that the
value of a model and that of an analysis are told apart. The weights go to a file and are read
again; training takes some seconds of a core.

    python bench/lorenz96_model.py --problem spantini2019 arctan
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from twin96 import PROBLEMS, Problem

from stormda.assimilation.systems import nature_run, runge_kutta

WEIGHTS = Path(__file__).parent / "priors"
TRAINING_SEED, TRAINING_STEPS = 1, 1000

CLIMATE_MEAN, CLIMATE_STD = 2.3, 3.6
"""Of Lorenz-96 with a forcing of 8: the units that networks like."""

LONGEST = 0.08
"""The longest step of the model [time units]."""


class Model(nn.Module):
    """A learned rate of change: quadratic, of two points to each side."""

    def __init__(self, problem: Problem, width: int = 4) -> None:
        super().__init__()
        self.read = nn.Linear(5, 2 * width)
        self.mix = nn.Linear(3 * width, 1)
        self.steps = math.ceil(problem.interval / LONGEST - 1e-9)
        self.dt = problem.interval / self.steps
        self.substeps = problem.experiment.steps // self.steps
        """Steps of the true model in one of this."""

    def forward(self, x: Tensor) -> Tensor:
        """Return states `(*batch, points)` an interval later."""
        return runge_kutta(self.rate, x, self.dt, self.steps)

    @torch.no_grad()
    def forecast(self, x: Tensor) -> Tensor:
        """Return states an interval later in their own precision, as classical filters ask."""
        return self(x.float()).to(x)

    def rate(self, x: Tensor) -> Tensor:
        """Return the rate of change of states `(*batch, points)`."""
        return self._rate(self._features(_around(x)))

    def along(self, x: Tensor) -> Tensor:
        """Return states `(m, points)` an interval later, with a gradient that is one matrix.

        The Jacobian is carried forward beside the state. Guidance asks for many products with it
        at the same state, each of which would otherwise run back through all steps.
        """
        if not (torch.is_grad_enabled() and x.requires_grad):
            return self(x)
        later, jacobian = self.tangent(x.detach())
        away = (x - x.detach())[..., None]
        linear: Tensor = later + (jacobian @ away)[..., 0]
        return linear

    def tangent(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return states `(m, points)` an interval later, and their Jacobians."""
        start = torch.eye(x.shape[-1], dtype=x.dtype).expand(*x.shape, x.shape[-1])
        both = torch.cat([x[..., None], start], -1)
        both = runge_kutta(self._rates, both, self.dt, self.steps)
        return both[..., 0], both[..., 1:]

    def _rates(self, both: Tensor) -> Tensor:
        """Return the rate of a state and of small departures from it, `(m, points, 1 + k)`."""
        features = self._features(_around(both[..., 0]))
        one, two = features.chunk(2, -1)
        products, lines = self.mix.weight[0].split([one.shape[-1], features.shape[-1]])
        # The derivative of products . (one * two) + lines . features by each of five neighbours.
        slopes = torch.cat([products * two, products * one], -1) + lines
        slopes = slopes @ self.read.weight
        points = both.shape[-2]
        rounded = torch.cat([both[:, -2:], both, both[:, :2]], 1)
        change = slopes[..., :1] * rounded[:, :points]
        for k in range(1, 5):
            change.addcmul_(slopes[..., k : k + 1], rounded[:, k : k + points])
        change[..., 0] = self._rate(features)
        return change

    def _features(self, near: Tensor) -> Tensor:
        features: Tensor = self.read((near - CLIMATE_MEAN) / CLIMATE_STD)
        return features

    def _rate(self, features: Tensor) -> Tensor:
        one, two = features.chunk(2, -1)
        rate: Tensor = CLIMATE_STD * self.mix(torch.cat([one * two, features], -1))[..., 0]
        return rate


def _around(x: Tensor) -> Tensor:
    """Return each point with two neighbours to each side, `(*batch, points, 5)`."""
    return torch.stack([x.roll(k, -1) for k in (2, 1, 0, -1, -2)], -1)


def load(name: str) -> Model:
    """Return the model of a problem: from its file, or trained now."""
    problem, path = PROBLEMS[name], WEIGHTS / f"{name}.safetensors"
    if path.exists():
        model = Model(problem)
        model.load_state_dict(load_file(path))
        return model.requires_grad_(False)
    model = train(problem)
    error = held_out_error(model, problem, TRAINING_SEED + 50)
    print(f"{name}: the model's error after an interval is {error:.5f}", flush=True)
    WEIGHTS.mkdir(exist_ok=True)
    save_file(model.state_dict(), path)
    return model


def train(problem: Problem) -> Model:
    """Train a model on a nature run of 64 rings."""
    torch.manual_seed(TRAINING_SEED)
    model, g = Model(problem), torch.Generator().manual_seed(TRAINING_SEED)
    states = torch.stack(list(islice(_rings(problem, model.substeps, g), 101)))
    now, later = states[:-1].flatten(0, 1), states[1:].flatten(0, 1)
    weights = list(model.parameters())
    optimiser = torch.optim.Adam(weights, lr=1e-2)
    for step in range(TRAINING_STEPS):
        warm, falling = min(1.0, (step + 1) / 50), math.cos(math.pi * step / TRAINING_STEPS)
        for group in optimiser.param_groups:
            group["lr"] = 1e-2 * warm * (1 + falling) / 2
        i = torch.randint(len(now), (64,), generator=g)
        error = (runge_kutta(model.rate, now[i], model.dt, 1) - later[i]) / model.dt
        optimiser.zero_grad()
        error.square().mean().backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimiser.step()
    return model.requires_grad_(False)


def held_out_error(model: Model, problem: Problem, seed: int) -> float:
    """Return the root mean square error over an interval, on rings of a seed of their own."""
    x = next(_rings(problem, model.substeps, torch.Generator().manual_seed(seed)))
    later = problem.experiment.system.forecast(x, steps=problem.experiment.steps)
    return (model(x) - later).square().mean().sqrt().item()


def _rings(problem: Problem, every: int, generator: torch.Generator) -> Iterator[Tensor]:
    system = problem.experiment.system
    x = 8 + torch.randn(64, system.shape[0], generator=generator)
    return nature_run(system, system.forecast(x, steps=round(10 / system.dt)), steps=every)


def main() -> None:
    """Train what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--problem", nargs="+", choices=PROBLEMS, default=list(PROBLEMS))
    for name in parser.parse_args().problem:
        load(name)


if __name__ == "__main__":
    main()
