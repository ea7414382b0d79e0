"""Observations as a CF point file, written and read back.

One dimension, `obs`, with time, position, one variable for each quantity and one for its error.
`observed_variable` says which quantity a row measured, so that reading the file gives back exactly
the rows that were written, and the counts of what was refused. Heights, qualities and channels are
there where a row has one.

Source: CF Conventions 1.11, chapter 9 and appendix H.1.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stormda.io.cf_file import CFLayout, CFVariable, create_cf
from stormda.io.observations import PLANE, SPHERE, ObservationTable
from stormda.io.quality import Quality
from stormda.io.times import encode_times, time_attributes
from stormda.io.units import temperature_attributes

OBSERVED = "observed_variable"
"""The variable that says, by number, which quantity a row measured."""

REJECTED = "rejected"
"""The global attribute that holds, as JSON, how many candidates were refused, by reason."""

_NAME = re.compile(r"[A-Za-z]\w*", re.ASCII)
_HEIGHTS = {
    "pressure": {"standard_name": "air_pressure", "units": "Pa", "positive": "down"},
    "height": {"standard_name": "altitude", "units": "m", "positive": "up"},
    "depth": {"standard_name": "depth", "units": "m", "positive": "down"},
}
_RESERVED = {
    *("time", "obs", OBSERVED, "platform", "platform_strlen", "quality", "channel"),
    *(f"z_{kind}" for kind in _HEIGHTS),
    *SPHERE,
    *PLANE,
}

_PLACES = {
    "lat": {"standard_name": "latitude", "units": "degrees_north"},
    "lon": {"standard_name": "longitude", "units": "degrees_east"},
    "y": {"standard_name": "projection_y_coordinate", "units": "m"},
    "x": {"standard_name": "projection_x_coordinate", "units": "m"},
}


def write_observations(
    path: str | Path,
    table: ObservationTable,
    *,
    attributes: Mapping[str, Mapping[str, str]] | None = None,
    provenance: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> None:
    """Write a table to a CF point file, which appears complete or not at all.

    Args:
        path: The file.
        table: At least one observation, each with a named variable.
        attributes: More CF attributes of each variable, such as its `standard_name`.
        provenance: Where the observations come from, as JSON can hold it.
        overwrite: Whether an existing file may be replaced.

    Raises:
        FileExistsError: If the file exists and may not be replaced.
        ValueError: If the table is empty or a variable's name cannot be used in a file.

    Examples:
        >>> import tempfile
        >>> from stormda.io import observation_table, read_observations
        >>> table = observation_table(
        ...     time="2000-01-01", y=[0.0, 1e5], x=[0.0, 2e5], value=[0.1, -0.2], error=0.1,
        ...     variable="theta", units={"theta": "1"})
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_observations(Path(folder, "obs.nc"), table)
        ...     read_observations(Path(folder, "obs.nc")).value
        array([ 0.1, -0.2])
    """
    variables = point_variables(table, attributes or {})
    write_point_file(path, table, variables, provenance=provenance or {}, overwrite=overwrite)


def point_variables(
    table: ObservationTable, attributes: Mapping[str, Mapping[str, str]]
) -> dict[str, CFVariable]:
    """Describe every column of a table as variables of a point file.

    Raises:
        ValueError: If the table is empty or a variable's name cannot be used in a file.
    """
    names = _names(table)
    variables = {**_places(table), **_heights(table), **_row_labels(table, names)}
    for name in names:
        variables |= _quantity(table, name, attributes.get(name, {}))
    return variables


def write_point_file(
    path: str | Path,
    table: ObservationTable,
    variables: Mapping[str, CFVariable],
    *,
    provenance: Mapping[str, Any],
    overwrite: bool,
) -> None:
    """Write the variables that describe a table, and the account of what was refused."""
    sizes = {
        dim: size
        for variable in variables.values()
        if variable.data is not None
        for dim, size in zip(variable.dims, variable.data.shape, strict=True)
    }
    layout = CFLayout(
        dimensions=sizes,
        variables=variables,
        attributes={"featureType": "point", REJECTED: json.dumps(table.rejected, sort_keys=True)},
        provenance=provenance,
    )
    with create_cf(path, layout, overwrite=overwrite):
        pass  # every variable has its data


def _names(table: ObservationTable) -> list[str]:
    """Return the variables observed, checked to be names that a file can hold."""
    names = [str(name) for name in np.unique(table.variable)]
    if not names:
        raise ValueError("table: expected at least one observation, got none")
    for name in names:
        if not _NAME.fullmatch(name) or name in _RESERVED:
            raise ValueError(
                "table: expected variable names of letters, digits and underscores other than "
                f"{sorted(_RESERVED)}, got {name!r}"
            )
    return names


def _places(table: ObservationTable) -> dict[str, CFVariable]:
    """Describe when and where each observation was made."""
    attributes = {key: text for key, text in time_attributes().items() if key != "axis"}
    time = CFVariable(dims=("obs",), attributes=attributes, data=encode_times(table.time))
    columns = zip(table.dims, table.position.T, strict=True)
    return {
        "time": time,
        **{
            name: CFVariable(dims=("obs",), attributes=_PLACES[name], data=np.array(column))
            for name, column in columns
        },
    }


def _row_labels(table: ObservationTable, names: Sequence[str]) -> dict[str, CFVariable]:
    """Describe which quantity each row is of and, where known, its platform, quality, channel."""
    numbers = np.searchsorted(names, table.variable).astype(np.int32)
    meanings_of = flags("which variable was observed", range(len(names)), names)
    labels = {OBSERVED: CFVariable(dims=("obs",), attributes=meanings_of, data=numbers)}
    if np.any(table.platform != ""):
        letters = np.char.encode(table.platform, "utf-8")
        labels["platform"] = CFVariable(
            dims=("obs", "platform_strlen"),
            attributes={"long_name": "platform"},
            data=letters.view("S1").reshape(len(table), -1),
        )
    if np.any(table.quality != Quality.UNKNOWN):
        meanings = [quality.name.lower() for quality in Quality]
        meanings_of = flags("what the source says about the value", Quality, meanings)
        data = table.quality.astype(np.int32)
        labels["quality"] = CFVariable(dims=("obs",), attributes=meanings_of, data=data)
    if np.any(table.channel != 0):
        attributes = {"long_name": "channel of the instrument"}
        labels["channel"] = CFVariable(
            dims=("obs",), attributes=attributes, data=table.channel.astype(np.int32)
        )
    return labels


def flags(what: str, values: Iterable[int], meanings: Sequence[str]) -> dict[str, object]:
    """Return the CF attributes of a variable whose numbers stand for words."""
    return {
        "long_name": what,
        "flag_values": np.array([*values], np.int32),
        "flag_meanings": " ".join(meanings),
    }


def _heights(table: ObservationTable) -> dict[str, CFVariable]:
    """Describe how high or deep the rows are that have such a thing."""
    return {
        f"z_{kind}": only_where(table.z_kind == kind, table.z, attributes)
        for kind, attributes in _HEIGHTS.items()
        if np.any(table.z_kind == kind)
    }


def _quantity(
    table: ObservationTable, name: str, attributes: Mapping[str, str]
) -> dict[str, CFVariable]:
    """Describe one quantity and its error, both missing in the rows that measured another."""
    shared = {"coordinates": " ".join(("time", *table.dims))}
    if table.units.get(name):
        shared["units"] = table.units[name]
    on_scale, difference = (
        temperature_attributes(table.units.get(name) or "1", difference=d) for d in (False, True)
    )
    error = {"long_name": f"standard deviation of the error of {name}", **shared, **difference}
    if "standard_name" in attributes:
        error["standard_name"] = f"{attributes['standard_name']} standard_error"
    ancillary = {"ancillary_variables": f"{name}_error"}
    own = {"long_name": name, **shared, **on_scale, **attributes, **ancillary}
    mine = table.variable == name
    return {
        name: only_where(mine, table.value, own),
        f"{name}_error": only_where(mine, table.error, error),
    }


def only_where(
    mine: NDArray[np.bool_], values: NDArray[np.float64], attributes: Mapping[str, str]
) -> CFVariable:
    """Describe values that are missing in the rows of other variables."""
    data = np.where(mine, values, np.nan)
    return CFVariable(dims=("obs",), attributes=attributes, data=data, fill=np.nan)
