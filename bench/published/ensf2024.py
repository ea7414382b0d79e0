"""Bao, Zhang and Zhang (2024), the ensemble score filter: Lorenz-96 seen through an arctan.

A hundred points, all observed with an error of 0.05 every ten steps of 0.01; 150 analyses of 20
members that start from N(0, 1); the score is the mean error of the last 50. The official code has
0.193 for its filter and 0.138 for its LETKF, whose square root is not symmetric
(`fine_tune_*` of github.com/zezhongzhang/EnSF, means of ten runs).

`EnSF` is the `ensf` guidance of each member's own point along the official steps. The settings of
the LETKF were tuned on seeds 100 and 101 (`--tune`).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from math import sqrt

import torch
from experiment import Experiment, Method, Run, local, main, score
from torch import Tensor

from stormda.assimilation import (
    Guidance,
    Observation,
    arctan,
    ensf,
    grid_search,
)
from stormda.assimilation.systems import Lorenz96

EXPERIMENT = Experiment(
    system=Lorenz96(points=100, dt=0.01),
    steps=10,
    observed=torch.arange(100),
    std=0.05,
    start=torch.full((100,), 8.0, dtype=torch.float64),
    start_std=1.0,
    cycles=150,
    spin_up=100,
    sensor=arctan(1.0),
    members_start=(0.0, 1.0),
    warm_up=2000,
)


def diffusion(denoise: Callable, noise: Callable, method: ensf, steps: int = 200) -> Tensor:
    """Follow the official steps: Euler and Maruyama, backwards along the filter's own path."""
    z = noise(0)
    for k in range(steps):
        t = 1 - k / steps
        a, square = 1 - (1 - method.least_signal) * t, method.least_noise
        square = square + (1 - square) * t
        drift = -(1 - method.least_signal) / a
        rate = 1 - method.least_noise - 2 * drift * square
        x_hat = denoise(z / a, z.new_tensor(sqrt(square) / a))
        score_of_z = (a * x_hat - z) / square
        z = z - (drift * z - rate * score_of_z) / steps + sqrt(rate / steps) * noise(k + 1)
    return z


def own_points(guidance: Guidance, sample: Callable) -> Run:
    """Return a filter in which the prior of each member is the point that it was forecast to."""

    def run(
        experiment: Experiment, stream: Iterator[Observation], generator: torch.Generator
    ) -> Iterator[Tensor]:
        x = experiment.draw(20, generator)
        for seen in stream:
            x = experiment.forecast(x)

            def denoise(noisy: Tensor, sigma: Tensor, x: Tensor = x, seen: Observation = seen):  # noqa: ANN202
                return guidance(lambda *_: x, noisy, sigma, seen, {}, None).x_hat

            x = sample(denoise, lambda _, x=x: torch.randn(x.shape, generator=generator).to(x))
            yield x.mean(0)

    return run


def follow_official(method: ensf) -> Run:
    """Return the ensemble score filter."""
    return own_points(method, lambda denoise, noise: diffusion(denoise, noise, method))


METHODS = [
    Method("EnSF", 0.193, follow_official(ensf())),
    Method("LETKF N=20", 0.138, local(20, 1.0, 3.0, rtps=0.2)),
]


def tune() -> None:
    """Print the best settings of the LETKF on seeds of their own."""

    def loss(settings: dict[str, float]) -> float:
        run = local(20, settings["inflation"], settings["radius"], rtps=settings["rtps"])
        seeds = range(100, 102)
        return sum(score(Method("", 1.0, run), EXPERIMENT, seed) for seed in seeds) / len(seeds)

    grid = {"inflation": [1.0], "radius": [1.4, 2.1, 3.0], "rtps": [0.2, 0.3, 0.4]}
    for trial in grid_search(loss, grid):
        print(trial)


if __name__ == "__main__":
    if "--tune" in sys.argv:
        tune()
    else:
        main("ensf2024", EXPERIMENT, METHODS)
