"""The gate of calibration: an exact posterior of a trajectory, in 128 dimensions.

A ring of 16 points is advected and diffused over 8 steps; a quarter of all values is observed. The
posterior is known, and the default guidance has to find its mean, its spread and its intervals.
"""

import math

import pytest
import torch

from stormda.assimilation import (
    DiagonalError,
    GaussianPrior,
    Observation,
    assimilate,
    dps,
    heun,
    kalman_update,
    mmps,
    sda,
    select,
)
from stormda.assimilation.classical import Gaussian

RING, STEPS = 16, 8


def trajectory_covariance() -> torch.Tensor:
    """The covariance of 8 states of a stationary x' = M x + noise, each N(0, C)."""
    eye = torch.eye(RING, dtype=torch.float64)
    model = 0.95 * (0.7 * eye.roll(1, 0) + 0.2 * eye + 0.1 * eye.roll(2, 0))
    i = torch.arange(RING)
    distance = torch.minimum((i[:, None] - i) % RING, (i - i[:, None]) % RING).double()
    stationary = torch.exp(-((distance / 2) ** 2) / 2) + 0.01 * eye
    noise = stationary - model @ stationary @ model.mT
    assert torch.linalg.eigvalsh(noise).min() > 0
    lagged = [torch.matrix_power(model, k) @ stationary for k in range(STEPS)]
    rows = [
        torch.cat([lagged[a - b] if a >= b else lagged[b - a].mT for b in range(STEPS)], 1)
        for a in range(STEPS)
    ]
    return torch.cat(rows)


def audit(guidance, std: float) -> tuple[float, float, float]:
    """Return bias, spread and coverage of 90 % intervals, relative to the exact posterior."""
    covariance, n = trajectory_covariance(), RING * STEPS
    g = torch.Generator().manual_seed(0)
    cells = torch.randperm(n, generator=g)[: n // 4]
    truth = torch.linalg.cholesky(covariance) @ torch.randn(n, dtype=torch.float64, generator=g)
    y = truth[cells] + std * torch.randn(len(cells), dtype=torch.float64, generator=g)
    prior = GaussianPrior(torch.zeros(n, dtype=torch.float64), covariance)
    seen = Observation(y, select(cells), DiagonalError(std))
    x = assimilate(
        prior, seen, members=256, generator=g, guidance=guidance, sampler=heun(steps=32)
    )
    h = torch.eye(n, dtype=torch.float64)[cells]
    exact = kalman_update(Gaussian(prior.mean, covariance), y, h, seen.error.variance)
    total, deviations = exact.covariance.trace(), exact.covariance.diagonal().sqrt()
    ends = (x.quantile(torch.tensor([0.05, 0.95]).double(), 0) - exact.mean) / deviations
    below = torch.special.ndtr(ends)
    return (
        ((x.mean(0) - exact.mean).norm() / total.sqrt()).item(),
        (x.var(0).sum() / total).sqrt().item(),
        (below[1] - below[0]).mean().item(),
    )


@pytest.mark.parametrize("std", [0.1, 0.5])
def test_the_default_guidance_is_calibrated(std) -> None:
    """256 exact draws have bias 0.06, spread 1.00 and coverage 0.896."""
    bias, spread, coverage = audit(mmps(), std)
    assert bias < 0.12
    assert 0.95 < spread < 1.05
    assert 0.87 < coverage < 0.93


@pytest.mark.parametrize("guidance", [sda(), dps()])
def test_the_others_are_not(guidance) -> None:
    """They find the posterior to half a standard deviation or so: good to know, and to compare."""
    bias, spread, _ = audit(guidance, 0.1)
    assert 0.2 < bias < 1.0
    assert math.isfinite(spread)
