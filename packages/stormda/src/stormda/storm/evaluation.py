"""Scores of analyses in files: against a truth on the same grid, or against observations.

    RMSE = sqrt <(mean - truth)^2>,    spread / skill = sqrt((M + 1) / M <variance> / RMSE^2)

with means over all times and over cells weighted by area. An observation y = H x + e differs from
an analysis by its own error too: with a stated error s, spread means sqrt(var H x + s^2), and the
members that CRPS and coverage see are H x + e with e ~ N(0, s^2).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import torch
from torch import Tensor

from stormda.assimilation import coverage, crps_fair, rmse, spread_skill, weighted_mean
from stormda.io import ObservationTable, Store
from stormda.storm.comparison import (
    FieldComparison,
    PointComparison,
    compare_fields,
    compare_points,
)
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
    return score_fields(compare_fields(analysis, truth, variable), variable)


def score_fields(compared: FieldComparison, variable: str) -> Scored:
    """Score an ensemble at the cells where a truth is known, weighted by area."""
    where = compared.valid
    return score_points(
        torch.from_numpy(compared.ensemble[:, where]).double(),
        torch.from_numpy(compared.truth[where]).double(),
        torch.from_numpy(compared.area[where]),
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
    compared = compare_points(analysis, table, variable)
    return score_observed(compared, variable, seed=seed), compared.table


def score_observed(compared: PointComparison, variable: str, *, seed: int = 0) -> Scored:
    """Score an ensemble at observations, whose errors members are given too."""
    predicted, truth, error = compared.predicted, compared.truth, compared.error
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(predicted.shape, generator=generator, dtype=predicted.dtype)
    scored = score_points(
        predicted + error * noise,
        truth,
        torch.ones(len(truth), dtype=torch.float64),
        network=f"{variable} observations",
        method="analysis",
    )
    return _with_stated_errors(scored, predicted, truth, error)


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
