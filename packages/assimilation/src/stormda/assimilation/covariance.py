"""Covariances that are never written out: low-rank, spectral, or made of blocks.

What a filter asks of a covariance `C` is a product with columns. What the denoising of a Gaussian
asks is its shrunk form, the covariance of `x0` given `x = x0 + sigma eps`,

    V = (C^-1 + I / sigma^2)^-1 = sigma^2 C (C + sigma^2 I)^-1,

which costs as little for the structures here, at any size of the state.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class Covariance(Protocol):
    """What is asked of a covariance of `n` numbers; a dense tensor `(n, n)` has it."""

    def __matmul__(self, other: Tensor, /) -> Tensor:
        """Return the product with columns `(n, k)`."""

    def diagonal(self) -> Tensor:
        """Return the variances, with shape `(n,)`."""


class Climate(Protocol):
    """The covariance of states about their mean, shrunk by what a noisy state tells."""

    def shrink(self, states: Tensor, sigma: Tensor) -> Tensor:
        """Return `sigma^2 C (C + sigma^2 I)^-1 x` of each of `(m, *shape)`."""


@dataclass(frozen=True, eq=False)
class LowRank:
    """A covariance of few directions and white noise: `factors factors^T + diag(variance)`.

    Examples:
        >>> covariance = LowRank(torch.tensor([[1.0], [2.0]]), torch.tensor([0.5, 0.5]))
        >>> covariance @ torch.eye(2)
        tensor([[1.5000, 2.0000],
                [2.0000, 4.5000]])
    """

    factors: Tensor
    """The directions, scaled by their standard deviations, with shape `(n, r)`."""

    variance: Tensor
    """The variances of the rest, with shape `(n,)`."""

    def __matmul__(self, other: Tensor, /) -> Tensor:
        """Return the product with columns `(n, k)`."""
        low: Tensor = self.factors @ (self.factors.mT @ other)
        whole: Tensor = low + self.variance[:, None] * other
        return whole

    def diagonal(self) -> Tensor:
        """Return the variances, with shape `(n,)`."""
        return self.factors.square().sum(-1) + self.variance

    def shrink(self, states: Tensor, sigma: Tensor) -> Tensor:
        """Return `sigma^2 C (C + sigma^2 I)^-1 x` of each of `(m, *shape)`.

        Source: the identity of Woodbury (1950), in the `r` directions.
        """
        columns = states.flatten(1).mT
        scaled = self.factors / (self.variance + sigma**2)[:, None]
        core = torch.eye(self.factors.shape[1]).to(scaled) + scaled.mT @ self.factors
        solved = columns / (self.variance + sigma**2)[:, None]
        solved = solved - scaled @ torch.linalg.solve(core, self.factors.mT @ solved)
        shrunk: Tensor = (sigma**2 * (self @ solved)).mT.reshape(states.shape)
        return shrunk


@dataclass(frozen=True, eq=False)
class Spectral:
    """A covariance that is the same everywhere on a periodic line or plane.

    It is diagonal in Fourier space: a variance for each wave of `rfftn` over the last dimensions.

    Examples:
        White noise of variance 4 is shrunk by a half at noise level 2:

        >>> climate = Spectral(torch.full((5,), 4.0))
        >>> climate.shrink(torch.ones(1, 8), torch.tensor(2.0))
        tensor([[2., 2., 2., 2., 2., 2., 2., 2.]])
    """

    power: Tensor
    """The variances >= 0, with the shape of `rfftn` of a state over its periodic dimensions."""

    dims: int = 1
    """How many dimensions, the last ones, are periodic; others are independent."""

    def shrink(self, states: Tensor, sigma: Tensor) -> Tensor:
        """Return `sigma^2 C (C + sigma^2 I)^-1 x` of each of `(m, *shape)`."""
        dims = tuple(range(-self.dims, 0))
        kept = sigma**2 * self.power / (self.power + sigma**2)
        sizes = states.shape[-self.dims :]
        spectrum = torch.fft.rfftn(states, dim=dims)
        shrunk: Tensor = torch.fft.irfftn(kept.to(states) * spectrum, s=sizes, dim=dims)
        return shrunk


def fit_spectral(samples: Tensor, dims: int = 1) -> Spectral:
    """Fit a spectral covariance to samples `(t, *shape)`, about their mean.

    Args:
        samples: States, the last `dims` dimensions periodic; other dimensions (variables, levels)
            have powers of their own.
        dims: How many dimensions are periodic.

    Examples:
        >>> g = torch.Generator().manual_seed(0)
        >>> climate = fit_spectral(3 * torch.randn(5000, 8, generator=g))
        >>> climate.power.round()
        tensor([9., 9., 9., 9., 9.])
    """
    last = tuple(range(-dims, 0))
    waves = torch.fft.rfftn(samples - samples.mean(0), dim=last, norm="ortho")
    return Spectral(waves.abs().square().mean(0), dims)


@dataclass(frozen=True, eq=False)
class Blocks:
    """The covariance of several independent vectors, one after the other.

    Examples:
        >>> blocks = Blocks([torch.eye(2), 4 * torch.eye(1)])
        >>> blocks @ torch.ones(3, 1)
        tensor([[1.],
                [1.],
                [4.]])
    """

    parts: Sequence[Covariance]
    """The covariances; dense tensors, `LowRank`, or others."""

    def __matmul__(self, other: Tensor, /) -> Tensor:
        """Return the product with columns `(n, k)`."""
        sizes = [len(part.diagonal()) for part in self.parts]
        pieces = torch.split(other, sizes)
        return torch.cat([part @ x for part, x in zip(self.parts, pieces, strict=True)])

    def diagonal(self) -> Tensor:
        """Return the variances, with shape `(n,)`."""
        return torch.cat([part.diagonal() for part in self.parts])
