"""What stands side by side on the globe: one-stage analysis, LETKF twice, optimal interpolation.

All see the same observations and start from the same ensemble. Distances are great circles.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from einops import rearrange
from torch import Tensor

from stormda.assimilation import GaussianAnalysis, Neighbours, letkf, optimal_interpolation
from stormda.grid import LatLonGrid
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
    """Forecast with the true model, then update by the local ensemble transform filter."""
    ensemble = case.initial
    for cycle in range(case.config.cycles):
        ensemble = update(forecast(ensemble), case, cycle, cells, settings)
        yield ensemble


def letkf_with_prior(
    case: SphereCase,
    prior: Storm,
    cells: Tensor,
    settings: EnsembleSettings,
    forecasts: FilterSettings,
) -> Iterator[Tensor]:
    """Forecast with STORM, guidance off, then update by the local ensemble transform filter."""
    state = OneStageFilter(prior, case.initial, forecasts, generator_of(case))
    for cycle in range(case.config.cycles):
        ensemble = update(state.sample(None), case, cycle, cells, settings)
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
    state = case.initial.mean(0)
    for cycle in range(case.config.cycles):
        background = mean + damping * (state - mean)
        analysis = optimal_interpolation(background, covariance, case.observation(cycle))
        state = analysis.mean
        yield analysis


def free_run(case: SphereCase, prior: Storm, settings: FilterSettings) -> Iterator[Tensor]:
    """Forecast with STORM from the first ensemble, and never observe."""
    state = OneStageFilter(prior, case.initial, settings, generator_of(case))
    for _ in range(case.config.cycles):
        yield state.step(None)


def update(
    background: Tensor,
    case: SphereCase,
    cycle: int,
    cells: Tensor,
    settings: EnsembleSettings,
) -> Tensor:
    """Update a background ensemble (members, 3, rows, cols) with the cycle's observations.

    Args:
        background: The forecasts.
        case: For the observations.
        cycle: Which.
        cells: Unit vectors of the cells, from `cell_vectors`.
        settings: Radius, inflation and relaxation.
    """
    observation = case.observation(cycle)
    places = cells[case.observed[cycle].index % len(cells)]

    def near(some: slice) -> Neighbours:
        return Neighbours.within(great_circle_km(cells[some], places), settings.radius_km)

    columns = letkf(
        rearrange(background, "m v y x -> m (y x) v"),
        observation.operator(background),
        observation.y,
        observation.error.variance,
        distance=near,
        radius=settings.radius_km,
        inflation=settings.inflation,
        rtps=settings.rtps,
    )
    return rearrange(columns, "m (y x) v -> m v y x", y=background.shape[-2])


def cell_vectors(grid: LatLonGrid) -> Tensor:
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
