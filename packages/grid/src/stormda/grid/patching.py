"""Fields into tokens and back, for a grid of any kind and size.

A token is a patch of cells over one or more frames: `py x px` rows and columns of a `Lattice`, a
run of `py * px` cells along a curve of a grid that is a list. What is no multiple of the patch is
padded (see `arrangement`); padding has no weight, and is cut off on the way back.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stormda.grid.arrangement import Arrangement, Rectangles, arrange
from stormda.grid.arrays import Array, Sliceable, as_kind, in_memory, rearrange
from stormda.grid.axis import Floats, Ints
from stormda.grid.moving import cut_fields, join_fields, move
from stormda.grid.protocol import Grid


@dataclass(frozen=True)
class Patching:
    """How the cells of a grid are gathered into tokens.

    Raises:
        ValueError: A size is not positive, or the grid has no such patches.

    Examples:
        >>> import numpy as np
        >>> from stormda.grid import grid
        >>> patching = Patching(grid("1deg-poles"), patch=(4, 4))
        >>> patching.token_shape, patching.tokens()
        ((46, 90), 4140)
        >>> x = np.zeros((2, 1, 3, 181, 360))  # batch, time, variable, lat, lon
        >>> patching.patchify(x).shape, patching.unpatchify(patching.patchify(x)).shape
        ((2, 4140, 48), (2, 1, 3, 181, 360))
        >>> Patching(grid("healpix64"), patch=(4, 4)).patchify(np.zeros((1, 3, 49152))).shape
        (3072, 48)
    """

    grid: Grid
    """The grid of the fields."""

    patch: tuple[int, ...]
    """The rows and columns of a token [cells]; where the grid is a list, their product counts."""

    frames: int = 1
    """The consecutive frames of a token."""

    arrangement: Arrangement = field(init=False, repr=False, compare=False)
    """How the cells are laid out."""

    def __post_init__(self) -> None:
        """Refuse what cannot be, and lay out the cells."""
        if not self.patch or min(self.patch) < 1:
            raise ValueError(f"patch: expected positive numbers of cells, got {self.patch}")
        if self.frames < 1:
            raise ValueError(f"frames: expected a positive number, got {self.frames}")
        object.__setattr__(self, "arrangement", arrange(self.grid, self.patch))

    @property
    def token_shape(self) -> tuple[int, ...]:
        """The rows and columns of tokens, or their number."""
        return self.arrangement.token_shape

    @property
    def padded_shape(self) -> tuple[int, ...]:
        """The rows and columns of cells, or their number, padding included."""
        return self.arrangement.padded_shape

    @property
    def weights(self) -> Floats:
        """The area of each token of a frame (n,), as a share like the grid's own `area`."""
        return self.arrangement.weights

    @property
    def centres(self) -> tuple[Floats, Floats]:
        """The grid's two coordinates (n,) at the middle of the real cells of each token."""
        return self.arrangement.centres

    def tokens(self, frames: int | None = None) -> int:
        """Return the number of tokens of so many frames; by default of one token's frames.

        Raises:
            ValueError: `frames` is no multiple of the frames of a token.
        """
        frames = self.frames if frames is None else frames
        if frames < 0 or frames % self.frames:
            raise ValueError(f"frames: expected a multiple of {self.frames}, got {frames}")
        return frames // self.frames * math.prod(self.token_shape)

    def patchify(
        self, x: Array, vectors: Sequence[int] = (), *, out: Array | None = None
    ) -> Array:
        """Cut a field into tokens.

        Args:
            x: Fields (*batch, time, variable, *grid.shape): NumPy, torch, or anything that is
                sliced, reshaped and transposed as NumPy's arrays are, such as dask's.
            vectors: The variables, by number, that are components of horizontal vectors, such as
                both wind components: seen from over the pole they change sign.
            out: Where the tokens go, contiguous; by default into new memory, which takes a system
                about as long to give as the tokens to cut.

        Returns:
            Tokens (*batch, n, frames * variable * cells of a patch).

        Raises:
            ValueError: `x` has too few dimensions, is not on this grid, or its frames are no
                multiple of the frames of a token; or `out` is not what is returned without it.
        """
        space = len(self.grid.shape)
        if x.ndim < space + 2:
            names = "rows, cols" if space == 2 else "cells"
            raise ValueError(
                f"x: expected dimensions (*batch, time, variable, {names}), "
                f"got shape {tuple(x.shape)}"
            )
        self.tokens(x.shape[-space - 2])
        self._check(x)
        if isinstance(x, np.ma.MaskedArray):
            values, mask = self.patchify(x.data, vectors), self.patchify(np.ma.getmaskarray(x))
            return _put(np.ma.array(values, mask=mask), out)
        a, array = self.arrangement, in_memory(x)
        if array is None or not isinstance(a, Rectangles):
            pattern = f"... (t f) v {a.field} -> ... (t {a.token}) (f v {a.cell})"
            sizes = {"f": self.frames} | a.sizes
            return _put(_moved(self.pad(x, vectors), pattern, a, sizes), out)
        tokens = self._cut(array, a, vectors, out)
        return as_kind(tokens, x) if out is None else out

    def _cut(
        self, x: NDArray[Any], a: Rectangles, vectors: Sequence[int], out: Array | None
    ) -> NDArray[Any]:
        """Cut a field in memory into tokens: rectangles of it."""
        depth = x.shape[-3] * self.frames * math.prod(a.patch)
        n = x.shape[-4] // self.frames * math.prod(a.token_shape)
        tokens = _memory(out, (*x.shape[:-4], n, depth), x.dtype)
        cut_fields(
            lambda batch, t, rows: a.band(x[batch], t, rows.start, rows.stop, vectors),
            self.frames,
            a.patch,
            tokens.reshape(*x.shape[:-4], -1, *a.token_shape, depth),
        )
        return tokens

    def read(
        self, x: Sliceable, start: int, stop: int, vectors: Sequence[int] = ()
    ) -> NDArray[Any]:
        """Return some tokens of a field of which only their own rows are loaded.

        Args:
            x: Fields (time, variable, *grid.shape): anything that slices give arrays of, such as a
                memory map, an HDF5 or Zarr array, or xarray's, also much larger than memory.
            start: The first token; tokens are numbered frame after frame, row after row.
            stop: The token behind the last, such as from `Partition.bounds`.
            vectors: The variables, by number, that change sign over the pole.

        Returns:
            The tokens `start ... stop - 1` of `patchify(x)`, (stop - start, k).

        Raises:
            ValueError: `x` has another shape, or there are no such tokens.

        Examples:
            >>> import numpy as np
            >>> from stormda.grid import grid
            >>> patching, x = Patching(grid("5deg-poles"), (4, 4)), np.random.rand(3, 2, 37, 72)
            >>> bool((patching.read(x, 170, 200) == patching.patchify(x)[170:200]).all())
            True
        """
        if len(x.shape) != len(self.grid.shape) + 2 or tuple(x.shape[2:]) != self.grid.shape:
            raise ValueError(
                f"x: expected shape (time, variable, {str(self.grid.shape)[1:]}, "
                f"got {tuple(x.shape)}"
            )
        n = self.tokens(x.shape[0])
        if not 0 <= start < stop <= n:
            raise ValueError(
                f"start, stop: expected 0 <= start < stop <= {n}, got {start}, {stop}"
            )
        rows, cols = self.token_shape[0], math.prod(self.token_shape[1:])
        pieces = []
        for t in range(start // (rows * cols), -(-stop // (rows * cols))):
            low, high = max(start - t * rows * cols, 0), min(stop - t * rows * cols, rows * cols)
            first, last = low // cols, -(-high // cols)
            tokens = self._band(x, t, first, last, vectors)
            pieces.append(tokens[low - first * cols : high - first * cols])
        return np.concatenate(pieces)

    def _band(
        self, x: Sliceable, t: int, first: int, last: int, vectors: Sequence[int]
    ) -> NDArray[Any]:
        """Return rows `first ... last - 1` of the tokens of the t-th frames (n, k)."""
        a = self.arrangement
        frames = slice(t * self.frames, (t + 1) * self.frames)
        band = a.band(x, frames, first, last, vectors)
        if not isinstance(a, Rectangles):
            return rearrange(band, f"f v {a.field} -> ({a.token}) (f v {a.cell})", **a.sizes)
        n, py, (_, cols) = last - first, a.patch[0], a.token_shape
        tokens = np.empty((1, n, cols, band.size // (n * cols)), band.dtype)
        cut_fields(
            lambda _, t, rows: band[t, :, rows.start * py : rows.stop * py],
            self.frames,
            a.patch,
            tokens,
        )
        return tokens.reshape(n * cols, -1)

    def unpatchify(self, tokens: Array, *, out: Array | None = None) -> Array:
        """Put tokens together to a field: the inverse of `patchify`.

        Args:
            tokens: Tokens (*batch, n, frames * variable * cells of a patch).
            out: Where the fields go, contiguous; by default into new memory.

        Returns:
            Fields (*batch, time, variable, *grid.shape), with as many frames as the tokens make.

        Raises:
            ValueError: The tokens are not of this grid and patch, or `out` is not what is returned
                without it.
        """
        n, cell = self.tokens(), self.frames * math.prod(self.patch)
        if tokens.ndim < 2 or tokens.shape[-2] % n or tokens.shape[-1] % cell:
            raise ValueError(
                f"tokens: expected dimensions (*batch, a multiple of {n}, a multiple of {cell}), "
                f"got shape {tuple(tokens.shape)}"
            )
        a, array = self.arrangement, in_memory(tokens)
        if isinstance(tokens, np.ma.MaskedArray):
            parts = self.unpatchify(tokens.data), self.unpatchify(np.ma.getmaskarray(tokens))
            return _put(np.ma.array(parts[0], mask=parts[1]), out)
        if array is None or not isinstance(a, Rectangles):
            pattern = f"... (t {a.token}) (f v {a.cell}) -> ... (t f) v {a.field}"
            sizes = a.sizes | dict(zip(a.token.split(), self.token_shape, strict=True))
            return _put(self.crop(_moved(tokens, pattern, a, {"f": self.frames} | sizes)), out)
        *lead, many, depth = array.shape
        shape: tuple[int, ...] = *lead, many // n * self.frames, depth // cell, *self.grid.shape
        parted = array.reshape(*lead, many // n, *a.token_shape, depth)
        if a.padded_shape[1] > shape[-1]:  # whole rows of patches, which are cut off then
            fields = np.empty((*shape[:-1], a.padded_shape[1]), array.dtype)
            join_fields(parted, self.frames, a.patch, fields)
            return _put(as_kind(fields[..., : shape[-1]], tokens), out)
        fields = _memory(out, shape, array.dtype)
        join_fields(parted, self.frames, a.patch, fields)
        return as_kind(fields, tokens) if out is None else out

    def pad(self, x: Array, vectors: Sequence[int] = ()) -> Array:
        """Lay out a field for patches, continued up to a multiple of the patch.

        Args:
            x: Fields (..., *grid.shape); with `vectors` (..., variable, *grid.shape).
            vectors: The variables, by number, that change sign over the pole.

        Returns:
            Fields (..., *padded_shape).

        Raises:
            ValueError: `x` is not on this grid.
        """
        self._check(x)
        return self.arrangement.pad(x, vectors)

    def _check(self, x: Sliceable) -> None:
        if tuple(x.shape[-len(self.grid.shape) :]) != self.grid.shape:
            raise ValueError(
                f"x: expected last dimensions {self.grid.shape}, got shape {tuple(x.shape)}"
            )

    def crop(self, x: Array) -> Array:
        """Undo `pad`: (..., *padded_shape) -> (..., *grid.shape)."""
        return self.arrangement.crop(x)

    def neighbours(self) -> Ints:
        """Return the tokens around each token of a frame.

        Returns:
            Token numbers (n, k). For rows and columns k is 8: the north-west, north, ... of a
            3 x 3 square, row by row without its middle, in the order of the grid's rows and
            columns. Over a pole lies the token on the opposite meridian, with an odd number of
            columns the nearest to it. Lists name the tokens that touch. Beyond a wall, and where
            there are fewer than k, stands -1.

        Examples:
            >>> from stormda.grid import PlaneGrid
            >>> Patching(PlaneGrid((4, 8), (1.0, 1.0)), patch=(2, 2)).neighbours()[0]
            array([7, 4, 5, 3, 1, 7, 4, 5])
        """
        return self.arrangement.neighbours()


def _memory(out: Array | None, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return what to write to: the memory of `out`, or new."""
    if out is None:
        return np.empty(shape, dtype)
    memory = in_memory(out)
    if memory is None or memory.dtype != dtype or not memory.flags.c_contiguous:
        strided = memory is not None and not memory.flags.c_contiguous
        what = f"{out.dtype} that is not contiguous" if strided else out.dtype
        raise ValueError(f"out: expected contiguous {dtype} in memory, got {what}")
    if memory.shape != shape:
        raise ValueError(f"out: expected shape {shape}, got {memory.shape}")
    return memory


def _put(values: Array, out: Array | None) -> Array:
    """Return `values`, or `out` filled with them."""
    if out is None:
        return values
    if tuple(out.shape) != tuple(values.shape):
        raise ValueError(f"out: expected shape {tuple(values.shape)}, got {tuple(out.shape)}")
    out[...] = values
    return out


def _moved(x: Array, pattern: str, arrangement: Arrangement, sizes: dict[str, int]) -> Array:
    if isinstance(x, np.ndarray):
        return move(x, pattern, arrangement.cell.split()[-1], sizes)
    return rearrange(x, pattern, **sizes)
