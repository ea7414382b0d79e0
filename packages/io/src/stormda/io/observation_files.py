"""Reading observations from whatever kind of file they are in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from stormda.io.csv_points import read_csv
from stormda.io.files import expand_paths, is_netcdf
from stormda.io.mapping import ColumnMapping
from stormda.io.netcdf_points import read_netcdf
from stormda.io.observations import ObservationTable


def read_observations(
    path: str | Path,
    mapping: ColumnMapping | None = None,
    *,
    variable: str | Sequence[str] | None = None,
    error: float | None = None,
) -> ObservationTable:
    r"""Read point observations from a CSV or a NetCDF file.

    NetCDF describes itself. Of CSV, columns for time, latitude and longitude (or y and x) are
    recognised by their usual names, and values are left in the units that they are in; a mapping
    names columns, units, errors and missing values.

    Args:
        path: The file; its first bytes decide how it is read.
        mapping: What the columns of a CSV file mean.
        variable: Which variable or variables to read, where there is no mapping; it can be left
            out where there is only one.
        error: One standard deviation, in the units of the table, for observations whose error is
            not known otherwise.

    Returns:
        The table; `rejected` counts what could not be used, by reason.

    Raises:
        FileNotFoundError: If the file is not there.
        ValueError: If the file does not fit the mapping, a variable is not there, the error is not
            positive, or no observation can be used.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "track.csv")
        ...     _ = path.write_text("date,lon,lat,swh\n2017-10-27 04:00,3.5,54.0,1.2\n"
        ...                         "2017-10-27 04:01,3.4,54.1,\n")
        ...     table = read_observations(path, error=0.2)
        >>> table.value, table.error, dict(table.rejected)
        (array([1.2]), array([0.2]), {'missing value': 1})
    """
    [file] = expand_paths([path])
    if error is not None and not error > 0:
        raise ValueError(f"error: expected a positive standard deviation, got {error}")
    names = [variable] if isinstance(variable, str) else variable
    if is_netcdf(file):
        table = read_netcdf(file, mapping, names)
    else:
        table = read_csv(file, mapping, names)
    if not len(table):
        raise ValueError(f"{file}: expected at least one usable observation, got {table.summary}")
    if error is None:
        return table
    return replace(table, error=np.where(np.isnan(table.error), error, table.error))
