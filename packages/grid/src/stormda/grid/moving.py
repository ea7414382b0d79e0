"""Cells of NumPy arrays into patches and back at the speed of memory.

A patch is many short runs of cells. Runs of up to 64 bytes are moved as one number, and a field
that has to be padded below is not copied first: its whole rows of tokens and the last one go
straight to their places.
"""

from typing import Any

import numpy as np
from einops import rearrange
from numpy.typing import NDArray

WIDEST = 64
"""Bytes of a line of the processor's cache: longer runs are moved as several."""


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


def into_rectangles(
    main: NDArray[Any], last: NDArray[Any], frames: int, patch: tuple[int, int]
) -> NDArray[Any]:
    """Cut a field into rectangles whose last rows lie in another array.

    Args:
        main: Fields (*batch, time, variable, rows, cols) of whole patches.
        last: The last row of patches (*batch, time, variable, py, cols).
        frames: The frames of a token.
        patch: Its rows and columns.

    Returns:
        Tokens (*batch, n, frames * variable * py * px).

    Examples:
        >>> into_rectangles(np.zeros((2, 3, 4, 8)), np.zeros((2, 3, 2, 8)), 1, (2, 4)).shape
        (12, 24)
    """
    py, px = patch
    rows, cols = main.shape[-2] // py, main.shape[-1] // px
    lead, times, variables = main.shape[:-4], main.shape[-4] // frames, main.shape[-3]
    out = np.empty((*lead, times, rows + 1, cols, frames, variables, py, px), main.dtype)
    for part, source in ((slice(rows), main), (slice(rows, None), last)):
        wide, together = widened(source, px)
        pattern = "... (t f) v (r y) (c x) -> ... t r c f v y x"
        view = rearrange(wide, pattern, f=frames, y=py, x=px // together)
        place = out[(..., part, *(slice(None),) * 5)]
        place.view(wide.dtype)[...] = view
    return out.reshape(*lead, times * (rows + 1) * cols, -1)


def out_of_rectangles(
    tokens: NDArray[Any], frames: int, shape: tuple[int, int], patch: tuple[int, int]
) -> NDArray[Any]:
    """Put rectangles together, a row of them at a time, which stays in the processor's cache.

    Args:
        tokens: Tokens (*batch, n, frames * variable * py * px).
        frames: The frames of a token.
        shape: Rows and columns of tokens.
        patch: Rows and columns of a token.

    Returns:
        Fields (*batch, time, variable, rows, cols) of whole patches.

    Examples:
        >>> out_of_rectangles(np.zeros((2, 12, 24)), 1, (3, 4), (2, 4)).shape
        (2, 1, 3, 6, 16)
    """
    (rows, cols), (py, px) = shape, patch
    lead, times = tokens.shape[:-2], tokens.shape[-2] // (rows * cols)
    wide, together = widened(tokens, px)
    sizes = {"r": rows, "c": cols, "f": frames, "y": py, "x": px // together}
    pattern = "... (t r c) (f v y x) -> r (...) t f v y c x"
    source = rearrange(wide, pattern, **sizes)
    whole = np.empty((*source.shape[1:5], rows, *source.shape[5:]), wide.dtype)
    for row, part in enumerate(source):
        whole[:, :, :, :, row] = part
    variables = source.shape[4]
    return whole.view(tokens.dtype).reshape(*lead, times * frames, variables, rows * py, cols * px)
