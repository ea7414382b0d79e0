"""Problems whose posterior is known, and how far samples are from it.

The prior is handed to samplers as nothing but a denoiser and its vector-Jacobian product: whatever
else is known of it stays on this side.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from stormda.assimilation import (
    DiagonalError,
    Gaussian,
    GaussianPrior,
    Observation,
    kalman_update,
    linearize,
    matrix,
    select,
)
from stormda.assimilation.systems import advected_ring


class Opaque:
    """A prior that shows its denoiser and the product with its transposed Jacobian only."""

    def __init__(self, prior: GaussianPrior | UnitMixture) -> None:
        self.shape, self.dtype, self.device = prior.shape, prior.dtype, prior.device
        self._prior = prior
        self.calls = self.products = 0

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Return the denoised states."""
        self.calls += 1
        return self._prior(x, sigma)

    def linearize(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, object]:
        """Return the denoised states and `v -> J^T v`."""
        self.calls += 1
        x_hat, vjp = linearize(self._prior, x, sigma, {})

        def counted(v: Tensor) -> Tensor:
            self.products += 1
            return vjp(v)

        return x_hat, counted


@dataclass(frozen=True, eq=False)
class Trajectory:
    """Eight states of an advected ring of 16 points, a quarter of the 128 numbers observed."""

    prior: GaussianPrior
    seen: Observation
    posterior: Gaussian

    @classmethod
    def make(cls, std: float, seed: int) -> Trajectory:
        """Draw a truth and observations of it."""
        g = torch.Generator().manual_seed(seed)
        covariance = advected_ring().trajectory_covariance(8)
        n = len(covariance)
        cells = torch.randperm(n, generator=g)[: n // 4]
        truth = torch.linalg.cholesky(covariance) @ torch.randn(
            n, dtype=torch.float64, generator=g
        )
        y = truth[cells] + std * torch.randn(n // 4, dtype=torch.float64, generator=g)
        prior = GaussianPrior(torch.zeros(n, dtype=torch.float64), covariance)
        seen = Observation(y, select(cells), DiagonalError(std))
        h = torch.eye(n, dtype=torch.float64)[cells]
        known = Gaussian(prior.mean, covariance)
        return cls(prior, seen, kalman_update(known, y, h, seen.error.variance))

    def audit(self, x: Tensor) -> dict[str, float]:
        """Return bias and spread in posterior standard deviations, and the coverage of 90 %."""
        mean, covariance = self.posterior.mean, self.posterior.covariance
        total, deviations = covariance.trace(), covariance.diagonal().sqrt()
        ends = (x.quantile(torch.tensor([0.05, 0.95]).double(), 0) - mean) / deviations
        below = torch.special.ndtr(ends)
        return {
            "bias": ((x.mean(0) - mean).norm() / total.sqrt()).item(),
            "spread": (x.var(0).sum() / total).sqrt().item(),
            "coverage90": (below[1] - below[0]).mean().item(),
        }

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw from the exact posterior."""
        root = torch.linalg.cholesky(self.posterior.covariance)
        white = torch.randn(count, len(root), dtype=torch.float64, generator=generator)
        return self.posterior.mean + white @ root.mT


@dataclass(frozen=True, eq=False)
class UnitMixture:
    """The denoiser of Gaussians of unit covariance (`MixturePrior`, at a cost linear in d)."""

    weights: Tensor
    means: Tensor

    dtype = torch.float64
    device = torch.device("cpu")

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one state."""
        return tuple(self.means.shape[1:])

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Return `E[x0 | x]`."""
        total = 1 + sigma**2
        near = x @ self.means.mT - self.means.square().sum(-1) / 2
        centre = (self.weights.log() + near / total).softmax(-1) @ self.means
        return centre + (x - centre) / total


@dataclass(frozen=True, eq=False)
class Mixture:
    """Twenty-five Gaussians of unit covariance, seen through a few linear combinations.

    Source: Boys et al. (2023), Tweedie moment projected diffusions, section 5.1, after Cardoso et
    al. (2023), Monte Carlo guided diffusion.
    """

    prior: UnitMixture
    seen: Observation
    weights: Tensor
    """Of the modes of the posterior."""
    means: Tensor
    """Of the modes of the posterior."""
    covariance: Tensor
    """Of each mode of the posterior."""

    @classmethod
    def make(cls, d: int, p: int, std: float, seed: int) -> Mixture:
        """Draw weights, an operator and an observation."""
        g = torch.Generator().manual_seed(seed)

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, dtype=torch.float64, generator=g)

        i, j = torch.meshgrid(*[torch.arange(-2.0, 3.0).double()] * 2, indexing="ij")
        means = torch.stack([8 * i.flatten(), 8 * j.flatten()], -1).repeat(1, d // 2)
        weights = normal(25).square()
        weights = weights / weights.sum()
        left, _, right = torch.linalg.svd(normal(p, d), full_matrices=False)
        size = torch.rand(p, dtype=torch.float64, generator=g).sort(descending=True).values
        h = left * size @ right
        truth = means[torch.multinomial(weights, 1, generator=g)[0]] + normal(d)
        y = h @ truth + std * normal(p)
        eye = torch.eye(d, dtype=torch.float64)
        prior = UnitMixture(weights, means)
        total = h @ h.mT + std**2 * torch.eye(p)
        gain = torch.linalg.solve(total, h).mT
        departures = y - means @ h.mT
        law = torch.distributions.MultivariateNormal(torch.zeros(p).double(), total)
        posterior = (weights.log() + law.log_prob(departures)).softmax(0)
        seen = Observation(y, matrix(h), DiagonalError(std))
        return cls(prior, seen, posterior, means + departures @ gain.mT, eye - gain @ h)

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw from the exact posterior."""
        modes = torch.multinomial(self.weights, count, replacement=True, generator=generator)
        values, vectors = torch.linalg.eigh(self.covariance)
        white = torch.randn(count, len(values), dtype=torch.float64, generator=generator)
        return self.means[modes] + (white * values.clamp(min=0).sqrt()) @ vectors.mT

    def audit(self, x: Tensor, generator: torch.Generator) -> dict[str, float]:
        """Return the sliced Wasserstein distance and the error of the weights of the modes."""
        exact = self.draw(len(x), generator)
        nearest = torch.cdist(x, self.prior.means).argmin(1)
        shares = torch.bincount(nearest, minlength=25).double() / len(x)
        expected = torch.cdist(self.draw(20_000, generator), self.prior.means).argmin(1)
        expected = torch.bincount(expected, minlength=25).double() / 20_000
        return {
            "sliced_wasserstein": sliced_wasserstein(x, exact, generator),
            "mode_error": ((shares - expected).abs().sum() / 2).item(),
        }


def sliced_wasserstein(
    x: Tensor, y: Tensor, generator: torch.Generator, slices: int = 1000
) -> float:
    """Return the mean Wasserstein-1 distance of projections on random directions."""
    lines = torch.randn(slices, x.shape[1], dtype=x.dtype, generator=generator)
    lines = lines / lines.norm(dim=1, keepdim=True)
    gaps = (x @ lines.mT).sort(0).values - (y @ lines.mT).sort(0).values
    return gaps.abs().mean().item() if math.isfinite(gaps.sum().item()) else math.inf
