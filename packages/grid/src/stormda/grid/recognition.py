"""Which grid do these coordinates make: the kind is found, contradictions are refused.

The places of the cells decide. What a file says of itself, such as a projection or the name of a
grid, is compared with them, cell by cell, where both are there.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from stormda.grid.axis import Floats
from stormda.grid.curvilinear import CurvilinearGrid
from stormda.grid.grid_mapping import projection_from_mapping
from stormda.grid.healpix import HealpixGrid, Order
from stormda.grid.latlon import LatLonGrid
from stormda.grid.plane import PlaneGrid
from stormda.grid.points import PointGrid
from stormda.grid.projected import ProjectedGrid, quads
from stormda.grid.projection import RotatedPole
from stormda.grid.protocol import Grid
from stormda.grid.reduced import ReducedGaussianGrid
from stormda.grid.sphere import checked_angles, is_gaussian, unit_vectors

TOLERANCE = 0.1
"""How far a cell may lie from where metadata say it is [cells]."""

SAME = 1e-4
"""How far latitudes of one parallel, or longitudes of one meridian, may differ [degrees]."""

EVEN = 1e-3
"""How much the steps of a map's coordinate may differ: it may be float32 [steps]."""


def recognise(
    lat: ArrayLike,
    lon: ArrayLike,
    *,
    lat_bounds: ArrayLike | None = None,
    corners: tuple[ArrayLike, ArrayLike] | None = None,
    listed: bool | None = None,
    declared: Grid | None = None,
) -> Grid:
    """Return the grid that coordinates make.

    | `lat`, `lon` | grid |
    |---|---|
    | (rows,) and (cols,) | `LatLonGrid`: regular, with poles, Gaussian; global or regional |
    | (n,) each, `listed` | `HealpixGrid`, `ReducedGaussianGrid`, or else `PointGrid` |
    | (rows, cols) each | `LatLonGrid` if rows are parallels, or else `CurvilinearGrid` |
    | (faces, rows, cols) each | `PointGrid`, its cells face by face |

    Args:
        lat: Latitudes [degrees_north].
        lon: Longitudes [degrees_east].
        lat_bounds: The edges of each row (rows, 2) of a `LatLonGrid` [degrees_north].
        corners: Latitudes and longitudes of the cells' corners, each (..., k) round the cell, or
            one more along rows and columns.
        listed: Whether one-dimensional coordinates belong together one by one. By default they do
            if there are as many and they are not both strictly monotonic.
        declared: What metadata say the grid is, such as `projected_grid(...)` or `grid("o96")`. It
            is returned if the cells lie where it says.

    Raises:
        ValueError: The coordinates make no grid, or contradict `declared` or the bounds.

    Examples:
        >>> from stormda.grid import grid
        >>> recognise(*grid("o96").points), recognise(*grid("healpix8-ring").points).order
        (ReducedGaussianGrid(192 latitudes, 40320 points), <Order.RING: 'ring'>)
        >>> recognise(np.arange(-88.75, 90, 2.5), np.arange(0, 360, 2.5))
        LatLonGrid(72 x 144, lat -88.75 to 88.75, lon 0 to 357.5)
    """
    found = _found(lat, lon, lat_bounds, corners, listed)
    if declared is None:
        return found
    _check(declared, found)
    return declared


def _found(
    lat: ArrayLike,
    lon: ArrayLike,
    lat_bounds: ArrayLike | None,
    corners: tuple[ArrayLike, ArrayLike] | None,
    listed: bool | None,
) -> Grid:
    north, east = checked_angles("lat", lat), checked_angles("lon", lon)
    if north.ndim == 1 and east.ndim == 1:
        if _is_list(north, east) if listed is None else listed:
            return _from_list(north, east, corners)
        return LatLonGrid(north, east, lat_bounds)
    if north.ndim == 2 and north.shape == east.shape:
        return _from_rows(north, east, lat_bounds, corners)
    if north.ndim == 3 and north.shape == east.shape:
        return _from_faces(north, east, corners)
    raise ValueError(
        f"lat, lon: expected 1-D, or both of one 2-D or 3-D shape, got {north.shape} "
        f"and {east.shape}"
    )


def projected_grid(mapping: Mapping[str, Any], y: ArrayLike, x: ArrayLike) -> ProjectedGrid:
    """Return the grid of a file's `grid_mapping` attributes and its coordinates on the map.

    Args:
        mapping: The CF attributes of the `grid_mapping` variable.
        y: The rows on the map (rows,): degrees for a rotated pole, else metres.
        x: The columns on the map (cols,).

    Raises:
        ValueError: The projection is not known, or coordinates in metres do not increase evenly.

    Examples:
        >>> mapping = {"grid_mapping_name": "rotated_latitude_longitude",
        ...            "grid_north_pole_latitude": 39.25, "grid_north_pole_longitude": -162.0}
        >>> projected_grid(mapping, [-1.0, 0.0, 1.0], [0.0, 1.0]).shape
        (3, 2)
    """
    projection = projection_from_mapping(mapping)
    if isinstance(projection, RotatedPole):
        return ProjectedGrid(LatLonGrid(y, x), projection)
    rows, cols = _metres("y", y), _metres("x", x)
    base = PlaneGrid(
        (len(rows), len(cols)),
        spacing_m=(_step(rows), _step(cols)),
        periodic=(False, False),
        origin_m=(float(rows[0]), float(cols[0])),
    )
    return ProjectedGrid(base, projection)


def unique_columns(lon: ArrayLike) -> slice:
    """Return which columns to keep so that no meridian comes twice.

    Files often repeat their first columns behind the last, for plotting. Apply the slice to the
    longitudes and to the last axis of the fields.

    Args:
        lon: Longitudes (cols,) [degrees_east], eastward; may jump by 360.

    Examples:
        >>> lon = np.arange(0, 361, 10)
        >>> lon[unique_columns(lon)][-1]
        np.int64(350)
    """
    values = np.asarray(lon, np.float64)
    steps = np.mod(np.diff(values), 360)
    round_again = np.flatnonzero(np.cumsum(steps) > 360 - 0.01 * steps.min())
    return slice(0, int(round_again[0]) + 1 if round_again.size else len(values))


def _is_list(lat: Floats, lon: Floats) -> bool:
    steps, turns = np.diff(lat), np.mod(np.diff(lon), 360)
    monotonic = (steps > 0).all() or (steps < 0).all()
    return len(lat) == len(lon) and not (monotonic and (turns > 0).all() and turns.sum() < 360)


def _from_list(
    lat: Floats, lon: Floats, corners: tuple[ArrayLike, ArrayLike] | None
) -> HealpixGrid | ReducedGaussianGrid | PointGrid:
    candidates: list[HealpixGrid | ReducedGaussianGrid] = [*_healpix(len(lat)), *_reduced(lat)]
    for candidate in candidates:
        if candidate.shape == lat.shape and _distance(candidate, lat, lon).max() < TOLERANCE:
            return candidate
    return PointGrid(lat, lon, corners=corners)


def _healpix(n: int) -> list[HealpixGrid]:
    nside = round((n / 12) ** 0.5)
    if nside < 1 or 12 * nside**2 != n or nside & (nside - 1):
        return []
    return [HealpixGrid(nside, order) for order in Order]


def _reduced(lat: Floats) -> list[ReducedGaussianGrid]:
    starts = np.flatnonzero(np.abs(np.diff(lat, prepend=np.inf)) > SAME)
    if len(starts) < 2 or not is_gaussian(lat[starts]) or lat[0] < lat[-1]:
        return []
    return [ReducedGaussianGrid(tuple(np.diff([*starts, len(lat)]).tolist()))]


def _from_rows(
    lat: Floats,
    lon: Floats,
    lat_bounds: ArrayLike | None,
    corners: tuple[ArrayLike, ArrayLike] | None,
) -> LatLonGrid | CurvilinearGrid:
    if _same(lat, 1) and _same(lon, 0):
        return LatLonGrid(lat[:, 0], lon[0], lat_bounds)
    if _same(lat, 0) and _same(lon, 1):
        raise ValueError(
            "lat, lon: expected rows along parallels, got rows along meridians: transpose the "
            "coordinates and the fields"
        )
    return CurvilinearGrid(lat, lon, corners)


def _same(values: Floats, axis: int) -> bool:
    return bool((np.ptp(values, axis=axis) < SAME).all())


def _from_faces(
    lat: Floats, lon: Floats, corners: tuple[ArrayLike, ArrayLike] | None
) -> PointGrid:
    if corners is not None:
        pair = [
            checked_angles(f"corner {n}", c) for n, c in zip(("lat", "lon"), corners, strict=True)
        ]
        faces, rows, cols = lat.shape
        if pair[0].shape == (faces, rows + 1, cols + 1):
            both = np.stack(pair, axis=-1)
            around = np.stack([quads(face) for face in both]).reshape(-1, 4, 2)
            pair = [around[..., 0], around[..., 1]]
        corners = pair[0].reshape(lat.size, -1), pair[1].reshape(lat.size, -1)
    return PointGrid(lat.ravel(), lon.ravel(), corners=corners)


def _check(declared: Grid, found: Grid) -> None:
    """Refuse a grid whose cells lie elsewhere than those found."""
    if declared.shape != found.shape:
        raise ValueError(f"declared: expected shape {found.shape}, got {declared.shape}")
    distance = _distance(declared, *found.points)
    if distance.max() > TOLERANCE:
        at = np.unravel_index(int(distance.argmax()), distance.shape)
        place, said = (", ".join(f"{c[at]:.6g}" for c in g.points) for g in (found, declared))
        raise ValueError(
            f"declared: expected a grid that agrees with the coordinates, got one whose cell "
            f"{tuple(map(int, at))} lies at {said}, where lat, lon say {place}"
        )


def _distance(grid: Grid, lat: Floats, lon: Floats) -> Floats:
    """Return how far points lie from the cells of a grid [cells]."""
    apart = np.linalg.norm(unit_vectors(*grid.points) - unit_vectors(lat, lon), axis=-1)
    return np.asarray(apart / np.sqrt(4 * np.pi * np.asarray(grid.area)))


def _metres(name: str, values: ArrayLike) -> Floats:
    """Return evenly spaced, increasing metres."""
    metres = np.asarray(values, np.float64)
    steps = np.diff(metres)
    if metres.ndim != 1 or len(metres) < 2 or not (np.abs(steps / _step(metres) - 1) < EVEN).all():
        raise ValueError(f"{name}: expected increasing, evenly spaced metres (n,), n >= 2")
    return metres


def _step(metres: Floats) -> float:
    return abs(float(metres[-1] - metres[0])) / (len(metres) - 1)
