"""Observations: numbers, the operator that predicts them, and the law of their error.

    y = A(x) + e,        e ~ N(0, R),        R = diag(std^2).

The operator is any differentiable function in plain torch; `stormda.assimilation.operators` has
the common ones. The state it receives is physical where `assimilate` is given a `transform`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import log, pi

import torch
from torch import Tensor

Operator = Callable[[Tensor], Tensor]
"""A differentiable map of states `(m, *shape)` to predicted observations `(m, p)`."""


@dataclass(frozen=True, eq=False)
class DiagonalError:
    """Independent Gaussian errors of observation.

    Examples:
        >>> error = DiagonalError(0.5)
        >>> error.whiten(torch.tensor([1.0, -2.0])), error.solve(torch.tensor([1.0, -2.0]))
        (tensor([ 2., -4.]), tensor([ 4., -8.]))

        With standard deviation 0.5 the density at zero is 2 / sqrt(2 pi), for each of two numbers:

        >>> error.log_prob(torch.zeros(1, 2))
        tensor([-0.4516])
    """

    std: Tensor | float
    """The standard deviation in the units of the observation: one number, or one each `(p,)`."""

    def __post_init__(self) -> None:
        std = self._std()
        if std.ndim > 1:
            raise ValueError(f"std: expected a number or shape (p,), got {tuple(std.shape)}")
        wrong = ~(torch.isfinite(std) & (std > 0))
        if wrong.any():
            raise ValueError(
                f"std: expected positive finite numbers, got {std[wrong].flatten()[0].item():g}"
            )

    def _std(self) -> Tensor:
        if isinstance(self.std, Tensor):
            return self.std
        return torch.tensor(self.std, dtype=torch.float64)

    @property
    def variance(self) -> Tensor:
        """The diagonal of `R`, without dimensions or with shape `(p,)`."""
        return self._std() ** 2

    def whiten(self, residual: Tensor) -> Tensor:
        """Return `R^(-1/2) residual`, in the shape `(..., p)` of the residual."""
        return residual / self._std().to(residual)

    def solve(self, residual: Tensor) -> Tensor:
        """Return `R^-1 residual`, in the shape `(..., p)` of the residual."""
        return residual / self.variance.to(residual)

    def log_prob(self, residual: Tensor) -> Tensor:
        """Return the logarithm of the density of residuals `(..., p)`, with shape `(...)`."""
        log_std = self._std().to(residual).log().expand(residual.shape[-1])
        squares = self.whiten(residual).square() + log(2 * pi)
        return -0.5 * squares.sum(-1) - log_std.sum()


@dataclass(frozen=True, eq=False)
class Observation:
    """Observed numbers with what is needed to compare a state with them.

    Examples:
        >>> from stormda.assimilation import select
        >>> seen = Observation(torch.tensor([3.0]), select(torch.tensor([1])), DiagonalError(0.1))
        >>> seen.innovation(seen.operator(torch.tensor([[7.0, 1.0, 9.0]])))
        tensor([[2.]])
    """

    y: Tensor
    """The observed values, with shape `(p,)`; finite (leave out what is missing)."""

    operator: Operator
    """Predicts the observations `(m, p)` of states `(m, *shape)`; differentiable."""

    error: DiagonalError
    """The law of the error of observation."""

    def __post_init__(self) -> None:
        if self.y.ndim != 1:
            raise ValueError(f"y: expected shape (p,), got {tuple(self.y.shape)}")
        bad = int((~torch.isfinite(self.y)).sum())
        if bad:
            raise ValueError(f"y: expected finite values, got {bad} of {len(self.y)} that are not")
        errors = self.error.variance
        if errors.ndim == 1 and len(errors) != len(self.y):
            raise ValueError(
                f"error: expected one standard deviation or {len(self.y)}, got {len(errors)}"
            )

    def innovation(self, predicted: Tensor) -> Tensor:
        """Return `y - predicted` with shape `(m, p)`, in the data type of the prediction."""
        return self.y.to(predicted) - predicted
