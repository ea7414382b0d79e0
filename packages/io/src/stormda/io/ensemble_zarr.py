"""An ensemble in Zarr that many processes write at once, each whole shards of its own.

The group is made beside its final name and renamed when all of it is there. What a process has
written is noted, with a checksum, after it is on the disk; a run that was killed starts again and
writes what `missing` says.
"""

from __future__ import annotations

import hashlib
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from numpy.typing import ArrayLike

from stormda.io.atomic import atomic_path, flush, refuse_existing
from stormda.io.files import sha256
from stormda.io.region_writer import DIGITS, RegionWriter
from stormda.io.regions import Region, region_of, require_inside, require_whole
from stormda.io.zarr_file import (
    COMPLETE,
    array_of,
    create_group,
    existing_group,
    pieces,
    replace_folder,
)

_NOTES = ".written"
"""The folder of notes inside the group that is being written."""


@dataclass(frozen=True, eq=False, kw_only=True)
class EnsembleZarr(RegionWriter):
    """Writes an ensemble shard by shard, from any number of processes.

    Examples:
        >>> import numpy as np, tempfile
        >>> from stormda.grid import LatLonGrid
        >>> from stormda.io import FieldAxes, read_ensemble
        >>> axes = FieldAxes(times=np.array(["2000-01-01"], "M8[s]"), members=np.arange(4),
        ...                  grid=LatLonGrid([0.0, 1.0], [0.0, 1.0, 2.0]))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     out = EnsembleZarr(path=Path(folder, "a.zarr"), axes=axes, variables=["t2m"],
        ...                        attributes={"t2m": {"units": "K"}}, run={"seed": 1},
        ...                        shard=(2, 1, 2, 3))
        ...     for start in (0, 2):  # each in a process of its own
        ...         out.write({"t2m": np.full((2, 1, 2, 3), 280.0 + start)},
        ...                   Region((start, start + 2), (0, 1), (0, 2), (0, 3)))
        ...     out.finish()
        ...     ensemble = read_ensemble(out.path)
        >>> ensemble.fields["t2m"][:, 0, 0, 0]
        array([280., 280., 282., 282.], dtype=float32)
    """

    shard: tuple[int, int, int, int]
    """Members, times, rows and columns (and all levels) of one file: what a process owns."""

    chunk: tuple[int, int, int, int] | None = None
    """Members, times, rows and columns of what is packed together; None for the whole shard."""

    def __post_init__(self) -> None:
        """Refuse an existing output, and what does not fit, before anything is computed."""
        chunk = self.chunk or self.shard
        for size, part in zip(self.shard, chunk, strict=True):
            if part < 1 or size % part:
                raise ValueError(f"chunk: expected a divisor of shard {self.shard}, got {chunk}")
        super().__post_init__()

    @property
    def folder(self) -> Path:
        """Where the group is while it is written."""
        return self._folder_of_run("writing", shard=self.shard, chunk=self.chunk)

    def prepare(self) -> None:
        """Make the group, empty, if it is not there; any process may, and `write` does."""
        if self.folder.exists():
            return
        temporary = self.folder.with_name(f".{self.folder.name}.{secrets.token_hex(8)}")
        levels = self.axes.shape_with_levels[2]
        shards, chunks = (
            {name: self._with_levels(name, sizes, levels) for name in self.variables}
            for sizes in (self.shard, self.chunk or self.shard)
        )
        create_group(
            temporary, self._layout(), chunks, shards if self.chunk else {}, self.compression
        )
        try:
            temporary.rename(self.folder)
        except OSError:  # another process was first
            if not self.folder.exists():
                raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def write(self, fields: Mapping[str, ArrayLike], region: Region) -> None:
        """Store a region of whole shards: it is on the disk when this returns.

        Args:
            fields: Every variable, shape (member, time, [level,] rows, cols) of the region, NaN
                for missing.
            region: Where it belongs; its edges are those of shards, or of the ensemble.

        Raises:
            ValueError: If the region cuts a shard, a variable is missing or has another shape, or
                a value is infinite.
        """
        self._require_own(region)
        arrays = self._storable(fields, region)
        self.prepare()
        group = existing_group(self.folder, "r+")
        for name, array in arrays.items():
            array_of(group, name)[self._slices(name, region)] = array
        for path in self._files(region):
            flush(path)
        note = self.folder / _NOTES / f"{region.name}-{self._digest(region)}"
        with atomic_path(note, overwrite=True) as temporary:
            temporary.touch()

    def completed(self) -> list[Region]:
        """Return the regions that are stored and intact; every shard is read to see."""
        found = []
        for note in sorted((self.folder / _NOTES).glob("m*")):
            name, _, digest = note.name.rpartition("-")
            region = region_of(name)
            if region is not None and self._digest(region) == digest:
                found.append(region)
        return sorted(set(found))

    def finish(self) -> None:
        """Give the group its name; one process does so, when all others are done.

        Raises:
            FileExistsError: If the group exists and may not be replaced.
            ValueError: If a number is missing or comes twice.
        """
        refuse_existing(Path(self.path), overwrite=self.overwrite)
        require_whole(self.completed(), self._shape)
        existing_group(self.folder, "r+").attrs[COMPLETE] = 1
        shutil.rmtree(self.folder / _NOTES)
        # the old group takes this name for an instant, and must not pass for one in the making
        ready = self.folder.with_name(f".{self.folder.name}.ready")
        shutil.rmtree(ready, ignore_errors=True)
        self.folder.rename(ready)
        replace_folder(ready, Path(self.path))

    def _require_own(self, region: Region) -> None:
        """Raise where a region is not made of whole shards."""
        require_inside(region, self._shape)
        for name, (start, stop), size, n in zip(
            ("members", "times", "rows", "cols"), region, self.shard, self._shape, strict=True
        ):
            if start % size or (stop % size and stop != n):
                raise ValueError(
                    f"{name}: expected whole shards of {size}, which one process owns, got "
                    f"{start} to {stop}"
                )

    def _files(self, region: Region) -> list[Path]:
        group = existing_group(self.folder, "r")
        return [
            self.folder / name / piece
            for name in self.variables
            for piece in pieces(group[name], self._slices(name, region))  # type: ignore[arg-type]
        ]

    def _digest(self, region: Region) -> str:
        try:
            sums = "".join(sha256(path) for path in self._files(region))
        except FileNotFoundError:
            return ""
        return hashlib.sha256(sums.encode()).hexdigest()[:DIGITS]
