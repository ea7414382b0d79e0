"""Writing observations in the layout of IODA version 3.

The rows of a table that share time, place, height and platform become one location, with a value
of each variable (and channel) that was observed there; the others are missing.

Source: JCSDA, ioda, share/ioda/yaml/validation/ObsSpace.yaml, https://github.com/JCSDA/ioda
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
from numpy.typing import NDArray

from stormda.io.atomic import atomic_path
from stormda.io.cf_file import PROVENANCE
from stormda.io.decoding import DEFAULT_FILL
from stormda.io.guarded_file import guarded_file
from stormda.io.ioda import HEIGHTS, MEANINGS
from stormda.io.observations import SPHERE, ObservationTable, alike
from stormda.io.point_files import REJECTED
from stormda.io.quality import Quality

TIME_UNITS = "seconds since 1970-01-01T00:00:00Z"

_FILLS = {"f": DEFAULT_FILL, "i": -2147483643}
"""What stands for a missing value, by kind, as the NetCDF library and IODA have it."""

_PLACE = ("time", "position", "z", "z_kind", "platform")


def write_ioda(
    path: str | Path,
    table: ObservationTable,
    *,
    dtype: Literal["f4", "f8"] = "f4",
    provenance: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> None:
    """Write a table to an IODA version 3 file, which appears complete or not at all.

    Args:
        path: The file.
        table: At least one observation on the sphere, each with a named variable; IODA calls
            them `airTemperature`, `windEastward`, ...
        dtype: How numbers are stored: JEDI reads `"f4"`, which rounds to seven digits; `"f8"`
            gives back exactly what was written.
        provenance: Where the observations come from, as JSON can hold it.
        overwrite: Whether an existing file may be replaced.

    Raises:
        FileExistsError: If the file exists and may not be replaced.
        ValueError: If the table is empty, on a plane, or has a variable without a name.

    Examples:
        >>> import tempfile
        >>> from stormda.io import observation_table, read_observations
        >>> table = observation_table(
        ...     time="2020-10-01", lat=[55.0], lon=[-77.0], value=[277.15], error=1.0,
        ...     variable="airTemperature", platform="CYGW", units={"airTemperature": "K"})
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_ioda(Path(folder, "metar.nc"), table, dtype="f8")
        ...     read_observations(Path(folder, "metar.nc")).value
        array([277.15])
    """
    _require_writable(table)
    with (
        atomic_path(path, overwrite=overwrite) as temporary,
        guarded_file(temporary, "w+b") as raw,
        h5py.File(raw, "w") as file,
    ):
        file.attrs["_ioda_layout"] = "ObsGroup"
        file.attrs["_ioda_layout_version"] = np.int32(3)
        file.attrs[REJECTED] = json.dumps(table.rejected, sort_keys=True)
        file.attrs[PROVENANCE] = json.dumps(dict(provenance or {}), sort_keys=True)
        _Writer(file, table, dtype).write()


def _require_writable(table: ObservationTable) -> None:
    if not len(table):
        raise ValueError("table: expected at least one observation, got none")
    if table.dims != SPHERE:
        raise ValueError(f"table: expected coordinates {SPHERE}, got {table.dims}")
    for name in np.unique(table.variable).tolist():
        if not name or "/" in name:
            raise ValueError(f"table: expected variable names without '/', got {name!r}")


class _Writer:
    """The locations and channels of a table, and the file that they go to."""

    def __init__(self, file: h5py.File, table: ObservationTable, dtype: str) -> None:
        self.file, self.table, self.dtype = file, table, dtype
        places = alike(table, _PLACE)
        again = _occurrence(np.stack([places, *_codes(table)]))  # a second value at a place
        _, first, number = np.unique(
            np.stack([places, again]), axis=1, return_index=True, return_inverse=True
        )
        order = np.argsort(first)  # locations in the order of their first rows
        self.first, self.location = first[order], np.argsort(order)[number.reshape(-1)]
        self.channels = np.unique(table.channel)

    def write(self) -> None:
        """Write scales, metadata and every variable."""
        self._scale("Location", np.arange(len(self.first), dtype=np.int64))
        if self.channels.any():
            self._scale("Channel", self.channels)
        self._metadata()
        for name in np.unique(self.table.variable).tolist():
            self._variable(name)

    def _scale(self, name: str, values: NDArray[Any]) -> None:
        self.file[name] = values
        self.file[name].make_scale(name)

    def _metadata(self) -> None:
        table, first = self.table, self.first
        seconds = table.time[first].astype(np.int64)
        self._dataset("MetaData/dateTime", seconds, {"units": TIME_UNITS})
        for name, values, units in (
            ("latitude", table.lat, "degrees_north"),
            ("longitude", table.lon, "degrees_east"),
        ):
            self._dataset(f"MetaData/{name}", values[first].astype(self.dtype), {"units": units})
        if np.any(table.platform != ""):
            texts = table.platform[first].astype(object)
            self._dataset("MetaData/stationIdentification", texts, {})
        for kind, (name, *_) in HEIGHTS.items():
            mine = table.z_kind[first] == kind
            if mine.any():
                values = np.where(mine, table.z[first], np.nan)
                unit = "Pa" if kind == "pressure" else "m"
                self._dataset(f"MetaData/{name}", self._filled(values), {"units": unit})

    def _variable(self, name: str) -> None:
        """Write the values, errors and qualities of one variable."""
        table, rows = self.table, self.table.variable == name
        units = {"units": table.units.get(name) or "1"}
        values = self._spread(rows, table.value)
        self._dataset(f"ObsValue/{name}", self._filled(values), units)
        self._dataset(f"ObsError/{name}", self._filled(self._spread(rows, table.error)), units)
        quality = self._spread(rows, np.where(rows, table.quality, Quality.UNKNOWN))
        known = np.isfinite(quality) & (quality != Quality.UNKNOWN)
        codes = np.where(known, quality, _FILLS["i"]).astype(np.int32)
        values_of = np.array([*Quality], np.int32)
        self._dataset(
            f"PreQC/{name}", codes, {"flag_values": values_of, "flag_meanings": MEANINGS}
        )

    def _spread(self, rows: NDArray[np.bool_], values: NDArray[Any]) -> NDArray[np.float64]:
        """Return a column's rows at their locations and channels, NaN elsewhere."""
        spread = np.full((len(self.first), len(self.channels)), np.nan)
        channel = np.searchsorted(self.channels, self.table.channel[rows])
        spread[self.location[rows], channel] = values[rows]
        return spread if self.channels.any() else spread[:, 0]

    def _filled(self, values: NDArray[np.float64]) -> NDArray[Any]:
        fill = np.array(_FILLS["f"], self.dtype)
        return np.where(np.isnan(values), fill, values.astype(self.dtype))

    def _dataset(self, name: str, values: NDArray[Any], attributes: Mapping[str, object]) -> None:
        text = values.dtype == object
        created = self.file.create_dataset(
            name, data=values, dtype=h5py.string_dtype() if text else values.dtype
        )
        if not text and values.dtype != np.int64:
            created.attrs["_FillValue"] = np.array(_FILLS[values.dtype.kind], values.dtype)
        created.attrs.update(attributes)
        for dim, scale in zip(created.dims, ("Location", "Channel"), strict=False):
            dim.attach_scale(self.file[scale])


def _codes(table: ObservationTable) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    return np.unique(table.variable, return_inverse=True)[1], table.channel.astype(np.int64)


def _occurrence(keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how many earlier columns are the same, for each column of (k, n)."""
    order = np.lexsort((np.arange(keys.shape[1]), *keys))
    starts = np.ones(keys.shape[1], bool)
    starts[1:] = (np.diff(keys[:, order]) != 0).any(axis=0)
    number = np.arange(keys.shape[1])
    since = number - np.maximum.accumulate(np.where(starts, number, 0))
    occurrence = np.zeros(keys.shape[1], np.int64)
    occurrence[order] = since
    return occurrence
