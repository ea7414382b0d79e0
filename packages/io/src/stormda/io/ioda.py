"""Observations in the layouts of IODA, versions 1 to 3.

All three hold the same groups, with one value for each location, or location and channel:

    ObsValue/airTemperature   ObsError/airTemperature   PreQC/airTemperature   MetaData/latitude

Version 1 writes them as `air_temperature@ObsValue` and times as text. Codes in `PreQC` differ
between sources; those that a file explains by `flag_meanings` are read, others need a mapping.

Source: JCSDA, ioda, share/ioda/yaml/validation/ObsSpace.yaml, https://github.com/JCSDA/ioda
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stormda.io.candidates import observation_table
from stormda.io.columns import require_choice, times_of
from stormda.io.observations import ObservationTable, Vertical
from stormda.io.point_file_reading import rejected_before
from stormda.io.point_files import REJECTED
from stormda.io.quality import Quality
from stormda.io.stored_cells import columns_of
from stormda.io.units import Unit, convert, parse_unit

if TYPE_CHECKING:
    import xarray as xr

ROLES = {
    "lat": ("latitude",),
    "lon": ("longitude",),
    "time": ("dateTime", "datetime"),
    "platform": ("stationIdentification", "station_id", "stationID"),
    "channel": ("sensorChannelNumber", "sensor_channel", "channelNumber"),
}
"""What `MetaData` calls when, where and who, in the versions."""

HEIGHTS: dict[Vertical, tuple[str, ...]] = {
    "pressure": ("pressure", "air_pressure"),
    "height": ("height",),
    "depth": ("depthBelowWaterSurface", "depth_below_water_surface"),
}
"""What `MetaData` calls how high or deep an observation is."""

MEANINGS = " ".join(quality.name.lower() for quality in Quality)
"""The `flag_meanings` of qualities that this package writes."""


def is_ioda(dataset: xr.Dataset) -> bool:
    """Tell whether a file is in one of the layouts of IODA."""
    return any(str(name).startswith("ObsValue/") for name in _modern(dataset).variables)


def read_ioda(dataset: xr.Dataset, variables: Sequence[str] | None) -> ObservationTable:
    """Read the observations of a file.

    Args:
        dataset: The file with all its groups, undecoded.
        variables: Names within `ObsValue`; None for all.

    Raises:
        ValueError: If metadata are missing or of another length, or a variable is not there.
    """
    modern = _modern(dataset)
    names = [n.removeprefix("ObsValue/") for n in map(str, modern) if n.startswith("ObsValue/")]
    chosen = names if variables is None else require_choice(names, variables, "ObsValue")
    parts = [_one_variable(modern, name) for name in chosen]
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    if REJECTED in dataset.attrs:  # our own: what is missing was never a candidate
        there = ~np.isnan(columns["value"])
        columns = {name: values[there] for name, values in columns.items()}
    return observation_table(
        **columns,
        units={name: _si(modern[f"ObsValue/{name}"]) for name in chosen},
        rejected=rejected_before(dataset.attrs.get(REJECTED, "{}")),
    )


def _si(variable: xr.DataArray) -> str:
    """Return the units that values are converted to."""
    text = str(variable.attrs.get("units", ""))
    unit = _unit(text)
    return text if unit is None else unit.si


def _modern(dataset: xr.Dataset) -> xr.Dataset:
    """Return a file of version 1 with the names of the later ones."""
    names = {
        str(name): "/".join(reversed(str(name).split("@")))
        for name in dataset.variables
        if str(name).count("@") == 1
    }
    return dataset.drop_indexes([*dataset.indexes]).reset_coords().rename_vars(names)


def _one_variable(dataset: xr.Dataset, name: str) -> dict[str, NDArray[Any]]:
    """Return the columns of the candidates of one variable."""
    value = f"ObsValue/{name}"
    roles = _metadata(dataset, value)
    own = [f"{group}/{name}" for group in ("ObsError", "PreQC")]
    wanted = [value, *roles.values(), *(column for column in own if column in dataset.variables)]
    _require_locations(dataset, value, wanted)
    stored = columns_of(dataset, wanted)
    named = {role: stored.cells[column] for role, column in roles.items()}
    for kind in named.keys() & HEIGHTS.keys():
        target = "Pa" if kind == "pressure" else "m"
        named[kind] = convert(named[kind], stored.units.get(roles[kind], target), target)
    count = len(stored)
    unit = _unit(stored.units.get(value, ""))
    values = stored.cells[value].astype(np.float64)
    errors = stored.cells.get(f"ObsError/{name}", np.full(count, np.nan)).astype(np.float64)
    return {
        "time": times_of([named["time"]]),
        "lat": named["lat"],
        "lon": named["lon"],
        "platform": _text(named.get("platform", np.full(count, ""))),
        "channel": np.nan_to_num(named.get("channel", np.zeros(count))).astype(np.int32),
        "value": values if unit is None else unit.to_si(values),
        "error": errors if unit is None else errors * unit.scale,
        "quality": _quality(dataset, f"PreQC/{name}", stored.cells, count),
        "variable": np.full(count, name),
        **_heights(named, count),
    }


def _metadata(dataset: xr.Dataset, value: str) -> dict[str, str]:
    """Return which variable has each role: when, where, who."""
    found: dict[str, str | None] = {
        role: next((f"MetaData/{n}" for n in names if f"MetaData/{n}" in dataset.variables), None)
        for role, names in (*ROLES.items(), *HEIGHTS.items())
    }
    for role in ("time", "lat", "lon"):
        if found[role] is None:
            have = sorted(str(n) for n in dataset.variables if str(n).startswith("MetaData/"))
            raise ValueError(f"expected a variable 'MetaData/{ROLES[role][0]}', got {have}")
    if found["channel"] is None and "Channel" in dataset.variables:
        found["channel"] = "Channel"
    if dataset[value].ndim < 2 and found["channel"] is not None:
        alike = dataset[found["channel"]].dims == dataset[value].dims
        found["channel"] = found["channel"] if alike else None
    return {role: column for role, column in found.items() if column is not None}


def _require_locations(dataset: xr.Dataset, value: str, columns: Sequence[str]) -> None:
    """Raise unless all columns have as many locations as the values."""
    locations, *_ = dataset[value].dims or (None,)
    count = dataset.sizes.get(locations, 1)
    for name in columns:
        variable = dataset[name]
        if not set(variable.dims) & set(dataset[value].dims):
            raise ValueError(
                f"{name}: expected one value for each of the {count} locations of {value}, "
                f"got shape {variable.shape}"
            )


def _quality(
    dataset: xr.Dataset, name: str, cells: Mapping[str, NDArray[Any]], count: int
) -> NDArray[np.uint8]:
    """Return the qualities that a file explains; unknown where it does not."""
    unknown = np.full(count, Quality.UNKNOWN, np.uint8)
    if name not in cells or dataset[name].attrs.get("flag_meanings") != MEANINGS:
        return unknown
    codes = cells[name]
    return np.where(np.isin(codes, [*Quality]), codes, unknown).astype(np.uint8)


def _heights(named: Mapping[str, NDArray[Any]], count: int) -> dict[str, NDArray[Any]]:
    """Return how high or deep each candidate is, by the first kind that it has a value of."""
    z, kinds = np.full(count, np.nan), np.full(count, "", "U8")
    for kind in HEIGHTS:
        if kind in named:
            mine = np.isfinite(named[kind]) & (kinds == "")
            z, kinds = np.where(mine, named[kind], z), np.where(mine, kind, kinds)
    return {"z": z, "z_kind": kinds}


def _text(cells: NDArray[Any]) -> NDArray[np.str_]:
    return cells if cells.dtype.kind == "U" else cells.astype(np.int64).astype(np.str_)


def _unit(text: str) -> Unit | None:
    """Return the conversion to SI; None where the units are not known."""
    try:
        return parse_unit(text) if text else None
    except ValueError:
        return None
