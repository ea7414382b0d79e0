"""The mean and the spread of an ensemble, frame by frame."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from stormda.io.cf_file import create_cf, read_provenance
from stormda.io.index import VariableMeta
from stormda.io.layout import FieldAxes, field_layout
from stormda.io.store import open_store
from stormda.io.whole_chunks import write_part


def write_summary(
    ensemble: str | Path, path: str | Path, *, compression: int = 0, overwrite: bool = False
) -> None:
    """Write the mean and the standard deviation over the members of an ensemble.

    The spread is that of a sample, with n - 1 in the denominator; a cell that a member lacks is
    missing. One frame is held at a time.

    Args:
        ensemble: A file that `write_ensemble` or its like wrote.
        path: The file, with `X` and `X_spread` for each variable `X`.
        compression: The level of gzip, 1 to 9; 0 for none.
        overwrite: Whether an existing file may be replaced.

    Raises:
        FileExistsError: If the file exists and may not be replaced.
        ValueError: If there are fewer than two members.

    Examples:
        >>> import tempfile
        >>> from stormda.grid import PlaneGrid
        >>> from stormda.io import write_ensemble
        >>> theta = np.array([280.0, 282.0]).reshape(2, 1, 1, 1) + np.zeros((2, 1, 4, 4))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     members, summary = Path(folder, "analysis.nc"), Path(folder, "mean.nc")
        ...     write_ensemble(members, {"theta": theta}, grid=PlaneGrid((4, 4), (1e5, 1e5)),
        ...                    times=["2000-01-01"], attributes={"theta": {"units": "K"}})
        ...     write_summary(members, summary)
        ...     mean, _ = open_store(summary).read("theta")
        ...     spread, _ = open_store(summary).read("theta_spread")
        >>> float(mean.mean()), round(float(spread.mean()), 3)
        (281.0, 1.414)
    """
    store = open_store(ensemble, units="as_is")
    if len(store.members) < 2:
        raise ValueError(f"{ensemble}: expected at least 2 members, got {len(store.members)}")
    levels = next(iter(store.levels.values()), None)
    axes = FieldAxes(times=store.times, grid=store.grid, levels=levels)
    shapes, attributes = {}, {}
    for name in store.variables:
        shapes[name] = shapes[f"{name}_spread"] = store.shape(name)[1:]
        attributes[name], attributes[f"{name}_spread"] = _described(store.variables[name])
    layout = field_layout(axes, shapes, attributes, read_provenance(ensemble), compression)
    with create_cf(path, layout, overwrite=overwrite) as file:
        for name in store.variables:
            for t in range(len(store.times)):
                values, mask = store.read(name, t)
                x = np.where(mask, values, np.nan).astype(np.float64)[:, 0]
                write_part(file[name], (t,), x.mean(0).astype(np.float32))
                spread = x.std(0, ddof=1).astype(np.float32)
                write_part(file[f"{name}_spread"], (t,), spread)


def _described(meta: VariableMeta) -> tuple[dict[str, str], dict[str, str]]:
    """Return the attributes of the mean and of the spread of a variable."""
    own = {"units": meta.units or "1"}
    if meta.standard_name:
        own["standard_name"] = meta.standard_name
    text = meta.long_name or meta.name
    mean = {
        **own,
        "long_name": f"mean of {text}",
        "cell_methods": "realization: mean",
        "ancillary_variables": f"{meta.name}_spread",
    }
    spread = {
        **own,
        "long_name": f"spread of {text}",
        "cell_methods": "realization: standard_deviation",
    }
    return mean, spread
