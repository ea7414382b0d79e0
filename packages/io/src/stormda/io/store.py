"""Fields in files, known by their metadata and read piece by piece.

A store opens one file, a pattern, or a list of files that follow one another in time. It holds no
field and no open file: `read` opens what a request touches, decodes each file by its own packing,
and returns values beside a mask, so that a missing value never reaches a computation as NaN.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stormda.grid import Grid
from stormda.io.axes import ORDER, Role
from stormda.io.calendars import GREGORIAN, label, period
from stormda.io.cost import ReadCost, read_cost
from stormda.io.field_reader import FieldReader
from stormda.io.files import Source, expand_locations, sha256
from stormda.io.formats import Location
from stormda.io.identity import fingerprint
from stormda.io.index import FileIndex, LevelAxis, Reading, VariableMeta
from stormda.io.index_cache import index_files
from stormda.io.joining import join
from stormda.io.levels import find_level
from stormda.io.quantities import same_quantity
from stormda.io.reading import Part, has_frames
from stormda.io.selection import Tile, TimeSelection, select_frames

Units = Literal["si", "as_is"]

_NO_TIME = np.array(["NaT"], "datetime64[s]")
"""The one frame of a static variable."""


@dataclass(frozen=True, eq=False)
class Store:
    """Gridded variables of one or several files; made by `open_store`."""

    files: tuple[FileIndex, ...]
    """The files, in the order of time."""

    names: Mapping[str, str]
    """The name of each variable in the files, by its name in the store."""

    @property
    def paths(self) -> tuple[Location, ...]:
        """The files' paths or URLs, in the order of time."""
        return tuple(file.path for file in self.files)

    @cached_property
    def variables(self) -> dict[str, VariableMeta]:
        """What is known of each variable, by name."""
        return {name: self._meta(name) for name in self.names}

    @cached_property
    def times(self) -> NDArray[np.datetime64]:
        """The valid times, shape (time,), `datetime64[s]`, increasing; empty for static fields.

        In a model calendar they are the seconds since its own 1970-01-01; see `dates`.
        """
        return np.concatenate([file.times for file in self.files])

    @property
    def calendar(self) -> str:
        """`gregorian`, or a calendar of climate models: `noleap`, `all_leap`, `360_day`."""
        return self.files[0].calendar

    @property
    def dates(self) -> list[str]:
        """The valid times as ISO dates of the calendar."""
        return label(self.times, self.calendar)

    def dates_of(self, frames: NDArray[np.int64]) -> list[str]:
        """Return the dates of some frames."""
        return label(self.times[frames], self.calendar)

    @property
    def gaps(self) -> list[tuple[np.datetime64, np.datetime64]]:
        """Where frames are missing: the times before and after each longer step than usual."""
        steps = np.diff(self.times)
        if not len(steps):
            return []
        values, counts = np.unique(steps, return_counts=True)
        wide = np.flatnonzero(steps > values[counts.argmax()])
        return [(self.times[i], self.times[i + 1]) for i in wide]

    @cached_property
    def fingerprint(self) -> str:
        """What data this is: the SHA-256 of names, sizes, packing, times, grid, levels, members.

        It is known without reading a field, and is the same wherever the files lie.
        """
        return fingerprint(self.files, self.names)

    @property
    def grid(self) -> Grid:
        """The horizontal grid."""
        return self.files[0].grid

    @property
    def levels(self) -> Mapping[str, LevelAxis]:
        """The vertical axes, by the name of their dimension."""
        return self.files[0].levels

    @property
    def members(self) -> NDArray[np.int64]:
        """The numbers of the ensemble members, shape (member,); empty without an ensemble."""
        return self.files[0].members

    def sha256(self) -> dict[str, str]:
        """Return the SHA-256 of each file by its path, for a record of where results come from.

        Raises:
            ValueError: If a file is far away.
        """
        for path in self.paths:
            if isinstance(path, str):
                raise ValueError(f"{path}: expected a file of this machine, got a URL")
        return {str(path): sha256(path) for path in self.paths}

    def read(
        self,
        name: str,
        time: TimeSelection = None,
        tile: Tile | None = None,
        level: int | slice | None = None,
        member: int | slice | None = None,
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Read a variable, or a part of it.

        Args:
            name: The variable, by its own name or by one that another source gives the quantity
                (`2m_temperature`, `tas`), if it is the only such variable.
            time: All (None), a frame number, a date, a slice of either (of dates: with both ends),
                or a list of either. A date stands for all frames within its own precision.
            tile: The (rows, columns) as two slices, or the `extended` window of a `TileLayout`; on
                a periodic axis, and over a pole, they may pass the border. On a grid that is a
                list of cells, one slice.
            level: All (None), one by its index, or a slice of indices.
            member: All (None), one by its index, or a slice of indices.

        Returns:
            Values and mask, shape `([member,] time, [level,] rows, columns)`. Values are float32
            in `variables[name].units`, 0 where missing; the mask is True where they are valid.
            `level` and `member` are absent where the variable has none or one was chosen by its
            index. Time is always there; a static variable has one frame. Cells in a list, faces
            of a cubed sphere among them, have one axis.

        Raises:
            ValueError: If the variable is unknown or cannot be read, a selection is out of range,
                a value is infinite or not plausible, or the whole variable is missing.
        """
        reader = self.reader(name, tile, level, member)
        values, valid = reader.read(self._frames(reader.name, time))
        if time is None and tile is None and not valid.any():
            raise ValueError(
                f"{self.paths[0]}: variable {name!r}: expected at least one valid value, "
                f"got {valid.size} missing ones"
            )
        return values, valid

    def reader(
        self,
        name: str,
        tile: Tile | None = None,
        level: int | slice | None = None,
        member: int | slice | None = None,
    ) -> FieldReader:
        """Return what reads the same part of a variable at other frames each time.

        The arguments are those of `read`; so are the errors, some of them only when it reads.
        """
        part = Part(tile=tile, level=level, member=member)
        return FieldReader(self.files, self._starts, self._stored_name(name), part)

    def axes(self, name: str) -> tuple[Role, ...]:
        """Return what the axes of `read(name)` are: E member, T time, Z level, Y row, X column."""
        file = self.files[0]
        present = {file.roles[dim] for dim in file.variables[self._stored_name(name)].meta.dims}
        if len(self.grid.shape) == 1:
            present -= {"F", "Y"}
        return tuple(role for role in ORDER if role in present or role == "T")

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of `read(name)`."""
        axes = self.axes(name)
        meta, roles = self.variables[self.resolve(name)], self.files[0].roles
        sizes = {roles[dim]: size for dim, size in zip(meta.dims, meta.shape, strict=True)}
        sizes["X"] = self.grid.shape[-1]  # a file may repeat columns, or have faces
        return tuple(sizes.get(role, len(self.frames(name))) for role in axes)

    def frames(self, name: str, time: TimeSelection = None) -> NDArray[np.int64]:
        """Return the numbers of the frames that `read(name, time)` gives, shape (time,).

        A static variable has the one frame 0, at no time.
        """
        return self._frames(self._stored_name(name), time)

    def _frames(self, stored: str, time: TimeSelection) -> NDArray[np.int64]:
        """Return the numbers of the selected frames of a variable, by its name in the files."""
        changes = has_frames(self.files[0], stored)
        if self.calendar != GREGORIAN:
            time = _in_model_calendar(time, self.calendar)
        return select_frames(self.times if changes else _NO_TIME, time)

    def cost(self, name: str, time: TimeSelection = None, tile: Tile | None = None) -> ReadCost:
        """Return how many bytes `read(name, time, tile)` wants, and how many it touches.

        All levels and members are counted.
        """
        return read_cost(self.files[0], self._stored_name(name), self.frames(name, time), tile)

    def level(self, name: str, value: float, units: str = "") -> int:
        """Return the index of a level of a variable.

        Args:
            name: The variable.
            value: Where the level is.
            units: The units of `value`, such as `"hPa"`; empty for those of the axis.

        Raises:
            ValueError: If the variable has no levels, none lies there, or the axis measures
                something else, such as model levels of which no pressure is known.

        """
        meta, roles = self.variables[self.resolve(name)], self.files[0].roles
        dims = [dim for dim in meta.dims if roles[dim] == "Z"]
        if not dims:
            raise ValueError(f"{self.paths[0]}: variable {name!r}: expected levels, got none")
        return find_level(self.levels[dims[0]], value, units)

    def resolve(self, name: str) -> str:
        """Return the variable that a name means: its own, or the only one of that quantity.

        Raises:
            ValueError: If there is none, or more than one.
        """
        if name in self.names:
            return name
        known = [(n, meta.standard_name) for n, meta in self.variables.items()]
        found = same_quantity(name, known)
        if len(found) == 1:
            return found[0]
        if found:
            raise ValueError(f"{self.paths[0]}: expected one variable for {name!r}, got {found}")
        near = difflib.get_close_matches(name, self.names, n=1, cutoff=0.4)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise ValueError(
            f"{self.paths[0]}: expected one of the variables {sorted(self.names)}, "
            f"got {name!r}{hint}"
        )

    @cached_property
    def _starts(self) -> NDArray[np.int64]:
        """The number of the first frame of each file."""
        return np.cumsum([0, *(len(file.times) for file in self.files[:-1])])

    @cached_property
    def _problems(self) -> dict[str, tuple[Location, str]]:
        """Where and why variables, by their names in the files, cannot be read."""
        return {
            stored: (file.path, variable.problem)
            for file in reversed(self.files)
            for stored, variable in file.variables.items()
            if variable.problem
        }

    def _stored_name(self, name: str) -> str:
        """Return a variable's name in the files, if it is there and can be read."""
        name = self.resolve(name)
        stored = self.names[name]
        if stored in self._problems:
            path, problem = self._problems[stored]
            raise ValueError(f"{path}: variable {name!r}: {problem}")
        return stored

    def _meta(self, name: str) -> VariableMeta:
        variable = self.files[0].variables[self.names[name]]
        sizes = dict(zip(variable.meta.dims, variable.meta.shape, strict=True))
        for dim in sizes:
            if self.files[0].roles.get(dim) == "T":
                sizes[dim] = len(self.times)
        return replace(variable.meta, name=name, shape=tuple(sizes.values()))


def open_store(
    path: Source,
    *,
    units: Units = "si",
    names: Mapping[str, str] | None = None,
    index: str | Path | None = None,
    grid: Grid | None = None,
    times: ArrayLike | None = None,
    missing: Sequence[float] = (),
    plausible: bool = True,
) -> Store:
    """Open gridded files by their metadata; no field is read.

    Args:
        path: One NetCDF-3, NetCDF-4, HDF5, GRIB or kerchunk file, one Zarr folder or URL (by the
            CF conventions or as anemoi-datasets writes it), a pattern such as `"era5_*.nc"`, or a
            list. Several files must hold the same variables on the same grid and follow one
            another in time.
        units: `"si"` converts what is read to SI (angles stay in degrees), `"as_is"` does not.
        names: New names for variables: `{"t2m": "2m_temperature"}` reads the file's
            `2m_temperature` as `t2m`. Others keep their names.
        index: A file that remembers the metadata of those that did not change since, so that
            thousands of them open at once; it is written if it is not there.
        grid: The grid to use instead of what the files say of theirs.
        times: The times of all frames, for a single file whose own are not usable.
        missing: Stored numbers, such as -9999, that stand for missing beside those that the files
            name.
        plausible: Whether values out of the range in which a known quantity has been observed are
            refused, such as degrees Celsius labelled as kelvins.

    Raises:
        FileNotFoundError: If a file is missing or a pattern matches nothing.
        ImportError: If a format needs a package that is not installed.
        ValueError: If a file is of no known format, its axes are not usable, or the files do not
            belong together. The message names the file, what was expected and what came.

    Examples:
        >>> import tempfile
        >>> from stormda.grid import LatLonGrid
        >>> from stormda.io import write_fields
        >>> grid = LatLonGrid([50.0, 51.0], [0.0, 1.0, 2.0])
        >>> times = np.array(["2019-03-01T00", "2019-03-01T06"], "datetime64[s]")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "t2m.nc")
        ...     write_fields(path, {"t2m": np.full((2, 2, 3), 10.0)}, times=times, grid=grid,
        ...                  attributes={"t2m": {"units": "degC"}})
        ...     store = open_store(path)
        ...     values, mask = store.read("t2m", time="2019-03-01T06")
        >>> store.variables["t2m"].units, values.shape, float(values[0, 0, 0])
        ('K', (1, 2, 3), 283.1499938964844)
    """
    how = _reading(units, grid, times, missing, plausible=plausible)
    locations = expand_locations(path)
    if times is not None and len(locations) > 1:
        raise ValueError(f"times: expected a single file to have them, got {len(locations)} files")
    files = join(index_files(locations, how, None if index is None else Path(index)))
    return Store(files, _names(files[0], names or {}))


def _reading(
    units: Units,
    grid: Grid | None,
    times: ArrayLike | None,
    missing: Sequence[float],
    *,
    plausible: bool,
) -> Reading:
    """Return how files are to be read."""
    if units not in get_args(Units):
        raise ValueError(f"units: expected 'si' or 'as_is', got {units!r}")
    return Reading(
        si=units == "si",
        grid=grid,
        times=None if times is None else tuple(np.atleast_1d(np.asarray(times, "datetime64[s]"))),
        missing=tuple(float(code) for code in missing),
        plausible=plausible,
    )


def _names(file: FileIndex, renamed: Mapping[str, str]) -> dict[str, str]:
    """Return every variable's name in the file by its name in the store."""
    for new, old in renamed.items():
        if old not in file.variables:
            raise ValueError(
                f"names: expected a variable of {file.path} for {new!r}, one of "
                f"{sorted(file.variables)}, got {old!r}"
            )
    kept = {name: name for name in file.variables if name not in renamed.values()}
    return {**kept, **renamed}


def _in_model_calendar(time: TimeSelection, calendar: str) -> TimeSelection:
    """Return a selection with its dates, which NumPy would take for Gregorian, as seconds."""
    if isinstance(time, str):
        time = slice(time, time)
    if not isinstance(time, slice):
        return time
    first, last = time.start, time.stop
    if isinstance(first, str):
        first = period(first, calendar)[0]
    if isinstance(last, str):
        last = period(last, calendar)[1] - np.timedelta64(1, "s")
    return slice(first, last, time.step)
