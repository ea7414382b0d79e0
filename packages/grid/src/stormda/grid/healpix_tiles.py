"""Tiles of HEALPix: squares on its twelve faces with halos that reach over their edges.

Where only three faces meet a corner of a halo has no cells: there windows hold zeros, of no
weight. The weights are those of `TileLayout`, a partition of unity.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from stormda.grid.arrays import Array, convert, gather, rearrange, zeros
from stormda.grid.axis import Floats, Ints
from stormda.grid.healpix import HealpixGrid
from stormda.grid.healpix_math import beyond
from stormda.grid.tiles import Span, hann


@dataclass(frozen=True)
class HealpixTiles:
    """A HEALPix field cut into `12 * per_edge^2` squares with halos, face by face.

    A window is (..., x, y): x grows to the north-east, y to the north-west.

    Raises:
        ValueError: `per_edge` does not divide the face, or the halo is negative or exceeds it.

    Examples:
        >>> layout = HealpixTiles(HealpixGrid(8), halo=2)
        >>> tiles = layout.split(np.ones((3, 768)))
        >>> len(tiles), tiles[0].shape, layout.merge(tiles).shape
        (12, (3, 12, 12), (3, 768))
    """

    grid: HealpixGrid
    """The grid of the fields."""

    per_edge: int = 1
    """The tiles along an edge of a face."""

    halo: int = 0
    """The width of the halo [cells]."""

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        nside = self.grid.nside
        if not 1 <= self.per_edge <= nside or nside % self.per_edge:
            raise ValueError(f"per_edge: expected a divisor of {nside}, got {self.per_edge}")
        if not 0 <= self.halo <= nside:
            raise ValueError(f"halo: expected between 0 and {nside} cells, got {self.halo}")

    def __len__(self) -> int:
        """Return the number of tiles."""
        return 12 * self.per_edge**2

    def cells(self, i: int) -> Ints:
        """Return the cells of the window of tile `i` (side, side), -1 where there is none."""
        face, inner = divmod(i, self.per_edge**2)
        side = self.grid.nside // self.per_edge
        x, y = (
            np.arange(at * side - self.halo, (at + 1) * side + self.halo)
            for at in divmod(inner, self.per_edge)
        )
        place = beyond(self.grid.nside, *np.broadcast_arrays(x[:, None], y, face))
        known = place.face >= 0
        number = self.grid.number(place._replace(face=np.where(known, place.face, 0)))
        return np.where(known, number, -1)

    def weight(self, i: int) -> Floats:
        """Return the weights of the window of tile `i` (side, side), float64."""
        cells = self.cells(i)
        return np.where(cells >= 0, self._bump / self._total[cells], 0.0)

    def take(self, x: Array, i: int) -> Array:
        """Return the window of tile `i`: (..., n) -> (..., side, side).

        Raises:
            ValueError: `x` is not on this grid.
        """
        if tuple(x.shape[-1:]) != self.grid.shape:
            raise ValueError(
                f"x: expected last dimension {self.grid.shape}, got shape {tuple(x.shape)}"
            )
        cells = self.cells(i)
        window = gather(x, np.maximum(cells, 0).ravel())
        window = rearrange(window, "... (x y) -> ... x y", x=len(cells))
        known: Array = window * convert((cells >= 0).astype(np.float64), window)
        return known

    def add(self, out: Array, i: int, y: Array) -> None:
        """Add the window `y` of tile `i`, weighted, to `out` (..., n) in place.

        Raises:
            ValueError: `y` has another shape than the window.
        """
        weight, cells = self.weight(i), self.cells(i)
        if tuple(y.shape[-2:]) != weight.shape:
            raise ValueError(
                f"y: expected last dimensions {weight.shape} of tile {i}, got {tuple(y.shape)}"
            )
        known = cells.ravel() >= 0
        flat = rearrange(y * convert(weight, y), "... x y -> ... (x y)")
        out[..., cells.ravel()[known]] += flat[..., known]  # no cell lies in a window twice

    def split(self, x: Array) -> list[Array]:
        """Return the windows of all tiles, each (..., side, side)."""
        return [self.take(x, i) for i in range(len(self))]

    def merge(self, tiles: Sequence[Array]) -> Array:
        """Return the weighted sum of the windows of all tiles (..., n), the inverse of `split`.

        Raises:
            ValueError: There is not one window for each tile, or one has another shape.
        """
        if len(tiles) != len(self):
            raise ValueError(f"tiles: expected {len(self)} windows, got {len(tiles)}")
        out = zeros((*tiles[0].shape[:-2], *self.grid.shape), like=tiles[0])
        for i, tile in enumerate(tiles):
            self.add(out, i, tile)
        return out

    @property
    def _bump(self) -> Floats:
        """The weights of a window before they are made to sum to 1."""
        side = self.grid.nside // self.per_edge
        ramp = hann(Span(0, side), Span(-self.halo, side + self.halo), self.halo)
        return np.outer(ramp, ramp)

    @cached_property
    def _total(self) -> Floats:
        """The sum of the weights of all windows at every cell (n,)."""
        total = np.zeros(self.grid.shape)
        for i in range(len(self)):
            cells = self.cells(i)
            total[cells[cells >= 0]] += self._bump[cells >= 0]
        return total
