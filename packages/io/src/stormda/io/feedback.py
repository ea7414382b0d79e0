"""What became of each observation in an assimilation: feedback files.

For every observation that was considered, the departures from the ensemble mean before and after,

    d_b = y - mean(H x_b),    d_a = y - mean(H x_a)

the spread of both ensembles there, and whether it was assimilated or why not. Monitoring and the
tuning of errors start from these.

Source: Desroziers et al. (2005), Q. J. R. Meteorol. Soc. 131, https://doi.org/10.1256/qj.05.108
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stormda.io.cf_file import CFVariable
from stormda.io.observations import ObservationTable
from stormda.io.point_files import flags, only_where, point_variables, write_point_file
from stormda.io.units import temperature_attributes

ASSIMILATED = "assimilated"

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False, kw_only=True)
class Feedback:
    """What an assimilation expected and found where it was observed, in the rows' units."""

    background: ArrayLike
    """Mean of the ensemble before, shape (n,)."""

    background_spread: ArrayLike
    """Its standard deviation, shape (n,)."""

    analysis: ArrayLike
    """Mean of the ensemble after, shape (n,)."""

    analysis_spread: ArrayLike
    """Its standard deviation, shape (n,)."""

    refused: ArrayLike
    """Why an observation was not assimilated, text of shape (n,); empty where it was."""


def write_feedback(
    path: str | Path,
    table: ObservationTable,
    feedback: Feedback,
    *,
    provenance: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> None:
    """Write a feedback file, a CF point file that appears complete or not at all.

    Args:
        path: The file.
        table: The observations that were considered, with the account of those refused before.
        feedback: What became of each.
        provenance: Where it comes from, as JSON can hold it.
        overwrite: Whether an existing file may be replaced.

    Raises:
        FileExistsError: If the file exists and may not be replaced.
        ValueError: If the table is empty, or a column of the feedback has another length.

    Examples:
        >>> import tempfile
        >>> from stormda.io import observation_table, read_observations
        >>> table = observation_table(
        ...     time="2019-03-01", lat=[51.0, 52.0], lon=[0.0, 0.0], value=[280.0, 290.0],
        ...     error=0.5, variable="t2m", units={"t2m": "K"})
        >>> found = Feedback(
        ...     background=[279.0, 279.0], background_spread=[1.0, 1.0], analysis=[279.8, 279.1],
        ...     analysis_spread=[0.4, 0.9], refused=["", "background check"])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_feedback(Path(folder, "feedback.nc"), table, found)
        ...     len(read_observations(Path(folder, "feedback.nc")))
        2
    """
    columns = {field.name: np.asarray(getattr(feedback, field.name)) for field in fields(feedback)}
    for name, values in columns.items():
        if values.shape != (len(table),):
            raise ValueError(f"{name}: expected shape ({len(table)},), got {values.shape}")
    variables = point_variables(table, {})
    for name in np.unique(table.variable).tolist():
        variables |= _departures(table, name, columns)
    variables["outcome"] = _outcome(columns["refused"].astype(np.str_))
    write_point_file(path, table, variables, provenance=provenance or {}, overwrite=overwrite)


def _departures(
    table: ObservationTable, name: str, columns: Mapping[str, NDArray[Any]]
) -> dict[str, CFVariable]:
    """Describe the departures and spreads of one variable, missing in the rows of others."""
    units = table.units.get(name, "")
    shared = {"coordinates": " ".join(("time", *table.dims))}
    if units:
        shared |= {"units": units, **temperature_attributes(units, difference=True)}
    described = {}
    for stage in ("background", "analysis"):
        found = columns[stage].astype(np.float64)
        spread = columns[f"{stage}_spread"].astype(np.float64)
        for column, values, what in (
            (f"{name}_{stage}_departure", table.value - found, f"{name} minus {stage} mean"),
            (f"{name}_{stage}_spread", spread, f"standard deviation of {stage} members"),
        ):
            attributes = {**shared, "long_name": what}
            described[column] = only_where(table.variable == name, values, attributes)
    return described


def _outcome(refused: NDArray[np.str_]) -> CFVariable:
    """Describe whether each row was assimilated, or the reason why not, as flags."""
    reasons = sorted(set(refused.tolist()) - {""})
    numbers = np.searchsorted(["", *reasons], refused).astype(np.int32)
    meanings = [ASSIMILATED, *("_".join(reason.split()) for reason in reasons)]
    attributes = flags("what became of the observation", range(len(meanings)), meanings)
    return CFVariable(dims=("obs",), attributes=attributes, data=numbers)
