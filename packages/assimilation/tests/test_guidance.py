import re

import pytest
import torch

from stormda.assimilation import (
    DiagonalError,
    GaussianPrior,
    Observation,
    arctan,
    compose,
    dps,
    linearize,
    matrix,
    mmps,
    none,
    sda,
)
from stormda.assimilation.guidance import linearize_operator

SIGMAS = [0.01, 1.0, 50.0]
METHODS = [mmps(tolerance=1e-12, max_iterations=50), sda(), dps(), none()]


def gaussian(n: int = 6) -> GaussianPrior:
    g = torch.Generator().manual_seed(0)
    root = torch.randn(n, n, dtype=torch.float64, generator=g)
    return GaussianPrior(torch.randn(n, dtype=torch.float64, generator=g), root @ root.mT / n)


def observed(curve=None) -> Observation:
    g = torch.Generator().manual_seed(1)
    h = torch.randn(4, 6, dtype=torch.float64, generator=g)
    y = torch.randn(4, dtype=torch.float64, generator=g)
    std = torch.tensor([0.1, 0.5, 1.0, 0.3], dtype=torch.float64)
    return Observation(y, compose(matrix(h), *([curve] if curve else [])), DiagonalError(std))


def noisy(sigma: float, m: int = 5) -> torch.Tensor:
    g = torch.Generator().manual_seed(2)
    return (1 + sigma) * torch.randn(m, 6, dtype=torch.float64, generator=g)


def guide(method, sigma, observation, x=None, transform=None):
    level = torch.tensor(sigma, dtype=torch.float64)
    return method(gaussian(), noisy(sigma) if x is None else x, level, observation, {}, transform)


@pytest.mark.parametrize("sigma", SIGMAS)
def test_mmps_is_the_exact_posterior_mean_of_a_linear_gaussian(sigma) -> None:
    prior, seen, x = gaussian(), observed(), noisy(sigma)
    # the posterior given y is Gaussian: its own denoiser is the answer
    h, c = linearize_operator(seen.operator, torch.eye(6).double(), None), prior.covariance
    h = h.predicted.mT
    gain = c @ h.mT @ torch.linalg.inv(h @ c @ h.mT + seen.error.variance.diag())
    posterior = GaussianPrior(prior.mean + gain @ (seen.y - h @ prior.mean), c - gain @ h @ c)
    guided = guide(mmps(tolerance=1e-12, max_iterations=50), sigma, seen)
    torch.testing.assert_close(guided.x_hat, posterior(x, sigma), rtol=1e-8, atol=1e-8)
    assert (guided.diagnostics["residual"] <= 1e-12).all()


@pytest.mark.parametrize("sigma", SIGMAS)
def test_mmps_equals_a_dense_solve_for_a_nonlinear_operator(sigma) -> None:
    prior, seen, x = gaussian(), observed(arctan(2.0)), noisy(sigma)
    x_hat = prior(x, sigma)
    # one member at a time: J and A as matrices
    level = torch.tensor(sigma, dtype=torch.float64)
    jacobian = torch.func.jacrev(lambda x: prior(x[None], level)[0])(x[0])
    expected = []
    for mean in x_hat:
        a = torch.func.jacrev(lambda x: seen.operator(x[None])[0])(mean)
        s = seen.error.variance.diag() + sigma**2 * a @ jacobian @ a.mT
        d = seen.y - seen.operator(mean[None])[0]
        expected.append(mean + sigma**2 * jacobian.mT @ a.mT @ torch.linalg.solve(s, d))
    guided = guide(mmps(tolerance=1e-12, max_iterations=50), sigma, seen)
    torch.testing.assert_close(guided.x_hat, torch.stack(expected), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("method", METHODS, ids=lambda m: type(m).__name__)
def test_a_member_does_not_know_of_the_batch(method) -> None:
    seen, x = observed(arctan(1.0)), noisy(1.0)
    together = guide(method, 1.0, seen, x).x_hat
    alone = torch.cat([guide(method, 1.0, seen, x[i : i + 1]).x_hat for i in range(len(x))])
    torch.testing.assert_close(together, alone)


@pytest.mark.parametrize("method", METHODS, ids=lambda m: type(m).__name__)
def test_a_transform_is_part_of_the_operator(method) -> None:
    def physical(x):
        return 3 + 2 * x

    seen = observed(arctan(1.0))
    whole = Observation(seen.y, compose(physical, seen.operator), seen.error)
    torch.testing.assert_close(
        guide(method, 1.0, seen, transform=physical).x_hat, guide(method, 1.0, whole).x_hat
    )


def test_none_is_the_denoiser() -> None:
    torch.testing.assert_close(guide(none(), 1.0, observed()).x_hat, gaussian()(noisy(1.0), 1.0))


def test_sda_is_the_gradient_of_its_likelihood() -> None:
    prior, seen, x = gaussian(), observed(arctan(1.0)), noisy(2.0).requires_grad_()
    error = DiagonalError((seen.error.variance + 0.3 * 4).sqrt())
    x_hat = prior(x, 2.0)
    gradient = torch.autograd.grad(error.log_prob(seen.innovation(seen.operator(x_hat))).sum(), x)[
        0
    ]
    guided = guide(sda(gamma=0.3), 2.0, seen, x.detach())
    torch.testing.assert_close(guided.x_hat, (x_hat + 4 * gradient).detach())


def test_dps_is_the_gradient_of_the_misfit() -> None:
    prior, seen, x = gaussian(), observed(arctan(1.0)), noisy(2.0).requires_grad_()
    x_hat = prior(x, 2.0)
    misfit = seen.innovation(seen.operator(x_hat)).norm(dim=-1).sum()
    gradient = torch.autograd.grad(misfit, x)[0]
    guided = guide(dps(zeta=0.7), 2.0, seen, x.detach())
    torch.testing.assert_close(guided.x_hat, (x_hat - 0.7 * 5 * gradient).detach())


def test_the_preconditioner_changes_the_effort_and_not_the_answer() -> None:
    """Observations of very different precision, of uncorrelated states."""
    n = 30
    std = torch.logspace(-2, 1, n, dtype=torch.float64)
    prior = GaussianPrior(torch.zeros(n).double(), torch.eye(n).double())
    g = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, n, dtype=torch.float64, generator=g)
    seen = Observation(y, lambda x: x, DiagonalError(std))
    level = torch.tensor(3.0, dtype=torch.float64)
    plain = mmps(tolerance=1e-10, max_iterations=200)(prior, x[None], level, seen)
    better = mmps(tolerance=1e-10, prior_variance=1.0)(prior, x[None], level, seen)
    # both stop at a residual of 1e-10 in units of the error, which is up to 1000 times smaller
    torch.testing.assert_close(plain.x_hat, better.x_hat, rtol=1e-6, atol=1e-6)
    assert better.diagnostics["iterations"].item() == 1
    assert plain.diagnostics["iterations"].item() > 10


def test_no_observation_changes_nothing() -> None:
    empty = Observation(torch.zeros(0), matrix(torch.zeros(0, 6)), DiagonalError(1.0))
    for method in METHODS:
        torch.testing.assert_close(
            guide(method, 1.0, empty).x_hat, guide(none(), 1.0, empty).x_hat
        )


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")  # inside torch
def test_tangent_and_adjoint_agree() -> None:
    seen, x = observed(arctan(1.0)), noisy(1.0)
    line = linearize_operator(seen.operator, x, None)
    predicted, tangent = torch.func.jvp(seen.operator, (x,), (x.sin(),))
    torch.testing.assert_close(line.predicted, predicted)
    torch.testing.assert_close(line.tangent(x.sin()), tangent)
    v = predicted.cos()
    torch.testing.assert_close((line.adjoint(v) * x.sin()).sum(), (v * tangent).sum())


def test_a_products_argument_is_left_alone() -> None:
    """An identity may hand its argument back: nothing may then be written into it."""
    line = linearize_operator(lambda x: x, torch.zeros(1, 3), None)
    t = torch.ones(1, 3)
    line.tangent(t), line.adjoint(t)
    torch.testing.assert_close(t, torch.ones(1, 3))

    class Copy:
        shape, dtype, device = (3,), torch.float32, torch.device("cpu")

        def __call__(self, x, sigma):
            return x

    _, vjp = linearize(Copy(), t, torch.tensor(1.0), {})
    torch.testing.assert_close(vjp(t), torch.ones(1, 3))
    seen = Observation(torch.ones(3), lambda x: x, DiagonalError(1.0))
    guided = mmps()(Copy(), torch.zeros(1, 3), torch.tensor(1.0), seen)
    torch.testing.assert_close(guided.x_hat, torch.full((1, 3), 0.5))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: mmps(tolerance=0.0), "tolerance: expected a number in (0, 1), got 0.0"),
        (lambda: mmps(max_iterations=0), "max_iterations: expected a positive count, got 0"),
        (
            lambda: mmps(prior_variance=-1.0),
            "prior_variance: expected positive numbers, got a minimum of -1",
        ),
        (lambda: sda(gamma=-1.0), "gamma: expected a number >= 0, got -1.0"),
        (lambda: dps(zeta=-1.0), "zeta: expected a number >= 0, got -1.0"),
    ],
)
def test_bad_settings_are_refused(make, message) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        make()
