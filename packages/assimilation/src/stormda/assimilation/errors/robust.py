"""Errors of observation with heavy tails: an outlier is improbable, not impossible."""

from dataclasses import dataclass
from math import erf, exp, lgamma, log, pi, sqrt

import torch
from torch import Tensor

from stormda.assimilation.errors.base import (
    Independent,
    as_tensor,
    check_std,
    uniform_noise,
    white_noise,
)
from stormda.assimilation.errors.gaussian import VariableError


@dataclass(frozen=True, eq=False)
class StudentError(Independent):
    """Independent errors with the heavy tails of Student's t.

    Examples:
        An error of ten scales is believed like one of variance 26, at 4 degrees of freedom:

        >>> StudentError(1.0, 4.0).near(torch.tensor([0.0, 10.0])).variance
        tensor([ 0.8000, 20.8000])
    """

    scale: Tensor | float
    """The scale in the units of the observation: one number, or one each `(p,)`."""

    freedom: float = 4.0
    """Degrees of freedom; Gaussian as they go to infinity. The variance needs more than 2."""

    def __post_init__(self) -> None:
        check_std(self.scale, "scale")
        if not self.freedom > 2:
            raise ValueError(f"freedom: expected more than 2, got {self.freedom}")

    @property
    def variance(self) -> Tensor:
        """The variances, without dimensions or with shape `(p,)`."""
        return as_tensor(self.scale) ** 2 * (self.freedom / (self.freedom - 2))

    def log_prob(self, residual: Tensor) -> Tensor:
        """Return the logarithm of the density of residuals `(..., p)`, with shape `(...)`."""
        n, scale = self.freedom, as_tensor(self.scale).to(residual)
        constant = lgamma((n + 1) / 2) - lgamma(n / 2) - 0.5 * log(n * pi)
        tails = -(n + 1) / 2 * torch.log1p((residual / scale).square() / n)
        logs: Tensor = tails + constant - scale.log()
        return logs.sum(-1)

    def near(self, residual: Tensor) -> VariableError:
        """Return the Gaussian law with the same slope at the residuals `(..., p)`."""
        n, square = self.freedom, as_tensor(self.scale).to(residual) ** 2
        return VariableError((n * square + residual.square()) / (n + 1))

    def sample(self, like: Tensor, generator: torch.Generator) -> Tensor:
        """Draw errors with the shape `(..., p)`, data type and device of `like`."""
        shape = torch.full_like(like, self.freedom / 2, device=generator.device)
        gamma = torch._standard_gamma(shape, generator=generator).to(like.device)
        factor = (self.freedom / 2 / gamma).sqrt()
        return as_tensor(self.scale).to(like) * factor * white_noise(like, generator)


@dataclass(frozen=True, eq=False)
class HuberError(Independent):
    """Independent errors, Gaussian in the middle and exponential beyond a threshold.

    Source: Huber (1964), Robust estimation of a location parameter, Ann. Math. Stat. 35.

    Examples:
        >>> HuberError(1.0, 2.0).near(torch.tensor([1.0, -6.0])).variance
        tensor([1., 3.])
    """

    std: Tensor | float
    """The standard deviation of the middle: one number, or one each `(p,)`."""

    threshold: float = 1.5
    """Where the middle ends, in standard deviations."""

    def __post_init__(self) -> None:
        check_std(self.std)
        if not self.threshold > 0:
            raise ValueError(f"threshold: expected a positive number, got {self.threshold}")

    @property
    def variance(self) -> Tensor:
        """The variances of the whole law, without dimensions or with shape `(p,)`."""
        k = self.threshold
        middle, tails = self._masses()
        second = middle - 2 * k * exp(-k * k / 2) + tails * (k * k + 2 + 2 / k**2)
        return as_tensor(self.std) ** 2 * (second / (middle + tails))

    def log_prob(self, residual: Tensor) -> Tensor:
        """Return the logarithm of the density of residuals `(..., p)`, with shape `(...)`."""
        k, std = self.threshold, as_tensor(self.std).to(residual)
        z = (residual / std).abs()
        shape = -torch.where(z < k, z.square() / 2, k * z - k * k / 2)
        return (shape - std.log() - log(sum(self._masses()))).sum(-1)

    def near(self, residual: Tensor) -> VariableError:
        """Return the Gaussian law with the same slope at the residuals `(..., p)`."""
        std = as_tensor(self.std).to(residual)
        return VariableError(std**2 * ((residual / std).abs() / self.threshold).clamp(min=1))

    def sample(self, like: Tensor, generator: torch.Generator) -> Tensor:
        """Draw errors with the shape `(..., p)`, data type and device of `like`."""
        k = self.threshold
        middle, tails = self._masses()
        which, place = (uniform_noise(like, generator) for _ in range(2))
        inside = torch.special.ndtri(0.5 + (place - 0.5) * erf(k / sqrt(2)))
        outside = (k - (2 * place - 1).abs().log() / k) * (place - 0.5).sign()
        z = torch.where(which < middle / (middle + tails), inside, outside)
        return as_tensor(self.std).to(like) * z.to(like)

    def _masses(self) -> tuple[float, float]:
        """Return the integrals of exp(shape) over the middle and over both tails."""
        k = self.threshold
        return sqrt(2 * pi) * erf(k / sqrt(2)), 2 / k * exp(-k * k / 2)
