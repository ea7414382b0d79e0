"""Reading observations from whatever kind of file they are in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from stormda.io.csv_points import read_csv
from stormda.io.files import expand_paths, is_netcdf
from stormda.io.mapping import ColumnMapping
from stormda.io.netcdf_points import read_netcdf
from stormda.io.observations import ObservationTable
from stormda.io.parquet_points import PARQUET, read_parquet

Reader = Callable[[Path, ColumnMapping | None, Sequence[str] | None], ObservationTable]

_NETCDF_NAMES = {".nc", ".nc4", ".cdf", ".h5", ".hdf5", ".he5"}


def read_observations(
    path: str | Path,
    mapping: ColumnMapping | None = None,
    *,
    variable: str | Sequence[str] | None = None,
    error: float | None = None,
) -> ObservationTable:
    r"""Read point observations from a CSV, Parquet, NetCDF or HDF5 file.

    NetCDF describes itself, and so do Argo, IODA and HDF-EOS5. Of CSV and Parquet, columns for
    time, latitude and longitude (or y and x) are recognised by their usual names, and values are
    left in the units that they are in; a mapping names columns, units, errors and missing values.

    Args:
        path: The file; its first bytes decide how it is read.
        mapping: What the columns mean; needed where a file does not say so itself.
        variable: Which variable or variables to read, where there is no mapping; it can be left
            out where there is only one.
        error: One standard deviation, in the units of the table, for observations whose error is
            not known otherwise.

    Returns:
        The table; `rejected` counts what could not be used, by reason.

    Raises:
        FileNotFoundError: If the file is not there.
        VariableNotFound: If a variable is not there.
        ValueError: If the file does not fit the mapping, the error is not positive, or no
            observation can be used.

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
    table = _reader_of(file)(file, mapping, names)
    if not len(table):
        raise ValueError(f"{file}: expected at least one usable observation, got {table.summary}")
    known = table.error if error is None else np.where(np.isnan(table.error), error, table.error)
    return replace(table, error=known, source=str(file))


def _reader_of(file: Path) -> Reader:
    """Return what reads a file of this kind, by its first bytes.

    Anything that is neither NetCDF nor Parquet is taken for text, unless its name or its bytes say
    otherwise: then NetCDF's reader says what it is.
    """
    if file.is_dir():
        raise ValueError(f"{file}: expected a file, got a folder")
    with file.open("rb") as opened:
        head = opened.read(64)
    if head.startswith(b"GRIB"):
        raise ValueError(
            f"{file}: expected observations in a CSV, Parquet, NetCDF or HDF5 file, "
            "got a GRIB file of fields (`open_store` opens it)"
        )
    if head.startswith(PARQUET):
        return read_parquet
    named = file.suffix.lower() in _NETCDF_NAMES
    return read_netcdf if is_netcdf(file) or named or b"\0" in head else read_csv
