"""From fine cells to coarse ones, and smoothly back.

A coarse cell is a block of f x f fine cells, and its value the mean over their areas,

    c_b = sum_{i in b} a_i x_i / sum_{i in b} a_i.

The way back is bilinear interpolation between the middles of the blocks: it has no edges at their
borders, but does not keep their means.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from einops import reduce
from torch import Tensor

from stormda.grid import LatLonGrid, PlaneGrid
from stormda.storm.frames import Frames


@dataclass(frozen=True, eq=False)
class Coarsening:
    """Blocks of a fine grid.

    Args:
        fine: The grid.
        factor: Cells along each side of a block; it divides the rows and the columns.
        valid: Where the fields exist, bool (variables, rows, cols); None for everywhere.

    Raises:
        ValueError: Where the factor is below 2 or does not divide the grid.

    Examples:
        >>> blocks = Coarsening(PlaneGrid((2, 4), (1e5, 1e5)), 2)
        >>> blocks.means(torch.arange(8.0).reshape(1, 2, 4))
        tensor([[[2.5000, 4.5000]]])
    """

    fine: LatLonGrid | PlaneGrid
    factor: int
    valid: Tensor | None = None

    def __post_init__(self) -> None:
        rows, cols = self.fine.shape
        if self.factor < 2:
            raise ValueError(f"coarsening: expected a factor of at least 2, got {self.factor}")
        if rows % self.factor or cols % self.factor:
            raise ValueError(
                f"coarsening: expected a divisor of the grid {self.fine.shape}, got {self.factor}"
            )

    @cached_property
    def weight(self) -> Tensor:
        """The area of each cell where fields exist, in mean cells, ([variables,] rows, cols)."""
        area = torch.from_numpy(np.array(self.fine.area)).float()
        area = area / area.mean()
        return area if self.valid is None else area * self.valid.to("cpu", torch.float32)

    @cached_property
    def known(self) -> Tensor:
        """Whether any of a block exists, bool, shape of a mean."""
        return self._sums(self.weight) > 0

    def means(self, x: Tensor) -> Tensor:
        """Return the means of the blocks, (..., rows, cols) to (..., rows / f, cols / f).

        0 where nothing of a block exists.
        """
        weight = self.weight.to(x)
        total = self._sums(weight)
        return self._sums(x * weight) / torch.where(total > 0, total, 1.0)

    def spread(self, coarse: Tensor) -> Tensor:
        """Interpolate between the middles of the blocks, (..., rows / f, cols / f) to fine.

        Beyond the outermost middles the outermost values go on, but for directions that wrap.

        Examples:
            >>> blocks = Coarsening(PlaneGrid((2, 4), (1e5, 1e5)), 2)
            >>> blocks.spread(torch.tensor([[[0.0, 4.0]]]))[0, 0]
            tensor([1., 1., 3., 3.])
        """
        shape, (vertical, horizontal) = coarse.shape, self.fine.periodic
        x = coarse.reshape(1, -1, *shape[-2:])
        x = F.pad(x, (1, 1, 0, 0), mode="circular" if horizontal else "replicate")
        x = F.pad(x, (0, 0, 1, 1), mode="circular" if vertical else "replicate")
        x = F.interpolate(x, scale_factor=self.factor, mode="bilinear", align_corners=False)
        f = self.factor
        return x[..., f:-f, f:-f].reshape(*shape[:-2], *self.fine.shape)

    def conserving(self, x: Tensor, coarse: Tensor) -> Tensor:
        """Return the nearest fields with the given means: every block is shifted as a whole.

        Args:
            x: Fine fields, (..., rows, cols).
            coarse: Means, (..., rows / f, cols / f).

        Examples:
            >>> blocks = Coarsening(PlaneGrid((2, 4), (1e5, 1e5)), 2)
            >>> blocks.conserving(torch.arange(8.0).reshape(1, 2, 4), torch.tensor([[[2.5, 5.0]]]))
            tensor([[[0.0000, 1.0000, 2.5000, 3.5000],
                     [4.0000, 5.0000, 6.5000, 7.5000]]])
        """
        shift = (coarse - self.means(x)) * self.known.to(x.device)
        return x + torch.kron(shift, shift.new_ones(self.factor, self.factor))

    def smooth(self, x: Tensor) -> Tensor:
        """Return what is left of fine fields when only the means of the blocks are known."""
        return self.spread(self.means(x))

    def observe(self, x: Tensor) -> Tensor:
        """Return the means of the blocks that exist, (members, p), of fields (members, ...)."""
        means = self.means(x)
        return means[:, self.known.to(x.device).expand(means.shape[1:])]

    def grid(self) -> LatLonGrid | PlaneGrid:
        """Return the grid of the blocks."""
        f = self.factor
        if isinstance(self.fine, PlaneGrid):
            rows, cols = self.fine.shape
            (dy, dx), (y, x) = self.fine.spacing_m, self.fine.origin_m
            middle = y + (f - 1) / 2 * dy, x + (f - 1) / 2 * dx
            size = f * dy, f * dx
            return PlaneGrid((rows // f, cols // f), size, self.fine.periodic, middle)
        edges = self.fine.rows.edges[::f]
        lon = self.fine.cols.values.reshape(-1, f).mean(1)
        bounds = np.stack([edges[:-1], edges[1:]], 1)
        return LatLonGrid(self.fine.lat.reshape(-1, f).mean(1), lon, bounds)

    def _sums(self, x: Tensor) -> Tensor:
        f = self.factor
        return reduce(x, "... (y f) (x g) -> ... y x", "sum", f=f, g=f)


def trimmed(frames: Frames, factor: int) -> Frames:
    """Leave out the last rows and columns that fill no whole block.

    Raises:
        ValueError: If cells are left over on a grid that may not be cut.

    Examples:
        >>> grid = LatLonGrid(np.linspace(50, 54, 5), np.linspace(0, 5, 6))
        >>> values = torch.zeros(1, 1, 5, 6)
        >>> frames = Frames(variables=("a",), units=("K",), grid=grid, values=values,
        ...                 times=np.array(["2000-01-01"], "datetime64[s]"), valid=values == 0)
        >>> trimmed(frames, 4).grid.shape
        (4, 4)
    """
    kept = tuple(n - n % factor for n in frames.grid.shape)
    if kept == frames.grid.shape:
        return frames
    grid = frames.grid
    wraps = [w and n != m for w, n, m in zip(grid.periodic, grid.shape, kept, strict=True)]
    if not all(kept) or any(wraps) or isinstance(grid, PlaneGrid):
        raise ValueError(
            f"coarsening: expected a divisor of the grid {grid.shape}, or one that leaves a part "
            f"of a grid with walls, got {factor}"
        )
    rows, cols = kept
    bounds = None if grid.lat_bounds is None else grid.lat_bounds[:rows]
    return Frames(
        variables=frames.variables,
        units=frames.units,
        grid=LatLonGrid(grid.lat[:rows], grid.lon[:cols], bounds),
        times=frames.times,
        values=frames.values[..., :rows, :cols],
        valid=frames.valid[..., :rows, :cols],
    )
