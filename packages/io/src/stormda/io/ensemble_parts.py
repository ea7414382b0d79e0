"""An ensemble that many processes write at once, and that is there when all of it is.

Every process writes its regions as NetCDF parts into one folder. A part is named after its region
and the SHA-256 of its bytes and put in place by a rename, so that it is there and whole or not
there. `finish` checks that the parts are all of the ensemble, every number once, and writes the
file: a virtual one that refers to the parts, or one that holds the numbers. A process that was
killed starts again and writes what `missing` says.

The folder is named after the run; a file that another run finished keeps its own parts.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from h5py import h5d, h5p, h5s, h5t
from numpy.typing import ArrayLike, NDArray

from stormda.io.atomic import atomic_path, put_in_place, refuse_existing
from stormda.io.cf_file import CFLayout, CFVariable, create_cf
from stormda.io.files import sha256
from stormda.io.guarded_file import guarded_file
from stormda.io.layout import FieldAxes, VariableAttributes, field_layout, require_storable
from stormda.io.regions import Region, region_of, require_inside, require_whole
from stormda.io.rounding import FRACTION, bit_round, with_bits

_DIGITS = 16
"""Hexadecimal digits of the checksum in a part's name."""


@dataclass(frozen=True, eq=False, kw_only=True)
class EnsembleParts:
    """Writes an ensemble region by region, from any number of processes.

    Examples:
        >>> import tempfile
        >>> from stormda.grid import LatLonGrid
        >>> from stormda.io import read_ensemble
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

    path: str | Path
    """The file."""

    axes: FieldAxes
    """Members, times, levels and grid of the whole."""

    variables: Sequence[str]
    """The variables; one with levels is named in `leveled`."""

    attributes: VariableAttributes
    """The CF attributes of each variable; `units` is required."""

    run: Mapping[str, Any]
    """What makes the run what it is (settings, seeds, inputs), as JSON can hold it: parts of
    another run are not taken for its own."""

    leveled: Sequence[str] = ()
    """The variables that have levels."""

    provenance: Mapping[str, Any] = field(default_factory=dict)
    """Where the numbers come from; `run` is added to it."""

    compression: int = 0
    """The level of gzip, 1 to 9; 0 for none."""

    bits: Mapping[str, int] = field(default_factory=dict)
    """The bits of fraction that are kept of a variable, from 1 to 23; all by default."""

    overwrite: bool = False
    """Whether an existing file may be replaced, by the whole new one."""

    def __post_init__(self) -> None:
        """Refuse an existing output, and what is no ensemble, before anything is computed."""
        if self.axes.members is None:
            raise ValueError("axes: expected members, got none")
        for name in self.bits:
            bit_round(np.zeros(1, np.float32), self.bits[name])
        self._layout()
        refuse_existing(Path(self.path), overwrite=self.overwrite)

    @property
    def folder(self) -> Path:
        """Where the parts of this run are."""
        said = {
            "run": self.run,
            "shape": self._shape,
            "bits": dict(self.bits),
            "variables": [*self.variables],
            "compression": self.compression,
        }
        text = json.dumps(said, sort_keys=True, default=str)
        digest = hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]
        path = Path(self.path)
        return path.with_name(f"{path.name}.parts-{digest}")

    def region(
        self,
        *,
        members: tuple[int, int] | None = None,
        times: tuple[int, int] | None = None,
        rows: tuple[int, int] | None = None,
        cols: tuple[int, int] | None = None,
    ) -> Region:
        """Return a region, half-open; whole in every direction that is not named.

        Raises:
            ValueError: If it is empty or leaves the ensemble.
        """
        given = (members, times, rows, cols)
        spans = [(0, n) if g is None else g for g, n in zip(given, self._shape, strict=True)]
        region = Region(*spans)
        require_inside(region, self._shape)
        return region

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
        if sorted(fields) != sorted(self.variables):
            raise ValueError(
                f"fields: expected the variables {sorted(self.variables)}, got {sorted(fields)}"
            )
        arrays = {name: self._storable(name, np.asarray(x), region) for name, x in fields.items()}
        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = self.folder / f".{secrets.token_hex(8)}.tmp"
        try:
            _write_part(temporary, arrays, self.compression)
            name = f"{region.name}-{sha256(temporary)[:_DIGITS]}.h5"
            put_in_place(temporary, self.folder / name)
        finally:
            temporary.unlink(missing_ok=True)
        for other in self.folder.glob(f"{region.name}-*.h5"):
            if other.name != name:
                other.unlink(missing_ok=True)

    def completed(self) -> list[Region]:
        """Return the regions that are stored and intact; every part is read to see."""
        return sorted(region for region, path in self._parts() if _is_intact(path))

    def missing(self, regions: Iterable[Region]) -> list[Region]:
        """Return which of the regions are still to be written."""
        there = set(self.completed())
        return [region for region in regions if region not in there]

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
                        file.variables[name][self._slices(name, region)] = part[name][...]
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
            where = [
                slice(*s.indices(n))
                for s, n in zip(self._slices(name, region), shape, strict=True)
            ]
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

    @property
    def _shape(self) -> tuple[int, int, int, int]:
        members, times, rows, cols = self.axes.shape
        return members, times, rows, cols

    def _shape_of(self, name: str) -> tuple[int, ...]:
        return self.axes.shape_with_levels if name in set(self.leveled) else self.axes.shape

    def _slices(self, name: str, region: Region) -> tuple[slice, ...]:
        """Return where a region of a variable lies, levels included."""
        m, t, y, x = region.slices
        return (m, t, slice(None), y, x) if name in set(self.leveled) else (m, t, y, x)

    def _storable(self, name: str, values: NDArray[Any], region: Region) -> NDArray[np.float32]:
        sizes = (
            len(range(*s.indices(n)))
            for s, n in zip(self._slices(name, region), self._shape_of(name), strict=True)
        )
        expected = tuple(sizes)
        if values.shape != expected:
            raise ValueError(f"fields: expected shape {expected} for {name!r}, got {values.shape}")
        return bit_round(require_storable(name, values), self.bits.get(name, FRACTION))

    def _layout(self) -> CFLayout:
        return field_layout(
            self.axes,
            {name: self._shape_of(name) for name in self.variables},
            with_bits(self.attributes, self.bits),
            {**self.provenance, "run": dict(self.run)},
            self.compression,
        )

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
            file.create_dataset(name, data=array, chunks=chunks, fletcher32=True, **options)


def _is_intact(path: Path) -> bool:
    try:
        return path.stem.endswith(f"-{sha256(path)[:_DIGITS]}")
    except FileNotFoundError:  # another process replaced it meanwhile
        return False
