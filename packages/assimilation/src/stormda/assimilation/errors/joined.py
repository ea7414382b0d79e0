"""The errors of several observations that are used together, as those of a window are.

Errors of different parts are independent of each other; within a part they may be whatever they
are there, correlated or with heavy tails.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from stormda.assimilation.errors.base import ObservationError


@dataclass(frozen=True, eq=False)
class JoinedError:
    """The law of errors of some observations, one after the other.

    Raises:
        ValueError: If there is no part, or not a size for each.

    Examples:
        >>> from stormda.assimilation import DiagonalError
        >>> both = JoinedError([DiagonalError(1.0), DiagonalError(2.0)], [2, 1])
        >>> both.variance
        tensor([1., 1., 4.], dtype=torch.float64)
        >>> both.whiten(torch.tensor([1.0, 2.0, 4.0]))
        tensor([1., 2., 2.])
    """

    parts: Sequence[ObservationError]
    """The laws."""

    sizes: Sequence[int]
    """How many numbers are observed with each."""

    def __post_init__(self) -> None:
        if not self.parts or len(self.parts) != len(self.sizes):
            raise ValueError(
                "parts, sizes: expected one or more laws and as many sizes, "
                f"got {len(self.parts)} and {len(self.sizes)}"
            )

    @property
    def variance(self) -> Tensor:
        """The diagonal of `R`, with shape `(..., p)`."""
        each = zip(self.parts, self.sizes, strict=True)
        variances = [part.variance.expand(*part.variance.shape[:-1], n) for part, n in each]
        shape = max((one.shape[:-1] for one in variances), key=len)
        return torch.cat([one.expand(*shape, one.shape[-1]) for one in variances], -1)

    def apply(self, v: Tensor) -> Tensor:
        """Return `R v`, in the shape `(..., p)` of `v`."""
        return self._each(lambda part, x: part.apply(x), v)

    def solve(self, residual: Tensor) -> Tensor:
        """Return `R^-1 residual`, in the shape `(..., p)` of the residual."""
        return self._each(lambda part, x: part.solve(x), residual)

    def whiten(self, residual: Tensor) -> Tensor:
        """Return `residual` with unit covariance, in its shape `(..., p)`."""
        return self._each(lambda part, x: part.whiten(x), residual)

    def log_prob(self, residual: Tensor) -> Tensor:
        """Return the logarithm of the density of residuals `(..., p)`, with shape `(...)`."""
        pieces = zip(self.parts, self._split(residual), strict=True)
        return torch.stack([part.log_prob(x) for part, x in pieces]).sum(0)

    def near(self, residual: Tensor) -> "JoinedError":
        """Return the Gaussian law with the same slope; this one where all parts are Gaussian."""
        pieces = zip(self.parts, self._split(residual), strict=True)
        near = [part.near(x) for part, x in pieces]
        same = all(a is b for a, b in zip(near, self.parts, strict=True))
        return self if same else JoinedError(near, self.sizes)

    def sample(self, like: Tensor, generator: torch.Generator) -> Tensor:
        """Draw errors with the shape `(..., p)`, data type and device of `like`."""
        return self._each(lambda part, x: part.sample(x, generator), like)

    def _split(self, x: Tensor) -> Sequence[Tensor]:
        return torch.split(x, list(self.sizes), -1)

    def _each(self, act: Callable[[ObservationError, Tensor], Tensor], x: Tensor) -> Tensor:
        pieces = zip(self.parts, self._split(x), strict=True)
        return torch.cat([act(part, piece) for part, piece in pieces], -1)
