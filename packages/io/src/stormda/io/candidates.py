"""Candidates become a table of observations, or are refused and counted.

A candidate is refused for the first of these reasons that applies: `missing time`, `missing
position`, `position out of range`, `unusable height`, `missing value`, `infinite value`, `error
not positive`, `bad quality`, and `duplicate` for one that repeats another in everything but its
error and its quality.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stormda.io.observations import (
    PLANE,
    SPHERE,
    VERTICALS,
    Bools,
    Floats,
    ObservationTable,
    alike,
    sort_rows,
)
from stormda.io.quality import Quality


def observation_table(
    *,
    time: ArrayLike,
    value: ArrayLike,
    lat: ArrayLike | None = None,
    lon: ArrayLike | None = None,
    y: ArrayLike | None = None,
    x: ArrayLike | None = None,
    z: ArrayLike = np.nan,
    z_kind: ArrayLike = "",
    error: ArrayLike = np.nan,
    quality: ArrayLike = Quality.UNKNOWN,
    channel: ArrayLike = 0,
    variable: ArrayLike = "",
    platform: ArrayLike = "",
    units: Mapping[str, str] | None = None,
    rejected: Mapping[str, int] | None = None,
) -> ObservationTable:
    """Make a table of candidates, refusing and counting those that cannot be used.

    Args:
        time: When; as all that follows of shape (n,), or one value for all.
        value: What was measured; NaN if missing.
        lat: Latitudes [degrees_north]; with `lon`.
        lon: Longitudes [degrees_east], in any convention.
        y: Positions on a plane [m]; with `x`, instead of `lat` and `lon`.
        x: Positions on a plane [m].
        z: Heights, depths [m] or pressures [Pa]; NaN where there is none.
        z_kind: `"height"`, `"depth"`, `"pressure"`, or empty.
        error: One standard deviation; NaN if unknown.
        quality: As `Quality`.
        channel: The channel of an instrument; 0 if it has none.
        variable: The name of what was measured.
        platform: Who measured it.
        units: The units of each variable.
        rejected: Candidates that were refused before, by reason.

    Raises:
        ValueError: If coordinates are not one pair, shapes differ, or an argument makes no sense.

    Examples:
        >>> table = observation_table(
        ...     time="2017-10-27", lat=[54.0, 95.0], lon=[3.0, 3.0], value=[1.2, 1.3])
        >>> table.summary
        '1 of 2 observations used (1 position out of range)'
    """
    dims, position = _position(lat, lon, y, x)
    columns = {
        "time": np.asarray(time, "datetime64[s]"),
        "z": np.asarray(z, np.float64),
        "z_kind": _among("z_kind", np.asarray(z_kind, np.str_), VERTICALS),
        "value": np.asarray(value, np.float64),
        "error": _positive(np.asarray(error, np.float64)),
        "quality": _among("quality", np.asarray(quality), [*Quality]).astype(np.uint8),
        "channel": np.asarray(channel, np.int32),
        "variable": np.asarray(variable, np.str_),
        "platform": np.asarray(platform, np.str_),
    }
    return _screened(columns, position, dims, units or {}, rejected or {})


def _screened(
    columns: Mapping[str, NDArray[Any]],
    position: Floats,
    dims: tuple[str, str],
    units: Mapping[str, str],
    rejected: Mapping[str, int],
) -> ObservationTable:
    """Return the usable rows, sorted, with the account of the others."""
    rows: dict[str, Any] = {n: _column(n, values, len(position)) for n, values in columns.items()}
    table = ObservationTable(
        position=position,
        dims=dims,
        units={str(name): "" for name in np.unique(columns["variable"])} | {**units},
        rejected=Counter(rejected),
        **rows,
    )
    for reason, usable in _CHECKS.items():
        table = table.where(usable(table), reason)
    table = sort_rows(table)
    return table.where(_first_of_kind(table), "duplicate")


def _among(name: str, values: NDArray[Any], known: Any) -> NDArray[Any]:  # noqa: ANN401
    """Return values, refusing any that is not among a few."""
    others = np.setdiff1d(values, [*known])
    if len(others):
        raise ValueError(f"{name}: expected values among {[*known]}, got {others[0].item()!r}")
    return values


def _positive(errors: Floats) -> Floats:
    """Return errors; one for all must be positive."""
    if errors.ndim == 0 and errors <= 0:
        raise ValueError(f"error: expected a positive standard deviation, got {errors:g}")
    return errors


def _position(
    lat: ArrayLike | None, lon: ArrayLike | None, y: ArrayLike | None, x: ArrayLike | None
) -> tuple[tuple[str, str], Floats]:
    """Return which pair of coordinates is given, and it, shape (n, 2)."""
    coordinates = {"lat": lat, "lon": lon, "y": y, "x": x}
    given = {name: c for name, c in coordinates.items() if c is not None}
    if tuple(given) not in (SPHERE, PLANE):
        raise ValueError(f"coordinates: expected lat and lon, or y and x, got {[*given]}")
    first, second = (np.atleast_1d(np.asarray(c, np.float64)) for c in given.values())
    if first.ndim != 1 or first.shape != second.shape:
        raise ValueError(
            f"coordinates: expected two of one length, got shapes {first.shape} and {second.shape}"
        )
    return (SPHERE if "lat" in given else PLANE), np.stack([first, second], axis=-1)


def _column(name: str, values: NDArray[Any], n: int) -> NDArray[Any]:
    """Return one value for each row."""
    if values.shape not in ((), (n,)):
        raise ValueError(f"{name}: expected shape ({n},), got {values.shape}")
    return np.broadcast_to(values, (n,)).copy()


def _in_range(table: ObservationTable) -> Bools:
    if table.dims == PLANE:
        return np.asarray(np.isfinite(table.position).all(axis=1))
    lat, lon = table.position.T
    return np.asarray((np.abs(lat) <= 90) & (lon >= -360) & (lon <= 720))


def _height_known(table: ObservationTable) -> Bools:
    """Tell where there is a height, pressure or depth if there should be one."""
    return np.where(table.z_kind == "", np.isnan(table.z), np.isfinite(table.z))


def _first_of_kind(table: ObservationTable) -> Bools:
    """Tell which rows repeat no earlier one in everything but error and quality."""
    columns = ("time", "position", "z", "z_kind", "value", "channel", "variable", "platform")
    first = np.unique(alike(table, columns), return_index=True)[1]
    return np.isin(np.arange(len(table)), first)


_CHECKS: dict[str, Callable[[ObservationTable], Bools]] = {
    "missing time": lambda table: ~np.isnat(table.time),
    "missing position": lambda table: np.asarray(~np.isnan(table.position).any(axis=1)),
    "position out of range": _in_range,
    "unusable height": _height_known,
    "missing value": lambda table: ~np.isnan(table.value),
    "infinite value": lambda table: np.isfinite(table.value),
    "error not positive": lambda table: ~((table.error <= 0) | np.isinf(table.error)),
    "bad quality": lambda table: np.asarray(table.quality != Quality.BAD),
}
"""The rows that are usable, by the reason for which the others are not."""
