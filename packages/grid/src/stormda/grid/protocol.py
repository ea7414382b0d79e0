"""What every grid can do: the one contract that patches, tiles, stencils and files rely on.

A grid is a small immutable object with equality and a hash. Its two coordinates are latitude and
longitude [degrees] on the sphere, y and x [m] on the plane. There are two kinds: a `Lattice` has
rows and columns, numbered row by row; `Cells` are a list.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeGuard

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stormda.grid.axis import Border, Floats, Ints

if TYPE_CHECKING:
    from stormda.grid.stencil import Rule, Stencil


class Coordinate(NamedTuple):
    """One coordinate variable of a file."""

    dims: tuple[str, ...]
    """The dimensions that `values` runs along."""

    values: NDArray[np.float64]
    """The values, in the unit that `attributes` names."""

    attributes: dict[str, str]
    """Its CF attributes: standard name, units, axis."""


class Grid(Protocol):
    """Cells on the sphere or on the plane."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The number of rows and columns, or of cells."""

    @property
    def dims(self) -> tuple[str, str]:
        """The names of the two coordinates: `("lat", "lon")` or `("y", "x")`."""

    @property
    def periodic(self) -> tuple[bool, bool]:
        """Whether the first and whether the second direction closes on itself."""

    @property
    def area(self) -> NDArray[np.float64]:
        """The share of each cell (*shape): of the whole sphere, or of the plane."""

    @property
    def points(self) -> tuple[Floats, Floats]:
        """The two coordinates of every cell (*shape)."""

    @property
    def coordinates(self) -> dict[str, Coordinate]:
        """What a file has to hold so that the grid can be read again, by variable name."""

    def encode(self, first: ArrayLike, second: ArrayLike, scales: tuple[int, ...]) -> Floats:
        """Return features (..., k) of points that do not know the resolution of the grid."""

    def to_dict(self) -> dict[str, Any]:
        """Return what `grid_from_dict` rebuilds the grid from; it can be stored as JSON."""


class Lattice(Grid, Protocol):
    """Rows and columns of cells; patches of it are rectangles."""

    @property
    def shape(self) -> tuple[int, int]:
        """The number of rows and columns."""

    @property
    def borders(self) -> tuple[tuple[Border, Border], tuple[Border, Border]]:
        """How rows (first, last) and columns (first, last) go on beyond the grid."""

    def position(self, first: ArrayLike, second: ArrayLike) -> tuple[Floats, Floats]:
        """Return the fractional row and column of points given by the two coordinates."""

    def place(self, row: ArrayLike, col: ArrayLike) -> tuple[Floats, Floats]:
        """Return the two coordinates at fractional rows and columns: the inverse of `position`."""


class Cells(Grid, Protocol):
    """A list of cells; patches of it are runs of cells along a curve."""

    def curve(self, cells: int) -> Ints | None:
        """Return the cells in the order of the curve (n,), None where they already are.

        Raises:
            ValueError: Runs of so many cells are no patches of this grid.
        """

    def neighbours(self, cells: int = 1) -> Ints:
        """Return which runs of `cells` cells touch each run (runs, k), -1 for none."""

    def stencil(self, first: Floats, second: Floats, rule: Rule) -> Stencil:
        """Weigh the cells around points (m,) given by the two coordinates."""


def is_lattice(grid: Grid) -> TypeGuard[Lattice]:
    """Return whether a grid has rows and columns.

    Examples:
        >>> from stormda.grid import LatLonGrid
        >>> is_lattice(LatLonGrid([0, 1], [0, 1]))
        True
    """
    return hasattr(type(grid), "position")  # of the type: a property may be costly


def is_list(grid: Grid) -> TypeGuard[Cells]:
    """Return whether a grid is a list of cells.

    Examples:
        >>> from stormda.grid import LatLonGrid
        >>> is_list(LatLonGrid([0, 1], [0, 1]))
        False
    """
    return hasattr(type(grid), "stencil")
