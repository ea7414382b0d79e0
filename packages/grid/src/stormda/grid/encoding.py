"""Where and when a token is, in numbers that do not know the resolution.

Positions on the sphere enter as sines and cosines of the unit vector at several scales: continuous
over the date line and the poles. Positions on the plane enter as harmonics of the domain. Times
enter as phases of the year, of the UTC day and of the local solar day.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stormda.grid.axis import Floats
from stormda.grid.patching import Patching
from stormda.grid.protocol import Grid
from stormda.grid.sphere import unit_vectors

SCALES = (1, 2, 4, 8)
"""The wave numbers of the position features: finest half-wave about 20 degrees."""


def waves(phase: Floats) -> Floats:
    """Return the sine and cosine of `phase` (..., k) [radians], one after the other (..., 2 k).

    Examples:
        >>> waves(np.array([0.0, np.pi / 2])).round(6)
        array([0., 1., 1., 0.])
    """
    return np.concatenate([np.sin(phase), np.cos(phase)], axis=-1)


def sphere_features(lat: ArrayLike, lon: ArrayLike, scales: Sequence[int] = SCALES) -> Floats:
    """Return sines and cosines of the unit vector at several scales.

    Args:
        lat: Latitudes [degrees_north], of any shape.
        lon: Longitudes [degrees_east], broadcast against `lat`.
        scales: Wave numbers [1 / radius of the sphere].

    Returns:
        Features (..., 6 * len(scales)) between -1 and 1.

    Examples:
        >>> sphere_features([0.0, 10.0], [0.0, 360.0]).shape
        (2, 24)
    """
    xyz = unit_vectors(np.asarray(lat, np.float64), np.asarray(lon, np.float64))
    return waves(np.concatenate([scale * xyz for scale in scales], axis=-1))


def plane_features(
    y: ArrayLike,
    x: ArrayLike,
    extent_m: tuple[float, float],
    *,
    periodic: tuple[bool, bool] = (True, True),
    scales: Sequence[int] = SCALES,
) -> Floats:
    """Return harmonics of a position in a rectangular domain.

    Args:
        y: Positions along the rows [m], of any shape.
        x: Positions along the columns [m], broadcast against `y`.
        extent_m: The size of the domain along y and x [m].
        periodic: Whether the domain closes on itself along y and x. Where it does the harmonics
            are whole waves, else half waves, which tell one end from the other.
        scales: The numbers of the harmonics.

    Returns:
        Features (..., 4 * len(scales)) between -1 and 1.

    Examples:
        >>> plane_features([0.0, 100 / 6], 0.0, (100.0, 100.0), scales=(1,)).round(3)
        array([[0.   , 0.   , 1.   , 1.   ],
               [0.866, 0.   , 0.5  , 1.   ]])
    """
    turns = [2 * np.pi if wraps else np.pi for wraps in periodic]
    position = np.stack(np.broadcast_arrays(y, x), axis=-1) * np.divide(turns, extent_m)
    return waves(np.concatenate([scale * position for scale in scales], axis=-1))


def log_area(area: ArrayLike) -> Floats:
    """Return the decimal logarithm of an area share: from 0 for the whole down to about -9.

    Args:
        area: Shares of the sphere or of the plane [1], of any shape, positive.

    Examples:
        >>> log_area([1.0, 0.01])
        array([ 0., -2.])
    """
    return np.log10(np.asarray(area, np.float64))


def level_features(pressure_pa: ArrayLike, scales: Sequence[int] = SCALES) -> Floats:
    """Return waves of the logarithm of pressure, which is nearly linear in height.

    Args:
        pressure_pa: Pressures [Pa], of any shape, positive; NaN for what lies on no level.
        scales: Wave numbers; the half-wave of 1 is a factor of ten of pressure, about 16 km.

    Returns:
        Features (..., 2 * len(scales)) between -1 and 1; zeros for NaN.

    Examples:
        >>> level_features([1e5, 1e4], scales=(1,)).round(6) + 0.0
        array([[ 0.,  1.],
               [ 0., -1.]])
    """
    heights = -np.log10(np.asarray(pressure_pa, np.float64)[..., None] / 1e5)
    return np.nan_to_num(waves(np.pi * heights * np.asarray(scales)))


def time_features(times: ArrayLike, lon: ArrayLike = 0.0) -> Floats:
    """Return the phases of the year, of the UTC day and of the local mean solar day.

    Args:
        times: Times in UTC (...), datetime64.
        lon: Longitudes (n,) or one number [degrees_east]; the default leaves local time UTC.

    Returns:
        Features (*times.shape, *lon.shape, 6): sine of the three phases, then their cosines.
        A year is as long as its calendar year; local noon is 12 UTC at longitude 0.

    Examples:
        >>> time_features(np.datetime64("2020-01-01T06:00"), -90.0).round(2) + 0.0
        array([0., 1., 0., 1., 0., 1.])
    """
    lon = np.asarray(lon, np.float64)
    seconds = np.asarray(times).astype("datetime64[s]").reshape(np.shape(times) + (1,) * lon.ndim)
    utc = _fraction(seconds, "D")
    phases = np.broadcast_arrays(_fraction(seconds, "Y"), utc, utc + lon / 360)
    return waves(2 * np.pi * np.stack(phases, axis=-1))


def _fraction(times: NDArray[np.datetime64], unit: str) -> Floats:
    """Return how much of the calendar unit (year, day) that each time lies in has passed."""
    start = times.astype(f"datetime64[{unit}]")
    first, now, end = (
        t.astype("datetime64[s]").astype(np.int64) for t in (start, times, start + 1)
    )
    return np.asarray((now - first) / (end - first))


def grid_features(grid: Grid | Patching, scales: Sequence[int] = SCALES) -> Floats:
    """Return where every token is and how large it is.

    Args:
        grid: The tokens; of a grid, its cells.
        scales: The wave numbers of the position features.

    Returns:
        Features (n, k): the grid's own position features and the logarithm of the token's area.

    Examples:
        >>> from stormda.grid import PlaneGrid
        >>> grid_features(PlaneGrid((4, 8), (1e3, 1e3))).shape
        (32, 17)
    """
    patching = grid if isinstance(grid, Patching) else Patching(grid, (1, 1))
    position = patching.grid.encode(*patching.centres, tuple(scales))
    return np.concatenate([position, log_area(patching.weights)[:, None]], axis=-1)
