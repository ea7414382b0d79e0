import re

import pytest
import torch

from stormda.assimilation import (
    DiagonalError,
    GaussianPrior,
    Observation,
    anamorphosis,
    assimilate,
    compose,
    fit_anamorphosis,
    heun,
    log_density,
    log_transform,
    logit_transform,
    physical,
    select,
)


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=g)


CASES = [
    (log_transform(scale=0.3), draw(50).exp()),
    (logit_transform(low=-1.0, high=4.0), 5 * torch.sigmoid(draw(50)) - 1),
    (fit_anamorphosis(draw(2000, seed=1).exp()), draw(50).exp()),
]
cases = pytest.mark.parametrize(("transform", "x"), CASES, ids=lambda c: type(c).__name__)


@cases
def test_there_and_back(transform, x) -> None:
    torch.testing.assert_close(transform.inverse(transform(x)), x)
    order = x.argsort()
    assert (transform(x)[order].diff() > 0).all()


@cases
def test_the_slope_is_the_slope(transform, x) -> None:
    x = x.clone().requires_grad_()
    slope = torch.autograd.grad(transform(x).sum(), x)[0]
    torch.testing.assert_close(transform.log_slope(x.detach()), slope.log())


@cases
def test_probability_is_conserved(transform, x) -> None:
    grid = torch.linspace(float(x.min()) * 0.5, float(x.max()), 400_001).double()
    grid = grid[(grid > -0.99) & (grid < 3.99)] if isinstance(transform, logit_transform) else grid
    law = torch.distributions.Normal(torch.tensor(0.0).double(), torch.tensor(1.0).double())
    density = log_density(law.log_prob, transform, grid).exp()
    ends = law.cdf(transform(grid[[0, -1]]))
    mass = torch.trapezoid(density, grid).item()
    # the slope of the anamorphosis jumps at its knots
    assert mass == pytest.approx((ends[1] - ends[0]).item(), abs=1e-3)


def test_anamorphosis_makes_samples_normal() -> None:
    x = draw(50_000).exp() + 0.2 * draw(50_000, seed=1)
    z = fit_anamorphosis(x)(x)
    # beyond the outermost quantiles the curve is straight, and the tails too long
    moments = [z.mean(), z.var(), (z**3).mean(), (z**4).mean()]
    for moment, normal, margin in zip(moments, (0, 1, 0, 3), (0.02, 0.05, 0.1, 0.8), strict=True):
        assert moment.item() == pytest.approx(normal, abs=margin)


def test_ties_are_taken_once() -> None:
    """Half of the samples are dry: one knot."""
    x = torch.cat([torch.zeros(500), draw(500).exp().float()])
    curve = fit_anamorphosis(x)
    assert (curve.x.diff() > 0).all()
    assert (curve.x == 0).sum() == 1


def test_an_analysis_of_rain_is_never_negative() -> None:
    """A prior of z, an observation of x = f^-1(z) with its own error in mm."""
    rain = log_transform(scale=1.0)
    prior = GaussianPrior(torch.tensor([0.5, 0.5]).double(), torch.eye(2).double())
    sensor = compose(physical(rain), select(torch.tensor([0])))
    seen = Observation(torch.tensor([4.0]).double(), sensor, DiagonalError(0.3))
    g = torch.Generator().manual_seed(0)
    z = assimilate(prior, seen, members=400, generator=g, sampler=heun(steps=32))
    x = rain.inverse(z)
    assert x.min() >= 0
    grid = torch.linspace(-4, 5, 100_001).double()
    law = torch.distributions.Normal(0.5, 1.0).log_prob(grid)
    weight = (law + seen.error.log_prob(4.0 - rain.inverse(grid)[:, None])).softmax(0)
    mean = (weight * rain.inverse(grid)).sum()
    spread = (weight * (rain.inverse(grid) - mean).square()).sum().sqrt()
    # guidance takes the operator to be straight about each denoised state, and it is not
    assert x[:, 0].mean().item() == pytest.approx(mean.item(), abs=0.25)
    assert x[:, 0].std().item() == pytest.approx(spread.item(), rel=0.25)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: log_transform(scale=0.0), "scale: expected a positive number, got 0.0"),
        (lambda: logit_transform(low=2.0), "low: expected less than high=1.0, got 2.0"),
        (
            lambda: anamorphosis(torch.tensor([1.0, 1.0]), torch.tensor([0.0, 1.0])),
            "x: expected at least 2 rising numbers, got tensor([1., 1.])",
        ),
    ],
)
def test_bad_settings_are_refused(make, message) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        make()
