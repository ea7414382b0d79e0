"""Latitude-longitude grids: regular, with poles, Gaussian; global or regional; any convention."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stormda.grid.axis import Axis, Border, Floats, midpoint_edges
from stormda.grid.encoding import SCALES, sphere_features
from stormda.grid.protocol import Coordinate
from stormda.grid.sphere import POLE_TOLERANCE, band_area, latitude_edges, snap_to_poles

SEAM_TOLERANCE = 0.25
"""How much wider than the widest column the gap at the seam of a global grid may be [1]."""


@dataclass(frozen=True, eq=False, init=False, repr=False)
class LatLonGrid:
    """The cells around every pair of a latitude and a longitude.

    The grid is periodic in longitude if its columns go all the way round, whatever the longitude
    it starts at. Where it is, and its outer band ends at a pole, rows go on over the pole.
    Cells are bounded by `lat_bounds` if given, by the bands of Gaussian quadrature if the
    latitudes are Gaussian, and else halfway between rows and columns.

    Args:
        lat: Latitudes (rows,) [degrees_north], at least two, increasing or decreasing.
        lon: Longitudes (cols,) [degrees_east], at least two, eastward; may jump by 360 once.
        lat_bounds: The edges of each row (rows, 2) [degrees_north], touching one another.

    Raises:
        ValueError: A coordinate is not one-dimensional, not finite, out of range, repeated or not
            monotonic, or the last column repeats the first.

    Examples:
        >>> grid = LatLonGrid(np.arange(-87.5, 90, 5), np.arange(0, 360, 5))
        >>> grid.shape, grid.periodic, round(float(grid.area.sum()), 12)
        ((36, 72), (False, True), 1.0)
    """

    lat: Floats
    """Latitudes (rows,) [degrees_north], as given."""

    lon: Floats
    """Longitudes (cols,) [degrees_east], as given."""

    lat_bounds: Floats | None
    """The edges of each row (rows, 2) [degrees_north], if given."""

    def __init__(
        self, lat: ArrayLike, lon: ArrayLike, lat_bounds: ArrayLike | None = None
    ) -> None:
        object.__setattr__(self, "lat", _latitudes(lat))
        object.__setattr__(self, "lon", _longitudes(lon))
        bounds = None if lat_bounds is None else _bounds(lat_bounds, self.lat)
        object.__setattr__(self, "lat_bounds", bounds)

    @property
    def shape(self) -> tuple[int, int]:
        """The number of latitudes and longitudes."""
        return len(self.lat), len(self.lon)

    @property
    def dims(self) -> tuple[str, str]:
        """The names of the two directions."""
        return "lat", "lon"

    @property
    def periodic(self) -> tuple[bool, bool]:
        """Whether rows (never) and columns close on themselves."""
        return False, self.cols.wraps

    @property
    def borders(self) -> tuple[tuple[Border, Border], tuple[Border, Border]]:
        """How rows and columns go on beyond the grid."""
        return self.rows.borders, self.cols.borders

    @cached_property
    def rows(self) -> Axis:
        """The latitudes as an axis [degrees_north]."""
        if self.lat_bounds is None:
            edges = latitude_edges(self.lat)
        else:
            pairs = np.sort(self.lat_bounds, axis=1)[:, :: 1 if self.lat[0] < self.lat[-1] else -1]
            edges = snap_to_poles(np.array([*pairs[:, 0], pairs[-1, 1]]))
        first, last = (self._row_border(end, edges[end]) for end in (0, -1))
        return Axis(values=self.lat, edges=edges, borders=(first, last))

    @cached_property
    def cols(self) -> Axis:
        """The longitudes, unrolled at the date line, as an axis [degrees_east]."""
        lon = _unrolled(self.lon)
        gap = 360 - (lon[-1] - lon[0])
        if gap > np.diff(lon).max() * (1 + SEAM_TOLERANCE):
            wall = Border.WALL, Border.WALL
            return Axis(values=lon, edges=midpoint_edges(lon), borders=wall, period=360.0)
        edges = np.array([lon[0] - gap / 2, *(lon[:-1] + lon[1:]) / 2, lon[-1] + gap / 2])
        wrap = Border.WRAP, Border.WRAP
        return Axis(values=lon, edges=edges, borders=wrap, period=360.0)

    @cached_property
    def area(self) -> NDArray[np.float64]:
        """The share of the whole sphere of each cell (rows, cols); 1 in all for a global grid."""
        area = np.outer(band_area(self.rows.edges), np.diff(self.cols.edges) / 360)
        area.flags.writeable = False
        return area

    @property
    def points(self) -> tuple[Floats, Floats]:
        """The two coordinates of every cell, each (rows, cols)."""
        first, second = np.meshgrid(self.lat, self.lon, indexing="ij")
        return first, second

    @property
    def coordinates(self) -> dict[str, Coordinate]:
        """`lat` and `lon` with their CF attributes."""
        north = {"standard_name": "latitude", "units": "degrees_north", "axis": "Y"}
        east = {"standard_name": "longitude", "units": "degrees_east", "axis": "X"}
        return {
            "lat": Coordinate(("lat",), self.lat, north),
            "lon": Coordinate(("lon",), self.lon, east),
        }

    def position(self, first: ArrayLike, second: ArrayLike) -> tuple[Floats, Floats]:
        """Return the fractional row and column of points at latitude `first`, longitude `second`.

        Examples:
            >>> LatLonGrid([10.0, 20.0], [-10.0, 0.0, 10.0]).position([12.5], [355.0])
            (array([0.25]), array([0.5]))
        """
        return self.rows.position(first), self.cols.position(second)

    def place(self, row: ArrayLike, col: ArrayLike) -> tuple[Floats, Floats]:
        """Return latitude and longitude at fractional rows and columns.

        Examples:
            >>> LatLonGrid([10.0, 20.0], [-10.0, 0.0, 10.0]).place([0.25], [0.5])
            (array([12.5]), array([-5.]))
        """
        return self.rows.place(row), self.cols.place(col)

    def encode(
        self, first: ArrayLike, second: ArrayLike, scales: tuple[int, ...] = SCALES
    ) -> Floats:
        """Return `sphere_features` of latitude `first` and longitude `second`."""
        return sphere_features(first, second, scales)

    def to_dict(self) -> dict[str, Any]:
        """Return the coordinates as lists, for `grid_from_dict`."""
        bounds = None if self.lat_bounds is None else self.lat_bounds.tolist()
        lat, lon = self.lat.tolist(), self.lon.tolist()
        return {"kind": "latlon", "lat": lat, "lon": lon, "lat_bounds": bounds}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "LatLonGrid":
        """Rebuild a grid from `to_dict`.

        Examples:
            >>> grid = LatLonGrid([10, 20], [0, 10, 20])
            >>> LatLonGrid.from_dict(grid.to_dict()) == grid
            True
        """
        return cls(data["lat"], data["lon"], data["lat_bounds"])

    def __eq__(self, other: object) -> bool:
        """Return whether both grids have exactly the same coordinates."""
        return isinstance(other, LatLonGrid) and self._key == other._key

    def __hash__(self) -> int:
        """Return a hash of the coordinates."""
        return hash(self._key)

    def __repr__(self) -> str:
        """Return the size and the first and last coordinates."""
        lat, lon = (f"{v[0]:.6g} to {v[-1]:.6g}" for v in (self.lat, self.lon))
        return f"LatLonGrid({self.shape[0]} x {self.shape[1]}, lat {lat}, lon {lon})"

    @property
    def _key(self) -> tuple[bytes, ...]:
        arrays = self.lat, self.lon, self.lat_bounds
        return tuple(b"" if a is None else (a + 0.0).tobytes() for a in arrays)  # -0.0 is 0.0

    def _row_border(self, end: int, edge: float) -> Border:
        if not self.cols.wraps or abs(edge) < 90:
            return Border.WALL
        return Border.POLE_ROW if _at_pole(self.lat[end]) else Border.POLE_EDGE


def _at_pole(lat: float) -> bool:
    return abs(lat) > 90 - POLE_TOLERANCE


def _unrolled(lon: Floats) -> Floats:
    """Add 360 degrees behind every step back, so that the values increase over the date line."""
    return lon + 360 * np.cumsum(np.diff(lon, prepend=lon[0]) < 0)


def _finite(name: str, values: ArrayLike) -> Floats:
    """Return a read-only float64 copy of coordinates that are finite, (n,) with n >= 2."""
    array = np.array(values, np.float64)
    if array.ndim != 1 or array.size < 2:
        raise ValueError(f"{name}: expected at least 2 values in 1-D, got shape {array.shape}")
    if not np.isfinite(array).all():
        index = int(np.flatnonzero(~np.isfinite(array))[0])
        raise ValueError(f"{name}: expected finite degrees, got {array[index]} at index {index}")
    array.flags.writeable = False
    return array


def _latitudes(values: ArrayLike) -> Floats:
    lat = _finite("lat", values)
    if (np.abs(lat) > 90).any():
        index = int(np.argmax(np.abs(lat) > 90))
        raise ValueError(f"lat: expected degrees in [-90, 90], got {lat[index]} at index {index}")
    steps = np.diff(lat) * (1.0 if lat[-1] > lat[0] else -1.0)
    if (steps <= 0).any():
        index = int(np.argmax(steps <= 0)) + 1
        raise ValueError(
            "lat: expected strictly increasing or decreasing values, "
            f"got {lat[index]} after {lat[index - 1]} at index {index}"
        )
    return lat


def _longitudes(values: ArrayLike) -> Floats:
    lon = _finite("lon", values)
    steps = np.diff(_unrolled(lon))
    if ((steps <= 0) | (steps > 180)).any():
        index = int(np.argmax((steps <= 0) | (steps > 180))) + 1
        raise ValueError(
            "lon: expected values that increase eastward by at most 180 degrees, "
            f"got {lon[index]} after {lon[index - 1]} at index {index}"
        )
    if steps.sum() > 360 - 0.01 * steps.min():
        raise ValueError(
            "lon: expected every meridian once, got "
            f"{lon[-1]} at the end, which goes round to {lon[0]} again: drop the last column"
        )
    return lon


def _bounds(values: ArrayLike, lat: Floats) -> Floats:
    bounds = np.array(values, np.float64)
    if bounds.shape != (len(lat), 2):
        raise ValueError(f"lat_bounds: expected shape {(len(lat), 2)}, got {bounds.shape}")
    low, high = bounds.min(1), bounds.max(1)
    inside = (low <= lat) & (lat <= high) & (low < high) & (low >= -90) & (high <= 90)
    if not inside.all():
        index = int(np.argmin(inside))
        raise ValueError(
            f"lat_bounds: expected edges around lat {lat[index]} within [-90, 90], "
            f"got {bounds[index].tolist()} at index {index}"
        )
    gaps = np.abs(low[1:] - high[:-1] if lat[0] < lat[-1] else low[:-1] - high[1:])
    if (gaps > POLE_TOLERANCE).any():
        index = int(np.argmax(gaps > POLE_TOLERANCE))
        raise ValueError(
            "lat_bounds: expected bands that touch, got "
            f"{bounds[index].tolist()} before {bounds[index + 1].tolist()} at index {index}"
        )
    bounds.flags.writeable = False
    return bounds
