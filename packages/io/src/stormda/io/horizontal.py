"""The grid of a file, named by where its cells lie.

Coordinates are checked before they become a grid, since a fill value or a NaN among them is the
commonest way in which a file lies about where its numbers belong. Where a file says both where its
cells lie and what map they are on, the two must agree.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stormda.grid import Grid, PlaneGrid, projected_grid, recognise, unique_cells, unique_columns
from stormda.io.axes import Role, is_angle
from stormda.io.coordinates import (
    Angle,
    coordinate_bounds,
    degrees,
    finite_coordinate,
    is_list_in_time,
    metres,
)

if TYPE_CHECKING:
    import xarray as xr

PERIODIC = "periodic"
"""The attribute of a y or x coordinate that says whether the plane closes on itself (1 or 0)."""

_LETTERS: dict[int, tuple[Role, ...]] = {1: ("X",), 2: ("Y", "X"), 3: ("F", "Y", "X")}


@dataclass(frozen=True, eq=False, kw_only=True)
class Horizontal:
    """The grid of a file and the names of its dimensions there."""

    grid: Grid
    """The grid."""

    dims: tuple[str, ...]
    """The dimensions of its cells: rows and columns, a list's one, or faces, rows and columns."""

    coordinates: tuple[str, ...] = ()
    """The variables that say where the cells lie."""

    warning: str = ""
    """What was left out of the file, for a warning; empty if nothing was."""

    @property
    def roles(self) -> dict[str, Role]:
        """The role of each of its dimensions."""
        return dict(zip(self.dims, _LETTERS[len(self.dims)], strict=True))


def read_horizontal(dataset: xr.Dataset, roles: Mapping[str, Role]) -> Horizontal:
    """Return the grid that the fields of a file lie on.

    Args:
        dataset: The file, undecoded.
        roles: The role of each dimension.

    Raises:
        ValueError: If there are no or several candidates, or the coordinates are not usable.
    """
    lat, lon = (_angle(dataset, which) for which in ("latitude", "longitude"))
    if lat is not None and lon is not None:
        return _sphere(dataset, lat, lon, roles)
    rows, cols = _map_axes(dataset, roles)
    if rows is not None and cols is not None:
        return _map(dataset, rows, cols)
    raise ValueError(
        "expected latitude and longitude, or y and x in metres, "
        f"got coordinates {sorted(str(name) for name in dataset.coords)}"
    )


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


def _angle(dataset: xr.Dataset, which: Angle) -> str | None:
    """Return the latitude or longitude that the fields name as their own, or else the only one."""
    named = {
        name
        for variable in dataset.variables.values()
        for name in str(variable.attrs.get("coordinates", "")).split()
        if variable.ndim > 1 and name in dataset.variables and dataset[name].ndim
    }
    others = [str(name) for name in dataset.variables if name not in named]
    own = find_angle(dataset.drop_vars(others), which, fixed=False)
    return own or find_angle(dataset, which, fixed=False)


def _sphere(dataset: xr.Dataset, lat: str, lon: str, roles: Mapping[str, Role]) -> Horizontal:
    north, east = degrees(dataset, lat, "latitude"), degrees(dataset, lon, "longitude")
    dims, others = dataset[lat].dims, dataset[lon].dims
    if north.ndim == 1 and east.ndim == 1 and dims != others:
        return _regular(dataset, lat, lon, north, east)
    if dims != others:
        raise ValueError(
            f"expected latitude and longitude along the same dimensions, got {lat!r} along {dims} "
            f"and {lon!r} along {others}"
        )
    if north.ndim == 1 and is_list_in_time(dataset, str(dims[0])):
        raise ValueError(
            f"expected cells of a grid, got {lat!r} and {lon!r} of observations along {dims} "
            "(read them with `read_observations`)"
        )
    declared = None
    rows, cols = _map_axes(dataset, roles)
    if north.ndim == 2 and rows is not None and cols is not None:
        declared = _projected(dataset, rows, cols)
    corners = _corners(dataset, lat, lon)
    warning = ""
    if north.ndim == 2 and declared is None:
        north, east, corners, warning = _unrepeated(north, east, corners)
    grid = recognise(north, east, listed=True, corners=corners, declared=declared)
    return Horizontal(
        grid=grid,
        dims=tuple(str(dim) for dim in dims),
        coordinates=(lat, lon),
        warning=warning,
    )


def _unrepeated(
    north: NDArray[np.float64],
    east: NDArray[np.float64],
    corners: tuple[NDArray[np.float64], NDArray[np.float64]] | None,
) -> tuple[
    NDArray[np.float64],
    NDArray[np.float64],
    tuple[NDArray[np.float64], NDArray[np.float64]] | None,
    str,
]:
    """Leave out the last rows and columns that repeat others, as those of tripolar oceans do."""
    rows, cols = unique_cells(north, east)
    repeated = north.shape[0] - rows.stop, north.shape[1] - cols.stop
    if rows.start or not any(repeated):
        return north, east, corners, ""
    if corners is not None:  # of each cell, or one more than there are cells
        more = corners[0].shape[0] - north.shape[0]
        first, second = (c[: rows.stop + more, : cols.stop + more] for c in corners)
        corners = first, second
    warning = (
        f"left out the last {repeated[0]} of {north.shape[0]} rows and {repeated[1]} of "
        f"{north.shape[1]} columns, which repeat others"
    )
    return north[rows, cols], east[rows, cols], corners, warning


def _regular(
    dataset: xr.Dataset,
    lat: str,
    lon: str,
    north: NDArray[np.float64],
    east: NDArray[np.float64],
) -> Horizontal:
    """Return a grid of rows and columns, without columns that come twice."""
    kept = unique_columns(east)
    repeated = len(east) - kept.stop
    warning = (
        f"longitude {lon!r}: left out the last {repeated} of {len(east)} columns, which repeat "
        "the first"
    )
    bounds = coordinate_bounds(dataset, lat, 2)
    edges = None if bounds is None else np.clip(bounds, -90.0, 90.0)
    grid = recognise(north, east[kept], lat_bounds=edges, listed=False)
    return Horizontal(
        grid=grid,
        dims=(str(dataset[lat].dims[0]), str(dataset[lon].dims[0])),
        warning=warning if repeated else "",
    )


def _corners(
    dataset: xr.Dataset, lat: str, lon: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Return the corners of the cells, if the file has them as bounds or as `corner_...`."""
    pair = []
    for name in (lat, lon):
        corner = f"corner_{name}"
        if corner in dataset.variables and dataset[corner].ndim == dataset[name].ndim:
            pair.append(finite_coordinate(dataset, corner))
        elif (bounds := coordinate_bounds(dataset, name, None)) is not None:
            pair.append(bounds)
    return (pair[0], pair[1]) if len(pair) == 2 else None


def _map_axes(dataset: xr.Dataset, roles: Mapping[str, Role]) -> tuple[str | None, str | None]:
    """Return the 1-D coordinates of rows and columns, if there is one of each."""
    found = [
        [dim for dim, role in roles.items() if role == letter and dim in dataset.variables]
        for letter in "YX"
    ]
    rows, cols = (names[0] if len(names) == 1 else None for names in found)
    return rows, cols


def _map(dataset: xr.Dataset, rows: str, cols: str) -> Horizontal:
    grid = _projected(dataset, rows, cols) or _plane(dataset, rows, cols)
    return Horizontal(grid=grid, dims=(rows, cols))


def _projected(dataset: xr.Dataset, rows: str, cols: str) -> Grid | None:
    """Return the grid that the file's `grid_mapping` says; None without one that is known.

    Projections that `stormda.grid` does not know leave the map as it is, a plane in metres.
    """
    mapping = _grid_mapping(dataset)
    if mapping is None:
        return None
    rotated = mapping.get("grid_mapping_name") == "rotated_latitude_longitude"
    read = finite_coordinate if rotated else metres
    y, x = read(dataset, rows), read(dataset, cols)
    try:
        return projected_grid(mapping, y, x)
    except ValueError as error:
        if rotated or not str(error).startswith("grid_mapping"):
            raise
        return None


def _grid_mapping(dataset: xr.Dataset) -> Mapping[str, Any] | None:
    """Return the attributes of the map that the fields name; None if they name none."""
    names = {
        str(v.attrs["grid_mapping"])
        for v in dataset.variables.values()
        if "grid_mapping" in v.attrs
    }
    found = sorted(name for name in names if name in dataset.variables)
    if len(found) > 1:
        raise ValueError(f"grid_mapping: expected one map for all variables, got {found}")
    return dataset[found[0]].attrs if found else None


def _plane(dataset: xr.Dataset, rows: str, cols: str) -> PlaneGrid:
    y, x = metres(dataset, rows), metres(dataset, cols)
    return PlaneGrid(
        (len(y), len(x)),
        spacing_m=(_step(y), _step(x)),
        periodic=(_closes(dataset, rows), _closes(dataset, cols)),
        origin_m=(float(y[0]), float(x[0])),
    )


def _closes(dataset: xr.Dataset, name: str) -> bool:
    return bool(dataset[name].attrs.get(PERIODIC, 0))


def _step(values: NDArray[np.float64]) -> float:
    return abs(float(values[-1] - values[0])) / (len(values) - 1)
