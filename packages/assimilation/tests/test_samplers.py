import math
import re
from itertools import pairwise

import pytest
import torch

from stormda.assimilation import GaussianPrior, Noise, dpmpp_2m, euler, heun, sde

VARIANCES = torch.tensor([0.25, 1.0, 4.0], dtype=torch.float64)
PRIOR = GaussianPrior(torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64), VARIANCES.diag())
SPAN = {"sigma_min": 0.01, "sigma_max": 20.0, "rho": 3.0}


def start(step: int) -> torch.Tensor:
    return torch.tensor([[0.3, -1.0, 0.8]], dtype=torch.float64)


def flow(sigma_max: float, sigma_min: float) -> torch.Tensor:
    """The exact solution of the flow for a Gaussian, then one denoising."""
    away = sigma_max * start(0) - PRIOR.mean
    away = away * ((VARIANCES + sigma_min**2) / (VARIANCES + sigma_max**2)).sqrt()
    return PRIOR(PRIOR.mean + away, sigma_min)


@pytest.mark.parametrize(("sampler", "order"), [(euler, 1), (heun, 2), (dpmpp_2m, 2)])
def test_order_of_convergence(sampler, order) -> None:
    exact = flow(20.0, 0.01)
    errors = [
        (sampler(steps=steps, **SPAN)(PRIOR, start) - exact).norm().item() for steps in (129, 257)
    ]
    # 0.15: the next order of the error at this number of steps
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.15)


def test_two_samplers_of_second_order_agree() -> None:
    fine = heun(steps=500, **SPAN)(PRIOR, start)
    # the error of second order at 500 steps
    torch.testing.assert_close(fine, dpmpp_2m(steps=500, **SPAN)(PRIOR, start), rtol=1e-3, atol=0)


def test_without_renewal_the_sde_is_the_flow() -> None:
    still = sde(steps=20, eta=0.0, **SPAN)(PRIOR, start)
    torch.testing.assert_close(still, dpmpp_2m(steps=20, **SPAN)(PRIOR, start))


@pytest.mark.parametrize("eta", [0.5, 1.0])
def test_the_sde_samples_the_prior(eta) -> None:
    def draws(step: int) -> torch.Tensor:
        return Noise(5).normal((4000, 3), member=0, step=step, dtype=torch.float64)

    x = sde(steps=60, eta=eta)(PRIOR, draws)
    # four standard errors of 4000 draws, and 2 % for the steps
    assert ((x.mean(0) - PRIOR.mean) / (VARIANCES / 4000).sqrt()).abs().max() < 4
    torch.testing.assert_close(x.var(0), VARIANCES, rtol=4 * (2 / 4000) ** 0.5 + 0.02, atol=0)


@pytest.mark.parametrize("sampler", [euler, heun, dpmpp_2m, sde])
def test_one_step_is_one_denoising(sampler) -> None:
    x = sampler(steps=1, sigma_max=3.0)(PRIOR, start)
    torch.testing.assert_close(x, PRIOR(3 * start(0), 3.0))


@pytest.mark.parametrize(("sampler", "calls"), [(euler, 9), (heun, 17), (dpmpp_2m, 9), (sde, 9)])
def test_calls_of_the_denoiser(sampler, calls) -> None:
    levels = []

    def denoise(x, sigma):
        assert sigma.shape == ()
        assert sigma.dtype is x.dtype
        levels.append(sigma.item())
        return PRIOR(x, sigma)

    sampler(steps=9)(denoise, start)
    assert len(levels) == calls
    assert levels[0] == 80.0
    assert levels[-1] == 0.002
    assert all(a >= b for a, b in pairwise(levels))


def test_the_levels_are_those_of_karras() -> None:
    i = torch.arange(18, dtype=torch.float64) / 17
    expected = (80 ** (1 / 7) + i * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    levels = torch.tensor(heun(steps=18).sigmas(), dtype=torch.float64)
    torch.testing.assert_close(levels, expected)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: heun(steps=0), "steps: expected a positive count, got 0"),
        (
            lambda: euler(sigma_min=2.0, sigma_max=1.0),
            "sigma_min: expected 0 < sigma_min < sigma_max, got 2.0 and 1.0",
        ),
        (lambda: dpmpp_2m(rho=0.0), "rho: expected a positive number, got 0.0"),
        (lambda: sde(eta=-0.1), "eta: expected a number >= 0, got -0.1"),
    ],
)
def test_bad_settings_are_refused(make, message) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        make()
