"""A curve that visits every place of the sphere, and whose stretches are compact patches.

It is Hilbert's, on each of the twelve faces of HEALPix in turn.
"""

import numpy as np

from stormda.grid.axis import Floats, Ints
from stormda.grid.healpix_math import place_from_angles

ORDER = 24
"""The bits of a place along either edge of a face: about half a metre on the Earth."""


def along_curve(lat: Floats, lon: Floats) -> Ints:
    """Return how far along the curve points lie.

    Args:
        lat: Latitudes (n,) [degrees_north].
        lon: Longitudes (n,) [degrees_east].

    Returns:
        Distances (n,), from 0 to `12 * 4**ORDER`.

    Examples:
        >>> np.argsort(along_curve(np.array([0.0, 50.0, 0.1]), np.array([90.0, 0.0, 90.1])))
        array([1, 2, 0])
    """
    x, y, face = place_from_angles(2**ORDER, lat, lon)
    return np.asarray(face * 4**ORDER + hilbert(ORDER, x, y))


def hilbert(order: int, x: Ints, y: Ints) -> Ints:
    """Return how far along the Hilbert curve the cells of a square of `2^order` cells a side lie.

    Source: Hilbert (1891), Math. Ann. 38, 459; in the form of Warren (2012), Hacker's Delight, 16.

    Examples:
        >>> hilbert(1, np.array([0, 0, 1, 1]), np.array([0, 1, 1, 0]))
        array([0, 1, 2, 3])
    """
    x, y = np.array(x, np.int64), np.array(y, np.int64)
    distance = np.zeros(x.shape, np.int64)
    for bit in range(order - 1, -1, -1):
        side = np.int64(1) << bit
        right, up = (x & side) > 0, (y & side) > 0
        distance += side**2 * ((3 * right) ^ up)
        flip = ~up & right
        x, y = (
            np.where(flip, side - 1 - (x & (side - 1)), x & (side - 1)),
            np.where(flip, side - 1 - (y & (side - 1)), y & (side - 1)),
        )
        x, y = np.where(up, x, y), np.where(up, y, x)
    return distance
