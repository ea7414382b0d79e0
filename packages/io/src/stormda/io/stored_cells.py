"""The variables of a NetCDF or HDF5 file as columns: decoded, and spread out to one length.

time (profile)       ->  time of each level of each profile
level (level)        ->  level of each level of each profile
t (profile, level)   ->  as it is, row by row
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stormda.io.columns import Columns, times_since
from stormda.io.damage import reported_as_damage
from stormda.io.decoding import decode_exactly

if TYPE_CHECKING:
    import xarray as xr


def stored(variable: xr.Variable, name: str) -> NDArray[Any]:
    """Return the values of a variable as they are stored.

    Raises:
        ValueError: If the file is damaged where they are.
    """
    with reported_as_damage(name):
        return np.asarray(variable.values)


def columns_of(dataset: xr.Dataset, names: Iterable[str]) -> Columns:
    """Return variables as columns of one length.

    Args:
        dataset: The file, undecoded.
        names: Of its variables.

    Raises:
        ValueError: If a variable cannot be decoded, or runs along dimensions that the
            largest of them does not have.
    """
    letters = _letter_dimensions(dataset)
    chosen = {name: dataset.variables[name] for name in names}
    decoded = {name: _decoded(variable, name, letters) for name, variable in chosen.items()}
    sizes = _common_sizes(dataset, {name: dims for name, (dims, _) in decoded.items()})
    return Columns(
        cells={name: _spread(values, dims, sizes) for name, (dims, values) in decoded.items()},
        units={name: str(v.attrs["units"]) for name, v in chosen.items() if "units" in v.attrs},
    )


def _letter_dimensions(dataset: xr.Dataset) -> set[str]:
    """Return the dimensions that only run along the letters of texts."""
    texts: set[str] = set()
    others: set[str] = set()
    for variable in dataset.variables.values():
        dims = [str(dim) for dim in variable.dims]
        letters = variable.dtype == np.dtype("S1")
        texts |= set(dims[-1:]) if letters else set()
        others |= set(dims[:-1]) if letters else set(dims)
    return texts - others


def _decoded(
    variable: xr.Variable, name: str, letters: set[str]
) -> tuple[tuple[str, ...], NDArray[Any]]:
    """Return a variable's dimensions, without that of letters, and its decoded values."""
    dims, values = tuple(str(dim) for dim in variable.dims), stored(variable, name)
    if values.dtype.kind in "SUO":
        joined = dims and dims[-1] in letters
        return (dims[:-1] if joined else dims), text_of(values, joined=bool(joined))
    units = str(variable.attrs.get("units", ""))
    try:
        numbers, valid = decode_exactly(values, variable.attrs)
        numbers = np.where(valid, numbers, np.nan)
        if " since " not in units:
            return dims, numbers
        calendar = str(variable.attrs.get("calendar", "standard"))
        return dims, times_since(numbers, units, calendar)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def text_of(values: NDArray[Any], *, joined: bool) -> NDArray[np.str_]:
    """Return texts, stripped; put together where a file holds them letter by letter.

    Args:
        values: Bytes, texts, or objects of either.
        joined: Whether the last dimension runs along the letters.
    """
    if joined and values.shape[-1] == 0:
        return np.full(values.shape[:-1], "", np.str_)
    if joined:
        width = values.shape[-1]
        values = np.ascontiguousarray(values).view(f"S{width}").reshape(values.shape[:-1])
    if values.dtype.kind == "O":
        texts = [_as_text(value) for value in values.ravel().tolist()]
        values = np.array(texts, np.str_).reshape(values.shape)
    if values.dtype.kind == "S":
        values = np.char.decode(values, "utf-8", "replace")
    return np.char.strip(values, " \t\r\n\0")


def _as_text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _common_sizes(dataset: xr.Dataset, dims: Mapping[str, tuple[str, ...]]) -> dict[str, int]:
    """Return the sizes of the dimensions that variables run along: those of one of them."""
    largest = max(dims, key=lambda name: len(dims[name]))
    for name, own in dims.items():
        if not set(own) <= set(dims[largest]):
            raise ValueError(
                f"{name}: expected dimensions among those of {largest!r}, {dims[largest]}, "
                f"got {own}"
            )
    return {dim: int(dataset.sizes[dim]) for dim in dims[largest]}


def _spread(values: NDArray[Any], dims: tuple[str, ...], sizes: Mapping[str, int]) -> NDArray[Any]:
    """Repeat values along the dimensions that they do not have, and list them row by row."""
    order = [dim for dim in sizes if dim in dims]
    ordered = values.transpose([dims.index(dim) for dim in order])
    shape = [size if dim in dims else 1 for dim, size in sizes.items()]
    return np.broadcast_to(ordered.reshape(shape), tuple(sizes.values())).ravel()
