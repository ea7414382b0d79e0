"""What every grid can do: the one contract that patches, tiles, stencils and files rely on.

A grid is a small immutable object with equality and a hash. Its two coordinates are latitude and
longitude [degrees] on the sphere, y and x [m] on the plane; its cells are numbered row by row.
"""

from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stormda.grid.axis import Border, Floats


class Coordinate(NamedTuple):
    """One coordinate variable of a file."""

    dims: tuple[str, ...]
    """The dimensions that `values` runs along."""

    values: NDArray[np.float64]
    """The values, in the unit that `attributes` names."""

    attributes: dict[str, str]
    """Its CF attributes: standard name, units, axis."""


class Grid(Protocol):
    """Rows and columns of cells on the sphere or on the plane."""

    @property
    def shape(self) -> tuple[int, int]:
        """The number of rows and columns."""

    @property
    def dims(self) -> tuple[str, str]:
        """The names of the two directions: `("lat", "lon")` or `("y", "x")`."""

    @property
    def periodic(self) -> tuple[bool, bool]:
        """Whether the rows and whether the columns close on themselves."""

    @property
    def borders(self) -> tuple[tuple[Border, Border], tuple[Border, Border]]:
        """How rows (first, last) and columns (first, last) go on beyond the grid."""

    @property
    def area(self) -> NDArray[np.float64]:
        """The share of each cell (rows, cols): of the whole sphere, or of the plane."""

    @property
    def coordinates(self) -> dict[str, Coordinate]:
        """What a file has to hold so that the grid can be read again, by variable name."""

    def position(self, first: ArrayLike, second: ArrayLike) -> tuple[Floats, Floats]:
        """Return the fractional row and column of points given by the two coordinates."""

    def place(self, row: ArrayLike, col: ArrayLike) -> tuple[Floats, Floats]:
        """Return the two coordinates at fractional rows and columns: the inverse of `position`."""

    def encode(self, first: ArrayLike, second: ArrayLike, scales: tuple[int, ...]) -> Floats:
        """Return features (..., k) of points that do not know the resolution of the grid."""

    def to_dict(self) -> dict[str, Any]:
        """Return what `grid_from_dict` rebuilds the grid from; it can be stored as JSON."""
