"""A field cut into rectangles, and where it goes on beyond its borders.

Rows are latitudes, columns longitudes. With n rows and m columns, what lies k = 1, 2, ... rows
beyond the first row is

    wrap        row n - k
    pole edge   row k - 1, seen from the other side: column j + m / 2
    pole row    row k, likewise (the first row is the pole itself)
    nearest     row 0
    zero        nothing

and so on the other three sides, poles at the north and south alone. Components of vectors along
the meridian and the parallel change sign over a pole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

import torch
from torch import Tensor

from stormda.parallel.sizes import balanced_sizes


class Border(Enum):
    """How a field goes on beyond a side."""

    WRAP = "wrap"
    """With the opposite side."""

    POLE_EDGE = "pole at the edge"
    """Over a pole on the edge of the last cells."""

    POLE_ROW = "pole in the row"
    """Over a pole on which the last row lies."""

    NEAREST = "nearest"
    """With copies of the last cells."""

    ZERO = "zero"
    """With zeros."""


POLES = (Border.POLE_EDGE, Border.POLE_ROW)


class Ahead(NamedTuple):
    """The cells of the field that lie along a line that may leave it."""

    cells: Tensor
    """The row, or column, (length,), int64; -1 for nothing."""

    crossed: Tensor
    """Whether it is seen from over a pole (length,), bool."""


@dataclass(frozen=True, kw_only=True)
class Domain:
    """A field that ranks share in rectangles, numbered row by row.

    Raises:
        ValueError: If sizes or borders do not fit each other.

    Examples:
        >>> domain = Domain.globe((721, 1440), ranks=(8, 8))
        >>> domain.ranks, domain.rows[:2], domain.place(9)
        ((8, 8), (91, 90), (1, 1))
    """

    rows: tuple[int, ...]
    """The rows of the ranks along latitude."""

    columns: tuple[int, ...]
    """The columns of the ranks along longitude."""

    north: Border = Border.ZERO
    """What lies before the first row."""

    south: Border = Border.ZERO
    """What lies behind the last row."""

    sides: Border = Border.ZERO
    """What lies before the first column and behind the last."""

    def __post_init__(self) -> None:
        """Check that the sizes are positive and the borders possible."""
        for name, sizes in (("rows", self.rows), ("columns", self.columns)):
            if not sizes or min(sizes) < 1:
                raise ValueError(f"{name}: expected at least one cell for each rank, got {sizes}")
        if self.sides in POLES:
            raise ValueError(f"sides: expected wrap, nearest or zero, got {self.sides.value}")
        if (self.north is Border.WRAP) != (self.south is Border.WRAP):
            raise ValueError(
                "south: expected wrap at both north and south or at neither, got "
                f"{self.north.value} and {self.south.value}"
            )
        over = self.north in POLES or self.south in POLES
        if over and (self.sides is not Border.WRAP or self.shape[1] % 2):
            raise ValueError(
                "sides: expected wrap and an even number of columns where rows go on over a "
                f"pole, got {self.sides.value} and {self.shape[1]}"
            )

    @classmethod
    def globe(
        cls, shape: tuple[int, int], ranks: tuple[int, int], *, pole: Border | None = None
    ) -> Domain:
        """Return a globe shared out evenly.

        Args:
            shape: The rows and columns of the whole field.
            ranks: The number of ranks along latitude and longitude.
            pole: Where the poles are; by default on the first and last row where the number of
                rows is odd, as in a field of 721 x 1440, and beyond their edges where it is even.
        """
        pole = pole or (Border.POLE_ROW if shape[0] % 2 else Border.POLE_EDGE)
        rows, columns = _shares(shape, ranks)
        return cls(rows=rows, columns=columns, north=pole, south=pole, sides=Border.WRAP)

    @classmethod
    def region(
        cls, shape: tuple[int, int], ranks: tuple[int, int], *, border: Border = Border.ZERO
    ) -> Domain:
        """Return a region shared out evenly, which goes on in one way on all sides.

        Args:
            shape: The rows and columns of the whole field.
            ranks: The number of ranks along latitude and longitude.
            border: How it goes on; wrap makes a doubly periodic plane.
        """
        rows, columns = _shares(shape, ranks)
        return cls(rows=rows, columns=columns, north=border, south=border, sides=border)

    @property
    def shape(self) -> tuple[int, int]:
        """The rows and columns of the whole field."""
        return sum(self.rows), sum(self.columns)

    @property
    def ranks(self) -> tuple[int, int]:
        """The number of ranks along latitude and longitude."""
        return len(self.rows), len(self.columns)

    def place(self, rank: int) -> tuple[int, int]:
        """Return where a rank is along latitude and longitude.

        Raises:
            ValueError: If there is no such rank.
        """
        ranks = self.ranks[0] * self.ranks[1]
        if not 0 <= rank < ranks:
            raise ValueError(f"rank: expected 0 to {ranks - 1}, got {rank}")
        return divmod(rank, self.ranks[1])

    def box(self, rank: int) -> tuple[slice, slice]:
        """Return the rows and columns of a rank.

        Examples:
            >>> Domain.region((5, 4), ranks=(2, 2)).box(3)
            (slice(3, 5, None), slice(2, 4, None))
        """
        row, column = self.place(rank)
        return _span(self.rows, row), _span(self.columns, column)

    def rows_ahead(self, start: int, stop: int) -> Ahead:
        """Return the rows of the field that lie at rows `start` to `stop`, which may leave it."""
        at, n = torch.arange(start, stop), self.shape[0]
        north, south = _beyond(self.north, at, n), _beyond(self.south, n - 1 - at, n)
        inside, before = (at >= 0) & (at < n), at < 0
        mirrored = torch.where(south >= 0, n - 1 - south, south)
        cells = torch.where(inside, at, torch.where(before, north, mirrored))
        over_north = before & (self.north in POLES)
        return Ahead(cells, over_north | ((at >= n) & (self.south in POLES)))

    def columns_ahead(self, start: int, stop: int, *, crossed: bool = False) -> Tensor:
        """Return the columns that lie at columns `start` to `stop`; `crossed` over a pole."""
        n = self.shape[1]
        at = torch.arange(start, stop) + (n // 2 if crossed else 0)
        if self.sides is Border.WRAP:
            return at % n
        after = _beyond(self.sides, n - 1 - at, n)
        mirrored = torch.where(after >= 0, n - 1 - after, after)
        outside = torch.where(at < 0, _beyond(self.sides, at, n), mirrored)
        return torch.where((at >= 0) & (at < n), at, outside)


def _beyond(border: Border, at: Tensor, n: int) -> Tensor:
    """Return the cell that lies at a negative place before the first of n."""
    match border:
        case Border.WRAP:
            return at % n
        case Border.POLE_EDGE:
            return -1 - at
        case Border.POLE_ROW:
            return -at
        case Border.NEAREST:
            return torch.zeros_like(at)
        case Border.ZERO:
            return torch.full_like(at, -1)


def _shares(
    shape: tuple[int, int], ranks: tuple[int, int]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    rows, columns = (balanced_sizes(n, p) for n, p in zip(shape, ranks, strict=True))
    return tuple(rows), tuple(columns)


def _span(sizes: Sequence[int], i: int) -> slice:
    start = sum(sizes[:i])
    return slice(start, start + sizes[i])
