"""Grids whose rows and columns bend: tripolar oceans, areas known by their coordinates only.

Where the map projection is known, `ProjectedGrid` finds points by arithmetic; this one searches.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stormda.grid.axis import Border, Floats
from stormda.grid.cells import sphere_coordinates
from stormda.grid.encoding import SCALES, sphere_features
from stormda.grid.fold import Fold, closes, find_fold, unique
from stormda.grid.polygons import polygon_area
from stormda.grid.projected import quads
from stormda.grid.protocol import Coordinate
from stormda.grid.quad_search import locate_in_quads
from stormda.grid.sphere import angles, checked_angles, unit_vectors

if TYPE_CHECKING:
    from scipy.spatial import cKDTree


@dataclass(frozen=True, eq=False, init=False, repr=False)
class CurvilinearGrid:
    """Rows and columns of cells at any latitudes and longitudes.

    Columns close on themselves if the step from the last to the first is like the others. Beyond
    the first and last row there is nothing, unless the cells of one of them face each other, as
    those of the last row of a tripolar ocean do: then fields go on over this `fold`. A row on the
    fold holds its cells twice; each has half of the area. Rows and columns that files repeat
    beyond that are refused, as the cyclic column of a `LatLonGrid` is.

    Args:
        lat: Latitudes (rows, cols) [degrees_north].
        lon: Longitudes (rows, cols) [degrees_east].
        corners: Latitudes and longitudes of the cells' corners, each (rows, cols, 4) in order
            round the cell, as CF bounds, or (rows + 1, cols + 1). By default they lie amid the
            centres.

    Raises:
        ValueError: Shapes differ, there are fewer than two rows or columns, a coordinate is not
            finite or out of range, or rows or columns come twice, as a whole or in part.

    Examples:
        >>> lat, lon = np.meshgrid(np.arange(40.0, 50), np.arange(0.0, 12), indexing="ij")
        >>> grid = CurvilinearGrid(lat + 0.1 * lon, lon - 0.1 * lat)
        >>> grid.shape, [float(c.round(6)) for c in grid.position(43.4, -0.3)]
        ((10, 12), [3.0, 4.0])
    """

    lat: Floats
    """Latitudes (rows, cols) [degrees_north]."""

    lon: Floats
    """Longitudes (rows, cols) [degrees_east]."""

    corners: tuple[Floats, Floats] | None
    """Latitudes and longitudes of the corners (rows, cols, 4), if given."""

    fold: Fold | None
    """Over which row, and between which columns, fields go on where it folds; None for nowhere."""

    def __init__(
        self,
        lat: ArrayLike,
        lon: ArrayLike,
        corners: tuple[ArrayLike, ArrayLike] | None = None,
    ) -> None:
        north, east = checked_angles("lat", lat), checked_angles("lon", lon)
        if north.ndim != 2 or north.shape != east.shape or min(north.shape) < 2:
            raise ValueError(
                "lat, lon: expected one shape (rows, cols) of at least 2 x 2, "
                f"got {north.shape} and {east.shape}"
            )
        object.__setattr__(self, "lat", north)
        object.__setattr__(self, "lon", east)
        given = None if corners is None else _checked_corners(corners, north.shape)
        object.__setattr__(self, "corners", given)
        rows, cols = unique(self._centres)
        repeated = self.shape[0] - (rows.stop - rows.start), self.shape[1] - cols.stop
        if any(repeated):
            raise ValueError(
                f"lat, lon: expected every cell once, got {repeated[0]} rows and {repeated[1]} "
                "columns that repeat others: take `unique_cells(lat, lon)` of the coordinates and "
                "of the fields"
            )
        object.__setattr__(self, "fold", find_fold(self._centres) if self.periodic[1] else None)

    @property
    def shape(self) -> tuple[int, int]:
        """The number of rows and columns."""
        return self.lat.shape[0], self.lat.shape[1]

    @property
    def dims(self) -> tuple[str, str]:
        """The names of the two coordinates."""
        return "lat", "lon"

    @cached_property
    def periodic(self) -> tuple[bool, bool]:
        """Whether rows (never) and columns close on themselves."""
        return False, closes(self._centres)

    @property
    def borders(self) -> tuple[tuple[Border, Border], tuple[Border, Border]]:
        """How rows and columns go on beyond the grid; a `fold` is a wall to who does not ask."""
        along = Border.WRAP if self.periodic[1] else Border.WALL
        return (Border.WALL, Border.WALL), (along, along)

    @property
    def points(self) -> tuple[Floats, Floats]:
        """Latitude and longitude of every cell (rows, cols)."""
        return self.lat, self.lon

    @cached_property
    def area(self) -> NDArray[np.float64]:
        """The share of the whole sphere of each cell (rows, cols), a polygon."""
        if self.corners is not None:
            return polygon_area(unit_vectors(*self.corners))
        return polygon_area(quads(_corners_amid(self._centres, self.periodic[1], self.fold)))

    @property
    def coordinates(self) -> dict[str, Coordinate]:
        """`lat` and `lon` along `y` and `x`, with their CF attributes."""
        return sphere_coordinates(("y", "x"), self.lat, self.lon)

    def position(self, first: ArrayLike, second: ArrayLike) -> tuple[Floats, Floats]:
        """Return the fractional row and column of points at latitude and longitude."""
        points = unit_vectors(np.asarray(first, np.float64), np.asarray(second, np.float64))
        centres, before = self._folded
        row, col = locate_in_quads(
            self._tree, centres, points.reshape(-1, 3), self.periodic[1], before
        )
        if before:  # what is nowhere must not be taken for a place over the fold
            row = np.where(col < 0, self.shape[0], row)
        return row.reshape(points.shape[:-1]), col.reshape(points.shape[:-1])

    def place(self, row: ArrayLike, col: ArrayLike) -> tuple[Floats, Floats]:
        """Return latitude and longitude at fractional rows and columns, clipped to the grid."""
        centres, before = self._folded
        rows, cols = centres.shape[:2]
        r, c = np.broadcast_arrays(np.asarray(row, np.float64), np.asarray(col, np.float64))
        r = np.clip(r + before, 0, rows - 1)
        c = np.mod(c, cols) if self.periodic[1] else np.clip(c, 0, cols - 1)
        i, j = (np.minimum(np.floor(v).astype(np.int64), n) for v, n in ((r, rows - 2), (c, cols)))
        j = j if self.periodic[1] else np.minimum(j, cols - 2)
        s, t, after = (r - i)[..., None], (c - j)[..., None], (j + 1) % cols
        low = (1 - t) * centres[i, j] + t * centres[i, after]
        high = (1 - t) * centres[i + 1, j] + t * centres[i + 1, after]
        return angles((1 - s) * low + s * high)

    def encode(
        self, first: ArrayLike, second: ArrayLike, scales: tuple[int, ...] = SCALES
    ) -> Floats:
        """Return `sphere_features` of latitude `first` and longitude `second`."""
        return sphere_features(first, second, scales)

    def to_dict(self) -> dict[str, Any]:
        """Return the coordinates as lists, for `grid_from_dict`."""
        corners = None if self.corners is None else [c.tolist() for c in self.corners]
        lat, lon = self.lat.tolist(), self.lon.tolist()
        return {"kind": "curvilinear", "lat": lat, "lon": lon, "corners": corners}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "CurvilinearGrid":
        """Rebuild a grid from `to_dict`.

        Examples:
            >>> grid = CurvilinearGrid([[0, 0], [1, 1]], [[0, 1], [0, 1]])
            >>> CurvilinearGrid.from_dict(grid.to_dict()) == grid
            True
        """
        return cls(data["lat"], data["lon"], data["corners"])

    def __eq__(self, other: object) -> bool:
        """Return whether both grids have exactly the same coordinates."""
        return isinstance(other, CurvilinearGrid) and self._key == other._key

    def __hash__(self) -> int:
        """Return a hash of the coordinates."""
        return hash(self._key)

    def __repr__(self) -> str:
        """Return the size and the corners of the range."""
        lat, lon = (f"{v.min():.6g} to {v.max():.6g}" for v in (self.lat, self.lon))
        return f"CurvilinearGrid({self.shape[0]} x {self.shape[1]}, lat {lat}, lon {lon})"

    @property
    def _key(self) -> tuple[Any, ...]:
        arrays = (self.lat, self.lon, *(self.corners or ()))
        return self.shape, *((a + 0.0).tobytes() for a in arrays)

    @cached_property
    def _centres(self) -> Floats:
        return unit_vectors(self.lat, self.lon)

    @cached_property
    def _folded(self) -> tuple[Floats, int]:
        """The centres with those of the row over the fold, and how many rows come before."""
        if self.fold is None or self.fold.in_row:
            return self._centres, 0
        over = self._centres[
            0 if self.fold.first else -1, self.fold.facing(np.arange(self.shape[1]))
        ]
        parts = [over[None], self._centres] if self.fold.first else [self._centres, over[None]]
        return np.concatenate(parts), int(self.fold.first)

    @cached_property
    def _tree(self) -> "cKDTree":
        from scipy.spatial import cKDTree  # only a search needs it, and it takes long to import

        return cKDTree(self._centres.reshape(-1, 3))


def _checked_corners(
    corners: tuple[ArrayLike, ArrayLike], shape: tuple[int, ...]
) -> tuple[Floats, Floats]:
    """Return latitudes and longitudes of corners, each (rows, cols, 4)."""
    lat, lon = (
        checked_angles(f"corner {n}", c) for n, c in zip(("lat", "lon"), corners, strict=True)
    )
    meshed = shape[0] + 1, shape[1] + 1
    if lat.shape != lon.shape or lat.shape not in ((*shape, 4), meshed):
        raise ValueError(
            f"corners: expected two of shape {(*shape, 4)} or {meshed}, "
            f"got {lat.shape} and {lon.shape}"
        )
    if lat.shape == meshed:
        stacked = quads(np.stack([lat, lon], axis=-1))
        lat, lon = stacked[..., 0], stacked[..., 1]
    return lat, lon


def _corners_amid(centres: Floats, wraps: bool, fold: Fold | None) -> Floats:
    """Return corners (rows + 1, cols + 1, 3) amid centres, beyond borders by extrapolation."""
    wide = (
        np.concatenate([centres[:, -1:], centres, centres[:, :1]], 1) if wraps else _wider(centres)
    )
    tall = np.swapaxes(_wider(np.swapaxes(wide, 0, 1)), 0, 1)
    if fold is not None:  # a row on the fold ends there
        end = 0 if fold.first else -1
        facing = fold.facing(np.arange(-1, fold.columns + 1))
        tall[end] = wide[end] if fold.in_row else centres[end, facing]
    amid = tall[:-1, :-1] + tall[:-1, 1:] + tall[1:, :-1] + tall[1:, 1:]
    return np.asarray(amid / np.linalg.norm(amid, axis=-1, keepdims=True))


def _wider(centres: Floats) -> Floats:
    """Add a column on either side, as far out as the next one is inside."""
    before = 2 * centres[:, :1] - centres[:, 1:2]
    after = 2 * centres[:, -1:] - centres[:, -2:-1]
    return np.concatenate([before, centres, after], axis=1)
