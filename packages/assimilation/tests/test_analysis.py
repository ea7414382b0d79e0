import re

import pytest
import torch

from stormda.assimilation import (
    DiagonalError,
    GaussianPrior,
    Noise,
    Observation,
    assimilate,
    cycle,
    dpmpp_2m,
    euler,
    heun,
    kalman_update,
    matrix,
    mmps,
    none,
    sde,
    select,
)
from stormda.assimilation.classical import Gaussian

CPU = torch.device("cpu")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def problem() -> tuple[GaussianPrior, Observation, torch.Tensor]:
    g = generator()
    root = torch.randn(6, 6, dtype=torch.float64, generator=g)
    prior = GaussianPrior(torch.zeros(2, 3).double(), root @ root.mT / 6)
    h = torch.randn(3, 6, dtype=torch.float64, generator=g)
    y = torch.tensor([1.0, -1.0, 0.5], dtype=torch.float64)
    return prior, Observation(y, matrix(h), DiagonalError(0.3)), h


@pytest.mark.parametrize("sampler", [heun(steps=32), dpmpp_2m(steps=48), sde(steps=64)])
def test_equals_the_kalman_filter(sampler) -> None:
    prior, seen, h = problem()
    x = assimilate(prior, seen, members=1000, generator=generator(1), sampler=sampler).flatten(1)
    exact = kalman_update(
        Gaussian(prior.mean.flatten(), prior.covariance), seen.y, h, seen.error.variance
    )
    total = exact.covariance.trace()
    # 1000 draws: the mean is 1/32 of a standard deviation off, the covariance 5 %; steps add 3 %
    assert ((x.mean(0) - exact.mean).norm() / total.sqrt()) < 0.06
    assert (x.mT.cov() - exact.covariance).norm() / exact.covariance.norm() < 0.08


def test_a_forecast_samples_the_prior() -> None:
    prior, seen, _ = problem()
    forecast = assimilate(prior, None, members=50, generator=generator(), sampler=heun(steps=8))
    off = assimilate(
        prior, seen, members=50, generator=generator(), sampler=heun(steps=8), guidance=none()
    )
    assert torch.equal(forecast, off)
    assert forecast.shape == (50, 2, 3)
    assert not forecast.requires_grad


def test_a_member_is_the_same_alone_and_in_a_batch() -> None:
    prior, seen, _ = problem()
    for sampler in (heun(steps=6), sde(steps=6)):
        batch = assimilate(prior, seen, members=5, generator=generator(3), sampler=sampler)
        some = assimilate(prior, seen, members=[4, 1], generator=generator(3), sampler=sampler)
        torch.testing.assert_close(some, batch[[4, 1]])


def test_members_with_a_context_of_their_own() -> None:
    class Around:
        shape, dtype, device = (1,), torch.float64, CPU

        def __call__(self, x, sigma, *, centre, width):
            return centre + width**2 / (width**2 + sigma**2) * (x - centre)

    centre = torch.tensor([[-5.0], [5.0]], dtype=torch.float64)
    context = {"centre": centre, "width": 1e-3}
    x = assimilate(Around(), None, members=2, generator=generator(), context=context)
    torch.testing.assert_close(x, centre, atol=0.01, rtol=0)  # ten widths


def test_the_transform_comes_before_the_operator() -> None:
    prior, _, _ = problem()
    seen = Observation(torch.tensor([283.0]), select(torch.tensor([2])), DiagonalError(1e-3))
    x = assimilate(prior, seen, members=20, generator=generator(), transform=lambda z: 280 + 3 * z)
    # z = 1, to a few errors of observation in units of the state
    torch.testing.assert_close(x[:, 0, 2], torch.ones(20).double(), atol=2e-3, rtol=0)


def test_the_monitor_hears_of_every_denoising() -> None:
    prior, seen, _ = problem()
    heard = []
    assimilate(
        prior,
        seen,
        members=3,
        generator=generator(),
        sampler=euler(steps=4),
        monitor=lambda sigma, diagnostics: heard.append((sigma, diagnostics)),
    )
    assert [sigma for sigma, _ in heard] == euler(steps=4).sigmas()
    for _, diagnostics in heard:
        assert diagnostics["residual"].shape == (3,)
        assert (diagnostics["residual"] <= mmps().tolerance).all()


class Walk:
    """A random walk with steps N(0, 1)."""

    shape, dtype, device = (1,), torch.float64, CPU

    def __call__(self, x, sigma, *, before):
        return before + (x - before) / (1 + sigma**2)


def test_cycling_draws_each_state_given_the_past_of_its_member() -> None:
    """x_k ~ p(x_k | x_k-1, y_k) has a mean and a variance over members that obey a recursion."""
    ys = [1.0, None, 3.0, 2.0]
    error = DiagonalError(0.5)
    stream = (
        None if y is None else Observation(torch.tensor([y]), lambda x: x, error) for y in ys
    )
    m = 4000
    analyses = cycle(
        Walk(),
        stream,
        history=[torch.zeros(m, 1, dtype=torch.float64)],
        context=lambda k, past: {"before": past[-1]},
        members=m,
        generator=generator(),
        sampler=dpmpp_2m(steps=48),
    )
    mean, variance = 0.0, 0.0
    for y, x in zip(ys, analyses, strict=True):
        gain = 0.0 if y is None else 1 / 1.25
        mean = mean + gain * ((y or 0.0) - mean)
        variance = (1 - gain) ** 2 * variance + (1 - gain)
        assert x.mean().item() == pytest.approx(mean, abs=4 * (variance / m) ** 0.5 + 0.01)
        assert x.var().item() == pytest.approx(variance, rel=0.12)  # four standard errors, steps


def test_a_cycle_keeps_as_many_states_as_it_was_given() -> None:
    seen: list[tuple[int, list[float]]] = []

    def context(k, past):
        seen.append((k, [x.mean().item() for x in past]))
        return {"before": past[-1]}

    history = [torch.full((1, 1), float(i), dtype=torch.float64) for i in range(3)]
    list(
        cycle(
            Walk(),
            [None, None],
            history=history,
            context=context,
            members=1,
            generator=generator(),
            sampler=euler(steps=3),
        )
    )
    assert [k for k, _ in seen] == [0, 1]
    assert seen[0][1] == [0.0, 1.0, 2.0]
    assert seen[1][1][:2] == [1.0, 2.0]
    assert len(seen[1][1]) == 3


def test_the_key_is_the_only_draw() -> None:
    prior, _, _ = problem()
    g, other = generator(8), generator(8)
    assimilate(prior, None, members=2, generator=g, sampler=euler(steps=2))
    Noise.drawn_from(other)
    assert torch.equal(g.get_state(), other.get_state())


@pytest.mark.parametrize("members", [0, [], [-1], [2, 2]])
def test_members_must_be_distinct(members) -> None:
    message = f"members: expected a positive count or distinct indices >= 0, got {members}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        assimilate(problem()[0], None, members=members, generator=generator())


def test_the_operator_must_give_what_was_observed() -> None:
    seen = Observation(torch.zeros(2), select(torch.tensor([0])), DiagonalError(1.0))
    message = "observation: expected an operator from (4, 2, 3) to (4, 2), got (4, 1)"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        assimilate(problem()[0], seen, members=4, generator=generator())


class Broken:
    """A denoiser that fails for the third member once the noise is low."""

    shape, dtype, device = (2,), torch.float32, CPU

    def __call__(self, x, sigma):
        x_hat = x / (1 + sigma**2)
        if sigma < 1:
            x_hat[2] = torch.nan
        return x_hat


def test_a_broken_denoiser_is_found_out() -> None:
    sampler = euler(steps=3, sigma_max=4.0, sigma_min=0.25, rho=1.0)  # levels 4, 2.125, 0.25
    message = "prior: expected finite states, got others at step 2 (sigma 0.25) in members [7]"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        assimilate(Broken(), None, members=[5, 6, 7], generator=generator(), sampler=sampler)


def test_a_broken_operator_is_found_out() -> None:
    def root(x):
        return x[:, 0].sqrt()[:, :1] * torch.tensor([[1.0], [torch.nan]])

    seen = Observation(torch.ones(1), root, DiagonalError(1.0))
    message = (
        "observation: expected finite guidance, got other numbers "
        "at step 0 (sigma 80) in members [1]"
    )
    prior = GaussianPrior(torch.full((2, 3), 9.0), 0.01 * torch.eye(6))
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        assimilate(prior, seen, members=2, generator=generator())


def test_a_denoiser_keeps_the_shape() -> None:
    class Wide(Broken):
        def __call__(self, x, sigma):
            return x[:, :1]

    message = "prior: expected states (3, 2), got (3, 1)"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        assimilate(Wide(), None, members=3, generator=generator())
