"""Fields stored anew in pieces that fit how they are read, and copies of them nearby."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stormda.io.cf_file import create_cf
from stormda.io.index import LevelAxis
from stormda.io.layout import FieldAxes, field_layout
from stormda.io.store import Store, open_store
from stormda.io.whole_chunks import write_part
from stormda.io.zarr_file import COMPLETE, array_of, atomic_folder, create_group


@dataclass(frozen=True, kw_only=True)
class Pieces:
    """What is stored together: so many frames of a tile, of one level and member."""

    frames: int = 8
    """Frames: as many as a sample has, or a few more."""

    tile: tuple[int, int] = (64, 64)
    """Rows and columns: as many as a rank's tile has, or a part of it. 0.5 to 4 MB in all."""

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        if min(self.frames, *self.tile) < 1:
            raise ValueError(
                f"pieces: expected positive sizes, got {self.frames} frames of {self.tile}"
            )


def rechunk(
    store: Store,
    path: str | Path,
    pieces: Pieces,
    *,
    variables: Sequence[str] | None = None,
    compression: int = 1,
    overwrite: bool = False,
) -> None:
    """Store fields anew, decoded, in pieces of another shape.

    It holds one row of pieces at a time, and the output appears complete or not at all.

    Args:
        store: The fields.
        path: A NetCDF-4 file, or a Zarr group if it ends in `.zarr`; its chunks carry checksums.
        pieces: What is stored together.
        variables: Which; all by default. They share their levels and members.
        compression: The level, 1 to 9, of gzip or Zstandard; 0 for none.
        overwrite: Whether an existing output may be replaced.

    Raises:
        FileExistsError: If the output exists and may not be replaced.
        ValueError: If the variables differ in levels, or one cannot be read.

    Examples:
        >>> import tempfile
        >>> from stormda.grid import LatLonGrid
        >>> from stormda.io import write_fields
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_fields(Path(folder, "t.nc"), {"t2m": np.full((4, 6, 8), 280.0)},
        ...                  times=np.datetime64("2019-03-01", "s") + 3600 * np.arange(4),
        ...                  grid=LatLonGrid(np.arange(50.0, 56.0), np.arange(8.0)),
        ...                  attributes={"t2m": {"units": "K"}})
        ...     store, pieces = open_store(Path(folder, "t.nc")), Pieces(frames=2, tile=(3, 4))
        ...     rechunk(store, Path(folder, "t.zarr"), pieces)
        ...     again = open_store(Path(folder, "t.zarr"))
        >>> again.shape("t2m"), again.variables["t2m"].chunks
        ((4, 6, 8), (2, 3, 4))
    """
    names = [*store.variables] if variables is None else [store.resolve(n) for n in variables]
    axes = _axes(store, names)
    shapes = {name: store.shape(name) for name in names}
    meta = {name: _attributes(store, name) for name in names}
    provenance = {"rechunked": store.fingerprint}
    chunks = {name: _chunk(shape, pieces, axes) for name, shape in shapes.items()}
    layout = field_layout(axes, shapes, meta, provenance, compression, chunks)
    if Path(path).suffix != ".zarr":
        with create_cf(path, layout, overwrite=overwrite) as file:
            for name in names:
                for where, values in _blocks(store, name, pieces.frames):
                    write_part(file[name], where, values)
        return
    with atomic_folder(Path(path), overwrite=overwrite) as folder:
        group = create_group(folder, layout, chunks, {}, compression)
        for name in names:
            for where, values in _blocks(store, name, pieces.frames):
                array_of(group, name)[where] = values
        group.attrs[COMPLETE] = 1


def local_copy(
    store: Store, folder: str | Path, pieces: Pieces, *, variables: Sequence[str] | None = None
) -> Store:
    """Return a store of the same fields in a folder of this machine, made if it is not there.

    On a folder of memory, such as `/dev/shm`, it is a cache in memory that all processes of a
    node share. The copy is named after the data and the pieces; every chunk carries a checksum.

    Args:
        store: The fields, far away or in pieces that do not fit.
        folder: Where copies are kept.
        pieces: What is stored together.
        variables: Which; all by default.

    Raises:
        OSError: If the copy cannot be written.
        ValueError: If the fields have no time, or several kinds of levels.

    Examples:
        >>> import tempfile
        >>> from stormda.grid import LatLonGrid
        >>> from stormda.io import write_fields
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_fields(Path(folder, "t.nc"), {"t2m": np.full((4, 6, 8), 280.0)},
        ...                  times=np.datetime64("2019-03-01", "s") + 3600 * np.arange(4),
        ...                  grid=LatLonGrid(np.arange(50.0, 56.0), np.arange(8.0)),
        ...                  attributes={"t2m": {"units": "K"}})
        ...     store, pieces = open_store(Path(folder, "t.nc")), Pieces(frames=2, tile=(3, 4))
        ...     copy = local_copy(store, Path(folder, "near"), pieces)
        ...     values, _ = copy.read("t2m", 0)
        >>> values.shape
        (1, 6, 8)
    """
    names = [*store.variables] if variables is None else [store.resolve(n) for n in variables]
    said = [store.fingerprint, names, pieces.frames, pieces.tile]
    digest = hashlib.sha256(json.dumps(said).encode()).hexdigest()[:24]
    path = Path(folder) / f"{digest}.zarr"
    if not path.exists():
        try:
            rechunk(store, path, pieces, variables=names)
        except OSError:  # another process of the node was first
            if not path.exists():
                raise
    return open_store(path, units="as_is")


def _axes(store: Store, names: Sequence[str]) -> FieldAxes:
    levels: dict[str, LevelAxis] = {}
    for name in names:
        dims = store.variables[name].dims
        levels |= {dim: axis for dim, axis in store.levels.items() if dim in dims}
        if len(store.frames(name)) != len(store.times):
            raise ValueError(f"variables: expected fields that change in time, got {name!r}")
    if len(levels) > 1:
        raise ValueError(f"variables: expected the same levels, got those of {sorted(levels)}")
    members = store.members if len(store.members) else None
    return FieldAxes(
        times=store.times,
        grid=store.grid,
        members=members,
        levels=next(iter(levels.values()), None),
    )


def _attributes(store: Store, name: str) -> dict[str, Any]:
    meta = store.variables[name]
    said = {
        "units": meta.units or "1",
        "standard_name": meta.standard_name,
        "long_name": meta.long_name or name,
    }
    return {key: text for key, text in said.items() if text}


def _chunk(shape: tuple[int, ...], pieces: Pieces, axes: FieldAxes) -> tuple[int, ...]:
    """Return the sizes of a chunk: one member, one level, and a tile of cells."""
    rows, cols = pieces.tile
    cells = (rows, cols) if len(axes.grid.shape) == 2 else (rows * cols,)
    levels = (1,) * (len(shape) - len(axes.shape))
    members = () if axes.members is None else (1,)
    wanted = (*members, pieces.frames, *levels, *cells)
    return tuple(min(n, size) for n, size in zip(wanted, shape, strict=True))


def _blocks(
    store: Store, name: str, frames: int
) -> Iterator[tuple[tuple[slice, ...], NDArray[np.float32]]]:
    """Yield all of a variable, a few frames at a time, with NaN where it is missing."""
    axis = store.axes(name).index("T")
    for start in range(0, len(store.times), frames):
        stop = min(start + frames, len(store.times))
        values, mask = store.read(name, slice(start, stop))
        np.copyto(values, np.nan, where=~mask)
        yield (*(slice(None),) * axis, slice(start, stop)), values
