"""How the cells of a grid are laid out so that every patch is one axis of an array.

A `Lattice` is padded to whole rectangles: round the seam where it is periodic, over the pole
(turned by 180 degrees, vectors with the other sign) where it ends at one, over a fold to the cells
that face it, and mirrored at walls.
`Cells` are put in the order of their curve and the last run is filled up with its last cell.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from einops import reduce
from numpy.typing import NDArray

from stormda.grid.arrays import Array, Sliceable, concatenate, cut, gather, negate, take_range
from stormda.grid.axis import Border, Floats, Ints, resolve
from stormda.grid.fold import fold_of, row_borders
from stormda.grid.protocol import Cells, Grid, Lattice, is_lattice, is_list
from stormda.grid.sphere import angles, unit_vectors


class Arrangement(Protocol):
    """Cells laid out for patches; `field`, `token` and `cell` are terms of einops patterns."""

    field: str
    """The axes of a padded field."""

    token: str
    """The axes of `token_shape`."""

    cell: str
    """The axes within a patch."""

    @property
    def sizes(self) -> dict[str, int]:
        """The lengths of the axes of `cell`."""

    @property
    def token_shape(self) -> tuple[int, ...]:
        """The numbers of tokens."""

    @property
    def padded_shape(self) -> tuple[int, ...]:
        """The numbers of cells, padding included."""

    @property
    def weights(self) -> Floats:
        """The area of each token (n,)."""

    @property
    def centres(self) -> tuple[Floats, Floats]:
        """The grid's two coordinates at the middle of each token (n,)."""

    def neighbours(self) -> Ints:
        """Return the tokens around each token (n, k), -1 for none."""

    def pad(self, x: Array, vectors: Sequence[int] = ()) -> Array:
        """Lay out fields (..., *shape) as (..., *padded_shape)."""

    def crop(self, x: Array) -> Array:
        """Undo `pad`."""

    def band(
        self, x: Sliceable, frames: slice, first: int, last: int, vectors: Sequence[int]
    ) -> NDArray[Any]:
        """Load what rows `first ... last - 1` of tokens are made of, laid out as by `pad`."""


def arrange(grid: Grid, patch: tuple[int, ...]) -> Arrangement:
    """Return how the cells of a grid are laid out for patches.

    Raises:
        ValueError: The patch is none of this grid.
        TypeError: The grid is neither a `Lattice` nor `Cells`.

    Examples:
        >>> from stormda.grid import HealpixGrid
        >>> arrange(HealpixGrid(4), (2, 2)).token_shape
        (48,)
    """
    if is_lattice(grid):
        if len(patch) != 2:
            raise ValueError(f"patch: expected rows and columns, got {patch}")
        return Rectangles(grid, (patch[0], patch[1]))
    if is_list(grid):
        return Runs(grid, int(np.prod(patch)))
    raise TypeError(f"grid: expected a Lattice or Cells, got {type(grid).__name__}")


@dataclass(frozen=True, eq=False)
class Rectangles:
    """Patches of `py x px` cells, numbered row by row."""

    grid: Lattice
    """The grid."""

    patch: tuple[int, int]
    """The rows and columns of a patch."""

    field = "(r y) (c x)"
    token = "r c"
    cell = "y x"

    def __post_init__(self) -> None:
        """Plan the padding once and for all calls."""
        (rows, cols), borders_x = self.grid.shape, self.grid.borders[1]
        below, turned, _ = resolve(range(rows, self.padded_shape[0]), rows, row_borders(self.grid))
        beside, _, _ = resolve(range(cols, self.padded_shape[1]), cols, borders_x)
        pairs = tuple(zip(below.tolist(), turned.tolist(), strict=True))
        object.__setattr__(self, "_below", pairs)
        object.__setattr__(self, "_beside", tuple(beside.tolist()))

    _below: tuple[tuple[int, bool], ...] = ()
    """The rows that pad the field, and whether they are seen from over a pole."""

    _beside: tuple[int, ...] = ()
    """The columns that pad the field."""

    @property
    def sizes(self) -> dict[str, int]:
        """The lengths of the axes of `cell`."""
        return {"y": self.patch[0], "x": self.patch[1]}

    @property
    def token_shape(self) -> tuple[int, int]:
        """The rows and columns of tokens."""
        (rows, cols), (py, px) = self.grid.shape, self.patch
        return -(-rows // py), -(-cols // px)

    @property
    def padded_shape(self) -> tuple[int, int]:
        """The rows and columns of cells, padding included."""
        return self.token_shape[0] * self.patch[0], self.token_shape[1] * self.patch[1]

    def pad(self, x: Array, vectors: Sequence[int] = ()) -> Array:
        """Continue fields (..., rows, cols) behind the last row and column."""
        pieces = [x]
        for row, over_pole in self._below:
            piece = cut(x, -2, row, row + 1)
            pieces.append(self._turned(piece, vectors) if over_pole else piece)
        return self._beside_padded(concatenate(pieces, -2))

    def band(
        self, x: Sliceable, frames: slice, first: int, last: int, vectors: Sequence[int]
    ) -> NDArray[Any]:
        """Load rows of cells of fields (time, variable, rows, cols), padded."""
        py, rows = self.patch[0], self.grid.shape[0]
        pieces = [np.asarray(x[frames, :, first * py : min(last * py, rows)])]
        for row, over_pole in self._below if last * py > rows else ():
            piece = np.asarray(x[frames, :, row : row + 1])
            pieces.append(self._turned(piece, vectors) if over_pole else piece)
        return self._beside_padded(concatenate(pieces, -2))

    def _turned(self, row: Array, vectors: Sequence[int]) -> Array:
        fold = fold_of(self.grid)
        return turn(row, vectors) if fold is None else fold.row(row, vectors)

    def _beside_padded(self, x: Array) -> Array:
        pieces = [x]
        for col in self._beside:
            pieces.append(cut(x, -1, col, col + 1))
        return concatenate(pieces, -1)

    def crop(self, x: Array) -> Array:
        """Cut the padding off."""
        rows, cols = self.grid.shape
        if tuple(x.shape[-2:]) == (rows, cols):
            return x
        return cut(cut(x, -2, 0, rows), -1, 0, cols)

    @cached_property
    def weights(self) -> Floats:
        """The area of each token (n,)."""
        padding = [(0, p - n) for p, n in zip(self.padded_shape, self.grid.shape, strict=True)]
        area = np.pad(self.grid.area, padding)
        return reduce(area, "(r y) (c x) -> (r c)", "sum", **self.sizes)

    @cached_property
    def centres(self) -> tuple[Floats, Floats]:
        """The grid's two coordinates (n,) at the middle of the real cells of each token."""
        row, col = (
            (start + np.minimum(start + size, n) - 1) / 2
            for n, size, count in zip(self.grid.shape, self.patch, self.token_shape, strict=True)
            for start in [size * np.arange(count)]
        )
        first, second = self.grid.place(*np.meshgrid(row, col, indexing="ij"))
        return first.ravel(), second.ravel()

    def neighbours(self) -> Ints:
        """Return the tokens of the 3 x 3 square around each, row by row (n, 8)."""
        (rows, cols), fold = self.token_shape, fold_of(self.grid)
        around = np.array([(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1) if i or j])
        row = np.arange(rows)[:, None, None] + around[:, 0]
        col = np.arange(cols)[None, :, None] + around[:, 1]
        row, turned, inside_y = resolve(row, rows, _between_tokens(row_borders(self.grid)))
        there = col + cols // 2
        if fold is not None:
            there = fold.of_tokens(cols, self.patch[1]).facing(col)
        col, _, inside_x = resolve(np.where(turned, there, col), cols, self.grid.borders[1])
        table = np.where(inside_y & inside_x, row * cols + col, -1).reshape(-1, len(around))
        itself = np.arange(len(table))[:, None]  # at the end of a fold
        return table if fold is None else np.where(table == itself, -1, table)


@dataclass(frozen=True, eq=False)
class Runs:
    """Patches of consecutive cells along the grid's curve."""

    grid: Cells
    """The grid."""

    length: int
    """The cells of a patch."""

    field = "(r y)"
    token = "r"
    cell = "y"

    def __post_init__(self) -> None:
        """Refuse what is no patch, and plan the order once and for all calls."""
        (n,), padded = self.grid.shape, self.padded_shape[0]
        order = self.grid.curve(self.length)
        if order is None and padded == n:
            object.__setattr__(self, "order", None)
            return
        order = np.arange(n) if order is None else order
        last = np.full(padded - n, order[-1])
        object.__setattr__(self, "order", np.concatenate([order, last]))
        object.__setattr__(self, "places", np.argsort(order, kind="stable"))

    order: Ints | None = None
    """The cell at every place of the padded list; None where both are the same."""

    places: Ints | None = None
    """The place of every cell: the inverse of `order`."""

    @property
    def sizes(self) -> dict[str, int]:
        """The lengths of the axes of `cell`."""
        return {"y": self.length}

    @property
    def token_shape(self) -> tuple[int]:
        """The number of tokens."""
        return (-(-self.grid.shape[0] // self.length),)

    @property
    def padded_shape(self) -> tuple[int]:
        """The number of cells, padding included."""
        return (self.token_shape[0] * self.length,)

    def pad(self, x: Array, vectors: Sequence[int] = ()) -> Array:
        """Put fields (..., n) in the order of the curve; no cell lies over a pole."""
        return x if self.order is None else gather(x, self.order)

    def band(
        self, x: Sliceable, frames: slice, first: int, last: int, vectors: Sequence[int]
    ) -> NDArray[Any]:
        """Load runs of cells of fields (time, variable, n), in the order of the curve."""
        cells = slice(first * self.length, last * self.length)
        if self.order is None:
            return np.asarray(x[frames, :, cells])
        known, back = np.unique(self.order[cells], return_inverse=True)  # files want them in order
        return np.asarray(x[frames, :, known])[..., back]

    def crop(self, x: Array) -> Array:
        """Put fields back in the order of the grid."""
        return x if self.places is None else gather(x, self.places)

    @cached_property
    def weights(self) -> Floats:
        """The area of each token (n,)."""
        area = self.pad(np.asarray(self.grid.area))
        real = np.arange(len(area)) < self.grid.shape[0]
        return reduce(np.where(real, area, 0.0), "(r y) -> r", "sum", **self.sizes)

    @cached_property
    def centres(self) -> tuple[Floats, Floats]:
        """Latitude and longitude (n,) of the mean of the real cells of each token."""
        xyz = unit_vectors(*(self.pad(c) for c in self.grid.points))
        xyz[self.grid.shape[0] :] = 0
        return angles(reduce(xyz, "(r y) xyz -> r xyz", "sum", **self.sizes))

    def neighbours(self) -> Ints:
        """Return the tokens that touch each token (n, k)."""
        table = self.grid.neighbours(self.length)
        if self.length > 1 or self.order is None or self.places is None:
            return table
        around = table[self.order]  # single cells are numbered as the grid is
        return np.where(around >= 0, self.places[around], -1)


def turn(row: Array, vectors: Sequence[int]) -> Array:
    """Return rows (..., rows, cols) as they are seen from over the pole, to the nearest column.

    Args:
        row: The rows; with `vectors` (..., variable, rows, cols).
        vectors: The variables, by number, that change sign over the pole.

    Examples:
        >>> turn(np.array([[1.0, 2.0, 3.0, 4.0]]), ())
        array([[3., 4., 1., 2.]])
    """
    cols = row.shape[-1]
    return negate(take_range(row, -1, cols // 2, cols // 2 + cols), vectors)


def _between_tokens(borders: tuple[Border, Border]) -> tuple[Border, Border]:
    """Return how rows of tokens go on where rows of cells do so: no token is centred on a pole."""
    first, last = (Border.POLE_EDGE if b is Border.POLE_ROW else b for b in borders)
    return first, last
