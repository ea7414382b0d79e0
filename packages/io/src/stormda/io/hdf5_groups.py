"""A NetCDF or HDF5 file whose variables lie in groups, as one list of variables.

A variable's name is its path, `"ObsValue/airTemperature"`. Dimensions keep their own names, since
those of IODA files are shared by all groups.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import h5py

from stormda.io.damage import reported_as_damage
from stormda.io.files import lazy_hdf5, open_raw

if TYPE_CHECKING:
    import xarray as xr

HDF5 = b"\x89HDF\r\n\x1a\n"
"""How an HDF5 file starts."""


@contextmanager
def open_groups(path: Path) -> Iterator[xr.Dataset]:
    """Open a file with all its groups, lazily, with every value as it is stored.

    Args:
        path: The file.

    Raises:
        ValueError: If the file is not NetCDF or HDF5, or is truncated or damaged.
    """
    with ExitStack() as stack:
        merged = stack.enter_context(open_raw(path))
        with reported_as_damage(str(path)):
            for group in group_names(path):
                dataset = lazy_hdf5(path, stack, group)
                merged = _with_group(merged, dataset, group)
        yield merged


def group_names(path: Path) -> list[str]:
    """Return the paths of the groups of an HDF5 file that hold data, none for other files.

    Raises:
        ValueError: If the file is truncated or damaged.
    """
    if not _is_hdf5(path):
        return []
    found: list[str] = []

    def visit(name: str, item: h5py.Group | h5py.Dataset) -> None:
        parent = name.rpartition("/")[0]
        if isinstance(item, h5py.Dataset) and parent and parent not in found:
            found.append(parent)

    with reported_as_damage(str(path)), h5py.File(path, "r") as file:
        file.visititems(visit)
    return found


def _is_hdf5(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(HDF5)) == HDF5


def _with_group(merged: xr.Dataset, dataset: xr.Dataset, group: str) -> xr.Dataset:
    """Return a dataset with the variables of one group more."""
    plain = dataset.drop_indexes([*dataset.indexes]).reset_coords()
    own = {str(name): v for name, v in plain.variables.items()}
    sizes = {**merged.sizes}
    for variable in own.values():
        clash = [
            d for d, n in zip(variable.dims, variable.shape, strict=True) if sizes.get(d, n) != n
        ]
        names = {d: f"{group}/{d}" for d in clash}
        variable.dims = tuple(names.get(d, d) for d in variable.dims)
    return merged.assign({f"{group}/{name}": variable for name, variable in own.items()})
