"""Coordinates of the cells, read and checked: degrees, metres, and their bounds."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from stormda.io.decoding import decode_exactly
from stormda.io.units import convert, parse_unit

if TYPE_CHECKING:
    import xarray as xr

EVEN = 1e-3
"""How much the steps of a plane's coordinate may differ: it may be float32 [steps]."""

_LIMITS = {"latitude": (-90.0, 90.0), "longitude": (-360.0, 720.0)}

Angle = Literal["latitude", "longitude"]


def finite_coordinate(dataset: xr.Dataset, name: str) -> NDArray[np.float64]:
    """Return a coordinate in float64, refusing missing values.

    Raises:
        ValueError: If a value is NaN, infinite, or a fill value.
    """
    values, valid = decode_exactly(dataset[name].values, dataset[name].attrs)
    bad = ~valid | ~np.isfinite(values)
    if bad.any():
        index = tuple(int(i) for i in np.argwhere(bad)[0])
        raise ValueError(
            f"coordinate {name!r}: expected finite numbers, got {int(bad.sum())} missing, "
            f"the first at index {index}"
        )
    return values


def degrees(dataset: xr.Dataset, name: str, which: Angle) -> NDArray[np.float64]:
    """Return a latitude or longitude in degrees, within the range that it can have.

    Raises:
        ValueError: If a value is missing or out of range, or the numbers have no units and look
            like radians.
    """
    values = finite_coordinate(dataset, name)
    units = str(dataset[name].attrs.get("units", ""))
    if not units and which == "latitude" and values.size and _like_radians(values):
        raise ValueError(
            f"{which} {name!r}: expected units, got none for values from {values.min():g} to "
            f"{values.max():g}, which look like radians"
        )
    angles = convert(values, units or "degrees", "degree")
    low, high = _LIMITS[which]
    if angles.size and (angles.min() < low or angles.max() > high):
        raise ValueError(
            f"{which} {name!r}: expected degrees between {low:g} and {high:g}, "
            f"got {angles.min():g} to {angles.max():g}"
        )
    return angles


def coordinate_bounds(
    dataset: xr.Dataset, name: str, count: int | None
) -> NDArray[np.float64] | None:
    """Return the bounds that a coordinate names, shape (..., count); None without usable ones.

    Args:
        dataset: The file, undecoded.
        name: The coordinate.
        count: How many each cell has; None for any number from 3 on.
    """
    bounds = str(dataset[name].attrs.get("bounds", ""))
    if bounds not in dataset.variables:
        return None
    *cells, each = dataset[bounds].shape or (0,)
    if tuple(cells) != dataset[name].shape or (each != count if count else each < 3):
        return None
    return finite_coordinate(dataset, bounds)


def is_list_in_time(dataset: xr.Dataset, dim: str) -> bool:
    """Tell whether a list of places is one of observations: each has its own time or type."""
    dated = any(
        variable.dims == (dim,) and " since " in str(variable.attrs.get("units", ""))
        for variable in dataset.variables.values()
    )
    return dated or "featureType" in dataset.attrs


def metres(dataset: xr.Dataset, name: str) -> NDArray[np.float64]:
    """Return a coordinate in evenly spaced, increasing metres.

    Raises:
        ValueError: If it has other units or is not even.
    """
    units = str(dataset[name].attrs.get("units", ""))
    if parse_unit(units).dimension != {"m": 1}:
        raise ValueError(
            f"coordinate {name!r}: expected latitude or longitude in degrees, or metres, "
            f"got units {units!r}"
        )
    values = convert(finite_coordinate(dataset, name), units, "m")
    steps = np.diff(values)
    usual = abs(float(values[-1] - values[0])) / max(1, len(steps))
    if len(values) < 2 or not usual or not np.allclose(steps / usual, 1, rtol=0, atol=EVEN):
        raise ValueError(
            f"coordinate {name!r}: expected increasing, evenly spaced metres, "
            f"got {len(values)} values from {values[0]:g} to {values[-1]:g}"
        )
    return values


def _like_radians(values: NDArray[np.float64]) -> bool:
    """Tell whether latitudes go from near one pole to near the other, in radians."""
    reach = np.abs(values).max()
    return bool(1.3 < reach <= math.pi / 2 + 1e-6 and np.ptp(values) > 2.6)
