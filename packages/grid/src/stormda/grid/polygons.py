"""Polygons on the sphere, bounded by great circles: their areas.

    tan(E / 2) = |a . (b x c)| / (1 + a . b + b . c + c . a)

is the area E of the triangle of the unit vectors a, b and c; a polygon is a fan of triangles,
taken with their sign.

Source: Van Oosterom and Strackee (1983), IEEE Trans. Biomed. Eng. 30, 125, eq. 8.
"""

import numpy as np

from stormda.grid.axis import Floats


def triangle_area(a: Floats, b: Floats, c: Floats) -> Floats:
    """Return the share of the sphere of triangles, positive where a, b, c turn to the left.

    Args:
        a: A corner of each (..., 3), as a unit vector.
        b: The next corner.
        c: The last corner.

    Examples:
        >>> x, y, z = np.eye(3)
        >>> triangle_area(x, y, z), triangle_area(x, z, y)
        (array(0.125), array(-0.125))
    """
    volume = (a * np.cross(b, c)).sum(-1)
    rest = 1 + (a * b).sum(-1) + (b * c).sum(-1) + (c * a).sum(-1)
    return np.asarray(np.arctan2(volume, rest) / (2 * np.pi))


def polygon_area(corners: Floats) -> Floats:
    """Return the share of the sphere of polygons, whichever way they turn.

    Args:
        corners: The corners of each in order (..., k, 3), as unit vectors; corners may repeat.

    Returns:
        Shares (...), of polygons smaller than a hemisphere.

    Examples:
        >>> from stormda.grid.sphere import unit_vectors
        >>> lat, lon = np.array([0.0, 0.0, 90.0, 90.0]), np.array([0.0, 90.0, 90.0, 0.0])
        >>> polygon_area(unit_vectors(lat, lon)).round(12)
        np.float64(0.125)
    """
    first, rest = corners[..., :1, :], corners[..., 1:, :]
    fan = triangle_area(
        np.broadcast_to(first, rest[..., :-1, :].shape), rest[..., :-1, :], rest[..., 1:, :]
    )
    return np.asarray(np.abs(fan.sum(-1)))
