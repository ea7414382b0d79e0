"""Columns of one length become a table, by a declared mapping.

Each row and each quantity of the mapping is one candidate. What cannot be used is refused under a
reason and counted; only columns that do not fit their mapping at all are an error.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stormda.io.candidates import observation_table
from stormda.io.choice import require_among
from stormda.io.mapping import ColumnMapping, Quantity
from stormda.io.observations import ObservationTable
from stormda.io.quality import Quality, quality_of
from stormda.io.times import decode_times
from stormda.io.units import Unit, convert, parse_unit

BLANK = {"", "nan", "na", "n/a", "null", "none", "-"}
"""Cells that say that nothing was measured, in lower case."""

Texts = NDArray[np.str_]
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False, kw_only=True)
class Columns:
    """The columns of a file, as they are there."""

    cells: Mapping[str, NDArray[Any]]
    """Each column, shape (n,): text, numbers with NaN where missing, or `datetime64`."""

    units: Mapping[str, str] = field(default_factory=dict)
    """The units that the file states, by column."""

    def __len__(self) -> int:
        """How many rows there are."""
        return len(next(iter(self.cells.values()), ()))


def table_of(columns: Columns, mapping: ColumnMapping) -> ObservationTable:
    """Stack the candidates of all quantities, one after the other.

    Args:
        columns: What the file holds.
        mapping: What it means.

    Raises:
        ValueError: If a column has quality codes or heights that the mapping does not explain.
    """
    everywhere = _shared(columns, mapping)
    parts = [
        _candidates(columns, mapping, name, quantity)
        for name, quantity in mapping.quantities.items()
    ]
    kept = [part.pop("kept") for part in parts]
    rejected = sum((part.pop("rejected") for part in parts), Counter[str]())
    stacked = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    repeated = {
        name: np.concatenate([values[rows] for rows in kept])
        for name, values in everywhere.items()
    }
    units = {name: _units(columns, q)[1] for name, q in mapping.quantities.items()}
    return observation_table(
        **stacked, **repeated, z_kind=mapping.z_kind, units=units, rejected=rejected
    )


def _shared(columns: Columns, mapping: ColumnMapping) -> dict[str, NDArray[Any]]:
    """Return what all quantities of a row have in common."""
    cells = columns.cells
    times = [cells[name] for name in mapping.times]
    shared: dict[str, NDArray[Any]] = {"time": times_of(times, mapping.time_format)}
    if mapping.platform is not None:
        shared["platform"] = _text(cells[mapping.platform])
    for name in ("lat", "lon", "y", "x"):
        if (column := getattr(mapping, name)) is not None:
            shared[name] = _numbers(cells[column])[0]
    if mapping.stations is not None:
        unknown = (np.nan, np.nan)
        places = [mapping.stations.get(name, unknown) for name in shared["platform"].tolist()]
        shared["lat"], shared["lon"] = np.array(places, np.float64).reshape(-1, 2).T
    if mapping.z is not None:
        shared["z"] = _height(columns, mapping)
    if mapping.channel is not None:
        numbers = _numbers(cells[mapping.channel])[0]
        shared["channel"] = np.nan_to_num(numbers, nan=0.0).astype(np.int32)
    return shared


def _height(columns: Columns, mapping: ColumnMapping) -> Floats:
    values = _numbers(columns.cells[str(mapping.z)])[0]
    source = mapping.z_units or columns.units.get(str(mapping.z), "")
    target = "Pa" if mapping.z_kind == "pressure" else "m"
    try:
        return convert(values, source or target, target)
    except ValueError as error:
        raise ValueError(f"column {mapping.z!r}: {error}") from error


def _candidates(
    columns: Columns, mapping: ColumnMapping, name: str, quantity: Quantity
) -> dict[str, Any]:
    """Return the columns of one quantity, which rows they are of, and the account of others."""
    values, unreadable = _numbers(columns.cells[quantity.column])
    values = np.where(np.isin(values, quantity.sentinels), np.nan, values)
    errors = _errors(columns, quantity, values)
    unit, _ = _units(columns, quantity)
    if unit is not None:
        values, errors = unit.to_si(values), errors * unit.scale
    mine = np.ones(len(values), bool)
    if quantity.label is not None:
        mine = _text(columns.cells[str(mapping.label)]) == quantity.label
    kept = mine & ~unreadable
    counts = {"unreadable value": mine & unreadable, "other variable": ~mine}
    return {
        "kept": kept,
        "rejected": Counter({reason: int(r.sum()) for reason, r in counts.items() if r.any()}),
        "value": values[kept],
        "error": errors[kept],
        "quality": _quality(columns, quantity)[kept],
        "variable": np.full(kept.sum(), name),
    }


def _errors(columns: Columns, quantity: Quantity, values: Floats) -> Floats:
    if quantity.error_column is not None:
        errors = _numbers(columns.cells[quantity.error_column])[0]
        return np.where(np.isin(errors, quantity.sentinels), np.nan, errors)
    return np.full(len(values), np.nan if quantity.error is None else quantity.error)


def _quality(columns: Columns, quantity: Quantity) -> NDArray[np.uint8]:
    if quantity.quality_column is None:
        return np.full(len(columns), Quality.UNKNOWN, np.uint8)
    try:
        codes = _codes(columns.cells[quantity.quality_column])
        return quality_of(codes, quantity.quality_codes)
    except ValueError as error:
        raise ValueError(f"column {quantity.quality_column!r}: {error}") from error


def _units(columns: Columns, quantity: Quantity) -> tuple[Unit | None, str]:
    """Return the conversion to SI and the units it leads to, as far as they are known."""
    if quantity.unit is not None:
        return quantity.unit, quantity.unit.si
    stated = columns.units.get(quantity.column, "")
    try:
        unit = parse_unit(stated) if stated else None
    except ValueError:  # a spelling that nobody knows: the values stay as they are, so labelled
        return None, stated
    return unit, unit.si if unit else ""


def _text(cells: NDArray[Any]) -> Texts:
    """Return cells as text, empty where a number or a date is missing."""
    if cells.dtype.kind == "U":
        return np.char.strip(cells)
    missing = np.isnat(cells) if cells.dtype.kind == "M" else cells != cells
    return np.where(missing, "", cells.astype(np.str_))


def _codes(cells: NDArray[Any]) -> Texts:
    """Return codes as text: whole numbers without a decimal point."""
    if cells.dtype.kind != "f":
        return _text(cells)
    whole = np.array([f"{number:g}" for number in cells.tolist()], np.str_)
    return np.where(np.isnan(cells), "", whole)


def _numbers(cells: NDArray[Any]) -> tuple[Floats, NDArray[np.bool_]]:
    """Return cells as numbers, NaN where blank, and which are neither."""
    if cells.dtype.kind in "iufb":
        return cells.astype(np.float64), np.zeros(len(cells), bool)
    numbers, unreadable = np.full(len(cells), np.nan), np.zeros(len(cells), bool)
    for i, cell in enumerate(cells.astype(np.str_).tolist()):
        try:
            numbers[i] = _number(cell)
        except ValueError:
            unreadable[i] = cell.strip().lower() not in BLANK
    return numbers, unreadable


def _number(cell: str) -> float:
    """Return a number as instruments write it: Python would read `1_000` and other digits too."""
    if "_" in cell or not cell.isascii():
        raise ValueError(f"cell: expected a number, got {cell!r}")
    return float(cell)


def times_of(cells: Sequence[NDArray[Any]], form: str | None = None) -> NDArray[np.datetime64]:
    """Return times, NaT where a cell is no time.

    Args:
        cells: The columns of the time, each of shape (n,), as `ColumnMapping.time` says.
        form: What `ColumnMapping.time_format` says.
    """
    if len(cells) == 1 and cells[0].dtype.kind == "M":
        return cells[0].astype("datetime64[s]")
    if len(cells) > 1 and form is None:
        return _calendar_times([_numbers(cell)[0] for cell in cells])
    if form is not None and " since " in form:
        return times_since(_numbers(cells[0])[0], form)
    if form is None and cells[0].dtype.kind in "iuf":
        raise ValueError("time units: expected '<unit> since <date>', got none")
    joined = zip(*(_codes(cell).tolist() for cell in cells), strict=True)
    return np.array([_time(" ".join(parts), form) for parts in joined], "datetime64[s]")


def _calendar_times(parts: Sequence[Floats]) -> NDArray[np.datetime64]:
    """Return the times of years, months, days, hours, minutes, seconds, NaT where there is none.

    The last part may have a fraction, as the hours of ship reports do.
    """
    numbers = np.zeros((6, len(parts[0])))
    numbers[: len(parts)] = parts
    known = np.asarray(np.isfinite(numbers).all(axis=0))
    year, month, day = numbers[:3]
    seconds = np.where(known, np.array([3600, 60, 1]) @ np.where(known, numbers[3:], 0), 0)
    texts = [
        f"{y:04.0f}-{m:02.0f}-{d:02.0f}" if usable else "none"
        for y, m, d, usable in zip(year, month, day, known & (seconds < 86400), strict=True)
    ]
    dates = np.array([_time(text, None) for text in texts], "datetime64[s]")
    return np.asarray(dates + np.rint(seconds).astype("timedelta64[s]"))


def times_since(numbers: Floats, units: str, calendar: str = "standard") -> NDArray[np.datetime64]:
    """Return CF times, NaT where a number is missing or no date."""
    times = np.full(numbers.shape, np.datetime64("NaT", "s"))
    usable = np.abs(numbers) < 1e12  # 30,000 years in seconds; false for NaN too
    times[usable] = decode_times(numbers[usable], units, calendar)
    return times


def _time(cell: str, form: str | None) -> np.datetime64:
    try:
        time = datetime.fromisoformat(cell) if form is None else datetime.strptime(cell, form)
        utc = time if time.tzinfo is None else time.astimezone(UTC).replace(tzinfo=None)
    except (ValueError, OverflowError):
        return np.datetime64("NaT", "s")
    return np.datetime64(utc, "s")


def require_columns(mapping: ColumnMapping, names: Collection[str]) -> None:
    """Raise unless a file has every column that a mapping names.

    Raises:
        ValueError: If one is not there.
    """
    for name in mapping.columns:
        if name not in names:
            raise ValueError(f"expected a column {name!r}, got {sorted(names)}")


def require_choice(names: Sequence[str], chosen: Sequence[str] | None, where: str) -> list[str]:
    """Return the chosen among some columns; without a choice there must be one.

    Raises:
        ValueError: If a name is not there, or there are several and none was chosen.
    """
    if chosen is None and len(names) != 1:
        raise ValueError(f"variable: expected one of the columns of {where}, {[*names]}, got none")
    require_among(chosen, names, where)
    return list(chosen or names)
