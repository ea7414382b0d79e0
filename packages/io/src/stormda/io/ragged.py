"""Ragged arrays become plain lists of points.

Profiles and trajectories of different lengths are stored end to end, in one of two ways: a count
for each of them (contiguous), or the number of its profile for each point (indexed). Either way
what belongs to a whole profile is repeated on its points.

Source: CF Conventions 1.11, sections 9.3.3 and 9.3.4.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stormda.io.stored_cells import stored

if TYPE_CHECKING:
    import xarray as xr


def spread_instances(dataset: xr.Dataset) -> xr.Dataset:
    """Return a file with what belongs to each profile repeated along its points.

    Args:
        dataset: A file, undecoded; one without ragged arrays is returned as it is.

    Raises:
        ValueError: If counts or numbers do not fit the points.

    Examples:
        >>> import xarray as xr
        >>> counts = ("profile", np.array([1, 2]), {"sample_dimension": "obs"})
        >>> file = xr.Dataset(
        ...     {"rowSize": counts, "lat": ("profile", [50.0, 60.0]), "t": ("obs", np.zeros(3))})
        >>> spread_instances(file)["lat"].values
        array([50., 60., 60.])
    """
    for name, variable in dataset.variables.items():
        if "sample_dimension" in variable.attrs:
            sample = str(variable.attrs["sample_dimension"])
            return _spread(dataset, str(name), sample, _contiguous(dataset, str(name), sample))
        if "instance_dimension" in variable.attrs:
            instance = str(variable.attrs["instance_dimension"])
            numbers = _indexed(dataset, str(name), instance)
            return _spread(dataset, instance, str(variable.dims[0]), numbers)
    return dataset


def _spread(dataset: xr.Dataset, name: str, sample: str, numbers: NDArray[np.int64]) -> xr.Dataset:
    import xarray as xr  # long to import, and only open files need it

    instance = str(dataset[name].dims[0]) if name in dataset.variables else name
    along = xr.DataArray(numbers, dims=sample)
    return dataset.drop_vars([n for n in (instance, sample) if n in dataset.indexes]).isel(
        {instance: along}
    )


def _contiguous(dataset: xr.Dataset, name: str, sample: str) -> NDArray[np.int64]:
    """Return the number of each point's profile, from the profiles' lengths."""
    if sample not in dataset.sizes or dataset[name].ndim != 1:
        raise ValueError(
            f"{name}: expected the counts of points along {sample!r}, got {dataset[name].dims}"
        )
    counts = _whole(dataset, name)
    if counts.min(initial=0) < 0 or counts.sum() != dataset.sizes[sample]:
        raise ValueError(
            f"{name}: expected counts that sum to the {dataset.sizes[sample]} points along "
            f"{sample!r}, got {counts.sum()}"
        )
    return np.repeat(np.arange(len(counts)), counts)


def _indexed(dataset: xr.Dataset, name: str, instance: str) -> NDArray[np.int64]:
    """Return the number of each point's profile, as it is stored."""
    if instance not in dataset.sizes or dataset[name].ndim != 1:
        raise ValueError(
            f"{name}: expected the numbers of instances along {instance!r}, "
            f"got dimensions {sorted(map(str, dataset.sizes))}"
        )
    numbers, size = _whole(dataset, name), dataset.sizes[instance]
    if len(numbers) and not 0 <= numbers.min() <= numbers.max() < size:
        raise ValueError(
            f"{name}: expected numbers from 0 to {size - 1}, "
            f"got {numbers.min()} to {numbers.max()}"
        )
    return numbers


def _whole(dataset: xr.Dataset, name: str) -> NDArray[np.int64]:
    values = stored(dataset.variables[name], name)
    if values.dtype.kind not in "iu":
        raise ValueError(f"{name}: expected whole numbers, got values of type {values.dtype.name}")
    return values.astype(np.int64)
