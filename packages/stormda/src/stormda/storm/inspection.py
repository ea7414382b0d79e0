"""What a file holds and what is doubtful in it: fields, point observations, or a trained prior."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stormda.io import ObservationTable, Store, open_store, read_observations, sha256
from stormda.storm.frames import Times
from stormda.storm.prior import Storm
from stormda.storm.problems import Problem, problems_of_fields, problems_of_observations

TABLES = (".csv", ".parquet")
"""Endings of files that hold points and no grid."""


@dataclass(frozen=True)
class Inspection:
    """What a file holds."""

    path: Path
    """The file."""

    kind: str
    """ "fields", "observations" or "prior"."""

    description: str
    """What is in it, in lines."""

    facts: Mapping[str, Any]
    """The same for scripts."""

    problems: tuple[Problem, ...] = ()
    """What is doubtful."""

    checksum: str = ""
    """Its SHA-256, where that was asked for."""

    @property
    def text(self) -> str:
        """Return all of it for people."""
        lines = [str(self.path), self.description]
        if self.checksum:
            lines.append(f"sha256: {self.checksum}")
        if self.kind != "prior":
            lines.append(f"problems: {len(self.problems) or 'none found'}")
            lines += [f"  - {problem}" for problem in self.problems]
        return "\n".join(lines)

    @property
    def values(self) -> dict[str, Any]:
        """Return all of it for scripts."""
        return {
            "path": self.path,
            "kind": self.kind,
            **self.facts,
            "problems": [asdict(problem) for problem in self.problems],
            **({"sha256": self.checksum} if self.checksum else {}),
        }


def inspect_file(path: Path, *, checksum: bool = False) -> Inspection:
    """Return what a file holds and what is doubtful in it.

    Fields are tried first, then observations; a name that ends in .safetensors is a prior.

    Args:
        path: The file, or a Zarr folder.
        checksum: Whether to add its SHA-256.

    Raises:
        FileNotFoundError: Where there is no such file.
        ValueError: Where it holds none of these.
    """
    if not path.is_file() and path.suffix != ".zarr":
        raise FileNotFoundError(f"{path}: expected a file, got a path that is none")
    digest = sha256(path) if checksum else ""
    if path.suffix == ".safetensors":
        return _prior(path, digest)
    if path.suffix in TABLES:
        return _observations(path, digest)
    return _first_that_fits(path, digest)


def _fields(path: Path, checksum: str) -> Inspection:
    store = open_store(path, plausible=False)  # to say all that is doubtful
    facts = {
        "grid": repr(store.grid),
        "shape": list(store.grid.shape),
        "times": [str(time) for time in store.times[[0, -1]]] if len(store.times) else [],
        "frames": len(store.times),
        "members": len(store.members),
        "variables": {name: meta.units for name, meta in store.variables.items()},
    }
    return Inspection(
        path, "fields", describe_fields(store), facts, tuple(problems_of_fields(store)), checksum
    )


def _observations(path: Path, checksum: str) -> Inspection:
    table = read_observations(path)
    facts = {
        "used": len(table),
        "refused": dict(table.rejected),
        "times": [str(time) for time in table.time[[0, -1]]] if len(table) else [],
        "variables": {str(name): table.units.get(name, "") for name in np.unique(table.variable)},
    }
    found = tuple(problems_of_observations(table))
    return Inspection(path, "observations", describe_observations(table), facts, found, checksum)


def _prior(path: Path, checksum: str) -> Inspection:
    prior = Storm.load(path)
    facts = {
        "variables": list(prior.config.variables),
        "grid": repr(prior.grid),
        "history": prior.config.history,
        "targets": prior.config.targets,
        "step_hours": prior.step_hours,
        "commit": prior.provenance.get("commit", "unknown"),
    }
    return Inspection(path, "prior", describe_prior(prior), facts, (), checksum)


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
    lines = [table.summary]
    if len(table):
        lines.append(f"times: {table.time[0]} to {table.time[-1]}")
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
    together = f", {config.targets} sampled together" if config.targets > 1 else ""
    return "\n".join(
        [
            f"STORM prior of {', '.join(config.variables)}, {config.history} frames of history, "
            f"every {prior.step_hours:g} h{together}",
            f"grid: {prior.grid!r}",
            f"width {config.width}, {config.encoder_depth} + {config.depth} blocks",
            f"trained at commit {prior.provenance.get('commit', 'unknown')}",
        ]
    )


def _first_that_fits(path: Path, checksum: str) -> Inspection:
    """Describe a NetCDF file as fields, or as points if it has no grid.

    Raises:
        ValueError: With what the reader of fields said, where neither fits.
    """
    readers: list[Callable[[Path, str], Inspection]] = [_fields, _observations]
    first: ValueError | None = None
    for read in readers:
        try:
            return read(path, checksum)
        except ValueError as error:
            first = first or error
    raise ValueError(str(first)) from first
