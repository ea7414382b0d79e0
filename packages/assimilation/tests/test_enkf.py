import re

import pytest
import torch

from stormda.assimilation import (
    CorrelatedError,
    DiagonalError,
    Gaussian,
    enkf,
    etkf,
    gaspari_cohn,
    ienkf,
    kalman_update,
    letkf,
)

N, P = 4, 3


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=g)


def correlated() -> CorrelatedError:
    root = draw(P, P, seed=7)
    return CorrelatedError([root @ root.mT + torch.eye(P)])


def sample_of(x: torch.Tensor) -> Gaussian:
    return Gaussian(x.mean(0), x.mT.cov())


ERRORS = [DiagonalError(torch.tensor([0.5, 1.0, 2.0]).double()), correlated()]


@pytest.mark.parametrize("error", ERRORS, ids=["diagonal", "correlated"])
def test_the_transform_filter_is_the_kalman_filter_of_the_sample(error) -> None:
    x, h, y = draw(20, N), draw(P, N, seed=1), draw(P, seed=2)
    analysis = etkf(x, x @ h.mT, y, error)
    sample = sample_of(x)
    r = error.apply(torch.eye(P).double())
    exact = kalman_update(sample, y - h @ sample.mean, h, r)
    torch.testing.assert_close(analysis.mean(0), exact.mean)
    torch.testing.assert_close(analysis.mT.cov(), exact.covariance)


def test_the_transform_filter_is_the_local_one_without_localisation() -> None:
    x, h, y = draw(5, N), draw(P, N, seed=1), draw(P, seed=2)
    error = DiagonalError(0.7)
    local = letkf(
        x[:, :, None], x @ h.mT, y, error.variance, distance=torch.zeros(N, P), radius=1.0
    )
    torch.testing.assert_close(etkf(x, x @ h.mT, y, error), local[..., 0])


@pytest.mark.parametrize("error", ERRORS, ids=["diagonal", "correlated"])
def test_the_stochastic_filter_goes_to_the_kalman_filter(error) -> None:
    m = 100_000
    x = draw(m, N) @ draw(N, N, seed=5)
    h, y = draw(P, N, seed=1), draw(P, seed=2)
    g = torch.Generator().manual_seed(0)
    analysis = enkf(x, x @ h.mT, y, error, generator=g)
    sample = sample_of(x)
    exact = kalman_update(sample, y - h @ sample.mean, h, error.apply(torch.eye(P).double()))
    torch.testing.assert_close(analysis.mean(0), exact.mean)  # perturbations have no mean
    # covariances of 1e5 draws
    torch.testing.assert_close(analysis.mT.cov(), exact.covariance, rtol=0.03, atol=0.03)


def test_a_taper_of_ones_changes_nothing_and_one_of_zeros_everything() -> None:
    x, h, y = draw(6, N), draw(P, N, seed=1), draw(P, seed=2)

    def run(taper):
        g = torch.Generator().manual_seed(0)
        return enkf(x, x @ h.mT, y, DiagonalError(1.0), generator=g, taper=taper)

    torch.testing.assert_close(run(None), run((torch.ones(N, P), torch.ones(P, P))))
    torch.testing.assert_close(run((torch.zeros(N, P), torch.eye(P))), x)


def test_localisation_removes_the_noise_of_small_samples() -> None:
    """Independent numbers, 8 members: an observation must not move its neighbours."""
    x, y = draw(8, 40), torch.zeros(40).double()
    place = torch.arange(40.0)
    taper = gaspari_cohn((place[:, None] - place).abs(), 1.0).double()
    g = torch.Generator().manual_seed(0)
    error = DiagonalError(1.0)
    local = enkf(x, x, y, error, generator=g, taper=(taper, taper)).mean(0)
    everywhere = enkf(x, x, y, error, generator=g).mean(0)
    exact = x.mean(0) / 2
    assert (local - exact).norm() < 0.5 * (everywhere - exact).norm()


def test_iterations_end_at_once_where_all_is_linear() -> None:
    x, h, y, error = draw(6, N), draw(P, N, seed=1), draw(P, seed=2), correlated()
    runs = []

    def predict(x):
        runs.append(None)
        return x @ h.mT

    analysis = ienkf(x, predict, y, error, tolerance=1e-8)
    torch.testing.assert_close(analysis, etkf(x, x @ h.mT, y, error))
    assert len(runs) == 2


def test_iterations_find_the_mode_of_a_nonlinear_problem() -> None:
    """Many members about a number: the mode of its Gaussian prior times the likelihood."""
    x = 2 + 0.5 * draw(200, 1)
    mean, variance = x.mean(), x.var()
    y, std = torch.tensor([15.0]).double(), 0.1
    found = ienkf(x, lambda x: x**3, y, DiagonalError(std), iterations=40, tolerance=1e-8)
    grid = torch.linspace(1.5, 3.5, 200_001).double()
    cost = (grid - mean) ** 2 / variance + (y - grid**3) ** 2 / std**2
    # slopes are regressions over the ensemble, not derivatives at the mode
    assert found.mean().item() == pytest.approx(grid[cost.argmin()].item(), abs=2e-3)


def test_members_are_alike() -> None:
    x, predicted, y = draw(5, N), draw(5, P, seed=1), draw(P, seed=2)
    error = DiagonalError(0.5)
    torch.testing.assert_close(
        etkf(x, predicted, y, error), etkf(x.flip(0), predicted.flip(0), y, error).flip(0)
    )


def test_a_field_is_a_vector() -> None:
    x, predicted, y, error = draw(5, 2, 2), draw(5, P, seed=1), draw(P, seed=2), correlated()
    torch.testing.assert_close(
        etkf(x, predicted, y, error).flatten(1), etkf(x.flatten(1), predicted, y, error)
    )


@pytest.mark.parametrize(
    ("x", "predicted", "message"),
    [
        (
            torch.zeros(1, 2),
            torch.zeros(1, 3),
            "ensemble: expected shape (m, ...) with m >= 2, got (1, 2)",
        ),
        (
            torch.zeros(4, 2),
            torch.zeros(3, 3),
            "predicted: expected shape (m, p) = (4, 3), got (3, 3)",
        ),
    ],
)
def test_bad_arguments_are_refused(x, predicted, message) -> None:
    y, error, g = torch.zeros(3), DiagonalError(1.0), torch.Generator()
    for run in (
        lambda: etkf(x, predicted, y, error),
        lambda: enkf(x, predicted, y, error, generator=g),
        lambda: ienkf(x, lambda x: predicted, y, error),
    ):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            run()


def test_no_iterations_are_refused() -> None:
    message = "iterations: expected a positive count, got 0"
    with pytest.raises(ValueError, match=f"^{message}$"):
        ienkf(torch.zeros(2, 1), lambda x: x, torch.zeros(1), DiagonalError(1.0), iterations=0)
