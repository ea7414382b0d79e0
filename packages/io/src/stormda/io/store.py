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
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from stormda.grid import LatLonGrid, PlaneGrid
from stormda.io.axes import ORDER, Role
from stormda.io.files import expand_paths, sha256
from stormda.io.index import FileIndex, LevelAxis, VariableMeta, index_file
from stormda.io.joining import join
from stormda.io.reading import Part, has_frames, read_block, time_axis
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
    def paths(self) -> tuple[Path, ...]:
        """The files' paths, in the order of time."""
        return tuple(file.path for file in self.files)

    @cached_property
    def variables(self) -> dict[str, VariableMeta]:
        """What is known of each variable, by name."""
        return {name: self._meta(name) for name in self.names}

    @cached_property
    def times(self) -> NDArray[np.datetime64]:
        """The valid times, shape (time,), `datetime64[s]`, increasing; empty for static fields."""
        return np.concatenate([file.times for file in self.files])

    @property
    def grid(self) -> LatLonGrid | PlaneGrid:
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
        """Return the SHA-256 of each file by its path, for a record of where results come from."""
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
            name: The variable.
            time: All (None), a frame number, a date, a slice of either (of dates: with both ends),
                or a list of either. A date stands for all frames within its own precision.
            tile: The (rows, columns) as two slices, or the `extended` window of a `TileLayout`; on
                a periodic axis they may pass the border.
            level: All (None), one by its index, or a slice of indices.
            member: All (None), one by its index, or a slice of indices.

        Returns:
            Values and mask, shape `([member,] time, [level,] rows, columns)`. Values are float32
            in `variables[name].units`, 0 where missing; the mask is True where they are valid.
            `level` and `member` are absent where the variable has none or one was chosen by its
            index. Time is always there; a static variable has one frame.

        Raises:
            ValueError: If the variable is unknown or cannot be read, a selection is out of range,
                a value is infinite, or the whole variable is missing.
        """
        part = Part(tile=tile, level=level, member=member)
        stored = self._stored_name(name)
        wanted = self.frames(name, time)
        owners = self._owners(wanted)
        blocks = [
            read_block(file, stored, wanted[here] - first, part) for file, first, here in owners
        ]
        axis = time_axis(self.files[0], stored, part)
        order = np.argsort(np.concatenate([here for _, _, here in owners]))
        values = _in_order([block[0] for block in blocks], axis, order)
        valid = _in_order([block[1] for block in blocks], axis, order)
        if time is None and tile is None and not valid.any():
            raise ValueError(
                f"{self.paths[0]}: variable {name!r}: expected at least one valid value, "
                f"got {valid.size} missing ones"
            )
        return values, valid

    def axes(self, name: str) -> tuple[Role, ...]:
        """Return what the axes of `read(name)` are: E member, T time, Z level, Y row, X column."""
        file = self.files[0]
        present = {file.roles[dim] for dim in file.variables[self._stored_name(name)].meta.dims}
        return tuple(role for role in ORDER if role in present or role == "T")

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of `read(name)`."""
        meta, roles = self.variables[name], self.files[0].roles
        sizes = {roles[dim]: size for dim, size in zip(meta.dims, meta.shape, strict=True)}
        return tuple(sizes.get(role, len(self.frames(name))) for role in self.axes(name))

    def frames(self, name: str, time: TimeSelection = None) -> NDArray[np.int64]:
        """Return the numbers of the frames that `read(name, time)` gives, shape (time,).

        A static variable has the one frame 0, at no time.
        """
        changes = has_frames(self.files[0], self._stored_name(name))
        return select_frames(self.times if changes else _NO_TIME, time)

    def _owners(self, wanted: NDArray[np.int64]) -> list[tuple[FileIndex, int, NDArray[np.int64]]]:
        """Return each file needed, its first frame's number, and which of `wanted` it holds."""
        starts = np.cumsum([0, *(len(file.times) for file in self.files)])
        owner = np.searchsorted(starts[1:-1], wanted, side="right")
        return [
            (self.files[i], int(starts[i]), np.flatnonzero(owner == i)) for i in np.unique(owner)
        ]

    def _stored_name(self, name: str) -> str:
        """Return a variable's name in the files, if it is there and can be read."""
        if name not in self.names:
            near = difflib.get_close_matches(name, self.names, n=1, cutoff=0.4)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise ValueError(
                f"{self.paths[0]}: expected one of the variables {sorted(self.names)}, "
                f"got {name!r}{hint}"
            )
        stored = self.names[name]
        for file in self.files:
            if file.variables[stored].problem:
                problem = file.variables[stored].problem
                raise ValueError(f"{file.path}: variable {name!r}: {problem}")
        return stored

    def _meta(self, name: str) -> VariableMeta:
        variable = self.files[0].variables[self.names[name]]
        sizes = dict(zip(variable.meta.dims, variable.meta.shape, strict=True))
        for dim in sizes:
            if self.files[0].roles.get(dim) == "T":
                sizes[dim] = len(self.times)
        return replace(variable.meta, name=name, shape=tuple(sizes.values()))


def open_store(
    path: str | Path | Sequence[str | Path],
    *,
    units: Units = "si",
    names: Mapping[str, str] | None = None,
) -> Store:
    """Open gridded NetCDF files by their metadata; no field is read.

    Args:
        path: One file, a pattern such as `"era5_*.nc"`, or a list of files. Several files must
            hold the same variables on the same grid and follow one another in time.
        units: `"si"` converts what is read to SI (angles stay in degrees), `"as_is"` does not.
        names: New names for variables: `{"t2m": "2m_temperature"}` reads the file's
            `2m_temperature` as `t2m`. Others keep their names.

    Raises:
        FileNotFoundError: If a file is missing or a pattern matches nothing.
        ValueError: If a file is not NetCDF, its axes are not usable, or the files do not belong
            together. The message names the file, what was expected and what came.

    Examples:
        >>> import tempfile
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
    if units not in get_args(Units):
        raise ValueError(f"units: expected 'si' or 'as_is', got {units!r}")
    files = join([index_file(file, si=units == "si") for file in expand_paths(path)])
    return Store(files, _names(files[0], names or {}))


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


def _in_order(blocks: Sequence[NDArray[Any]], axis: int, order: NDArray[np.int64]) -> NDArray[Any]:
    """Join the files' frames and put them in the order in which they were asked for."""
    joined = np.concatenate(blocks, axis=axis)
    rising = np.array_equal(order, np.arange(len(order)))
    return joined if rising else np.take(joined, order, axis=axis)
