import pytest
import torch

from stormda.assimilation import (
    DiagonalError,
    LowRank,
    Observation,
    compose,
    kalman_update,
    matrix,
    optimal_interpolation,
    select,
)
from stormda.assimilation.classical import Gaussian
from stormda.assimilation.classical.optimal_interpolation import jacobian_of


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=g)


def low_rank() -> LowRank:
    return LowRank(draw(6, 2), draw(6, seed=1).square() + 0.1)


def dense() -> torch.Tensor:
    return low_rank() @ torch.eye(6, dtype=torch.float64)


def observed(curve=None) -> Observation:
    operator = compose(matrix(draw(4, 6, seed=2)), *([curve] if curve else []))
    std = torch.tensor([0.1, 0.5, 1.0, 0.3], dtype=torch.float64)
    return Observation(draw(4, seed=3), operator, DiagonalError(std))


def test_equals_the_kalman_update() -> None:
    background, seen, h = draw(2, 3, seed=4), observed(), draw(4, 6, seed=2)
    analysis = optimal_interpolation(background, dense(), seen)
    prior = Gaussian(background.flatten(), dense())
    exact = kalman_update(prior, seen.y - h @ prior.mean, h, seen.error.variance)
    torch.testing.assert_close(analysis.mean.flatten(), exact.mean, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(
        analysis.variance.flatten(), exact.covariance.diagonal(), rtol=1e-12, atol=1e-12
    )
    assert analysis.variance.shape == background.shape


def test_low_rank_equals_dense() -> None:
    background, seen = draw(2, 3, seed=4), observed()
    thin = optimal_interpolation(background, low_rank(), seen)
    full = optimal_interpolation(background, dense(), seen)
    torch.testing.assert_close(thin.mean, full.mean)
    torch.testing.assert_close(thin.variance, full.variance)
    torch.testing.assert_close(low_rank().diagonal(), dense().diagonal())


def test_more_iterations_do_not_move_a_linear_analysis() -> None:
    background, seen = draw(6, seed=4), observed()
    torch.testing.assert_close(
        optimal_interpolation(background, dense(), seen, iterations=4).mean,
        optimal_interpolation(background, dense(), seen).mean,
    )


@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_a_nonlinear_analysis_is_stationary(scale) -> None:
    """The gradient of the cost vanishes; far away a full Gauss-Newton step would overshoot."""
    background, seen = scale * draw(6, seed=4), observed(torch.atan)
    x = optimal_interpolation(background, dense(), seen, iterations=60).mean
    x = x.detach().requires_grad_()
    away = x - background
    residual = seen.innovation(seen.operator(x[None])[0])
    cost = away @ torch.linalg.solve(dense(), away) / 2
    cost = cost + seen.error.whiten(residual).square().sum() / 2
    gradient = torch.autograd.grad(cost, x)[0]
    # the descent stops where rounding hides a lower cost: half of the digits of the state
    torch.testing.assert_close(gradient, torch.zeros_like(x), atol=1e-4, rtol=0)


def test_the_jacobian_is_that_of_autograd() -> None:
    seen, x = observed(torch.atan), draw(6, seed=4)
    jacobian, predicted = jacobian_of(seen.operator, x)
    torch.testing.assert_close(jacobian, torch.func.jacrev(lambda x: seen.operator(x[None])[0])(x))
    torch.testing.assert_close(predicted, seen.operator(x[None])[0])


def test_no_observation_leaves_the_background() -> None:
    empty = Observation(torch.zeros(0), select(torch.zeros(0).long()), DiagonalError(1.0))
    analysis = optimal_interpolation(draw(6), dense(), empty)
    torch.testing.assert_close(analysis.mean, draw(6))
    torch.testing.assert_close(analysis.variance, dense().diagonal())


def test_iterations_are_a_count() -> None:
    with pytest.raises(ValueError, match=r"^iterations: expected a positive count, got 0$"):
        optimal_interpolation(draw(6), dense(), observed(), iterations=0)
