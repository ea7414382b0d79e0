"""Points on parallels, each parallel with its own number of them, evenly spaced.

Reduced Gaussian grids and HEALPix are of this kind. A point is found by arithmetic: the two
parallels on either side of it, and on each the points to the west and to the east.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from stormda.grid.axis import SNAP, Axis, Border, Floats, Ints, midpoint_edges
from stormda.grid.stencil import Rule, Stencil


@dataclass(frozen=True, eq=False)
class Rings:
    """The parallels of a global grid.

    Examples:
        >>> rings = Rings(np.array([45.0, -45.0]), np.array([2, 4]), np.array([0.0, 45.0]))
        >>> rings.lon
        array([  0., 180.,  45., 135., 225., 315.])
    """

    lat: Floats
    """The latitude of each (rows,) [degrees_north], strictly monotonic."""

    counts: Ints
    """The number of points on each (rows,)."""

    first: Floats
    """The longitude of the first point on each (rows,) [degrees_east]."""

    @cached_property
    def starts(self) -> Ints:
        """The number of the first point of each ring, and of all points (rows + 1,)."""
        return np.array([0, *np.cumsum(self.counts)], np.int64)

    @cached_property
    def axis(self) -> Axis:
        """The latitudes as an axis that goes on over both poles."""
        edges = midpoint_edges(self.lat)
        edges[[0, -1]] = np.copysign(90.0, self.lat[[0, -1]])
        return Axis(values=self.lat, edges=edges, borders=(Border.POLE_EDGE, Border.POLE_EDGE))

    @property
    def ring(self) -> Ints:
        """The ring of every point (n,)."""
        return np.repeat(np.arange(len(self.lat)), self.counts)

    @property
    def lon(self) -> Floats:
        """The longitude of every point (n,) [degrees_east], from 0 to 360."""
        ring = self.ring
        col = np.arange(len(ring)) - self.starts[ring]
        return np.mod(self.first[ring] + 360 * col / self.counts[ring], 360)

    def stencil(self, lat: Floats, lon: Floats, rule: Rule) -> Stencil:
        """Weigh the points around other ones: `rule` across the rings, then along each.

        Args:
            lat: Latitudes (m,) [degrees_north].
            lon: Longitudes (m,) [degrees_east].
            rule: How fractional numbers become whole ones and weights.
        """
        row, weight_y = rule(self.axis.position(lat))
        row, turned, _ = self.axis.resolve(row)
        count = self.counts[row]
        turn = lon[:, None] + 180.0 * turned - self.first[row]
        position = np.asarray(np.mod(turn / 360, 1) * count, np.float64)
        whole = np.rint(position)
        position = np.where(np.abs(position - whole) < SNAP, whole, position)
        col, weight_x = rule(position)
        cells = self.starts[row][..., None] + col % count[..., None]
        weights = weight_y[..., None] * weight_x
        m = len(lat)
        k = cells.shape[1] * cells.shape[2]
        return Stencil(cells.reshape(m, k), weights.reshape(m, k), np.ones(m, bool))

    def neighbours(self) -> Ints:
        """Return the points around each point.

        These are its neighbours in its ring, and all points of the rings before and behind whose
        span of longitude overlaps its own; before the first ring lies that ring itself, turned.

        Returns:
            Numbers (n, k), -1 where there are fewer than k.
        """
        here, there = [], []
        for row, count in enumerate(self.counts):
            a, b = self._overlaps(row, row + 1) if row + 1 < len(self.counts) else _NOTHING
            here += [a, b]
            there += [b, a]
            ring = self.starts[row] + np.arange(count)
            east = self.starts[row] + (np.arange(count) + 1) % count
            here += [ring, east]
            there += [east, ring]
        for row in (0, len(self.counts) - 1):
            a, b = self._overlaps(row, row, turn=180.0)
            here += [a, b]
            there += [b, a]
        return table(np.concatenate(here), np.concatenate(there), int(self.starts[-1]))

    def _overlaps(self, row: int, other: int, turn: float = 0.0) -> tuple[Ints, Ints]:
        """Return all pairs of points of two rings whose spans of longitude overlap."""
        n, m = int(self.counts[row]), int(self.counts[other])
        shift = (self.first[row] + turn - self.first[other]) / 360 * m
        middle = shift + np.arange(n) * (m / n)
        reach = (m / n + 1) / 2 - 1e-9  # spans that only touch do not overlap
        low = np.ceil(middle - reach).astype(np.int64)
        width = int(np.ceil(2 * reach)) + 1
        col = low[:, None] + np.arange(width)
        near = col <= (middle + reach)[:, None]
        a = np.broadcast_to(self.starts[row] + np.arange(n)[:, None], col.shape)
        return a[near], (self.starts[other] + col % m)[near]


_NOTHING = np.zeros(0, np.int64), np.zeros(0, np.int64)


def table(here: Ints, there: Ints, n: int) -> Ints:
    """Return pairs of numbers as a table: for each `0 ... n - 1` the others it is paired with.

    Args:
        here: Numbers (p,), `0 ... n - 1`.
        there: What each is paired with (p,); itself and repetitions do not count.
        n: The number of rows.

    Returns:
        The others in increasing order (n, k), -1 where there are fewer than k.

    Examples:
        >>> table(np.array([0, 1, 1, 1]), np.array([1, 0, 2, 2]), 3)
        array([[ 1, -1],
               [ 0,  2],
               [-1, -1]])
    """
    pairs = np.unique(here[here != there] * n + there[here != there])
    row, other = np.divmod(pairs, n)
    rank = np.arange(len(row)) - np.searchsorted(row, row)
    out = np.full((n, int(rank.max(initial=-1)) + 1), -1, np.int64)
    out[row, rank] = other
    return out
