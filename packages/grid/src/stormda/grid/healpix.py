"""HEALPix: cells of equal area, in the order of the tree of squares or of the parallels."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stormda.grid.axis import Floats, Ints
from stormda.grid.cells import sphere_coordinates
from stormda.grid.encoding import SCALES, sphere_features
from stormda.grid.healpix_math import (
    Place,
    angles_from_place,
    beyond,
    nested_from_place,
    place_from_angles,
    place_from_nested,
    place_from_ring,
    ring_from_place,
    rings,
)
from stormda.grid.protocol import Coordinate
from stormda.grid.rings import Rings
from stormda.grid.stencil import Rule, Stencil, nearest


class Order(Enum):
    """How the cells of HEALPix are numbered."""

    NESTED = "nested"
    """Along the tree of squares: 4^k cells from a multiple of 4^k on are a square."""

    RING = "ring"
    """Parallel after parallel, from north to south."""


@dataclass(frozen=True)
class HealpixGrid:
    """The sphere in `12 nside^2` cells of equal area.

    Fields on it are lists (..., n). A patch of `2^k x 2^k` cells is a square on a face.

    Raises:
        ValueError: `nside` is no power of 2.

    Examples:
        >>> grid = HealpixGrid(64)
        >>> grid.shape, round(float(grid.area.sum()), 12)
        ((49152,), 1.0)
    """

    nside: int
    """The cells along the edge of each of the twelve faces."""

    order: Order = Order.NESTED
    """How the cells are numbered."""

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        if not 1 <= self.nside <= 2**29 or self.nside & (self.nside - 1):
            raise ValueError(f"nside: expected a power of 2 up to 2**29, got {self.nside}")

    @property
    def shape(self) -> tuple[int]:
        """The number of cells."""
        return (12 * self.nside**2,)

    @property
    def dims(self) -> tuple[str, str]:
        """The names of the two coordinates."""
        return "lat", "lon"

    @property
    def periodic(self) -> tuple[bool, bool]:
        """Latitudes do not close on themselves, longitudes do."""
        return False, True

    @property
    def area(self) -> NDArray[np.float64]:
        """The share of the sphere of each cell (n,), all equal."""
        return np.broadcast_to(1 / self.shape[0], self.shape)

    @cached_property
    def points(self) -> tuple[Floats, Floats]:
        """Latitude and longitude of every cell's centre, (n,) each [degrees]."""
        return angles_from_place(self.nside, self.place(np.arange(self.shape[0])))

    @property
    def lat(self) -> Floats:
        """The latitude of every cell's centre (n,) [degrees_north]."""
        return self.points[0]

    @property
    def lon(self) -> Floats:
        """The longitude of every cell's centre (n,) [degrees_east]."""
        return self.points[1]

    @property
    def coordinates(self) -> dict[str, Coordinate]:
        """`lat` and `lon` along `cell`, with their CF attributes."""
        return sphere_coordinates(("cell",), self.lat, self.lon)

    def place(self, cell: Ints) -> Place:
        """Return where cells lie on the faces."""
        nested = self.order is Order.NESTED
        return (place_from_nested if nested else place_from_ring)(self.nside, cell)

    def number(self, place: Place) -> Ints:
        """Return the numbers of cells on the faces: the inverse of `place`."""
        nested = self.order is Order.NESTED
        return (nested_from_place if nested else ring_from_place)(self.nside, place)

    def stencil(self, first: Floats, second: Floats, rule: Rule) -> Stencil:
        """Weigh the cells around latitudes `first` and longitudes `second` (m,).

        `nearest` takes the cell that holds the point; other rules act across rings and along them.
        """
        if rule is nearest:
            cells = self.number(place_from_angles(self.nside, first, second))[:, None]
            return Stencil(cells, np.ones(cells.shape), np.ones(len(cells), bool))
        around = Rings(*rings(self.nside)).stencil(first, second, rule)
        if self.order is Order.RING:
            return around
        cells = nested_from_place(self.nside, place_from_ring(self.nside, around.cells))
        return around._replace(cells=cells)

    def curve(self, cells: int) -> Ints | None:
        """Return the cells in nested order (n,), None where they already are.

        Raises:
            ValueError: `cells` is no power of 4, or more than a face.
        """
        _check_patch(cells, self.nside)
        if self.order is Order.NESTED:
            return None
        return ring_from_place(self.nside, place_from_nested(self.nside, np.arange(*self.shape)))

    def neighbours(self, cells: int = 1) -> Ints:
        """Return the squares of `cells` cells around each, in nested order (squares, 8).

        Single cells are numbered as the grid is. -1 stands at the corners where only three faces
        meet.

        Raises:
            ValueError: `cells` is no power of 4, or more than a face.
        """
        _check_patch(cells, self.nside)
        squares = HealpixGrid(
            self.nside // math.isqrt(cells), self.order if cells == 1 else Order.NESTED
        )
        x, y, face = squares.place(np.arange(*squares.shape)[:, None])
        steps = np.array([(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1) if i or j]).T
        there = beyond(squares.nside, x + steps[0], y + steps[1], face)
        known = there.face >= 0
        number = squares.number(there._replace(face=np.where(known, there.face, 0)))
        return np.where(known, number, -1)

    def encode(
        self, first: ArrayLike, second: ArrayLike, scales: tuple[int, ...] = SCALES
    ) -> Floats:
        """Return `sphere_features` of latitude `first` and longitude `second`."""
        return sphere_features(first, second, scales)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields, for `grid_from_dict`."""
        return {"kind": "healpix", "nside": self.nside, "order": self.order.value}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "HealpixGrid":
        """Rebuild a grid from `to_dict`.

        Examples:
            >>> HealpixGrid.from_dict(HealpixGrid(8, Order.RING).to_dict())
            HealpixGrid(nside=8, order=<Order.RING: 'ring'>)
        """
        return cls(data["nside"], Order(data["order"]))


def _check_patch(cells: int, nside: int) -> None:
    side = math.isqrt(cells)
    if side**2 != cells or side & (side - 1) or side > nside:
        raise ValueError(
            f"patch: expected a power of 4 of cells, at most {nside**2} on a face, got {cells}"
        )
