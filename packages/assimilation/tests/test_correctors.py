import math
import re
from itertools import pairwise

import pytest
import torch

from stormda.assimilation import (
    DiagonalError,
    GaussianPrior,
    Observation,
    ancestral,
    assimilate,
    euler,
    langevin,
    sda,
)


def prior() -> GaussianPrior:
    return GaussianPrior(torch.tensor([1.0]).double(), torch.tensor([[0.25]]).double())


def spread(sampler, members: int = 20_000) -> float:
    g = torch.Generator().manual_seed(0)
    return assimilate(prior(), None, members=members, generator=g, sampler=sampler).std().item()


def exact_spread(sampler) -> float:
    """The variance that a chain of Gaussians ends with, step by step."""
    sigmas, c = sampler.sigmas(), 0.25
    variance = sigmas[0] ** 2
    for now, then in pairwise(sigmas):
        gain, ratio = c / (c + now**2), (then / now) ** 2
        variance = (gain + ratio * (1 - gain)) ** 2 * variance + then**2 * (1 - ratio)
    return math.sqrt(variance) * c / (c + sigmas[-1] ** 2)


def test_the_chain_has_the_spread_it_should() -> None:
    sampler = ancestral(steps=40)
    # 20,000 draws
    assert spread(sampler) == pytest.approx(exact_spread(sampler), rel=0.02)


def test_the_chain_is_of_first_order() -> None:
    errors = [abs(exact_spread(ancestral(steps=n)) - 0.5) for n in (100, 200)]
    assert 0.8 < math.log2(errors[0] / errors[1]) < 1.2


def test_without_corrections_it_is_the_straight_sampler() -> None:
    g = [torch.Generator().manual_seed(0) for _ in range(2)]
    a = assimilate(
        prior(), None, members=3, generator=g[0], sampler=langevin(steps=8, corrections=0)
    )
    b = assimilate(prior(), None, members=3, generator=g[1], sampler=euler(steps=8))
    assert torch.equal(a, b)


def test_corrections_bring_a_poor_guidance_to_rest() -> None:
    """SDA with a wrong covariance: corrections repair most of its error of the mean."""
    covariance = torch.exp(-(torch.arange(8.0)[:, None] - torch.arange(8.0)).abs() / 3).double()
    wide = GaussianPrior(torch.zeros(8).double(), covariance)
    y = torch.tensor([1.0, -1.0]).double()
    seen = Observation(y, lambda x: x[:, [2, 5]], DiagonalError(0.3))
    h = torch.eye(8).double()[[2, 5]]
    gain = covariance @ h.mT @ torch.linalg.inv(h @ covariance @ h.mT + 0.09 * torch.eye(2))
    errors = []
    for sampler in (euler(steps=64), langevin(steps=64, corrections=2)):
        g = torch.Generator().manual_seed(0)
        x = assimilate(
            wide, seen, members=500, generator=g, guidance=sda(gamma=0.02), sampler=sampler
        )
        errors.append((x.mean(0) - gain @ y).norm().item())
    assert errors[1] < 0.6 * errors[0]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: langevin(corrections=-1), "corrections: expected a count >= 0, got -1"),
        (lambda: langevin(tau=0.0), "tau: expected a number in (0, 1], got 0.0"),
        (lambda: ancestral(steps=0), "steps: expected a positive count, got 0"),
    ],
)
def test_bad_settings_are_refused(make, message) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        make()
