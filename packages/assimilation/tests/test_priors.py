import re

import pytest
import torch

from stormda.assimilation import EnsemblePrior, GaussianPrior, MixturePrior, linearize

SHAPE, N = (2, 2), 4


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=g)


def covariances(k: int) -> torch.Tensor:
    root = draw(k, N, N, seed=7)
    return root @ root.mT / N + 0.1 * torch.eye(N)


def mixture() -> MixturePrior:
    weights = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
    return MixturePrior(weights, 2 * draw(3, *SHAPE, seed=1), covariances(3))


def priors() -> dict[str, tuple]:
    """Priors, with the weights, means and covariances of the same mixture."""
    gauss = GaussianPrior(draw(*SHAPE, seed=2), covariances(1)[0])
    mix = mixture()
    kernels = EnsemblePrior(draw(6, *SHAPE, seed=3), bandwidth=0.4)
    wide = (0.4**2 * torch.eye(N, dtype=torch.float64)).expand(6, N, N)
    return {
        "gaussian": (gauss, torch.ones(1).double(), gauss.mean[None], covariances(1)),
        "mixture": (mix, mix.weights, mix.means, mix.covariances),
        "ensemble": (kernels, torch.full((6,), 1 / 6).double(), kernels.members, wide),
    }


@pytest.mark.parametrize("name", ["gaussian", "mixture", "ensemble"])
@pytest.mark.parametrize("sigma", [0.1, 1.0, 10.0])
def test_the_denoiser_follows_the_score(name, sigma) -> None:
    """Tweedie: E[x0 | x] = x + sigma^2 grad log p(x)."""
    prior, weights, means, covariance = priors()[name]
    x = draw(5, *SHAPE, seed=4).requires_grad_()
    noisy = covariance + sigma**2 * torch.eye(N)
    law = torch.distributions.MixtureSameFamily(
        torch.distributions.Categorical(weights),
        torch.distributions.MultivariateNormal(means.flatten(1), noisy),
    )
    score = torch.autograd.grad(law.log_prob(x.flatten(1)).sum(), x)[0]
    torch.testing.assert_close(prior(x, sigma), x + sigma**2 * score, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["gaussian", "mixture", "ensemble"])
def test_the_jacobian_is_symmetric(name) -> None:
    prior = priors()[name][0]
    sigma = torch.tensor(0.8, dtype=torch.float64)
    _, vjp = linearize(prior, draw(5, *SHAPE, seed=4), sigma, {})
    v, w = draw(2, 5, *SHAPE, seed=5)
    torch.testing.assert_close((v * vjp(w)).sum(), (w * vjp(v)).sum())
    assert (v * vjp(v)).flatten(1).sum(1).min() > 0
    assert prior.shape == SHAPE
    assert prior.dtype is torch.float64
    assert prior.device == torch.device("cpu")


def test_the_product_of_a_gaussian_is_that_of_autograd() -> None:
    prior, sigma = priors()["gaussian"][0], torch.tensor(0.8, dtype=torch.float64)
    x, v = draw(2, 5, *SHAPE)
    x_hat, vjp = prior.linearize(x, sigma)
    expected, exact = torch.func.vjp(lambda x: prior(x, sigma), x)
    torch.testing.assert_close(x_hat, expected)
    torch.testing.assert_close(vjp(v), exact(v)[0])


def test_far_from_all_modes_nothing_overflows() -> None:
    x = torch.full((1, *SHAPE), 1e3, dtype=torch.float64)
    for prior in (mixture(), EnsemblePrior(draw(6, *SHAPE))):
        assert prior(x, 0.01).isfinite().all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: GaussianPrior(torch.zeros(2), torch.eye(3)),
            "covariance: expected (2, 2) for states of 2 numbers, got (3, 3)",
        ),
        (
            lambda: MixturePrior(torch.ones(1), torch.zeros(2, 1), torch.ones(2, 1, 1)),
            "weights: expected shape (2,), got (1,)",
        ),
        (
            lambda: MixturePrior(torch.ones(2), torch.zeros(2, 1), torch.ones(2, 1, 1)),
            "weights: expected positive numbers of sum 1, got [1.0, 1.0]",
        ),
        (
            lambda: MixturePrior(torch.full((2,), 0.5), torch.zeros(2, 1), torch.ones(1, 1, 1)),
            "covariances: expected one for each of 2 means, got 1",
        ),
        (lambda: EnsemblePrior(torch.ones(3)), "members: expected shape (k, ...), got (3,)"),
        (
            lambda: EnsemblePrior(torch.ones(3, 1), bandwidth=-1.0),
            "bandwidth: expected a number >= 0, got -1.0",
        ),
    ],
)
def test_bad_priors_are_refused(make, message) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        make()
