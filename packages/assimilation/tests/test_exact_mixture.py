"""The gate of multimodal posteriors: 25 modes in 80 dimensions, four observations, exact answer.

The problem of Boys et al. (2023), section 5.1. The prior is wrapped, so that samplers see a
denoiser and its vector-Jacobian product only.
"""

import pytest
import torch

from stormda.assimilation import (
    DiagonalError,
    GaussianPrior,
    MixturePrior,
    Observation,
    assimilate,
    euler,
    heun,
    matrix,
    mmps,
    resample,
    source_mala,
    twisted_smc,
)
from stormda.assimilation.samplers import Schedule

D, STD = 80, 0.1


class UnitMixture:
    """`MixturePrior` with unit covariances, at a cost linear in the dimension."""

    shape, dtype, device = (D,), torch.float64, torch.device("cpu")

    def __init__(self, weights, means) -> None:
        self.weights, self.means = weights, means

    def __call__(self, x, sigma):
        total = 1 + sigma**2
        near = x @ self.means.mT - self.means.square().sum(-1) / 2
        centre = (self.weights.log() + near / total).softmax(-1) @ self.means
        return centre + (x - centre) / total


def problem(seed: int, p: int):
    """Return a prior, an observation, and draws of the exact posterior."""
    g = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, dtype=torch.float64, generator=g)

    i, j = torch.meshgrid(*[torch.arange(-2.0, 3.0).double()] * 2, indexing="ij")
    means = torch.stack([8 * i.flatten(), 8 * j.flatten()], -1).repeat(1, D // 2)
    weights = normal(25).square()
    weights = weights / weights.sum()
    left, _, right = torch.linalg.svd(normal(p, D), full_matrices=False)
    size = torch.rand(p, dtype=torch.float64, generator=g).sort(descending=True).values
    h = left * size @ right
    truth = means[torch.multinomial(weights, 1, generator=g)[0]] + normal(D)
    y = h @ truth + STD * normal(p)
    total = h @ h.mT + STD**2 * torch.eye(p)
    gain = torch.linalg.solve(total, h).mT
    law = torch.distributions.MultivariateNormal(torch.zeros(p).double(), total)
    shares = (weights.log() + law.log_prob(y - means @ h.mT)).softmax(0)
    values, vectors = torch.linalg.eigh(torch.eye(D) - gain @ h)
    modes = torch.multinomial(shares, 500, replacement=True, generator=g)
    centres = means + (y - means @ h.mT) @ gain.mT
    draws = centres[modes] + (normal(500, D) * values.clamp(min=0).sqrt()) @ vectors.mT
    return UnitMixture(weights, means), Observation(y, matrix(h), DiagonalError(STD)), draws


def distance(x, y) -> float:
    lines = torch.randn(500, D, dtype=x.dtype, generator=torch.Generator().manual_seed(9))
    lines = lines / lines.norm(dim=1, keepdim=True)
    return ((x @ lines.mT).sort(0).values - (y @ lines.mT).sort(0).values).abs().mean().item()


def mode_error(x, y, prior) -> float:
    counts = [
        torch.bincount(torch.cdist(s, prior.means).argmin(1), minlength=25) / len(s)
        for s in (x, y)
    ]
    return ((counts[0] - counts[1]).abs().sum() / 2).item()


def test_the_default_finds_the_modes() -> None:
    """The mean of four problems; exact draws have about 0.1, no observation 13.

    The modes lie up to 286 apart, and the noise that a sampler starts from has to drown that.
    """
    found = []
    for seed in range(200, 204):
        prior, seen, exact = problem(seed, 4)
        g = torch.Generator().manual_seed(seed)
        x = assimilate(
            prior,
            seen,
            members=500,
            generator=g,
            guidance=mmps(),
            sampler=euler(steps=100, sigma_max=2000.0),
        )
        found.append(distance(x, exact))
    assert sum(found) / 4 < 0.6


def test_the_smc_mode_is_close() -> None:
    found = []
    for seed in range(200, 202):
        prior, seen, exact = problem(seed, 4)
        g = torch.Generator().manual_seed(seed)
        cloud = twisted_smc(
            prior, seen, particles=500, generator=g, schedule=Schedule(steps=100, sigma_max=2000.0)
        )
        found.append(distance(resample(cloud, g, share=1.0).states, exact))
    assert sum(found) / 2 < 0.3


def test_the_smc_mode_weighs_them_as_well_or_better() -> None:
    """Over problems where guidance alone errs the most: one observation, many modes remain."""
    errors = {"mmps": 0.0, "smc": 0.0}
    for seed in (200, 201):
        prior, seen, exact = problem(seed, 1)
        g = torch.Generator().manual_seed(seed)
        x = assimilate(
            prior, seen, members=500, generator=g, sampler=euler(steps=100, sigma_max=2000.0)
        )
        errors["mmps"] += mode_error(x, exact, prior)
        cloud = twisted_smc(
            prior, seen, particles=500, generator=g, schedule=Schedule(steps=100, sigma_max=2000.0)
        )
        errors["smc"] += mode_error(resample(cloud, g, share=1.0).states, exact, prior)
    assert errors["smc"] < 0.8 * errors["mmps"]


def gaussian() -> tuple[GaussianPrior, Observation, torch.Tensor, torch.Tensor]:
    """Return a prior of three numbers, an observation, and the exact posterior's moments."""
    distance = (torch.arange(3.0)[:, None] - torch.arange(3.0)).abs()
    c = torch.exp(-distance / 2).double()
    h = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]]).double()
    y = torch.tensor([1.0, -1.0]).double()
    gain = c @ h.mT @ torch.linalg.inv(h @ c @ h.mT + 0.25 * torch.eye(2))
    seen = Observation(y, matrix(h), DiagonalError(0.5))
    return GaussianPrior(torch.zeros(3).double(), c), seen, gain @ y, c - gain @ h @ c


def test_the_smc_mode_is_exact_for_a_gaussian() -> None:
    prior, seen, mean, covariance = gaussian()
    g = torch.Generator().manual_seed(0)
    cloud = twisted_smc(prior, seen, particles=4000, generator=g, schedule=Schedule(steps=300))
    assert cloud.effective > 1000
    deviation = cloud.states - cloud.mean
    found = (deviation * cloud.log_weights.exp()[:, None]).mT @ deviation
    # 2000 effective draws of 0.7, and the steps of the chain
    torch.testing.assert_close(cloud.mean, mean, rtol=0, atol=0.05)
    torch.testing.assert_close(found, covariance, rtol=0, atol=0.05)


def test_a_transform_reaches_the_smc_mode() -> None:
    prior, seen, mean, _ = gaussian()
    stretched = Observation(seen.y, lambda x: seen.operator(x / 3), seen.error)
    g = torch.Generator().manual_seed(0)
    cloud = twisted_smc(
        prior,
        stretched,
        particles=2000,
        generator=g,
        schedule=Schedule(steps=100),
        transform=lambda x: 3 * x,
    )
    torch.testing.assert_close(cloud.mean, mean, rtol=0, atol=0.08)


def test_chains_in_the_source_find_the_posterior() -> None:
    prior, seen, mean, covariance = gaussian()
    g = torch.Generator().manual_seed(0)
    chain = source_mala(
        prior, seen, members=1500, generator=g, iterations=160, sampler=heun(steps=12)
    )
    assert 0.4 < chain.acceptance < 0.75
    # 1500 draws of 0.7
    torch.testing.assert_close(chain.states.mean(0), mean, rtol=0, atol=0.06)
    torch.testing.assert_close(chain.states.mT.cov(), covariance, rtol=0, atol=0.06)


def test_counts_are_checked() -> None:
    prior, seen, _, _ = gaussian()
    g = torch.Generator()
    with pytest.raises(ValueError, match=r"^particles: expected at least 2, got 1$"):
        twisted_smc(prior, seen, particles=1, generator=g)
    with pytest.raises(ValueError, match=r"^iterations: expected at least 2, got 1$"):
        source_mala(prior, seen, members=2, generator=g, iterations=1)


def test_the_cheap_mixture_is_the_mixture() -> None:
    prior, _, _ = problem(0, 1)
    dense = MixturePrior(prior.weights, prior.means, torch.eye(D).double().expand(25, D, D))
    x = 5 * torch.randn(4, D, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    level = torch.tensor(2.0).double()
    torch.testing.assert_close(prior(x, level), dense(x, level))
