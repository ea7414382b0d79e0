"""Optimal interpolation with the climate's covariance: the classical yardstick without a model.

The background is the climatological mean, or the last analysis damped towards it,

    x_b = mean + damping * (previous analysis - mean),   B = scale * climate,

and both numbers are tuned; damping 0 with scale 1 is the climatological background.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from stormda.assimilation import GaussianAnalysis, optimal_interpolation
from stormda.storm.twin.case import Case
from stormda.storm.twin.climatology import Climatology


@dataclass(frozen=True, kw_only=True)
class InterpolationSettings:
    """What the tuner chooses."""

    damping: float = 0.0
    """Share of the last analysis' anomaly that the background keeps."""

    scale: float = 1.0
    """Background-error variance over climatological variance."""

    iterations: int = 4
    """Gauss-Newton iterations where the operator is not linear."""


def run_interpolation(
    case: Case, climate: Climatology, settings: InterpolationSettings
) -> Iterator[GaussianAnalysis]:
    """Yield the analysis of every cycle: mean and variance [K, K^2], each (2, rows, cols)."""
    mean = climate.background()
    anomaly = 0 * mean
    for cycle in range(case.config.cycles):
        analysis = optimal_interpolation(
            mean + settings.damping * anomaly,
            climate.covariance(settings.scale),
            case.observation(cycle),
            iterations=settings.iterations if case.network.saturating else 1,
        )
        anomaly = analysis.mean - mean
        yield analysis
