"""What a file holds, in text: fields, point observations, or a trained prior."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from stormda.io import ObservationTable, Store, open_store, read_observations, sha256
from stormda.storm.frames import Times
from stormda.storm.prior import Storm


def describe(path: Path, *, checksum: bool = False) -> str:
    """Return a description of a file in a few lines.

    Fields are tried first, then observations; a name that ends in .safetensors is a prior.

    Args:
        path: The file.
        checksum: Whether to add its SHA-256.

    Raises:
        FileNotFoundError: Where there is no such file.
        ValueError: Where it holds none of these.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected a file, got a path that is none")
    if path.suffix == ".safetensors":
        text = describe_prior(Storm.load(path))
    elif path.suffix == ".csv":
        text = describe_observations(read_observations(path))
    else:
        text = _first_that_fits(path)
    return f"{path}\n{text}" + (f"\nsha256: {sha256(path)}" if checksum else "")


def describe_fields(store: Store) -> str:
    """Return grid, times and variables of gridded files."""
    lines = [f"grid: {store.grid!r}", f"times: {describe_times(store.times)}"]
    if len(store.members):
        lines.append(f"members: {len(store.members)}")
    lines += [
        f"levels {name}: {len(axis.values)} {axis.units}".rstrip()
        for name, axis in store.levels.items()
    ]
    for name, meta in store.variables.items():
        dims = ", ".join(f"{d} {n}" for d, n in zip(meta.dims, meta.shape, strict=True))
        about = meta.standard_name or meta.long_name
        lines.append(f"{name} [{meta.units}] ({dims}) {about}".rstrip())
    return "\n".join(lines)


def describe_times(times: Times) -> str:
    """Return span, step and gaps of times in one line.

    Examples:
        >>> hours = np.datetime64("2019-03-01T00", "s") + 3600 * np.array([0, 1, 2, 5])
        >>> describe_times(hours)
        '4, 2019-03-01T00:00:00 to 2019-03-01T05:00:00, every 1 h, 1 gap'
    """
    if not len(times):
        return "none"
    text = f"{len(times)}, {times[0]} to {times[-1]}"
    if len(times) < 2:
        return text
    steps, counts = np.unique(np.diff(times), return_counts=True)
    usual = counts.argmax()
    gaps = int(counts.sum() - counts[usual])
    text += f", every {steps[usual] / np.timedelta64(1, 'h'):g} h"
    return text + (f", {gaps} gap{'s' if gaps > 1 else ''}" if gaps else "")


def describe_observations(table: ObservationTable) -> str:
    """Return the account and the ranges of a table of observations."""
    lines = [table.summary, f"times: {table.time[0]} to {table.time[-1]}"]
    for name, column in zip(table.dims, table.position.T, strict=True):
        lines.append(f"{name}: {column.min():g} to {column.max():g}")
    for name in dict.fromkeys(table.variable.tolist()):
        rows = table.variable == name
        units = table.units.get(name) or "units not stated"
        known = int(np.isfinite(table.error[rows]).sum())
        lines.append(
            f"{name} [{units}]: {rows.sum()} values, {table.value[rows].min():g} to "
            f"{table.value[rows].max():g}, {known} with a stated error"
        )
    return "\n".join(lines)


def describe_prior(prior: Storm) -> str:
    """Return variables, grid and size of a prior."""
    config = prior.config
    return "\n".join(
        [
            f"STORM prior of {', '.join(config.variables)}, {config.history} frames of history, "
            f"every {prior.step_hours:g} h",
            f"grid: {prior.grid!r}",
            f"width {config.width}, {config.encoder_depth} + {config.depth} blocks",
            f"trained at commit {prior.provenance.get('commit', 'unknown')}",
        ]
    )


def _first_that_fits(path: Path) -> str:
    """Describe a NetCDF file as fields, or as points if it has no grid.

    Raises:
        ValueError: With what the reader of fields said, where neither fits.
    """
    readers: list[Callable[[], str]] = [
        lambda: describe_fields(open_store(path)),
        lambda: describe_observations(read_observations(path)),
    ]
    first: ValueError | None = None
    for read in readers:
        try:
            return read()
        except ValueError as error:
            first = first or error
    raise ValueError(str(first)) from first
