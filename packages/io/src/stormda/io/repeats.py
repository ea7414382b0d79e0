"""Two values of one platform for the same quantity, time and place: which one counts?

Exact repetitions are refused when a table is made. These contradict each other, as a report and
its correction do.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np

from stormda.io.observations import ObservationTable, alike

_SAME = ("time", "position", "z", "z_kind", "channel", "variable", "platform")


def resolve_repeats(
    table: ObservationTable, keep: Literal["best", "mean", "none", "error"]
) -> ObservationTable:
    """Return a table with one value for each quantity, platform, time and place.

    Args:
        table: The observations.
        keep: `"best"` keeps the one of the best quality, and of these the one with the smallest
            known error; `"mean"` their mean, with the largest of their errors; `"none"` none of
            them; `"error"` refuses the whole table. Those dropped are counted as `repeated`.

    Raises:
        ValueError: If `keep` is none of these, or is `"error"` and there are repeats.

    Examples:
        >>> from stormda.io import observation_table
        >>> table = observation_table(
        ...     time="2020-10-01", lat=[55.0, 55.0], lon=[-77.0, -77.0], value=[4.0, 5.0],
        ...     error=[0.5, 1.0], platform="CYGW")
        >>> resolve_repeats(table, "best").value, resolve_repeats(table, "mean").value
        (array([4.]), array([4.5]))
    """
    if keep not in ("best", "mean", "none", "error"):
        raise ValueError(f"keep: expected best, mean, none or error, got {keep!r}")
    group = alike(table, _SAME)
    count = np.bincount(group)[group]
    if keep == "none":
        return table.where(count == 1, "repeated")
    if keep == "error" and np.any(count > 1):
        row = int(np.argmax(count > 1))
        raise ValueError(
            f"table: expected one value of {str(table.variable[row])!r} for each platform, time "
            f"and place, got {count[row]} of {str(table.platform[row])!r} at {table.time[row]}"
        )
    unknown_last = np.where(np.isnan(table.error), np.inf, table.error)
    order = np.lexsort((unknown_last, table.quality, group))
    first = np.zeros(len(table), bool)
    first[order[np.unique(group[order], return_index=True)[1]]] = True
    if keep == "mean":
        table = _averaged(table, group)
    return table.where(first, "repeated")


def _averaged(table: ObservationTable, group: np.ndarray) -> ObservationTable:
    """Return a table whose rows have the mean value of their group, and its largest error."""
    size = int(group.max(initial=-1)) + 1
    means = np.bincount(group, table.value, size) / np.bincount(group, minlength=size)
    largest = np.zeros(size)
    np.maximum.at(largest, group, np.where(np.isnan(table.error), np.inf, table.error))
    error = np.where(np.isinf(largest), np.nan, largest)  # unknown if one of them is
    return replace(table, value=means[group], error=error[group])
