"""Particle filters for the published tables."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from experiment import Experiment, Run
from torch import Tensor

from stormda.assimilation import (
    Observation,
    Particles,
    equal_particles,
    optimal_proposal,
    resample,
    weigh,
)


def bootstrap(members: int, *, share: float, jitter: float) -> Run:
    """Return the bootstrap filter with regularised resampling."""

    def run(
        experiment: Experiment, stream: Iterator[Observation], generator: torch.Generator
    ) -> Iterator[Tensor]:
        particles = equal_particles(experiment.draw(members, generator))
        for seen in stream:
            x = experiment.forecast(particles.states)
            likelihood = seen.error.log_prob(seen.innovation(seen.operator(x)))
            particles = weigh(Particles(x, particles.log_weights), likelihood)
            yield particles.mean
            particles = resample(particles, generator, share=share, jitter=jitter)

    return run


def optimal(members: int, *, share: float, jitter: float, kernel: float) -> Run:
    """Return the filter of the optimal proposal, with kernels in place of the model's noise."""

    def run(
        experiment: Experiment, stream: Iterator[Observation], generator: torch.Generator
    ) -> Iterator[Tensor]:
        particles = equal_particles(experiment.draw(members, generator))
        n = len(experiment.start)
        operator = torch.eye(n, dtype=torch.float64)[experiment.observed]
        for seen in stream:
            x = experiment.forecast(particles.states)
            ahead = Particles(x, particles.log_weights)
            away = (x - ahead.mean) * ahead.log_weights.exp().sqrt()[:, None]
            noise = (kernel * members ** (-1 / (n + 4))) ** 2 * (away.mT @ away)
            particles = optimal_proposal(
                ahead, x, noise, seen.y, operator, seen.error.variance, generator
            )
            yield particles.mean
            particles = resample(particles, generator, share=share, jitter=jitter)

    return run
