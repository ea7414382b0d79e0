"""Ensembles and fields in and out of CF files.

A file carries the grid, the times and the provenance, so that reading it gives back what was
written. Fields without members, such as a truth, have the same layout without `realization`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stormda.grid import LatLonGrid, PlaneGrid
from stormda.io.cf_file import create_cf, read_provenance
from stormda.io.index import LevelAxis
from stormda.io.layout import (
    FieldAxes,
    VariableAttributes,
    field_layout,
    increasing_times,
    require_storable,
)
from stormda.io.store import Store, open_store
from stormda.io.whole_chunks import write_part


@dataclass(frozen=True, eq=False, kw_only=True)
class Ensemble:
    """What `read_ensemble` returns."""

    fields: dict[str, NDArray[np.float32]]
    """Each variable, shape (realization, time, [level,] rows, columns), NaN where missing."""

    axes: FieldAxes
    """Members, times, levels and grid."""

    units: dict[str, str]
    """The units of each variable."""

    provenance: dict[str, Any]
    """Where the numbers come from."""


def write_ensemble(
    path: str | Path,
    fields: Mapping[str, ArrayLike],
    *,
    times: ArrayLike,
    grid: LatLonGrid | PlaneGrid,
    attributes: VariableAttributes,
    levels: LevelAxis | None = None,
    members: ArrayLike | None = None,
    provenance: Mapping[str, Any] | None = None,
    compression: int = 0,
    overwrite: bool = False,
) -> None:
    """Write an ensemble to a CF NetCDF-4 file, which appears complete or not at all.

    Args:
        path: The file.
        fields: Each variable, shape (realization, time, [level,] rows, columns), NaN for missing.
        times: The valid times, shape (time,), increasing.
        grid: The horizontal grid.
        attributes: The CF attributes of each variable; `units` is required, `standard_name` and
            `long_name` are welcome.
        levels: The vertical axis, if a field has one.
        members: The members' numbers, shape (realization,); 0, 1, ... by default.
        provenance: Where the numbers come from (seeds of the members, settings, input files with
            their SHA-256, versions, commit): anything that JSON can hold. Entries that CF has a
            name for, such as `title` and `history`, become global attributes too.
        compression: The level of gzip, 1 to 9; 0 for none.
        overwrite: Whether an existing file may be replaced.

    Raises:
        FileExistsError: If the file exists and may not be replaced.
        ValueError: If a shape, a value, the times or the attributes are not usable.

    Examples:
        >>> import tempfile
        >>> theta = np.zeros((3, 2, 4, 4), np.float32)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "analysis.nc")
        ...     write_ensemble(path, {"theta": theta}, grid=PlaneGrid((4, 4), (1e5, 1e5)),
        ...                    times=np.array(["2000-01-01", "2000-01-02"], "datetime64[s]"),
        ...                    attributes={"theta": {"units": "K"}}, provenance={"seed": 1})
        ...     ensemble = read_ensemble(path)
        >>> ensemble.fields["theta"].shape, ensemble.provenance
        ((3, 2, 4, 4), {'seed': 1})
    """
    arrays = {name: np.asarray(values) for name, values in fields.items()}
    count = next((array.shape[0] for array in arrays.values() if array.ndim), 0)
    numbers = np.arange(count) if members is None else np.asarray(members, np.int64)
    axes = FieldAxes(times=increasing_times(times), grid=grid, members=numbers, levels=levels)
    _write(path, arrays, axes, attributes, provenance or {}, compression, overwrite=overwrite)


def write_fields(
    path: str | Path,
    fields: Mapping[str, ArrayLike],
    *,
    times: ArrayLike,
    grid: LatLonGrid | PlaneGrid,
    attributes: VariableAttributes,
    levels: LevelAxis | None = None,
    provenance: Mapping[str, Any] | None = None,
    compression: int = 0,
    overwrite: bool = False,
) -> None:
    """Write fields without an ensemble, `(time, [level,] rows, columns)`.

    The arguments and errors are those of `write_ensemble`.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "truth.nc")
        ...     write_fields(path, {"theta": np.ones((1, 4, 4))},
        ...                  grid=PlaneGrid((4, 4), (1e5, 1e5)),
        ...                  times=np.array(["2000-01-01"], "datetime64[s]"),
        ...                  attributes={"theta": {"units": "K"}})
        ...     values, mask = open_store(path).read("theta")
        >>> values.shape, bool(mask.all())
        ((1, 4, 4), True)
    """
    arrays = {name: np.asarray(values) for name, values in fields.items()}
    axes = FieldAxes(times=increasing_times(times), grid=grid, levels=levels)
    _write(path, arrays, axes, attributes, provenance or {}, compression, overwrite=overwrite)


def read_ensemble(path: str | Path) -> Ensemble:
    """Read a whole ensemble that `write_ensemble` wrote.

    Args:
        path: The file.

    Raises:
        FileNotFoundError: If it is not there.
        ValueError: If it is not NetCDF, or has no ensemble dimension.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "analysis.nc")
        ...     write_ensemble(path, {"theta": np.ones((2, 1, 4, 4))}, times=["2000-01-01"],
        ...                    grid=PlaneGrid((4, 4), (1e5, 1e5)), members=[7, 8],
        ...                    attributes={"theta": {"units": "K"}})
        ...     ensemble = read_ensemble(path)
        >>> ensemble.axes.members, ensemble.units
        (array([7, 8]), {'theta': 'K'})
    """
    store = open_store(path, units="as_is")
    if not len(store.members):
        raise ValueError(f"{path}: expected an ensemble dimension, got none")
    levels = next(iter(store.levels.values()), None)
    return Ensemble(
        fields={name: _with_nan(store, name) for name in store.variables},
        axes=FieldAxes(times=store.times, grid=store.grid, members=store.members, levels=levels),
        units={name: meta.units for name, meta in store.variables.items()},
        provenance=read_provenance(path),
    )


def _write(
    path: str | Path,
    arrays: Mapping[str, NDArray[np.generic]],
    axes: FieldAxes,
    attributes: VariableAttributes,
    provenance: Mapping[str, Any],
    compression: int,
    *,
    overwrite: bool,
) -> None:
    shapes = {name: array.shape for name, array in arrays.items()}
    layout = field_layout(axes, shapes, attributes, provenance, compression)
    with create_cf(path, layout, overwrite=overwrite) as file:
        for name, array in arrays.items():
            for i, part in enumerate(array):  # looked at while the one before goes to the disk
                write_part(file[name], (i,), require_storable(name, part, (i,)))


def _with_nan(store: Store, name: str) -> NDArray[np.float32]:
    values, valid = store.read(name)
    return np.where(valid, values, np.float32(np.nan))
