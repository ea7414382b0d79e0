"""Operators for instruments that see more than a point: means, winds, events, radiances.

They compose with those of `stormda.assimilation.operators`. Those that reduce take states
`(m, *shape)` to `(m, p)`; those that keep the shape go before or after.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from stormda.assimilation.operators import Map, matrix


def area_means(labels: Tensor, weights: Tensor | None = None) -> matrix:
    """Return the operator that averages over regions: footprints, catchments, grid boxes.

    Args:
        labels: The region of each number of the flattened state, int64 with shape `(n,)`; those
            below 0 belong to none.
        weights: Weights of the numbers (areas), with shape `(n,)`; None weighs all alike.

    Raises:
        ValueError: If the labels are not integers along one dimension, or a region has no weight.

    Examples:
        >>> halves = area_means(torch.tensor([0, 0, 1, -1]))
        >>> halves(torch.tensor([[1.0, 3.0, 5.0, 99.0]]))
        tensor([[2., 5.]])
    """
    if labels.dtype is not torch.int64 or labels.ndim != 1:
        raise ValueError(
            f"labels: expected int64 with 1 dimension, got {labels.dtype} "
            f"with shape {tuple(labels.shape)}"
        )
    kept = (labels >= 0).nonzero()[:, 0]
    own = torch.ones(len(labels)) if weights is None else weights
    regions = int(labels.max()) + 1 if len(kept) else 0
    totals = own.new_zeros(regions).index_add(0, labels[kept], own[kept])
    if (totals <= 0).any():
        raise ValueError(f"labels: expected weight in each of {regions} regions, got none in some")
    entries = torch.sparse_coo_tensor(
        torch.stack([labels[kept], kept]),
        own[kept] / totals[labels[kept]],
        (regions, len(labels)),
        check_invariants=True,
    )
    return matrix(entries)


def block_means(
    shape: tuple[int, int], factor: tuple[int, int], areas: Tensor | None = None
) -> matrix:
    """Return the operator from a fine grid to the means of its blocks, as downscaling needs it.

    Args:
        shape: The fine grid `(ny, nx)`.
        factor: Cells of a block `(fy, fx)`, which divide the grid.
        areas: Areas of the cells, with shape `(ny, nx)`; None weighs all alike.

    Raises:
        ValueError: If the factor does not divide the grid.

    Examples:
        >>> coarse = block_means((2, 4), (2, 2))
        >>> coarse(torch.arange(8.0).reshape(1, 2, 4))
        tensor([[2.5000, 4.5000]])
    """
    (ny, nx), (fy, fx) = shape, factor
    if ny % fy or nx % fx:
        raise ValueError(f"factor: expected a divisor of the grid {shape}, got {factor}")
    rows = torch.arange(ny)[:, None] // fy
    labels = rows * (nx // fx) + torch.arange(nx) // fx
    return area_means(labels.flatten(), None if areas is None else areas.flatten())


@dataclass(frozen=True, eq=False)
class time_mean:
    """Average over the frames of a window, the first dimension of a state.

    Examples:
        >>> time_mean(torch.tensor([0.25, 0.75]))(torch.tensor([[[0.0], [4.0]]]))
        tensor([[3.]])
    """

    weights: Tensor
    """The weight of each frame, with shape `(frames,)` and sum 1."""

    def __call__(self, x: Tensor) -> Tensor:
        """Return the means `(m, *rest)` of states `(m, frames, *rest)`."""
        mean: Tensor = torch.einsum("t,mt...->m...", self.weights.to(x), x)
        return mean


def at_frame(frame: int, operator: Map) -> Map:
    """Return the operator that observes one frame of a window `(m, frames, *shape)`.

    Examples:
        >>> at_frame(1, lambda x: 10 * x)(torch.tensor([[[1.0], [2.0]]]))
        tensor([[20.]])
    """
    return lambda x: operator(x[:, frame])


def join(*operators: Map) -> Map:
    """Return the operator that makes the observations of several, one after the other.

    With `at_frame` it observes a window: as many numbers at each time as there are.

    Examples:
        >>> both = join(at_frame(0, lambda x: x), at_frame(1, lambda x: x[:, :1]))
        >>> both(torch.tensor([[[1.0, 2.0], [3.0, 4.0]]]))
        tensor([[1., 2., 3.]])
    """
    return lambda x: torch.cat([operator(x).flatten(1) for operator in operators], 1)


def channel(index: int) -> Map:
    """Return the map that picks one variable of states `(m, variables, *shape)`.

    Examples:
        >>> channel(1)(torch.tensor([[[1.0], [2.0]]]))
        tensor([[2.]])
    """
    return lambda x: x[:, index]


@dataclass(frozen=True, kw_only=True)
class wind_speed:
    """Speed of a wind `(u, v)`, smooth at calm: `sqrt(u^2 + v^2 + calm^2) - calm`.

    Examples:
        >>> wind_speed(calm=0.0)(torch.tensor([[3.0, 4.0]]))
        tensor([5.])
    """

    calm: float = 0.1
    """The speed below which the slope fades [m s-1]."""

    def __call__(self, wind: Tensor) -> Tensor:
        """Return the speed `(m, *shape)` of winds `(m, 2, *shape)`."""
        u, v = wind.unbind(1)
        return (u.square() + v.square() + self.calm**2).sqrt() - self.calm


def wind_direction(wind: Tensor) -> Tensor:
    """Return the direction that winds `(m, 2, *shape)` blow from, as sine and cosine.

    An angle jumps at north; its sine and cosine do not. Observe a direction `a` as
    `(sin a, cos a)`, each with the error in radians.

    Returns:
        Shape `(m, 2, *shape)`: the components `(sin a, cos a)` of the unit vector, `a` clockwise
        from north.

    Examples:
        >>> wind_direction(torch.tensor([[-5.0, 0.0]]))  # blowing west, so from the east
        tensor([[1., -0.]])
    """
    size = wind.norm(dim=1, keepdim=True).clamp(min=1e-6)
    unit: Tensor = -wind / size
    return unit


@dataclass(frozen=True, kw_only=True)
class beyond:
    """A soft event: near 1 where a threshold is passed, near 0 where not.

    Examples:
        >>> beyond(threshold=2.0, width=0.5)(torch.tensor([[2.0]]))
        tensor([[0.5000]])
    """

    threshold: float
    """The threshold, in the units of the state."""

    width: float
    """How far from the threshold the answer is in between."""

    def __post_init__(self) -> None:
        if not self.width > 0:
            raise ValueError(f"width: expected a positive number, got {self.width}")

    def __call__(self, x: Tensor) -> Tensor:
        """Return the event, in the shape of `x`."""
        return torch.sigmoid((x - self.threshold) / self.width)


@dataclass(frozen=True, eq=False)
class radiances:
    """Brightness temperatures: what each channel sees of a column of temperatures.

    A linear radiative kernel: weighting functions over the levels that sum to one.

    Examples:
        >>> kernel = radiances(torch.tensor([[0.75, 0.25]]))
        >>> kernel(torch.tensor([[[200.0], [280.0]]]))
        tensor([[220.]])
    """

    kernels: Tensor
    """The weighting functions, with shape `(channels, levels)`."""

    def __post_init__(self) -> None:
        if self.kernels.ndim != 2:
            raise ValueError(
                f"kernels: expected shape (channels, levels), got {tuple(self.kernels.shape)}"
            )

    def __call__(self, x: Tensor) -> Tensor:
        """Return `(m, channels * points)` of columns `(m, levels, *points)`, channels slowest."""
        seen: Tensor = torch.einsum("cl,ml...->mc...", self.kernels.to(x), x)
        return seen.flatten(1)
