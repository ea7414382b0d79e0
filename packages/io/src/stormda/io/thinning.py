"""Fewer observations where there are too many: the nearest one of a cell, or their mean.

Satellites and dense networks observe one cell of an analysis many times, with errors that are
alike. Either one of them is kept (thinning) or they are averaged (super-observations). The mean of
n errors s_i that correlate by r has the variance

    ( (1 - r) sum_i s_i² + r (sum_i s_i)² ) / n²

Source: Janjić et al. (2018), Q. J. R. Meteorol. Soc. 144, section 4, https://doi.org/10.1002/qj.3130
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stormda.grid import Grid, locate, nearest
from stormda.io.observations import COLUMNS, SPHERE, ObservationTable, sort_rows

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_KINDS = ("variable", "channel", "z_kind")


def thin(
    table: ObservationTable, grid: Grid, *, seconds: float, levels: float | None = None
) -> ObservationTable:
    """Keep one observation of each variable in each cell, span of time and layer.

    It is the one nearest to the middle of its span; the others are counted as `thinned`, and those
    outside the grid as `outside domain`.

    Args:
        table: The observations.
        grid: Whose cells count; it has the same kind of coordinates.
        seconds: The length of the spans, which start at 1970-01-01 [s].
        levels: The thickness of the layers of `z`; None where heights do not count.

    Raises:
        ValueError: If a length is not positive or the grid has other coordinates.

    Examples:
        >>> from stormda.grid import LatLonGrid
        >>> from stormda.io import observation_table
        >>> track = observation_table(
        ...     time="2017-10-27", lat=[50.1, 50.2, 50.9], lon=[0.0, 0.1, 0.0],
        ...     value=[1.0, 2.0, 3.0])
        >>> thin(track, LatLonGrid([50.0, 51.0], [0.0, 1.0]), seconds=3600).summary
        '2 of 3 observations used (1 thinned)'
    """
    inside, boxes = _boxes(table, grid, seconds, levels)
    moments = inside.time.astype(np.int64)
    off = np.abs(moments % seconds - seconds / 2)
    order = np.lexsort((off, boxes))
    first = np.ones(len(inside), bool)
    first[1:] = np.diff(boxes[order]) != 0
    keep = np.zeros(len(inside), bool)
    keep[order[first]] = True
    return inside.where(keep, "thinned")


def super_observations(
    table: ObservationTable,
    grid: Grid,
    *,
    seconds: float,
    levels: float | None = None,
    correlation: float = 0.0,
) -> ObservationTable:
    """Average the observations of each variable in each cell, span of time and layer.

    Values, times, places and heights are averaged; n observations become one and n - 1 are counted
    as `merged`. The error is unknown where one of theirs is, the quality is the worst.

    Args:
        table: The observations.
        grid: Whose cells count; it has the same kind of coordinates.
        seconds: The length of the spans, which start at 1970-01-01 [s].
        levels: The thickness of the layers of `z`; None where heights do not count.
        correlation: Of the errors within a cell, 0 to 1.

    Raises:
        ValueError: If a length is not positive, the grid has other coordinates or the correlation
            is out of range.

    Examples:
        >>> from stormda.grid import LatLonGrid
        >>> from stormda.io import observation_table
        >>> track = observation_table(
        ...     time="2017-10-27", lat=[50.1, 50.2], lon=[0.0, 0.1], value=[1.0, 2.0], error=0.2)
        >>> one = super_observations(track, LatLonGrid([50.0, 51.0], [0.0, 1.0]), seconds=3600)
        >>> one.value, one.error.round(4), dict(one.rejected)
        (array([1.5]), array([0.1414]), {'merged': 1})
    """
    if not 0 <= correlation <= 1:
        raise ValueError(f"correlation: expected a number from 0 to 1, got {correlation}")
    inside, boxes = _boxes(table, grid, seconds, levels)
    _, first, box, count = np.unique(
        boxes, return_index=True, return_inverse=True, return_counts=True
    )
    columns = {name: getattr(inside, name)[first] for name in COLUMNS}
    columns |= _means(inside, box, count, first, correlation)
    merged = Counter({"merged": len(inside) - len(first)})
    return sort_rows(replace(inside, **columns, rejected=inside.rejected + merged))


def _boxes(
    table: ObservationTable, grid: Grid, seconds: float, levels: float | None
) -> tuple[ObservationTable, Ints]:
    """Return the rows inside a grid, and the number of the box that each is in."""
    for name, length in (("seconds", seconds), ("levels", levels)):
        if length is not None and not length > 0:
            raise ValueError(f"{name}: expected a positive number, got {length}")
    inside = table.within(grid)
    if not len(inside):
        return inside, np.zeros(0, np.int64)
    cells = locate(grid, inside.position[:, 0], inside.position[:, 1], nearest).cells[:, 0]
    span = np.floor_divide(inside.time.astype(np.int64), seconds)
    layer = np.zeros(len(inside)) if levels is None else np.floor(inside.z / levels)
    kinds = [getattr(inside, name) for name in _KINDS]
    keys = [np.unique(key, return_inverse=True)[1] for key in (*kinds, layer, span, cells)]
    return inside, np.unique(np.stack(keys), axis=1, return_inverse=True)[1].reshape(-1)


def _means(
    table: ObservationTable, box: Ints, count: Ints, first: Ints, correlation: float
) -> dict[str, NDArray[Any]]:
    """Return the columns that the observations of a box have as one."""

    def mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.bincount(box, values, len(count)) / count

    start = table.time[first][box]
    seconds = mean((table.time - start).astype(np.float64))
    errors = np.bincount(box, table.error, len(count))
    squares = np.bincount(box, table.error**2, len(count))
    variance = ((1 - correlation) * squares + correlation * errors**2) / count**2
    worst = np.zeros(len(count), np.uint8)
    np.maximum.at(worst, box, table.quality)
    platforms = np.unique(
        np.stack([box, np.unique(table.platform, return_inverse=True)[1]]), axis=1
    )
    alone = np.bincount(platforms[0], minlength=len(count)) == 1
    return {
        "time": table.time[first] + np.rint(seconds).astype("timedelta64[s]"),
        "position": _mean_position(table, box, mean, first),
        "z": mean(table.z),
        "value": mean(table.value),
        "error": np.sqrt(variance),
        "quality": worst,
        "platform": np.where(alone, table.platform[first], ""),
    }


def _mean_position(
    table: ObservationTable,
    box: Ints,
    mean: Callable[[Floats], Floats],
    first: Ints,
) -> NDArray[np.float64]:
    """Return the mean places: longitudes as differences from the first, over the date line too."""
    start = table.position[first][box]
    apart = table.position - start
    if table.dims == SPHERE:
        apart[:, 1] = (apart[:, 1] + 180) % 360 - 180
    middle: Floats = table.position[first] + np.stack(
        [mean(column) for column in apart.T], axis=-1
    )
    return middle
