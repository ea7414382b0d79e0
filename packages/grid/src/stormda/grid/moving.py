"""Cells of NumPy arrays into patches and back at the speed of memory.

A patch is many short runs of cells. Some rows of patches at a time are brought into the
processor's cache, in one sweep, and every run is moved as a whole from there to its place. A
field that has to be padded is not copied first: padding is added where it is in the cache.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from einops import rearrange
from numpy.typing import NDArray

from stormda.grid.axis import Ints

Band = Callable[[tuple[int, ...], slice, slice], NDArray[Any]]
"""Numbers along the axes of the batch, frames, rows of patches -> their cells, padded
(frames, variable, rows * py, columns * px)."""

IN_CACHE = 1 << 21
"""Bytes that are in the processor's cache at a time."""

WIDEST = 64
"""Bytes of a line of the processor's cache: longer runs are moved as several."""

SMALL = 16
"""Bytes of a patch of one variable up to which it is moved as a whole before its rows are."""


def widened(x: NDArray[Any], run: int) -> tuple[NDArray[Any], int]:
    """Return an array whose last axis is seen as fewer, wider numbers, and how many each holds.

    Args:
        x: Any array.
        run: Numbers along the last axis that stay together; divides the axis.

    Examples:
        >>> wide, together = widened(np.zeros((3, 8), np.float32), run=4)
        >>> wide.shape, together
        ((3, 2), 4)
    """
    size = x.dtype.itemsize
    if not x.size or x.strides[-1] != size or x.dtype.hasobject:
        return x, 1
    for together in range(min(run, WIDEST // size), 1, -1):
        if run % together == 0 and x.shape[-1] % together == 0:
            return x.view(_wide(together * size)), together
    return x, 1


def _wide(size: int) -> np.dtype[Any]:
    """Return a type of so many bytes; integers are moved faster than bytes without a meaning."""
    return np.dtype(f"i{size}") if size in (2, 4, 8) else np.dtype(f"V{size}")


def move(x: NDArray[Any], pattern: str, inner: str, sizes: dict[str, int]) -> NDArray[Any]:
    """Move axes as `einops.rearrange` does; runs along the axis `inner` stay together.

    Args:
        x: The array.
        pattern: Has `inner` last on both sides.
        inner: The name of the axis of cells that lie side by side.
        sizes: The lengths of axes.

    Examples:
        >>> move(np.arange(8.0), "(r y) -> r y", "y", {"y": 4}).shape
        (2, 4)
    """
    wide, together = widened(x, sizes[inner])
    moved = rearrange(wide, pattern, **(sizes | {inner: sizes[inner] // together}))
    return np.ascontiguousarray(moved).view(x.dtype) if together > 1 else moved


def cut_fields(band: Band, frames: int, patch: tuple[int, int], out: NDArray[Any]) -> None:
    """Cut fields into tokens, as many rows of patches at a time as are in the cache.

    Args:
        band: Gives rows of cells; see `Band`.
        frames: The frames of a token.
        patch: Its rows and columns.
        out: Takes the tokens (*batch, times, rows, columns, frames * variable * py * px);
            contiguous.

    Examples:
        >>> x, out = np.arange(16).reshape(1, 1, 4, 4), np.empty((1, 2, 2, 4), int)
        >>> cut_fields(lambda _, t, y: x[t, :, 2 * y.start : 2 * y.stop], 1, (2, 2), out)
        >>> out[0, 1, 1]
        array([10, 11, 14, 15])
    """
    (py, px), (*_, cols, depth), most = patch, out.shape, _rows_at_once(out)
    cells = np.empty((frames, depth // (frames * py * px), most * py, cols * px), out.dtype)
    runs = cells.reshape(-1, px)
    col, field, y = np.ogrid[:cols, : len(runs) // (most * py * cols), :py]
    order = ((field * most * py + y) * cols + col).ravel()
    for *batch, t, rows in _bands(out, most):
        loaded = band(tuple(batch), slice(t * frames, (t + 1) * frames), rows)
        cells[:, :, : loaded.shape[2]] = loaded
        for row, tokens in enumerate(out[(*batch, t, rows)]):
            _take(runs[row * py * cols :], order, tokens)


def join_fields(
    tokens: NDArray[Any], frames: int, patch: tuple[int, int], out: NDArray[Any]
) -> None:
    """Put tokens together to fields, as many rows of patches at a time as are in the cache.

    Args:
        tokens: Tokens (*batch, times, rows, columns, frames * variable * py * px).
        frames: The frames of a token.
        patch: Its rows and columns.
        out: Takes the fields (*batch, times * frames, variable, at most rows * py, columns * px);
            contiguous.

    Examples:
        >>> out = np.empty((1, 1, 4, 4), int)
        >>> join_fields(np.arange(16).reshape(1, 2, 2, 4), 1, (2, 2), out)
        >>> out[0, 0, 0]
        array([0, 1, 4, 5])
    """
    (py, px), most, (cols, depth) = patch, _rows_at_once(tokens), tokens.shape[-2:]
    cached = np.empty((most, cols, depth), tokens.dtype)
    variables = depth // (py * px)
    small = 1 < py * px <= SMALL // tokens.itemsize and not tokens.dtype.hasobject
    row, y, col = np.ogrid[:most, :py, :cols]
    by_row = ((row * cols + col) * variables * py + y).ravel()
    by_variable = np.arange(small * most * cols * variables).reshape(-1, variables).T.ravel()
    for *batch, t, rows in _bands(tokens, most):
        cached[: rows.stop - rows.start] = tokens[(*batch, t, rows)]
        there = slice(rows.start * py, rows.stop * py)
        fields = out[tuple(batch)][t * frames : (t + 1) * frames, :, there]
        if small and fields.shape[2] == most * py:
            _join_small(cached.reshape(-1, py, px), by_variable, fields)
        else:
            _join(cached.reshape(-1, px), by_row, py, fields)


def _join(runs: NDArray[Any], order: Ints, py: int, out: NDArray[Any]) -> None:
    """Write runs of cells to fields (frames, variable, rows, columns), a variable at a time."""
    count = out[0, 0].size // runs.shape[1]
    for i, (f, v) in enumerate(np.ndindex(out.shape[:2])):
        _take(runs[i * py :], order[:count], out[f, v])


def _join_small(patches: NDArray[Any], order: Ints, out: NDArray[Any]) -> None:
    """Write small patches to fields (frames, variable, rows, columns): whole, then their rows."""
    (_, py, px), (frames, variables, rows, cols) = patches.shape, out.shape
    parted = np.empty((frames, variables, rows // py, cols // px, py, px), out.dtype)
    _take(patches.reshape(len(patches), -1), order, parted)
    there = out.reshape(frames, variables, rows // py, py, cols // px, px)
    wide = _wide(px * out.itemsize)
    there.view(wide)[...] = parted.swapaxes(3, 4).view(wide)


def _rows_at_once(tokens: NDArray[Any]) -> int:
    """Return how many rows of tokens (..., rows, columns, k) are in the cache at a time."""
    rows, cols, depth = (int(n) for n in tokens.shape[-3:])
    return min(max(IN_CACHE // max(cols * depth * tokens.itemsize, 1), 1), rows)


def _bands(tokens: NDArray[Any], most: int) -> Iterator[tuple[Any, ...]]:
    """Return the numbers along the leading axes, and rows of tokens, of all that is moved."""
    for at in np.ndindex(tokens.shape[:-3]):
        for first in range(0, tokens.shape[-3], most):
            yield *at, slice(first, min(first + most, tokens.shape[-3]))


def _take(runs: NDArray[Any], order: Ints, out: NDArray[Any]) -> None:
    """Write runs of cells (m, px) to `out`, which is contiguous, in an order."""
    # No place is outside. With "clip" values go straight to `out`, with "raise" to a copy first.
    np.take(runs, order, axis=0, out=out.reshape(len(order), -1), mode="clip")
