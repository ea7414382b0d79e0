"""From cells to points: interpolation stencils for observations.

A rule weighs the cells around a fractional cell number along one direction; a stencil is its
product over rows and columns. It goes round the seam, over a pole to the opposite meridian, over a
fold to the column that faces it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from stormda.grid.axis import Bools, Floats, Ints, resolve
from stormda.grid.fold import fold_of, row_borders
from stormda.grid.protocol import Grid, Lattice, is_lattice, is_list

if TYPE_CHECKING:
    from scipy.sparse import csr_array

CHUNK = 8192
"""The points that are worked on at a time, so that what they need stays in the cache."""

Rule = Callable[[Floats], tuple[Ints, Floats]]
"""Fractional cell numbers (...) -> whole ones and their weights (..., k), which sum to 1."""


def bilinear(position: Floats) -> tuple[Ints, Floats]:
    """Weigh the two cells on either side, linearly; along both directions this is bilinear.

    Args:
        position: Fractional cell numbers (...).

    Returns:
        Cell numbers and weights (..., 2).

    Examples:
        >>> bilinear(np.array([1.25]))
        (array([[1, 2]]), array([[0.75, 0.25]]))
    """
    low = np.floor(position)
    cells, weights = np.empty((*low.shape, 2), np.int64), np.empty((*low.shape, 2))
    cells[..., 0], cells[..., 1] = low, low + 1
    weights[..., 1] = position - low
    weights[..., 0] = 1 - weights[..., 1]
    return cells, weights


def nearest(position: Floats) -> tuple[Ints, Floats]:
    """Take the cell that holds the point.

    Args:
        position: Fractional cell numbers (...).

    Returns:
        Cell numbers and weights (..., 1).

    Examples:
        >>> nearest(np.array([1.25]))
        (array([[1]]), array([[1.]]))
    """
    cells = np.floor(position + 0.5).astype(np.int64)[..., None]
    return cells, np.ones(cells.shape)


class Stencil(NamedTuple):
    """The cells that each of m points is made of."""

    cells: Ints
    """Cell numbers (m, k), row by row: `row * columns + column`."""

    weights: Floats
    """Their weights (m, k): they sum to 1 for a point inside, and are all 0 outside."""

    inside: Bools
    """Which points (m,) the grid covers."""

    def matrix(self, n_cells: int) -> csr_array:
        """Return the interpolation as a sparse matrix (m, n_cells).

        Examples:
            >>> from stormda.grid import LatLonGrid
            >>> stencil = locate(LatLonGrid([0, 1], [10, 11, 12]), [0.5], [10.25])
            >>> stencil.matrix(6).toarray()
            array([[0.375, 0.125, 0.   , 0.375, 0.125, 0.   ]])
        """
        from scipy.sparse import csr_array

        m, k = self.cells.shape
        starts = k * np.arange(m + 1)
        matrix = csr_array((self.weights.ravel(), self.cells.ravel(), starts), shape=(m, n_cells))
        matrix.sum_duplicates()
        matrix.eliminate_zeros()
        return matrix


def locate(grid: Grid, lat: ArrayLike, lon: ArrayLike, method: Rule = bilinear) -> Stencil:
    """Find the cells around points and their weights.

    Bilinear stencils cover a regional grid between its outermost cell centres, nearest ones to its
    outermost cell edges. Points outside are flagged, not extrapolated.

    Args:
        grid: The grid; on a plane the coordinates are y and x [m].
        lat: Latitudes of the points (m,) [degrees_north].
        lon: Longitudes of the points (m,) [degrees_east], in any convention.
        method: `bilinear`, `nearest` or another rule.

    Returns:
        The stencil. Over a pole it is exact for evenly spaced longitudes.

    Raises:
        ValueError: The coordinates are not two lists of one length, not finite, or no latitudes.

    Examples:
        >>> from stormda.grid import grid
        >>> stencil = locate(grid("1deg"), lat=[89.9], lon=[0.5])
        >>> stencil.cells, stencil.weights.round(2)
        (array([[180, 181,   0,   1]]), array([[0.4, 0. , 0.6, 0. ]]))
    """
    first, second = _points(grid, lat, lon)
    if is_list(grid):
        return grid.stencil(first, second, method)
    if is_lattice(grid):
        return lattice_stencil(grid, first, second, method)
    raise TypeError(f"grid: expected a Lattice or Cells, got {type(grid).__name__}")


def lattice_stencil(grid: Lattice, first: Floats, second: Floats, rule: Rule) -> Stencil:
    """Weigh the cells of rows and columns around points (m,): the product of both directions.

    Examples:
        >>> from stormda.grid import LatLonGrid
        >>> lattice_stencil(LatLonGrid([0, 1], [10, 11]), np.zeros(1), np.full(1, 10.5), nearest)
        Stencil(cells=array([[1]]), weights=array([[1.]]), inside=array([ True]))
    """
    m, k = len(first), rule(np.zeros(1))[0].shape[-1] ** 2
    cells, weights = np.empty((m, k), np.int64), np.empty((m, k))
    inside = np.empty(m, bool)
    for start in range(0, m, CHUNK):
        part = slice(start, start + CHUNK)
        cells[part], weights[part], inside[part] = _products(grid, first[part], second[part], rule)
    return Stencil(cells, weights, inside)


def _products(
    grid: Lattice, first: Floats, second: Floats, rule: Rule
) -> tuple[Ints, Floats, Bools]:
    """Return cells (m, k), weights (m, k) and what is inside (m,) for a few points."""
    (rows, cols), borders_x, fold = grid.shape, grid.borders[1], fold_of(grid)
    position_y, position_x = grid.position(first, second)
    row, weight_y = rule(position_y)
    row, turned, inside_y = resolve(row, rows, row_borders(grid))
    if turned.any():
        here = position_x[:, None]
        there = here + cols / 2 if fold is None else fold.facing(here)
        col, weight_x = rule(np.where(turned, there, here))
        col, _, inside_x = resolve(col, cols, borders_x)
    else:
        one, weight_x = rule(position_x)
        one, _, inside_x = resolve(one, cols, borders_x)
        col, weight_x, inside_x = one[:, None], weight_x[:, None], inside_x[:, None]
    m, k = len(first), row.shape[1] * col.shape[2]
    weights = (weight_y[:, :, None] * weight_x).reshape(m, k)
    cells = ((row * cols)[:, :, None] + col).reshape(m, k)
    if inside_y.all() and inside_x.all():
        return cells, weights, np.ones(m, bool)
    known = (inside_y[:, :, None] & inside_x).reshape(m, k)
    inside = (known | (weights == 0)).all(axis=1)
    return cells, np.where(inside[:, None], weights, 0.0), inside


def _points(grid: Grid, first: ArrayLike, second: ArrayLike) -> tuple[Floats, Floats]:
    """Return two lists of coordinates that can be looked up."""
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    name, other = grid.dims
    if a.ndim != 1 or a.shape != b.shape:
        raise ValueError(
            f"{name}, {other}: expected two 1-D lists of one length, got {a.shape} and {b.shape}"
        )
    for label, values in ((name, a), (other, b)):
        bad = ~np.isfinite(values) | ((label == "lat") & (np.abs(values) > 90))
        if bad.any():
            at = int(np.argmax(bad))
            wanted = "degrees in [-90, 90]" if label == "lat" else "finite values"
            raise ValueError(f"{label}: expected {wanted}, got {values[at]} at index {at}")
    return a, b
