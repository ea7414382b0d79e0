"""Posterior samples of a state, from any denoiser and any observations, beside classical filters.

    history, time, statics ─► denoiser ─┐
    observations ──────────► guidance ──┴► sampler ─► an ensemble of analyses

Everything public is here, but for the test systems in `stormda.assimilation.systems`.
"""

from stormda.assimilation.analysis import ContextBuilder, Monitor, assimilate, cycle
from stormda.assimilation.classical import (
    EARTH_RADIUS,
    Covariance,
    EofModel,
    Gaussian,
    GaussianAnalysis,
    LowRank,
    Trial,
    fit_eof_model,
    gaspari_cohn,
    great_circle_distance,
    grid_search,
    kalman_forecast,
    kalman_update,
    letkf,
    optimal_interpolation,
    periodic_distance,
)
from stormda.assimilation.denoiser import Denoiser, Linearizable, Vjp, linearize
from stormda.assimilation.diagnostics import (
    bias,
    coverage,
    crps_fair,
    crps_gaussian,
    expected_coverage,
    rank_histogram,
    rank_test,
    rmse,
    spread,
    spread_skill,
    weighted_mean,
)
from stormda.assimilation.guidance import Guidance, Guided, dps, mmps, none, sda
from stormda.assimilation.observation import DiagonalError, Observation, Operator
from stormda.assimilation.operators import (
    affine,
    arctan,
    compose,
    interpolate,
    matrix,
    scaled,
    select,
)
from stormda.assimilation.priors import EnsemblePrior, GaussianPrior, MixturePrior
from stormda.assimilation.randomness import Noise
from stormda.assimilation.samplers import Sampler, Schedule, dpmpp_2m, euler, heun, sde

__all__ = [
    "EARTH_RADIUS",
    "ContextBuilder",
    "Covariance",
    "Denoiser",
    "DiagonalError",
    "EnsemblePrior",
    "EofModel",
    "Gaussian",
    "GaussianAnalysis",
    "GaussianPrior",
    "Guidance",
    "Guided",
    "Linearizable",
    "LowRank",
    "MixturePrior",
    "Monitor",
    "Noise",
    "Observation",
    "Operator",
    "Sampler",
    "Schedule",
    "Trial",
    "Vjp",
    "affine",
    "arctan",
    "assimilate",
    "bias",
    "compose",
    "coverage",
    "crps_fair",
    "crps_gaussian",
    "cycle",
    "dpmpp_2m",
    "dps",
    "euler",
    "expected_coverage",
    "fit_eof_model",
    "gaspari_cohn",
    "great_circle_distance",
    "grid_search",
    "heun",
    "interpolate",
    "kalman_forecast",
    "kalman_update",
    "letkf",
    "linearize",
    "matrix",
    "mmps",
    "none",
    "optimal_interpolation",
    "periodic_distance",
    "rank_histogram",
    "rank_test",
    "rmse",
    "scaled",
    "sda",
    "sde",
    "select",
    "spread",
    "spread_skill",
    "weighted_mean",
]
