"""An ensemble that many processes write at once, and that is there when all of it is.

Every process writes its regions as NetCDF parts into one folder. A part is named after its region
and the SHA-256 of its bytes and put in place by a rename, so that it is there and whole or not
there. `finish` checks that the parts are all of the ensemble, every number once, and writes the
file: a virtual one that refers to the parts, or one that holds the numbers. A process that was
killed starts again and writes what `missing` says.

The folder is named after the run; a file that another run finished keeps its own parts.
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import h5py
import numpy as np
from h5py import h5d, h5p, h5s, h5t
from numpy.typing import ArrayLike, NDArray

from stormda.io.atomic import atomic_path, put_in_place
from stormda.io.cf_file import CFVariable, create_cf
from stormda.io.files import sha256
from stormda.io.guarded_file import guarded_file
from stormda.io.region_writer import DIGITS, RegionWriter
from stormda.io.regions import Region, region_of, require_inside, require_whole
from stormda.io.whole_chunks import write_part


@dataclass(frozen=True, eq=False, kw_only=True)
class EnsembleParts(RegionWriter):
    """Writes an ensemble region by region, from any number of processes.

    Examples:
        >>> import tempfile
        >>> from stormda.grid import LatLonGrid
        >>> from stormda.io import FieldAxes, read_ensemble
        >>> axes = FieldAxes(times=np.array(["2000-01-01"], "M8[s]"), members=np.arange(4),
        ...                  grid=LatLonGrid([0.0, 1.0], [0.0, 1.0, 2.0]))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     out = EnsembleParts(path=Path(folder, "a.nc"), axes=axes, variables=["t2m"],
        ...                         attributes={"t2m": {"units": "K"}}, run={"seed": 1})
        ...     for member in range(4):  # each in a process of its own
        ...         out.write({"t2m": np.full((1, 1, 2, 3), 280.0 + member)},
        ...                   out.region(members=(member, member + 1)))
        ...     out.finish()
        ...     ensemble = read_ensemble(out.path)
        >>> ensemble.fields["t2m"][:, 0, 0, 0]
        array([280., 281., 282., 283.], dtype=float32)
    """

    @property
    def folder(self) -> Path:
        """Where the parts of this run are."""
        return self._folder_of_run("parts")

    def write(self, fields: Mapping[str, ArrayLike], region: Region) -> None:
        """Store a region: it is on the disk when this returns.

        Args:
            fields: Every variable, shape (member, time, [level,] rows, cols) of the region, NaN
                for missing.
            region: Where it belongs; regions of different processes must not overlap.

        Raises:
            ValueError: If a variable is missing or has another shape, or a value is infinite.
        """
        require_inside(region, self._shape)
        arrays = self._storable(fields, region)
        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = self.folder / f".{secrets.token_hex(8)}.tmp"
        try:
            _write_part(temporary, arrays, self.compression)
            name = f"{region.name}-{sha256(temporary)[:DIGITS]}.h5"
            put_in_place(temporary, self.folder / name)
        finally:
            temporary.unlink(missing_ok=True)
        for other in self.folder.glob(f"{region.name}-*.h5"):
            if other.name != name:
                other.unlink(missing_ok=True)

    def completed(self) -> list[Region]:
        """Return the regions that are stored and intact; every part is read to see."""
        return sorted(region for region, path in self._parts() if _is_intact(path))

    def finish(self, *, virtual: bool = True) -> None:
        """Write the file, which appears complete or not at all.

        One process does so, when all others are done.

        Args:
            virtual: Whether the file refers to the parts, which then stay where they are; else it
                holds the numbers, and the parts are removed.

        Raises:
            FileExistsError: If the file exists and may not be replaced.
            ValueError: If a number is missing or comes twice.
        """
        parts = {region: path for region, path in self._parts() if _is_intact(path)}
        require_whole(parts, self._shape)
        if virtual:
            self._link(parts)
            return
        with create_cf(self.path, self._layout(), overwrite=self.overwrite) as file:
            for region, path in sorted(parts.items()):
                with h5py.File(path, "r") as part:
                    for name in self.variables:
                        write_part(file[name], self._slices(name, region), part[name][...])
        shutil.rmtree(self.folder)

    def _link(self, parts: Mapping[Region, Path]) -> None:
        """Write a file whose fields lie in the parts."""
        layout = self._layout()
        own = {n: v for n, v in layout.variables.items() if n not in set(self.variables)}
        with atomic_path(self.path, overwrite=self.overwrite) as temporary:
            with create_cf(temporary, replace(layout, variables=own), overwrite=False):
                pass
            with guarded_file(temporary, "r+b") as raw, h5py.File(raw, "r+") as file:
                for name in self.variables:
                    self._link_variable(file, name, layout.variables[name], parts)

    def _link_variable(
        self, file: h5py.File, name: str, variable: CFVariable, parts: Mapping[Region, Path]
    ) -> None:
        shape = self._shape_of(name)
        space, how = h5s.create_simple(shape), h5p.create(h5p.DATASET_CREATE)
        how.set_obj_track_times(False)  # the same parts give the same bytes
        how.set_fill_value(np.array(np.nan, np.float32))
        for region, path in sorted(parts.items()):
            where = self._slices(name, region)
            size = tuple(s.stop - s.start for s in where)
            there = h5s.create_simple(shape)
            there.select_hyperslab(tuple(s.start for s in where), size)
            source = f"{self.folder.name}/{path.name}".encode()
            how.set_virtual(there, source, name.encode(), h5s.create_simple(size))
        linked = h5py.Dataset(h5d.create(file.id, name.encode(), h5t.IEEE_F32LE, space, dcpl=how))
        linked.attrs["_FillValue"] = np.array([np.nan], np.float32)
        for i, dim in enumerate(variable.dims):
            linked.dims[i].attach_scale(file[dim])
        linked.attrs.update(variable.attributes)

    def _parts(self) -> Iterator[tuple[Region, Path]]:
        """Yield the stored regions, intact or not."""
        for path in sorted(self.folder.glob("*.h5")):
            region = region_of(path.stem.rpartition("-")[0])
            if region is not None:
                yield region, path


def _write_part(path: Path, arrays: Mapping[str, NDArray[np.float32]], compression: int) -> None:
    packed = {"compression": "gzip", "compression_opts": compression, "shuffle": True}
    with (
        guarded_file(path, "w+b") as raw,
        h5py.File(raw, "w", libver=("v108", "v110")) as file,
    ):
        for name, array in arrays.items():
            chunks = (*(1 for _ in array.shape[:-2]), *array.shape[-2:])
            options = packed if compression else {}
            created = file.create_dataset(
                name, array.shape, array.dtype, chunks=chunks, fletcher32=True, **options
            )
            write_part(created, (), array)


def _is_intact(path: Path) -> bool:
    try:
        return path.stem.endswith(f"-{sha256(path)[:DIGITS]}")
    except FileNotFoundError:  # another process replaced it meanwhile
        return False
