"""Which observations of a platform belong to one pass."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stormda.io.observations import ObservationTable


def passes(table: ObservationTable, *, gap_seconds: float) -> NDArray[np.int64]:
    """Number the passes of each platform: a pass ends where it is silent for long.

    Args:
        table: The observations.
        gap_seconds: The longest silence within a pass [s].

    Returns:
        The number of each row's pass, shape (n,), from 0, in the order in which passes start.

    Raises:
        ValueError: If the gap is not positive.

    Examples:
        >>> from stormda.io import observation_table
        >>> track = observation_table(
        ...     time=np.datetime64("2017-10-27", "s") + np.array([0, 1, 2, 900, 901]),
        ...     lat=[50.0, 50.1, 50.2, 55.0, 54.9], lon=np.zeros(5), value=np.ones(5))
        >>> passes(track, gap_seconds=300)
        array([0, 0, 0, 1, 1])
    """
    if not gap_seconds > 0:
        raise ValueError(f"gap_seconds: expected a positive number, got {gap_seconds}")
    platform = np.unique(table.platform, return_inverse=True)[1]
    order = np.lexsort((table.time, platform))
    silent = np.diff(table.time[order]).astype(np.int64) > gap_seconds
    starts = np.ones(len(table), bool)
    starts[1:] = silent | (np.diff(platform[order]) != 0)
    numbers = np.zeros(len(table), np.int64)
    numbers[order] = np.cumsum(starts)
    _, first, number = np.unique(numbers, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[number]
