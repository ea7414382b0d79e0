"""Classical assimilation, well tuned: the yardstick."""

from stormda.assimilation.classical.eof_model import EofModel, fit_eof_model
from stormda.assimilation.classical.kalman import Gaussian, kalman_forecast, kalman_update
from stormda.assimilation.classical.letkf import letkf
from stormda.assimilation.classical.localization import (
    EARTH_RADIUS,
    gaspari_cohn,
    great_circle_distance,
    periodic_distance,
)
from stormda.assimilation.classical.optimal_interpolation import (
    Covariance,
    GaussianAnalysis,
    LowRank,
    optimal_interpolation,
)
from stormda.assimilation.classical.tuning import Trial, grid_search

__all__ = [
    "EARTH_RADIUS",
    "Covariance",
    "EofModel",
    "Gaussian",
    "GaussianAnalysis",
    "LowRank",
    "Trial",
    "fit_eof_model",
    "gaspari_cohn",
    "great_circle_distance",
    "grid_search",
    "kalman_forecast",
    "kalman_update",
    "letkf",
    "optimal_interpolation",
    "periodic_distance",
]
