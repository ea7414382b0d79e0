"""Reading a part of one variable from one file.

A tile is cut into runs of stored cells: two where it passes the date line, and one more where it
goes over a pole, which is read mirrored and half a turn away.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stormda.grid import Grid
from stormda.io.axes import ORDER, Role
from stormda.io.decoding import Decoded, Decoder
from stormda.io.index import FileIndex, FileVariable
from stormda.io.quantities import PhysicalQuantity
from stormda.io.selection import Run, Tile, runs, select_axis
from stormda.io.stored import StoredArray, stored_array

_MOST = 1024
"""Variables of files of which it is remembered how they are read."""

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


@dataclass(frozen=True, eq=False)
class BlockReader:
    """Reads a part of a variable from one file."""

    file: FileIndex
    """The file."""

    name: str
    """The variable's name in it."""

    part: Part
    """The tile, level and member."""

    def read(self, frames: NDArray[np.int64]) -> Block:
        """Return frames, decoded: `([member,] time, [level,] rows, columns)`.

        A variable without a time dimension gives one frame. Components of vectors change their
        sign over a pole.

        Args:
            frames: Frame numbers within the file, shape (n,).

        Raises:
            ValueError: If a selection is out of range, or a value is infinite or not plausible.
        """
        file, known, lines = self.file, _known(self.file, self.name), self._lines
        array, quantity = stored_array(file.path, self.name), known.variable.quantity
        chosen: dict[Role, Index] = {**self._chosen, "T": _as_slice(frames)}
        try:
            raw = _read_raw(array, known, chosen, lines)
            if "T" not in known.letters:
                raw = np.expand_dims(raw, time_axis(file, self.name, self.part))
            decoded = known.decoder(raw)
            if quantity is not None:
                require_plausible(decoded, quantity)
        except (ValueError, OSError, RuntimeError) as error:  # what readers raise for damage
            raise ValueError(f"{file.path}: variable {self.name!r}: {error}") from error
        values, valid, _ = decoded
        if quantity is not None and quantity.vector and any(row.turned for row in lines[0]):
            turned = np.concatenate([np.full(len(row), row.turned) for row in lines[0]])
            values[..., turned, :] *= -1
        return values, valid

    @cached_property
    def _lines(self) -> tuple[list[Run], ...]:
        """The runs of the tile."""
        return tile_runs(self.file.grid, self.part.tile)

    @cached_property
    def _chosen(self) -> dict[Role, Index]:
        """The index along members and levels."""
        sizes, part = _known(self.file, self.name).sizes, self.part
        wanted = (("Z", part.level, "level"), ("E", part.member, "member"))
        return {r: select_axis(sizes[r], index, said) for r, index, said in wanted if r in sizes}


def time_axis(file: FileIndex, name: str, part: Part) -> int:
    """Return which axis of what `read_block` returns is time."""
    has_members = "E" in _known(file, name).letters
    return int(has_members and (part.member is None or isinstance(part.member, slice)))


def has_frames(file: FileIndex, name: str) -> bool:
    """Tell whether a variable changes with the file's time, or is static."""
    in_time = "T" in _known(file, name).letters
    return in_time or (len(file.times) == 1 and "T" not in file.roles.values())


def tile_runs(grid: Grid, tile: Tile | None) -> tuple[list[Run], ...]:
    """Return the runs of stored cells of a tile along each direction of a grid.

    Raises:
        ValueError: If the tile leaves the grid, or has not as many windows as it directions.
    """
    shape = grid.shape
    windows = (slice(None),) * len(shape) if tile is None else tile
    if len(windows) != len(shape):
        raise ValueError(f"tile: expected {len(shape)} windows of cells, got {len(windows)}")
    if len(shape) == 1:
        return (runs(windows[0], shape[0], None, argument="tile cells"),)
    borders: Any = getattr(grid, "borders")  # noqa: B009  # a grid with rows has them
    return (
        runs(windows[0], shape[0], borders[0], argument="tile rows"),
        runs(windows[1], shape[1], borders[1], argument="tile columns"),
    )


ROOM = 0.05
"""Shares of its range by which a quantity may leave it: what was made of observed values (sampled,
fitted, compressed) goes a little beyond them, wrong units go far."""


def require_plausible(decoded: Decoded, quantity: PhysicalQuantity) -> None:
    """Raise where a valid value is far out of the range in which a quantity has been observed.

    Raises:
        ValueError: With the first such value and its place.
    """
    room = ROOM * (quantity.high - quantity.low)
    low, high = quantity.low - room, quantity.high + room
    values, valid, ends = decoded
    if not values.size:
        return
    smallest, largest = ends or (values.min(), values.max())
    if smallest >= low and largest <= high:
        return
    bad = valid & ((values < low) | (values > high))
    if bad.any():
        where = tuple(int(i) for i in np.argwhere(bad)[0])
        raise ValueError(
            f"expected {quantity.key} between {low:g} and {high:g} {quantity.units}, got "
            f"{values[where]:g} at index {where} (wrong units or packing? pass plausible=False "
            "to read it as it is)"
        )


@dataclass(frozen=True, eq=False)
class _Known:
    """What is the same whenever a variable is read."""

    variable: FileVariable
    """The variable."""

    width: int
    """Columns of the grid."""

    letters: tuple[Role, ...]
    """What its dimensions stand for, in the order in which they are returned."""

    stored: tuple[Role, ...]
    """The same in the order of the file."""

    @cached_property
    def sizes(self) -> dict[Role, int]:
        """The size of each dimension."""
        return dict(zip(self.letters, self.variable.meta.shape, strict=True))

    @cached_property
    def decoder(self) -> Decoder:
        """What decodes its numbers."""
        return Decoder(self.variable.packing, self.variable.unit)


@lru_cache(_MOST)
def _known(file: FileIndex, name: str) -> _Known:
    variable = file.variables[name]
    letters = tuple(file.roles[dim] for dim in variable.meta.dims)
    stored = sorted(range(len(letters)), key=variable.order.__getitem__)
    return _Known(variable, file.grid.shape[-1], letters, tuple(letters[i] for i in stored))


def _read_raw(
    array: StoredArray, known: _Known, chosen: dict[Role, Index], lines: tuple[list[Run], ...]
) -> NDArray[Any]:
    """Return the stored numbers of a tile."""
    if len(lines) == 1:
        cells = _list_of_cells(array, known, chosen)
        return np.concatenate([cells[..., run.cells] for run in lines[0]], axis=-1)
    rows, cols = lines
    pieces = []
    for row in rows:
        line = _turned(cols, known.width) if row.turned else cols
        read = [_slab(array, known, {**chosen, "Y": row.cells, "X": col.cells}) for col in line]
        piece = read[0] if len(read) == 1 else np.concatenate(read, axis=-1)
        pieces.append(piece[..., ::-1, :] if row.turned else piece)
    return pieces[0] if len(pieces) == 1 else np.concatenate(pieces, axis=-2)


def _turned(cols: list[Run], width: int) -> list[Run]:
    """Return the columns half a turn away from a window."""
    start, length = cols[0].cells.start + width // 2, sum(len(col) for col in cols)
    return runs(slice(start, start + length), width, "wrap", argument="tile columns")


def _list_of_cells(array: StoredArray, known: _Known, chosen: dict[Role, Index]) -> NDArray[Any]:
    """Return all cells of a list, or of the faces of a cubed sphere, along the last axis."""
    whole = slice(None)
    raw = _slab(array, known, {**chosen, "F": whole, "Y": whole, "X": whole})
    faces = sum(role in ("F", "Y", "X") for role in known.letters)
    return raw.reshape(*raw.shape[:-faces], -1)


def _slab(array: StoredArray, known: _Known, index: dict[Role, Index]) -> NDArray[Any]:
    """Read one run of cells, its axes put in order; indices that are numbers drop theirs."""
    raw = _indexed(array, [index[role] for role in known.stored])
    if known.stored == known.letters:
        return raw
    stored = [role for role in known.stored if not isinstance(index[role], int)]
    return np.transpose(raw, [stored.index(role) for role in sorted(stored, key=ORDER.index)])


def _indexed(array: StoredArray, key: list[Index]) -> NDArray[Any]:
    """Index an array; frames in no even order are read one by one."""
    listed = [i for i, index in enumerate(key) if isinstance(index, np.ndarray)]
    if not listed:
        return np.asarray(array[tuple(key)])
    at = listed[0]
    axis = at - sum(isinstance(index, int) for index in key[:at])
    frames = np.asarray(key[at])
    single = [
        np.asarray(array[(*key[:at], slice(int(f), int(f) + 1), *key[at + 1 :])]) for f in frames
    ]
    return np.concatenate(single, axis=axis)


def _as_slice(frames: NDArray[np.int64]) -> slice | NDArray[np.int64]:
    """Return evenly rising frame numbers as a slice, which files read in one go."""
    first, last = int(frames[0]), int(frames[-1])
    step = int(frames[1]) - first if len(frames) > 1 else 1
    if step < 1 or frames.tolist() != [*range(first, last + 1, step)]:
        return frames
    return slice(first, last + 1, step)
