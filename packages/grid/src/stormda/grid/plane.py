"""The plane: rows and columns of equal cells, closed on itself in either direction or walled."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stormda.grid.axis import Axis, Border, Floats
from stormda.grid.encoding import SCALES, plane_features
from stormda.grid.protocol import Coordinate


@dataclass(frozen=True)
class PlaneGrid:
    """A plane of equal rectangular cells.

    Raises:
        ValueError: A size is not positive.

    Examples:
        >>> grid = PlaneGrid((64, 64), spacing_m=(312.5e3, 312.5e3))
        >>> grid.y[:3], grid.periodic, grid.extent_m
        (array([     0., 312500., 625000.]), (True, True), (20000000.0, 20000000.0))
    """

    shape: tuple[int, int]
    """The number of rows and columns."""

    spacing_m: tuple[float, float]
    """The size of a cell along y and x [m]."""

    periodic: tuple[bool, bool] = (True, True)
    """Whether the plane closes on itself along y and x."""

    origin_m: tuple[float, float] = (0.0, 0.0)
    """The centre of the first cell, y and x [m]."""

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        if min(self.shape) < 1:
            raise ValueError(f"shape: expected positive numbers of cells, got {self.shape}")
        if not all(0 < spacing < np.inf for spacing in self.spacing_m):
            raise ValueError(f"spacing_m: expected positive metres, got {self.spacing_m}")
        if not np.isfinite(self.origin_m).all():
            raise ValueError(f"origin_m: expected finite metres, got {self.origin_m}")

    @property
    def y(self) -> Floats:
        """The positions of the rows (rows,) [m]."""
        return self.rows.values

    @property
    def x(self) -> Floats:
        """The positions of the columns (cols,) [m]."""
        return self.cols.values

    @property
    def extent_m(self) -> tuple[float, float]:
        """The size of the plane along y and x [m]."""
        return self.shape[0] * self.spacing_m[0], self.shape[1] * self.spacing_m[1]

    @property
    def dims(self) -> tuple[str, str]:
        """The names of the two directions."""
        return "y", "x"

    @property
    def borders(self) -> tuple[tuple[Border, Border], tuple[Border, Border]]:
        """How rows and columns go on beyond the plane."""
        return self.rows.borders, self.cols.borders

    @cached_property
    def rows(self) -> Axis:
        """The positions of the rows as an axis [m]."""
        return self._axis(0)

    @cached_property
    def cols(self) -> Axis:
        """The positions of the columns as an axis [m]."""
        return self._axis(1)

    @property
    def area(self) -> NDArray[np.float64]:
        """The share of the plane of each cell (rows, cols)."""
        return np.broadcast_to(1 / (self.shape[0] * self.shape[1]), self.shape)

    @property
    def points(self) -> tuple[Floats, Floats]:
        """The two coordinates of every cell, each (rows, cols)."""
        first, second = np.meshgrid(self.y, self.x, indexing="ij")
        return first, second

    @property
    def coordinates(self) -> dict[str, Coordinate]:
        """`y` and `x` with their CF attributes."""
        return {
            name: Coordinate((name,), axis.values, _attributes(name))
            for name, axis in (("y", self.rows), ("x", self.cols))
        }

    def position(self, first: ArrayLike, second: ArrayLike) -> tuple[Floats, Floats]:
        """Return the fractional row and column of points at y `first` and x `second` [m].

        Examples:
            >>> PlaneGrid((4, 4), (10.0, 10.0)).position([15.0], [35.0])
            (array([1.5]), array([-0.5]))
        """
        return self.rows.position(first), self.cols.position(second)

    def place(self, row: ArrayLike, col: ArrayLike) -> tuple[Floats, Floats]:
        """Return y and x [m] at fractional rows and columns.

        Examples:
            >>> PlaneGrid((4, 4), (10.0, 10.0)).place([1.5], [-0.5])
            (array([15.]), array([-5.]))
        """
        return self.rows.place(row), self.cols.place(col)

    def encode(
        self, first: ArrayLike, second: ArrayLike, scales: tuple[int, ...] = SCALES
    ) -> Floats:
        """Return `plane_features` of y `first` and x `second` [m]."""
        y, x = np.asarray(first) - self.origin_m[0], np.asarray(second) - self.origin_m[1]
        return plane_features(y, x, self.extent_m, periodic=self.periodic, scales=scales)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as lists, for `grid_from_dict`."""
        fields = ("shape", "spacing_m", "periodic", "origin_m")
        return {"kind": "plane"} | {name: list(getattr(self, name)) for name in fields}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "PlaneGrid":
        """Rebuild a grid from `to_dict`.

        Examples:
            >>> grid = PlaneGrid((4, 8), (1e3, 2e3), periodic=(False, True))
            >>> PlaneGrid.from_dict(grid.to_dict()) == grid
            True
        """
        return cls(**{name: tuple(value) for name, value in data.items() if name != "kind"})

    def _axis(self, direction: int) -> Axis:
        n, spacing = self.shape[direction], self.spacing_m[direction]
        wraps = self.periodic[direction]
        border = Border.WRAP if wraps else Border.WALL
        return Axis(
            values=self.origin_m[direction] + spacing * np.arange(n, dtype=np.float64),
            edges=self.origin_m[direction] + spacing * (np.arange(n + 1, dtype=np.float64) - 0.5),
            borders=(border, border),
            period=n * spacing if wraps else None,
        )


def _attributes(name: str) -> dict[str, str]:
    standard_name = f"projection_{name}_coordinate"
    return {"standard_name": standard_name, "units": "m", "axis": name.upper()}
