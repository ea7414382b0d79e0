"""Tiles with halos that cover a field, and their seamless sum.

Tile t has a core; its window is the core and a halo around it. With a the Hann ramp

    a(k) = sin^2(pi (k + 1/2) / (4 h)),    k = 0 ... 2 h - 1

over the `2 h` cells that two windows share, rising for one and falling for the other, divided by
the sum over tiles, the weights are a partition of unity: cutting a field into windows and adding
the weighted windows up gives the field again. Without blending, a is 1 in the core and 0 in the
halo: every cell is its own tile's, and where windows differ there is a seam.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from stormda.grid.arrays import (
    Array,
    concatenate,
    convert,
    cut,
    flip,
    negate,
    take_range,
    wrapped,
    zeros,
)
from stormda.grid.axis import Border, Floats, resolve
from stormda.grid.fold import Fold, fold_of, row_borders
from stormda.grid.protocol import Lattice


class Span(NamedTuple):
    """A range of rows or of columns; on a ring it may leave `0 ... n`."""

    start: int
    """The first cell."""

    stop: int
    """The cell behind the last."""


class Window(NamedTuple):
    """Where a tile lies."""

    core: tuple[Span, Span]
    """The rows and columns that are the tile's own; the cores cover every cell once."""

    extended: tuple[Span, Span]
    """The rows and columns of core and halo; negative or too large numbers are round the seam."""


@dataclass(frozen=True)
class TileLayout:
    """A field cut into `ty x tx` tiles with halos, numbered row by row.

    Halos go round the seam in periodic directions, over the poles where `poles` says so, and end
    at the border in others. Tiles differ by at most a cell where the numbers do not divide.

    Raises:
        ValueError: There are more tiles than cells, a halo is negative or exceeds the field, or
            columns that go over a pole do not close on themselves.

    Examples:
        >>> layout = TileLayout((6, 12), tiles=(2, 4), halo=(1, 2), periodic=True)
        >>> tiles = layout.split(np.ones((3, 6, 12)))
        >>> len(tiles), tiles[0].shape, layout.merge(tiles).shape
        (8, (3, 4, 7), (3, 6, 12))
    """

    shape: tuple[int, int]
    """The rows and columns of the field."""

    tiles: tuple[int, int]
    """The numbers of tiles along rows and columns."""

    halo: tuple[int, int] = (0, 0)
    """The width of the halo along rows and columns [cells]."""

    periodic: bool | tuple[bool, bool] = False
    """Whether the field closes on itself: along the columns, or (rows, columns)."""

    poles: tuple[Border, Border] = (Border.WALL, Border.WALL)
    """How the field goes on beyond its first and last row: `Border.WALL` ends the halo, the kinds
    of poles continue it with the other side, turned by 180 degrees."""

    fold: Fold | None = None
    """Where the rows fold: over this one of the `poles` lie the columns that face each other."""

    blend: bool = True
    """Whether windows that overlap are blended by Hann weights; else each is cut to its core."""

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        for name, low in (("tiles", 1), ("halo", 0)):
            value = getattr(self, name)
            if not all(low <= v <= n for v, n in zip(value, self.shape, strict=True)):
                raise ValueError(
                    f"{name}: expected between {low} and the cells {self.shape}, got {value}"
                )

        if Border.WRAP in self.poles:
            raise ValueError("poles: expected walls or poles, got wrap: rows wrap by `periodic`")
        if self.poles != (Border.WALL, Border.WALL) and (
            self.wraps != (False, True) or self.halo[0] >= self.shape[0]
        ):
            raise ValueError(
                "poles: expected columns (not rows) that close on themselves and a halo below the "
                f"{self.shape[0]} rows, got periodic {self.wraps} and halo {self.halo[0]}"
            )

        if self.fold is not None and self.fold.columns != self.shape[1]:
            raise ValueError(
                f"fold: expected one of {self.shape[1]} columns, got {self.fold.columns}"
            )

    @classmethod
    def on(
        cls, grid: Lattice, tiles: tuple[int, int], halo: tuple[int, int] = (0, 0)
    ) -> "TileLayout":
        """Return the tiles of a grid: its halos go wherever the grid does, poles and folds too.

        Examples:
            >>> from stormda.grid import grid
            >>> layout = TileLayout.on(grid("10deg"), tiles=(2, 4), halo=(2, 2))
            >>> layout.take(np.arange(18.0)[:, None] * np.ones(36), 0)[:4, 0]
            array([1., 0., 0., 1.])
        """
        (first, last), (border, _) = row_borders(grid), grid.borders[1]
        wraps = first is Border.WRAP, border is Border.WRAP
        poles = (Border.WALL, Border.WALL) if wraps[0] else (first, last)
        return cls(grid.shape, tiles, halo, wraps, poles, fold_of(grid))

    def __len__(self) -> int:
        """Return the number of tiles."""
        return self.tiles[0] * self.tiles[1]

    @property
    def wraps(self) -> tuple[bool, bool]:
        """Whether rows and whether columns close on themselves."""
        return (False, self.periodic) if isinstance(self.periodic, bool) else self.periodic

    def windows(self) -> list[Window]:
        """Return where every tile lies.

        Examples:
            >>> TileLayout((4, 6), tiles=(1, 2), halo=(1, 1), periodic=True).windows()[0].extended
            (Span(start=0, stop=4), Span(start=-1, stop=4))
        """
        return [self.window(i) for i in range(len(self))]

    def window(self, i: int) -> Window:
        """Return where tile `i` lies."""
        row, col = divmod(i, self.tiles[1])
        (core_y, extended_y), (core_x, extended_x) = self._spans(0)[row], self._spans(1)[col]
        return Window((core_y, core_x), (extended_y, extended_x))

    def weight(self, i: int) -> Floats:
        """Return the weights of the window of tile `i` (window rows, window columns), float64."""
        row, col = divmod(i, self.tiles[1])
        return np.outer(self._ramps[0][row], self._ramps[1][col])

    def take(self, x: Array, i: int, vectors: Sequence[int] = ()) -> Array:
        """Return the window of tile `i`: (..., rows, cols) -> (..., window rows, window columns).

        Args:
            x: Fields (..., rows, cols); with `vectors` (..., variable, rows, cols).
            i: The tile.
            vectors: The variables, by number, that change sign over a pole.

        Raises:
            ValueError: `x` has another shape than the layout.
        """
        if tuple(x.shape[-2:]) != self.shape:
            raise ValueError(f"x: expected last dimensions {self.shape}, got {tuple(x.shape)}")
        rows, (start, stop) = self.window(i).extended
        pieces = []
        for _, there, over_pole in self._row_pieces(rows):
            piece = cut(x, -2, there.start, there.stop)
            piece = take_range(piece, -1, *self._columns(start, stop, over_pole))
            pieces.append(self._seen(piece, vectors) if over_pole else piece)
        return concatenate(pieces, -2)

    def add(self, out: Array, i: int, y: Array, vectors: Sequence[int] = ()) -> None:
        """Add the window `y` of tile `i`, weighted, to `out` (..., rows, cols) in place.

        What lies over a pole goes where `take` has it from, `vectors` with the other sign.

        Raises:
            ValueError: `y` has another shape than the window.
        """
        weight = self.weight(i)
        if tuple(y.shape[-2:]) != weight.shape:
            raise ValueError(
                f"y: expected last dimensions {weight.shape} of tile {i}, got {tuple(y.shape)}"
            )
        rows, (start, stop) = self.window(i).extended
        y = y * convert(weight, y)
        for here_y, there_y, over_pole in self._row_pieces(rows):
            part = cut(y, -2, here_y.start, here_y.stop)
            part = self._seen(part, vectors) if over_pole else part
            for here_x, there_x in _pieces(self._columns(start, stop, over_pole), self.shape[1]):
                out[..., there_y, there_x] += part[..., here_x]

    def split(self, x: Array, vectors: Sequence[int] = ()) -> list[Array]:
        """Return the windows of all tiles, each (..., window rows, window columns)."""
        return [self.take(x, i, vectors) for i in range(len(self))]

    def merge(self, tiles: Sequence[Array], vectors: Sequence[int] = ()) -> Array:
        """Return the weighted sum of the windows of all tiles (..., rows, cols).

        It is the inverse of `split`, and where windows differ it blends them without a seam.

        Raises:
            ValueError: There is not one window for each tile, or one has another shape.
        """
        if len(tiles) != len(self):
            raise ValueError(f"tiles: expected {len(self)} windows, got {len(tiles)}")
        out = zeros((*tiles[0].shape[:-2], *self.shape), like=tiles[0])
        for i, tile in enumerate(tiles):
            self.add(out, i, tile, vectors)
        return out

    def _columns(self, start: int, stop: int, over_pole: bool) -> Span:
        """Return the columns `start ... stop - 1`, or those that face them over a pole."""
        if not over_pole:
            return Span(start, stop)
        if self.fold is not None:
            return Span(self.fold.total - stop + 1, self.fold.total - start + 1)
        return Span(start + self.shape[1] // 2, stop + self.shape[1] // 2)

    def _seen(self, x: Array, vectors: Sequence[int]) -> Array:
        """Return cells (..., rows, columns) as they are seen from over a pole, or back."""
        turned = flip(x, -2) if self.fold is None else flip(flip(x, -2), -1)
        return negate(turned, vectors)

    def _row_pieces(self, rows: Span) -> list[tuple[slice, slice, bool]]:
        """Return where rows of a window are: in it, in the field, and whether over a pole.

        Pieces over a pole are in the order of the field, which is the reverse of the window's.
        """
        n = self.shape[0]
        if self.wraps[0]:
            return [(here, there, False) for here, there in _pieces(rows, n)]
        before, after = max(-rows.start, 0), max(rows.stop - n, 0)
        size = rows.stop - rows.start
        low = 1 if self.poles[0] is Border.POLE_ROW else 0
        high = n - 1 if self.poles[1] is Border.POLE_ROW else n
        pieces = [
            (slice(0, before), slice(low, low + before), True),
            (
                slice(before, size - after),
                slice(rows.start + before, rows.stop - after),
                False,
            ),
            (slice(size - after, size), slice(high - after, high), True),
        ]
        return [piece for piece in pieces if piece[0].start < piece[0].stop]

    def _spans(self, direction: int) -> list[tuple[Span, Span]]:
        """Return the core and window of every tile along one direction."""
        n, count, halo = (v[direction] for v in (self.shape, self.tiles, self.halo))
        cores = [Span(t * n // count, (t + 1) * n // count) for t in range(count)]
        windows = [Span(start - halo, stop + halo) for start, stop in cores]
        if not self.wraps[direction]:
            low, high = self._borders(direction)
            first = 0 if low is Border.WALL else -halo
            last = n if high is Border.WALL else n + halo
            windows = [Span(max(start, first), min(stop, last)) for start, stop in windows]
        return list(zip(cores, windows, strict=True))

    def _borders(self, direction: int) -> tuple[Border, Border]:
        """Return how rows or columns that do not wrap go on beyond the field."""
        return self.poles if direction == 0 else (Border.WALL, Border.WALL)

    @cached_property
    def _ramps(self) -> tuple[list[Floats], list[Floats]]:
        """The weights of every tile along rows and along columns."""
        return self._ramps_along(0), self._ramps_along(1)

    def _ramps_along(self, direction: int) -> list[Floats]:
        n, halo = self.shape[direction], self.halo[direction]
        spans = self._spans(direction)
        ramp = hann if self.blend else crop
        ramps = [ramp(core, window, halo) for core, window in spans]
        wrap = (Border.WRAP, Border.WRAP)
        borders = wrap if self.wraps[direction] else self._borders(direction)
        cells = [resolve(range(*window), n, borders)[0] for _, window in spans]
        total = np.bincount(np.concatenate(cells), np.concatenate(ramps), minlength=n)
        return [ramp / total[cell] for ramp, cell in zip(ramps, cells, strict=True)]


def hann(core: Span, window: Span, halo: int) -> Floats:
    """Return 1 in the core, falling to 0 over `2 halo` cells around borders that have a halo.

    Examples:
        >>> hann(Span(0, 4), Span(-1, 4), 1).round(3)
        array([0.146, 0.854, 1.   , 1.   , 1.   ])
    """
    u = np.arange(*window)
    weight = np.ones(len(u))
    for edge, end, inward in ((core.start, window.start, 1), (core.stop, window.stop, -1)):
        if edge != end:
            depth = (inward * (u + 0.5 - edge) + halo).clip(0, 2 * halo)
            weight *= np.sin(np.pi * depth / (4 * halo)) ** 2
    return weight


def crop(core: Span, window: Span, halo: int) -> Floats:
    """Return 1 in the core and 0 in the halo.

    Examples:
        >>> crop(Span(0, 4), Span(-1, 4), 1)
        array([0., 1., 1., 1., 1.])
    """
    del halo  # `hann` has use for it
    u = np.arange(*window)
    return ((u >= core.start) & (u < core.stop)).astype(np.float64)


def _pieces(span: Span, n: int) -> list[tuple[slice, slice]]:
    """Return the pieces of a window between seams: where in the window, where in the field."""
    there = wrapped(*span, n)
    stops = itertools.accumulate((part.stop - part.start for part in there), initial=0)
    return list(zip(itertools.starmap(slice, itertools.pairwise(stops)), there, strict=True))
