"""Gaussian errors of observation: independent, correlated, or different in each member."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import log, pi

import torch
from torch import Tensor

from stormda.assimilation.errors.base import Independent, as_tensor, check_std, white_noise


@dataclass(frozen=True, eq=False)
class DiagonalError(Independent):
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
        check_std(self.std)

    @property
    def variance(self) -> Tensor:
        """The diagonal of `R`, without dimensions or with shape `(p,)`."""
        return as_tensor(self.std) ** 2

    def whiten(self, residual: Tensor) -> Tensor:
        """Return `R^(-1/2) residual`, in the shape `(..., p)` of the residual."""
        return residual / as_tensor(self.std).to(residual)

    def log_prob(self, residual: Tensor) -> Tensor:
        """Return the logarithm of the density of residuals `(..., p)`, with shape `(...)`."""
        log_std = as_tensor(self.std).to(residual).log().expand(residual.shape[-1])
        squares = self.whiten(residual).square() + log(2 * pi)
        return -0.5 * squares.sum(-1) - log_std.sum()

    def near(self, residual: Tensor) -> "DiagonalError":
        """Return the law itself: it is Gaussian."""
        return self

    def sample(self, like: Tensor, generator: torch.Generator) -> Tensor:
        """Draw errors with the shape `(..., p)`, data type and device of `like`."""
        return as_tensor(self.std).to(like) * white_noise(like, generator)


@dataclass(frozen=True, eq=False)
class CorrelatedError:
    """Gaussian errors with a covariance: the Kronecker product of one or more factors.

    With factors for time and channel, the errors at `(t, c)` and `(t', c')` have the covariance
    `R_time[t, t'] R_channel[c, c']`, and the last factor varies fastest among the observations. No
    matrix larger than a factor is ever formed.

    Examples:
        >>> channels = torch.tensor([[1.0, 0.5], [0.5, 1.0]])
        >>> error = CorrelatedError([torch.eye(3), channels])  # three pixels of two channels
        >>> error.apply(torch.tensor([1.0, 0.0, 0.0, 0.0, 0.0, 1.0]))
        tensor([1.0000, 0.5000, 0.0000, 0.0000, 0.5000, 1.0000])
    """

    factors: Sequence[Tensor]
    """Covariances, each symmetric and positive definite with shape `(p_i, p_i)`."""

    _roots: tuple[Tensor, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not self.factors:
            raise ValueError("factors: expected at least one covariance, got none")
        for factor in self.factors:
            if factor.ndim != 2 or len(factor) != factor.shape[1]:
                raise ValueError(
                    f"factors: expected square matrices, got shape {tuple(factor.shape)}"
                )
        roots = [torch.linalg.cholesky_ex(factor) for factor in self.factors]
        broken = [i for i, (_, info) in enumerate(roots) if info.item()]
        if broken:
            raise ValueError(f"factors: expected positive definite ones, got others at {broken}")
        object.__setattr__(self, "_roots", tuple(root for root, _ in roots))

    @property
    def variance(self) -> Tensor:
        """The diagonal of `R`, with shape `(p,)`."""
        whole = self.factors[0].diagonal()
        for factor in self.factors[1:]:
            whole = torch.outer(whole, factor.diagonal()).flatten()
        return whole

    def apply(self, v: Tensor) -> Tensor:
        """Return `R v`, in the shape `(..., p)` of `v`."""
        return self._each(v, [factor.to(v) for factor in self.factors])

    def whiten(self, residual: Tensor) -> Tensor:
        """Return `L^-1 residual` with `L L^T = R`, in the shape `(..., p)` of the residual."""
        return self._each(residual, [_inverse(root).to(residual) for root in self._roots])

    def solve(self, residual: Tensor) -> Tensor:
        """Return `R^-1 residual`, in the shape `(..., p)` of the residual."""
        inverses = [torch.cholesky_inverse(root).to(residual) for root in self._roots]
        return self._each(residual, inverses)

    def log_prob(self, residual: Tensor) -> Tensor:
        """Return the logarithm of the density of residuals `(..., p)`, with shape `(...)`."""
        p = residual.shape[-1]
        logs = [root.diagonal().log().sum() * (p // len(root)) for root in self._roots]
        squares = self.whiten(residual).square().sum(-1)
        return -0.5 * (squares + p * log(2 * pi)) - torch.stack(logs).sum().to(residual)

    def near(self, residual: Tensor) -> "CorrelatedError":
        """Return the law itself: it is Gaussian."""
        return self

    def sample(self, like: Tensor, generator: torch.Generator) -> Tensor:
        """Draw errors with the shape `(..., p)`, data type and device of `like`."""
        return self._each(white_noise(like, generator), [root.to(like) for root in self._roots])

    def _each(self, v: Tensor, matrices: Sequence[Tensor]) -> Tensor:
        """Apply one matrix along each axis of the observations."""
        grid = v.reshape(*v.shape[:-1], *(len(m) for m in matrices))
        for axis, matrix in enumerate(matrices, start=v.ndim - 1):
            grid = torch.movedim(torch.movedim(grid, axis, -1) @ matrix.mT, -1, axis)
        return grid.reshape(v.shape)


@dataclass(frozen=True, eq=False)
class VariableError(Independent):
    """Independent Gaussian errors whose variances differ between members.

    Examples:
        >>> VariableError(torch.tensor([[1.0], [4.0]])).solve(torch.ones(2, 1))
        tensor([[1.0000],
                [0.2500]])
    """

    variances: Tensor
    """The diagonals of `R`, with shape `(..., p)`."""

    @property
    def variance(self) -> Tensor:
        """The diagonals of `R`, with shape `(..., p)`."""
        return self.variances

    def log_prob(self, residual: Tensor) -> Tensor:
        """Return the logarithm of the density of residuals `(..., p)`, with shape `(...)`."""
        squares = residual.square() / self.variances + (2 * pi * self.variances).log()
        return -0.5 * squares.sum(-1)

    def near(self, residual: Tensor) -> "VariableError":
        """Return the law itself: it is Gaussian."""
        return self

    def sample(self, like: Tensor, generator: torch.Generator) -> Tensor:
        """Draw errors with the shape `(..., p)`, data type and device of `like`."""
        return self.variances.sqrt().to(like) * white_noise(like, generator)


def _inverse(root: Tensor) -> Tensor:
    eye = torch.eye(len(root)).to(root)
    inverse: Tensor = torch.linalg.solve_triangular(root, eye, upper=False)
    return inverse
