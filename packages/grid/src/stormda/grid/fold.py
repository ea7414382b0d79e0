"""The northern fold of tripolar grids, found from where the cells lie.

The outermost row of such a grid lies along a line between two poles, there and back. Column c
faces column

    s - c  (modulo the number of columns)

on the other side. The row may lie beside the fold, so that the same row follows (an F-point
pivot), or on it, where cells that face each other are the same (a T-point pivot). The sum s is
what maximises the correlation of the row with itself in reverse, a circular convolution.

Source: Madec and Imbard (1996), Clim. Dyn. 12, 381; Murray (1996), J. Comput. Phys. 126, 251.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike

from stormda.grid.arrays import Array, flip, negate, take_range
from stormda.grid.axis import Border, Floats, Ints
from stormda.grid.protocol import Grid, Lattice
from stormda.grid.sphere import checked_angles, unit_vectors

Columns = TypeVar("Columns", Ints, Floats)
"""Numbers of columns, whole or fractional."""

SAME = 0.02
"""How far apart two cells may be that are the same [steps]: coordinates are rounded."""

BEND = 0.4
"""How much the steps of most columns may bend at a fold [steps]."""

TINY = 1e-9
"""Steps of a row that is one point, at a pole [radians]."""

FEWEST = 4
"""Columns without which nothing folds."""

DEEPEST = 4
"""Rows and columns on a side that files repeat at most."""

FEW = 0.05
"""The share of a row that may lie on another by chance, as around the poles, or else two cells."""


@dataclass(frozen=True)
class Fold:
    """Where rows go on after the outermost one: along itself, in reverse.

    Examples:
        >>> Fold(total=-1, columns=8).facing(np.arange(8))
        array([7, 6, 5, 4, 3, 2, 1, 0])
    """

    total: int
    """What two columns that face each other add up to, modulo the number of columns."""

    columns: int
    """The number of columns."""

    in_row: bool = False
    """Whether the outermost row lies on the fold, and not beside it."""

    first: bool = False
    """Whether the outermost row is the first, and not the last."""

    def facing(self, col: Columns) -> Columns:
        """Return the columns, also fractional ones, on the other side."""
        return (self.total - col) % self.columns

    def borders(self, borders: tuple[Border, Border]) -> tuple[Border, Border]:
        """Return how rows go on: at the fold as they do over a pole."""
        over = Border.POLE_ROW if self.in_row else Border.POLE_EDGE
        return (over, borders[1]) if self.first else (borders[0], over)

    def of_tokens(self, columns: int, px: int) -> "Fold":
        """Return the fold of tokens of `px` columns each, to the nearest token.

        Examples:
            >>> Fold(total=-1, columns=8).of_tokens(4, px=2).facing(np.arange(4))
            array([3, 2, 1, 0])
        """
        return replace(self, total=math.floor((self.total + 1) / px - 0.5), columns=columns)

    def row(self, x: Array, vectors: Sequence[int]) -> Array:
        """Return rows (..., rows, cols) as they are seen from over the fold.

        Args:
            x: The rows; with `vectors` (..., variable, rows, cols).
            vectors: The variables, by number, that change sign.

        Examples:
            >>> Fold(total=0, columns=4).row(np.array([[1.0, 2.0, 3.0, 4.0]]), ())
            array([[1., 4., 3., 2.]])
        """
        start = self.columns - 1 - self.total
        return negate(take_range(flip(x, -1), -1, start, start + self.columns), vectors)


def fold_of(grid: Grid) -> Fold | None:
    """Return the fold of a grid; most have none.

    Examples:
        >>> from stormda.grid import LatLonGrid
        >>> fold_of(LatLonGrid([0, 1], [0, 1]))
    """
    return getattr(grid, "fold", None)


def row_borders(grid: Lattice) -> tuple[Border, Border]:
    """Return how the rows of a grid go on: at a fold as over a pole, where columns are `facing`.

    Examples:
        >>> from stormda.grid import LatLonGrid
        >>> row_borders(LatLonGrid([0, 1], [0, 1]))[0]
        <Border.WALL: 'wall'>
    """
    fold = fold_of(grid)
    return grid.borders[0] if fold is None else fold.borders(grid.borders[0])


def find_fold(centres: Floats) -> Fold | None:
    """Return the fold of rows whose columns close on themselves, None where there is none.

    Args:
        centres: Cell centres (rows, columns, 3) as unit vectors, none of them twice but on the
            fold.

    Raises:
        ValueError: A part of the outermost row lies on another part of it, the rest does not.

    Examples:
        >>> x, y = np.meshgrid(np.cos(np.pi / 4 * (np.arange(8) + 0.5)), [0.5, 0.3, 0.1])
        >>> y = np.where(np.arange(8) < 4, y, -y)
        >>> find_fold(np.stack([x, y, np.full(x.shape, 9.0)], -1) / 9)
        Fold(total=7, columns=8, in_row=False, first=False)
    """
    for first in (False, True) if centres.shape[1] >= FEWEST else ():
        rows = centres if first else centres[::-1]
        total = _total(rows[0], rows[0])
        there = _reversed(rows[0], total)
        along, across = _length(rows[0] - np.roll(rows[0], 1, 0)), _length(rows[0] - rows[1])
        if np.median(along) < SAME * np.median(across):
            continue  # the row is a point, at a pole
        gap = _length(rows[0] - there)
        other = Fold(total, len(gap)).facing(np.arange(len(gap))) != np.arange(len(gap))
        if _coincide(gap[other], np.minimum(along, across)[other]):
            return Fold(total, len(gap), in_row=True, first=first)
        bend = _length(rows[1] - 2 * rows[0] + there)
        if np.median(bend / across) < BEND and np.median(gap / across) > 0.5:
            return Fold(total, len(gap), first=first)
    return None


def closes(centres: Floats) -> bool:
    """Return whether the step from the last column to the first is like the others.

    Examples:
        >>> lat, lon = np.meshgrid([0.0, 10.0], np.arange(0.0, 360, 10), indexing="ij")
        >>> [closes(unit_vectors(lat[:, :n], lon[:, :n])) for n in (36, 34)]
        [True, False]
    """
    steps = _length(np.diff(centres, axis=1))
    seam = _length(centres[:, 0] - centres[:, -1])
    ratio = np.median(seam / np.maximum(np.median(steps, axis=1), 1e-12))
    return bool(0.5 < ratio < 1.5)


def unique_cells(lat: ArrayLike, lon: ArrayLike) -> tuple[slice, slice]:
    """Return which rows and columns to keep so that no cell comes twice.

    Files of tripolar grids often repeat their first columns behind the last, and their last rows
    once more over the fold. Apply both slices to the coordinates and to the fields. A row that
    lies on the fold stays: each of its cells is there twice, with half of the area each.

    Args:
        lat: Latitudes (rows, cols) [degrees_north].
        lon: Longitudes (rows, cols) [degrees_east].

    Raises:
        ValueError: A part of a row or column repeats another, and the rest does not.

    Examples:
        >>> lat, lon = np.meshgrid([50.0, 60.0], np.arange(0.0, 361, 10), indexing="ij")
        >>> unique_cells(lat + 0.01 * np.sin(np.radians(lon)), lon)
        (slice(0, 2, None), slice(0, 36, None))
    """
    return unique(unit_vectors(checked_angles("lat", lat), checked_angles("lon", lon)))


def unique(centres: Floats) -> tuple[slice, slice]:
    """Return the `unique_cells` of centres (rows, cols, 3).

    Examples:
        >>> unique(np.random.default_rng(0).normal(size=(3, 4, 3)))
        (slice(0, 3, None), slice(0, 4, None))
    """
    rows, cols = centres.shape[0], _columns(centres)
    if not closes(centres[:, :cols]):
        return slice(0, rows), slice(0, cols)
    last = rows - _rows(centres[::-1, :cols])
    first = _rows(centres[:last, :cols])
    return slice(first, last), slice(0, cols)


def _columns(centres: Floats) -> int:
    """Return the number of columns before the first comes again."""
    cols = int(centres.shape[1])
    step = _length(centres[:, 1] - centres[:, 0])
    for col in range(max(cols - 2 * DEEPEST, 2), cols):
        if _coincide(_length(centres[:, col] - centres[:, 0]), step, "column"):
            return col
    return cols


def _rows(rows: Floats) -> int:
    """Return how many rows (n, cols, 3), from the outermost on, are others in reverse."""
    for count in range(min(DEEPEST, len(rows) - 2)):
        row, others = rows[count], rows[count + 1 : count + 1 + 2 * DEEPEST]
        step = _length(row - np.roll(row, 1, 0))
        if np.median(step) < TINY or not any(
            _coincide(_length(row - _reversed(other, _total(row, other))), step)
            for other in others
        ):
            return count
    return min(DEEPEST, len(rows) - 2)


def _total(row: Floats, other: Floats) -> int:
    """Return the s with which the columns s - c of `other` (cols, 3) lie closest to c of `row`."""
    spectra = np.fft.rfft(row, axis=0) * np.fft.rfft(other, axis=0)
    return int(np.argmax(np.fft.irfft(spectra.sum(-1), len(row))))


def _reversed(row: Floats, total: int) -> Floats:
    """Return a row (cols, 3) in reverse: column `total - c` at c."""
    return np.asarray(np.roll(row[::-1], total + 1, axis=0))


def _coincide(apart: Floats, step: Floats, what: str = "row") -> bool:
    """Return whether cells of a row or column are those of another.

    Raises:
        ValueError: Some are and some are not.
    """
    same = apart < SAME * step
    few = max(FEW * same.size, 2)
    if few < same.sum() < same.size - few:
        raise ValueError(
            f"lat, lon: expected a {what} that repeats another as a whole or not at all, "
            f"got {same.sum()} of {same.size} cells that do"
        )
    return bool(same.mean() > 0.5)


def _length(vectors: Floats) -> Floats:
    return np.asarray(np.linalg.norm(vectors, axis=-1))
