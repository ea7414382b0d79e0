"""What one gridded file holds: its variables, times, grid, levels and members.

Opening a file reads its coordinates and attributes and no field. Every fault found is reported
with the file's name.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stormda.grid import Grid
from stormda.io.anemoi import SHARED, described, is_anemoi
from stormda.io.axes import ORDER, Role, dimension_roles, time_variable
from stormda.io.calendars import GREGORIAN, model_calendar
from stormda.io.coordinates import finite_coordinate
from stormda.io.decoding import PACKING
from stormda.io.files import open_raw
from stormda.io.formats import Location
from stormda.io.horizontal import Horizontal, read_horizontal
from stormda.io.quantities import PhysicalQuantity, identify
from stormda.io.stored import close_rewritten, stored_array
from stormda.io.times import decode_model_times, decode_times
from stormda.io.units import Unit, parse_unit

if TYPE_CHECKING:
    import xarray as xr


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

    dtype: str = "float32"
    """The type it is stored as."""

    chunks: tuple[int, ...] | None = None
    """The sizes of the pieces that are stored together, along `dims`; None for one piece."""

    shared: int = 1
    """How many variables lie in one such piece."""


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

    order: tuple[int, ...] = ()
    """For each of `meta.dims`, which dimension of the file it is."""

    packing: Mapping[str, object] = field(default_factory=dict)
    """The attributes by which it is decoded."""

    quantity: PhysicalQuantity | None = None
    """What it is, if it is known and its units are SI."""


@dataclass(frozen=True, eq=False, kw_only=True)
class FileIndex:
    """One file's metadata."""

    path: Location
    """Where it is."""

    roles: Mapping[str, Role]
    """What each dimension is."""

    times: NDArray[np.datetime64]
    """The valid times, shape (time,), increasing; empty without time."""

    calendar: str
    """`gregorian`, or the model calendar whose seconds `times` are."""

    grid: Grid
    """The horizontal grid."""

    levels: Mapping[str, LevelAxis]
    """The vertical axes, by the name of their dimension."""

    members: NDArray[np.int64]
    """The members' numbers, shape (member,); empty without an ensemble."""

    variables: Mapping[str, FileVariable]
    """The variables on the grid, by name."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How files are to be read."""

    si: bool = True
    """Whether variables are converted to SI units."""

    grid: Grid | None = None
    """The grid, where that of the file is not to be used."""

    times: tuple[np.datetime64, ...] | None = None
    """The times, where those of the file are not to be used."""

    missing: tuple[float, ...] = ()
    """Stored numbers that stand for missing beside those that the file names."""

    plausible: bool = True
    """Whether values out of the physical range are refused."""


def index_file(path: Location, how: Reading) -> FileIndex:
    """Read a file's metadata.

    Args:
        path: The file.
        how: How it is to be read.

    Raises:
        ValueError: If it is of no known format or its time, grid, level or member axis is not
            usable.
    """
    close_rewritten(path)
    with open_raw(path) as dataset:
        try:
            if is_anemoi(dataset.variables, dataset.attrs):
                return _index(path, described(dataset), how)
            return _index(path, dataset, how)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error


def _index(path: Location, dataset: xr.Dataset, how: Reading) -> FileIndex:
    roles = dimension_roles(dataset)
    times, calendar = _times(dataset, roles, how)
    horizontal = read_horizontal(dataset, roles)
    if horizontal.warning:
        warnings.warn(f"{path}: {horizontal.warning}", stacklevel=2)
    roles = {d: r for d, r in roles.items() if r not in ("Y", "X")} | horizontal.roles
    described = {str(v.attrs.get("bounds", "")) for v in dataset.variables.values()}
    described.update(horizontal.coordinates)
    variables = {
        str(name): _variable(path, str(name), variable, roles, how)
        for name, variable in dataset.data_vars.items()
        if set(horizontal.dims) <= set(variable.dims) and name not in described
    }
    if not variables:
        raise ValueError(
            f"expected a variable on the grid ({', '.join(horizontal.dims)}), got none"
        )
    return FileIndex(
        path=path,
        roles=roles,
        times=times,
        calendar=calendar,
        grid=_checked_grid(horizontal, how.grid),
        levels={dim: _levels(dataset, dim) for dim, role in roles.items() if role == "Z"},
        members=_members(dataset, roles),
        variables=variables,
    )


def _checked_grid(found: Horizontal, given: Grid | None) -> Grid:
    """Return the grid of a file, or the one that is to be used in its place.

    Raises:
        ValueError: If the one given has another shape.
    """
    if given is not None and given.shape != found.grid.shape:
        raise ValueError(f"grid: expected shape {found.grid.shape}, got {given.shape}")
    return found.grid if given is None else given


def _times(
    dataset: xr.Dataset, roles: Mapping[str, Role], how: Reading
) -> tuple[NDArray[np.datetime64], str]:
    """Return the times and the calendar: one for each frame, or for a scalar time; none if static.

    Raises:
        ValueError: If the time axis has no usable coordinate, or its times do not increase.
    """
    dims = [dim for dim, role in roles.items() if role == "T"]
    if len(dims) > 1:
        raise ValueError(f"time: expected one dimension, got {dims}")
    if dims and not dataset.sizes[dims[0]]:
        raise ValueError(f"time: expected at least one frame along {dims[0]!r}, got none")
    calendar = GREGORIAN
    if how.times is not None:
        times = np.array(how.times, "datetime64[s]")
        size = dataset.sizes[dims[0]] if dims else 1
        if times.shape != (size,):
            raise ValueError(f"times: expected {size}, got {times.size}")
    else:
        name = time_variable(dataset, dims[0] if dims else None)
        if name is None and dims:
            raise ValueError(
                f"time: expected a coordinate variable of dimension {dims[0]!r}, got none"
            )
        if name is None:
            return np.zeros(0, "datetime64[s]"), GREGORIAN
        times, calendar = _decoded_times(dataset, name)
    _require_increasing(times)
    return times, calendar


def _decoded_times(dataset: xr.Dataset, name: str) -> tuple[NDArray[np.datetime64], str]:
    """Return the values of a time coordinate and their calendar."""
    attributes = dataset[name].attrs
    units = attributes.get("units")
    said = str(attributes.get("calendar", "standard"))
    values = np.atleast_1d(finite_coordinate(dataset, name))
    model = model_calendar(said)
    if model is not None:
        return decode_model_times(values, units, model), model
    return decode_times(values, units, said), GREGORIAN


def _require_increasing(times: NDArray[np.datetime64]) -> None:
    steps = np.diff(times).astype(np.int64)
    if (steps <= 0).any():
        i = int(np.argmax(steps <= 0))
        fault = "the same time twice" if steps[i] == 0 else "a time before the one before it"
        raise ValueError(
            f"time: expected increasing times, got {fault} at index {i + 1}: {times[i + 1]}"
        )


def _variable(
    path: Location,
    name: str,
    variable: xr.DataArray,
    roles: Mapping[str, Role],
    how: Reading,
) -> FileVariable:
    dims = [str(dim) for dim in variable.dims]
    problem = _problem(dims, variable.dtype, roles)
    order = list(range(len(dims)))
    if not problem:
        order.sort(key=lambda i: ORDER.index(roles[dims[i]]))
    # members are sampled or perturbed, not observed: wave heights of a few may be negative
    sampled = any(roles.get(dim) == "E" for dim in dims)
    units = str(variable.attrs.get("units", ""))
    unit = None
    silent = SHARED in variable.encoding and not units  # anemoi-datasets need not say any
    if how.si and not problem and not silent:
        unit, problem = _unit(variable.attrs.get("units"))
    chunks = None if problem else stored_array(path, name).chunks
    meta = VariableMeta(
        name=name,
        standard_name=str(variable.attrs.get("standard_name", "")),
        long_name=str(variable.attrs.get("long_name", "")),
        units=units if unit is None else unit.si,
        dims=tuple(dims[i] for i in order),
        shape=tuple(variable.sizes[dims[i]] for i in order),
        dtype=variable.dtype.str,
        chunks=None if chunks is None else tuple(int(chunks[i]) for i in order),
        shared=int(variable.encoding.get(SHARED, 1)),
    )
    return FileVariable(
        meta=meta,
        unit=unit,
        problem=problem,
        order=tuple(order),
        packing=_packing(variable.attrs, how),
        quantity=_quantity(meta, variable.attrs, unit) if how.plausible and not sampled else None,
    )


def _packing(attributes: Mapping[str, object], how: Reading) -> dict[str, object]:
    """Return the attributes that decoding needs, with the codes that the caller adds."""
    packing = {name: attributes[name] for name in PACKING if name in attributes}
    if how.missing:
        given = np.atleast_1d(np.asarray(packing.get("missing_value", []), np.float64))
        packing["missing_value"] = np.concatenate([given, how.missing])
    return packing


def _quantity(
    meta: VariableMeta, attributes: Mapping[str, object], unit: Unit | None
) -> PhysicalQuantity | None:
    """Return the known quantity of which a variable gives values, not differences or spreads."""
    derived = "difference" in str(attributes.get("units_metadata", "")) or any(
        word in str(attributes.get("cell_methods", ""))
        for word in ("standard_deviation", "variance", "range")
    )
    known = identify(meta.name, meta.standard_name)
    if known is None or unit is None or derived:
        return None
    return known if parse_unit(known.units).dimension == unit.dimension else None


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
