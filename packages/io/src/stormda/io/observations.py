"""A table of point observations, and the account of those that were refused.

Every candidate that came in is either a row or counted under the first reason that ruled it out:

    n_in = len(table) + sum(table.rejected.values())

This holds through every selection, so that a report can say what became of each observation.
Rows are sorted by time, then by position. An error of NaN means that nobody stated one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stormda.grid import Grid, locate
from stormda.io.selection import Date

SPHERE = ("lat", "lon")
"""The names of the coordinates on the sphere [degrees_north, degrees_east]."""

PLANE = ("y", "x")
"""The names of the coordinates on the plane [m]."""

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False, kw_only=True)
class ObservationTable:
    """Point observations; made by `read_observations` or `observation_table`."""

    time: NDArray[np.datetime64]
    """When, shape (n,), `datetime64[s]`, never falling."""

    position: Floats
    """Where, shape (n, 2), along `dims`."""

    dims: tuple[str, str]
    """`("lat", "lon")` [degrees] or `("y", "x")` [m]."""

    value: Floats
    """What was measured, shape (n,), in the units of its variable."""

    error: Floats
    """One standard deviation of the error of `value`, shape (n,); NaN if unknown."""

    variable: NDArray[np.str_]
    """The name of what was measured, shape (n,)."""

    platform: NDArray[np.str_]
    """Who measured it, shape (n,); empty if unknown."""

    units: Mapping[str, str]
    """The units of each variable; empty if unknown."""

    rejected: Counter[str]
    """How many candidates were refused, by reason."""

    def __len__(self) -> int:
        """The number of observations that are used."""
        return len(self.time)

    @property
    def n_in(self) -> int:
        """The number of candidates that came in: those used and those refused."""
        return len(self) + self.rejected.total()

    @property
    def lat(self) -> Floats:
        """Latitudes, shape (n,) [degrees_north]."""
        return self._coordinate("lat")

    @property
    def lon(self) -> Floats:
        """Longitudes, shape (n,) [degrees_east], as they were given."""
        return self._coordinate("lon")

    @property
    def y(self) -> Floats:
        """Positions along the rows' direction of a plane, shape (n,) [m]."""
        return self._coordinate("y")

    @property
    def x(self) -> Floats:
        """Positions along the columns' direction of a plane, shape (n,) [m]."""
        return self._coordinate("x")

    @property
    def summary(self) -> str:
        """What became of the candidates, in one line."""
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(self.rejected.items()))
        used = f"{len(self)} of {self.n_in} observations used"
        return f"{used} ({reasons})" if reasons else used

    def where(self, keep: ArrayLike, otherwise: str) -> ObservationTable:
        """Return the rows where `keep` is true, counting the others under a reason.

        Args:
            keep: bool, shape (n,).
            otherwise: The reason to count the others under, such as `"withheld"`.

        Raises:
            ValueError: If `keep` is not one bool for each row.
        """
        mask = np.asarray(keep)
        if mask.shape != (len(self),) or mask.dtype != np.bool_:
            raise ValueError(
                f"keep: expected {len(self)} bools, got shape {mask.shape} of {mask.dtype}"
            )
        dropped = Counter({otherwise: int((~mask).sum())} if not mask.all() else {})
        rows = {name: getattr(self, name)[mask] for name in _COLUMNS}
        return replace(self, **rows, rejected=self.rejected + dropped)

    def window(self, start: Date, end: Date) -> ObservationTable:
        """Return the rows with `start < time <= end`, counting others as `outside window`.

        Windows that follow one another share no observation and lose none.

        Args:
            start: The instant after which observations count.
            end: The last instant at which they count.
        """
        first, last = np.asarray(start, "datetime64[s]"), np.asarray(end, "datetime64[s]")
        return self.where((self.time > first) & (self.time <= last), "outside window")

    def within(self, grid: Grid) -> ObservationTable:
        """Return the rows amid a grid's cell centres, counting others as `outside domain`.

        Args:
            grid: A grid with the same kind of coordinates.

        Raises:
            ValueError: If the grid has other coordinates than the table.
        """
        if grid.dims != self.dims:
            raise ValueError(f"grid: expected coordinates {self.dims}, got {grid.dims}")
        if not len(self):
            return self
        inside = locate(grid, self.position[:, 0], self.position[:, 1]).inside
        return self.where(inside, "outside domain")

    def _coordinate(self, name: str) -> Floats:
        if name not in self.dims:
            raise AttributeError(f"{name}: expected a table with this coordinate, got {self.dims}")
        return self.position[:, self.dims.index(name)]


_COLUMNS = ("time", "position", "value", "error", "variable", "platform")


def observation_table(
    *,
    time: ArrayLike,
    value: ArrayLike,
    lat: ArrayLike | None = None,
    lon: ArrayLike | None = None,
    y: ArrayLike | None = None,
    x: ArrayLike | None = None,
    error: ArrayLike = np.nan,
    variable: ArrayLike = "",
    platform: ArrayLike = "",
    units: Mapping[str, str] | None = None,
    rejected: Mapping[str, int] | None = None,
) -> ObservationTable:
    """Make a table of candidates, refusing and counting those that cannot be used.

    The reasons are `missing time`, `missing position`, `position out of range`, `missing value`,
    `infinite value`, `error not positive`, and `duplicate` for a row that repeats another in
    everything but its error.

    Args:
        time: When, shape (n,) or one for all.
        value: What was measured, shape (n,); NaN if missing.
        lat: Latitudes [degrees_north], shape (n,); with `lon`.
        lon: Longitudes [degrees_east], in any convention, shape (n,).
        y: Positions on a plane [m], shape (n,); with `x`, instead of `lat` and `lon`.
        x: Positions on a plane [m], shape (n,).
        error: One standard deviation, shape (n,) or one for all; NaN if unknown.
        variable: The name of what was measured, shape (n,) or one for all.
        platform: Who measured it, shape (n,) or one for all.
        units: The units of each variable.
        rejected: Candidates that were refused before, by reason.

    Returns:
        The usable rows, sorted by time and position.

    Raises:
        ValueError: If the coordinates are not one pair, shapes differ, or one error for all is not
            positive.

    Examples:
        >>> table = observation_table(
        ...     time="2017-10-27", lat=[54.0, 95.0, 53.0], lon=[3.0, 3.0, 4.0],
        ...     value=[1.2, 1.3, np.nan], error=0.2, variable="swh")
        >>> len(table), table.n_in
        (1, 3)
        >>> table.summary
        '1 of 3 observations used (1 missing value, 1 position out of range)'
    """
    dims, position = _position(lat, lon, y, x)
    n = len(position)
    errors = np.asarray(error, np.float64)
    if errors.ndim == 0 and errors <= 0:
        raise ValueError(f"error: expected a positive standard deviation, got {errors:g}")
    table = ObservationTable(
        time=_column("time", np.asarray(time, "datetime64[s]"), n),
        position=position,
        dims=dims,
        value=_column("value", np.asarray(value, np.float64), n),
        error=_column("error", errors, n),
        variable=_column("variable", np.asarray(variable, np.str_), n),
        platform=_column("platform", np.asarray(platform, np.str_), n),
        units={str(name): "" for name in np.unique(np.asarray(variable, np.str_))}
        | {**(units or {})},
        rejected=Counter(rejected or {}),
    )
    for reason, usable in _CHECKS.items():
        table = table.where(usable(table), reason)
    return _sorted(table).where(_first_of_kind(_sorted(table)), "duplicate")


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


_CHECKS: dict[str, Callable[[ObservationTable], Bools]] = {
    "missing time": lambda table: ~np.isnat(table.time),
    "missing position": lambda table: np.asarray(~np.isnan(table.position).any(axis=1)),
    "position out of range": _in_range,
    "missing value": lambda table: ~np.isnan(table.value),
    "infinite value": lambda table: np.isfinite(table.value),
    "error not positive": lambda table: ~((table.error <= 0) | np.isinf(table.error)),
}
"""The rows that are usable, by the reason for which the others are not."""


def _sorted(table: ObservationTable) -> ObservationTable:
    """Return the rows by time, then position; equal ones keep their order."""
    order = np.lexsort((table.position[:, 1], table.position[:, 0], table.time))
    return replace(table, **{name: getattr(table, name)[order] for name in _COLUMNS})


def _first_of_kind(table: ObservationTable) -> Bools:
    """Tell which rows repeat no earlier one in time, position, variable, platform and value."""
    columns = (table.time, *table.position.T, table.value, table.variable, table.platform)
    codes = np.stack([np.unique(column, return_inverse=True)[1] for column in columns])
    _, first = np.unique(codes, axis=1, return_index=True)
    return np.isin(np.arange(len(table)), first)
