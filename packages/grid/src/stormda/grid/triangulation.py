"""Points on the sphere joined to triangles, and the triangle that holds a point.

The convex hull of points on the sphere is their Delaunay triangulation. Where they leave a part of
the sphere empty, guards are put there first; what touches a guard counts as outside.

Source: Brown (1979), Inf. Proc. Lett. 9, 223; the walk is that of Devillers et al. (2002), Int. J.
Found. Comput. Sci. 13, 181.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from stormda.grid.axis import Bools, Floats, Ints

if TYPE_CHECKING:
    from scipy.spatial import cKDTree

GUARDS = 64
"""Places on the sphere that are guarded where no point is near."""

REACH = 25.0
"""How far from the next point a place is guarded, at least [degrees]."""

SPARSE = 2.5
"""How much farther than usual a point of the sphere may lie from the points that cover it [1]."""


@dataclass(frozen=True, eq=False)
class Triangulation:
    """Delaunay triangles of points on the sphere.

    Examples:
        >>> x = np.array([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [-1, 0, 0], [0, -1, 0], [0, 0, -1]])
        >>> triangulate(x).corners.shape, triangulate(x).whole
        ((8, 3), True)
    """

    n: int
    """The number of points."""

    points: Floats
    """The points, then the guards (n + g, 3), as unit vectors."""

    corners: Ints
    """The points of each triangle (t, 3), to the left round."""

    beyond: Ints
    """The triangle across from each corner (t, 3)."""

    real: Bools
    """Which triangles (t,) touch no guard."""

    first: Ints
    """A triangle at each point (n + g,)."""

    tree: cKDTree
    """Of points and guards."""

    @property
    def whole(self) -> bool:
        """Whether the triangles cover the sphere without a guard."""
        return bool(self.real.all())

    def locate(self, at: Floats) -> tuple[Ints, Floats, Bools]:
        """Find the triangles around points.

        Args:
            at: Points (m, 3) as unit vectors.

        Returns:
            The corners (m, 3) and their weights (m, 3), which sum to 1, and whether the points lie
            inside (m,); where they do not, corners may be guards. Corners without weight are 0.
        """
        _, near = self.tree.query(at)
        triangle = self.first[near]
        moving = np.arange(len(at))
        while len(moving):
            sides = self._sides(triangle[moving], at[moving])
            out = sides.min(1) < -1e-14  # a rounding error outside is inside
            across = self.beyond[triangle[moving], sides.argmin(1)]
            triangle[moving[out]] = across[out]
            moving = moving[out]
        weights = np.clip(self._sides(triangle, at), 0, None)
        weights /= weights.sum(1, keepdims=True)
        cells = self.corners[triangle]
        outside = (weights * (cells >= self.n)).sum(1) > 1e-12  # at a border point it is rounding
        return np.where(weights > 1e-12, cells, 0), weights, ~outside

    def _sides(self, triangle: Ints, at: Floats) -> Floats:
        """Return how far inside of the side across from each corner points lie (m, 3)."""
        a, b, c = np.moveaxis(self.points[self.corners[triangle]], 1, 0)
        sides = (np.cross(b, c), np.cross(c, a), np.cross(a, b))
        return np.stack([(side * at).sum(-1) for side in sides], axis=-1)

    def edges(self) -> tuple[Ints, Ints]:
        """Return all pairs of points (not guards) that a side of a triangle joins, both ways."""
        real = self.corners[self.real]
        here = np.concatenate([real[:, k] for k in (0, 1, 2, 1, 2, 0)])
        there = np.concatenate([real[:, k] for k in (1, 2, 0, 0, 1, 2)])
        return here, there


def triangulate(points: Floats) -> Triangulation:
    """Join points (n, 3) on the sphere, given as distinct unit vectors, to triangles.

    Examples:
        >>> rng = np.random.default_rng(0)
        >>> x = rng.normal(size=(50, 3)) * 0.1 + [1, 0, 0]
        >>> triangulate(x / np.linalg.norm(x, axis=1, keepdims=True)).whole
        False
    """
    from scipy.spatial import ConvexHull, cKDTree  # long to import

    hull, everything = ConvexHull(points), points
    radius = np.degrees(np.arccos(np.clip(-hull.equations[:, -1], -1, 1)))
    reach = max(REACH, SPARSE * float(np.median(radius))) if radius.max() < 90 else REACH
    if radius.max() > reach:
        places = spiral(GUARDS)
        distance, _ = cKDTree(points).query(places)
        guards = places[distance > 2 * np.sin(np.radians(reach) / 2)]
        everything = np.concatenate([points, guards])
        hull = ConvexHull(everything)
    corners, beyond = hull.simplices.astype(np.int64), hull.neighbors.astype(np.int64)
    a, b, c = np.moveaxis(everything[corners], 1, 0)
    wrong = (np.cross(a, b) * c).sum(-1) < 0
    corners[wrong, 1:], beyond[wrong, 1:] = corners[wrong, :0:-1], beyond[wrong, :0:-1]
    first = np.zeros(len(everything), np.int64)
    first[corners.ravel()] = np.repeat(np.arange(len(corners)), 3)
    real = (corners < len(points)).all(axis=1)
    return Triangulation(
        len(points), everything, corners, beyond, real, first, cKDTree(everything)
    )


def spiral(n: int) -> Floats:
    """Return `n` points evenly spread over the sphere (n, 3), as unit vectors.

    Source: Gonzalez (2010), Math. Geosci. 42, 49.

    Examples:
        >>> spiral(2).round(6)[:, 2]
        array([ 0.5, -0.5])
    """
    i = np.arange(n)
    z = 1 - (2 * i + 1) / n
    turn = 2 * np.pi * i * (np.sqrt(5) - 1) / 2
    r = np.sqrt(1 - z**2)
    return np.stack([r * np.cos(turn), r * np.sin(turn), z], axis=-1)
