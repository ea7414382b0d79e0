"""The horizontal grid of a file: latitude and longitude, or y and x in metres.

Coordinates are checked before they become a grid, since a fill value or a NaN among them is the
commonest way in which a file lies about where its numbers belong.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from stormda.grid import LatLonGrid, PlaneGrid
from stormda.io.axes import Role, is_angle
from stormda.io.decoding import decode_exactly
from stormda.io.units import convert, parse_unit

PERIODIC = "periodic"
"""The attribute of a y or x coordinate that says whether the plane closes on itself (1 or 0)."""

EVEN = 1e-3
"""How much the steps of a plane's coordinate may differ: it may be float32 [steps]."""

_LIMITS = {"latitude": (-90.0, 90.0), "longitude": (-360.0, 720.0)}

Angle = Literal["latitude", "longitude"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Horizontal:
    """The grid of a file and the names of its two dimensions there."""

    grid: LatLonGrid | PlaneGrid
    """The grid."""

    rows: str
    """The dimension of the rows: latitude, or y."""

    cols: str
    """The dimension of the columns: longitude, or x."""


def read_horizontal(dataset: xr.Dataset, roles: Mapping[str, Role]) -> Horizontal:
    """Return the grid that the fields of a file lie on.

    Args:
        dataset: The file, undecoded.
        roles: The role of each dimension.

    Raises:
        ValueError: If there are no or several candidates, or the coordinates are not usable.
    """
    lat, lon = (find_angle(dataset, which, fixed=False) for which in ("latitude", "longitude"))
    if lat is not None and lon is not None:
        return _sphere(dataset, lat, lon)
    rows, cols = (
        [dim for dim, role in roles.items() if role == letter and dim in dataset.variables]
        for letter in "YX"
    )
    if len(rows) == len(cols) == 1:
        return _plane(dataset, rows[0], cols[0])
    raise ValueError(
        "expected 1-D latitude and longitude, or y and x in metres, "
        f"got coordinates {sorted(str(name) for name in dataset.coords)}"
    )


def finite_coordinate(dataset: xr.Dataset, name: str) -> NDArray[np.float64]:
    """Return a coordinate in float64, refusing missing values.

    Raises:
        ValueError: If a value is NaN, infinite, or a fill value.
    """
    values, valid = decode_exactly(dataset[name].values, dataset[name].attrs)
    bad = ~valid | ~np.isfinite(values)
    if bad.any():
        index = tuple(int(i) for i in np.argwhere(bad)[0])
        raise ValueError(
            f"coordinate {name!r}: expected finite numbers, got {int(bad.sum())} missing, "
            f"the first at index {index}"
        )
    return values


def find_angle(dataset: xr.Dataset, which: Angle, *, fixed: bool) -> str | None:
    """Return the variable that is the latitude or longitude; an axis goes before others.

    Args:
        dataset: The file, undecoded.
        which: The angle.
        fixed: Whether a single number will do, such as a station's.

    Raises:
        ValueError: If there are several.
    """
    names = [
        str(name)
        for name, variable in dataset.variables.items()
        if (variable.ndim or fixed) and is_angle(variable, str(name), which)
    ]
    axes = [name for name in names if dataset[name].dims == (name,)] or names
    if len(axes) > 1:
        raise ValueError(f"{which}: expected one coordinate, got {axes}")
    return axes[0] if axes else None


def _sphere(dataset: xr.Dataset, lat: str, lon: str) -> Horizontal:
    north, east = _degrees(dataset, lat, "latitude"), _degrees(dataset, lon, "longitude")
    if north.ndim != 1 or east.ndim != 1 or dataset[lat].dims == dataset[lon].dims:
        raise ValueError(
            f"expected latitude and longitude along one dimension each, got {lat!r} along "
            f"{dataset[lat].dims} and {lon!r} along {dataset[lon].dims} "
            "(a curvilinear grid or a list of points)"
        )
    grid = LatLonGrid(north, east, _lat_bounds(dataset, lat))
    return Horizontal(grid=grid, rows=str(dataset[lat].dims[0]), cols=str(dataset[lon].dims[0]))


def _degrees(dataset: xr.Dataset, name: str, which: Angle) -> NDArray[np.float64]:
    """Return a latitude or longitude in degrees, within the range that it can have."""
    units = str(dataset[name].attrs.get("units", "degrees"))
    degrees = convert(finite_coordinate(dataset, name), units, "degree")
    low, high = _LIMITS[which]
    if degrees.size and (degrees.min() < low or degrees.max() > high):
        raise ValueError(
            f"{which} {name!r}: expected degrees between {low:g} and {high:g}, "
            f"got {degrees.min():g} to {degrees.max():g}"
        )
    return degrees


def _lat_bounds(dataset: xr.Dataset, lat: str) -> NDArray[np.float64] | None:
    """Return the edges of the rows that the file gives, none beyond a pole."""
    name = str(dataset[lat].attrs.get("bounds", ""))
    if name not in dataset.variables or dataset[name].shape != (dataset[lat].size, 2):
        return None
    return np.clip(finite_coordinate(dataset, name), -90.0, 90.0)


def _plane(dataset: xr.Dataset, rows: str, cols: str) -> Horizontal:
    y, x = _metres(dataset, rows), _metres(dataset, cols)
    grid = PlaneGrid(
        (len(y), len(x)),
        spacing_m=(_step(y), _step(x)),
        periodic=(_closes(dataset, rows), _closes(dataset, cols)),
        origin_m=(float(y[0]), float(x[0])),
    )
    return Horizontal(grid=grid, rows=rows, cols=cols)


def _closes(dataset: xr.Dataset, name: str) -> bool:
    return bool(dataset[name].attrs.get(PERIODIC, 0))


def _metres(dataset: xr.Dataset, name: str) -> NDArray[np.float64]:
    """Return evenly spaced, increasing metres."""
    units = str(dataset[name].attrs.get("units", ""))
    if parse_unit(units).dimension != {"m": 1}:
        raise ValueError(
            f"coordinate {name!r}: expected latitude or longitude in degrees, or metres, "
            f"got units {units!r}"
        )
    metres = convert(finite_coordinate(dataset, name), units, "m")
    if len(metres) < 2 or not np.allclose(np.diff(metres) / _step(metres), 1, rtol=0, atol=EVEN):
        raise ValueError(
            f"coordinate {name!r}: expected increasing, evenly spaced metres, "
            f"got {len(metres)} values from {metres[0]:g} to {metres[-1]:g}"
        )
    return metres


def _step(metres: NDArray[np.float64]) -> float:
    return abs(float(metres[-1] - metres[0])) / (len(metres) - 1)
