"""Profiles of Argo floats, with the adjusted values where there are any.

A profile in real-time mode (`R`) has its values in `TEMP`, its flags in `TEMP_QC`; one that was
adjusted (`A`) or checked with delay (`D`) in `TEMP_ADJUSTED`, with an error of its own. A level
counts as bad when its value, its pressure, its position or its date is flagged bad.

Source: Argo user's manual 3.41, https://doi.org/10.13155/29825
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stormda.io.choice import require_among
from stormda.io.columns import Columns, require_columns, table_of
from stormda.io.mapping import ColumnMapping, Quantity
from stormda.io.observations import ObservationTable
from stormda.io.quality import ARGO
from stormda.io.stored_cells import columns_of

if TYPE_CHECKING:
    import xarray as xr

PARAMETERS = {"TEMP": "sea_water_temperature", "PSAL": "sea_water_salinity"}
"""What is read unless told otherwise, and its name in the table."""

_ADJUSTED = ("A", "D")
_BAD = "4"


def is_argo(dataset: xr.Dataset) -> bool:
    """Tell whether a file holds profiles in the layout of Argo."""
    return {"N_PROF", "N_LEVELS"} <= set(dataset.sizes) and "DATA_MODE" in dataset.variables


def read_argo(dataset: xr.Dataset, variables: Sequence[str] | None) -> ObservationTable:
    """Read profiles, one candidate for each level and parameter.

    Args:
        dataset: The file, undecoded.
        variables: Parameters such as `"TEMP"`; None for temperature and salinity.

    Raises:
        ValueError: If a parameter is not there or a flag is not one of Argo's.
    """
    present = [name for name in PARAMETERS if name in dataset.variables]
    names = [*(variables or present)]
    flagged = [name for name in names if f"{name}_QC" in dataset.variables]
    require_among(names, list(dict.fromkeys([*present, *flagged])))
    mapping = _mapping(dataset, names)
    own = [f"{name}{end}" for name in ("PRES", *names) for end in ("", "_QC")]
    adjusted = [f"{name}_ADJUSTED{end}" for name in ("PRES", *names) for end in ("", "_QC")]
    errors = [f"{name}_ADJUSTED_ERROR" for name in names]
    places = ("JULD", "LATITUDE", "LONGITUDE", "JULD_QC", "POSITION_QC", "DATA_MODE")
    needed = [*places, "PLATFORM_NUMBER", *own, *adjusted, *errors]
    require_columns(mapping, [str(name) for name in dataset.variables])
    stored = columns_of(dataset, [name for name in needed if name in dataset.variables])
    return table_of(Columns(cells=_valid_cells(stored.cells, names), units=stored.units), mapping)


def _mapping(dataset: xr.Dataset, names: Sequence[str]) -> ColumnMapping:
    """Return what the columns mean, after the adjusted values have taken their places."""
    errors = {name: f"{name}_ADJUSTED_ERROR" for name in names}
    return ColumnMapping(
        time="JULD",
        lat="LATITUDE",
        lon="LONGITUDE",
        z="PRES",
        z_kind="pressure",
        platform="PLATFORM_NUMBER",
        quantities={
            PARAMETERS.get(name, name): Quantity(
                column=name,
                error_column=errors[name] if errors[name] in dataset.variables else None,
                quality_column=f"{name}_QC",
                quality_codes=ARGO,
            )
            for name in names
        },
    )


def _valid_cells(
    cells: Mapping[str, NDArray[Any]], names: Sequence[str]
) -> dict[str, NDArray[Any]]:
    """Return the cells with adjusted values where a profile was adjusted, and joined flags."""
    adjusted = np.isin(cells["DATA_MODE"], _ADJUSTED)
    valid = dict(cells)
    for name in (f"{parameter}{end}" for parameter in ("PRES", *names) for end in ("", "_QC")):
        other = name.replace("_QC", "") + "_ADJUSTED" + ("_QC" if name.endswith("_QC") else "")
        if other in cells:
            valid[name] = np.where(adjusted, cells[other], cells[name])
    shared = [flags for flags in ("PRES_QC", "POSITION_QC", "JULD_QC") if flags in valid]
    misplaced = np.any([valid[flags] == _BAD for flags in shared], axis=0)
    for name in names:
        valid[f"{name}_QC"] = np.where(misplaced, _BAD, valid[f"{name}_QC"])
        error = f"{name}_ADJUSTED_ERROR"
        if error in valid:
            known = adjusted & (valid[error] > 0)
            valid[error] = np.where(known, valid[error], np.nan)
    return valid
