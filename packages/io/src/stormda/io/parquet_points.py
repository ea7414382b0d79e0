"""Observations in Parquet files, one row for each, with the extra `parquet`.

A table is written with one column for each of its own, and read back exactly. The Parquet files of
others are read as CSV is: by a mapping, or by the usual names of their columns.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stormda.io.atomic import atomic_path
from stormda.io.candidates import observation_table
from stormda.io.cf_file import PROVENANCE
from stormda.io.choice import in_file, require_among
from stormda.io.columns import Columns, require_columns, table_of
from stormda.io.csv_points import guess_mapping
from stormda.io.damage import reported_as_damage
from stormda.io.mapping import ColumnMapping
from stormda.io.observations import COLUMNS, ObservationTable
from stormda.io.point_file_reading import rejected_before
from stormda.io.point_files import REJECTED

PARQUET = b"PAR1"
"""How a Parquet file starts."""

UNITS = "units"


def write_parquet(
    path: str | Path,
    table: ObservationTable,
    *,
    provenance: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> None:
    """Write a table to a Parquet file, which appears complete or not at all.

    Args:
        path: The file.
        table: Any observations.
        provenance: Where they come from, as JSON can hold it.
        overwrite: Whether an existing file may be replaced.

    Raises:
        FileExistsError: If the file exists and may not be replaced.
        ImportError: If pyarrow is not installed.
    """
    arrow, parquet = _arrow()
    columns = {name: getattr(table, name) for name in COLUMNS if name != "position"}
    columns |= dict(zip(table.dims, table.position.T, strict=True))
    note = {
        UNITS: json.dumps(dict(table.units), sort_keys=True),
        REJECTED: json.dumps(table.rejected, sort_keys=True),
        PROVENANCE: json.dumps(dict(provenance or {}), sort_keys=True),
    }
    arrays = {name: arrow.array(values.copy()) for name, values in columns.items()}
    with atomic_path(path, overwrite=overwrite) as temporary:
        parquet.write_table(arrow.table(arrays).replace_schema_metadata(note), temporary)


def read_parquet(
    path: Path, mapping: ColumnMapping | None, variables: Sequence[str] | None
) -> ObservationTable:
    """Read observations from Parquet.

    Args:
        path: The file.
        mapping: What its columns mean; None to recognise them.
        variables: What to read, where there is no mapping; None for all of `write_parquet`, or
            for the only column that is left.

    Raises:
        ImportError: If pyarrow is not installed.
        ValueError: If the file is damaged or does not fit the mapping, or the columns are not
            recognised.
    """
    names, note = _described(path)
    own = mapping is None and REJECTED in note
    if mapping is None and not own:
        mapping = guess_mapping(path, names, variables)
    try:
        if mapping is None:
            return _written(_cells(path, names), note, variables)
        require_columns(mapping, names)
        return table_of(Columns(cells=_cells(path, mapping.columns)), mapping)
    except ValueError as error:
        raise in_file(error, path) from error


def _described(path: Path) -> tuple[list[str], dict[str, str]]:
    """Return the names of the columns, and the texts that a file holds beside them."""
    _, parquet = _arrow()
    with reported_as_damage(str(path)):
        schema = parquet.read_schema(path)
    texts = schema.metadata or {}
    decoded = {
        k.decode("utf-8", "replace"): v.decode("utf-8", "replace") for k, v in texts.items()
    }
    return list(schema.names), decoded


def _cells(path: Path, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Return some columns, as text, numbers with NaN where missing, or dates."""
    _, parquet = _arrow()
    with reported_as_damage("columns"):
        columns = parquet.read_table(path, columns=list(names), partitioning=None)
        return {name: _cell(columns[name].to_numpy()) for name in names}


def _cell(values: NDArray[Any]) -> NDArray[Any]:
    if values.dtype.kind == "M":
        return values.astype("datetime64[s]")
    if values.dtype.kind == "O":
        texts = ["" if value is None else str(value) for value in values.tolist()]
        return np.array(texts, np.str_)
    return values


def _written(
    cells: Mapping[str, NDArray[Any]], note: Mapping[str, str], variables: Sequence[str] | None
) -> ObservationTable:
    """Return the rows that `write_parquet` wrote."""
    names = np.unique(cells["variable"]).tolist()
    require_among(variables, names)
    rows = np.isin(cells["variable"], [*(variables or names)])
    units = {name: text for name, text in json.loads(note[UNITS]).items() if name in names}
    return observation_table(
        **{name: values[rows] for name, values in cells.items()},
        units=units,
        rejected=rejected_before(note[REJECTED]),
    )


def _arrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError(
            "Parquet files need pyarrow: pip install 'stormda-io[parquet]'"
        ) from error
    return pyarrow, pyarrow.parquet
