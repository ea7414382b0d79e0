"""Scores of ensembles and of filters."""

from stormda.assimilation.diagnostics.consistency import Consistency, desroziers
from stormda.assimilation.diagnostics.ensemble import (
    bias,
    coverage,
    crps_fair,
    crps_gaussian,
    expected_coverage,
    mae,
    rank_histogram,
    rank_test,
    rmse,
    spread,
    spread_skill,
    weighted_mean,
)
from stormda.assimilation.diagnostics.events import (
    Reliability,
    brier_score,
    crps_beyond,
    reliability,
)
from stormda.assimilation.diagnostics.multivariate import (
    anomaly_correlation,
    energy_score,
    variogram_score,
)
from stormda.assimilation.diagnostics.spectra import coherence, power_spectrum

__all__ = [
    "Consistency",
    "Reliability",
    "anomaly_correlation",
    "bias",
    "brier_score",
    "coherence",
    "coverage",
    "crps_beyond",
    "crps_fair",
    "crps_gaussian",
    "desroziers",
    "energy_score",
    "expected_coverage",
    "mae",
    "power_spectrum",
    "rank_histogram",
    "rank_test",
    "reliability",
    "rmse",
    "spread",
    "spread_skill",
    "variogram_score",
    "weighted_mean",
]
