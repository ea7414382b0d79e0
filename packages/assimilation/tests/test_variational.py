import pytest
import torch

from stormda.assimilation import (
    Blocks,
    CorrelatedError,
    DiagonalError,
    Gaussian,
    LowRank,
    Observation,
    StudentError,
    along,
    along_with_errors,
    arctan,
    compose,
    kalman_forecast,
    kalman_smoother,
    kalman_update,
    matrix,
    optimal_interpolation,
    select,
    variational,
)
from stormda.assimilation.systems import Lorenz63, advected_ring


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=g)


def covariance(n: int, seed: int = 0) -> torch.Tensor:
    root = draw(n, n, seed=seed)
    return root @ root.mT / n + 0.1 * torch.eye(n)


@pytest.mark.parametrize("correlated", [False, True])
def test_3d_var_is_the_kalman_update(correlated) -> None:
    b, h, y = covariance(5), draw(3, 5, seed=1), draw(3, seed=2)
    error = CorrelatedError([covariance(3, 4)]) if correlated else DiagonalError(0.5)
    seen, x = Observation(y, matrix(h), error), draw(5, seed=3)
    found = variational(x, b, seen, tolerance=1e-10)
    r = error.apply(torch.eye(3).double())
    exact = kalman_update(Gaussian(x, b), y - h @ x, h, r)
    torch.testing.assert_close(found, exact.mean, rtol=1e-7, atol=1e-7)


def test_3d_var_is_optimal_interpolation_for_a_nonlinear_operator() -> None:
    b, x = covariance(6), draw(2, 3, seed=3)
    seen = Observation(
        draw(4, seed=2), compose(matrix(draw(4, 6, seed=1)), arctan(1.0)), DiagonalError(0.3)
    )
    found = variational(x, b, seen, iterations=30, tolerance=1e-10)
    other = optimal_interpolation(x, b, seen, iterations=30).mean
    torch.testing.assert_close(found, other, rtol=1e-6, atol=1e-6)


def test_heavy_tails_leave_an_outlier_alone() -> None:
    """The most probable state under Student's law, where its slope vanishes."""
    b = covariance(5)
    y, h = torch.tensor([0.3, 40.0, -0.2]).double(), draw(3, 5, seed=1)
    seen = Observation(y, matrix(h), StudentError(0.2, 3.0))
    found = variational(
        torch.zeros(5).double(), b, seen, iterations=200, tolerance=1e-12
    ).requires_grad_()
    cost = found @ torch.linalg.solve(b, found) / 2 - seen.error.log_prob(y - h @ found)
    slope = torch.autograd.grad(cost, found)[0]
    assert slope.abs().max() < 1e-3
    normal = Observation(y, matrix(h), DiagonalError(0.2))
    assert found.norm() < 0.2 * variational(torch.zeros(5).double(), b, normal).norm()


def test_4d_var_of_a_linear_model_is_the_smoother() -> None:
    model = advected_ring()
    operator = select(torch.arange(0, 16, 4))
    h = torch.eye(16).double()[::4]
    ys = [draw(4, seed=k) for k in (1, 2, 3)]
    state, filtered = Gaussian(torch.zeros(16).double(), model.covariance), []
    filtered.append(state)
    for y in ys:
        state = kalman_forecast(state, model.transition, model.noise)
        state = kalman_update(state, y - h @ state.mean, h, torch.tensor(0.25))
        filtered.append(state)
    exact = kalman_smoother(filtered, model.transition, model.noise)

    def forecast(x):
        return model.forecast(x, steps=1)

    seen = Observation(
        torch.cat(ys), along_with_errors(forecast, [operator] * 3), DiagonalError(0.5)
    )
    blocks = Blocks([model.covariance] + [model.noise] * 3)
    found = variational(torch.zeros(4, 16).double(), blocks, seen, tolerance=1e-9)
    torch.testing.assert_close(found[0], exact[0].mean, rtol=1e-6, atol=1e-6)
    path = forecast(found[0]) + found[1]
    torch.testing.assert_close(path, exact[1].mean, rtol=1e-6, atol=1e-6)


def test_strong_4d_var_follows_a_chaotic_run() -> None:
    model = Lorenz63()
    truth = model.forecast(model.start(), steps=500)
    operator = along(
        lambda x: model.forecast(x, steps=10), [None, select(torch.tensor([0, 2]))] * 3
    )
    seen = Observation(operator(truth[None])[0], operator, DiagonalError(0.1))
    background = truth + torch.tensor([0.8, -0.6, 0.9])
    found = variational(background, torch.eye(3).double(), seen, iterations=20)
    end, wrong, right = (model.forecast(x, steps=60) for x in (found, background, truth))
    # what contracts on the way is not seen at the start, and not missed at the end
    assert (end - right).norm() < 0.05 < 0.5 < (wrong - right).norm()


def test_blocks_are_a_block_diagonal() -> None:
    parts = [covariance(3), LowRank(draw(2, 1), draw(2, seed=1).square())]
    dense = torch.block_diag(parts[0], parts[1] @ torch.eye(2).double())
    x = draw(5, 2, seed=3)
    torch.testing.assert_close(Blocks(parts) @ x, dense @ x)
    torch.testing.assert_close(Blocks(parts).diagonal(), dense.diagonal())


def test_no_iterations_are_refused() -> None:
    seen = Observation(torch.zeros(1), lambda x: x, DiagonalError(1.0))
    with pytest.raises(ValueError, match=r"^iterations: expected a positive count, got 0$"):
        variational(torch.zeros(1), torch.eye(1), seen, iterations=0)
