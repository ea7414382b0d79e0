"""Observation operators: small differentiable maps that compose.

    A = compose(pick, unit, curve):        y = curve(unit(pick(x)))

A linear operator takes states `(m, *shape)` to observations `(m, p)`; an element-wise one keeps
the shape, and so goes before or after it. All are plain torch: they differentiate forwards,
backwards and twice, and they run on the device where their own tensors and the states are.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor

Map = Callable[[Tensor], Tensor]
"""A differentiable map of batches of arrays."""


@dataclass(frozen=True, eq=False)
class select:
    """Observe single cells: `y_i = x[indices_i]`.

    Examples:
        >>> select(torch.tensor([3, 0]))(torch.arange(4.0).reshape(1, 2, 2))
        tensor([[3., 0.]])
    """

    indices: Tensor
    """Positions in the flattened state, int64 with shape `(p,)`."""

    def __post_init__(self) -> None:
        _check_integers("indices", self.indices, ndim=1)

    def __call__(self, x: Tensor) -> Tensor:
        """Return the observed cells `(m, p)` of states `(m, *shape)`."""
        return x.flatten(1).index_select(1, self.indices)


@dataclass(frozen=True, eq=False)
class interpolate:
    """Observe weighted means of a few cells: `y_i = sum_k weights_ik x[cells_ik]`.

    Examples:
        >>> halfway = interpolate(torch.tensor([[0, 1]]), torch.tensor([[0.5, 0.5]]))
        >>> halfway(torch.tensor([[2.0, 4.0, 9.0]]))
        tensor([[3.]])
    """

    cells: Tensor
    """Positions in the flattened state, int64 with shape `(p, k)`."""

    weights: Tensor
    """The weight of each cell, with shape `(p, k)`."""

    def __post_init__(self) -> None:
        _check_integers("cells", self.cells, ndim=2)
        if self.weights.shape != self.cells.shape:
            raise ValueError(
                f"weights: expected the shape of cells {tuple(self.cells.shape)}, "
                f"got {tuple(self.weights.shape)}"
            )

    def __call__(self, x: Tensor) -> Tensor:
        """Return the interpolated values `(m, p)` of states `(m, *shape)`."""
        corners = x.flatten(1).index_select(1, self.cells.flatten())
        return (corners.reshape(len(x), *self.cells.shape) * self.weights.to(x)).sum(-1)


@dataclass(frozen=True, eq=False)
class matrix:
    """Observe any linear combinations: `y = entries @ x`.

    Examples:
        >>> mean = torch.tensor([[0.5, 0.5]])
        >>> x = torch.tensor([[2.0, 4.0]])
        >>> matrix(mean)(x), matrix(mean.to_sparse())(x)
        (tensor([[3.]]), tensor([[3.]]))
    """

    entries: Tensor
    """The matrix, with shape `(p, n)`: dense, or sparse in the COO or CSR layout."""

    def __post_init__(self) -> None:
        if self.entries.ndim != 2:
            raise ValueError(f"entries: expected shape (p, n), got {tuple(self.entries.shape)}")
        if self.entries.layout is torch.strided:
            return
        coo = self.entries.to_sparse().coalesce()  # once, not in every call
        object.__setattr__(self, "entries", coo)

    def __call__(self, x: Tensor) -> Tensor:
        """Return the combinations `(m, p)` of states `(m, *shape)` of `n` numbers."""
        flat = x.flatten(1)
        if self.entries.layout is torch.strided:
            return flat @ self.entries.to(x).mT
        rows, columns = self.entries.indices()
        products = flat.index_select(1, columns) * self.entries.values().to(x)
        return flat.new_zeros(len(flat), self.entries.shape[0]).index_add(1, rows, products)


@dataclass(frozen=True, eq=False)
class scaled:
    """Standardise: `y = (x - mean) / std`, element by element.

    Examples:
        >>> scaled(280.0, 10.0)(torch.tensor([[285.0]]))
        tensor([[0.5000]])
    """

    mean: Tensor | float
    """The value that becomes zero; broadcasts against the array."""

    std: Tensor | float
    """The distance that becomes one; broadcasts against the array."""

    def __call__(self, x: Tensor) -> Tensor:
        """Return the standardised array, in the shape of `x`."""
        return (x - _like(self.mean, x)) / _like(self.std, x)


@dataclass(frozen=True, eq=False)
class affine:
    """Take normalised numbers to physical ones: `y = mean + std * x`, the inverse of `scaled`.

    Examples:
        >>> affine(280.0, 10.0)(torch.tensor([[0.5]]))
        tensor([[285.]])
    """

    mean: Tensor | float
    """The value of zero; broadcasts against the array."""

    std: Tensor | float
    """The value of one, above the mean; broadcasts against the array."""

    def __call__(self, x: Tensor) -> Tensor:
        """Return the array in physical units, in the shape of `x`."""
        return _like(self.mean, x) + _like(self.std, x) * x


@dataclass(frozen=True, eq=False)
class arctan:
    """Observe a saturating sensor: `y = arctan(x / scale)`, element by element.

    Examples:
        >>> arctan(2.0)(torch.tensor([[2.0]]))
        tensor([[0.7854]])
    """

    scale: Tensor | float = 1.0
    """The value [units of the state] at which the sensor reads pi / 4."""

    def __call__(self, x: Tensor) -> Tensor:
        """Return the readings, in the shape of `x`."""
        return torch.atan(x / _like(self.scale, x))


def compose(*maps: Map) -> Map:
    """Return the map that applies `maps` from left to right.

    Examples:
        >>> sensor = compose(select(torch.tensor([1])), arctan(2.0))
        >>> sensor(torch.tensor([[9.0, 2.0]]))
        tensor([[0.7854]])
    """
    return lambda x: reduce(lambda value, step: step(value), maps, x)


def _like(value: Tensor | float, x: Tensor) -> Tensor | float:
    return value.to(x) if isinstance(value, Tensor) else value


def _check_integers(name: str, value: Tensor, *, ndim: int) -> None:
    if value.dtype is not torch.int64 or value.ndim != ndim:
        raise ValueError(
            f"{name}: expected int64 with {ndim} dimensions, "
            f"got {value.dtype} with shape {tuple(value.shape)}"
        )
