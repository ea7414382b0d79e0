"""Every convention of a network gives one denoiser, and every schedule the same samples."""

import math

import pytest
import torch

from stormda.assimilation import (
    FromNetwork,
    GaussianPrior,
    assimilate,
    heun,
    predicts_noise,
    predicts_score,
    predicts_v,
    predicts_velocity,
    rectified,
    rectified_levels,
    score,
    vp,
    vp_levels,
)

SIGMAS = [0.01, 0.7, 30.0]
PATHS = [vp(), vp(rate_min=0.5, rate_max=5.0), rectified()]


def prior() -> GaussianPrior:
    g = torch.Generator().manual_seed(0)
    root = torch.randn(4, 4, dtype=torch.float64, generator=g)
    return GaussianPrior(torch.randn(4, dtype=torch.float64, generator=g), root @ root.mT)


def networks(path):
    """The exact predictions, as functions of z and the path's own time."""

    def x_hat(z, t):
        sigma = torch.tensor(path.sigma(t.item()), dtype=torch.float64)
        a, b, _ = path.place(sigma)
        return prior()(z / a, sigma), a, b

    def noise(z, t):
        mean, a, b = x_hat(z, t)
        return (z - a * mean) / b

    def v(z, t):
        mean, a, b = x_hat(z, t)
        return a * noise(z, t) - b * mean

    def velocity(z, t):
        return x_hat(z, t)[0] - noise(z, t)

    def slope(z, t):
        mean, a, b = x_hat(z, t)
        return (a * mean - z) / b**2

    pairs = [(noise, predicts_noise), (slope, predicts_score)]
    if isinstance(path, vp):
        return [*pairs, (v, predicts_v)]
    return [*pairs, (velocity, predicts_velocity)]


@pytest.mark.parametrize("path", PATHS, ids=repr)
@pytest.mark.parametrize("sigma", SIGMAS)
def test_all_conventions_are_one_denoiser(path, sigma) -> None:
    level = torch.tensor(sigma, dtype=torch.float64)
    x = (1 + sigma) * torch.randn(
        3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1)
    )
    for network, reading in networks(path):
        wrapped = FromNetwork(
            network=network, path=path, reading=reading, shape=(4,), dtype=torch.float64
        )
        # x_hat out of a prediction of noise loses digits as sigma grows
        torch.testing.assert_close(wrapped(x, level), prior()(x, level), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("path", PATHS, ids=repr)
@pytest.mark.parametrize("sigma", SIGMAS)
def test_a_level_and_its_time_are_one(path, sigma) -> None:
    a, b, t = path.place(torch.tensor(sigma, dtype=torch.float64))
    assert (b / a).item() == pytest.approx(sigma)
    assert path.sigma(t.item()) == pytest.approx(sigma)
    if isinstance(path, vp):
        assert (a**2 + b**2).item() == pytest.approx(1)


def test_the_rate_of_the_diffusion_is_linear() -> None:
    path = vp()
    grown = [math.log1p(path.sigma(t) ** 2) for t in (0.0, 0.5, 1.0)]
    assert grown[0] == 0
    assert grown[1] == pytest.approx(0.5 * 0.1 + 0.125 * 19.9)
    assert grown[2] == pytest.approx(0.1 + 0.5 * 19.9)


def test_the_score_is_the_slope_of_the_density() -> None:
    x = torch.randn(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    law = torch.distributions.MultivariateNormal(
        prior().mean, prior().covariance + 4 * torch.eye(4)
    )
    x.requires_grad_()
    slope = torch.autograd.grad(law.log_prob(x).sum(), x)[0]
    level = torch.tensor(2.0, dtype=torch.float64)
    torch.testing.assert_close(score(prior()(x, level), x, level).detach(), slope)


@pytest.mark.parametrize("levels", [vp_levels, rectified_levels])
def test_other_schedules_reach_the_same_samples(levels) -> None:
    """One flow, other steps along it: the noise of a member leads to its sample."""

    def run(sampler):
        g = torch.Generator().manual_seed(0)
        return assimilate(prior(), None, members=5, generator=g, sampler=sampler)

    fine = run(heun(steps=300, sigma_max=levels(2)[0]))
    other = run(heun(steps=300, levels=levels))
    torch.testing.assert_close(other, fine, rtol=0, atol=0.02)


def test_rates_are_in_order() -> None:
    message = "rate_min: expected 0 < rate_min < rate_max, got 3.0 and 2.0"
    with pytest.raises(ValueError, match=f"^{message}$"):
        vp(rate_min=3.0, rate_max=2.0)
