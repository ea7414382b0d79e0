"""An ensemble in a file beside what it is compared with, at the same cells or points and times."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stormda.grid import LatLonGrid, PlaneGrid, describe_difference
from stormda.io import ObservationTable, Store
from stormda.storm.frames import Times, grid_of
from stormda.storm.level_fields import find_field, units_of
from stormda.storm.real_observations import cells_of, usable


@dataclass(frozen=True, eq=False)
class FieldComparison:
    """An ensemble and a truth on one grid, at the times that both have."""

    grid: LatLonGrid | PlaneGrid
    """Of both."""

    units: str
    """Of both."""

    times: Times
    """(time,)."""

    ensemble: NDArray[np.float32]
    """(members, time, rows, cols)."""

    truth: NDArray[np.float32]
    """(time, rows, cols)."""

    valid: NDArray[np.bool_]
    """Where both have values, (time, rows, cols)."""

    @property
    def area(self) -> NDArray[np.float64]:
        """Return the weights of the cells, (time, rows, cols), 0 where there is nothing."""
        return np.where(self.valid, np.broadcast_to(self.grid.area, self.valid.shape), 0.0)


@dataclass(frozen=True, eq=False)
class PointComparison:
    """What the members predict for observations."""

    predicted: Tensor
    """At places and times of the observations, (members, p)."""

    table: ObservationTable
    """Those that can be compared."""

    @property
    def truth(self) -> Tensor:
        """Return the observed values, (p,)."""
        return torch.from_numpy(self.table.value)

    @property
    def error(self) -> Tensor:
        """Return the errors of observation, (p,); 0 where none is stated."""
        return torch.from_numpy(np.nan_to_num(self.table.error))


def compare_fields(analysis: Store, truth: Store, variable: str) -> FieldComparison:
    """Read an ensemble and a truth at the times that both have.

    Args:
        analysis: A file with members.
        truth: Fields on the same grid, at some of the same times.
        variable: The field.

    Raises:
        ValueError: Where there are no members, the grids differ, the units differ, or no time is
            common.
    """
    require_members(analysis)
    difference = describe_difference(analysis.grid, truth.grid)
    if difference:
        raise ValueError(f"{truth.paths[0]}: expected the grid of the analysis: {difference}")
    times, mine, theirs = np.intersect1d(analysis.times, truth.times, return_indices=True)
    if not len(times):
        raise ValueError(
            f"{truth.paths[0]}: expected times of the analysis, {analysis.times[0]} to "
            f"{analysis.times[-1]}, got {truth.times[0]} to {truth.times[-1]}"
        )
    ensemble, known = analysis.read(variable, time=mine.tolist())
    there = find_field(truth, variable)
    values, valid = truth.read(there.variable, time=theirs.tolist(), level=there.level)
    units = units_of(truth, variable)
    require_units(analysis, units, variable, str(truth.paths[0]))
    return FieldComparison(grid_of(analysis), units, times, ensemble, values, valid & known.all(0))


def compare_points(analysis: Store, table: ObservationTable, variable: str) -> PointComparison:
    """Interpolate an ensemble to observations, bilinearly in space and linearly in time.

    Args:
        analysis: A file with members.
        table: Observations named and in units as the field.
        variable: The field.

    Raises:
        ValueError: Where there are no members, or no observation can be compared.
    """
    require_members(analysis)
    ensemble, known = analysis.read(variable)
    mask = torch.from_numpy(known.all(axis=(0, 1)))[None]
    used = usable(table, analysis.grid, [variable], mask)
    first, last = analysis.times[0], analysis.times[-1]
    used = used.where((used.time >= first) & (used.time <= last), "outside period")
    if not len(used):
        raise ValueError(
            f"observations: expected at least one to compare with, got none: {used.summary}"
        )
    members = torch.from_numpy(ensemble).double()
    return PointComparison(at_observations(members, analysis.times, analysis, used), used)


def at_observations(
    ensemble: Tensor, times: Times, analysis: Store, table: ObservationTable
) -> Tensor:
    """Return the members of one variable at places and times of observations, (members, p).

    Args:
        ensemble: (members, time, rows, cols).
        times: Of the ensemble.
        analysis: Where its grid comes from.
        table: Observations inside the grid and the period.
    """
    operator = cells_of(table, analysis.grid, [str(table.variable[0])])
    series = torch.stack([operator(frame[:, None]) for frame in ensemble.unbind(1)], 1)
    seconds = times.astype(np.int64)
    late = np.clip(np.searchsorted(times, table.time), 1, max(1, len(times) - 1))
    if len(times) == 1:
        return series[:, 0]
    share = (table.time.astype(np.int64) - seconds[late - 1]) / (seconds[late] - seconds[late - 1])
    at, place = torch.from_numpy(late), torch.arange(len(table))
    return torch.lerp(series[:, at - 1, place], series[:, at, place], torch.from_numpy(share))


def require_members(store: Store) -> None:
    """Refuse a file that holds no ensemble.

    Raises:
        ValueError: Where there are fewer than two members.
    """
    if len(store.members) < 2:
        raise ValueError(
            f"{store.paths[0]}: expected an ensemble of at least 2 members, "
            f"got {len(store.members)}"
        )


def require_units(store: Store, units: str, variable: str, origin: str) -> None:
    """Refuse a truth in other units.

    Raises:
        ValueError: Where the units differ.
    """
    own = store.variables[variable].units
    if own != units:
        raise ValueError(f"{origin}: expected {variable} in {own!r}, got {units!r}")
