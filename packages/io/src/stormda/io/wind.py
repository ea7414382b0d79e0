"""Wind from where and how fast, as its two components.

    u = -s sin d,    v = -s cos d        d the direction that the wind comes from

A speed and a direction of one report are two rows, and become two: the components. With the errors
of both known, the variances are

    var u = sin²d var s + s² cos²d var d,    var v = cos²d var s + s² sin²d var d

Source: WMO (2018), Guide to Instruments and Methods of Observation, WMO-No. 8, chapter 5.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stormda.io.observations import COLUMNS, ObservationTable, alike, sort_rows
from stormda.io.units import convert

_REPORT = ("time", "position", "z", "z_kind", "platform", "channel")


def wind_components(
    table: ObservationTable,
    *,
    speed: str = "wind_speed",
    direction: str = "wind_from_direction",
    names: tuple[str, str] = ("eastward_wind", "northward_wind"),
) -> ObservationTable:
    """Return a table with the components of the wind instead of its speed and direction.

    What cannot be paired or used is refused as `wind not paired`, `negative wind speed` or `wind
    direction out of range`; both rows of a pair are then refused. Other variables stay.

    Args:
        table: Observations, some of them of both.
        speed: The variable of the speed.
        direction: The variable of the direction that the wind comes from, 0 to 360 degrees.
        names: The variables of the eastward and the northward component.

    Raises:
        ValueError: If nothing of a name was observed, or the direction is no angle.

    Examples:
        >>> from stormda.io import observation_table
        >>> table = observation_table(
        ...     time="2020-10-01", lat=[55.0, 55.0], lon=[-77.0, -77.0], value=[10.0, 270.0],
        ...     variable=["wind_speed", "wind_from_direction"],
        ...     units={"wind_speed": "m s-1", "wind_from_direction": "degree"})
        >>> wind = wind_components(table)
        >>> wind.variable.tolist(), wind.value.round(6).tolist()
        (['eastward_wind', 'northward_wind'], [10.0, 0.0])
    """
    for name in (speed, direction):
        if not np.any(table.variable == name):
            known = sorted(set(table.variable.tolist()))
            raise ValueError(f"wind: expected a variable among {known}, got {name!r}")
    first, second = _pairs(table, speed, direction)
    paired = np.isin(np.arange(len(table)), np.concatenate([first, second]))
    measured = np.isin(table.variable, (speed, direction))
    s = table.value[first]
    d = _degrees(table.value[second], table.units.get(direction, ""))
    refused = {
        "negative wind speed": s < 0,
        "wind direction out of range": (s >= 0) & ((d < 0) | (d > 360)),
    }
    good = ~np.any([*refused.values()], axis=0)
    counts = Counter({reason: 2 * int(bad.sum()) for reason, bad in refused.items()})
    counts["wind not paired"] = int((measured & ~paired).sum())
    components = _components(table, first[good], second[good], s[good], np.deg2rad(d[good]))
    return _joined(table, ~measured, components, names, speed, +counts)


def _pairs(
    table: ObservationTable, speed: str, direction: str
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows of speeds and those of the directions of the same reports.

    A report with two speeds or two directions is not paired: which belong together is not known.
    """
    reports = alike(table, _REPORT)
    (speeds,), (directions,) = (np.nonzero(table.variable == v) for v in (speed, direction))
    speeds = speeds[np.isin(reports[speeds], _single(reports[speeds]))]
    directions = directions[np.isin(reports[directions], _single(reports[directions]))]
    _, one, two = np.intersect1d(reports[speeds], reports[directions], return_indices=True)
    return speeds[one], directions[two]


def _single(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    values, counts = np.unique(numbers, return_counts=True)
    return np.asarray(values[counts == 1])


def _degrees(values: NDArray[np.float64], units: str) -> NDArray[np.float64]:
    return convert(values, units, "degree") if units else values


def _components(
    table: ObservationTable,
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    s: NDArray[np.float64],
    d: NDArray[np.float64],
) -> dict[str, NDArray[Any]]:
    """Return the columns of the eastward components, and after them of the northward ones."""
    sin, cos = np.sin(d), np.cos(d)
    turn = np.deg2rad(_degrees(table.error[second], ""))
    std = table.error[first]
    columns = {name: np.concatenate([getattr(table, name)[first]] * 2) for name in COLUMNS}
    columns["value"] = np.concatenate([-s * sin, -s * cos]) + 0.0  # no negative zeros
    columns["error"] = np.concatenate(
        [np.hypot(sin * std, s * cos * turn), np.hypot(cos * std, s * sin * turn)]
    )
    worse = np.maximum(table.quality[first], table.quality[second])
    columns["quality"] = np.concatenate([worse, worse])
    return columns


def _joined(
    table: ObservationTable,
    others: NDArray[np.bool_],
    components: Mapping[str, NDArray[Any]],
    names: tuple[str, str],
    speed: str,
    refused: Counter[str],
) -> ObservationTable:
    """Return a table's other rows and the components, with the account of both."""
    new = {**components, "variable": np.repeat(np.array(names), len(components["value"]) // 2)}
    columns: dict[str, Any] = {
        name: np.concatenate([getattr(table, name)[others], new[name]]) for name in COLUMNS
    }
    units = {v: table.units[v] for v in np.unique(table.variable[others]).tolist()}
    units |= dict.fromkeys(names, table.units.get(speed, ""))
    return sort_rows(replace(table, **columns, units=units, rejected=table.rejected + refused))
