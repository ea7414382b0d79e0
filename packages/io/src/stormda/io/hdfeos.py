"""Swaths of HDF-EOS5 files, the satellite products of NASA's Aura and its relatives.

A swath has geolocation fields (Time, Latitude, Longitude, Pressure) and data fields. The files
state the dimensions of each field in a text of their own, `StructMetadata.0`. In a level 2 product
`L2gpValue` is the retrieval and `L2gpPrecision` its error, negative where the retrieval says
little that its first guess did not; an odd `Status` means do not use.

Source: HDF-EOS5 user's guide (2010), appendix A; Livesey et al. (2020), MLS version 4.2x data
quality document, section 1.6, https://mls.jpl.nasa.gov
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np

from stormda.io.atomic_time import decode_tai93
from stormda.io.choice import VariableNotFound, in_file, require_among
from stormda.io.columns import Columns, table_of
from stormda.io.damage import reported_as_damage
from stormda.io.hdf5_groups import group_names
from stormda.io.hdf5_heaps import SoundFile
from stormda.io.mapping import ColumnMapping, Quantity
from stormda.io.observations import ObservationTable
from stormda.io.quality import Quality
from stormda.io.stored_cells import columns_of

if TYPE_CHECKING:
    import xarray as xr

VALUE, PRECISION, STATUS = "L2gpValue", "L2gpPrecision", "Status"

_SWATHS = "HDFEOS/SWATHS"
_STRUCTURE = "HDFEOS INFORMATION/StructMetadata.0"
_GROUPS = ("Geolocation Fields", "Data Fields")
_FIELD = re.compile(r'(?:Geo|Data)FieldName="(?P<name>[^"]*)".*?DimList=\((?P<dims>[^)]*)\)', re.S)
_CODES = {"good": Quality.GOOD, "bad": Quality.BAD}


def is_hdfeos(path: Path) -> bool:
    """Tell whether a file is HDF5 and holds swaths."""
    return any(group.startswith(_SWATHS) for group in group_names(path))


def read_hdfeos(path: Path, variables: Sequence[str] | None) -> ObservationTable:
    """Read the retrievals of one or several swaths, one candidate for each level.

    Args:
        path: The file.
        variables: The names of swaths, such as `"Temperature"`; None for the only one.

    Raises:
        ValueError: If a swath is not there or is no retrieval along a track, or the file is
            damaged.
    """
    with reported_as_damage(str(path)), SoundFile(path) as raw, h5py.File(raw, "r") as file:
        swaths = list(file[_SWATHS])
    if variables is None and len(swaths) != 1:
        raise ValueError(f"{path}: variable: expected the name of one of {swaths}, got none")
    names = list(variables or swaths)
    try:
        require_among(names, swaths)
    except VariableNotFound as error:
        raise in_file(error, path) from error
    if len(names) > 1:
        raise ValueError(f"{path}: variable: expected one swath at a time, got {names}")
    with reported_as_damage(str(path)), SoundFile(path) as raw, h5py.File(raw, "r") as file:
        swath = _swath(file, names[0])
    try:
        cells = _retrievals(swath)
        return table_of(cells, _mapping(swath, names[0]))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _swath(file: h5py.File, name: str) -> xr.Dataset:
    """Return the fields of a swath, with the dimensions that the file states."""
    import xarray as xr  # long to import, and only open files need it

    structure = _text(file[_STRUCTURE][()])
    part = structure.partition(f'SwathName="{name}"')[2].partition("SwathName=")[0]
    dims = {
        match["name"]: tuple(re.findall(r'"([^"]*)"', match["dims"]))
        for match in _FIELD.finditer(part)
    }
    fields = {
        str(field): item
        for group in _GROUPS
        for field, item in file[f"{_SWATHS}/{name}/{group}"].items()
    }
    return xr.Dataset(
        {
            field: (dims[field], item[()], _attributes(item))
            for field, item in fields.items()
            if len(dims.get(field, ())) == item.ndim
        }
    )


def _attributes(item: h5py.Dataset) -> dict[str, object]:
    """Return the attributes that decide how a field is decoded, by their CF names."""
    attributes: dict[str, object] = {}
    if "Units" in item.attrs:
        attributes["units"] = _text(item.attrs["Units"])
    for name, of in (("_FillValue", "_FillValue"), ("missing_value", "MissingValue")):
        if of in item.attrs:
            attributes[name] = np.asarray(item.attrs[of])
    return attributes


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _mapping(swath: xr.Dataset, name: str) -> ColumnMapping:
    """Return what the fields mean."""
    along = set(map(str, swath[VALUE].dims))
    levels = "Pressure" in swath and set(map(str, swath["Pressure"].dims)) <= along
    return ColumnMapping(
        time="Time",
        lat="Latitude",
        lon="Longitude",
        z="Pressure" if levels else None,
        z_kind="pressure" if levels else "",
        quantities={
            name: Quantity(
                column=VALUE,
                error_column=PRECISION,
                quality_column="quality",
                quality_codes=_CODES,
            )
        },
    )


def _retrievals(swath: xr.Dataset) -> Columns:
    """Return the fields of a swath as columns, with times in UTC and a quality of each value."""
    places = ["Time", "Latitude", "Longitude"]
    needed = [VALUE, PRECISION, STATUS, *places]
    for field in needed:
        if field not in swath:
            raise ValueError(f"expected a field {field!r}, got {sorted(map(str, swath))}")
    if "Pressure" in swath and set(swath["Pressure"].dims) <= set(swath[VALUE].dims):
        needed.append("Pressure")
    stored = columns_of(swath, needed)
    cells = dict(stored.cells)
    odd = np.nan_to_num(cells[STATUS], nan=1.0).astype(np.int64) % 2 == 1
    cells["quality"] = np.where(odd | (cells[PRECISION] < 0), "bad", "good")
    cells[PRECISION] = np.abs(cells[PRECISION])
    cells["Time"] = decode_tai93(cells["Time"])
    units = {name: text for name, text in stored.units.items() if text != "NoUnits"}
    return Columns(cells=cells, units=units)
