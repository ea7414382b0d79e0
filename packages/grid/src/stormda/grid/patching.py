"""Fields into tokens and back, for a grid of any size.

A token is a patch of `py x px` cells, over one or more frames. Where the grid is no multiple of
the patch it is padded behind its last row and column: round the seam where it is periodic, over
the pole (turned by 180 degrees, vector components with the other sign) where it ends at one, and
mirrored at walls. Padding has no weight, and is cut off on the way back.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from einops import rearrange, reduce

from stormda.grid.arrays import Array, concatenate, cut, take_range
from stormda.grid.axis import Border, Floats, Ints, resolve
from stormda.grid.protocol import Grid


@dataclass(frozen=True)
class Patching:
    """How the cells of a grid are gathered into tokens, numbered row by row.

    Raises:
        ValueError: A size is not positive.

    Examples:
        >>> from stormda.grid import grid
        >>> patching = Patching(grid("1deg-poles"), patch=(4, 4))
        >>> patching.token_shape, patching.tokens()
        ((46, 90), 4140)
        >>> x = np.zeros((2, 1, 3, 181, 360))  # batch, time, variable, lat, lon
        >>> patching.patchify(x).shape, patching.unpatchify(patching.patchify(x)).shape
        ((2, 4140, 48), (2, 1, 3, 181, 360))
    """

    grid: Grid
    """The grid of the fields."""

    patch: tuple[int, int]
    """The rows and columns of a token [cells]."""

    frames: int = 1
    """The consecutive frames of a token."""

    _below: tuple[tuple[int, bool], ...] = field(init=False, repr=False, compare=False)
    """The rows that pad the field, and whether they are seen from over a pole."""

    _beside: tuple[int, ...] = field(init=False, repr=False, compare=False)
    """The columns that pad the field."""

    def __post_init__(self) -> None:
        """Refuse what cannot be, and plan the padding once and for all calls."""
        if min(self.patch) < 1:
            raise ValueError(f"patch: expected positive numbers of cells, got {self.patch}")
        if self.frames < 1:
            raise ValueError(f"frames: expected a positive number, got {self.frames}")
        (rows, cols), (borders_y, borders_x) = self.grid.shape, self.grid.borders
        below, turned, _ = resolve(range(rows, self.padded_shape[0]), rows, borders_y)
        beside, _, _ = resolve(range(cols, self.padded_shape[1]), cols, borders_x)
        pairs = zip(below.tolist(), turned.tolist(), strict=True)
        object.__setattr__(self, "_below", tuple(pairs))
        object.__setattr__(self, "_beside", tuple(beside.tolist()))

    @property
    def token_shape(self) -> tuple[int, int]:
        """The rows and columns of tokens."""
        (rows, cols), (py, px) = self.grid.shape, self.patch
        return -(-rows // py), -(-cols // px)

    @property
    def padded_shape(self) -> tuple[int, int]:
        """The rows and columns of cells, padding included."""
        return self.token_shape[0] * self.patch[0], self.token_shape[1] * self.patch[1]

    def tokens(self, frames: int | None = None) -> int:
        """Return the number of tokens of so many frames; by default of one token's frames.

        Raises:
            ValueError: `frames` is no multiple of the frames of a token.
        """
        frames = self.frames if frames is None else frames
        if frames < 0 or frames % self.frames:
            raise ValueError(f"frames: expected a multiple of {self.frames}, got {frames}")
        return frames // self.frames * math.prod(self.token_shape)

    def patchify(self, x: Array, vectors: Sequence[int] = ()) -> Array:
        """Cut a field into tokens.

        Args:
            x: Fields (*batch, time, variable, rows, cols), NumPy or torch.
            vectors: The variables, by number, that are components of horizontal vectors, such as
                both wind components: seen from over the pole they change sign.

        Returns:
            Tokens (*batch, n, frames * variable * py * px).

        Raises:
            ValueError: `x` has fewer than four dimensions, is not on this grid, or its frames are
                no multiple of the frames of a token.
        """
        if x.ndim < 4:
            raise ValueError(
                "x: expected dimensions (*batch, time, variable, rows, cols), "
                f"got shape {tuple(x.shape)}"
            )
        self.tokens(x.shape[-4])
        pattern = "... (t f) v (r y) (c x) -> ... (t r c) (f v y x)"
        return rearrange(self.pad(x, vectors), pattern, f=self.frames, **self._sizes)

    def unpatchify(self, tokens: Array) -> Array:
        """Put tokens together to a field: the inverse of `patchify`.

        Args:
            tokens: Tokens (*batch, n, frames * variable * py * px), NumPy or torch.

        Returns:
            Fields (*batch, time, variable, rows, cols), with as many frames as the tokens make.

        Raises:
            ValueError: The tokens are not of this grid and patch.
        """
        n, cell = self.tokens(), self.frames * math.prod(self.patch)
        if tokens.ndim < 2 or tokens.shape[-2] % n or tokens.shape[-1] % cell:
            raise ValueError(
                f"tokens: expected dimensions (*batch, a multiple of {n}, a multiple of {cell}), "
                f"got shape {tuple(tokens.shape)}"
            )
        pattern = "... (t r c) (f v y x) -> ... (t f) v (r y) (c x)"
        sizes = self._sizes | {"r": self.token_shape[0], "c": self.token_shape[1]}
        return self.crop(rearrange(tokens, pattern, f=self.frames, **sizes))

    def pad(self, x: Array, vectors: Sequence[int] = ()) -> Array:
        """Continue a field behind its last row and column up to a multiple of the patch.

        Args:
            x: Fields (..., rows, cols); with `vectors` (..., variable, rows, cols).
            vectors: The variables, by number, that change sign over the pole.

        Returns:
            Fields (..., *padded_shape).

        Raises:
            ValueError: `x` is not on this grid.
        """
        if tuple(x.shape[-2:]) != self.grid.shape:
            raise ValueError(
                f"x: expected last dimensions {self.grid.shape}, got shape {tuple(x.shape)}"
            )
        return self._pad_cols(self._pad_rows(x, vectors))

    def crop(self, x: Array) -> Array:
        """Cut the padding off fields (..., *padded_shape): the inverse of `pad`."""
        rows, cols = self.grid.shape
        return cut(cut(x, -2, 0, rows), -1, 0, cols)

    @cached_property
    def weights(self) -> Floats:
        """The area of each token of a frame (n,), as a share like the grid's own `area`."""
        padding = [(0, p - n) for p, n in zip(self.padded_shape, self.grid.shape, strict=True)]
        area = np.pad(self.grid.area, padding)
        return reduce(area, "(r y) (c x) -> (r c)", "sum", **self._sizes)

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
        """Return the tokens around each token of a frame.

        Returns:
            Token numbers (n, 8): the north-west, north, ... of a 3 x 3 square, row by row without
            its middle, in the order of the grid's rows and columns. Over a pole lies the token on
            the opposite meridian, with an odd number of columns the nearest to it; beyond a wall
            there is none, -1.

        Examples:
            >>> from stormda.grid import PlaneGrid
            >>> Patching(PlaneGrid((4, 8), (1.0, 1.0)), patch=(2, 2)).neighbours()[0]
            array([7, 4, 5, 3, 1, 7, 4, 5])
        """
        rows, cols = self.token_shape
        borders_y, borders_x = self.grid.borders
        around = np.array([(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1) if i or j])
        row = np.arange(rows)[:, None, None] + around[:, 0]
        col = np.arange(cols)[None, :, None] + around[:, 1]
        row, turned, inside_y = resolve(row, rows, _between_tokens(borders_y))
        col, _, inside_x = resolve(col + turned * (cols // 2), cols, borders_x)
        return np.where(inside_y & inside_x, row * cols + col, -1).reshape(-1, len(around))

    def _pad_rows(self, x: Array, vectors: Sequence[int]) -> Array:
        pieces = [x]
        for row, over_pole in self._below:
            piece = cut(x, -2, row, row + 1)
            pieces.append(_turn(piece, vectors) if over_pole else piece)
        return concatenate(pieces, -2)

    def _pad_cols(self, x: Array) -> Array:
        pieces = [x]
        for col in self._beside:
            pieces.append(cut(x, -1, col, col + 1))
        return concatenate(pieces, -1)

    @property
    def _sizes(self) -> dict[str, int]:
        return {"y": self.patch[0], "x": self.patch[1]}


def _turn(row: Array, vectors: Sequence[int]) -> Array:
    """Return a row (..., 1, cols) as it is seen from over the pole, to the nearest column."""
    cols = row.shape[-1]
    row = take_range(row, -1, cols // 2, cols // 2 + cols)
    if not vectors:
        return row
    parts = [cut(row, -3, v, v + 1) for v in range(row.shape[-3])]
    return concatenate([-part if v in vectors else part for v, part in enumerate(parts)], -3)


def _between_tokens(borders: tuple[Border, Border]) -> tuple[Border, Border]:
    """Return how rows of tokens go on where rows of cells do so: no token is centred on a pole."""
    first, last = (Border.POLE_EDGE if b is Border.POLE_ROW else b for b in borders)
    return first, last
