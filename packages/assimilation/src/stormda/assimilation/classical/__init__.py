"""Classical assimilation, well tuned: the yardstick."""

from stormda.assimilation.classical.enkf import enkf, etkf, ienkf
from stormda.assimilation.classical.eof_model import EofModel, fit_eof_model
from stormda.assimilation.classical.filtering import Cycle, FilterDiverged, Update, run_filter
from stormda.assimilation.classical.finite_size import finite_size_inflation
from stormda.assimilation.classical.kalman import (
    Gaussian,
    kalman_forecast,
    kalman_smoother,
    kalman_update,
)
from stormda.assimilation.classical.letkf import Neighbours, letkf
from stormda.assimilation.classical.localization import (
    EARTH_RADIUS,
    gaspari_cohn,
    great_circle_distance,
    periodic_distance,
)
from stormda.assimilation.classical.optimal_interpolation import (
    GaussianAnalysis,
    optimal_interpolation,
)
from stormda.assimilation.classical.particles import (
    Particles,
    equal_particles,
    optimal_proposal,
    resample,
    weigh,
)
from stormda.assimilation.classical.spread import (
    Spread,
    inflate,
    relax_deviations,
    relax_spread,
    rotate,
)
from stormda.assimilation.classical.tuning import Trial, grid_search
from stormda.assimilation.classical.variational import (
    along,
    along_with_errors,
    variational,
)

__all__ = [
    "EARTH_RADIUS",
    "Cycle",
    "EofModel",
    "FilterDiverged",
    "Gaussian",
    "GaussianAnalysis",
    "Neighbours",
    "Particles",
    "Spread",
    "Trial",
    "Update",
    "along",
    "along_with_errors",
    "enkf",
    "equal_particles",
    "etkf",
    "finite_size_inflation",
    "fit_eof_model",
    "gaspari_cohn",
    "great_circle_distance",
    "grid_search",
    "ienkf",
    "inflate",
    "kalman_forecast",
    "kalman_smoother",
    "kalman_update",
    "letkf",
    "optimal_interpolation",
    "optimal_proposal",
    "periodic_distance",
    "relax_deviations",
    "relax_spread",
    "resample",
    "rotate",
    "run_filter",
    "variational",
    "weigh",
]
