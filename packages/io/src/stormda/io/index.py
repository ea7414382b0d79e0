"""What one gridded file holds: its variables, times, grid, levels and members.

Opening a file reads its coordinates and attributes and no field. Every fault found is reported
with the file's name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from stormda.grid import LatLonGrid, PlaneGrid
from stormda.io.axes import ORDER, Role, dimension_roles, time_variable
from stormda.io.files import open_raw
from stormda.io.horizontal import finite_coordinate, read_horizontal
from stormda.io.times import decode_times
from stormda.io.units import Unit, parse_unit


@dataclass(frozen=True, kw_only=True)
class VariableMeta:
    """What is known of a variable without reading it."""

    name: str
    """Its name in the store."""

    standard_name: str
    """Its CF standard name; empty if the file has none."""

    long_name: str
    """Its description; empty if the file has none."""

    units: str
    """The units of what `Store.read` returns; empty if the file has none."""

    dims: tuple[str, ...]
    """Its dimensions in the file, in the order (member, time, level, row, column)."""

    shape: tuple[int, ...]
    """Its size along `dims`; along time, that of all files together."""


@dataclass(frozen=True, eq=False, kw_only=True)
class LevelAxis:
    """A vertical axis."""

    name: str
    """Its name in the file."""

    values: NDArray[np.float64]
    """The levels, shape (level,)."""

    units: str
    """Their units: SI where they are known; empty for numbered levels."""

    standard_name: str = ""
    """Such as `air_pressure`; empty if unknown."""

    positive: str = ""
    """`up` or `down`: the direction in which the values grow; empty if unknown."""


@dataclass(frozen=True, kw_only=True)
class FileVariable:
    """One variable of one file."""

    meta: VariableMeta
    """What it is."""

    unit: Unit | None
    """The conversion to SI; None if it is read as it is or its units are not known."""

    problem: str
    """Why it cannot be read, for an error; empty if it can."""


@dataclass(frozen=True, eq=False, kw_only=True)
class FileIndex:
    """One file's metadata."""

    path: Path
    """Where it is."""

    roles: Mapping[str, Role]
    """What each dimension is."""

    times: NDArray[np.datetime64]
    """The valid times, shape (time,), increasing; empty without time."""

    grid: LatLonGrid | PlaneGrid
    """The horizontal grid."""

    levels: Mapping[str, LevelAxis]
    """The vertical axes, by the name of their dimension."""

    members: NDArray[np.int64]
    """The members' numbers, shape (member,); empty without an ensemble."""

    variables: Mapping[str, FileVariable]
    """The variables on the grid, by name."""


def index_file(path: Path, *, si: bool) -> FileIndex:
    """Read a file's metadata.

    Args:
        path: The file.
        si: Whether its variables are to be converted to SI units.

    Raises:
        ValueError: If it is not NetCDF or its time, grid, level or member axis is not usable.
    """
    with open_raw(path) as dataset:
        try:
            return _index(path, dataset, si=si)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error


def _index(path: Path, dataset: xr.Dataset, *, si: bool) -> FileIndex:
    roles = dimension_roles(dataset)
    times = read_times(dataset, roles)
    horizontal = read_horizontal(dataset, roles)
    rows, cols = horizontal.rows, horizontal.cols
    roles = {**roles, rows: "Y", cols: "X"}
    variables = {
        str(name): _variable(str(name), variable, roles, si=si)
        for name, variable in dataset.data_vars.items()
        if {rows, cols} <= set(variable.dims)
    }
    if not variables:
        raise ValueError(f"expected a variable on the grid ({rows}, {cols}), got none")
    return FileIndex(
        path=path,
        roles=roles,
        times=times,
        grid=horizontal.grid,
        levels={dim: _levels(dataset, dim) for dim, role in roles.items() if role == "Z"},
        members=_members(dataset, roles),
        variables=variables,
    )


def read_times(dataset: xr.Dataset, roles: Mapping[str, Role]) -> NDArray[np.datetime64]:
    """Return the times of a file: one for each frame, one for a scalar time, none if static.

    Raises:
        ValueError: If the time axis has no usable coordinate, or its times do not increase.
    """
    dims = [dim for dim, role in roles.items() if role == "T"]
    if len(dims) > 1:
        raise ValueError(f"time: expected one dimension, got {dims}")
    name = time_variable(dataset, dims[0] if dims else None)
    if name is None and dims:
        raise ValueError(
            f"time: expected a coordinate variable of dimension {dims[0]!r}, got none"
        )
    if name is None:
        return np.zeros(0, "datetime64[s]")
    attributes = dataset[name].attrs
    units = attributes.get("units")
    calendar = str(attributes.get("calendar", "standard"))
    times = decode_times(np.atleast_1d(finite_coordinate(dataset, name)), units, calendar)
    steps = np.diff(times).astype(np.int64)
    if (steps <= 0).any():
        i = int(np.argmax(steps <= 0))
        fault = "the same time twice" if steps[i] == 0 else "a time before the one before it"
        raise ValueError(
            f"time: expected increasing times, got {fault} at index {i + 1}: {times[i + 1]}"
        )
    return times


def _variable(
    name: str, variable: xr.DataArray, roles: Mapping[str, Role], *, si: bool
) -> FileVariable:
    dims = [str(dim) for dim in variable.dims]
    problem = _problem(dims, variable.dtype, roles)
    if not problem:
        dims.sort(key=lambda dim: ORDER.index(roles[dim]))
    units = str(variable.attrs.get("units", ""))
    unit = None
    if si and not problem:
        unit, problem = _unit(variable.attrs.get("units"))
    meta = VariableMeta(
        name=name,
        standard_name=str(variable.attrs.get("standard_name", "")),
        long_name=str(variable.attrs.get("long_name", "")),
        units=units if unit is None else unit.si,
        dims=tuple(dims),
        shape=tuple(variable.sizes[dim] for dim in dims),
    )
    return FileVariable(meta=meta, unit=unit, problem=problem)


def _problem(dims: list[str], dtype: np.dtype[np.generic], roles: Mapping[str, Role]) -> str:
    """Say why a variable's dimensions or type cannot be read; empty if they can."""
    if dtype.kind not in "iuf":
        return f"expected numbers, got values of type {dtype}"
    strange = [dim for dim in dims if dim not in roles]
    letters = [roles[dim] for dim in dims if dim in roles]
    if strange or len(set(letters)) < len(letters):
        return (
            "expected at most one dimension each for member, time, level, row and column, "
            f"got {tuple(dims)}"
        )
    return ""


def _unit(units: object) -> tuple[Unit | None, str]:
    """Return the conversion to SI, or why there is none."""
    if units is None:
        return None, "expected units, got none (pass units='as_is' to read it unconverted)"
    try:
        return parse_unit(str(units)), ""
    except ValueError as error:
        return None, f"{error} (pass units='as_is' to read it unconverted)"


def _levels(dataset: xr.Dataset, dim: str) -> LevelAxis:
    """Return a vertical axis; one without a coordinate or with unknown units keeps its numbers."""
    if dim not in dataset.variables:
        return LevelAxis(name=dim, values=np.arange(float(dataset.sizes[dim])), units="")
    attributes = dataset[dim].attrs
    unit, _ = _unit(attributes.get("units"))
    values = finite_coordinate(dataset, dim)
    return LevelAxis(
        name=dim,
        values=values if unit is None else unit.to_si(values),
        units=str(attributes.get("units", "")) if unit is None else unit.si,
        standard_name=str(attributes.get("standard_name", "")),
        positive=str(attributes.get("positive", "")),
    )


def _members(dataset: xr.Dataset, roles: Mapping[str, Role]) -> NDArray[np.int64]:
    """Return the member numbers; none for a deterministic file."""
    dims = [dim for dim, role in roles.items() if role == "E"]
    if len(dims) > 1:
        raise ValueError(f"member: expected one dimension, got {dims}")
    if not dims:
        return np.zeros(0, np.int64)
    if dims[0] not in dataset.variables:
        return np.arange(dataset.sizes[dims[0]])
    numbers = finite_coordinate(dataset, dims[0])
    if (numbers % 1 != 0).any() or len(np.unique(numbers)) < len(numbers):
        raise ValueError(f"member: expected distinct whole numbers, got {numbers.tolist()}")
    return numbers.astype(np.int64)
