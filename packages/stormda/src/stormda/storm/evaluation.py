"""Scores of analyses in files: against a truth on the same grid, or against observations.

    RMSE = sqrt <(mean - truth)^2>,    spread / skill = sqrt((M + 1) / M <variance> / RMSE^2)

with means over all times and over cells weighted by area. An observation y = H x + e differs from
an analysis by its own error too: with a stated error s, spread means sqrt(var H x + s^2), and the
members that CRPS and coverage see are H x + e with e ~ N(0, s^2).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import numpy as np
import torch
from torch import Tensor

from stormda.assimilation import coverage, crps_fair, rmse, spread_skill, weighted_mean
from stormda.grid import describe_difference
from stormda.io import ObservationTable, Store
from stormda.storm.frames import Times
from stormda.storm.real_observations import cells_of, usable
from stormda.storm.scores import LEVEL, Row


@dataclass(frozen=True, eq=False)
class Scored:
    """The scores of one variable, and what they were taken from."""

    row: Row
    bias: float
    """Mean of ensemble mean minus truth [units of the field]."""

    count: int
    """Values of the truth that were compared."""


def score_points(
    ensemble: Tensor, truth: Tensor, weights: Tensor, *, network: str, method: str
) -> Scored:
    """Score an ensemble at points.

    Args:
        ensemble: (members, points).
        truth: (points,).
        weights: Of the points, (points,).
        network: Name for the table: what was scored.
        method: Name for the table: what made the analyses.

    Raises:
        ValueError: Where there is no point.

    Examples:
        >>> ensemble = torch.tensor([[1.0, 1.0], [3.0, 3.0]])
        >>> scored = score_points(ensemble, torch.tensor([2.0, 4.0]), torch.ones(2),
        ...                       network="truth", method="analysis")
        >>> round(scored.row.rmse, 3), scored.bias, scored.count
        (1.414, -1.0, 2)
    """
    if not len(truth):
        raise ValueError("truth: expected at least one value to compare with, got none")
    mean = ensemble.mean(0)
    row = Row(
        network=network,
        method=method,
        members=len(ensemble),
        rmse=float(rmse(mean, truth, weights)),
        crps=float(weighted_mean(crps_fair(ensemble, truth), weights)),
        spread_skill=float(spread_skill(ensemble, truth, weights)),
        coverage90=float(coverage(ensemble, truth, level=LEVEL, weights=weights)),
        seconds=0.0,
    )
    return Scored(row, float(weighted_mean(mean - truth, weights)), len(truth))


def against_truth(analysis: Store, truth: Store, variable: str) -> Scored:
    """Score an ensemble at the cells and times where a truth is known.

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
    values, valid = truth.read(variable, time=theirs.tolist())
    require_units(analysis, truth.variables[variable].units, variable, str(truth.paths[0]))
    area = np.broadcast_to(analysis.grid.area, values.shape)
    where = valid & known.all(0)
    return score_points(
        torch.from_numpy(ensemble[:, where]).double(),
        torch.from_numpy(values[where]).double(),
        torch.from_numpy(area[where]),
        network=f"{variable} truth",
        method="analysis",
    )


def against_observations(
    analysis: Store, table: ObservationTable, variable: str, *, seed: int = 0
) -> tuple[Scored, ObservationTable]:
    """Score an ensemble at observations, interpolated bilinearly in space and linearly in time.

    Args:
        analysis: A file with members.
        table: Observations named and in units as the field; those without an error are taken as
            exact.
        variable: The field.
        seed: Of the errors of observation that members are given.

    Returns:
        The scores, and the observations that were used.

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
    predicted = at_observations(
        torch.from_numpy(ensemble).double(), analysis.times, analysis, used
    )
    error = torch.from_numpy(np.nan_to_num(used.error))
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(predicted.shape, generator=generator, dtype=predicted.dtype)
    truth, weights = torch.from_numpy(used.value), torch.ones(len(used), dtype=torch.float64)
    scored = score_points(
        predicted + error * noise,
        truth,
        weights,
        network=f"{variable} observations",
        method="analysis",
    )
    return _with_stated_errors(scored, predicted, truth, error), used


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


def _with_stated_errors(scored: Scored, predicted: Tensor, truth: Tensor, error: Tensor) -> Scored:
    """Replace the sampled error by its variance, where that is exact: RMSE, bias and spread."""
    members, mean = len(predicted), predicted.mean(0)
    skill = rmse(mean, truth)
    inflated = (members + 1) / members * predicted.var(0) + error.square()
    row = Row(
        network=scored.row.network,
        method=scored.row.method,
        members=members,
        rmse=float(skill),
        crps=scored.row.crps,
        spread_skill=float(sqrt(float(inflated.mean())) / skill),
        coverage90=scored.row.coverage90,
        seconds=0.0,
    )
    return Scored(row, float((mean - truth).mean()), scored.count)
