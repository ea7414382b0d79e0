"""Cells of NumPy arrays into patches and back at the speed of memory.

A patch is many short runs of cells. Runs of up to 16 bytes are moved as one number, and a field
that has to be padded below is not copied first: its whole rows of tokens and the last one go
straight to their places.
"""

from typing import Any

import numpy as np
from einops import rearrange
from numpy.typing import NDArray

WIDE = {2: np.int16, 4: np.int32, 8: np.int64, 16: np.complex128}
"""Numbers that stand for so many bytes."""


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
    for together in (16, 8, 4, 2):
        wide = WIDE.get(together * size)
        if wide is not None and run % together == 0 and x.shape[-1] % together == 0:
            return x.view(wide), together
    return x, 1


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
