"""Writing one NetCDF-4 file by the CF conventions: all of it, or nothing.

A file is described first, by its dimensions and variables, and then filled; both inside
`atomic_path`. h5netcdf describes it, in the HDF5 format of 2008 that every NetCDF-4 library reads,
and h5py fills it.

Source: CF Conventions 1.11, https://cfconventions.org
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import h5netcdf
import h5py
import numpy as np
from numpy.typing import NDArray

from stormda.io.atomic import atomic_path
from stormda.io.files import open_raw
from stormda.io.guarded_file import guarded_file

CONVENTIONS = "CF-1.11"
"""The version of the CF conventions that files are written by."""

PROVENANCE = "provenance"
"""The global attribute that holds, as JSON, where a file's numbers come from."""

_DESCRIPTIONS = ("title", "institution", "source", "history", "references", "comment")

_LIBVER = ("v108", "v110")


@dataclass(frozen=True, eq=False, kw_only=True)
class CFVariable:
    """A variable to be written."""

    dims: tuple[str, ...]
    """The names of its dimensions."""

    attributes: Mapping[str, object]
    """Its CF attributes."""

    data: NDArray[np.generic] | None = None
    """Its values; None if they are filled in later."""

    dtype: str = "f4"
    """The type it is stored as, where it has no data yet."""

    fill: float | None = None
    """What stands for a missing value; None if nothing may be missing."""

    chunks: tuple[int, ...] | None = None
    """The sizes of the pieces that are stored, and compressed, together."""

    compression: int = 0
    """The level of gzip, 1 to 9; 0 for none."""


@dataclass(frozen=True, eq=False, kw_only=True)
class CFLayout:
    """What a file is to hold."""

    dimensions: Mapping[str, int]
    """The size of each dimension."""

    variables: Mapping[str, CFVariable]
    """Each variable."""

    attributes: Mapping[str, object] = field(default_factory=dict)
    """The global attributes beside `Conventions` and those of the provenance."""

    provenance: Mapping[str, Any] = field(default_factory=dict)
    """Where the numbers come from: anything that JSON can hold."""


@contextmanager
def create_cf(path: str | Path, layout: CFLayout, *, overwrite: bool) -> Iterator[h5py.File]:
    """Create a file and yield it, open, to be filled; it appears when the block ends.

    The provenance is stored as one JSON text. Those of its entries that CF has a name for (title,
    institution, source, history, references, comment) become attributes of their own too.

    Args:
        path: The file.
        layout: What it holds.
        overwrite: Whether an existing file may be replaced.

    Raises:
        FileExistsError: If `path` exists and `overwrite` is false.
    """
    attributes = {**global_attributes(layout.provenance), **layout.attributes}
    with (
        atomic_path(path, overwrite=overwrite) as temporary,
        guarded_file(temporary, "w+b") as raw,
        h5py.File(raw, "w", libver=_LIBVER, track_order=True) as file,
    ):
        with h5netcdf.File(file, "w") as described:
            described.dimensions = dict(layout.dimensions)
            described.attrs.update(attributes)
            for name, variable in layout.variables.items():
                _create(described, name, variable)
        yield file


def read_provenance(path: str | Path) -> dict[str, Any]:
    """Return the provenance that a file of this package was written with.

    Args:
        path: The file.

    Raises:
        ValueError: If it is not NetCDF or holds no provenance.

    Examples:
        >>> import tempfile
        >>> layout = CFLayout(dimensions={}, variables={}, provenance={"seed": 7})
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with create_cf(Path(folder, "a.nc"), layout, overwrite=False):
        ...         pass
        ...     read_provenance(Path(folder, "a.nc"))
        {'seed': 7}
    """
    with open_raw(Path(path)) as dataset:
        text = dataset.attrs.get(PROVENANCE)
    if not isinstance(text, str):
        raise ValueError(f"{path}: expected a global attribute {PROVENANCE!r}, got none")
    provenance: dict[str, Any] = json.loads(text)
    return provenance


def global_attributes(provenance: Mapping[str, Any]) -> dict[str, str]:
    """Return the attributes that a file says of itself."""
    described = {name: str(provenance[name]) for name in _DESCRIPTIONS if name in provenance}
    writer = _writer()
    return {
        "Conventions": CONVENTIONS,
        "title": "Earth-system data",
        "history": f"written by {writer}",
        "source": writer,
        **described,
        PROVENANCE: json.dumps(provenance, sort_keys=True),
    }


@cache
def _writer() -> str:
    return f"stormda-io {version('stormda-io')}"


def _create(file: h5netcdf.File, name: str, variable: CFVariable) -> None:
    options: dict[str, object] = {}
    if variable.compression:
        options = {
            "compression": "gzip",
            "compression_opts": variable.compression,
            "shuffle": True,
        }
    if variable.chunks is not None:
        options["fletcher32"] = True  # a damaged piece is refused when it is read
    created = file.create_variable(
        name,
        variable.dims,
        dtype=variable.dtype if variable.data is None else variable.data.dtype,
        data=variable.data,
        fillvalue=None if variable.fill is None else np.float32(variable.fill),
        chunks=variable.chunks,
        **options,
    )
    created.attrs.update(variable.attributes)
