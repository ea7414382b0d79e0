import pytest
import torch

from stormda.assimilation import (
    DiagonalError,
    Gaussian,
    Particles,
    equal_particles,
    kalman_forecast,
    kalman_update,
    optimal_proposal,
    resample,
    weigh,
)
from stormda.assimilation.systems import advected_ring

M = 200_000


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def moments(particles: Particles) -> tuple[torch.Tensor, torch.Tensor]:
    deviation = particles.states - particles.mean
    return particles.mean, (deviation * particles.log_weights.exp()[:, None]).mT @ deviation


def test_weights_are_bayes_rule() -> None:
    g = generator()
    x = torch.randn(M, 2, dtype=torch.float64, generator=g)
    y = torch.tensor([1.0]).double()
    seen = weigh(equal_particles(x), DiagonalError(0.7).log_prob(y - x[:, :1]))
    h = torch.tensor([[1.0, 0.0]]).double()
    prior = Gaussian(torch.zeros(2).double(), torch.eye(2).double())
    exact = kalman_update(prior, y, h, torch.tensor(0.49))
    mean, covariance = moments(seen)
    # about M / 2 effective draws of unit variance
    torch.testing.assert_close(mean, exact.mean, rtol=0, atol=0.01)
    torch.testing.assert_close(covariance, exact.covariance, rtol=0, atol=0.01)
    again = resample(seen, g, share=1.0)
    torch.testing.assert_close(again.states.mean(0), mean, rtol=0, atol=0.005)
    assert again.effective == pytest.approx(M, rel=1e-9)


def test_copies_are_in_proportion_to_weights() -> None:
    """Systematic: each particle is copied its expected number of times, rounded up or down."""
    weights = torch.rand(50, dtype=torch.float64, generator=generator())
    weights = weights / weights.sum()
    particles = Particles(torch.arange(50.0)[:, None], weights.log())
    copies = torch.bincount(
        resample(particles, generator(), share=1.0).states[:, 0].long(), minlength=50
    )
    assert ((copies - 50 * weights).abs() < 1).all()


def test_a_rich_ensemble_is_left_alone() -> None:
    particles = equal_particles(torch.zeros(4, 1))
    assert resample(particles, generator(), share=0.9) is particles


def test_only_copies_get_a_jitter() -> None:
    states = torch.randn(100, 3, dtype=torch.float64, generator=generator())
    logs = torch.cat([torch.zeros(50), torch.full((50,), -50.0)]).double().log_softmax(0)
    particles = Particles(states, logs)
    again = resample(particles, generator(), share=1.0, jitter=0.5).states
    kept = (again[:, None] == states[:50]).all(-1).any(0)
    assert kept.all()
    assert len(again.unique(dim=0)) == 100
    spread = again.var(0).sum() / states[:50].var(0).sum()
    assert 1.0 < spread < 1.3


def test_the_optimal_proposal_is_exact() -> None:
    """One step of a linear model from a Gaussian: the Kalman filter."""
    g, model = generator(), advected_ring()
    start = Gaussian(torch.zeros(16).double(), model.covariance)
    root = torch.linalg.cholesky(model.covariance)
    x = torch.randn(50_000, 16, dtype=torch.float64, generator=g) @ root.mT
    h, y = torch.eye(16).double()[::5], torch.tensor([1.0, -0.5, 0.3, 0.8]).double()
    moved = optimal_proposal(
        equal_particles(x), model.forecast(x, steps=1), model.noise, y, h, torch.tensor(0.5), g
    )
    exact = kalman_forecast(start, model.transition, model.noise)
    exact = kalman_update(exact, y - h @ exact.mean, h, torch.tensor(0.5))
    mean, covariance = moments(moved)
    assert moved.effective > 15_000
    # 17,000 effective draws of unit variance: 0.007, and the worst of 16 or 136 numbers
    torch.testing.assert_close(mean, exact.mean, rtol=0, atol=0.03)
    torch.testing.assert_close(covariance, exact.covariance, rtol=0, atol=0.04)


def test_a_share_is_a_share() -> None:
    with pytest.raises(ValueError, match=r"^share: expected a number in \[0, 1\], got 2.0$"):
        resample(equal_particles(torch.zeros(2, 1)), generator(), share=2.0)
