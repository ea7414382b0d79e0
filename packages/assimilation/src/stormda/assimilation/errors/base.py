"""What is asked of a law of errors of observation, and what the laws share.

A Gaussian law is its covariance `R`, used through products only. A law with heavy tails is a
Gaussian one whose variances depend on the residuals: `near(residual)` returns the Gaussian with
the same slope,

    d log p(r) / d r = - r / variance(r),

which grows where a residual is improbable, so that an outlier loses its weight. Whoever solves for
an analysis alternates: solve, look at the residuals that are left, weigh again.
"""

from abc import ABC, abstractmethod
from typing import Protocol

import torch
from torch import Tensor


class ObservationError(Protocol):
    """What is asked of a law of errors of `p` observations."""

    @property
    def variance(self) -> Tensor:
        """The diagonal of `R`, without dimensions, with shape `(p,)`, or `(..., p)`."""

    def apply(self, v: Tensor) -> Tensor:
        """Return `R v`, in the shape `(..., p)` of `v`."""

    def solve(self, residual: Tensor) -> Tensor:
        """Return `R^-1 residual`, in the shape `(..., p)` of the residual."""

    def whiten(self, residual: Tensor) -> Tensor:
        """Return `residual` with unit covariance; its square sums to `r^T R^-1 r`."""

    def log_prob(self, residual: Tensor) -> Tensor:
        """Return the logarithm of the density of residuals `(..., p)`, with shape `(...)`."""

    def near(self, residual: Tensor) -> "ObservationError":
        """Return the Gaussian law with the same slope at the residuals `(..., p)`."""

    def sample(self, like: Tensor, generator: torch.Generator) -> Tensor:
        """Draw errors with the shape `(..., p)`, data type and device of `like`."""


class Independent(ABC):
    """Errors that are independent of each other: `R` is a diagonal."""

    @property
    @abstractmethod
    def variance(self) -> Tensor:
        """The diagonal of `R`."""

    def apply(self, v: Tensor) -> Tensor:
        """Return `R v`, in the shape `(..., p)` of `v`."""
        return self.variance.to(v) * v

    def whiten(self, residual: Tensor) -> Tensor:
        """Return `R^(-1/2) residual`, in the shape `(..., p)` of the residual."""
        return residual / self.variance.sqrt().to(residual)

    def solve(self, residual: Tensor) -> Tensor:
        """Return `R^-1 residual`, in the shape `(..., p)` of the residual."""
        return residual / self.variance.to(residual)


def as_tensor(value: Tensor | float) -> Tensor:
    """Return a tensor, float64 where a number is given."""
    return value if isinstance(value, Tensor) else torch.tensor(value, dtype=torch.float64)


def white_noise(like: Tensor, generator: torch.Generator) -> Tensor:
    """Draw standard normal numbers with the shape, data type and device of `like`."""
    where = generator.device
    return torch.randn(like.shape, generator=generator, dtype=like.dtype, device=where).to(like)


def uniform_noise(like: Tensor, generator: torch.Generator) -> Tensor:
    """Draw doubles in (0, 1): in single precision a tail would end early."""
    draws = torch.rand(
        like.shape, generator=generator, dtype=torch.float64, device=generator.device
    )
    return draws.clamp(min=2**-54).to(like.device)


def check_std(value: Tensor | float, name: str = "std") -> None:
    """Raise where a scale is not a positive finite number, or one each."""
    std = as_tensor(value)
    if std.ndim > 1:
        raise ValueError(f"{name}: expected a number or shape (p,), got {tuple(std.shape)}")
    wrong = ~(torch.isfinite(std) & (std > 0))
    if wrong.any():
        raise ValueError(
            f"{name}: expected positive finite numbers, got {std[wrong].flatten()[0].item():g}"
        )
