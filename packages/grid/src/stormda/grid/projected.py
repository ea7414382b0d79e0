"""Grids that are regular on a map: rotated pole, Lambert's cone, polar stereographic, any other.

Points are found by projecting them and by arithmetic on the map; no search, whatever the size.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stormda.grid.axis import Border, Floats
from stormda.grid.cells import sphere_coordinates
from stormda.grid.encoding import SCALES, sphere_features
from stormda.grid.polygons import polygon_area
from stormda.grid.projection import Projection, RotatedPole, projection_to_dict
from stormda.grid.protocol import Coordinate, Lattice
from stormda.grid.sphere import unit_vectors


@dataclass(frozen=True)
class ProjectedGrid:
    """A grid on a map and the projection that maps the sphere to it.

    Args:
        base: The grid on the map: a `LatLonGrid` of the map's own latitudes and longitudes for a
            rotated pole, a `PlaneGrid` in metres for others.
        projection: From the sphere to the map.

    Examples:
        >>> from stormda.grid import LatLonGrid
        >>> base = LatLonGrid(np.arange(-2.0, 2.1, 0.5), np.arange(-3.0, 3.1, 0.5))
        >>> grid = ProjectedGrid(base, RotatedPole(lat=39.25, lon=-162.0))
        >>> grid.shape, round(float(grid.lat[4, 6]), 6), round(float(grid.lon[4, 6]), 6)
        ((9, 13), 50.75, 18.0)
    """

    base: Lattice
    """The grid on the map."""

    projection: Projection
    """From the sphere to the map."""

    @property
    def shape(self) -> tuple[int, int]:
        """The number of rows and columns."""
        return self.base.shape

    @property
    def dims(self) -> tuple[str, str]:
        """The names of the two coordinates."""
        return "lat", "lon"

    @property
    def periodic(self) -> tuple[bool, bool]:
        """Whether rows and whether columns close on themselves."""
        return self.base.periodic

    @property
    def borders(self) -> tuple[tuple[Border, Border], tuple[Border, Border]]:
        """How rows and columns go on beyond the grid."""
        return self.base.borders

    @cached_property
    def points(self) -> tuple[Floats, Floats]:
        """Latitude and longitude of every cell (rows, cols)."""
        return self.projection.inverse(*self.base.points)

    @property
    def lat(self) -> Floats:
        """The latitude of every cell (rows, cols) [degrees_north]."""
        return self.points[0]

    @property
    def lon(self) -> Floats:
        """The longitude of every cell (rows, cols) [degrees_east]."""
        return self.points[1]

    @cached_property
    def corners(self) -> Floats:
        """The corners of every cell as unit vectors (rows + 1, cols + 1, 3)."""
        rows, cols = self.shape
        edges = np.arange(rows + 1)[:, None] - 0.5, np.arange(cols + 1)[None, :] - 0.5
        at = np.broadcast_arrays(*self.base.place(*edges))
        return unit_vectors(*self.projection.inverse(*at))

    @cached_property
    def area(self) -> NDArray[np.float64]:
        """The share of the whole sphere of each cell (rows, cols).

        A rotation keeps areas; on other maps cells are polygons with great circles for edges.
        """
        if isinstance(self.projection, RotatedPole):
            return self.base.area
        return polygon_area(quads(self.corners))

    @property
    def coordinates(self) -> dict[str, Coordinate]:
        """`lat` and `lon` along `y` and `x`, with their CF attributes."""
        return sphere_coordinates(("y", "x"), self.lat, self.lon)

    def position(self, first: ArrayLike, second: ArrayLike) -> tuple[Floats, Floats]:
        """Return the fractional row and column of points at latitude `first`, longitude `second`.

        Examples:
            >>> from stormda.grid import LatLonGrid
            >>> base = LatLonGrid([-1.0, 0.0, 1.0], [-1.0, 0.0, 1.0])
            >>> ProjectedGrid(base, RotatedPole(lat=39.25, lon=-162.0)).position([50.75], [18.0])
            (array([1.]), array([1.]))
        """
        return self.base.position(*self.projection.forward(first, second))

    def place(self, row: ArrayLike, col: ArrayLike) -> tuple[Floats, Floats]:
        """Return latitude and longitude at fractional rows and columns."""
        return self.projection.inverse(*np.broadcast_arrays(*self.base.place(row, col)))

    def encode(
        self, first: ArrayLike, second: ArrayLike, scales: tuple[int, ...] = SCALES
    ) -> Floats:
        """Return `sphere_features` of latitude `first` and longitude `second`."""
        return sphere_features(first, second, scales)

    def to_dict(self) -> dict[str, Any]:
        """Return base and projection, for `grid_from_dict`.

        Raises:
            ValueError: The projection is not one of this package.
        """
        return {
            "kind": "projected",
            "base": self.base.to_dict(),
            "projection": projection_to_dict(self.projection),
        }


def quads(corners: Floats) -> Floats:
    """Return the four corners of every cell in order: (r + 1, c + 1, 3) -> (r, c, 4, 3).

    Examples:
        >>> quads(np.zeros((3, 5, 3))).shape
        (2, 4, 4, 3)
    """
    around = corners[:-1, :-1], corners[:-1, 1:], corners[1:, 1:], corners[1:, :-1]
    return np.stack(around, axis=-2)
