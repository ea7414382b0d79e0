"""Bands of the sphere: Gaussian latitudes, band edges and areas.

A band between two latitudes covers `(sin north - sin south) / 2` of the sphere. Edges come from
Gaussian quadrature where the latitudes are Gaussian (the bands then have exactly the quadrature
weights), and else lie halfway between rows, ending at the poles.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike

from stormda.grid.axis import Floats, Ints, midpoint_edges

GAUSSIAN_TOLERANCE = 1e-3
"""How far a latitude may lie from its Gaussian one to count as it [degrees]."""

POLE_TOLERANCE = 1e-3
"""How far from 90 degrees still counts as the pole [degrees]; coordinates are often float32."""

FIRST_BESSEL_ZERO = 2.404825557695773
"""The first zero of J0 [1] (Abramowitz and Stegun, 1964, table 9.5)."""


@lru_cache(maxsize=8)
def _quadrature(rows: int) -> tuple[Floats, Floats]:
    from scipy.special import roots_legendre  # takes longer to import than all the rest

    nodes, weights = roots_legendre(rows)
    return np.degrees(np.arcsin(nodes)), weights


def gaussian_latitudes(rows: int) -> tuple[Floats, Floats]:
    """Return the Gaussian latitudes, north to south, and their weights.

    Source: Abramowitz and Stegun (1964), eq. 25.4.29.

    Args:
        rows: The number of latitudes between the poles.

    Returns:
        Latitudes (rows,) [degrees_north] and weights (rows,), which sum to 2.

    Examples:
        >>> lat, weight = gaussian_latitudes(2)
        >>> lat.round(4), weight
        (array([ 35.2644, -35.2644]), array([1., 1.]))
    """
    lat, weight = _quadrature(rows)
    return lat[::-1].copy(), weight[::-1].copy()


def band_area(edges: Floats) -> Floats:
    """Return the share of the sphere between neighbouring latitudes.

    Args:
        edges: Latitudes (n + 1,) [degrees_north], monotonic.

    Returns:
        Shares (n,), each positive; from pole to pole they sum to 1.

    Examples:
        >>> band_area(np.array([90.0, 30.0, -90.0]))
        array([0.25, 0.75])
    """
    return np.abs(np.diff(np.sin(np.radians(edges)))) / 2


def unit_vectors(lat: Floats, lon: Floats) -> Floats:
    """Return the points of the unit sphere at `lat`, `lon`.

    Args:
        lat: Latitudes [degrees_north], of any shape.
        lon: Longitudes [degrees_east], broadcast against `lat`.

    Returns:
        x, y and z in the last dimension (..., 3): towards (0, 0), (0, 90 E) and the North Pole.

    Examples:
        >>> unit_vectors(np.array([90.0, 0.0]), np.array([0.0, 90.0])).round(6)
        array([[0., 0., 1.],
               [0., 1., 0.]])
    """
    lat_rad, lon_rad = np.broadcast_arrays(np.radians(lat), np.radians(lon))
    across = np.cos(lat_rad)
    return np.stack([across * np.cos(lon_rad), across * np.sin(lon_rad), np.sin(lat_rad)], axis=-1)


def angles(vectors: Floats) -> tuple[Floats, Floats]:
    """Return latitude and longitude [degrees] of the directions of vectors (..., 3).

    Examples:
        >>> angles(np.array([0.0, 2.0, 0.0]))
        (np.float64(0.0), np.float64(90.0))
    """
    x, y, z = np.moveaxis(vectors, -1, 0)
    return np.degrees(np.arctan2(z, np.hypot(x, y))), np.degrees(np.arctan2(y, x))


def bearings(lat: Floats, lon: Floats, neighbours: Ints) -> Floats:
    """Return in which direction the neighbours of points lie.

    Args:
        lat: Latitudes (n,) [degrees_north].
        lon: Longitudes (n,) [degrees_east].
        neighbours: Numbers of points (n, k), such as from `Patching.neighbours`, -1 for none.

    Returns:
        The initial bearings of the great circles to them, clockwise from north [radians] (n, k);
        0 where there is none.

    Examples:
        >>> lat, lon = np.array([0.0, 0.0, 10.0]), np.array([179.0, -179.0, 179.0])
        >>> bearings(lat, lon, np.array([[1, 2], [0, -1], [0, -1]])).round(4)
        array([[ 1.5708,  0.    ],
               [-1.5708,  0.    ],
               [ 3.1416,  0.    ]])
    """
    here, there = np.radians(lat)[:, None], np.radians(lat)[neighbours]
    apart = np.radians(lon)[neighbours] - np.radians(lon)[:, None]
    east = np.sin(apart) * np.cos(there)
    # cos a sin b - sin a cos b cos l, without its cancellation where points are close
    north = np.sin(there - here) + 2 * np.sin(here) * np.cos(there) * np.sin(apart / 2) ** 2
    return np.where(neighbours >= 0, np.arctan2(east, north), 0.0)


def checked_angles(name: str, values: ArrayLike) -> Floats:
    """Return a read-only float64 copy of latitudes or longitudes [degrees] of any shape.

    Args:
        name: What they are called in errors; names that end in "lat" are latitudes.
        values: The angles.

    Raises:
        ValueError: One is not finite, or out of range: -90 to 90, or -360 to 720.

    Examples:
        >>> checked_angles("lat", [0, 90])
        array([ 0., 90.])
    """
    array = np.array(values, np.float64)
    low, high = (-90, 90) if name.endswith("lat") else (-360, 720)
    bad = ~((array >= low) & (array <= high))
    if bad.any():
        index = tuple(int(i) for i in np.argwhere(bad)[0])
        place = index[0] if len(index) == 1 else index
        raise ValueError(
            f"{name}: expected degrees in [{low}, {high}], got {array[index]} at index {place}"
        )
    array.flags.writeable = False
    return array


def latitude_edges(lat: Floats) -> Floats:
    """Return the edges of the bands that rows at `lat` stand for.

    Args:
        lat: Latitudes (n,) [degrees_north], at least two, strictly monotonic.

    Returns:
        Edges (n + 1,) [degrees_north] in the order of `lat`. Gaussian latitudes get the bands
        whose areas are the quadrature weights, others those halfway between rows.

    Examples:
        >>> latitude_edges(np.array([90.0, 0.0, -90.0]))
        array([ 90.,  45., -45., -90.])
    """
    if is_gaussian(lat):
        _, weight = gaussian_latitudes(len(lat))
        south = np.clip(1 - np.cumsum(weight[:-1]), -1, 1)
        edges = np.array([90.0, *np.degrees(np.arcsin(south)), -90.0])
        return edges if lat[0] > lat[-1] else edges[::-1]
    return snap_to_poles(midpoint_edges(lat))


def is_gaussian(lat: Floats) -> bool:
    """Return whether `lat` (n,) [degrees_north] are all the Gaussian latitudes of some grid.

    Examples:
        >>> is_gaussian(np.array([35.2644, -35.2644])), is_gaussian(np.array([45.0, -45.0]))
        (True, False)
    """
    rows = len(lat)
    first = 90 - np.degrees(FIRST_BESSEL_ZERO / (rows + 0.5))  # to 1 / rows: spares the quadrature
    if abs(abs(lat[0]) - first) > GAUSSIAN_TOLERANCE + 1 / rows:
        return False
    gaussian = gaussian_latitudes(rows)[0] * (1.0 if lat[0] > lat[-1] else -1.0)
    return bool(np.abs(lat - gaussian).max() < GAUSSIAN_TOLERANCE)


def snap_to_poles(edges: Floats) -> Floats:
    """Return `edges` [degrees_north] with those at or beyond a pole moved onto it.

    Examples:
        >>> snap_to_poles(np.array([90.125, 89.9999, 0.0]))
        array([90., 90.,  0.])
    """
    return np.where(np.abs(edges) > 90 - POLE_TOLERANCE, np.copysign(90.0, edges), edges)
