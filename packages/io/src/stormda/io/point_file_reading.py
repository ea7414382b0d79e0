"""Reading back the point files that `write_observations` wrote."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stormda.io.candidates import observation_table
from stormda.io.choice import require_among
from stormda.io.observations import PLANE, SPHERE, VERTICALS, ObservationTable
from stormda.io.point_files import OBSERVED, REJECTED
from stormda.io.quality import Quality
from stormda.io.stored_cells import columns_of

if TYPE_CHECKING:
    import xarray as xr


def read_point_file(dataset: xr.Dataset, variables: Sequence[str] | None) -> ObservationTable:
    """Return the rows that were written.

    Args:
        dataset: The file, undecoded.
        variables: The names of those to return; None for all.

    Raises:
        ValueError: If the file does not hold what it should, or a variable is not there.
    """
    names = _observed(dataset)
    require_among(variables, names)
    wanted = [str(name) for name in variables or names]
    dims = SPHERE if "lat" in dataset.variables else PLANE
    cells = columns_of(dataset, _needed(dataset, names, dims)).cells
    which = cells[OBSERVED]
    if not np.isin(which, np.arange(len(names))).all():
        raise ValueError(f"{OBSERVED}: expected numbers from 0 to {len(names) - 1}, got others")
    rows = np.isin(which, [names.index(name) for name in wanted])
    columns = _rows(cells, names, which.astype(np.int64), rows)
    return observation_table(
        **columns,
        **{name: cells[name][rows] for name in dims},
        units={name: str(dataset[name].attrs.get("units", "")) for name in wanted},
        rejected=rejected_before(dataset.attrs.get(REJECTED, "{}")),
    )


def rejected_before(text: object) -> Counter[str]:
    """Return the account that a file keeps of candidates that were refused.

    Raises:
        ValueError: If it is no such account.
    """
    try:
        counts = json.loads(str(text))
    except ValueError:
        counts = None
    if not isinstance(counts, dict) or not all(type(n) is int and n >= 0 for n in counts.values()):
        raise ValueError(f"{REJECTED}: expected counts by reason, got {text!r}")
    return Counter(counts)


def _observed(dataset: xr.Dataset) -> list[str]:
    names = str(dataset[OBSERVED].attrs.get("flag_meanings", "")).split()
    missing = [name for name in names if name not in dataset.variables]
    if not names or missing:
        raise ValueError(f"{OBSERVED}: expected the names of variables, got {missing or names}")
    return names


def _needed(dataset: xr.Dataset, names: Sequence[str], dims: Sequence[str]) -> list[str]:
    present = [name for name in ("platform", "quality", "channel") if name in dataset.variables]
    heights = [f"z_{kind}" for kind in VERTICALS if f"z_{kind}" in dataset.variables]
    errors = [f"{name}_error" for name in names]
    needed = [OBSERVED, "time", *dims, *present, *heights, *names, *errors]
    for name in needed:
        if name not in dataset.variables:
            raise ValueError(f"expected a variable {name!r}, got {sorted(map(str, dataset))}")
    return needed


def _rows(
    cells: Mapping[str, NDArray[Any]],
    names: Sequence[str],
    which: NDArray[np.int64],
    rows: NDArray[np.bool_],
) -> dict[str, NDArray[Any]]:
    """Return the columns of a table, of some rows: each row has one of the variables."""
    everywhere = np.arange(len(which))
    values = np.stack([cells[name] for name in names])[which, everywhere]
    errors = np.stack([cells[f"{name}_error"] for name in names])[which, everywhere]
    z, z_kind = np.full(len(which), np.nan), np.full(len(which), "", "U8")
    for kind in VERTICALS:
        if f"z_{kind}" in cells:
            mine = np.isfinite(cells[f"z_{kind}"])
            z[mine], z_kind[mine] = cells[f"z_{kind}"][mine], kind
    columns = {"time": cells["time"], "value": values, "error": errors, "z": z, "z_kind": z_kind}
    columns["variable"] = np.array(names, np.str_)[which]
    columns["quality"] = cells.get("quality", np.full(len(which), Quality.UNKNOWN))
    columns["channel"] = cells.get("channel", np.zeros(len(which)))
    columns["platform"] = cells.get("platform", np.full(len(which), ""))
    return {name: values[rows] for name, values in columns.items()}
