"""The layout of fields in a CF file: `(realization, time, [level,] rows, columns)`.

Fields are float32 with NaN for what is missing; one frame of one member is one stored piece.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stormda.grid import Grid, LatLonGrid, PlaneGrid
from stormda.io.cf_file import CFLayout, CFVariable
from stormda.io.horizontal import PERIODIC
from stormda.io.index import LevelAxis
from stormda.io.times import encode_times, time_attributes
from stormda.io.units import temperature_attributes

VariableAttributes = Mapping[str, Mapping[str, Any]]

_LONGEST_CHUNK = 1024
"""Rows or columns of one stored piece: 4 MB of float32 at most."""


@dataclass(frozen=True, eq=False, kw_only=True)
class FieldAxes:
    """What the dimensions of fields in a file stand for."""

    times: NDArray[np.datetime64]
    """The valid times, shape (time,)."""

    grid: Grid
    """The horizontal grid."""

    members: NDArray[np.int64] | None = None
    """The members' numbers, shape (realization,); None for fields without an ensemble."""

    levels: LevelAxis | None = None
    """The vertical axis of the fields that have one."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of a field without levels."""
        ensemble = () if self.members is None else (len(self.members),)
        return (*ensemble, len(self.times), *self.grid.shape)

    @property
    def shape_with_levels(self) -> tuple[int, ...]:
        """The shape of a field with levels; that of one without where there are none."""
        levels = () if self.levels is None else (len(self.levels.values),)
        return (*self.shape[:-2], *levels, *self.grid.shape)


def field_layout(
    axes: FieldAxes,
    shapes: Mapping[str, tuple[int, ...]],
    attributes: VariableAttributes,
    provenance: Mapping[str, Any],
    compression: int,
    chunks: Mapping[str, tuple[int, ...]] | None = None,
) -> CFLayout:
    """Describe a file of fields that are still to be filled in.

    Args:
        axes: What the dimensions stand for.
        shapes: The shape of each variable; one more dimension than `axes.shape` means levels.
        attributes: The CF attributes of each variable.
        provenance: Where the numbers come from.
        compression: The level of gzip; 0 for none.
        chunks: The sizes of what is stored together, by variable; one frame by default.

    Raises:
        ValueError: If a shape does not fit the axes, a variable has no units, or the name of one
            is that of a coordinate or a dimension.
    """
    coordinates = _coordinates(axes)
    taken = {*coordinates, *cell_dims(axes.grid)}
    if taken & set(shapes):
        raise ValueError(
            f"fields: expected names other than those of the coordinates, {sorted(taken)}, "
            f"got {sorted(taken & set(shapes))}"
        )
    variables = {
        name: _field_variable(name, shape, axes, attributes.get(name, {}), compression)
        for name, shape in shapes.items()
    }
    for name, own in (chunks or {}).items():
        variables[name] = replace(variables[name], chunks=own)
    sizes = {
        dim: size
        for variable in coordinates.values()
        if variable.data is not None
        for dim, size in zip(variable.dims, variable.data.shape, strict=True)
    }
    return CFLayout(
        dimensions=sizes, variables={**coordinates, **variables}, provenance=provenance
    )


def require_storable(
    name: str, values: NDArray[np.generic], place: tuple[int, ...] = ()
) -> NDArray[np.float32]:
    """Return values as float32, refusing what is neither a finite float32 nor NaN.

    Args:
        name: The variable.
        values: Its values, or a part of them.
        place: The first indices of that part.

    Raises:
        ValueError: If a value is infinite, or too large for float32.
    """
    with np.errstate(over="ignore"):
        stored = np.asarray(values).astype(np.float32, copy=False)
    if not stored.size:
        return stored
    # fmin and fmax pass over NaN, and need no memory
    ends = [reduce(stored, axis=None) for reduce in (np.fmin.reduce, np.fmax.reduce)]
    if np.isinf(ends).any():
        index = tuple(int(i) for i in np.argwhere(np.isinf(stored))[0])
        raise ValueError(
            f"fields: expected finite values or NaN in {name!r}, "
            f"got {values[index]} at index {(*place, *index)}"
        )
    return stored


def increasing_times(times: ArrayLike) -> NDArray[np.datetime64]:
    """Return times as `datetime64[s]`, shape (time,), refusing any that do not increase."""
    array = np.atleast_1d(np.asarray(times, "datetime64[s]"))
    if np.isnat(array).any() or (np.diff(array).astype(np.int64) <= 0).any():
        raise ValueError("times: expected increasing dates, got repeated, falling or missing ones")
    return array


def cell_dims(grid: Grid) -> tuple[str, ...]:
    """Return the dimensions of fields on a grid: those of its axes, or of its scattered cells.

    Examples:
        >>> cell_dims(PlaneGrid((2, 2), (1.0, 1.0)))
        ('y', 'x')
    """
    dims = next(iter(grid.coordinates.values())).dims
    return grid.dims if len(dims) == 1 < len(grid.shape) else dims


def _field_variable(
    name: str,
    shape: tuple[int, ...],
    axes: FieldAxes,
    attributes: Mapping[str, Any],
    compression: int,
) -> CFVariable:
    if shape not in (axes.shape, axes.shape_with_levels):
        expected = " or ".join(str(s) for s in sorted({axes.shape, axes.shape_with_levels}))
        raise ValueError(f"fields: expected shape {expected} for {name!r}, got {shape}")
    if "units" not in attributes:
        raise ValueError(f"attributes: expected units for {name!r}, got {dict(attributes)}")
    ensemble = () if axes.members is None else ("realization",)
    vertical = (axes.levels.name,) if axes.levels and len(shape) > len(axes.shape) else ()
    cells = cell_dims(axes.grid)
    scattered = {"coordinates": "lat lon"} if cells != axes.grid.dims else {}
    longest = [min(size, _LONGEST_CHUNK) for size in axes.grid.shape]
    return CFVariable(
        dims=(*ensemble, "time", *vertical, *cells),
        attributes={
            "long_name": name,
            **temperature_attributes(attributes["units"], difference=False),
            **scattered,
            **attributes,
        },
        fill=np.nan,
        chunks=(*(1 for _ in range(len(shape) - len(longest))), *longest),
        compression=compression,
    )


def _coordinates(axes: FieldAxes) -> dict[str, CFVariable]:
    """Describe the coordinate variables, in the order of the dimensions."""
    time = CFVariable(dims=("time",), attributes=time_attributes(), data=encode_times(axes.times))
    return {
        **_member_coordinate(axes.members),
        "time": time,
        **_level_coordinate(axes.levels),
        **_grid_coordinates(axes.grid),
    }


def _member_coordinate(members: NDArray[np.int64] | None) -> dict[str, CFVariable]:
    if members is None:
        return {}
    attributes = {"standard_name": "realization", "long_name": "ensemble member", "units": "1"}
    data = members.astype(np.int32)
    return {"realization": CFVariable(dims=("realization",), attributes=attributes, data=data)}


def _level_coordinate(levels: LevelAxis | None) -> dict[str, CFVariable]:
    if levels is None:
        return {}
    named = {
        "standard_name": levels.standard_name,
        "units": levels.units or "1",
        "positive": levels.positive,
        "long_name": "level",
        "axis": "Z",
    }
    attributes = {key: text for key, text in named.items() if text}
    data = np.asarray(levels.values, np.float64)
    return {levels.name: CFVariable(dims=(levels.name,), attributes=attributes, data=data)}


def _grid_coordinates(grid: Grid) -> dict[str, CFVariable]:
    """Describe the grid's coordinates, and what they alone do not say of it."""
    described = {}
    for i, (name, coordinate) in enumerate(grid.coordinates.items()):
        attributes: dict[str, object] = dict(coordinate.attributes)
        if isinstance(grid, PlaneGrid):
            attributes[PERIODIC] = np.int32(grid.periodic[i])
        described[name] = CFVariable(
            dims=coordinate.dims, attributes=attributes, data=coordinate.values
        )
    if isinstance(grid, LatLonGrid) and grid.lat_bounds is not None:
        lat = described["lat"]
        bounded = CFVariable(
            dims=lat.dims, attributes={**lat.attributes, "bounds": "lat_bnds"}, data=lat.data
        )
        bounds = CFVariable(dims=("lat", "bnds"), attributes={}, data=grid.lat_bounds)
        described |= {"lat": bounded, "lat_bnds": bounds}
    return described
