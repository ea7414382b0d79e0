"""Cells anywhere on the sphere: icosahedral and other meshes, cubed spheres, lists of places."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stormda.grid.axis import Floats, Ints
from stormda.grid.cells import sphere_coordinates
from stormda.grid.curve import along_curve
from stormda.grid.encoding import SCALES, sphere_features
from stormda.grid.polygons import polygon_area, triangle_area
from stormda.grid.protocol import Coordinate
from stormda.grid.rings import table
from stormda.grid.runs import joined
from stormda.grid.sphere import checked_angles, unit_vectors
from stormda.grid.stencil import Rule, Stencil, bilinear, nearest
from stormda.grid.triangulation import Triangulation, triangulate


@dataclass(frozen=True, eq=False, init=False, repr=False)
class PointGrid:
    """A list of cells at any latitudes and longitudes.

    Fields on it are lists (..., n). Neighbours and linear interpolation are those of the Delaunay
    triangulation; where the points leave out a large part of the sphere (25 degrees around) there
    is nothing. A patch is a run of cells along a space-filling curve.

    Args:
        lat: Latitudes (n,) [degrees_north], at least four.
        lon: Longitudes (n,) [degrees_east].
        corners: Latitudes and longitudes of the cells' corners, each (n, k) in order round the
            cell, as CF bounds; cells with fewer corners repeat one.
        area: The share of the sphere of each cell (n,), if known. By default it is that of the
            corners, else that of the Voronoi cells; where points do not cover the sphere, each
            gets a third of the triangles around it.

    Raises:
        ValueError: Shapes differ, a coordinate is not finite or out of range, two points are one,
            or an area is negative.

    Examples:
        >>> from stormda.grid import grid
        >>> points = PointGrid(*grid("healpix4-ring").points)
        >>> points.shape, round(float(points.area.sum()), 12), points.neighbours()[0].tolist()
        ((192,), 1.0, [1, 3, 4, 5, -1, -1, -1])
    """

    lat: Floats
    """Latitudes (n,) [degrees_north]."""

    lon: Floats
    """Longitudes (n,) [degrees_east]."""

    corners: tuple[Floats, Floats] | None
    """Latitudes and longitudes of the corners (n, k), if given."""

    given_area: Floats | None
    """The share of the sphere of each cell (n,), if given."""

    def __init__(
        self,
        lat: ArrayLike,
        lon: ArrayLike,
        *,
        corners: tuple[ArrayLike, ArrayLike] | None = None,
        area: ArrayLike | None = None,
    ) -> None:
        north, east = checked_angles("lat", lat), checked_angles("lon", lon)
        if north.ndim != 1 or north.shape != east.shape or len(north) < 4:
            raise ValueError(
                "lat, lon: expected two 1-D lists of one length, at least 4, "
                f"got shapes {north.shape} and {east.shape}"
            )
        _check_distinct(north, east)
        object.__setattr__(self, "lat", north)
        object.__setattr__(self, "lon", east)
        object.__setattr__(self, "corners", _checked_corners(corners, len(north)))
        object.__setattr__(self, "given_area", _checked_area(area, len(north)))

    @property
    def shape(self) -> tuple[int]:
        """The number of cells."""
        return (len(self.lat),)

    @property
    def dims(self) -> tuple[str, str]:
        """The names of the two coordinates."""
        return "lat", "lon"

    @property
    def periodic(self) -> tuple[bool, bool]:
        """A list closes on itself in no direction."""
        return False, False

    @property
    def points(self) -> tuple[Floats, Floats]:
        """Latitude and longitude of every cell, (n,) each."""
        return self.lat, self.lon

    @cached_property
    def area(self) -> NDArray[np.float64]:
        """The share of the whole sphere of each cell (n,)."""
        if self.given_area is not None:
            return self.given_area
        if self.corners is not None:
            return polygon_area(unit_vectors(*self.corners))
        return _voronoi(self._xyz) if self.triangles.whole else _thirds(self.triangles)

    @cached_property
    def triangles(self) -> Triangulation:
        """The Delaunay triangulation of the points."""
        return triangulate(self._xyz)

    @property
    def coordinates(self) -> dict[str, Coordinate]:
        """`lat` and `lon` along `cell`, with their CF attributes."""
        return sphere_coordinates(("cell",), self.lat, self.lon)

    def stencil(self, first: Floats, second: Floats, rule: Rule) -> Stencil:
        """Weigh the cells around latitudes `first` and longitudes `second` (m,).

        Raises:
            ValueError: The rule is neither `nearest` nor `bilinear`, which here is linear in
                triangles.
        """
        if rule not in (nearest, bilinear):
            raise ValueError(f"method: expected bilinear or nearest on points, got {rule}")
        at = unit_vectors(first, second)
        cells, weights, inside = self.triangles.locate(at)
        if rule is nearest:
            distance, near = self.triangles.tree.query(at)
            real = near < len(self.lat)
            cells = np.where(real, near, 0)[:, None]
            inside |= real & (distance <= 2 * np.sqrt(self.area[cells[:, 0]]))  # its own size
            weights = np.ones(cells.shape)
        cells = np.where(inside[:, None], cells, 0)
        return Stencil(cells, np.where(inside[:, None], weights, 0.0), inside)

    def curve(self, cells: int) -> Ints:
        """Return the cells in an order in which runs of any length are compact (n,)."""
        return np.argsort(along_curve(self.lat, self.lon), kind="stable")

    def neighbours(self, cells: int = 1) -> Ints:
        """Return the runs of `cells` cells along the curve that touch each run (runs, k).

        Single cells are numbered as the grid is.
        """
        around = table(*self.triangles.edges(), len(self.lat))
        return around if cells == 1 else joined(around, self.curve(cells), cells)

    def encode(
        self, first: ArrayLike, second: ArrayLike, scales: tuple[int, ...] = SCALES
    ) -> Floats:
        """Return `sphere_features` of latitude `first` and longitude `second`."""
        return sphere_features(first, second, scales)

    def to_dict(self) -> dict[str, Any]:
        """Return the coordinates as lists, for `grid_from_dict`."""
        return {
            "kind": "points",
            "lat": self.lat.tolist(),
            "lon": self.lon.tolist(),
            "corners": None if self.corners is None else [c.tolist() for c in self.corners],
            "area": None if self.given_area is None else self.given_area.tolist(),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "PointGrid":
        """Rebuild a grid from `to_dict`.

        Examples:
            >>> grid = PointGrid([0, 0, 0, 90], [0, 120, 240, 0], area=[0.25] * 4)
            >>> PointGrid.from_dict(grid.to_dict()) == grid
            True
        """
        return cls(data["lat"], data["lon"], corners=data["corners"], area=data["area"])

    def __eq__(self, other: object) -> bool:
        """Return whether both grids have exactly the same cells."""
        return isinstance(other, PointGrid) and self._key == other._key

    def __hash__(self) -> int:
        """Return a hash of the cells."""
        return hash(self._key)

    def __repr__(self) -> str:
        """Return the size and the range."""
        lat, lon = (f"{v.min():.6g} to {v.max():.6g}" for v in (self.lat, self.lon))
        return f"PointGrid({len(self.lat)}, lat {lat}, lon {lon})"

    @property
    def _key(self) -> tuple[bytes, ...]:
        extra = (*(self.corners or (None, None)), self.given_area)
        arrays = (self.lat, self.lon, *extra)
        return tuple(b"" if a is None else (a + 0.0).tobytes() for a in arrays)

    @cached_property
    def _xyz(self) -> Floats:
        return unit_vectors(self.lat, self.lon)


def _voronoi(points: Floats) -> Floats:
    """Return the shares of the sphere that lie nearest to each of points (n, 3)."""
    from scipy.spatial import SphericalVoronoi

    area = SphericalVoronoi(points, threshold=1e-12).calculate_areas()
    return np.asarray(area / area.sum())  # its rounding is 1e-9 in all


def _thirds(triangles: Triangulation) -> Floats:
    """Return a third of the area of the triangles at each point, without those at guards."""
    corners = triangles.corners[triangles.real]
    area = triangle_area(*np.moveaxis(triangles.points[corners], 1, 0))
    shares = np.repeat(area / 3, 3)
    return np.asarray(np.bincount(corners.ravel(), shares, triangles.n), np.float64)


def _check_distinct(lat: Floats, lon: Floats) -> None:
    """Refuse two points in one place."""
    place = along_curve(lat, lon)
    order = np.argsort(place, kind="stable")
    same = np.flatnonzero(np.diff(place[order]) == 0)
    if same.size:
        one, two = sorted(order[same[0] : same[0] + 2].tolist())
        raise ValueError(
            f"lat, lon: expected every point once, got {lat[one]}, {lon[one]} "
            f"at index {one} and {two}"
        )


def _checked_corners(
    corners: tuple[ArrayLike, ArrayLike] | None, n: int
) -> tuple[Floats, Floats] | None:
    if corners is None:
        return None
    lat, lon = (
        checked_angles(f"corner {c}", v) for c, v in zip(("lat", "lon"), corners, strict=True)
    )
    if lat.ndim != 2 or lat.shape != lon.shape or len(lat) != n or lat.shape[1] < 3:
        raise ValueError(
            f"corners: expected two of shape ({n}, at least 3), got {lat.shape} and {lon.shape}"
        )
    return lat, lon


def _checked_area(area: ArrayLike | None, n: int) -> Floats | None:
    if area is None:
        return None
    values = np.array(area, np.float64)
    if values.shape != (n,) or not (values >= 0).all():
        raise ValueError(f"area: expected {n} shares of at least 0, got shape {values.shape}")
    values.flags.writeable = False
    return values
