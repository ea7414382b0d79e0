"""Observations from delimited text.

With a mapping the columns are read as it says; without one they are recognised by their usual
names, and values are left in the units that they are in.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stormda.io.columns import Columns, require_choice, require_columns, table_of
from stormda.io.mapping import ColumnMapping, Quantity
from stormda.io.observations import ObservationTable

_GUESSES = {
    "time": "time date datetime timestamp valid_time date_time",
    "lat": "lat latitude",
    "lon": "lon longitude long lng",
    "y": "y",
    "x": "x",
    "platform": "platform platform_id station station_id satellite",
}


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
    names, rows = _read_rows(path, mapping)
    if mapping is None:
        mapping = guess_mapping(path, names, variables)
    try:
        require_columns(mapping, names)
        cells = {
            name: np.array([row[names.index(name)].strip() for row in rows], np.str_)
            for name in mapping.columns
        }
        return table_of(Columns(cells=cells), mapping)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _read_rows(path: Path, mapping: ColumnMapping | None) -> tuple[list[str], list[list[str]]]:
    """Return the names of the columns, and the cells of each row."""
    layout = mapping or ColumnMapping  # whose class attributes are the defaults
    try:
        with path.open(encoding=layout.encoding, newline="") as file:
            lines = (line for line in file if not _is_comment(line, layout.comment))
            reader = csv.reader(
                lines, delimiter=layout.delimiter, skipinitialspace=True, strict=True
            )
            rows = list(reader)
    except csv.Error as error:
        raise ValueError(f"{path}: expected delimited text, got {error}") from error
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}: expected text encoded as {layout.encoding}, got other bytes at position "
            f"{error.start} (name the encoding in the mapping, for instance 'cp1252')"
        ) from error
    rows = [row for row in rows if row]
    if not rows:
        raise ValueError(f"{path}: expected a line of column names, got an empty file")
    names = [name.strip() for name in rows[0]]
    if repeated := [name for i, name in enumerate(names) if name in names[:i]]:
        raise ValueError(f"{path}: expected every column once, got {repeated[0]!r} twice")
    for i, row in enumerate(rows[1:], start=1):
        if len(row) != len(names):
            raise ValueError(f"{path}: expected {len(names)} cells in row {i}, got {len(row)}")
    return names, rows[1:]


def _is_comment(line: str, comment: str | None) -> bool:
    return comment is not None and line.startswith(comment)


def guess_mapping(
    path: Path, columns: Sequence[str], variables: Sequence[str] | None
) -> ColumnMapping:
    """Return the mapping that the usual names of columns suggest.

    Raises:
        ValueError: If time or place are not recognised, or it is not clear what to read.
    """
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
            f"got {[*columns]}"
        )
    rest = [column for column in columns if column not in found.values()]
    chosen = require_choice(rest, variables, str(path))
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
