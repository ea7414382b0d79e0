"""From what a caller asks for to indices: frames by number or date, tiles that wrap.

A date selects every frame within its own precision: `"2019-03-01"` is that whole day, and a slice
of dates includes both its ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from stormda.grid import Border, Span

Date = str | np.datetime64
TimeSelection = None | int | Date | slice | Sequence[int | Date] | NDArray[np.generic]
Tile = tuple[slice | Span, ...]
"""A window of rows and one of columns; one of cells where the grid is a list."""


def select_frames(times: NDArray[np.datetime64], selection: TimeSelection) -> NDArray[np.int64]:
    """Return the numbers of the selected frames, in the order asked for.

    Args:
        times: All times, sorted, shape (n,).
        selection: None for all, a number, a date, a slice of either, or a list of either.

    Raises:
        ValueError: If a number is out of range, or nothing is selected.

    Examples:
        >>> times = np.arange("2019-03-01", "2019-03-04", 12, "datetime64[h]")
        >>> select_frames(times, "2019-03-02")
        array([2, 3])
        >>> select_frames(times, slice("2019-03-02T12", None))
        array([3, 4, 5])
    """
    if selection is None:
        return np.arange(len(times))
    if isinstance(selection, slice):
        chosen = _between(times, selection)
    elif isinstance(selection, str | np.datetime64):
        chosen = _between(times, slice(selection, selection))
    elif isinstance(selection, int | np.integer):
        chosen = np.array([selection])
    else:
        chosen = _each(times, selection)
    return _within(chosen, len(times), selection)


def select_axis(size: int, selection: int | slice | None, argument: str) -> int | slice:
    """Return a checked index of one axis: a number, which drops the axis, or a slice.

    Raises:
        ValueError: If the index is out of range or the slice is empty.

    Examples:
        >>> select_axis(3, -1, "level")
        2
    """
    if selection is None:
        return slice(None)
    if isinstance(selection, slice):
        if not range(size)[selection]:
            raise ValueError(f"{argument}: expected a slice within 0 to {size}, got {selection}")
        return selection
    if not -size <= selection < size:
        raise ValueError(f"{argument}: expected an index below {size}, got {selection}")
    return int(selection) % size


@dataclass(frozen=True)
class Run:
    """Stored cells that follow one another along one direction."""

    cells: slice
    """From the first to behind the last."""

    turned: bool = False
    """Whether they lie over a pole: in falling order, and half a turn away."""

    def __len__(self) -> int:
        """Return how many cells there are."""
        return int(self.cells.stop - self.cells.start)


def runs(
    window: slice | Span,
    size: int,
    borders: tuple[Border, Border] | Literal["wrap"] | None,
    *,
    argument: str,
) -> list[Run]:
    """Split a window along one axis into runs of stored cells.

    Args:
        window: From `start` to `stop`; below 0 and beyond `size` it goes on as the borders say.
        size: Cells along the axis.
        borders: How the axis goes on beyond its ends; None for not at all.
        argument: What to call the window in an error.

    Raises:
        ValueError: If the window is empty, or leaves an axis that does not go on.

    Examples:
        >>> [run.cells for run in runs(slice(-2, 3), 8, "wrap", argument="tile")]
        [slice(6, 8, None), slice(0, 3, None)]
        >>> runs(slice(-1, 3), 8, (Border.POLE_ROW, Border.WALL), argument="tile")[0]
        Run(cells=slice(1, 2, None), turned=True)
    """
    start = 0 if window.start is None else int(window.start)
    stop = size if window.stop is None else int(window.stop)
    strided = isinstance(window, slice) and window.step not in (None, 1)
    if 0 <= start < stop <= size and not strided:
        return [Run(slice(start, stop))]
    low, high = _ends(size, borders)
    if strided or start >= stop or start < low or stop > high:
        bounds = "that may wrap" if np.isinf(low) else f"within {low:g} to {high:g}"
        raise ValueError(f"{argument}: expected a window of cells {bounds}, got {window}")
    if np.isinf(low):
        return _round(start, stop, size)
    first, last = (0, 0) if borders is None or borders == "wrap" else map(_mirror, borders)
    behind = 2 * size - last
    pieces = [
        Run(slice(first - min(stop, 0), first - start), turned=True) if start < 0 else None,
        Run(slice(max(start, 0), min(stop, size))) if start < size and stop > 0 else None,
        Run(slice(behind - stop, behind - max(start, size)), turned=True) if stop > size else None,
    ]
    return [piece for piece in pieces if piece is not None]


def _ends(
    size: int, borders: tuple[Border, Border] | Literal["wrap"] | None
) -> tuple[float, float]:
    """Return how far a window may reach."""
    if borders == "wrap" or (borders is not None and borders[0] is Border.WRAP):
        return -np.inf, np.inf
    first, last = borders or (Border.WALL, Border.WALL)
    low = 0 if first is Border.WALL else _mirror(first) - size
    high = size if last is Border.WALL else 2 * size - _mirror(last)
    return low, high


def _mirror(border: Border) -> int:
    """Return 1 where the outermost row is the pole itself and is not read twice."""
    return int(border is Border.POLE_ROW)


def _round(start: int, stop: int, size: int) -> list[Run]:
    found = []
    while start < stop:
        first = start % size
        length = min(size - first, stop - start)
        found.append(Run(slice(first, first + length)))
        start += length
    return found


def _between(times: NDArray[np.datetime64], selection: slice) -> NDArray[np.int64]:
    """Resolve a slice of numbers, or of dates with both ends included."""
    ends = (selection.start, selection.stop)
    if not any(isinstance(end, str | np.datetime64) for end in ends):
        return np.arange(len(times))[selection]
    low = 0 if ends[0] is None else np.searchsorted(times, _first_second(ends[0]))
    high = len(times) if ends[1] is None else np.searchsorted(times, _next(ends[1]))
    return np.arange(low, high)[:: selection.step]


def _each(
    times: NDArray[np.datetime64], selection: Sequence[int | Date] | NDArray[np.generic]
) -> NDArray[np.int64]:
    """Resolve a list of numbers, or of dates that must each be a frame's own time."""
    wanted = np.asarray(selection)
    if wanted.dtype.kind in "iu":
        return wanted.astype(np.int64, copy=False).ravel()
    dates = np.asarray([_first_second(date) for date in wanted.ravel()], "datetime64[s]")
    absent = dates[~np.isin(dates, times)]
    if len(absent):
        raise ValueError(f"time: expected times of the store, got {absent[0]}")
    return np.searchsorted(times, dates)


def _within(chosen: NDArray[np.int64], frames: int, selection: TimeSelection) -> NDArray[np.int64]:
    if not len(chosen):
        raise ValueError(f"time: expected a selection of the {frames} frames, got {selection!r}")
    lowest = chosen.min()
    if lowest < -frames or chosen.max() >= frames:
        raise ValueError(f"time: expected frames 0 to {frames - 1}, got {selection!r}")
    return chosen % frames if lowest < 0 else chosen


def _date(date: Date) -> np.datetime64:
    try:
        parsed: np.datetime64 = np.datetime64(date)
    except ValueError:
        raise ValueError(f"time: expected a date such as '2019-03-01T12', got {date!r}") from None
    return parsed


def _first_second(date: Date) -> np.datetime64:
    second: np.datetime64 = _date(date).astype("datetime64[s]")
    return second


def _next(date: Date) -> np.datetime64:
    """Return the first second after the period that a date of its precision names."""
    second: np.datetime64 = (_date(date) + 1).astype("datetime64[s]")
    return second
