"""Reading a part of one variable from one file."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from stormda.io.axes import Role
from stormda.io.decoding import decode
from stormda.io.files import open_raw
from stormda.io.index import FileIndex
from stormda.io.selection import Tile, select_axis, slabs

Index = int | slice | NDArray[np.int64]
Block = tuple[NDArray[np.float32], NDArray[np.bool_]]


@dataclass(frozen=True, kw_only=True)
class Part:
    """What is wanted of a variable beside its frames."""

    tile: Tile | None = None
    """Rows and columns; None for the whole grid."""

    level: int | slice | None = None
    """An index, which drops the axis, or a slice; None for all levels."""

    member: int | slice | None = None
    """An index, which drops the axis, or a slice; None for all members."""


def read_block(file: FileIndex, name: str, frames: NDArray[np.int64], part: Part) -> Block:
    """Return frames of a variable, decoded: `([member,] time, [level,] rows, columns)`.

    A variable without a time dimension gives one frame.

    Args:
        file: The file.
        name: The variable's name in it.
        frames: Frame numbers within the file, shape (n,).
        part: The tile, level and member.

    Raises:
        ValueError: If a selection is out of range, or a value is infinite.
    """
    variable = file.variables[name]
    with open_raw(file.path) as dataset:
        stored = dataset[name].transpose(*variable.meta.dims)
        try:
            raw = _read_raw(stored, file, frames, part)
            return decode(raw, stored.attrs, variable.unit)
        except ValueError as error:
            raise ValueError(f"{file.path}: variable {name!r}: {error}") from error


def time_axis(file: FileIndex, name: str, part: Part) -> int:
    """Return which axis of what `read_block` returns is time."""
    has_members = "E" in _letters(file, name)
    return int(has_members and (part.member is None or isinstance(part.member, slice)))


def has_frames(file: FileIndex, name: str) -> bool:
    """Tell whether a variable changes with the file's time, or is static."""
    in_time = "T" in _letters(file, name)
    return in_time or (len(file.times) == 1 and "T" not in file.roles.values())


def _letters(file: FileIndex, name: str) -> list[Role]:
    return [file.roles[dim] for dim in file.variables[name].meta.dims]


def _read_raw(
    stored: xr.DataArray, file: FileIndex, frames: NDArray[np.int64], part: Part
) -> NDArray[np.generic]:
    """Read the stored numbers slab by slab and put a tile that wraps together."""
    dims = {file.roles[str(dim)]: str(dim) for dim in stored.dims}
    chosen: dict[Role, Index] = {"T": _as_slice(frames)}
    for role, selection, argument in (("Z", part.level, "level"), ("E", part.member, "member")):
        if role in dims:
            chosen[role] = select_axis(stored.sizes[dims[role]], selection, argument)
    stored = stored.isel({dims[role]: index for role, index in chosen.items() if role in dims})
    rows, cols = _tile_slabs(file, part.tile)
    lines = [
        [np.asarray(stored.isel({dims["Y"]: row, dims["X"]: col}).values) for col in cols]
        for row in rows
    ]
    raw = np.concatenate([np.concatenate(line, axis=-1) for line in lines], axis=-2)
    return raw if "T" in dims else np.expand_dims(raw, time_axis(file, str(stored.name), part))


def _tile_slabs(file: FileIndex, tile: Tile | None) -> tuple[list[slice], list[slice]]:
    rows, cols = (slice(None), slice(None)) if tile is None else tile
    (height, width), (over_rows, over_cols) = file.grid.shape, file.grid.periodic
    return (
        slabs(rows, height, periodic=over_rows, argument="tile rows"),
        slabs(cols, width, periodic=over_cols, argument="tile columns"),
    )


def _as_slice(frames: NDArray[np.int64]) -> slice | NDArray[np.int64]:
    """Return evenly rising frame numbers as a slice, which files read in one go."""
    steps = np.unique(np.diff(frames))
    if len(steps) > 1 or (len(steps) == 1 and steps[0] < 1):
        return frames
    step = int(steps[0]) if len(steps) else 1
    return slice(int(frames[0]), int(frames[-1]) + 1, step)
