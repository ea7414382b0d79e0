"""Reading observations from NetCDF: any list of points with time, latitude and longitude.

Time runs along the points' dimension; positions run along it too or are fixed, as at a station.
Coordinates may be missing in places: those candidates are refused and counted.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from stormda.io.axes import time_variable
from stormda.io.decoding import decode_exactly
from stormda.io.files import open_raw
from stormda.io.horizontal import find_angle
from stormda.io.observations import PLANE, SPHERE, ObservationTable, observation_table
from stormda.io.point_files import OBSERVED, REJECTED
from stormda.io.times import decode_times
from stormda.io.units import Unit, convert, parse_unit

_PLATFORMS = ("platform", "platform_id", "station", "station_id")


@dataclass(frozen=True, eq=False, kw_only=True)
class _Points:
    """When and where the candidates of a file were measured, and by whom."""

    dim: str
    coordinates: tuple[str, ...]
    time: NDArray[np.datetime64]
    places: dict[str, NDArray[np.float64]]
    platform: NDArray[np.str_]


def read_netcdf(path: Path, variables: Sequence[str] | None) -> ObservationTable:
    """Read point observations from NetCDF, converted to SI where their units are known.

    Args:
        path: The file.
        variables: The variables to read; None for all that `write_observations` wrote, or for the
            only one.

    Raises:
        ValueError: If the file is not a list of points, its times cannot be decoded, or a variable
            is not there.
    """
    with open_raw(path) as dataset:
        try:
            return _read(dataset, variables)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error


def _read(dataset: xr.Dataset, variables: Sequence[str] | None) -> ObservationTable:
    points = _points(dataset)
    names = _chosen(dataset, points, variables)
    columns = [_column(dataset, name) for name in names]
    mine = [_rows_of(dataset, name, len(points.time)) for name in names]
    return observation_table(
        time=np.concatenate([points.time[rows] for rows in mine]),
        value=np.concatenate([c[0][rows] for c, rows in zip(columns, mine, strict=True)]),
        error=np.concatenate([c[1][rows] for c, rows in zip(columns, mine, strict=True)]),
        variable=np.concatenate(
            [np.full(rows.sum(), name) for name, rows in zip(names, mine, strict=True)]
        ),
        platform=np.concatenate([points.platform[rows] for rows in mine]),
        units={name: c[2] for name, c in zip(names, columns, strict=True)},
        rejected=Counter(json.loads(str(dataset.attrs.get(REJECTED, "{}")))),
        **{
            name: np.concatenate([column[rows] for rows in mine])
            for name, column in points.places.items()
        },
    )


def _points(dataset: xr.Dataset) -> _Points:
    """Read times and positions, NaT and NaN where they are missing."""
    kinds, names = _place_variables(dataset)
    dim = _point_dimension(dataset, names)
    time = time_variable(dataset, dim) or time_variable(dataset, None)
    if time is None:
        raise ValueError(f"time: expected a variable along {dim!r}, got none")
    count = dataset.sizes[dim]
    places = {
        kind: np.broadcast_to(_place(dataset, name), count)
        for kind, name in zip(kinds, names, strict=True)
    }
    return _Points(
        dim=dim,
        coordinates=(time, *names),
        time=np.broadcast_to(_times(dataset, time), count),
        places=places,
        platform=_platform(dataset, dim),
    )


def _point_dimension(dataset: xr.Dataset, names: tuple[str, str]) -> str:
    """Return the dimension that positions run along; for a fixed station, time."""
    dims = {str(dim) for name in names for dim in dataset[name].dims} or {"time"}
    if len(dims) > 1 or any(dataset[name].ndim > 1 for name in names):
        raise ValueError(
            f"expected a list of points, got positions along {sorted(dims)} "
            "(profiles and ragged arrays are not read)"
        )
    if not dims <= set(dataset.sizes):
        raise ValueError(
            f"expected points along {dims.pop()!r}, got dimensions {[*dataset.sizes]}"
        )
    return dims.pop()


def _place_variables(dataset: xr.Dataset) -> tuple[tuple[str, str], tuple[str, str]]:
    """Return which two coordinates a file has, and the names of their variables."""
    lat, lon = (find_angle(dataset, which, fixed=True) for which in ("latitude", "longitude"))
    if lat is not None and lon is not None:
        return SPHERE, (lat, lon)
    if all(name in dataset and dataset[name].attrs.get("units") == "m" for name in PLANE):
        return PLANE, PLANE
    raise ValueError(
        "expected latitude and longitude, or y and x in metres, "
        f"got variables {sorted(str(name) for name in dataset.variables)}"
    )


def _place(dataset: xr.Dataset, name: str) -> NDArray[np.float64]:
    values, valid = decode_exactly(dataset[name].values, dataset[name].attrs)
    units = str(dataset[name].attrs.get("units", "degrees"))
    target = "m" if name in PLANE else "degree"
    return np.where(valid, convert(values, units, target), np.nan)


def _times(dataset: xr.Dataset, name: str) -> NDArray[np.datetime64]:
    """Return times, NaT where one is missing."""
    values, valid = decode_exactly(dataset[name].values, dataset[name].attrs)
    attributes = dataset[name].attrs
    calendar = str(attributes.get("calendar", "standard"))
    times = np.full(values.shape, np.datetime64("NaT", "s"))
    times[valid] = decode_times(values[valid], attributes.get("units"), calendar)
    return times


def _platform(dataset: xr.Dataset, dim: str) -> NDArray[np.str_]:
    """Return who measured each point; empty where the file does not say."""
    for name in _PLATFORMS:
        if name in dataset.variables and dataset[name].dims[:1] == (dim,):
            return _text(dataset[name].values)
    return np.full(dataset.sizes[dim], "")


def _text(values: NDArray[Any]) -> NDArray[np.str_]:
    """Return strings, put together where a file holds them letter by letter."""
    if values.dtype.kind == "S" and values.ndim == 2:
        values = np.ascontiguousarray(values).view(f"S{values.shape[1]}")[:, 0]
    if values.dtype.kind == "S":
        return np.char.strip(np.char.decode(values, "utf-8", "replace"))
    return np.char.strip(values.astype(np.str_))


def _chosen(dataset: xr.Dataset, points: _Points, variables: Sequence[str] | None) -> list[str]:
    """Return the variables to read, checked to be there."""
    candidates = _candidates(dataset, points)
    if variables is None and OBSERVED not in dataset and len(candidates) != 1:
        raise ValueError(f"variable: expected the name of one of {candidates}, got none")
    for name in variables or ():
        if name not in candidates:
            raise ValueError(f"variable: expected one of {candidates}, got {name!r}")
    return list(variables or candidates)


def _candidates(dataset: xr.Dataset, points: _Points) -> list[str]:
    """Return what was measured at the points: no coordinates, errors, flags or text."""
    ancillary = {
        name
        for variable in dataset.variables.values()
        for name in str(variable.attrs.get("ancillary_variables", "")).split()
    }
    return [
        str(name)
        for name, variable in dataset.variables.items()
        if variable.dims == (points.dim,)
        and variable.dtype.kind in "iuf"
        and name not in {*points.coordinates, *ancillary}
        and "flag_values" not in variable.attrs
        and not str(name).startswith("qc_")
    ]


def _column(
    dataset: xr.Dataset, name: str
) -> tuple[NDArray[np.float64], NDArray[np.float64], str]:
    """Return values and errors in SI where the units are known, and their units."""
    unit, units = _unit(dataset[name])
    ancillary = str(dataset[name].attrs.get("ancillary_variables", "")).split()
    errors = [n for n in ancillary if n in dataset and _is_error(dataset[n], n, name)]
    error = _decoded(dataset[errors[0]]) if errors else np.full(dataset[name].shape, np.nan)
    values = _decoded(dataset[name])
    if unit is None:
        return values, error, units
    return unit.to_si(values), error * unit.scale, units


def _is_error(variable: xr.DataArray, name: str, of: str) -> bool:
    return name == f"{of}_error" or str(variable.attrs.get("standard_name", "")).endswith(
        "standard_error"
    )


def _decoded(variable: xr.DataArray) -> NDArray[np.float64]:
    values, valid = decode_exactly(variable.values, variable.attrs)
    return np.where(valid, values, np.nan)


def _unit(variable: xr.DataArray) -> tuple[Unit | None, str]:
    """Return the conversion to SI and the units it leads to; none where they are not known."""
    text = str(variable.attrs.get("units", ""))
    try:
        unit = parse_unit(text) if text else None
    except ValueError:
        unit = None
    return unit, text if unit is None else unit.si


def _rows_of(dataset: xr.Dataset, name: str, count: int) -> NDArray[np.bool_]:
    """Tell which rows measured a variable: all, unless the file says."""
    if OBSERVED not in dataset:
        return np.ones(count, bool)
    meanings = str(dataset[OBSERVED].attrs["flag_meanings"]).split()
    return np.asarray(dataset[OBSERVED].values == meanings.index(name))
