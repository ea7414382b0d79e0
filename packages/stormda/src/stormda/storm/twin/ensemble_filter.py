"""The classical yardstick: forecast every member, then update by the local transform filter.

With the true model it is the strongest filter that this problem has; with STORM's guidance-off
forecasts it has the same information as STORM, which separates the worth of the analysis from the
worth of the model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor

from stormda.assimilation import Neighbours, letkf, periodic_distance
from stormda.assimilation.systems import SQG
from stormda.storm.filtering import FilterSettings, OneStageFilter
from stormda.storm.prior import Storm
from stormda.storm.twin.case import Case


@dataclass(frozen=True, kw_only=True)
class EnsembleSettings:
    """What the tuner chooses."""

    radius_km: float = 2500.0
    """Distance at which an observation stops to act [km] (Gaspari-Cohn support)."""

    rtps: float = 0.5
    """Relaxation of the analysis spread to the forecast's."""

    inflation: float = 1.0
    """Factor on the deviations from the mean before the update."""


def run_letkf(case: Case, model: SQG, settings: EnsembleSettings) -> Iterator[Tensor]:
    """Yield the analysis ensembles of the filter that forecasts with the true model."""
    ensemble = case.initial
    for cycle in range(case.config.cycles):
        background = model.forecast(ensemble, hours=case.config.hours)
        ensemble = update(background, case, cycle, model.config.spacing, settings)
        yield ensemble


def run_letkf_storm(
    case: Case,
    prior: Storm,
    spacing: float,
    settings: EnsembleSettings,
    forecasts: FilterSettings,
    generator: torch.Generator,
) -> Iterator[Tensor]:
    """Yield the analysis ensembles of the filter that forecasts with STORM, guidance off."""
    state = OneStageFilter(prior, case.initial, forecasts, generator)
    for cycle in range(case.config.cycles):
        ensemble = update(state.sample(None), case, cycle, spacing, settings)
        state.push(ensemble)
        yield ensemble


def run_forecast(case: Case, forecast: Callable[[Tensor], Tensor]) -> Iterator[Tensor]:
    """Yield the ensemble that never sees an observation."""
    ensemble = case.initial
    for _ in range(case.config.cycles):
        ensemble = forecast(ensemble)
        yield ensemble


def update(
    background: Tensor, case: Case, cycle: int, spacing: float, settings: EnsembleSettings
) -> Tensor:
    """Update a background ensemble (members, 2, rows, cols) with the cycle's observations."""
    rows, cols = background.shape[-2:]
    observation = case.observation(cycle)
    place = torch.arange(rows * cols, device=background.device)
    seen = case.observed[cycle].index % (rows * cols)
    across, along = _squared_gaps(rows).to(place.device), _squared_gaps(cols).to(place.device)
    radius = 1000 * settings.radius_km

    def near(some: slice) -> Neighbours:
        y, x = place[some] // cols, place[some] % cols
        squared = across[y][:, seen // cols] + along[x][:, seen % cols]
        return Neighbours.within(spacing * squared.sqrt(), radius)

    columns = letkf(
        rearrange(background, "m v y x -> m (y x) v"),
        observation.operator(background),
        observation.y,
        observation.error.variance,
        distance=near,
        radius=radius,
        inflation=settings.inflation,
        rtps=settings.rtps,
    )
    return rearrange(columns, "m (y x) v -> m v y x", y=rows)


def _squared_gaps(count: int) -> Tensor:
    """Return the squared distances between the points of a ring of unit spacing."""
    points = torch.arange(count, dtype=torch.float64)[:, None]
    return periodic_distance(points, points, torch.tensor([float(count)])).square()
