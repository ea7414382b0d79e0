"""One direction of a grid: where its cells lie and how it goes on beyond its borders.

Cells have numbers `0 ... n-1`; a fractional number lies between two centres. At `i < 0` stands

    n + i      where the axis wraps,
    -1 - i     where its edge is a wall, which mirrors, or a pole,
    -i         where its first row is itself the pole,

and likewise behind the last cell. Over a pole the meridian turns by 180 degrees.
"""

from dataclasses import dataclass
from enum import Enum
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


SNAP = 1e-6
"""How far from a cell centre a point still lies on it [cells]: coordinates are rounded."""


EVEN = 1e-12
"""How much steps may differ to count as one: by rounding only [steps]."""


class Border(Enum):
    """How a grid goes on beyond its first or last row or column."""

    WALL = "wall"
    """It ends: nothing lies beyond, and padding mirrors the cells inside."""

    WRAP = "wrap"
    """It starts again from the other side."""

    POLE_EDGE = "pole at the edge"
    """The outer edge of the row is a pole: the same row follows, seen from the other side."""

    POLE_ROW = "pole in the row"
    """The centre of the row is a pole: the row before it follows, seen from the other side."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Axis:
    """The cells along one direction, in the unit of `values`.

    Examples:
        >>> wall = (Border.WALL, Border.WALL)
        >>> axis = Axis(values=np.array([0.5, 1.5]), edges=np.array([0.0, 1.0, 2.0]), borders=wall)
        >>> axis.position([0.5, 1.0, 9.0])
        array([0. , 0.5, 2. ])
    """

    values: Floats
    """Cell centres (n,), strictly increasing or decreasing and without a jump at the seam."""

    edges: Floats
    """Cell edges (n + 1,), in the order of `values`."""

    borders: tuple[Border, Border]
    """How the axis goes on before its first and behind its last cell."""

    period: float | None = None
    """What may be added to a coordinate without moving the point; None for nothing."""

    @property
    def size(self) -> int:
        """The number of cells, n."""
        return len(self.values)

    @property
    def wraps(self) -> bool:
        """Whether the axis closes on itself."""
        return self.borders[0] is Border.WRAP

    @cached_property
    def extended(self) -> Floats:
        """The centres of the cells `-1 ... n`: one neighbour more on either side (n + 2,)."""
        return np.array([self._beyond(0), *self.values, self._beyond(-1)])

    def _beyond(self, end: int) -> float:
        """Return the centre of the cell before the first (end 0) or behind the last (end -1)."""
        if self.borders[end] is Border.WRAP:
            turn = self.edges[end] - self.edges[-1 - end]
            return float(self.values[-1 - end] + turn)
        if self.borders[end] is Border.POLE_ROW:
            return float(2 * self.values[end] - self.values[(1, -2)[end]])
        return float(2 * self.edges[end] - self.values[end])

    def position(self, coordinate: ArrayLike) -> Floats:
        """Return the fractional cell number of `coordinate`, at most one cell beyond a border."""
        c = np.asarray(coordinate, np.float64)
        if self.period is not None:
            start = (self.edges[0] + self.edges[-1] - self.period) / 2
            c = start + np.mod(c - start, self.period)
        position = self._even(c) if self._step else self._between(c)
        whole = np.rint(position)
        return np.asarray(np.where(np.abs(position - whole) < SNAP, whole, position))

    def _between(self, c: Floats) -> Floats:
        """Return fractional numbers by search."""
        sign = 1.0 if self.edges[-1] > self.edges[0] else -1.0
        numbers = np.arange(-1.0, self.size + 1)
        return np.asarray(np.interp(sign * c, sign * self.extended, numbers))

    def _even(self, c: Floats) -> Floats:
        """Return fractional numbers by arithmetic."""
        return np.asarray(np.clip((c - self.values[0]) / self._step, -1.0, self.size))

    @cached_property
    def _step(self) -> float:
        """The distance between neighbours if it is everywhere the same, else 0."""
        steps = np.diff(self.extended)
        even = np.abs(steps - steps.mean()).max() < EVEN * np.abs(steps).min()
        return float(steps.mean()) if even else 0.0

    def place(self, position: ArrayLike) -> Floats:
        """Return the coordinate at a fractional cell number: the inverse of `position`."""
        number = np.asarray(position, np.float64)
        return np.asarray(np.interp(number, np.arange(-1.0, self.size + 1), self.extended))

    def resolve(self, index: ArrayLike) -> tuple[Ints, Bools, Bools]:
        """Return which cells stand at whole numbers `index`, also beyond the borders.

        Returns:
            The cell `0 ... n-1`, whether a pole lies between (then the meridian is turned by 180
            degrees), and whether there is anything at all (False beyond a wall, where the cell
            is the mirrored one), each of the shape of `index`.
        """
        return resolve(index, self.size, self.borders)


def resolve(index: ArrayLike, n: int, borders: tuple[Border, Border]) -> tuple[Ints, Bools, Bools]:
    """Return which of `n` cells stand at whole numbers `index`; see `Axis.resolve`.

    Examples:
        >>> resolve([-1, 0, 4], 4, (Border.WRAP, Border.WRAP))[0]
        array([3, 0, 0])
        >>> resolve([-1, 0, 4], 4, (Border.POLE_EDGE, Border.WALL))
        (array([0, 0, 3]), array([ True, False, False]), array([ True,  True, False]))
    """
    i = np.array(index, np.int64)
    turned, inside = np.zeros(i.shape, bool), np.ones(i.shape, bool)
    if not i.size or (i.min() >= 0 and i.max() < n):
        return i, turned, inside
    if borders[0] is Border.WRAP:
        return i % n, turned, inside
    before = 0 if borders[0] is Border.POLE_ROW else -1
    behind = 2 * n - (2 if borders[1] is Border.POLE_ROW else 1)
    while ((i < 0) | (i >= n)).any():
        for beyond, mirror, border in ((i < 0, before, borders[0]), (i >= n, behind, borders[1])):
            turned ^= beyond & (border is not Border.WALL)
            inside &= ~(beyond & (border is Border.WALL))
            i = np.where(beyond, mirror - i, i)
    return i, turned, inside


def midpoint_edges(values: Floats) -> Floats:
    """Return edges halfway between centres; the outer ones lie half a spacing outside.

    Args:
        values: Cell centres (n,), at least two.

    Returns:
        Cell edges (n + 1,).

    Examples:
        >>> midpoint_edges(np.array([0.0, 1.0, 3.0]))
        array([-0.5,  0.5,  2. ,  4. ])
    """
    middle = (values[:-1] + values[1:]) / 2
    return np.array([2 * values[0] - middle[0], *middle, 2 * values[-1] - middle[-1]])
