"""What stands side by side on the globe: one-stage analysis, LETKF twice, optimal interpolation.

All see the same observations and start from the same ensemble. Distances are great circles.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from stormda.assimilation import (
    GaussianAnalysis,
    Neighbours,
    Observation,
    letkf,
    optimal_interpolation,
)
from stormda.grid import Grid
from stormda.grid.sphere import unit_vectors
from stormda.storm.filtering import FilterSettings, OneStageFilter, run_storm
from stormda.storm.prior import Storm
from stormda.storm.sphere.case import SphereCase
from stormda.storm.sphere.covariance import ZonalCovariance
from stormda.storm.twin.ensemble_filter import EnsembleSettings

EARTH_RADIUS_KM = 6371.22
"""Radius of the sphere [km] (Williamson et al., 1992)."""

Forecast = Callable[[Tensor], Tensor]
"""The true model over the time between analyses."""


def one_stage(case: SphereCase, prior: Storm, settings: FilterSettings) -> Iterator[Tensor]:
    """Sample p(present | own past, observations), each member for itself: no forecast step."""
    observations = (case.observation(cycle) for cycle in range(case.config.cycles))
    return run_storm(
        prior, case.initial, observations, settings=settings, generator=generator_of(case)
    )


def letkf_with_model(
    case: SphereCase, forecast: Forecast, cells: Tensor, settings: EnsembleSettings
) -> Iterator[Tensor]:
    """Forecast with the true model, then update by the local ensemble transform filter.

    Args:
        case: The case.
        forecast: The model, over the time between analyses.
        cells: Unit vectors of the cells of the model, from `cell_vectors`.
        settings: Radius, inflation and relaxation.
    """
    ensemble, places = case.start, cell_vectors(case.grid)
    for cycle in range(case.config.cycles):
        seen = places[case.observed[cycle].index % len(places)]
        observation = case.observation_of_model(cycle)
        ensemble = update(forecast(ensemble), observation, seen, cells, settings)
        yield case.known(ensemble)


def letkf_with_prior(
    case: SphereCase,
    prior: Storm,
    settings: EnsembleSettings,
    forecasts: FilterSettings,
) -> Iterator[Tensor]:
    """Forecast with STORM, guidance off, then update by the local ensemble transform filter."""
    state = OneStageFilter(prior, case.initial, forecasts, generator_of(case))
    cells = cell_vectors(case.grid)
    for cycle in range(case.config.cycles):
        seen = cells[case.observed[cycle].index % len(cells)]
        ensemble = update(state.sample(None), case.observation(cycle), seen, cells, settings)
        state.push(ensemble)
        yield ensemble


def interpolation(
    case: SphereCase, mean: Tensor, covariance: ZonalCovariance, damping: float
) -> Iterator[GaussianAnalysis]:
    """Interpolate between damped persistence of the last analysis and the observations.

    Args:
        case: The case.
        mean: Climatological mean, (3, rows, 1).
        covariance: Of the errors of that background.
        damping: Share of the last analysis' anomaly that the background keeps.
    """
    state = case.start.mean(0)
    for cycle in range(case.config.cycles):
        background = mean + damping * (state - mean)
        observation = case.observation_of_model(cycle)
        analysis = optimal_interpolation(background, covariance, observation)
        state = analysis.mean
        yield GaussianAnalysis(case.known(state), case.known_variance(analysis.variance))


def free_run(case: SphereCase, prior: Storm, settings: FilterSettings) -> Iterator[Tensor]:
    """Forecast with STORM from the first ensemble, and never observe."""
    state = OneStageFilter(prior, case.initial, settings, generator_of(case))
    for _ in range(case.config.cycles):
        yield state.step(None)


def update(
    background: Tensor,
    observation: Observation,
    places: Tensor,
    cells: Tensor,
    settings: EnsembleSettings,
) -> Tensor:
    """Update a background ensemble (members, 3, *grid) with observations.

    Args:
        background: The forecasts.
        observation: Of p numbers.
        places: Where each was made, unit vectors (p, 3).
        cells: Unit vectors of the cells of the background, from `cell_vectors`.
        settings: Radius, inflation and relaxation.
    """

    def near(some: slice) -> Neighbours:
        return Neighbours.within(great_circle_km(cells[some], places), settings.radius_km)

    columns = letkf(
        background.flatten(2).mT,
        observation.operator(background),
        observation.y,
        observation.error.variance,
        distance=near,
        radius=settings.radius_km,
        inflation=settings.inflation,
        rtps=settings.rtps,
    )
    return columns.mT.reshape(background.shape)


def cell_vectors(grid: Grid) -> Tensor:
    """Return the unit vectors of the cells of a grid, float64 (cells, 3)."""
    return torch.from_numpy(unit_vectors(*grid.points)).reshape(-1, 3)


def great_circle_km(a: Tensor, b: Tensor) -> Tensor:
    """Return the distances [km] of points given by unit vectors (n, 3) and (m, 3), (n, m).

    Examples:
        >>> pole, equator = torch.tensor([[0.0, 0, 1]]), torch.tensor([[1.0, 0, 0]])
        >>> great_circle_km(pole, equator).round()
        tensor([[10008.]])
    """
    return 2 * EARTH_RADIUS_KM * torch.asin((torch.cdist(a, b) / 2).clamp(max=1))


def generator_of(case: SphereCase) -> torch.Generator:
    """Return the source of a method's noise, a stream that follows from the case's seed."""
    return torch.Generator().manual_seed(case.config.seed)
