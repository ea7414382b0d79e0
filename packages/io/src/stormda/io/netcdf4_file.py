"""What makes an HDF5 file a NetCDF-4 file: dimensions that have names, and numbers.

A dimension is a dataset marked as a scale, that of its coordinate variable where it has one. Every
variable is linked to the scales of its dimensions, and notes their numbers. The tests compare it
with what h5netcdf writes, which takes longer.

Source: NetCDF-4 file format, https://docs.unidata.ucar.edu/nug/current/file_format_specifications.html
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import h5py
import numpy as np
from numpy.typing import NDArray

_BARE = "This is a netCDF dimension but not a netCDF variable."


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


def describe(
    file: h5py.File, dimensions: Mapping[str, int], variables: Mapping[str, CFVariable]
) -> None:
    """Create dimensions and variables in an empty file, with the data that these have.

    Args:
        file: The file, open for writing.
        dimensions: The size of each.
        variables: Each variable. One named as a dimension has this dimension alone.

    Examples:
        >>> with h5py.File("a.nc", "w", driver="core", backing_store=False) as file:
        ...     x = CFVariable(dims=("x",), attributes={"units": "m"}, data=np.arange(3.0))
        ...     y = CFVariable(dims=("x",), attributes={"units": "K"})
        ...     describe(file, {"x": 3}, {"x": x, "y": y})
        ...     [dim[0].name for dim in file["y"].dims]
        ['/x']
    """
    libraries = f"h5py={h5py.__version__},hdf5={h5py.version.hdf5_version}"
    file.attrs["_NCProperties"] = np.bytes_(f"version=2,{libraries}")
    numbers = {dim: np.int32(i) for i, dim in enumerate(dimensions)}
    scales = {dim: _scale(file, dim, n, variables.get(dim)) for dim, n in dimensions.items()}
    for dim, scale in scales.items():
        scale.attrs["_Netcdf4Dimid"] = numbers[dim]
    for name, variable in variables.items():
        created = scales.get(name) or _linked(file, name, variable, scales)
        if variable.dims:
            created.attrs["_Netcdf4Coordinates"] = np.array([numbers[d] for d in variable.dims])
            created.attrs["_Netcdf4Dimid"] = numbers[variable.dims[0]]


def _scale(file: h5py.File, dim: str, size: int, variable: CFVariable | None) -> h5py.Dataset:
    """Create a dimension, which is its coordinate variable where there is one."""
    if variable is None:
        scale = file.create_dataset(dim, (size,), ">f4", track_order=True)
    else:
        scale = _create(file, dim, variable, (size,))
    scale.make_scale(dim if variable is not None else f"{_BARE}{size:10}")
    return scale


def _linked(
    file: h5py.File, name: str, variable: CFVariable, scales: Mapping[str, h5py.Dataset]
) -> h5py.Dataset:
    """Create a variable along dimensions."""
    created = _create(file, name, variable, tuple(len(scales[dim]) for dim in variable.dims))
    for i, dim in enumerate(variable.dims):
        created.dims[i].attach_scale(scales[dim])
    return created


def _create(
    file: h5py.File, name: str, variable: CFVariable, shape: tuple[int, ...]
) -> h5py.Dataset:
    options: dict[str, object] = {"chunks": variable.chunks}
    if variable.compression:
        options |= {"compression": "gzip", "compression_opts": variable.compression}
        options["shuffle"] = True
    if variable.chunks is not None:
        options["fletcher32"] = True  # a damaged piece is refused when it is read
    dtype = np.dtype(variable.dtype) if variable.data is None else variable.data.dtype
    created = file.create_dataset(
        name,
        shape,
        dtype,
        data=variable.data,
        fillvalue=variable.fill,
        track_order=True,
        **options,
    )
    if variable.fill is not None:
        created.attrs["_FillValue"] = np.array([variable.fill], dtype)
    for key, value in variable.attributes.items():
        created.attrs[key] = _attribute(value)
    return created


def _attribute(value: object) -> object:
    """Return an attribute as NetCDF has it, where a number is one of a list."""
    return np.atleast_1d(value) if np.isscalar(value) and not isinstance(value, str) else value
