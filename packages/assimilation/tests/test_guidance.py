import re

import pytest
import torch

from stormda.assimilation import (
    CorrelatedError,
    DiagonalError,
    GaussianPrior,
    LowRank,
    Observation,
    StudentError,
    arctan,
    compose,
    dps,
    enff,
    ensf,
    gmres,
    jfps,
    linearize,
    matrix,
    mmps,
    none,
    pigdm,
    sda,
    tmpd,
)
from stormda.assimilation.guidance import linearize_operator

SIGMAS = [0.01, 1.0, 50.0]
METHODS = [
    mmps(tolerance=1e-12, max_iterations=50),
    mmps(tolerance=1e-12, max_iterations=50, solve=gmres),
    jfps(climate=LowRank(torch.zeros(6, 0).double(), torch.ones(6).double())),
    sda(),
    pigdm(),
    tmpd(),
    dps(),
    ensf(),
    enff(),
    none(),
]


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


def test_linearised_again_mmps_finds_the_most_likely_state() -> None:
    """Where the operator bends, the first linearisation is not that of the answer."""
    prior = GaussianPrior(torch.ones(1).double(), torch.eye(1).double())
    seen = Observation(torch.tensor([8.0]).double(), lambda x: x**3, DiagonalError(0.1))
    x, sigma = torch.ones(1, 1).double(), torch.tensor(1e3).double()  # all of the prior is left
    method = mmps(tolerance=1e-12, max_iterations=5, linearizations=20)
    found = method(prior, x, sigma, seen).x_hat.requires_grad_()
    cost = (found - 1) ** 2 / 2 + (8 - found**3) ** 2 / 0.02
    slope = torch.autograd.grad(cost.sum(), found)[0]
    torch.testing.assert_close(slope, torch.zeros(1, 1).double(), rtol=0, atol=1e-3)
    once = mmps(tolerance=1e-12, max_iterations=5)(prior, x, sigma, seen).x_hat
    assert (once - found).abs().item() > 1


def test_a_step_that_goes_too_far_is_cut_for_that_member_alone() -> None:
    """Whole Gauss-Newton steps towards arctan(x) = 0 run away from where x is above 1.4."""
    prior = GaussianPrior(torch.zeros(1).double(), 1e4 * torch.eye(1).double())
    seen = Observation(torch.zeros(1).double(), torch.arctan, DiagonalError(0.01))
    x, sigma = torch.tensor([[10.0], [1.0]]).double(), torch.tensor(100.0).double()
    method = mmps(tolerance=1e-12, max_iterations=5, linearizations=20)
    found = method(prior, x, sigma, seen).x_hat
    torch.testing.assert_close(found, torch.zeros(2, 1).double(), rtol=0, atol=0.01)
    alone = method(prior, x[1:], sigma, seen).x_hat
    assert torch.equal(found[1:], alone)


def test_what_cannot_be_evaluated_is_not_gone_to() -> None:
    """A model that is run from too far away may have no answer."""

    def model(x: torch.Tensor) -> torch.Tensor:
        return torch.where(x.abs() < 8, torch.arctan(x), torch.nan)

    prior = GaussianPrior(torch.zeros(1).double(), 1e4 * torch.eye(1).double())
    seen = Observation(torch.zeros(1).double(), model, DiagonalError(0.01))
    x, sigma = torch.tensor([[5.0]]).double(), torch.tensor(1.0).double()
    method = mmps(tolerance=1e-12, max_iterations=5, linearizations=20)
    found = method(prior, x, sigma, seen).x_hat
    torch.testing.assert_close(found, torch.zeros(1, 1).double(), rtol=0, atol=0.01)


def test_a_linear_operator_is_linearised_once_and_for_all() -> None:
    once, again = (mmps(tolerance=1e-12, max_iterations=50, linearizations=k) for k in (1, 3))
    seen = observed()
    torch.testing.assert_close(guide(again, 1.0, seen).x_hat, guide(once, 1.0, seen).x_hat)


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


@pytest.mark.parametrize("sigma", SIGMAS)
def test_jfps_is_mmps_where_climate_is_the_prior(sigma) -> None:
    prior, seen = gaussian(), observed()
    values, vectors = torch.linalg.eigh(prior.covariance)
    climate = LowRank(vectors * values.sqrt(), torch.full((6,), 1e-14).double())
    fast = guide(jfps(climate=climate, tolerance=1e-12), sigma, seen).x_hat
    exact = guide(mmps(tolerance=1e-12, max_iterations=50), sigma, seen).x_hat
    torch.testing.assert_close(fast, exact, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("sigma", SIGMAS)
def test_pigdm_and_tmpd_are_mmps_for_white_states_seen_one_by_one(sigma) -> None:
    prior = GaussianPrior(torch.zeros(6).double(), 2 * torch.eye(6).double())
    seen = Observation(torch.ones(6).double(), lambda x: x, DiagonalError(0.3))
    level, x = torch.tensor(sigma).double(), noisy(sigma)
    exact = mmps(tolerance=1e-12)(prior, x, level, seen).x_hat
    for method in (pigdm(prior_variance=2.0, tolerance=1e-12), tmpd()):
        torch.testing.assert_close(method(prior, x, level, seen).x_hat, exact)


def test_tmpd_equals_its_dense_form() -> None:
    prior, seen, x = gaussian(), observed(), noisy(1.0)
    level = torch.tensor(1.0).double()
    jacobian = torch.func.jacrev(lambda x: prior(x[None], level)[0])(x[0])
    h = linearize_operator(seen.operator, torch.eye(6).double(), None).predicted.mT
    rows = (h @ jacobian @ h.mT).sum(-1).clamp(min=0)
    x_hat = prior(x, level)
    v = (seen.y - x_hat @ h.mT) / (seen.error.variance + rows)
    torch.testing.assert_close(guide(tmpd(), 1.0, seen).x_hat, x_hat + v @ h @ jacobian)


@pytest.mark.parametrize("sigma", [0.2, 1.0, 1.9])
def test_ensf_adds_the_damped_slope_at_the_noisy_state(sigma) -> None:
    method, seen = ensf(), observed(arctan(1.0))
    level = torch.tensor(sigma, dtype=torch.float64)
    t = method.time(level)
    a, b = 1 - 0.5 * t, (0.025 + 0.975 * t).sqrt()
    torch.testing.assert_close(b / a, level)
    z = (a * noisy(sigma)).requires_grad_()
    slope = torch.autograd.grad(seen.error.log_prob(seen.innovation(seen.operator(z))).sum(), z)[0]
    expected = gaussian()(noisy(sigma), level) + b**2 / a * (1 - t) * slope
    torch.testing.assert_close(guide(method, sigma, seen).x_hat, expected)


def test_enff_pulls_the_end_of_the_flow() -> None:
    seen, level = observed(arctan(1.0)), torch.tensor(1.5).double()
    x_hat = gaussian()(noisy(1.5), level).requires_grad_()
    log_prob = seen.error.log_prob(seen.innovation(seen.operator(x_hat))).sum()
    slope = torch.autograd.grad(log_prob, x_hat)[0]
    expected = x_hat.detach() + 0.3 * (1 - 1 / (0.9 + 1.5)) * slope
    torch.testing.assert_close(guide(enff(strength=0.3), 1.5, seen).x_hat, expected)


def test_correlated_errors_are_taken_as_they_are() -> None:
    """The exact posterior mean, and for the cheap methods a dense solve."""
    prior, x, level = gaussian(), noisy(1.0), torch.tensor(1.0).double()
    root = torch.randn(4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    r = root @ root.mT + 0.2 * torch.eye(4)
    plain = observed()
    seen = Observation(plain.y, plain.operator, CorrelatedError([r]))
    h = linearize_operator(seen.operator, torch.eye(6).double(), None).predicted.mT
    jacobian = torch.func.jacrev(lambda x: prior(x[None], level)[0])(x[0])
    x_hat = prior(x, level)
    d = seen.y - x_hat @ h.mT
    spreads = {
        mmps(tolerance=1e-12, max_iterations=50): h @ jacobian @ h.mT,
        sda(gamma=0.3): 0.3 * torch.eye(4),
        pigdm(tolerance=1e-12): 0.5 * h @ h.mT,
    }
    for method, spread in spreads.items():
        v = torch.linalg.solve(r + spread, d.mT).mT
        torch.testing.assert_close(
            guide(method, 1.0, seen).x_hat, x_hat + v @ h @ jacobian, rtol=1e-4, atol=1e-4
        )


def test_an_outlier_is_weighed_down() -> None:
    """With heavy tails a wild number moves the mean less than a plausible one."""
    prior = GaussianPrior(torch.zeros(6).double(), torch.eye(6).double())
    level, x = torch.tensor(0.5).double(), torch.zeros(1, 6).double()

    def moved(y: float, error) -> float:
        seen = Observation(torch.tensor([y]).double(), lambda x: x[:, :1], error)
        return mmps(tolerance=1e-12)(prior, x, level, seen).x_hat[0, 0].item()

    heavy, normal = StudentError(0.1, 3.0), DiagonalError(0.1)
    assert moved(0.1, heavy) == pytest.approx(moved(0.1, normal), rel=0.1)
    assert moved(20.0, heavy) < 0.05 < 10 < moved(20.0, normal)


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
        (lambda: mmps(linearizations=0), "linearizations: expected a positive count, got 0"),
        (
            lambda: mmps(prior_variance=-1.0),
            "prior_variance: expected positive numbers, got a minimum of -1",
        ),
        (
            lambda: pigdm(prior_variance=0.0),
            "prior_variance: expected a positive number, got 0.0",
        ),
        (
            lambda: ensf(least_noise=1.0),
            "least_noise: expected a number in [0, 1), got 1.0",
        ),
        (lambda: enff(strength=-1.0), "strength: expected a number >= 0, got -1.0"),
        (
            lambda: enff(least_noise=1.0),
            "least_noise: expected a number in [0, 1), got 1.0",
        ),
        (lambda: sda(gamma=-1.0), "gamma: expected a number >= 0, got -1.0"),
        (lambda: dps(zeta=-1.0), "zeta: expected a number >= 0, got -1.0"),
    ],
)
def test_bad_settings_are_refused(make, message) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        make()
