"""Observations from delimited text, by a declared mapping of its columns.

Each row and each quantity of the mapping is one candidate. What cannot be used is refused under a
reason and counted; only a file that does not fit its mapping at all is an error.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stormda.io.observations import ObservationTable, observation_table
from stormda.io.times import decode_times
from stormda.io.units import Unit, parse_unit

_BLANK = {"", "nan", "na", "n/a", "null", "none", "-"}
"""Cells that say that nothing was measured, in lower case."""

_GUESSES = {
    "time": "time date datetime timestamp valid_time date_time",
    "lat": "lat latitude",
    "lon": "lon longitude long lng",
    "y": "y",
    "x": "x",
    "platform": "platform platform_id station station_id satellite",
}


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """One measured quantity in a file's columns."""

    column: str
    """The column of the values."""

    units: str = ""
    """The units of the column, converted to SI; empty leaves the values as they are."""

    error: float | None = None
    """One standard deviation of the error, in `units`; None if unknown."""

    error_column: str | None = None
    """The column of one standard deviation, in `units`; instead of `error`."""

    sentinels: tuple[float, ...] = ()
    """Numbers that stand for a missing value, such as -9999."""

    def __post_init__(self) -> None:
        """Refuse errors that are not positive or stated twice, and unknown units."""
        if self.error is not None and not self.error > 0:
            raise ValueError(f"error: expected a positive standard deviation, got {self.error}")
        if self.error is not None and self.error_column is not None:
            raise ValueError("error: expected either error or error_column, got both")
        parse_unit(self.units)

    @property
    def unit(self) -> Unit | None:
        """The conversion to SI; None to leave the values as they are."""
        return parse_unit(self.units) if self.units else None


@dataclass(frozen=True, kw_only=True)
class ColumnMapping:
    """What the columns of a delimited text file mean.

    Examples:
        >>> metar = ColumnMapping(
        ...     time="Unix_time", lat="Latitude", lon="Longitude", platform="ICAO",
        ...     time_format="seconds since 1970-01-01",
        ...     quantities={"temperature": Quantity(column="Temp", units="degC", error=1.0)})
        >>> metar.quantities["temperature"].unit.si
        'K'
    """

    quantities: Mapping[str, Quantity]
    """What is measured, by the name it gets in the table."""

    time: str = "time"
    """The column of the time."""

    lat: str | None = None
    """The column of the latitude [degrees_north]."""

    lon: str | None = None
    """The column of the longitude [degrees_east]."""

    y: str | None = None
    """The column of the position on a plane [m], instead of `lat`."""

    x: str | None = None
    """The column of the position on a plane [m], instead of `lon`."""

    platform: str | None = None
    """The column that names who measured."""

    time_format: str | None = None
    """None for ISO 8601, a format of `datetime.strptime`, or CF units such as
    `"seconds since 1970-01-01"`. Times without a zone are UTC."""

    delimiter: str = ","
    """What separates the columns."""

    comment: str | None = None
    """What starts a line to be skipped, such as `"#"`."""

    encoding: str = "utf-8-sig"
    """How the text is encoded; `"cp1252"` for files from old Windows programs."""

    def __post_init__(self) -> None:
        """Refuse a mapping without quantities or without one pair of coordinates."""
        if not self.quantities:
            raise ValueError("quantities: expected at least one, got none")
        given = [name for name in ("lat", "lon", "y", "x") if getattr(self, name) is not None]
        if given not in (["lat", "lon"], ["y", "x"]):
            raise ValueError(f"coordinates: expected lat and lon, or y and x, got {given}")

    @property
    def columns(self) -> list[str]:
        """The columns that a file must have."""
        own = [self.time, self.lat, self.lon, self.y, self.x, self.platform]
        measured = [c for q in self.quantities.values() for c in (q.column, q.error_column)]
        return [column for column in (*own, *measured) if column is not None]


def read_csv(
    path: Path, mapping: ColumnMapping | None, variables: Sequence[str] | None
) -> ObservationTable:
    """Read observations from delimited text.

    Args:
        path: The file; its first line that is no comment names the columns.
        mapping: What the columns mean; None to recognise them by their usual names.
        variables: The columns to read where there is no mapping; None if only one is left.

    Raises:
        ValueError: If the text cannot be decoded, a line is too short or too long, a column is
            missing, or without a mapping the columns are not recognised.
    """
    columns = _read_columns(path, mapping)
    if mapping is None:
        mapping = _guess(path, list(columns), variables)
    missing = [name for name in mapping.columns if name not in columns]
    if missing:
        raise ValueError(f"{path}: expected a column {missing[0]!r}, got {sorted(columns)}")
    return _table(columns, mapping)


def _read_columns(path: Path, mapping: ColumnMapping | None) -> dict[str, list[str]]:
    """Return the cells of each column as text, stripped."""
    layout = mapping or ColumnMapping  # whose class attributes are the defaults
    try:
        with path.open(encoding=layout.encoding, newline="") as file:
            lines = (line for line in file if not _is_comment(line, layout.comment))
            rows = list(csv.reader(lines, delimiter=layout.delimiter, skipinitialspace=True))
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}: expected text encoded as {layout.encoding}, got other bytes at position "
            f"{error.start} (name the encoding in the mapping, for instance 'cp1252')"
        ) from error
    rows = [row for row in rows if row]
    if not rows:
        raise ValueError(f"{path}: expected a line of column names, got an empty file")
    names = [name.strip() for name in rows[0]]
    for i, row in enumerate(rows[1:], start=1):
        if len(row) != len(names):
            raise ValueError(f"{path}: expected {len(names)} cells in row {i}, got {len(row)}")
    return {name: [row[i].strip() for row in rows[1:]] for i, name in enumerate(names)}


def _is_comment(line: str, comment: str | None) -> bool:
    return comment is not None and line.startswith(comment)


def _guess(path: Path, columns: list[str], variables: Sequence[str] | None) -> ColumnMapping:
    """Return the mapping that the usual names of columns suggest."""
    found = {
        role: next((column for column in columns if column.lower() in names.split()), None)
        for role, names in _GUESSES.items()
    }
    if found["lat"] is not None and found["lon"] is not None:
        found["y"] = found["x"] = None
    time = found["time"]
    if time is None or None in (found["lat"] or found["y"], found["lon"] or found["x"]):
        raise ValueError(
            f"{path}: expected columns for time, lat and lon, or a mapping that names them, "
            f"got {columns}"
        )
    rest = [column for column in columns if column not in found.values()]
    chosen = list(variables) if variables is not None else rest
    if len(rest) != 1 and variables is None:
        raise ValueError(f"variable: expected one of the columns of {path}, {rest}, got none")
    for name in chosen:
        if name not in columns:
            raise ValueError(
                f"variable: expected one of the columns of {path}, {rest}, got {name!r}"
            )
    quantities = {name: Quantity(column=name) for name in chosen}
    return ColumnMapping(
        quantities=quantities,
        time=time,
        lat=found["lat"],
        lon=found["lon"],
        y=found["y"],
        x=found["x"],
        platform=found["platform"],
    )


def _table(columns: Mapping[str, list[str]], mapping: ColumnMapping) -> ObservationTable:
    """Stack the candidates of all quantities, one after the other."""
    count, many = len(columns[mapping.time]), len(mapping.quantities)
    values, errors, unreadable = zip(
        *(_measured(columns, quantity) for quantity in mapping.quantities.values()), strict=True
    )
    readable = ~np.concatenate(unreadable)
    places = {
        name: np.tile(_numbers(columns[column])[0], many)[readable]
        for name in ("lat", "lon", "y", "x")
        if (column := getattr(mapping, name)) is not None
    }
    platform = columns[mapping.platform] if mapping.platform else [""] * count
    return observation_table(
        time=np.tile(_times(columns[mapping.time], mapping.time_format), many)[readable],
        value=np.concatenate(values)[readable],
        error=np.concatenate(errors)[readable],
        variable=np.repeat(list(mapping.quantities), count)[readable],
        platform=np.tile(np.asarray(platform, np.str_), many)[readable],
        units={n: q.unit.si if q.unit else "" for n, q in mapping.quantities.items()},
        rejected=Counter(
            {"unreadable value": int((~readable).sum())} if not readable.all() else {}
        ),
        **places,
    )


def _measured(
    columns: Mapping[str, list[str]], quantity: Quantity
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Return values and errors in SI, and which values are no numbers."""
    values, unreadable = _numbers(columns[quantity.column])
    values = np.where(np.isin(values, quantity.sentinels), np.nan, values)
    if quantity.error_column is not None:
        errors, _ = _numbers(columns[quantity.error_column])
    else:
        errors = np.full(len(values), np.nan if quantity.error is None else quantity.error)
    unit = quantity.unit
    if unit is not None:
        values, errors = unit.to_si(values), errors * unit.scale
    return values, errors, unreadable


def _numbers(cells: Sequence[str]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return cells as numbers, NaN where blank, and which are neither."""
    numbers, unreadable = np.full(len(cells), np.nan), np.zeros(len(cells), bool)
    for i, cell in enumerate(cells):
        try:
            numbers[i] = float(cell)
        except ValueError:
            unreadable[i] = cell.lower() not in _BLANK
    return numbers, unreadable


def _times(cells: Sequence[str], form: str | None) -> NDArray[np.datetime64]:
    """Return times, NaT where a cell is no time."""
    if form is not None and " since " in form:
        numbers, _ = _numbers(cells)
        times = np.full(len(cells), np.datetime64("NaT", "s"))
        finite = np.isfinite(numbers)
        times[finite] = decode_times(numbers[finite], form)
        return times
    return np.array([_time(cell, form) for cell in cells], "datetime64[s]")


def _time(cell: str, form: str | None) -> np.datetime64:
    try:
        time = datetime.fromisoformat(cell) if form is None else datetime.strptime(cell, form)
    except ValueError:
        return np.datetime64("NaT", "s")
    utc = time if time.tzinfo is None else time.astimezone(UTC).replace(tzinfo=None)
    return np.datetime64(utc, "s")
