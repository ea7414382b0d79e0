"""Linear maps between grids, or from a grid to points, as sparse matrices with their adjoints.

A map works on NumPy arrays and on torch tensors of any device and precision, differentiably:
the gradient of `y = A x` with respect to x is `A^T`, which is also there as `adjoint`.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from stormda.grid.arrays import Array
from stormda.grid.axis import Floats
from stormda.grid.latlon import LatLonGrid
from stormda.grid.protocol import Grid
from stormda.grid.stencil import Rule, bilinear, locate

if TYPE_CHECKING:
    from scipy.sparse import csr_array


@dataclass(frozen=True, eq=False)
class SparseOperator:
    """A sparse matrix that maps fields (..., *source) to fields (..., *target).

    Examples:
        >>> from stormda.grid import grid
        >>> g = grid("10deg")
        >>> observe = interpolation(g, lat=[50.0, 51.0], lon=[10.0, 12.0])
        >>> observe(np.ones((3, *g.shape))).shape, observe.adjoint(np.ones((3, 2))).shape
        ((3, 2), (3, 18, 36))
    """

    matrix: "csr_array"
    """The weights (targets, sources)."""

    source: tuple[int, ...]
    """The shape of what is mapped."""

    target: tuple[int, ...]
    """The shape of what it is mapped to."""

    _tensors: dict[Any, Any] = field(default_factory=dict, init=False, repr=False)
    """Rows, columns and weights as tensors, by device and precision."""

    def __call__(self, x: Array) -> Array:
        """Map fields (..., *source) to (..., *target), in their precision.

        Raises:
            ValueError: `x` has other last dimensions.
        """
        return self._apply(x, self.source, self.target, transpose=False)

    def adjoint(self, y: Array) -> Array:
        """Map fields (..., *target) to (..., *source) by the transposed matrix.

        Raises:
            ValueError: `y` has other last dimensions.
        """
        return self._apply(y, self.target, self.source, transpose=True)

    def _apply(
        self, x: Array, source: tuple[int, ...], target: tuple[int, ...], *, transpose: bool
    ) -> Array:
        lead = len(x.shape) - len(source)
        if lead < 0 or tuple(x.shape[lead:]) != source:
            raise ValueError(f"x: expected last dimensions {source}, got {tuple(x.shape)}")
        flat: Any = x.reshape(-1, int(np.prod(source)))
        if isinstance(x, np.ndarray):
            matrix = self.matrix.T if transpose else self.matrix
            out = (matrix.astype(x.dtype, copy=False) @ flat.T).T
        else:
            rows, cols, weights = self._as_tensors(flat)
            rows, cols = (cols, rows) if transpose else (rows, cols)
            out = flat.new_zeros(len(flat), int(np.prod(target)))
            out = out.index_add(1, rows, flat.index_select(1, cols) * weights)
        mapped: Array = out.reshape(tuple(x.shape[:lead]) + target)
        return mapped

    def _as_tensors(self, like: Any) -> tuple[Any, Any, Any]:  # noqa: ANN401
        key = like.device, like.dtype
        if key not in self._tensors:
            import torch

            entries = self.matrix.tocoo()
            rows, cols = (torch.as_tensor(i.astype(np.int64)) for i in entries.coords)
            weights = torch.as_tensor(entries.data, dtype=like.dtype)
            self._tensors[key] = tuple(t.to(like.device) for t in (rows, cols, weights))
        tensors: tuple[Any, Any, Any] = self._tensors[key]
        return tensors


def interpolation(
    grid: Grid, lat: ArrayLike, lon: ArrayLike, method: Rule = bilinear
) -> SparseOperator:
    """Return the map from fields on a grid to their values at points.

    Args:
        grid: The grid; on a plane the coordinates are y and x [m].
        lat: Latitudes of the points (m,) [degrees_north].
        lon: Longitudes of the points (m,) [degrees_east].
        method: `bilinear`, `nearest` or another rule.

    Returns:
        The map (*grid.shape) -> (m,); points outside become 0 (see `locate(...).inside`).

    Raises:
        ValueError: The coordinates cannot be looked up.

    Examples:
        >>> from stormda.grid import grid
        >>> g = grid("10deg")
        >>> at_points = interpolation(g, [52.5, -10.0], [4.0, 181.0])
        >>> at_points(np.broadcast_to(g.lat[:, None], g.shape)).round(6)
        array([ 52.5, -10. ])
    """
    stencil = locate(grid, lat, lon, method)
    sources = int(np.prod(grid.shape))
    return SparseOperator(stencil.matrix(sources), grid.shape, (len(stencil.cells),))


def regridding(source: Grid, target: Grid, method: Rule = bilinear) -> SparseOperator:
    """Return the map from fields on one grid to their values at the cells of another.

    Returns:
        The map (*source.shape) -> (*target.shape).

    Examples:
        >>> from stormda.grid import grid
        >>> to_healpix = regridding(grid("10deg"), grid("healpix8"))
        >>> to_healpix(np.ones((18, 36))).shape
        (768,)
    """
    lat, lon = (np.asarray(c).ravel() for c in target.points)
    to_points = interpolation(source, lat, lon, method)
    return SparseOperator(to_points.matrix, source.shape, target.shape)


def conservative(source: LatLonGrid, target: LatLonGrid) -> SparseOperator:
    """Return the map from area means on one grid to area means on another.

    The weight of a source cell is its share of the part of the target cell that the source covers,

        w_ij = |S_j with T_i| / |S with T_i|,

    so that where the source covers the target `sum_i |T_i| y_i = sum_j |S_j| x_j`.

    Source: Jones (1999), Mon. Wea. Rev. 127, 2204, eq. 3, with a first-order reconstruction.

    Args:
        source: The grid of the fields.
        target: The grid wanted; may be finer, coarser, regional, of another convention.

    Returns:
        The map (*source.shape) -> (*target.shape); target cells that the source does not touch
        become 0.

    Examples:
        >>> from stormda.grid import grid
        >>> fine, coarse = grid("1deg"), grid("5deg-poles")
        >>> x = np.random.default_rng(0).random(fine.shape)
        >>> means = conservative(fine, coarse)(x)
        >>> bool(np.isclose((coarse.area * means).sum(), (fine.area * x).sum(), rtol=1e-12))
        True
    """
    from scipy.sparse import csr_array, diags_array, kron

    rows = _overlap(np.sin(np.radians(source.rows.edges)), np.sin(np.radians(target.rows.edges)))
    cols = sum(
        _overlap(source.cols.edges + turn, target.cols.edges) for turn in (-720, -360, 0, 360, 720)
    )
    shared = csr_array(kron(csr_array(rows), csr_array(cols), format="csr"))
    covered = shared.sum(axis=1)
    scale = np.divide(1, covered, out=np.zeros_like(covered), where=covered > 0)
    return SparseOperator(csr_array(diags_array(scale) @ shared), source.shape, target.shape)


def _overlap(source: Floats, target: Floats) -> Floats:
    """Return the lengths that intervals of two lists of edges share (targets, sources)."""
    (low, high), (start, stop) = (
        (np.minimum(e[:-1], e[1:]), np.maximum(e[:-1], e[1:])) for e in (source, target)
    )
    shared = np.minimum(high, stop[:, None]) - np.maximum(low, start[:, None])
    return np.where(shared > 1e-13 * np.ptp(target), shared, 0.0)  # touching edges are rounding
