"""The Zarr layout of anemoi-datasets: all variables in one array, each presented as a field.

data (dates, variables, ensemble, cells)  ->  each variable (time, [ensemble,] rows, columns)
missing_dates                             ->  no frames
field_shape, latitudes, longitudes        ->  rows and columns, or a list of cells

Dates that the group calls missing are in `data` too, filled with nothing: their frames are left
out, so that the times have a gap. Units are those that `variables_metadata` says, if it does; none
are made up.

Source: ECMWF, anemoi-datasets, https://anemoi.readthedocs.io/projects/datasets
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from stormda.io.times import EPOCH_UNITS, decode_times
from stormda.io.zarr_file import array_of

if TYPE_CHECKING:
    import xarray as xr
    import zarr

SHARED = "shared"
"""The key, in a described variable's `encoding`, of how many variables a stored piece holds."""

_ARRAYS = ("data", "dates", "latitudes", "longitudes")
_COORDINATES = ("time", "latitudes", "longitudes")
_LIST, _LATTICE = ("cell",), ("row", "column")


@dataclass(frozen=True, eq=False, kw_only=True)
class AnemoiLayout:
    """What a group of this layout holds."""

    variables: tuple[str, ...]
    """The variables, in the order of the array."""

    frames: NDArray[np.int64]
    """Where along the array the frames lie that are not missing, shape (time,)."""

    times: NDArray[np.datetime64]
    """The times of the frames, shape (time,), `datetime64[s]`."""

    units: Mapping[str, str]
    """The units of the variables that have any."""

    members: int
    """The number of members; one stands for none."""

    cells: tuple[int, ...]
    """Rows and columns, or the length of a list of cells."""

    @property
    def dims(self) -> tuple[str, ...]:
        """The dimensions of every variable."""
        ensemble = ("ensemble",) if self.members > 1 else ()
        return ("time", *ensemble, *self.cell_dims)

    @property
    def cell_dims(self) -> tuple[str, ...]:
        """The dimensions of the coordinates."""
        return _LIST if len(self.cells) == 1 else _LATTICE

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of every variable."""
        ensemble = (self.members,) if self.members > 1 else ()
        return (len(self.frames), *ensemble, *self.cells)


class Names(Protocol):
    """What knows which names it holds."""

    def __contains__(self, name: str, /) -> bool:
        """Tell whether a name is held."""


def is_anemoi(names: Names, attributes: Mapping[str, Any]) -> bool:
    """Tell whether a group has this layout, by what it holds.

    Examples:
        >>> is_anemoi({"data", "dates", "latitudes", "longitudes"}, {"variables": ["2t"]})
        True
        >>> is_anemoi({"data", "time"}, {"variables": ["2t"]})
        False
    """
    return "variables" in attributes and all(name in names for name in _ARRAYS)


def anemoi_layout(arrays: Mapping[str, Any], attributes: Mapping[str, Any]) -> AnemoiLayout:
    """Return what a group holds, checked; of `data` only the shape is looked at.

    Args:
        arrays: The group's arrays, undecoded.
        attributes: Its attributes.

    Raises:
        ValueError: If the arrays and the attributes do not fit together.
    """
    shape = tuple(arrays["data"].shape)
    if len(shape) != 4:
        raise ValueError(f"data: expected (dates, variables, ensemble, cells), got shape {shape}")
    variables = _variables(attributes["variables"], shape[1])
    times = _times(arrays["dates"], shape[0])
    for name in ("latitudes", "longitudes"):
        if tuple(arrays[name].shape) != shape[3:]:
            raise ValueError(
                f"{name}: expected one for each of the {shape[3]} cells of data, "
                f"got shape {tuple(arrays[name].shape)}"
            )
    frames = _present(times, attributes.get("missing_dates") or [])
    return AnemoiLayout(
        variables=variables,
        frames=frames,
        times=times[frames],
        units=_units(attributes.get("variables_metadata"), variables),
        members=shape[2],
        cells=_cells(attributes.get("field_shape"), shape[3]),
    )


def described(dataset: xr.Dataset) -> xr.Dataset:
    """Return a group of this layout as the CF file that it could be, without its numbers.

    Args:
        dataset: The group, undecoded.

    Returns:
        Coordinates with their values, and variables of which only dimensions, sizes and type are
        true: their numbers are those of `AnemoiField`.

    Raises:
        ValueError: If the arrays and the attributes do not fit together.
    """
    import xarray as xr  # long to import

    arrays = {name: dataset.variables[name] for name in _ARRAYS}
    layout = anemoi_layout(arrays, dataset.attrs)
    data = arrays["data"]
    # of the coordinates' attributes none is kept: Zarr's fill value, 0, is a latitude
    places = {
        name: (
            layout.cell_dims,
            np.asarray(arrays[name].values, np.float64).reshape(layout.cells),
            {"units": units},
        )
        for name, units in (("latitudes", "degrees_north"), ("longitudes", "degrees_east"))
    }
    said = {name: {"coordinates": "latitudes longitudes"} for name in layout.variables}
    for name, units in layout.units.items():
        said[name]["units"] = units
    calendar = {"units": EPOCH_UNITS, "calendar": "proleptic_gregorian"}
    blank = np.broadcast_to(np.zeros((), data.dtype), layout.shape)
    chunks = data.encoding.get("chunks") or data.shape
    shared = {SHARED: min(int(chunks[1]), len(layout.variables))}
    fields = {name: xr.Variable(layout.dims, blank, said[name], shared) for name in said}
    return xr.Dataset(
        {**fields, **places, "time": ("time", layout.times.astype(np.int64), calendar)}
    )


@dataclass(frozen=True, eq=False)
class AnemoiField:
    """One variable of a group, undecoded; slices of it are read when it is indexed."""

    data: Any
    """The array (dates, variables, ensemble, cells)."""

    layout: AnemoiLayout
    """What the group holds."""

    variable: int
    """Which of the variables it is."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its size along every dimension."""
        return self.layout.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type it is stored as."""
        dtype: np.dtype[Any] = self.data.dtype
        return dtype

    @property
    def chunks(self) -> tuple[int, ...]:
        """The sizes of the pieces that are stored together; of a lattice, whole rows."""
        dates, _, members, cells = self.data.chunks
        ensemble = (members,) if self.layout.members > 1 else ()
        if len(self.layout.cells) == 1:
            return (dates, *ensemble, cells)
        rows, columns = self.layout.cells
        return (dates, *ensemble, min(rows, math.ceil(cells / columns)), columns)

    def __getitem__(self, key: tuple[Any, ...], /) -> NDArray[Any]:
        """Return a part, in memory; of a lattice whole rows are read and then cut.

        Args:
            key: Slices along time, members if there are several (or one by its index), and cells.
        """
        time, *others = key
        member = others.pop(0) if self.layout.members > 1 else 0
        size, *columns = self.layout.cells
        rows, width = range(*others[0].indices(size)), math.prod(columns)
        cells = slice(rows[0] * width, (rows[-1] + 1) * width)
        blocks = [
            np.asarray(self.data[run, self.variable, member, cells])
            for run in _runs(self.layout.frames[time])
        ]
        read = blocks[0] if len(blocks) == 1 else np.concatenate(blocks)
        read = read.reshape(*read.shape[:-1], -1, *columns)
        return np.asarray(read[(..., slice(None, None, rows.step), *others[1:])])


def anemoi_fields(group: zarr.Group) -> Callable[[str], AnemoiField]:
    """Return what finds the variables of a group.

    Args:
        group: A group of this layout.

    Raises:
        ValueError: If its arrays and attributes do not fit together.
    """
    arrays = {name: array_of(group, name) for name in _ARRAYS}
    layout = anemoi_layout(arrays, dict(group.attrs))
    return lambda name: AnemoiField(arrays["data"], layout, layout.variables.index(name))


def _variables(said: Any, count: int) -> tuple[str, ...]:  # noqa: ANN401
    """Return the names of the variables, one for each along the array."""
    listed = isinstance(said, list) and all(isinstance(name, str) for name in said)
    if not listed or len(set(said)) < len(said):
        raise ValueError(f"variables: expected a list of different names, got {said!r}")
    if len(said) != count:
        raise ValueError(
            f"variables: expected {count} names, as many as data has variables, got {len(said)}"
        )
    taken = sorted({*said} & {*_COORDINATES})
    if taken:
        raise ValueError(f"variables: expected names other than those of coordinates, got {taken}")
    return tuple(said)


def _units(metadata: Any, variables: Sequence[str]) -> dict[str, str]:  # noqa: ANN401
    """Return the units that are said of the variables."""
    said = {} if metadata is None else metadata
    if not isinstance(said, dict) or not all(isinstance(said.get(n, {}), dict) for n in variables):
        raise ValueError(f"variables_metadata: expected an object for each variable, got {said!r}")
    units = {name: said[name]["units"] for name in variables if "units" in said.get(name, {})}
    for name, text in units.items():
        if not isinstance(text, str):
            raise ValueError(
                f"variables_metadata: expected units of {name!r} as a text, got {text!r}"
            )
    return units


def _times(dates: Any, count: int) -> NDArray[np.datetime64]:  # noqa: ANN401
    """Return the dates, from NumPy's or from numbers with CF units."""
    values = np.asarray(dates[:])
    if values.shape != (count,):
        raise ValueError(
            f"dates: expected one for each of the {count} dates of data, got shape {values.shape}"
        )
    if values.dtype.kind != "M":
        attributes = dates.attrs
        calendar = str(attributes.get("calendar", "standard"))
        return decode_times(values, attributes.get("units"), calendar)
    if np.isnat(values).any():
        raise ValueError(
            f"dates: expected dates, got NaT at index {int(np.isnat(values).argmax())}"
        )
    return values.astype("datetime64[s]")


def _present(times: NDArray[np.datetime64], missing: Any) -> NDArray[np.int64]:  # noqa: ANN401
    """Return which frames are not among the missing dates."""
    try:
        absent = np.array(missing, "datetime64[s]")
    except ValueError as error:
        raise ValueError(f"missing_dates: expected ISO dates, got {missing!r}") from error
    strange = np.setdiff1d(absent, times)
    if len(strange):
        raise ValueError(f"missing_dates: expected dates of the group, got {strange[0]}")
    return np.flatnonzero(~np.isin(times, absent))


def _cells(said: Any, count: int) -> tuple[int, ...]:  # noqa: ANN401
    """Return rows and columns if the group says them, or else the length of the list."""
    if said is None:
        return (count,)
    whole = isinstance(said, list) and all(isinstance(size, int) for size in said)
    if not whole or len(said) not in (1, 2) or math.prod(said) != count:
        raise ValueError(
            f"field_shape: expected rows and columns that make the {count} cells of data, "
            f"got {said!r}"
        )
    return tuple(said)


def _runs(frames: NDArray[np.int64]) -> list[slice]:
    """Return rising numbers as slices of neighbours.

    Examples:
        >>> _runs(np.array([0, 1, 4]))
        [slice(0, 2, None), slice(4, 5, None)]
    """
    ends = np.flatnonzero(np.diff(frames) != 1) + 1
    return [slice(int(run[0]), int(run[-1]) + 1) for run in np.split(frames, ends)]
