"""A table of point observations, and the account of those that were refused.

Every candidate that came in is either a row or counted under the first reason that ruled it out:

    n_in = len(table) + sum(table.rejected.values())

This holds through every selection, so that a report can say what became of each observation.
Rows are sorted by time, then by position, then by what was measured. An error of NaN means that
nobody stated one; a height of NaN that the observation has none, as at a station or from a ship.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stormda.grid import Grid, locate
from stormda.io.selection import Date

SPHERE = ("lat", "lon")
"""The names of the coordinates on the sphere [degrees_north, degrees_east]."""

PLANE = ("y", "x")
"""The names of the coordinates on the plane [m]."""

Vertical = Literal["", "pressure", "height", "depth"]
"""What a vertical coordinate is: nothing, pressure [Pa], height [m] or depth [m]."""

VERTICALS = get_args(Vertical)

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

    z: Floats
    """How high or deep, shape (n,), in the units of `z_kind`; NaN if there is no such thing."""

    z_kind: NDArray[np.str_]
    """What `z` is, shape (n,): `"pressure"` [Pa], `"height"` [m], `"depth"` [m], or empty."""

    value: Floats
    """What was measured, shape (n,), in the units of its variable."""

    error: Floats
    """One standard deviation of the error of `value`, shape (n,); NaN if unknown."""

    quality: NDArray[np.uint8]
    """What the source says about `value`, shape (n,), as `Quality`."""

    channel: NDArray[np.int32]
    """The channel of an instrument that has several, shape (n,); 0 for others."""

    variable: NDArray[np.str_]
    """The name of what was measured, shape (n,)."""

    platform: NDArray[np.str_]
    """Who measured it, shape (n,); empty if unknown."""

    units: Mapping[str, str]
    """The units of each variable; empty if unknown."""

    rejected: Counter[str]
    """How many candidates were refused, by reason."""

    source: str = ""
    """The file that they were read from; empty if from none."""

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
        rows = {name: getattr(self, name)[mask] for name in COLUMNS}
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


COLUMNS = (
    "time",
    "position",
    "z",
    "z_kind",
    "value",
    "error",
    "quality",
    "channel",
    "variable",
    "platform",
)
"""The columns of a table, each with one entry for a row."""


def sort_rows(table: ObservationTable) -> ObservationTable:
    """Return the rows by time, position and everything else but error and quality.

    So the order does not depend on that of the file; equal rows keep theirs.
    """
    texts = (table.platform, table.variable, table.z_kind)
    platform, variable, z_kind = (np.unique(text, return_inverse=True)[1] for text in texts)
    last = (table.value, table.channel, platform, variable, table.z, z_kind)
    order = np.lexsort((*last, table.position[:, 1], table.position[:, 0], table.time))
    return replace(table, **{name: getattr(table, name)[order] for name in COLUMNS})


def join_tables(tables: Sequence[ObservationTable]) -> ObservationTable:
    """Return the rows of several tables as one, sorted, with the refusals of all.

    Args:
        tables: At least one; positions along the same coordinates.

    Raises:
        ValueError: If there is none, coordinates differ, or a variable has several units.

    Examples:
        >>> from stormda.io import observation_table
        >>> one, two = (
        ...     observation_table(time=t, lat=[50.0], lon=[0.0], value=[1.0], error=0.5)
        ...     for t in ("2019-03-01T06", "2019-03-01T03")
        ... )
        >>> join_tables([one, two]).time.astype("datetime64[h]").astype(str).tolist()
        ['2019-03-01T03', '2019-03-01T06']
    """
    if not tables:
        raise ValueError("tables: expected at least one, got none")
    units: dict[str, str] = {}
    for table in tables:
        if table.dims != tables[0].dims:
            raise ValueError(f"tables: expected coordinates {tables[0].dims}, got {table.dims}")
        for name, unit in table.units.items():
            if units.setdefault(name, unit) != unit:
                raise ValueError(f"tables: expected {name!r} in {units[name]!r}, got {unit!r}")
    rows: dict[str, Any] = {
        name: np.concatenate([getattr(t, name) for t in tables]) for name in COLUMNS
    }
    rejected = sum((table.rejected for table in tables), Counter())
    return sort_rows(replace(tables[0], **rows, units=units, rejected=rejected, source=""))


def alike(table: ObservationTable, columns: tuple[str, ...]) -> NDArray[np.int64]:
    """Number the rows so that those that agree in some columns share a number, shape (n,).

    NaN agrees with NaN.
    """
    keys = [key for name in columns for key in np.atleast_2d(getattr(table, name).T)]
    codes = np.stack([np.unique(key, return_inverse=True)[1] for key in keys])
    order = np.lexsort(codes)
    numbers = np.zeros(len(table), np.int64)
    numbers[order[1:]] = np.cumsum((np.diff(codes[:, order]) != 0).any(axis=0))
    return numbers
